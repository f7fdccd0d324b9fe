package catalog

import (
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// announceSwitch calls Config.Switched: next has replaced before, which may be nil. The call comes
// after those for all earlier switches of the suite.
func (d *driver) announceSwitch(before, next *view.Generation) {
	if d.c.cfg.Switched == nil {
		return
	}
	s := proto.Switch{Suite: d.id, Date: next.Date}
	release := func() {}
	if before != nil {
		for _, m := range next.PackageIndexes() {
			s.Indexes = append(s.Indexes, proto.PackageIndex{Member: m, Object: next.Request(m)})
		}
		// Both are listed at this moment; a switch that follows at once must not take away the
		// tables of the elder one.
		release = d.c.claim(d.id.Archive, append(before.Tables(), next.Tables()...))
	}
	earlier, told := d.switches, make(chan struct{})
	d.switches = told
	started := d.c.spawn(func() {
		defer close(told)
		if earlier != nil {
			<-earlier
		}
		if before != nil {
			t := d.c.tablesOf(d.id.Archive)
			s.New = view.BuildFresh(t.seed, t, before, next).Has
		}
		release()
		d.c.cfg.Switched(s)
	})
	if !started {
		close(told)
		release()
	}
}

// Dates returns the dates of the generations that list a file, newest first: if upstream has
// lost the file, a history service may still have it. It may read package tables from the disk, so
// it is not for the hot path. Safe for concurrent use.
func (c *Catalog) Dates(loc proto.Location) []time.Time {
	a := c.viewOf(loc.Archive)
	if a == nil {
		return nil
	}
	return c.datesIn(a.Archive, a.format, loc)
}

// datesIn are the dates of those generations of a set that list a file.
func (c *Catalog) datesIn(a *view.Archive, format Format, loc proto.Location) []time.Time {
	select {
	case c.parsing <- struct{}{}: // a table may have millions of rows
		defer func() { <-c.parsing }()
	case <-c.ctx.Done():
		return nil
	}
	t := c.tablesOf(loc.Archive)
	info := format.PathInfo(loc.Path)
	if info.Root {
		return nil // it is of this moment
	}
	return a.Dates(t, t.seed, loc.Path, &info)
}
