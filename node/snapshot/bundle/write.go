package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// The names of files of a bundle. They are the same on every file system.
const (
	manifestName = "manifest.jsonl"
	begunName    = "manifest.partial"
	newSuffix    = ".partial"
)

var chunkName = regexp.MustCompile(`^[0-9]{5}\.tar$`)

// DefaultChunk is the size in bytes of a chunk: FAT takes files below 4 GiB.
const DefaultChunk = 39 << 30 / 10

// Writer writes a bundle. It is for one goroutine.
type Writer struct {
	root *os.Root
	lock *os.File // the directory, which another Writer cannot lock meanwhile
	head Head
	most int64 // bytes of a chunk
	have map[proto.Digest]bool

	number int      // of the last chunk
	chunk  *os.File // being written; nil for none
	size   int64    // of chunk
}

// ErrOther is that a directory has the bundle of another snapshot.
var ErrOther = errors.New("holds another bundle")

// Create begins a bundle in a directory, or goes on with one that has the same head. It fails with ErrOther where the
// directory has another one. most is the size of a chunk in bytes; only a chunk of one file may be larger.
func Create(dir string, head Head, most int64) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{root: root, head: head, most: most, have: make(map[proto.Digest]bool)}
	if err = w.take(); err == nil {
		err = w.resume()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), w.Close())
	}
	return w, nil
}

// take takes the directory for this Writer.
func (w *Writer) take() (err error) {
	if w.lock, err = w.root.Open("."); err != nil {
		return err
	}
	if unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return errors.New("another export writes there at this moment")
	}
	return nil
}

// resume finds out what is there, and writes down what is begun.
func (w *Writer) resume() error {
	var text bytes.Buffer
	if err := (&Manifest{Head: w.head}).write(&text); err != nil {
		return err
	}
	begun, _, _ := bytes.Cut(text.Bytes(), []byte("\n"))
	names, err := chunks(w.root)
	if err != nil {
		return err
	}
	known := false
	for _, name := range []string{manifestName, begunName} {
		line, err := firstLine(w.root, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !bytes.Equal(line, begun):
			return fmt.Errorf("it %w: empty it, or name another directory", ErrOther)
		default:
			known = true
		}
	}
	if !known && len(names) > 0 {
		return fmt.Errorf("it %w: it has %s and no manifest; empty it, or name another directory", ErrOther, names[0])
	}
	if err := w.replace(begunName, func(f io.Writer) error { _, err := f.Write(text.Bytes()); return err }); err != nil {
		return err
	}
	for _, name := range names {
		if err := w.readChunk(name); err != nil {
			return err
		}
	}
	return nil
}

// chunks are the names of all chunks, also one that was not finished, in order.
func chunks(root *os.Root) (names []string, err error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range all {
		if chunkName.MatchString(strings.TrimSuffix(name, newSuffix)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func firstLine(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxLine)).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		err = nil // one that is cut short equals no other
	}
	return bytes.TrimSuffix(line, []byte("\n")), err
}

// readChunk notes what a chunk has. One that was not finished is read to its last whole content, and written on.
func (w *Writer) readChunk(name string) error {
	number := 0
	if _, err := fmt.Sscanf(name, "%05d.tar", &number); err != nil {
		return err
	}
	unfinished := strings.HasSuffix(name, newSuffix)
	if unfinished && number <= w.number { // renamed and written at once by nobody
		return w.root.Remove(name)
	}
	f, err := w.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	end, err := scan(f, unfinished, func(d proto.Digest, _, _ int64) { w.have[d] = true })
	w.number = number
	if !unfinished {
		if err != nil {
			err = fmt.Errorf("%s: %w; remove it, and export again", name, err)
		}
		return errors.Join(err, f.Close())
	}
	if err := cutTo(f, end); err != nil {
		return errors.Join(err, f.Close())
	}
	w.chunk, w.size = f, end
	return nil
}

// cutTo drops what stands behind the last whole content.
func cutTo(f *os.File, end int64) error {
	if err := f.Truncate(end); err != nil {
		return err
	}
	_, err := f.Seek(end, io.SeekStart)
	return err
}

// Has reports whether a content is written.
func (w *Writer) Has(d proto.Digest) bool { return w.have[d] }

// SourceError is that a content could not be read, or is not what it should be. The bundle can be continued.
type SourceError struct{ error }

func (e *SourceError) Unwrap() error { return e.error }

// Add writes a content. It fails with a *SourceError because of body; whatever else fails, the bundle cannot go on.
func (w *Writer) Add(ref proto.Ref, body io.Reader) error {
	if w.have[ref.Digest] {
		return nil
	}
	if w.chunk != nil && w.size > 0 && w.size+blockSize+padded(ref.Size)+2*blockSize > w.most {
		if err := w.finishChunk(); err != nil {
			return err
		}
	}
	if w.chunk == nil {
		f, err := w.root.OpenFile(fmt.Sprintf("%05d.tar%s", w.number+1, newSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		w.number++
		w.chunk, w.size = f, 0
	}
	source := &sourced{r: io.LimitReader(body, ref.Size+1)}
	err := writeEntry(w.chunk, ref, source)
	if source.err != nil {
		err = &SourceError{source.err}
	}
	if err != nil {
		return errors.Join(err, cutTo(w.chunk, w.size))
	}
	w.size += blockSize + padded(ref.Size)
	w.have[ref.Digest] = true
	return nil
}

// sourced remembers what reading failed with.
type sourced struct {
	r   io.Reader
	err error
}

func (s *sourced) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// writeEntry writes one content behind those that are there, without the end of the archive.
func writeEntry(f *os.File, ref proto.Ref, body io.Reader) error {
	buffered := bufio.NewWriterSize(f, 1<<20)
	t := tar.NewWriter(buffered)
	if err := t.WriteHeader(&tar.Header{Name: ref.Digest.String(), Mode: 0o644, Size: ref.Size, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(t, io.TeeReader(body, sum))
	switch {
	case errors.Is(err, tar.ErrWriteTooLong), err == nil && n < ref.Size, err == nil && proto.Digest(sum.Sum(nil)) != ref.Digest:
		return &SourceError{fmt.Errorf("%w: it has %d bytes of %d, or others than are listed", proto.ErrCorrupt, n, ref.Size)}
	case err != nil:
		return err
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return buffered.Flush()
}

// finishChunk makes the chunk durable.
func (w *Writer) finishChunk() error {
	f := w.chunk
	w.chunk = nil
	_, err := f.Write(make([]byte, 2*blockSize)) // the end of a tar archive
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	name := fmt.Sprintf("%05d.tar", w.number)
	return w.rename(name)
}

// rename takes a written file's suffix away.
func (w *Writer) rename(name string) error {
	if err := w.root.Rename(name+newSuffix, name); err != nil {
		return err
	}
	return w.syncDir()
}

func (w *Writer) syncDir() error {
	dir, err := w.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems of removable disks cannot
		return err
	}
	return nil
}

// replace writes a small file durably.
func (w *Writer) replace(name string, write func(io.Writer) error) error {
	f, err := w.root.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err = write(buffered); err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := w.root.Rename(name+".new", name); err != nil {
		return err
	}
	return w.syncDir()
}

// Finish ends the bundle with its manifest: from then on it can be imported.
func (w *Writer) Finish(files []File) error {
	if w.chunk != nil {
		if err := w.finishChunk(); err != nil {
			return err
		}
	}
	m := &Manifest{Head: w.head, Files: files}
	if err := w.replace(manifestName, m.write); err != nil {
		return err
	}
	return w.root.Remove(begunName)
}

// Close ends the writer. What was not finished can be continued.
func (w *Writer) Close() error {
	var err error
	if w.chunk != nil {
		err = w.chunk.Close()
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	return errors.Join(err, w.root.Close())
}
