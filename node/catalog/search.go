package catalog

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// A client may ask for a file before this node has read the index that lists it: on a fresh node,
// or for an architecture that no other client uses. Then the node searches for the index. A search
// is a guess, so it must not cost other clients anything. Searches are bounded in number and time,
// shared, and remembered. They wait only for suites that the configuration names. What a search
// reads is not demand, so no generation waits for it.

// errUnread is why a search has no result yet. To give the file out meanwhile, unchecked, would let a
// mirror choose its bytes.
var errUnread error = &proto.Unavailable{Cause: proto.CauseUnread, Reason: "its indexes are still being read", RetryAfter: time.Second}

// For unreadFor the hosts that ask for what an index may list are kept from it, as long as nothing is
// read: an index that takes longer may never come, and the host may have what upstream gives it
// directly. After unreadForgotten without a search that begins anew.
const (
	unreadFor       = time.Minute
	unreadForgotten = 10 * time.Minute
)

// vain are the searches that ended before the indexes were read.
type vain struct {
	mu    sync.Mutex
	since time.Time // of the first since an index was read; zero for none; guarded by mu
	last  time.Time // guarded by mu
}

// stillUnread is what a search ends with whose time is over; nil where hosts have been kept waiting for long
// enough.
func (d *driver) stillUnread(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errUnread // the client has left, which says nothing of the index
	}
	d.vain.mu.Lock()
	defer d.vain.mu.Unlock()
	now := time.Now()
	if now.Sub(d.vain.last) > unreadForgotten {
		d.vain.since = time.Time{}
	}
	if d.vain.last = now; d.vain.since.IsZero() {
		d.vain.since = now
	}
	if now.Sub(d.vain.since) >= unreadFor {
		return nil
	}
	return errUnread
}

// readOne notes that an index was read.
func (d *driver) readOne() {
	d.vain.mu.Lock()
	d.vain.since = time.Time{}
	d.vain.mu.Unlock()
}

// searchedFor is how long it is remembered that a search has found nothing; it is also forgotten
// when the archive changes.
const searchedFor = time.Minute

// find tries to find the listing of loc: it reads the suite that the path lies in and the indexes
// that may list the file. If that fails, it waits for the suites that the configuration names, and
// searches them, too. local is the error of this node itself that prevented the search, or
// says that it has not ended yet.
func (c *Catalog) find(ctx context.Context, conf *Archive, loc proto.Location, info *proto.PathInfo) (e proto.Resolution, ok bool, local error) {
	select {
	case conf.searching <- struct{}{}:
		defer func() { <-conf.searching }()
	case <-ctx.Done():
		return c.search(ctx, loc) // it reads nothing more
	}
	c.findSuite(ctx, conf, loc)
	c.waitLoaded(ctx, conf.Name)
	if e, ok, local = c.search(ctx, loc); !ok && c.waitConfigured(ctx, conf) {
		e, ok, local = c.search(ctx, loc)
	}
	if !ok && local == nil {
		local = c.unadopted(conf.Name)
	}
	return e, ok, local
}

// unadopted is why this node itself could not adopt the newest root of a suite of the archive; nil
// where that is not so.
func (c *Catalog) unadopted(archive string) error {
	for _, d := range c.all(archive) {
		if local := localTrouble(d.public.Load().belief.Failure); local != nil {
			return local
		}
	}
	return nil
}

// search reads the indexes that may list a file, of all suites that have a generation.
// local is as in find.
func (c *Catalog) search(ctx context.Context, loc proto.Location) (e proto.Resolution, ok bool, local error) {
	if e, ok = c.Resolve(loc); ok {
		return e, true, nil
	}
	a := c.viewOf(loc.Archive)
	if a == nil {
		return e, false, nil
	}
	if seen, ok := c.searched.Get(loc, time.Now()); ok && seen == a {
		return e, false, nil
	}
	troubled := false
	for _, d := range nearest(a.drivers, loc.Path) {
		read, trouble, why := d.readListers(ctx, loc.Path)
		if read {
			if e, ok = c.Resolve(loc); ok {
				return e, true, nil
			}
		}
		troubled = troubled || trouble
		local = cmp.Or(local, why)
	}
	if ctx.Err() == nil && !troubled {
		c.searched.Set(loc, c.viewOf(loc.Archive), time.Now(), time.Now().Add(searchedFor))
	}
	e, ok = c.Resolve(loc)
	return e, ok, local
}

// nearest orders suites by how much of their directory a path shares. In formats where an index may list
// files anywhere, what lies beside a root is mostly listed by it, and the search ends there: the indexes
// of other repositories, which may be many and large, need not be read.
func nearest(drivers map[*view.Suite]*driver, path string) []*driver {
	shared := func(d *driver) int {
		n, dir := 0, d.id.Dir+"/"
		for i := 0; i < len(dir) && i < len(path) && dir[i] == path[i]; i++ {
			if dir[i] == '/' {
				n++
			}
		}
		return n
	}
	return slices.SortedFunc(maps.Values(drivers), func(x, y *driver) int {
		return cmp.Or(cmp.Compare(shared(y), shared(x)), strings.Compare(x.id.Dir, y.id.Dir), strings.Compare(x.id.Name, y.id.Name))
	})
}

// maxGroups and maxSearched bound what one search reads of a suite, searchParallel how much of it
// at one time.
const (
	maxGroups      = 3
	maxSearched    = 512
	searchParallel = 16
)

// readListers reads the indexes of the current generation that should list a path and have not been
// read: group by group, until one does list it. It reports whether anything was read, and whether
// something could not be; local is why, where this node is at fault, or where ctx has ended before all
// were read.
func (d *driver) readListers(ctx context.Context, path string) (any, trouble bool, local error) {
	loc := proto.Location{Archive: d.id.Archive, Path: path}
	d.sync(ctx)
	// What has been read is what the view has: a driver publishes a generation a moment before.
	shown := d.c.viewOf(d.id.Archive)
	g := shown.current(d.id)
	if g == nil {
		return false, false, nil
	}
	left := maxSearched
	groups := d.archive.Load().Format.Listers(d.id, g.Manifest, path)
	for _, group := range groups[:min(len(groups), maxGroups)] {
		for range maxAlternatives {
			wanted, bad, why := d.pickUnread(shown, group)
			trouble, local = trouble || bad, cmp.Or(local, why)
			wanted = wanted[:min(len(wanted), left)]
			if left -= len(wanted); len(wanted) == 0 {
				break
			}
			for some := range slices.Chunk(wanted, searchParallel) {
				if ctx.Err() != nil {
					return any, true, cmp.Or(local, d.stillUnread(ctx))
				}
				for _, in := range d.ingestAll(some) {
					select {
					case <-in.done:
						any = any || in.err == nil
						trouble = trouble || in.err != nil && !errors.Is(in.err, proto.ErrNotFound)
						local = cmp.Or(local, localTrouble(in.err))
					case <-ctx.Done():
						return any, true, cmp.Or(local, d.stillUnread(ctx))
					}
				}
			}
			shown = d.c.viewOf(d.id.Archive)
		}
		if _, ok := d.c.Resolve(loc); ok {
			return true, false, nil
		}
	}
	return any, trouble, local
}

// Unread lists the suites that have indexes which may list a location and have not been read: a request
// would read them first. Safe for concurrent use.
func (c *Catalog) Unread(loc proto.Location) (suites []proto.Suite) {
	a := c.viewOf(loc.Archive)
	if a == nil {
		return nil
	}
	for _, d := range a.drivers {
		groups := d.archive.Load().Format.Listers(d.id, a.current(d.id).Manifest, loc.Path)
		for _, group := range groups[:min(len(groups), maxGroups)] {
			if wanted, _, _ := d.pickUnread(a, group); len(wanted) > 0 {
				suites = append(suites, d.id)
				break
			}
		}
	}
	return suites
}

// maxAlternatives bounds the tries at one index: an archive offers one in at most seven
// compressions.
const maxAlternatives = 8

// pickUnread picks one alternative of each index of a group that has not been read: one that could
// not be fetched a moment ago is left alone. bad says that this was not because upstream does not
// have it, and local why, where this node is at fault: then no other alternative is fetched, which
// would fare no better.
func (d *driver) pickUnread(shown *archiveView, group [][]*proto.Member) (wanted []*proto.Member, bad bool, local error) {
	g := shown.current(d.id)
	if g == nil {
		return nil, false, nil // forgotten meanwhile
	}
	for _, alternatives := range group {
		if slices.ContainsFunc(alternatives, func(m *proto.Member) bool { st, ok := g.Staged(m.Path); return ok && shown.has(st.Table) }) {
			continue // it has been read
		}
		var pick *proto.Member
		var why error
		for _, m := range alternatives {
			t, failed := d.failed.Get(failedKey{m.Path, m.Ref}, time.Now())
			bad, why = bad || failed && !t.absent, cmp.Or(why, t.local)
			if !failed && !d.isUnreadable(m) && pick == nil {
				pick = m
			}
		}
		local = cmp.Or(local, why)
		if pick != nil && why == nil {
			wanted = append(wanted, pick)
		}
	}
	return wanted, bad, local
}

// sync waits until the driver has done what was posted before.
func (d *driver) sync(ctx context.Context) {
	done := make(chan struct{})
	if !d.mail.post(func() { close(done) }) {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// ingestAll starts to take members in for a search.
func (d *driver) ingestAll(members []*proto.Member) []*ingest {
	if len(members) == 0 {
		return nil
	}
	answer := make(chan []*ingest, 1)
	posted := d.mail.post(func() {
		var started []*ingest
		for _, m := range members {
			if d.current != nil {
				if now := d.current.Member(m.Path); now != nil && now.Ref == m.Ref && now.SHA512 == m.SHA512 {
					started = append(started, d.takeIn(now, false))
				}
			}
		}
		answer <- started
	})
	if !posted {
		return nil
	}
	select {
	case started := <-answer:
		return started
	case <-d.ended:
		return nil
	}
}

// findSuite makes sure that the suite around a path has been read. Guesses that turned out wrong
// are not repeated for a while.
func (c *Catalog) findSuite(ctx context.Context, conf *Archive, loc proto.Location) {
	for _, id := range conf.Format.Suites(loc.Path) {
		id.Archive = conf.Name
		if c.knowsAround(loc, id.Name) {
			return
		}
		if _, absent := c.absent.Get(id, time.Now()); absent {
			continue
		}
		name := conf.Format.Forms(id)[0].Files[0].Name
		_, err := c.discoverRoot(ctx, id, id.At(name), name, false)
		if !errors.Is(err, proto.ErrNotFound) {
			return // found, or upstream fails, and would fail for the next guess, too
		}
		if d, ok := c.known(id); ok && d.public.Load().current != nil {
			return // it has its root in another form
		}
		c.absent.Set(id, struct{}{}, time.Now(), time.Now().Add(absentFor))
	}
}

// knowsAround reports whether a suite of a name is known whose directory a path lies in. Suites of other
// names list other files.
func (c *Catalog) knowsAround(loc proto.Location, name string) bool {
	a := c.viewOf(loc.Archive)
	if a == nil {
		return false
	}
	for s := range a.Enclosing(loc.Path) {
		if s.ID.Name == name {
			return true
		}
	}
	return false
}

// maxGuessing bounds the searches for suites that go on in the background.
const maxGuessing = 64

// findSuiteBehind is findSuite for a name that needs no suite to be answered, so that nobody waits
// for it; but what the index lists is wanted soon.
func (c *Catalog) findSuiteBehind(conf *Archive, loc proto.Location) {
	guesses := conf.Format.Suites(loc.Path)
	if len(guesses) == 0 {
		return
	}
	first := guesses[0]
	first.Archive = conf.Name
	if c.knowsAround(loc, first.Name) {
		return
	}
	c.mu.Lock()
	busy := c.guessing[first] || len(c.guessing) >= maxGuessing
	if !busy {
		c.guessing[first] = true
	}
	c.mu.Unlock()
	if busy {
		return
	}
	done := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.guessing, first)
	}
	started := c.spawn(func() {
		defer done()
		ctx, cancel := context.WithTimeout(c.ctx, c.cfg.FindWait)
		defer cancel()
		c.findSuite(ctx, conf, loc)
		c.Resolve(loc) // the client uses it
	})
	if !started {
		done()
	}
}

// waitConfigured waits for the first generation of the suites that the configuration names:
// upstream may have been down when the node started. It reports whether one has come. They are
// watched in any case; so a wait that was in vain is not repeated for a while.
func (c *Catalog) waitConfigured(ctx context.Context, conf *Archive) (came bool) {
	for _, id := range conf.Suites {
		id.Archive = conf.Name
		d, ok := c.known(id)
		if !ok || d.public.Load().current != nil || c.mono() < suite.Mono(d.inVain.Load()) {
			continue
		}
		d.request(ctx, suite.Request{})
		switch {
		case d.public.Load().current != nil:
			came = true
		case !errors.Is(ctx.Err(), context.Canceled): // the client has not just left
			d.inVain.Store(int64(c.mono()) + int64(searchedFor))
		}
	}
	return came
}

// waitLoaded waits until the superseded generations have been read back after a start.
func (c *Catalog) waitLoaded(ctx context.Context, archive string) {
	for _, d := range c.all(archive) {
		loading := d.public.Load().loading
		if loading == nil {
			continue
		}
		select {
		case <-loading:
		case <-ctx.Done():
			return
		}
	}
}
