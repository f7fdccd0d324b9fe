package catalog

import (
	"maps"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// compose builds the next view of the named archives from the suites as they
// stand, and swaps it in. The package tables are only built anew where the set
// of lists has changed.
func (c *Catalog) compose(archives ...string) {
	c.composing.Lock()
	defer c.composing.Unlock()

	old := c.view.Load()
	next := &view{archives: make(map[string]*archiveView, len(old.archives)+1)}
	for name, a := range old.archives {
		if _, ok := c.archive(name); ok {
			next.archives[name] = a
		}
	}
	for name := range c.lists {
		if _, ok := c.archive(name); !ok {
			delete(c.lists, name)
		}
	}
	for _, name := range archives {
		if _, ok := c.archive(name); !ok {
			continue
		}
		next.archives[name] = c.composeArchive(name, old.archives[name])
	}
	c.view.Store(next)
}

// composeArchive builds the view of one archive. Catalog.composing is held.
func (c *Catalog) composeArchive(name string, old *archiveView) *archiveView {
	a := &archiveView{suites: make(map[string]*suiteView)}
	names := c.collectSuites(name, a)
	if old != nil && slices.Equal(names, c.lists[name]) {
		a.files = old.files
		return a
	}
	lists := make([]*list, 0, len(names))
	whole := make([]string, 0, len(names))
	for _, n := range names {
		l, err := c.readList(n)
		if err != nil {
			c.cfg.Logger.Warn("a package table is lost; its index will be read again", "archive", name, "table", n, "error", err)
			c.lose(name, n)
			continue
		}
		lists, whole = append(lists, l), append(whole, n)
	}
	c.lists[name] = whole
	a.files = newTable(lists)
	return a
}

// collectSuites fills in the suites of an archive that have a generation, and
// returns the names of the lists that count, most trusted first: what is current
// before what is retained, and of these the newest first, because upstream keeps
// the newest where a file was replaced under its name.
func (c *Catalog) collectSuites(archive string, a *archiveView) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var current, retained []*generation
	for id, s := range c.suites {
		// One without a generation would only hide the suite around it.
		if id.Archive == archive && s.current != nil {
			a.suites[id.Dir] = &suiteView{suite: s, current: s.current, retained: slices.Clone(s.retained)}
			current = append(current, s.current)
			retained = append(retained, s.retained...)
		}
	}
	var names []string
	seen := make(map[string]bool)
	for _, g := range slices.Concat(newestFirst(current), newestFirst(retained)) {
		for _, path := range slices.Sorted(maps.Keys(g.staged)) {
			if n := g.staged[path].List; n != "" && !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		}
	}
	return names
}

func newestFirst(gens []*generation) []*generation {
	slices.SortFunc(gens, func(x, y *generation) int {
		if byDate := y.Date.Compare(x.Date); byDate != 0 {
			return byDate
		}
		return strings.Compare(x.Suite.Dir, y.Suite.Dir)
	})
	return gens
}

// lose forgets that an index has been read whose table is gone, so that whoever
// asks for what it lists has it read again. The index itself is in the store.
func (c *Catalog) lose(archive, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, s := range c.suites {
		if id.Archive != archive || s.current == nil {
			continue
		}
		for _, g := range append(s.retained[:len(s.retained):len(s.retained)], s.current) {
			for path, st := range g.staged {
				if st.List != name {
					continue
				}
				st.List = ""
				g.staged[path] = st
				if m, ok := g.members[path]; ok {
					m.use.Store(nil)
				}
			}
		}
	}
}

// viewOf is a suite as requests see it at this moment; nil before its first
// generation.
func (c *Catalog) viewOf(id proto.Suite) *suiteView {
	a, ok := c.view.Load().archives[id.Archive]
	if !ok {
		return nil
	}
	return a.suites[id.Dir]
}
