package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// Capture returns the current generations of an archive's suites, all of one moment. Safe for
// concurrent use.
func (c *Catalog) Capture(archive string) []proto.Captured {
	conf, a := c.archive(archive), c.viewOf(archive)
	if conf == nil || a == nil {
		return nil
	}
	var all []proto.Captured
	for _, s := range a.Suites() {
		captured := capturedOf(s.Current, conf)
		captured.Indexes = a.drivers[s].inUse(s.Current)
		all = append(all, captured)
	}
	return all
}

// capturedOf is a generation without its indexes.
func capturedOf(g *view.Generation, conf *Archive) proto.Captured {
	captured := proto.Captured{Generation: g.Generation, Unsigned: conf.unsigned(g.Suite)}
	captured.Companions = slices.DeleteFunc(slices.Clone(g.Companions), func(c proto.Companion) bool { return c.Ref.IsZero() })
	return captured
}

// Held returns the generations of an archive's suites that are held, current or retained: of each suite the newest first.
// Safe for concurrent use.
func (c *Catalog) Held(archive string) (all []proto.Captured) {
	conf, a := c.archive(archive), c.viewOf(archive)
	if conf == nil || a == nil {
		return nil
	}
	for _, s := range a.Suites() {
		for _, g := range append([]*view.Generation{s.Current}, s.Retained...) {
			captured := capturedOf(g, conf)
			for path, st := range g.AllStaged() {
				if g.Member(path) != nil {
					captured.Indexes = append(captured.Indexes, proto.Captive{Path: path, Ref: st.Ref})
				}
			}
			slices.SortFunc(captured.Indexes, func(x, y proto.Captive) int { return strings.Compare(x.Path, y.Path) })
			all = append(all, captured)
		}
	}
	return all
}

// Roots are the suites that Capture returns, with their roots and without what these list. Safe for concurrent use.
func (c *Catalog) Roots(archive string) (all []proto.Listing) {
	a := c.viewOf(archive)
	if a == nil {
		return nil
	}
	for _, captured := range c.Capture(archive) {
		if s := a.Suite(captured.Suite); s != nil {
			all = append(all, proto.Listing{Captured: captured, Manifest: s.Current.Manifest})
		}
	}
	return all
}

// inUse are the members of a generation that clients use, as far as this node knows: here and on other nodes.
func (d *driver) inUse(g *view.Generation) (indexes []proto.Captive) {
	refs := make(map[string]proto.Ref)
	for path, st := range g.AllStaged() {
		if g.Member(path) != nil {
			refs[path] = st.Ref
		}
	}
	for _, slot := range slices.Concat(d.demand.locals(), d.demand.remotes()) {
		for _, m := range g.BySlot(slot) {
			if _, ok := refs[m.Path]; !ok {
				refs[m.Path] = m.Ref
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(refs)) {
		indexes = append(indexes, proto.Captive{Path: path, Ref: refs[path]})
	}
	return indexes
}

// Frozen answers for suites of one archive as they were at one moment. Nothing that upstream does
// changes its answers, and no age ends them. What it gives out is proven as in the live view: each
// root was verified, as of that moment, with the keys that the archive has now. Safe for concurrent
// use.
type Frozen struct {
	c    *Catalog
	conf *Archive
	at   time.Time
	of   []proto.Captured // what was frozen
	// given, if not nil, are the only files that roots are read from.
	given map[proto.Digest][]byte

	view    atomic.Pointer[view.Archive]
	adding  sync.Mutex // one change of the view at a time
	claims  []func()   // each lets go of the tables of a view; guarded by adding
	ctx     context.Context
	cancel  context.CancelFunc
	reading sync.Map // members that are being read behind a request, by location
	failed  sync.Map // members that could not be read, by location: when it may be tried again
}

// Freeze opens suites of an archive as Capture returned them at a moment. Roots are read from the
// store or from another node, and verified; the indexes that were captured are read, so that what
// they list can be proven. Indexes that cannot be had are returned as missing: they are tried again
// when a client needs them. It fails if a root cannot be had, or would be refused. Close ends it.
func (c *Catalog) Freeze(ctx context.Context, archive string, at time.Time, suites []proto.Captured) (*Frozen, []proto.Missing, error) {
	conf := c.archive(archive)
	if conf == nil {
		return nil, nil, errUnknownArchive
	}
	f := &Frozen{c: c, conf: conf, at: at, of: suites}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	var opened []*view.Suite
	for _, s := range suites {
		s.Suite.Archive = archive
		g, err := f.openRoot(ctx, s)
		if err != nil {
			f.cancel()
			return nil, nil, err
		}
		opened = append(opened, &view.Suite{ID: s.Suite, Roots: rootNames(conf.Format, s.Suite), Current: g})
	}
	// Until the view names them, nothing else keeps the tables that are read here.
	for _, s := range opened {
		defer c.claim(archive, tablesOfManifest(s.Current.Manifest))()
	}
	var missing []proto.Missing
	for i, s := range opened {
		staged, failed := f.readAll(ctx, s, suites[i].Indexes)
		s.Current = s.Current.WithAllStaged(staged)
		missing = append(missing, failed...)
	}
	if err := f.show(opened); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, missing, nil
}

// openRoot reads the files of a captured root and verifies them as of the moment of the capture.
func (f *Frozen) openRoot(ctx context.Context, s proto.Captured) (*view.Generation, error) {
	id := s.Suite
	for _, form := range f.conf.Format.Forms(id) {
		if form.Files[0].Name != s.RootName {
			continue
		}
		files := make(map[string][]byte, len(form.Files))
		for i, file := range form.Files {
			ref := s.Root
			if i > 0 {
				c, ok := s.Companion(file.Name)
				if !ok {
					continue
				}
				ref = c.Ref
			}
			data, err := f.readFile(ctx, id.At(file.Name), ref, file.MaxBytes)
			if err != nil {
				return nil, fmt.Errorf("%s, of %s, cannot be read: %w", id.At(file.Name), s.Date.Format(time.RFC3339), err)
			}
			files[file.Name] = data
		}
		m, err := f.conf.Format.Open(id, files, f.at)
		if err != nil {
			return nil, fmt.Errorf("the root of %s, of %s: %w", id, s.Date.Format(time.RFC3339), err)
		}
		if m.Statement != s.Statement {
			return nil, fmt.Errorf("the root of %s says something else than was captured", id)
		}
		return view.NewGeneration(s.Generation, m, filesOf(s.Generation)...), nil
	}
	return nil, fmt.Errorf("%q is no root file of %s", s.RootName, id)
}

// readFile reads a small file that the digest proves, from the store or from wherever it can be had.
func (f *Frozen) readFile(ctx context.Context, loc proto.Location, ref proto.Ref, most int64) ([]byte, error) {
	if f.given != nil {
		return f.givenFile(ref, most)
	}
	if data, err := f.c.readBlob(ref, most); err == nil {
		return data, nil
	}
	if ref.Size > most {
		return nil, fmt.Errorf("it has %d bytes: larger than one may be", ref.Size)
	}
	b, err := f.c.cfg.Blobs.Open(ctx, proto.ObjectRequest{Ref: ref, Where: proto.At(loc), Class: proto.ClassMetadata})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b.Reader(), most+1))
	if err == nil && proto.DigestOf(data) != ref.Digest {
		err = errors.New("it is not what was captured")
	}
	return data, err
}

func (f *Frozen) reader(id proto.Suite) *reader {
	return &reader{c: f.c, suite: id, format: f.conf.Format, log: f.c.cfg.Logger.With("suite", id.String()), unreadable: func(*proto.Member, string) {}}
}

// tablesOfManifest names the tables that members of a root have.
func tablesOfManifest(m *proto.Manifest) []string {
	members := make([]*proto.Member, len(m.Members))
	for i := range m.Members {
		members[i] = &m.Members[i]
	}
	return tablesOf(members)
}

// readAll reads members of a suite's generation. The caller has claimed their tables.
func (f *Frozen) readAll(ctx context.Context, s *view.Suite, indexes []proto.Captive) (staged map[string]view.Staged, missing []proto.Missing) {
	staged = make(map[string]view.Staged, len(indexes))
	read := f.reader(s.ID)
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(stageParallel)
	for _, index := range indexes {
		path := index.Path
		m := s.Current.Member(path)
		if m == nil || !m.Provable() {
			continue // nothing proves it
		}
		group.Go(func() error {
			st, err := read.read(ctx, s.Current.Generation, m, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, proto.Missing{Location: s.ID.At(path), Err: err})
				return nil
			}
			staged[path] = st
			return nil
		})
	}
	group.Wait() // no member returns an error: missing has them
	return staged, missing
}

// show makes suites what requests are answered from. The caller holds adding, or is alone.
func (f *Frozen) show(suites []*view.Suite) error {
	t := f.c.tablesOf(f.conf.Name)
	lists, _ := view.Tables(suites)
	f.claims = append(f.claims, f.c.claim(f.conf.Name, lists))
	files, err := f.c.writeFrozen(t, lists)
	if err != nil {
		return fmt.Errorf("write down what a snapshot of %s lists: %w", f.conf.Name, err)
	}
	f.view.Store(view.BuildArchive(f.conf.Name, suites, files))
	return nil
}

// writeFrozen joins lists in a file. Nobody closes it: os.File does, when no request can read it any more.
func (c *Catalog) writeFrozen(t *tables, lists []string) (*view.Frozen, error) {
	file, err := c.cfg.Scratch()
	if err != nil {
		return nil, err
	}
	if _, err := view.WriteFrozen(file, t.seed, t, lists); err != nil {
		return nil, err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	return view.OpenFrozen(file, size)
}

// Dates is Catalog.Dates for the suites as they were.
func (f *Frozen) Dates(loc proto.Location) []time.Time {
	return f.c.datesIn(f.view.Load(), f.conf.Format, loc)
}

// Close ends reading behind requests. Requests that are under way may still use it.
func (f *Frozen) Close() {
	f.cancel()
	f.adding.Lock()
	defer f.adding.Unlock()
	for _, release := range f.claims {
		release()
	}
	f.claims = nil
}

// Blobs are the digests that must stay stored, in no order.
func (f *Frozen) Blobs() (digests []proto.Digest) {
	for _, s := range f.view.Load().Suites() {
		digests = append(digests, s.Current.Blobs()...)
	}
	return digests
}

// Listings are the suites as they were, with the indexes that their roots list.
func (f *Frozen) Listings() (all []proto.Listing) {
	v := f.view.Load()
	for _, s := range f.of {
		s.Suite.Archive = f.conf.Name
		g := v.Suite(s.Suite).Current
		l := proto.Listing{Captured: s, Manifest: g.Manifest}
		read := f.reader(s.Suite)
		for i := range g.Manifest.Members {
			if m := &g.Manifest.Members[i]; m.Packages && m.Provable() {
				l.Indexes = append(l.Indexes, proto.PackageIndex{Member: m, Object: read.object(g.Generation, m, nil)})
			}
		}
		all = append(all, l)
	}
	return all
}

// Current reports whether the archive is there, and trusts the roots that it did when they were verified.
func (f *Frozen) Current() bool {
	now := f.c.archive(f.conf.Name)
	return now == f.conf || now != nil && now.Trust != "" && now.Trust == f.conf.Trust
}

// Resolve is Catalog.Resolve for the suites as they were.
func (f *Frozen) Resolve(loc proto.Location) (e proto.Resolution, ok bool) {
	a, info := f.view.Load(), f.conf.Format.PathInfo(loc.Path)
	found, ok := a.Resolve(&e, loc, &info)
	if !ok {
		return proto.Resolution{}, false
	}
	g := found.Generation
	switch {
	case found.Root != "":
		e.Modified = rootModified(e.Modified, &g.Generation, f.c.cfg.Now())
	case found.Member != nil && found.Member.Lists():
		if st, staged := g.Staged(found.Member.Path); !staged || st.Table == "" {
			f.readBehind(found.Suite, found.Member)
		}
	}
	if g != nil {
		e.Object.Base = g.Base
	}
	e.Mutable = false // whatever upstream does
	return e, true
}

// Discover is Catalog.Discover for the suites as they were. A file that none of them lists is looked
// for upstream, unproven, as in the live view.
//
// Errors: proto.ErrNotFound for a root that was not captured; what reading an index fails with; the
// error of ctx.
func (f *Frozen) Discover(ctx context.Context, loc proto.Location) (proto.Resolution, error) {
	if e, ok := f.Resolve(loc); ok {
		return e, nil
	}
	if id, _, root := f.conf.Format.RootOf(loc.Path); root {
		if f.view.Load().Suite(id) != nil {
			return proto.Resolution{}, proto.ErrOtherForm
		}
		return proto.Resolution{}, proto.ErrNotFound
	}
	info := f.conf.Format.PathInfo(loc.Path)
	ctx, cancel := context.WithTimeout(ctx, f.c.cfg.FindWait)
	defer cancel()
	for _, s := range f.view.Load().Suites() {
		if err := f.readListers(ctx, s.ID, loc); err != nil {
			return proto.Resolution{}, err
		}
		if e, ok := f.Resolve(loc); ok {
			return e, nil
		}
	}
	return f.c.unlisted(loc, &info), nil
}

// readListers reads the indexes of a suite that may list a path, until one does.
func (f *Frozen) readListers(ctx context.Context, id proto.Suite, loc proto.Location) error {
	groups := f.conf.Format.Listers(id, f.view.Load().Suite(id).Current.Manifest, loc.Path)
	for _, group := range groups[:min(len(groups), maxGroups)] {
		for _, alternatives := range group[:min(len(group), maxSearched)] {
			if err := f.readOne(ctx, id, alternatives); err != nil {
				return err
			}
		}
		if _, ok := f.Resolve(loc); ok {
			return nil
		}
	}
	return nil
}

// readOne reads one of an index's alternatives, if none has been read. It fails only if this node, or a moment,
// is at fault: then it cannot be told what the index lists.
func (f *Frozen) readOne(ctx context.Context, id proto.Suite, alternatives []*proto.Member) error {
	g := f.view.Load().Suite(id).Current
	if slices.ContainsFunc(alternatives, func(m *proto.Member) bool { st, ok := g.Staged(m.Path); return ok && st.Table != "" }) {
		return nil
	}
	var last error
	for _, m := range alternatives {
		if !m.Provable() {
			continue
		}
		if err := f.add(ctx, id, m); err == nil {
			return nil
		} else if !errors.Is(err, proto.ErrNotFound) {
			last = fmt.Errorf("%s, which may list it, cannot be read: %w", id.At(m.Path), err)
		}
	}
	return last
}

// readBehind reads an index that a client has asked for, so that the packages it lists can be proven.
func (f *Frozen) readBehind(s *view.Suite, m *proto.Member) {
	loc := s.ID.At(m.Path)
	if until, ok := f.failed.Load(loc); ok && time.Now().Before(until.(time.Time)) {
		return
	}
	if _, running := f.reading.LoadOrStore(loc, struct{}{}); running {
		return
	}
	started := f.c.spawn(func() {
		defer f.reading.Delete(loc)
		f.add(f.ctx, s.ID, m)
	})
	if !started {
		f.reading.Delete(loc)
	}
}

// add reads a member and has requests answered from what it lists.
func (f *Frozen) add(ctx context.Context, id proto.Suite, m *proto.Member) error {
	now := f.view.Load().Suite(id)
	if st, ok := now.Current.Staged(m.Path); ok && st.Table != "" {
		return nil
	}
	release := f.c.claim(f.conf.Name, tablesOf([]*proto.Member{m}))
	defer release()
	st, err := f.reader(id).read(ctx, now.Current.Generation, m, nil)
	if err != nil {
		f.failed.Store(id.At(m.Path), time.Now().Add(troubledFor))
		return err
	}
	f.adding.Lock()
	defer f.adding.Unlock()
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	var suites []*view.Suite
	for _, s := range f.view.Load().Suites() {
		if s.ID == id {
			next := *s
			next.Current = s.Current.WithStaged(strings.Clone(m.Path), st)
			s = &next
		}
		suites = append(suites, s)
	}
	return f.show(suites)
}

// scratch makes a file without a name in the directory for temporary files.
func scratch() (*os.File, error) {
	file, err := os.CreateTemp("", "aptmesh-snapshot-")
	if err == nil {
		err = os.Remove(file.Name())
	}
	return file, err
}
