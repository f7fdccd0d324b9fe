package catalog

import (
	"maps"
	"path"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Flip is a generation that has just been adopted.
type Flip struct {
	Suite proto.Suite
	Date  time.Time
	// Indices are the Packages indices staged with it, one compression of each; none
	// where no generation was held before it.
	Indices []FlipIndex
	// New reports whether a path below the archive's root is listed by this generation
	// and was not, or not with the same content, by the one before it. nil where no
	// generation was held before. Safe for concurrent use.
	New func(path string) bool
}

// FlipIndex is one Packages index of a Flip.
type FlipIndex struct {
	Path string // below the archive's root
	// Base is what stands before a Filename to make it a path below the archive's root:
	// "" or "x/". An index whose files may lie in two places comes twice.
	Base string
	Want proto.Want
}

// tellFlip has Config.Flipped told that next has taken the place of before, which may
// be nil, after all flips of the suite that came earlier. suite.adopting is held.
func (s *suite) tellFlip(before, next *generation) {
	if s.c.cfg.Flipped == nil {
		return
	}
	f := Flip{Suite: s.id, Date: next.Date}
	var now, then map[string]string
	if before != nil {
		s.c.mu.Lock()
		now, then = packageLists(next), packageLists(before)
		s.c.mu.Unlock()
		f.Indices = s.flipIndices(next, slices.Sorted(maps.Keys(now)))
	}
	// Both are listed at this moment; a flip that follows at once must not take away
	// the tables of the elder one.
	release := s.c.claim(slices.Concat(slices.Collect(maps.Values(now)), slices.Collect(maps.Values(then)))...)
	earlier, told := s.flipTold, make(chan struct{})
	s.flipTold = told
	started := s.c.spawn(func() {
		defer close(told)
		if earlier != nil {
			<-earlier
		}
		if before != nil {
			f.New = s.c.newIn(now, then)
		}
		release()
		s.c.cfg.Flipped(f)
	})
	if !started {
		close(told)
		release()
	}
}

// packageLists names the tables of the Packages indices that are staged, by the path of
// one compression of each. Catalog.mu is held.
func packageLists(g *generation) map[string]string {
	lists := make(map[string]string)
	plain := make(map[string]bool)
	for _, p := range slices.Sorted(maps.Keys(g.staged)) {
		name, _ := aptmeta.TrimCompression(p)
		if st := g.staged[p]; st.List != "" && path.Base(name) == "Packages" && !plain[name] {
			plain[name] = true
			lists[p] = st.List
		}
	}
	return lists
}

func (s *suite) flipIndices(g *generation, paths []string) []FlipIndex {
	var indices []FlipIndex
	for _, p := range paths {
		m, ok := g.members[p]
		if !ok {
			continue
		}
		for _, base := range s.bases(aptmeta.IndexKindOf(p)) {
			indices = append(indices, FlipIndex{Path: s.id.At(p).Path, Base: base, Want: m.want()})
		}
	}
	return indices
}

// newIn returns what tells the files of the tables in now from those in then, both by
// the path of their index. Of an index that was not staged before, nothing is new: what
// the generation before listed in it, nobody knows.
func (c *Catalog) newIn(now, then map[string]string) func(string) bool {
	had := make(map[string]bool, len(then))
	old := make(map[uint64]proto.Digest)
	seen := make(map[string]bool)
	for p, name := range then {
		plain, _ := aptmeta.TrimCompression(p)
		had[plain], seen[name] = true, true
		if l, err := c.readList(name); err == nil {
			for i := range l.rows {
				old[l.rows[i].hash] = l.rows[i].digest
			}
			for h := range l.strong {
				old[h] = proto.Digest{}
			}
		} else {
			delete(had, plain) // the table is lost, and with it what was listed
		}
	}
	fresh := make(map[uint64]struct{})
	for p, name := range now {
		if plain, _ := aptmeta.TrimCompression(p); !had[plain] || seen[name] {
			continue
		}
		l, err := c.readList(name)
		if err != nil {
			continue
		}
		for i := range l.rows {
			if digest, listed := old[l.rows[i].hash]; !listed || digest != l.rows[i].digest {
				fresh[l.rows[i].hash] = struct{}{}
			}
		}
		for h := range l.strong {
			if _, listed := old[h]; !listed {
				fresh[h] = struct{}{}
			}
		}
	}
	return func(path string) bool {
		_, ok := fresh[hashPath(path)]
		return ok
	}
}

// Snapshots returns the Dates of the generations held that list a file, newest first:
// where upstream has lost it, a service that keeps an archive as it was at a time may
// still have it. It may read package tables from the disk: it is not for the hot path.
// Safe for concurrent use.
func (c *Catalog) Snapshots(loc proto.Location) []time.Time {
	a, ok := c.view.Load().archives[loc.Archive]
	if !ok {
		return nil
	}
	var dates []time.Time
	if s, name := a.find(loc.Path); s != nil {
		for _, g := range append([]*generation{s.current}, s.retained...) {
			if g.names(name) {
				dates = append(dates, g.Date)
			}
		}
	}
	_, listed := a.files.lookup(loc.Path)
	if _, strong := a.files.lookupStrong(loc.Path); listed || strong {
		dates = append(dates, c.listingDates(a, hashPath(loc.Path))...)
	}
	slices.SortFunc(dates, func(x, y time.Time) int { return y.Compare(x) })
	return slices.CompactFunc(dates, time.Time.Equal)
}

// names reports whether a path below the suite's directory is that of a file in the
// generation's Release, by its own name or by its hash.
func (g *generation) names(name string) bool {
	if _, hash, sum, ok := aptmeta.ParseByHash(name); ok {
		k, ok := sumKeyOf(hash, sum)
		m := g.bySum[k]
		return ok && m != nil && m.named(hash, sum)
	}
	_, ok := g.members[name]
	return ok
}

// listingDates are those of the generations in whose tables a path is.
func (c *Catalog) listingDates(a *archiveView, hash uint64) (dates []time.Time) {
	select {
	case c.slots <- struct{}{}: // a table may have millions of rows
		defer func() { <-c.slots }()
	case <-c.ctx.Done():
		return nil
	}
	lists := make(map[string]bool) // whether the path is in the table
	for _, s := range a.suites {
		for _, g := range append([]*generation{s.current}, s.retained...) {
			if slices.ContainsFunc(c.listsOf(g), func(name string) bool {
				has, read := lists[name]
				if !read {
					has = c.tableHas(name, hash)
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

// listsOf names the tables of a generation.
func (c *Catalog) listsOf(g *generation) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range g.staged {
		if st.List != "" {
			names = append(names, st.List)
		}
	}
	return names
}

func (c *Catalog) tableHas(name string, hash uint64) bool {
	l, err := c.readList(name)
	if err != nil {
		return false
	}
	_, strong := l.strong[hash]
	return strong || slices.ContainsFunc(l.rows, func(r row) bool { return r.hash == hash })
}
