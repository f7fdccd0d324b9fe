package catalog

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// show lets requests see the generations as they stand.
func (d *driver) show() {
	d.publish()
	d.c.compose(d.id.Archive)
}

// generations are all generations of the suite, the current one first.
func (p *public) generations() []*view.Generation {
	if p.current == nil {
		return p.retained
	}
	return append([]*view.Generation{p.current}, p.retained...)
}

// driver carries out what the machine of one suite decides. Its goroutine owns the machine and the
// generations; everything else talks to it by mail, and reads what it has published.
type driver struct {
	c       *Catalog
	id      proto.Suite
	log     *slog.Logger
	ctx     context.Context // ends when the suite is forgotten, or the catalog closes
	cancel  context.CancelFunc
	archive atomic.Pointer[Archive] // as configured now
	demand  *demand
	mail    *mailbox
	public  atomic.Pointer[public]
	ended   chan struct{}
	started bool         // guarded by Catalog.mu
	inVain  atomic.Int64 // suite.Mono until which no search waits for the first generation

	// Owned by the goroutine; before start, by the code that makes the driver.
	machine    *suite.Machine
	current    *view.Generation
	retained   []*view.Generation // newest first
	locked     *record            // what a restart could not verify yet; nil for nothing
	lockedBy   error              // why it could not be verified the last time
	unread     []genRecord        // superseded generations that are still to be read back
	saved      suite.Mono
	tidied     suite.Mono
	checkSaved bool       // the state file has the date of a check
	wanted     suite.Mono // when the suite was wanted the last time that no other field knows of
	replies    map[uint64]chan<- error
	requests   uint64                            // the last ID
	staged     *view.Generation                  // the candidate that has just been staged, while the machine decides
	pinned     bool                              // there are pins for staging
	ingests    map[string]*ingest                // members on their way in, by slot
	failed     *expiring.Map[failedKey, trouble] // members that could not be taken in lately
	awaited    *expiring.Map[string, error]      // why files beside the root could not be read, by name; safe for concurrent use
	pairings   map[bool]*pairing                 // companions on their way in; true: for another node
	apart      suite.Mono                        // since when the forms of the root say different things; Never while they do not
	unreadable unreadables                       // members of which the bytes make no sense to us
	untaken    map[string]error                  // members that could not be read because of this node, by path
	switches   chan struct{}                     // closed when Config.Switched has returned from the last switch
	loading    chan struct{}                     // closed when unread has been read back; nil where there was nothing
	source     string                            // the node that brought the current generation; "" for upstream
	changed    time.Time                         // when it was adopted
	restored   bool                              // from what an earlier run wrote down
	made       suite.Mono                        // the driver was
	vain       vain
	renewing   bool // companions are being read again
	forgotten  bool // what is still under way must not bring the suite back
}

// public is what others may know of a suite. It is never changed.
type public struct {
	belief     *suite.Belief
	current    *view.Generation
	retained   []*view.Generation
	mirrors    []suite.MirrorStats
	watched    bool
	following  bool
	idle       bool
	loading    chan struct{}
	lastTry    suite.Mono
	source     string
	changed    time.Time
	unverified bool   // SuiteStats.Unverified
	notice     string // what is wrong with the current generation, for status; "" for nothing
	// unread says that superseded generations are still to be read back.
	unread     bool
	unreadable map[string]string
}

func (c *Catalog) newDriver(id proto.Suite, a *Archive) *driver {
	d := &driver{
		c: c, id: id, log: c.cfg.Logger.With("suite", id.String()), demand: newDemand(), mail: newMailbox(), ended: make(chan struct{}),
		replies: make(map[uint64]chan<- error), ingests: make(map[string]*ingest), untaken: make(map[string]error),
		failed: expiring.New[failedKey, trouble](1024), awaited: expiring.New[string, error](16), apart: suite.Never, pairings: make(map[bool]*pairing), saved: c.mono(), made: c.mono(),
		wanted: suite.Never,
	}
	d.ctx, d.cancel = context.WithCancel(c.ctx)
	d.archive.Store(a)
	d.machine = suite.New(d.suiteConfig(a))
	d.publish()
	return d
}

// forms are the ways in which the suite's root is published.
func (d *driver) forms() []proto.Form { return d.archive.Load().Format.Forms(d.id) }

// suiteConfig is the machine's configuration.
func (d *driver) suiteConfig(a *Archive) suite.Config {
	cfg := &d.c.cfg
	serve := suite.ServeExpired{
		Period: cfg.ServeExpired, SecurityPeriod: cfg.ServeExpiredSecurity,
		Key: "stale.serve_expired", SecurityKey: "stale.serve_expired_security",
	}
	if a.ServeExpired != nil {
		serve.Period, serve.SecurityPeriod = *a.ServeExpired, *a.ServeExpired
		serve.Key = "archives." + a.Name + ".serve_expired, in place of stale.serve_expired"
		serve.SecurityKey = serve.Key
	}
	return suite.Config{
		ID: d.id, Interval: a.CheckEvery, Configured: a.watches(d.id), Offline: a.Offline, Immutable: a.Immutable, Clustered: cfg.Cluster != nil, Unsigned: a.unsigned(d.id), LeaderVouches: cfg.LeaderVouches,
		CheckWait: cfg.CheckWait, Patience: cfg.Patience, MaxFuture: a.MaxFuture, AcceptOlder: a.AcceptOlder, IdleAfter: cfg.IdleAfter, RenewEvery: d.c.renewEvery(),
		WarnBefore: cfg.WarnBefore, ServeExpired: serve, Judge: judge{d, a.Format}, Rand: random,
	}
}

// judge is what the machine asks about names.
type judge struct {
	d      *driver
	format Format
}

func (j judge) Belongs(current *proto.Names, offered *proto.Manifest) proto.Belonging {
	return j.format.Belongs(j.d.id, current, offered)
}

// Replicated reports whether another suite of the archive holds the statement.
func (j judge) InOtherSuite(statement proto.Digest) bool {
	for _, other := range j.d.c.all(j.d.id.Archive) {
		p := other.public.Load()
		if other == j.d || p.current == nil {
			continue
		}
		if p.current.Statement == statement {
			return true
		}
		for _, g := range p.retained {
			if g.Statement == statement {
				return true
			}
		}
	}
	return false
}

// start lets the goroutine run.
func (d *driver) start() {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.c.startLocked(d)
}

func (c *Catalog) startLocked(d *driver) bool {
	if d.started {
		return true
	}
	d.started = c.spawn(d.run)
	return d.started
}

// run is the driver's goroutine.
func (d *driver) run() {
	defer close(d.ended)
	d.remember()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-d.mail.ready:
			for _, work := range d.mail.take() {
				work()
			}
		case <-timer.C:
			d.tidy()
			d.step(suite.Tick{})
		case <-d.ctx.Done():
			d.finish()
			return
		}
		if d.ctx.Err() != nil {
			d.finish()
			return
		}
		timer.Reset(d.pause())
	}
}

// remember restores what is left of a suite that was forgotten: how new its root was.
func (d *driver) remember() {
	if d.restored {
		return
	}
	r, err := d.c.readRecord(d.fileName())
	if err != nil || r == nil || r.Suite != d.id || r.Current != nil {
		return
	}
	d.machine.Restore(suite.At{Mono: d.c.mono(), Wall: d.c.cfg.Now()}, nil, r.Machine, suite.Mono(d.demand.asked.Load()))
}

// pause is the time until the machine wants to be asked, or there is something to tidy.
func (d *driver) pause() time.Duration {
	pause := max(d.tidied.Add(tidyEvery).Sub(d.c.mono()), 0) // mail must not put it off
	if next, ok := d.machine.Next(); ok {
		pause = min(pause, max(next.Sub(d.c.mono()), 0))
	}
	if d.current == nil && !d.configured() {
		pause = min(pause, reapAfter)
	}
	return pause
}

// finish ends the driver: nobody waits for it any more.
func (d *driver) finish() {
	for _, work := range d.mail.close() {
		work()
	}
	for id, reply := range d.replies {
		reply <- errGone
		delete(d.replies, id)
	}
	if d.c.ctx.Err() != nil {
		d.saveOrWarn()
	}
}

// at is the circumstances of an event.
func (d *driver) at() suite.At {
	at := suite.At{Mono: d.c.mono(), Wall: d.c.cfg.Now(), Mirrors: d.c.cfg.Upstream.Mirrors(d.id.Archive)}
	if d.c.cfg.Cluster != nil {
		at.Rank = d.c.cfg.Cluster.Rank(d.id)
	}
	return at
}

// step gives the machine an event and carries out what it decides. Outcomes that are there at once
// are the next events.
func (d *driver) step(e suite.Event) {
	if d.forgotten {
		return // finish answers the waiting requests
	}
	for events := []suite.Event{e}; len(events) > 0; {
		e, events = events[0], events[1:]
		for _, a := range d.machine.Step(d.at(), e) {
			if outcome := d.perform(a); outcome != nil {
				events = append(events, outcome)
			}
		}
	}
	if d.current != nil && !d.checkSaved && !d.machine.Record().Checked.IsZero() {
		d.checkSaved = true // or a disk that takes nothing would be tried with every step
		d.saveOrWarn()      // the commit was written before the check was over
	}
	d.publish()
}

// perform carries out one action. What takes time runs beside, and reports by mail.
func (d *driver) perform(action suite.Action) (outcome suite.Event) {
	switch a := action.(type) {
	case *suite.AskMirror:
		d.beside(func(ctx context.Context) suite.Event { return d.askMirror(ctx, a) })
	case *suite.AskLeader:
		d.beside(func(ctx context.Context) suite.Event { return d.askLeader(ctx, a) })
	case *suite.OpenOffer:
		d.beside(func(ctx context.Context) suite.Event { return d.openOffer(ctx, a) })
	case *suite.Stage:
		d.stage(a)
	case *suite.Commit:
		return suite.Committed{Commit: a, Err: d.commit(a)}
	case suite.Unpin:
		d.unpinStaging()
	case suite.Announce:
		d.announce(a.FirstHand)
	case suite.Reply:
		if reply, ok := d.replies[a.ID]; ok {
			delete(d.replies, a.ID)
			d.publish() // the requests that waited read it
			reply <- a.Err
		}
	case suite.Blame:
		d.c.cfg.Upstream.Blame(d.id.At(d.forms()[0].Files[0].Name), []string{a.Mirror}, a.Err)
	case suite.Note:
		d.log.Log(d.ctx, a.Level, a.Text, a.Attrs...)
	case suite.Count:
		d.c.metrics.count(d.id.Archive, a)
		if a.What == suite.CountCheck && a.Result == suite.Reason(nil) {
			d.renewCompanions()
		}
	}
	return nil
}

// beside runs what takes time, and gives the machine the outcome.
func (d *driver) beside(f func(context.Context) suite.Event) {
	d.c.spawn(func() {
		if e := f(d.ctx); e != nil && d.ctx.Err() == nil {
			d.mail.post(func() { d.step(e) })
		}
	})
}

// publish lets others see how the suite stands.
func (d *driver) publish() {
	at := suite.At{Mono: d.c.mono(), Wall: d.c.cfg.Now()}
	p := &public{
		belief: d.machine.Belief(at), current: d.current, retained: d.retained, mirrors: d.machine.Mirrors(),
		watched: d.machine.Watched(), following: d.machine.Following(), idle: d.machine.Idle() && len(d.ingests) == 0 && d.pairings[false] == nil && d.pairings[true] == nil,
		source: d.source, changed: d.changed, notice: d.notice(), unverified: d.locked != nil && d.current == nil, unreadable: d.unreadable.of(d.current),
	}
	p.lastTry = p.belief.Fresh.Tried
	if p.unread = d.unread != nil; p.unread {
		p.loading = d.loading
	}
	d.public.Store(p)
}

// notice says what is wrong with the current generation.
func (d *driver) notice() string {
	switch {
	case d.locked != nil && d.current == nil:
		notice := "the generation from before the restart cannot be verified now: " + firstLine(d.lockedBy.Error())
		if now := d.c.cfg.Now(); now.Before(d.locked.Current.Date) {
			notice += "; by this node's clock it is " + now.UTC().Format(time.DateTime) + " UTC: is that right?"
		}
		return notice
	case len(d.untaken) > 0:
		path := slices.Min(slices.Collect(maps.Keys(d.untaken)))
		return path + " could not be taken in, and requests that need it get 503: " + firstLine(d.untaken[path].Error())
	case d.current != nil && d.current.Unknown() > 0:
		i := slices.IndexFunc(d.current.Companions, func(c proto.Companion) bool { return !c.Known() })
		return "requests for a file beside the root get 503: " + firstLine(d.notKnown(d.current.Companions[i].Name).Error())
	case d.current != nil && d.current.Manifest.Torn != "":
		return d.current.Manifest.Torn + " is that of another publication, and so it is upstream: hosts that check it refuse the root"
	case d.current != nil && len(d.current.Manifest.Oddities) > 0:
		return "the root is odd: " + d.current.Manifest.Oddities[0]
	}
	return ""
}

// request asks the machine for a check and waits for what came of it.
func (d *driver) request(ctx context.Context, r suite.Request) error {
	reply := make(chan error, 1)
	var id uint64
	posted := d.mail.post(func() {
		if d.ctx.Err() != nil {
			reply <- errGone
			return
		}
		d.requests++
		id = d.requests
		r.ID = id
		d.replies[id] = reply
		d.unlock()
		d.step(r)
	})
	if !posted {
		return errGone
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		d.mail.post(func() {
			delete(d.replies, id)
			d.step(suite.Abandoned{ID: id})
		})
		return context.Cause(ctx)
	}
}

// asked notes that a client of this node wants the root. It writes at most once a second.
func (d *driver) asked() {
	if d.demand.root(d.c.mono()) {
		d.mail.post(func() { d.step(suite.Asked{}) })
	}
}

// leave ends a suite whose archive is not configured any more. Its files stay on disk, in case the
// archive comes back.
func (d *driver) leave() {
	d.cancel()
	if d.started {
		<-d.ended
	}
	d.c.cfg.Store.Pin(d.id.String(), nil)
	d.c.cfg.Store.Pin(d.stagingOwner(), nil)
}
