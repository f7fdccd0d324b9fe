package catalog

import (
	"maps"
	"slices"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// views is everything a request is answered from. It is built aside and swapped as a whole.
type views struct {
	archives map[string]*archiveView
}

// archiveView is what is believed of one archive at one moment. It is never changed.
type archiveView struct {
	*view.Archive
	format  Format
	settled bool // upstream never changes
	drivers map[*view.Suite]*driver
	table   *view.Table // nil where disk has what is listed
	disk    *diskTable
	lost    []string // the lists that the table should have and could not be read
}

// current is the generation that a suite shows; nil for none.
func (a *archiveView) current(id proto.Suite) *view.Generation {
	if a == nil || a.Suite(id) == nil {
		return nil
	}
	return a.Suite(id).Current
}

// has reports whether the view has what a list has.
func (a *archiveView) has(list string) bool { return list != "" && !slices.Contains(a.lost, list) }

// driverOf returns the driver of a suite; nil for none.
func (a *archiveView) driverOf(id proto.Suite) *driver {
	s := a.Suite(id)
	if s == nil {
		return nil
	}
	return a.drivers[s]
}

// compose builds the next view of the named archives from the suites as they stand, and swaps it
// in. The table is only built anew where the set of lists has changed.
func (c *Catalog) compose(archives ...string) {
	c.composing.Lock()
	defer c.composing.Unlock()
	old := c.view.Load()
	next := &views{archives: make(map[string]*archiveView, len(old.archives)+1)}
	maps.Copy(next.archives, old.archives)
	for name := range next.archives {
		if c.archive(name) == nil {
			delete(next.archives, name)
		}
	}
	for _, name := range archives {
		if a := c.archive(name); a != nil {
			next.archives[name] = c.composeArchive(a, old.archives[name])
		}
	}
	c.view.Store(next)
}

// composeArchive builds the view of one archive. The caller holds Catalog.composing.
func (c *Catalog) composeArchive(conf *Archive, old *archiveView) *archiveView {
	a := &archiveView{format: conf.Format, settled: conf.Immutable, drivers: make(map[*view.Suite]*driver)}
	var suites []*view.Suite
	for _, d := range c.all(conf.Name) {
		// A suite without a generation has nothing to answer with.
		if p := d.public.Load(); p.current != nil {
			s := &view.Suite{ID: d.id, Roots: rootNames(conf.Format, d.id), Current: p.current, Retained: p.retained}
			suites = append(suites, s)
			a.drivers[s] = d
		}
	}
	t := c.tablesOf(conf.Name)
	current, retained := view.Tables(suites)
	if conf.Immutable && len(current) > 0 && len(retained) == 0 {
		if a.disk = c.diskTableOf(conf.Name, current, old); a.disk != nil {
			a.Archive = view.BuildArchive(conf.Name, suites, a.disk.files)
			return a
		}
	}
	if old != nil && old.table != nil && old.table.Built(current, retained) {
		a.table = old.table
	} else {
		var lost []view.LostList
		a.table, lost = view.BuildTable(t.seed, t, current, retained, 0)
		for _, l := range lost {
			a.lost = append(a.lost, l.Name)
			c.cfg.Logger.Warn("a package table is lost; its index will be read again", "archive", conf.Name, "table", l.Name, "error", l.Err)
			for _, d := range a.drivers {
				d.mail.post(func() { d.loseTable(l.Name) })
			}
		}
	}
	a.Archive = view.BuildArchive(conf.Name, suites, a.table)
	return a
}

// diskTable is what an archive lists that never changes: it stays on the disk, because there may be an archive for every
// date that a host names.
type diskTable struct {
	lists []string // of which it is made
	files *view.Frozen
}

// diskTableOf is the table of these lists; nil where it cannot be written, or a list is lost.
func (c *Catalog) diskTableOf(archive string, lists []string, old *archiveView) *diskTable {
	if old != nil && old.disk != nil && slices.Equal(old.disk.lists, lists) {
		return old.disk
	}
	files, err := c.writeFrozen(c.tablesOf(archive), lists)
	if err != nil {
		c.cfg.Logger.Warn("what an archive lists that never changes stays in memory, because it cannot be written down", "archive", archive, "error", err)
		return nil
	}
	return &diskTable{lists, files}
}

// listed are the bytes of memory that the tables of the archive take, and how many files they list.
func (a *archiveView) listed() (bytes int64, files int) {
	switch {
	case a.disk != nil:
		return 0, a.disk.files.Len()
	case a.table != nil:
		return a.table.Bytes(), a.table.Len()
	}
	return 0, 0
}

// rootNames are the names that root files of a suite can have, in all forms.
func rootNames(f Format, id proto.Suite) []string {
	var names []string
	for _, form := range f.Forms(id) {
		for _, file := range form.Files {
			names = append(names, file.Name)
		}
	}
	return names
}

// tablesOf returns the tables of an archive. Safe for concurrent use.
func (c *Catalog) tablesOf(archive string) *tables {
	c.mu.Lock()
	t, ok := c.tables[archive]
	c.mu.Unlock()
	if ok {
		return t
	}
	t = c.tablesFor(archive)
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, ok := c.tables[archive]; ok {
		return other
	}
	c.tables[archive] = t
	return t
}

// loseTable forgets that an index was read, because its table is lost. The next request for a file
// that it lists makes the node read the index again, from the store. It runs on the driver's
// goroutine.
func (d *driver) loseTable(name string) {
	if d.current == nil {
		return
	}
	lost := false
	for _, t := range d.current.Tables() {
		lost = lost || t == name
	}
	if !lost {
		return
	}
	d.current = d.current.WithoutTable(name)
	d.show()
	d.readAgain()
}

// viewOf is an archive as requests see it at this moment; nil where it is not configured.
func (c *Catalog) viewOf(archive string) *archiveView { return c.view.Load().archives[archive] }

// RootOf names the suite whose root a location is a file of, whether or not it is known; false for anything else.
func (c *Catalog) RootOf(loc proto.Location) (proto.Suite, bool) {
	conf := c.archive(loc.Archive)
	if conf == nil {
		return proto.Suite{}, false
	}
	id, _, root := conf.Format.RootOf(loc.Path)
	id.Archive = loc.Archive
	return id, root
}

// SuiteOf names the suite that a location lies in, if one is known: of several in one directory, the
// one whose root it is.
func (c *Catalog) SuiteOf(loc proto.Location) (proto.Suite, bool) {
	a := c.viewOf(loc.Archive)
	if a == nil {
		return proto.Suite{}, false
	}
	var found proto.Suite
	any := false
	for s, name := range a.Enclosing(loc.Path) {
		if slices.Contains(s.Roots, name) {
			return s.ID, true
		}
		if !any {
			found, any = s.ID, true
		}
	}
	return found, any
}
