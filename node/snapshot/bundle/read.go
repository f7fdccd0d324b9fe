package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// Reader reads a bundle. Nothing of it is proven. Safe for concurrent use.
type Reader struct {
	Manifest
	// Damaged says what is wrong with chunks, a sentence each. What they have before the damage can be read.
	Damaged []string

	root    *os.Root
	entries map[proto.Digest]entry
}

// ErrNoBundle is that a directory has no bundle.
var ErrNoBundle = errors.New("no bundle")

// Open reads the manifest of a bundle and the headers of its chunks. It fails with ErrNoBundle where there is none, or where it
// was not finished, and where the manifest makes no sense or a chunk has something else than contents.
func Open(dir string) (*Reader, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r := &Reader{root: root, entries: make(map[proto.Digest]entry)}
	if err := r.open(); err != nil {
		root.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return r, nil
}

func (r *Reader) open() error {
	m, err := openManifest(r.root, manifestName)
	if err != nil {
		return err
	}
	r.Manifest = *m
	names, err := chunks(r.root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, newSuffix) {
			continue
		}
		if err := r.scan(name); err != nil {
			return err
		}
	}
	return nil
}

func openManifest(root *os.Root, name string) (*Manifest, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, begun := root.Stat(begunName); begun == nil {
			return nil, fmt.Errorf("%w: it was not finished; run the export again, it goes on where it stopped", ErrNoBundle)
		}
		return nil, fmt.Errorf("%w: it has no %s", ErrNoBundle, manifestName)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readManifest(f)
	if err != nil {
		return nil, fmt.Errorf("the manifest %s: %w", name, err)
	}
	return m, nil
}

// scan notes where the contents of a chunk lie.
func (r *Reader) scan(name string) error {
	f, err := r.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = scan(f, false, func(d proto.Digest, offset, size int64) {
		if _, known := r.entries[d]; !known {
			r.entries[d] = entry{name, offset, size}
		}
	})
	switch {
	case errors.Is(err, errForeign):
		return fmt.Errorf("%s: %w", name, err)
	case err != nil:
		r.Damaged = append(r.Damaged, fmt.Sprintf("%s is cut short or damaged (%v): copy it again", name, err))
	}
	return nil
}

// Has reports whether the bundle has a content, by its name.
func (r *Reader) Has(ref proto.Ref) bool {
	e, ok := r.entries[ref.Digest]
	return ok && e.size == ref.Size
}

// Content opens a content that the bundle has. Whether its bytes are right is for the caller to check.
func (r *Reader) Content(ref proto.Ref) (io.ReadCloser, error) {
	e, ok := r.entries[ref.Digest]
	if !ok || e.size != ref.Size {
		return nil, fmt.Errorf("the bundle does not have it: %w", fs.ErrNotExist)
	}
	f, err := r.root.Open(e.chunk)
	if err != nil {
		return nil, err
	}
	return section{io.NewSectionReader(f, e.offset, e.size), f}, nil
}

type section struct {
	*io.SectionReader
	f *os.File
}

func (s section) Close() error { return s.f.Close() }

// Close ends the reader.
func (r *Reader) Close() error { return r.root.Close() }

// ReadManifest reads the manifest of an earlier bundle from a file.
func ReadManifest(file string) (*Manifest, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readManifest(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}
