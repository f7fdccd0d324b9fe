package formattest

import (
	"bytes"
	"crypto/sha512"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Format is what is tested: catalog.Format, and Listed of want.Format, which this package may not import.
type Format interface {
	Listed(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error
	Forms(suite proto.Suite) []proto.Form
	Unsigned(suite proto.Suite) bool
	RootOf(path string) (suite proto.Suite, name string, ok bool)
	Open(suite proto.Suite, files map[string][]byte, now time.Time) (*proto.Manifest, error)
	Belongs(suite proto.Suite, held *proto.Names, offered *proto.Manifest) proto.Belonging
	Suites(path string) []proto.Suite
	Listers(suite proto.Suite, m *proto.Manifest, path string) [][][]*proto.Member
	Parse(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(proto.File) error) error
	PathInfo(path string) proto.PathInfo
}

// Archive is a golden archive.
type Archive struct {
	Name   string
	Format Format
	// Signed says that the keys of the format vouch for the roots: then a root whose bytes were
	// changed must not be opened.
	Signed bool
	// Suites have a root in this archive.
	Suites []proto.Suite
	// Files are on the server, by path below the archive's root.
	Files map[string][]byte
	// Next are the files after one more publication, in which each suite has changed. nil: none.
	Next map[string][]byte
	// Asked are the paths by which a client of this archive asks for packages and other listed files,
	// each with the path in Files that has the bytes.
	Asked map[string]string
	Now   time.Time
}

// Bomb is an index that lists next to nothing and would take much memory.
type Bomb struct {
	Name   string
	Suite  proto.Suite
	Member *proto.Member
	Stored []byte
	// Refused says that it must not be read to its end.
	Refused bool
}

// Run holds a format against its archives.
func Run(t *testing.T, archives ...Archive) {
	for _, a := range archives {
		t.Run(a.Name, func(t *testing.T) {
			for _, s := range a.Suites {
				t.Run("roots", func(t *testing.T) { a.roots(t, s) })
				t.Run("damaged roots", func(t *testing.T) { a.damagedRoots(t, s) })
				t.Run("publication", func(t *testing.T) { a.publication(t, s) })
				t.Run("members", func(t *testing.T) { a.members(t, s) })
				t.Run("tables", func(t *testing.T) { a.tables(t, s) })
				t.Run("hostile indexes", func(t *testing.T) { a.hostileIndexes(t, s) })
			}
			t.Run("names", a.names)
			t.Run("listers", a.listers)
		})
	}
}

// form collects the files of one form of a suite; false where one that it needs is missing.
func (a *Archive) form(files map[string][]byte, s proto.Suite, form proto.Form) (map[string][]byte, bool) {
	got := make(map[string][]byte)
	for _, f := range form.Files {
		data, ok := files[s.At(f.Name).Path]
		if !ok && !f.Optional {
			return nil, false
		}
		if ok {
			got[f.Name] = data
		}
	}
	return got, true
}

// open opens the first form that a suite is published in.
func (a *Archive) open(t *testing.T, files map[string][]byte, s proto.Suite) *proto.Manifest {
	t.Helper()
	for _, form := range a.Format.Forms(s) {
		if got, ok := a.form(files, s, form); ok {
			m, err := a.Format.Open(s, got, a.Now)
			if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			return m
		}
	}
	t.Fatalf("%s is published in no form", s)
	return nil
}

// roots: each form that is published opens, and all of them say the same.
func (a *Archive) roots(t *testing.T, s proto.Suite) {
	want := a.open(t, a.Files, s)
	if want.Proven != a.Signed {
		t.Errorf("Proven is %v in an archive where Signed is %v", want.Proven, a.Signed)
	}
	if want.Signed.IsZero() == a.Signed || want.Signer == "" == a.Signed {
		t.Errorf("signed at %v by %q in an archive where Signed is %v", want.Signed, want.Signer, a.Signed)
	}
	for _, form := range a.Format.Forms(s) {
		files, ok := a.form(a.Files, s, form)
		if !ok {
			continue
		}
		m, err := a.Format.Open(s, files, a.Now)
		switch {
		case err != nil:
			t.Errorf("form %v: %v", form, err)
		case m.Statement != want.Statement || !m.Date.Equal(want.Date):
			t.Errorf("form %v says something else than the first", form)
		}
		for _, f := range form.Files {
			if int64(len(files[f.Name])) > f.MaxBytes {
				t.Errorf("%s is larger than its MaxBytes of %d", f.Name, f.MaxBytes)
			}
			a.root(t, s, f.Name)
			a.without(t, s, files, f)
		}
	}
	if got := a.Format.Belongs(s, nil, want); got != proto.BelongsYes {
		t.Errorf("at first contact it belongs: %v", got)
	}
	if got := a.Format.Belongs(s, &want.Names, want); got != proto.BelongsYes {
		t.Errorf("with the names that it had it belongs: %v", got)
	}
}

// root: the name of a root file leads back to its suite.
func (a *Archive) root(t *testing.T, s proto.Suite, name string) {
	path := s.At(name).Path
	if suite, got, ok := a.Format.RootOf(path); !ok || got != name || suite != s {
		t.Errorf("RootOf(%q) = %v, %q, %v", path, suite, got, ok)
	}
	if info := a.Format.PathInfo(path); !info.Root || info.Class != proto.ClassMetadata || info.Immutable {
		t.Errorf("PathInfo(%q) = %+v", path, info)
	}
}

// without: a form is complete without a file exactly if the file is optional.
func (a *Archive) without(t *testing.T, s proto.Suite, files map[string][]byte, f proto.RootFile) {
	less := maps.Clone(files)
	delete(less, f.Name)
	_, err := a.Format.Open(s, less, a.Now)
	if f.Optional && err != nil {
		t.Errorf("without the optional %s: %v", f.Name, err)
	}
	if !f.Optional && err == nil {
		t.Errorf("it opens without %s, which is not optional", f.Name)
	}
}

// damagedRoots: of a signed root no changed byte passes, and nothing panics.
func (a *Archive) damagedRoots(t *testing.T, s proto.Suite) {
	want := a.open(t, a.Files, s)
	try := func(files map[string][]byte, what string, at int) {
		m, err := a.Format.Open(s, files, a.Now)
		if a.Signed && err == nil && m.Statement != want.Statement {
			t.Errorf("a root %s at byte %d opens and says something else", what, at)
		}
	}
	for _, form := range a.Format.Forms(s) {
		files, ok := a.form(a.Files, s, form)
		if !ok {
			continue
		}
		for name, data := range files {
			step := max(len(data)/40, 1)
			for at := 0; at < len(data); at += step {
				files[name] = data[:at]
				try(files, "cut short", at)
				files[name] = slices.Concat(data[:at], []byte{data[at] ^ 1}, data[at+1:])
				try(files, "changed", at)
				files[name] = slices.Concat(data[:at], []byte("\nOrigin: Mallory\n"), data[at:])
				try(files, "added to", at)
			}
			files[name] = data
		}
	}
}

// publication: files of two generations never pass for a root.
func (a *Archive) publication(t *testing.T, s proto.Suite) {
	if a.Next == nil {
		t.Skip("the archive has one generation")
	}
	before, after := a.open(t, a.Files, s), a.open(t, a.Next, s)
	if before.Statement == after.Statement {
		t.Fatal("the next publication says the same: the test needs another one")
	}
	if !after.Date.After(before.Date) && !(after.Date.IsZero() && before.Date.IsZero()) {
		t.Errorf("the next publication of %v is dated %v", before.Date, after.Date)
	}
	for _, form := range a.Format.Forms(s) {
		old, ok1 := a.form(a.Files, s, form)
		next, ok2 := a.form(a.Next, s, form)
		if !ok1 || !ok2 || len(form.Files) < 2 {
			continue
		}
		for i := 1; i < len(form.Files); i++ { // a publisher replaces one after the other
			mixed := maps.Clone(old)
			for _, f := range form.Files[:i] {
				mixed[f.Name] = next[f.Name]
			}
			whole := !slices.ContainsFunc(form.Files[i:], func(f proto.RootFile) bool { return !f.Optional })
			m, err := a.Format.Open(s, mixed, a.Now)
			if a.Signed && err == nil && !whole {
				t.Errorf("form %v opens with %d files of the next generation: it says %s", form, i, m.Statement.Short())
			}
		}
	}
}

// sums are what an index says of a file. One of them may be missing.
type sums struct {
	sha256 proto.Digest
	sha512 proto.SHA512
}

// prove reports whether the sums are those of data, and at least one is there.
func (s sums) prove(data []byte) bool {
	return s != (sums{}) && (s.sha256.IsZero() || s.sha256 == proto.DigestOf(data)) &&
		(s.sha512 == proto.SHA512{} || s.sha512 == sha512.Sum512(data))
}

// stored returns the bytes of a member, by the first of its names that is on the server.
func (a *Archive) stored(s proto.Suite, m *proto.Member) ([]byte, bool) {
	for _, name := range m.Upstream {
		if data, ok := a.Files[s.At(name).Path]; ok {
			return data, true
		}
	}
	return nil, false
}

// parse returns what an index lists.
func (a *Archive) parse(t *testing.T, s proto.Suite, m *proto.Member, data []byte) map[string]sums {
	t.Helper()
	files := make(map[string]sums)
	err := a.Format.Parse(s, m, bytes.NewReader(data), func(f proto.File) error {
		if len(f.Outside) > 0 {
			return nil
		}
		if !canonical(string(f.Path)) {
			t.Errorf("%s lists %q, which is not canonical", m.Path, f.Path)
		}
		files[string(f.Path)] = sums{f.SHA256, f.SHA512}
		return nil
	})
	if err != nil {
		t.Errorf("parse %s: %v", m.Path, err)
	}
	return files
}

// listedFiles returns what an index lists for who chooses packages from it.
func (a *Archive) listedFiles(t *testing.T, s proto.Suite, m *proto.Member, data []byte) map[string]sums {
	t.Helper()
	files := make(map[string]sums)
	err := a.Format.Listed(s, m, bytes.NewReader(data), func(p *proto.Package) error {
		files[string(p.Path)] = sums{p.SHA256, p.SHA512}
		return nil
	})
	if err != nil {
		t.Errorf("list %s: %v", m.Path, err)
	}
	return files
}
