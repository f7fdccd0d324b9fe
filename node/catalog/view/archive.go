package view

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Suite is a suite with the generations that are served.
type Suite struct {
	ID proto.Suite
	// Roots are the names below the suite's directory that a root of its format can have, in all
	// forms, whether or not the current generation has them. Nothing but the root vouches for them.
	Roots    []string
	Current  *Generation   // never nil
	Retained []*Generation // newest first
}

// Archive is a set of generations of one archive, and what they list: the live view of the archive,
// or a snapshot of it.
type Archive struct {
	Name  string
	Files Files

	suites map[string][]*Suite // by directory, in the order of their names
	sorted []*Suite            // by directory and name
	// lengths are those of the directories, of which there are few: most parts of a path need not
	// be looked up.
	lengths [maxLength]bool
}

// maxLength is from which length on a directory is looked up whatever its length.
const maxLength = 64

// Files finds the files that the indexes of a set of generations list: a *Table or a *Frozen.
// Implementations are safe for concurrent use.
type Files interface {
	// Lookup returns what is listed for a path below the archive's root; false where nothing is.
	// An error says that it cannot be known: the file system failed.
	Lookup(path string) (Listed, bool, error)
}

// Listed is what indexes list for one path.
type Listed struct {
	// Ref has a zero Digest where only SHA512 is listed.
	Ref    proto.Ref
	SHA512 proto.SHA512
	// Others are further contents that listings of the same rank give, with a digest each, at most
	// MaxContents-1. Nobody changes them; appending copies them.
	Others []proto.Ref
	// Retained says that no current generation lists the path.
	Retained bool
}

// BuildArchive makes the view of an archive. A suite without a current generation is left out. No
// two suites have both their directory and their name in common. files may be nil.
func BuildArchive(name string, suites []*Suite, files Files) *Archive {
	a := &Archive{Name: name, Files: files, suites: make(map[string][]*Suite, len(suites))}
	for _, s := range suites {
		if s.Current != nil {
			a.sorted = append(a.sorted, s)
		}
	}
	slices.SortFunc(a.sorted, func(x, y *Suite) int { return compareSuites(x.ID, y.ID) })
	for _, s := range a.sorted {
		a.suites[s.ID.Dir] = append(a.suites[s.ID.Dir], s)
		if n := len(s.ID.Dir); n < maxLength {
			a.lengths[n] = true
		}
	}
	return a
}

// compareSuites orders the suites of an archive.
func compareSuites(x, y proto.Suite) int {
	return cmp.Or(strings.Compare(x.Dir, y.Dir), strings.Compare(x.Name, y.Name))
}

// Suite returns a suite; nil for none. The Archive of id is not read.
func (a *Archive) Suite(id proto.Suite) *Suite {
	for _, s := range a.suites[id.Dir] {
		if s.ID.Name == id.Name {
			return s
		}
	}
	return nil
}

// Suites returns all suites in the order of their directories and names. Nobody changes the slice.
func (a *Archive) Suites() []*Suite { return a.sorted }

// Enclosing yields the suites whose directory a path lies in, the deepest first, each with the path
// below its directory. A suite inside another one does not hide files of the outer suite.
func (a *Archive) Enclosing(path string) iter.Seq2[*Suite, string] {
	return func(yield func(*Suite, string) bool) {
		for end := strings.LastIndexByte(path, '/'); end > 0; end = strings.LastIndexByte(path[:end], '/') {
			if end < maxLength && !a.lengths[end] {
				continue
			}
			for _, s := range a.suites[path[:end]] {
				if !yield(s, path[end+1:]) {
					return
				}
			}
		}
		for _, s := range a.suites[""] {
			if !yield(s, path) {
				return
			}
		}
	}
}

// Tables names the Lists that a set of suites refers to, most trusted first, each once: those of
// current generations, and those that only retained ones refer to. The newest generation comes
// first, because upstream keeps the newest content where a file was replaced under its name.
func Tables(suites []*Suite) (current, retained []string) {
	var now, then []*Generation
	for _, s := range suites {
		if s.Current != nil {
			now, then = append(now, s.Current), append(then, s.Retained...)
		}
	}
	seen := make(map[string]bool)
	collect := func(gens []*Generation) (names []string) {
		slices.SortFunc(gens, func(x, y *Generation) int {
			return cmp.Or(y.Date.Compare(x.Date), compareSuites(x.Suite, y.Suite))
		})
		for _, g := range gens {
			for _, t := range g.Tables() {
				if !seen[t] {
					seen[t] = true
					names = append(names, t)
				}
			}
		}
		return names
	}
	return collect(now), collect(then)
}

// Dates returns the dates of the generations of the set that list a file, newest first, each once.
// info is what the path alone says. It reads the Lists from src, so it is not for the hot path. A
// List that cannot be read lists nothing.
func (a *Archive) Dates(src ListSource, seed Seed, path string, info *proto.PathInfo) []time.Time {
	var dates []time.Time
	for s, name := range a.Enclosing(path) {
		for g := range s.generations() {
			if g.Names(name, info) {
				dates = append(dates, g.Date)
			}
		}
	}
	if a.Files != nil {
		if _, listed, err := a.Files.Lookup(path); listed || err != nil {
			dates = append(dates, a.listingDates(src, seed, path)...)
		}
	}
	slices.SortFunc(dates, func(x, y time.Time) int { return y.Compare(x) })
	return slices.CompactFunc(dates, time.Time.Equal)
}

// listingDates are those of the generations in whose Lists a path is.
func (a *Archive) listingDates(src ListSource, seed Seed, path string) (dates []time.Time) {
	lists := make(map[string]bool)
	for _, s := range a.sorted {
		for g := range s.generations() {
			if slices.ContainsFunc(g.Tables(), func(name string) bool {
				has, read := lists[name]
				if !read {
					has, _ = ListHas(src, name, seed, path)
					lists[name] = has
				}
				return has
			}) {
				dates = append(dates, g.Date)
			}
		}
	}
	return dates
}

// generations yields the generations of a suite, newest first.
func (s *Suite) generations() iter.Seq[*Generation] {
	return func(yield func(*Generation) bool) {
		if !yield(s.Current) {
			return
		}
		for _, g := range s.Retained {
			if !yield(g) {
				return
			}
		}
	}
}

// View is everything that requests are answered from: archives by name. The zero View has none.
type View struct {
	archives map[string]*Archive
}

// BuildView makes a view of archives.
func BuildView(archives ...*Archive) *View {
	v := &View{archives: make(map[string]*Archive, len(archives))}
	for _, a := range archives {
		v.archives[a.Name] = a
	}
	return v
}

// With returns the view with an archive in place of the one with its name.
func (v *View) With(a *Archive) *View {
	next := &View{archives: cloneOf(v.archives)}
	next.archives[a.Name] = a
	return next
}

// Without returns the view without an archive.
func (v *View) Without(name string) *View {
	next := &View{archives: cloneOf(v.archives)}
	delete(next.archives, name)
	return next
}

// Archive returns the archive of a name; nil for none.
func (v *View) Archive(name string) *Archive { return v.archives[name] }

// Resolve answers from the archive that loc names. See Archive.Resolve.
func (v *View) Resolve(e *proto.Resolution, loc proto.Location, info *proto.PathInfo) (Demand, bool) {
	a := v.archives[loc.Archive]
	if a == nil {
		return Demand{}, false
	}
	return a.Resolve(e, loc, info)
}
