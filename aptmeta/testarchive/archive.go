package testarchive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// File is one file on the server. Data must not be changed.
type File struct {
	Data []byte
	// Modified is the Last-Modified; zero sends none.
	Modified time.Time
	etag     string
}

func newFile(data []byte, modified time.Time) File {
	sum := sha256.Sum256(data)
	return File{Data: data, Modified: modified.UTC().Truncate(time.Second), etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}

// Archive is an APT archive. All methods are safe for concurrent use; a reader
// of the published tree never waits for a publication.
type Archive struct {
	seed uint64

	mu     sync.Mutex
	suites map[string]*suite
	order  []string
	pool   map[string]File
	raw    map[string]*File // what Put and Delete say; nil: deleted
	packed compressor

	live atomic.Pointer[tree]
}

// tree is what is on the server at one moment; immutable.
type tree struct {
	raw   map[string]*File
	files map[string]File
	pool  map[string]File
}

type suite struct {
	Suite
	packages    []listing
	generations []*generation
	view        View
}

// listing is a package of a suite and the stanza an index gives it.
type listing struct {
	Package
	path   string // of its main file; its identity within the suite
	stanza string // "" until it is rendered
}

// New returns an empty archive. The same seed gives the same bytes.
func New(seed uint64) *Archive {
	a := &Archive{seed: seed, suites: map[string]*suite{}, pool: map[string]File{}, raw: map[string]*File{}}
	a.live.Store(&tree{})
	return a
}

// Keyring returns the binary keyring with the public keys of all suites.
func (a *Archive) Keyring() []byte { return Keyring(a.keys()...) }

// ArmoredKeyring returns the same keys in ASCII armour.
func (a *Archive) ArmoredKeyring() []byte { return ArmoredKeyring(a.keys()...) }

func (a *Archive) keys() []*Key {
	a.mu.Lock()
	defer a.mu.Unlock()
	var keys []*Key
	for _, name := range a.order {
		for _, k := range a.suites[name].Keys {
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 {
		keys = []*Key{DefaultKey()}
	}
	return keys
}

// AddSuite adds a suite; nothing is on the server until Publish.
func (a *Archive) AddSuite(s Suite) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.suites[s.Name]; ok {
		panic("testarchive: suite " + s.Name + " exists: use ChangeSuite")
	}
	a.suites[s.Name] = &suite{Suite: s.withDefaults()}
	a.order = append(a.order, s.Name)
}

// ChangeSuite changes the description of a suite as of the next publication:
// other keys, another validity, no by-hash any more.
func (a *Archive) ChangeSuite(name string, change func(*Suite)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.suite(name)
	change(&s.Suite)
	s.Suite = s.Suite.withDefaults()
	for i := range s.packages {
		s.packages[i].stanza = "" // other sums or paths may be wanted
	}
}

func (a *Archive) suite(name string) *suite {
	s, ok := a.suites[name]
	if !ok {
		panic(fmt.Sprintf("testarchive: no suite is called %q", name))
	}
	return s
}

// AddPackage lists a package in a suite as of the next publication, and returns
// the path of its .deb or .dsc relative to the archive's root. A package of the
// same name, version and architecture is replaced.
func (a *Archive) AddPackage(suite string, p Package) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.suite(suite)
	p = p.withDefaults(s.Suite)
	l := listing{Package: p, path: p.file(s.Suite)}
	i, found := slices.BinarySearchFunc(s.packages, l, compareListings)
	if found {
		s.packages[i] = l
	} else {
		s.packages = slices.Insert(s.packages, i, l)
	}
	return l.path
}

// RemovePackage takes every version and architecture of a package out of a
// suite as of the next publication. Its files stay in the pool: see Delete.
func (a *Archive) RemovePackage(suite, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.suite(suite)
	s.packages = slices.DeleteFunc(s.packages, func(l listing) bool { return l.Name == name })
}

// Publish renders a new generation of the suites, or of all suites, and puts it
// on the server in one step. The date is the Date of the Release and the
// Last-Modified of everything that is new. Publishing changed content with the
// same date makes a fork.
func (a *Archive) Publish(date time.Time, suites ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.prepare(date, suites) {
		s := a.suites[name]
		s.view = At(len(s.generations) - 1)
	}
	a.show()
}

// Prepare renders a new generation as Publish does, but leaves the server's
// indices and roots as they are: Show brings it out, whole or in part. Packages
// reach the pool at once, as they do when a real archive is pushed to.
func (a *Archive) Prepare(date time.Time, suites ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prepare(date, suites)
	a.show()
}

func (a *Archive) prepare(date time.Time, names []string) []string {
	if len(names) == 0 {
		names = a.order
	}
	for _, name := range names {
		s := a.suite(name)
		s.generations = append(s.generations, a.render(s, date.UTC().Truncate(time.Second)))
		if len(s.generations) == 1 {
			s.view = Nothing()
		}
	}
	return names
}

// View says which generation of a suite each kind of file on the server is
// taken from, counting from 0; -1 means that there is none of the kind. It is
// how one makes an archive that is caught in the middle of publishing, or that
// went back in time.
type View struct {
	InRelease, Release, Signature int
	// Indices are the canonical names, patches and installer files included.
	Indices int
	// ByHash is the newest generation whose by-hash names are there.
	ByHash int
}

// At is the consistent view of one generation.
func At(n int) View { return View{n, n, n, n, n} }

// Nothing is the view of a suite that was never published.
func Nothing() View { return At(-1) }

// Show changes what the server has of a suite, until the next Publish.
func (a *Archive) Show(suite string, v View) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.suite(suite)
	for _, n := range []int{v.InRelease, v.Release, v.Signature, v.Indices, v.ByHash} {
		if n < -1 || n >= len(s.generations) {
			panic(fmt.Sprintf("testarchive: suite %q has %d generations, none is number %d", suite, len(s.generations), n))
		}
	}
	s.view = v
	a.show()
}

// Latest is the number of the newest generation of a suite; -1 before the first.
func (a *Archive) Latest(suite string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.suite(suite).generations) - 1
}

// Put lays a file over whatever the archive has at that path, or adds one. It
// stays until Restore.
func (a *Archive) Put(path string, data []byte, modified time.Time) {
	f := newFile(data, modified)
	a.lay(path, &f)
}

// Delete takes the file at that path off the server, until Restore.
func (a *Archive) Delete(path string) { a.lay(path, nil) }

func (a *Archive) lay(path string, f *File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raw[path] = f
	a.show()
}

// Restore undoes Put and Delete of that path.
func (a *Archive) Restore(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.raw, path)
	a.show()
}

// show makes the views of all suites what the server serves.
func (a *Archive) show() {
	t := &tree{raw: maps.Clone(a.raw), files: map[string]File{}, pool: maps.Clone(a.pool)}
	for _, name := range a.order {
		s := a.suites[name]
		at := func(n int) *generation {
			if n < 0 || n >= len(s.generations) {
				return &generation{}
			}
			return s.generations[n]
		}
		maps.Copy(t.files, at(s.view.Indices).canonical)
		oldest := 0
		if s.Retain > 0 {
			oldest = max(0, s.view.ByHash-s.Retain+1)
		}
		for n := oldest; n <= s.view.ByHash; n++ {
			maps.Copy(t.files, at(n).byHash)
		}
		for root, n := range map[string]int{"InRelease": s.view.InRelease, "Release": s.view.Release, "Release.gpg": s.view.Signature} {
			if f, ok := at(n).roots[root]; ok {
				t.files[s.At(root)] = f
			}
		}
	}
	a.live.Store(t)
}

// Lookup returns the file the server has at that path, relative to the
// archive's root and not escaped.
func (a *Archive) Lookup(path string) (File, bool) {
	t := a.live.Load()
	if f, ok := t.raw[path]; ok {
		if f == nil {
			return File{}, false
		}
		return *f, true
	}
	if f, ok := t.files[path]; ok {
		return f, true
	}
	f, ok := t.pool[path]
	return f, ok
}

// Files returns all that is on the server now. The bytes must not be changed.
func (a *Archive) Files() map[string][]byte {
	t := a.live.Load()
	all := make(map[string][]byte, len(t.files)+len(t.pool))
	for path, f := range t.pool {
		all[path] = f.Data
	}
	for path, f := range t.files {
		all[path] = f.Data
	}
	for path, f := range t.raw {
		if f == nil {
			delete(all, path)
		} else {
			all[path] = f.Data
		}
	}
	return all
}
