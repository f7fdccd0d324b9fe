package catalog

import (
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// view is everything a request is answered from. It is built aside and swapped
// as a whole; nothing in it changes afterwards, but for the atomics that record
// that clients asked.
type view struct {
	archives map[string]*archiveView
}

type archiveView struct {
	suites map[string]*suiteView // by directory
	files  *table                // what the indices of all held generations list
}

type suiteView struct {
	suite    *suite
	current  *generation
	retained []*generation // newest first
}

// find returns the suite that path lies in and the path below its directory.
func (a *archiveView) find(path string) (*suiteView, string) {
	for end := strings.LastIndexByte(path, '/'); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if s, ok := a.suites[path[:end]]; ok {
			return s, path[end+1:]
		}
	}
	if s, ok := a.suites[""]; ok {
		return s, path
	}
	return nil, ""
}

// Resolve says what a location means, from memory and without waiting. It
// reports false where it takes more than that to answer: ask Discover then.
// Safe for concurrent use.
func (c *Catalog) Resolve(loc proto.Location) (e proto.Entry, ok bool) {
	a, ok := c.view.Load().archives[loc.Archive]
	if !ok {
		return proto.Entry{}, false
	}
	ok = c.lookup(&e, a, loc, true)
	return e, ok
}

// lookup answers from one view of an archive, into e, for an Entry is too large to be
// handed up a stack that every idle connection keeps. asked says that a client wants
// to know: then the use of indices is noted, and a root must be fresh.
func (c *Catalog) lookup(e *proto.Entry, a *archiveView, loc proto.Location, asked bool) bool {
	if s, name := a.find(loc.Path); s != nil {
		switch name {
		case "InRelease", "Release", "Release.gpg":
			return c.lookupRoot(e, s, name, asked) // nothing else may vouch for a root
		}
		if c.lookupIn(e, s, name, asked) {
			return true
		}
	}
	want := &e.Want
	if r, ok := a.files.lookup(loc.Path); ok {
		want.Ref = proto.Ref{Digest: r.digest, Size: r.size}
	} else if r, ok := a.files.lookupStrong(loc.Path); ok {
		want.Ref.Size, want.SHA512 = r.size, r.sha512
	} else {
		return false
	}
	want.Where, want.Class = []proto.Location{loc}, proto.ClassPackage
	e.Listed = true
	return true
}

// lookupIn answers for a name below the directory of a suite.
func (c *Catalog) lookupIn(e *proto.Entry, s *suiteView, name string, asked bool) bool {
	if _, hash, sum, ok := aptmeta.ParseByHash(name); ok {
		return c.lookupByHash(e, s, hash, sum, asked)
	}
	m, ok := s.current.members[name]
	if !ok || !m.provable() {
		return false
	}
	if asked {
		c.used(s.suite, s.current, m)
	}
	e.Want, e.Listed, e.Mutable, e.Generation = m.want(), true, true, s.current.Date
	return true
}

// lookupRoot answers for InRelease, Release and Release.gpg, if the current
// generation is fresh enough to be given out without asking upstream.
func (c *Catalog) lookupRoot(e *proto.Entry, s *suiteView, name string, asked bool) bool {
	now := c.cfg.Now()
	if asked {
		s.suite.noteAsked(now)
		if name != "InRelease" {
			s.suite.touchPair(now)
		}
		if !s.suite.offline() && !s.suite.fresh(now) || s.suite.withheld(s.current, now) != nil {
			return false
		}
	}
	return s.root(e, name, now)
}

// root makes e the entry of one of the three root names in the current generation;
// false where the generation has no such file.
func (s *suiteView) root(e *proto.Entry, name string, now time.Time) bool {
	g := s.current
	ref, modified := g.rootNamed(name)
	if ref.IsZero() {
		return false
	}
	e.Want.Ref, e.Want.Where, e.Want.Class = ref, s.suite.roots[name], proto.ClassMetadata
	e.Listed, e.Mutable = true, true
	e.Generation, e.Modified = g.Date, modified
	e.Stale = s.suite.stale(g, now)
	return true
}

// lookupByHash answers for a by-hash name from the generations held. (A name that
// proves its content by itself is answered by Discover: the client may hold a
// generation that this node has not seen.)
func (c *Catalog) lookupByHash(e *proto.Entry, s *suiteView, hash aptmeta.HashType, sum string, asked bool) bool {
	k, ok := sumKeyOf(hash, sum)
	if !ok {
		return false
	}
	if m, ok := s.current.bySum[k]; ok && m.provable() && m.named(hash, sum) {
		if asked {
			c.used(s.suite, s.current, m)
		}
		e.Want, e.Listed, e.Generation = m.want(), true, s.current.Date
		return true
	}
	for _, g := range s.retained {
		if m, ok := g.bySum[k]; ok && m.provable() && m.named(hash, sum) {
			e.Want, e.Listed, e.Generation = m.want(), true, g.Date
			return true
		}
	}
	return false
}
