package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

var head = Head{Name: "w48", Taken: time.Unix(1.7e9, 0).UTC(), Record: []byte(`{"taken":"x"}`)}

// content is the nth of a number of contents.
func content(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 700+n*100) }

func refOf(data []byte) proto.Ref {
	return proto.Ref{Digest: proto.DigestOf(data), Size: int64(len(data))}
}

func fileOf(n int) File {
	ref := refOf(content(n))
	return File{Kind: "package", Archive: "a", Path: fmt.Sprintf("pool/%d", n), SHA256: ref.Digest, Size: ref.Size}
}

func create(t *testing.T, dir string, most int64) *Writer {
	t.Helper()
	w, err := Create(dir, head, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func add(t *testing.T, w *Writer, n int) {
	t.Helper()
	if err := w.Add(refOf(content(n)), bytes.NewReader(content(n))); err != nil {
		t.Fatal(err)
	}
}

// whole writes a bundle of contents in chunks of a size.
func whole(t *testing.T, contents int, most int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	w := create(t, dir, most)
	var files []File
	for n := range contents {
		add(t, w, n)
		files = append(files, fileOf(n))
	}
	if err := errors.Join(w.Finish(files), w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// has demands that contents can be read from a bundle.
func has(t *testing.T, dir string, contents ...int) {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.Damaged) > 0 {
		t.Errorf("damaged: %q", r.Damaged)
	}
	for _, n := range contents {
		if !r.Has(refOf(content(n))) {
			t.Errorf("content %d is not there", n)
			continue
		}
		body, err := r.Content(refOf(content(n)))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		body.Close()
		if err != nil || !bytes.Equal(data, content(n)) {
			t.Errorf("content %d: %d bytes, %v", n, len(data), err)
		}
	}
}

func TestChunks(t *testing.T) {
	dir := whole(t, 9, 4096)
	has(t, dir, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	chunks, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(chunks) < 4 {
		t.Fatalf("%q, %v", chunks, err)
	}
	for _, chunk := range chunks {
		if info, err := os.Stat(chunk); err != nil || info.Size() > 4096 {
			t.Errorf("%s has %d bytes, %v", chunk, info.Size(), err)
		}
	}
	// Any tar reads them.
	f, err := os.Open(chunks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil || h.Name != refOf(content(n)).Digest.String() {
			t.Fatalf("%v, %v", h, err)
		}
	}
}

// A program that was killed at any byte of a chunk goes on behind the last whole content.
func TestResume(t *testing.T) {
	full := whole(t, 3, 1<<20)
	chunk, err := os.ReadFile(filepath.Join(full, "00001.tar"))
	if err != nil {
		t.Fatal(err)
	}
	begun, err := os.ReadFile(filepath.Join(full, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(begun, []byte("\n"))
	ends := []int{blockSize + 700, blockSize + 1024 + blockSize + 800} // what pads a content is written again
	for cut := 0; cut <= len(chunk); cut += 97 {
		dir := t.TempDir()
		write(t, dir, begunName, append(bytes.Clone(first), '\n'))
		write(t, dir, "00001.tar.partial", chunk[:cut])
		w := create(t, dir, 1<<20)
		for n, end := range ends {
			if w.Has(refOf(content(n)).Digest) != (cut >= end) {
				t.Errorf("cut at %d: content %d is there: %v", cut, n, cut < end)
			}
		}
		for n := range 3 {
			add(t, w, n)
		}
		if err := errors.Join(w.Finish([]File{fileOf(0), fileOf(1), fileOf(2)}), w.Close()); err != nil {
			t.Fatal(err)
		}
		has(t, dir, 0, 1, 2)
		if got, err := os.ReadFile(filepath.Join(dir, "00001.tar")); err != nil || !bytes.Equal(got, chunk) {
			t.Errorf("cut at %d: the chunk is another one", cut)
		}
	}
	// A power cut may leave zeros where bytes were written.
	spoilt := bytes.Clone(chunk)
	clear(spoilt[blockSize+100 : blockSize+200])
	spoilt[blockSize+100] = 1
	cut := t.TempDir()
	write(t, cut, begunName, append(bytes.Clone(first), '\n'))
	write(t, cut, "00001.tar.partial", spoilt)
	if w := create(t, cut, 1<<20); w.Has(refOf(content(0)).Digest) || w.Has(refOf(content(1)).Digest) {
		t.Error("what stands behind a damaged content is used")
	}
	// Between the rename of a chunk and the manifest.
	dir := t.TempDir()
	write(t, dir, begunName, append(bytes.Clone(first), '\n'))
	write(t, dir, "00001.tar", chunk)
	w := create(t, dir, 1<<20)
	add(t, w, 4)
	if !w.Has(refOf(content(0)).Digest) {
		t.Error("what was finished is written again")
	}
	if err := w.Finish([]File{fileOf(0), fileOf(4)}); err != nil {
		t.Fatal(err)
	}
	has(t, dir, 0, 1, 2, 4)
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A source that fails, or gives other bytes, leaves no trace.
func TestSourceFails(t *testing.T) {
	dir := t.TempDir()
	w := create(t, dir, 1<<20)
	add(t, w, 0)
	ref := refOf(content(5))
	for name, body := range map[string]io.Reader{
		"short": bytes.NewReader(content(5)[:100]), "long": bytes.NewReader(append(content(5), 0)), "wrong": bytes.NewReader(append(content(5)[1:], 0)),
		"broken": io.MultiReader(bytes.NewReader(content(5)[:700]), broken{}),
	} {
		var source *SourceError
		if err := w.Add(ref, body); !errors.As(err, &source) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.Has(ref.Digest) {
		t.Error("it counts as written")
	}
	if _, err := Create(dir, head, 1<<20); err == nil || !strings.Contains(err.Error(), "another export") {
		t.Errorf("two write one bundle: %v", err)
	}
	add(t, w, 1)
	if err := w.Finish([]File{fileOf(0), fileOf(1)}); err != nil {
		t.Fatal(err)
	}
	has(t, dir, 0, 1)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the node has gone") }

// What is no bundle, is damaged, or was made by somebody else.
func TestRefused(t *testing.T) {
	tarOf := func(h tar.Header, data []byte) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Size = int64(len(data))
		if err := errors.Join(w.WriteHeader(&h), func() error { _, err := w.Write(data); return err }(), w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		spoil func(dir string)
		said  string
	}{
		"no manifest":      {func(dir string) { os.Remove(filepath.Join(dir, manifestName)) }, "no bundle: it has no manifest.jsonl"},
		"unfinished":       {func(dir string) { os.Rename(filepath.Join(dir, manifestName), filepath.Join(dir, begunName)) }, "it was not finished"},
		"a path as a name": {func(dir string) { write(t, dir, "00002.tar", tarOf(tar.Header{Name: "../../etc/passwd"}, []byte("x"))) }, "00002.tar: it was not written by aptmesh export"},
		"a link": {func(dir string) {
			write(t, dir, "00002.tar", tarOf(tar.Header{Name: proto.DigestOf(nil).String(), Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, nil))
		}, "was not written by aptmesh export"},
		"no archive at all": {func(dir string) { write(t, dir, "00002.tar", bytes.Repeat([]byte("x"), 2048)) }, "was not written by aptmesh export, or is damaged"},
	} {
		dir := whole(t, 2, 1<<20)
		c.spoil(dir)
		if r, err := Open(dir); err == nil || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%s: %v, want %q", name, err, c.said)
		} else if err == nil {
			r.Close()
		}
	}
	// A chunk that is cut short has what stands before.
	dir := whole(t, 3, 1<<20)
	if err := os.Truncate(filepath.Join(dir, "00001.tar"), 2*blockSize+1024+700); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if len(r.Damaged) != 1 || !strings.Contains(r.Damaged[0], "00001.tar is cut short") || !r.Has(refOf(content(0))) || r.Has(refOf(content(1))) || r.Has(refOf(content(2))) {
		t.Errorf("%q", r.Damaged)
	}
	// Another snapshot's bundle is not written over.
	other := head
	other.Since = "w47"
	if _, err := Create(dir, other, 1<<20); !errors.Is(err, ErrOther) {
		t.Errorf("another bundle: %v", err)
	}
	stray := t.TempDir()
	write(t, stray, "00001.tar", nil)
	if _, err := Create(stray, head, 1<<20); !errors.Is(err, ErrOther) {
		t.Errorf("chunks of an unknown bundle: %v", err)
	}
}

func manifestOf(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := (&Manifest{head, files}).write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestManifest(t *testing.T) {
	index := fileOf(1)
	index.Kind = "index"
	missing := File{Kind: "package", Archive: "a", Path: "p", Missing: "gone upstream"}
	text := manifestOf(t, index, fileOf(2), missing)
	m, err := readManifest(bytes.NewReader(text))
	if err != nil || len(m.Files) != 3 || m.Name != "w48" || m.Files[2] != missing {
		t.Fatalf("%+v, %v", m, err)
	}
	for cut := range len(text) - 1 {
		if _, err := readManifest(bytes.NewReader(text[:cut])); err == nil {
			t.Errorf("a manifest that ends after %d of %d bytes is read", cut, len(text))
		}
	}
	with := func(change func(*File)) []byte {
		f := fileOf(1)
		change(&f)
		return manifestOf(t, f)
	}
	for said, text := range map[string][]byte{
		"no path of a file":       with(func(f *File) { f.Path = "../etc/passwd" }),
		`"/etc/passwd" is no`:     with(func(f *File) { f.Path = "/etc/passwd" }),
		`"a//b" is no`:            with(func(f *File) { f.Path = "a//b" }),
		`"" is no path`:           with(func(f *File) { f.Path = "" }),
		"no name of an archive":   with(func(f *File) { f.Archive = "" }),
		"is no kind":              with(func(f *File) { f.Kind = "device" }),
		"cannot have -1 bytes":    with(func(f *File) { f.Size = -1 }),
		"has no SHA-256":          with(func(f *File) { f.SHA256 = proto.Digest{} }),
		"stands behind others":    manifestOf(t, fileOf(1), index),
		"was changed":             bytes.Replace(text, []byte("pool/2"), []byte("pool/3"), 1),
		"behind its end":          append(bytes.Clone(text), "{}\n"...),
		"of version 2":            bytes.Replace(text, []byte(`"aptmesh_bundle":1`), []byte(`"aptmesh_bundle":2`), 1),
		"not that of a manifest":  []byte("<html>\n"),
		"unknown field \"extra\"": bytes.Replace(text, []byte(`"kind":"index"`), []byte(`"extra":1,"kind":"index"`), 1),
		"it is empty":             nil,
	} {
		if _, err := readManifest(bytes.NewReader(text)); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%v, want %q", err, said)
		}
	}
}

// Whatever a manifest's reader takes makes sense, and is written as it was read.
func FuzzManifest(f *testing.F) {
	index := fileOf(1)
	index.Kind = "index"
	f.Add(manifestOf(f, index, fileOf(2), File{Kind: "package", Archive: "a", Path: "p", Missing: "gone"}))
	f.Add(manifestOf(f))
	f.Add([]byte("{\"aptmesh_bundle\":1}\n{\"files\":0}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readManifest(bytes.NewReader(text))
		if err != nil {
			return
		}
		for i := range m.Files {
			if clean, err := proto.CleanPath(m.Files[i].Path); err != nil || clean != m.Files[i].Path || !filepath.IsLocal(clean) {
				t.Errorf("the path %q is taken", m.Files[i].Path)
			}
		}
		var again bytes.Buffer
		if err := m.write(&again); err != nil {
			t.Fatal(err)
		}
		if _, err := readManifest(&again); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
	})
}

// A chunk's reader never takes a name for anything but a content.
func FuzzChunk(f *testing.F) {
	dir := f.TempDir()
	w, err := Create(dir, head, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	for n := range 2 {
		if err := w.Add(refOf(content(n)), bytes.NewReader(content(n))); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(nil), w.Close()); err != nil {
		f.Fatal(err)
	}
	chunk, err := os.ReadFile(filepath.Join(dir, "00001.tar"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chunk)
	f.Add(chunk[:1000])
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(t.TempDir(), "chunk")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		_, _ = scan(file, true, func(d proto.Digest, offset, size int64) {
			if offset < blockSize || size < 0 || offset+size > int64(len(text)) || proto.DigestOf(text[offset:offset+size]) != d {
				t.Errorf("%s at %d, %d bytes", d, offset, size)
			}
		})
	})
}
