package peerfetch

import (
	"context"
	"crypto/sha512"
	"errors"
	"hash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// wakeBytes and wakeEvery bound how often readers are woken: with hundreds
	// of them, a wake-up per network packet would cost more than the copying.
	wakeBytes = 256 << 10
	wakeEvery = 5 * time.Millisecond
	// nearlyDone is how much may be missing for a flight to be finished though
	// nobody waits for it any more.
	nearlyDone = 1 << 20
	copyBuffer = 128 << 10
)

// errStored is for the readers of a flight that found its object in the store after all.
var errStored = errors.New("the store holds the object")

// errAbandoned is how a flight ends that nobody waits for.
var errAbandoned = errors.New("nobody waits for this object any more")

// flight is one fetch in progress. run owns the fetching; readers only look.
//
// It serves every name by which its readers know the object (targets), from sources in the order of
// its route, until one of them has given the last byte. What a source did wrong is in the ledger.
type flight struct {
	f      *Fetcher
	key    key
	object proto.ObjectRequest // of the first reader; readers that join want the same content
	start  time.Time
	ctx    context.Context // detached from every reader's
	cancel context.CancelCauseFunc

	// owned by run
	route     *route
	ledger    ledger
	body      body      // where the bytes go
	sha512    hash.Hash // nil unless the object is proven by SHA-512
	version             // which of several versions is arriving
	answered  string    // the mirror that answered the last request; "" for none
	announced bool      // Config.Started has been called
	wakeLast  int64     // written at the last wake-up

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced when any field below changes
	timer      bool          // a delayed wake-up is under way
	readers    map[*reader]struct{}
	lingering  *time.Timer
	targets    targets
	pace       *pace // of the attempt under way; nil: not watched
	wishes           // of all readers
	feeding          // where the bytes come from
	arrived          // what readers may know of the body
	conclusion       // how it ended
}

// arrived is what is here of the body, for readers to see.
type arrived struct {
	begun    bool  // a source has answered
	size     int64 // proto.UnknownSize until somebody says
	written  int64
	tier     proto.Tier
	modified time.Time
	checked  time.Time    // when upstream last said so, where a node gives it that cannot ask now; else zero
	proven   bool         // all bytes are here, and right
	digest   proto.Digest // of the body, once proven
}

// conclusion is how a flight ended.
type conclusion struct {
	ended    bool  // no reader may join
	err      error // nil while it goes on, and after it went well
	byTarget bool  // with err: each reader gets the error of its own targets
}

// newFlight makes the flight of an object. One for another node is fed by upstream
// alone.
func newFlight(f *Fetcher, k key, object proto.ObjectRequest, forPeer bool) *flight {
	fl := &flight{
		f: f, key: k, object: object, start: time.Now(),
		ledger:  newLedger(),
		changed: make(chan struct{}),
		readers: make(map[*reader]struct{}),
		version: version{era: f.absent.era(object.Where.First.Archive)},
		wishes:  wishes{class: object.Class, peersOnly: object.PeersOnly, raised: make(chan struct{})},
		feeding: feeding{alone: forPeer || f.cfg.Cluster == nil, lent: forPeer},
		arrived: arrived{size: object.Size()},
	}
	fl.targets.add(&object)
	if fl.alone {
		fl.feed = feedUpstream
	}
	if object.Class > proto.ClassPackage {
		fl.urgent = make(chan struct{})
	}
	if object.Provable() && object.Ref.IsZero() {
		fl.sha512 = sha512.New()
	}
	fl.route = newRoute(fl.routing())
	fl.ctx, fl.cancel = context.WithCancelCause(f.ctx)
	return fl
}

// routing is what the route may know of the flight.
func (fl *flight) routing() routing {
	r := routingOf(fl.f, fl.key, fl.object)
	r.mayAsk = fl.mayAskNodes
	r.peersOnly = fl.isPeersOnly
	r.random = rand.N[time.Duration]
	return r
}

// mayAskNodes turns the flight to other nodes, if the rest of the body may come from one: none
// follows this flight, and what is here is not known to be wrong.
func (fl *flight) mayAskNodes() bool {
	return !fl.alone && fl.resumable() && (!fl.ledger.tainted || fl.startOver()) && fl.switchToPeers()
}

// routingOf is the part of it that depends on what is wanted alone.
func routingOf(f *Fetcher, k key, object proto.ObjectRequest) routing {
	r := routing{
		avoid: func(peer string) bool {
			now := time.Now()
			return f.excluded.recently(peer, k, now) || f.lapses.many(peer, k, now)
		},
		pause:   f.cfg.FallbackPause,
		holders: object.Holders,
		digest:  !object.Ref.IsZero(),
		listed:  object.Listed(),
	}
	if f.cfg.Cluster != nil {
		r.locate = func() proto.Route { return f.cfg.Cluster.Route(object) }
	}
	return r
}

// run is the life of a flight: look again in the store, fetch, prove, keep.
func (fl *flight) run() {
	defer fl.cancel(nil)
	if o := fl.fetch(); o.verdict != complete {
		fl.fail(o)
		return
	}
	fl.keep()
}

// fetch brings the whole body in and proves it: it asks one source after the other, as the route
// has it, each for what is still missing.
func (fl *flight) fetch() outcome {
	if fl.alreadyStored() {
		return outcome{verdict: known, err: errStored}
	}
	fl.body.open(fl)
	if fl.body.resumed > 0 {
		fl.ledger.credit(byteSource{partial: true})
		if fl.body.written == fl.object.Ref.Size { // nothing but the proof is missing
			if o := outcomeOf(fl.prove()); o.verdict.final() {
				return o
			}
		}
	}
	for {
		var o outcome
		switch s := fl.route.next(); s.do {
		case askPeer:
			o = fl.askNode(s)
		case askUpstream:
			o = fl.askArchive()
		case pause:
			fl.setFeed(feedAsking, fl.route.waitsFor(""))
			fl.sleep(s.wait)
		case end:
			if fl.closeUnlessWider() {
				if s.hearsay {
					fl.countHearsay(s.err)
				}
				return outcomeOf(s.err)
			}
			fl.route.again()
		}
		switch {
		case o.verdict.final():
			return o
		case fl.ctx.Err() != nil:
			return outcomeOf(fl.ctx.Err())
		}
	}
}

// closeUnlessWider admits no further readers, unless one has brought a name of the object that has
// not been tried. A new name helps only if a reader wants the object from upstream.
func (fl *flight) closeUnlessWider() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.ended = fl.ended || fl.peersOnly || !fl.targets.untried()
	return fl.ended
}

// countHearsay counts what other nodes said against the names that they were asked for.
func (fl *flight) countHearsay(err error) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, p := range fl.targets.all {
		fl.f.budget.nodeFailed(fl.attemptAt(p.loc).byNodes(), err, time.Now())
	}
}

func (fl *flight) attemptAt(loc proto.Location) attempt {
	return attempt{key: fl.key, loc: loc}
}

// sleep waits, until the flight ends or there is another target to ask.
func (fl *flight) sleep(d time.Duration) {
	fl.mu.Lock()
	raised := fl.raised
	fl.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-raised:
	case <-fl.ctx.Done():
	}
}

// fail ends the flight for its readers.
func (fl *flight) fail(o outcome) {
	err := o.err
	if cause := context.Cause(fl.ctx); cause != nil && o.verdict != known {
		err = cause
		if errors.Is(cause, context.Canceled) {
			err = errClosing
		}
	}
	switch {
	case o.verdict == known, o.verdict == untried: // nothing failed
	case errors.Is(err, errAbandoned):
		fl.f.metrics.abandoned.Inc()
	default:
		fl.f.metrics.failed.WithLabelValues(reasonOf(err)).Inc()
		level := slog.LevelWarn
		if errors.Is(err, proto.ErrNotFound) && fl.object.Ref.Digest.IsZero() {
			level = slog.LevelDebug // clients look for files that need not be there, and no metadata lists this one
		}
		attrs := []any{"location", fl.object.Where.First.String(), "error", err}
		if !fl.object.Ref.Digest.IsZero() {
			attrs = append(attrs, "ref", fl.object.Ref.String())
		}
		fl.f.cfg.Logger.Log(context.Background(), level, "fetch failed", attrs...)
	}
	fl.retract()
	fl.rememberAbsence(o)
	fl.noteDoubt(err)
	// Out of the table first: a client that saw the failure may start a new flight.
	fl.f.drop(fl)
	fl.mu.Lock()
	fl.err, fl.ended = err, true
	fl.endedLocked()
	fl.byTarget = err == o.err && o.verdict != known && o.verdict != hopeless
	fl.wakeLocked()
	fl.mu.Unlock()
	fl.body.leave(fl, err) // after err is set: a reader that finds no file says why
}

// keep makes a proven body durable. The readers have their last byte before that: they
// need not wait for the disk.
func (fl *flight) keep() {
	ref, err := fl.body.commit(fl, fl.modifiedNow(), fl.key.scope)
	switch {
	case err == nil:
		if fl.object.Ref.IsZero() {
			fl.f.learn(fl.key, learned{
				ref: ref, modified: fl.validity.Modified, etag: fl.validity.ETag, from: fl.validity.From, checked: checkedOf(&fl.validity), era: fl.era,
			})
		}
	case errors.Is(err, proto.ErrNoSpace):
		fl.f.metrics.notStored.Inc()
		fl.retract()
	default:
		fl.f.metrics.notStored.Inc()
		fl.retract()
		fl.f.cfg.Logger.Error("a fetched object could not be kept; it will be fetched again",
			"location", fl.object.Where.First.String(), "ref", fl.object.Ref.String(), "error", err)
	}
	if !fl.object.Provable() {
		fl.f.metrics.unlisted.Inc()
	}
	fl.f.drop(fl)
	fl.mu.Lock()
	fl.ended = true
	fl.endedLocked()
	fl.mu.Unlock()
}

// alreadyStored asks the store once more: between the miss and the start of this
// flight, another flight may have committed the object.
func (fl *flight) alreadyStored() bool {
	if blob, err := fl.f.stored(&fl.object); err == nil {
		blob.Close()
		return true
	}
	if !fl.object.Provable() {
		if l, ok := fl.f.learned.get(fl.key); ok && fl.f.mayGive(l.ref.Digest, fl.object.Where.First.Archive) {
			if blob, err := fl.f.cfg.Store.Get(l.ref.Digest); err == nil {
				blob.Close()
				fl.known = l
			}
		}
	}
	return false
}

// startOver forgets what has arrived, if no reader can have seen any of it.
func (fl *flight) startOver() bool {
	fl.mu.Lock()
	fresh := fl.visibleLocked() == 0
	if fresh {
		fl.written, fl.modified = 0, time.Time{}
		fl.size = fl.object.Size()
	}
	fl.mu.Unlock()
	if !fresh {
		return false
	}
	if fl.body.written > 0 {
		fl.body.abort()
		fl.body.open(fl)
	}
	fl.validity, fl.ifRange, fl.wakeLast, fl.narrowed = proto.Transfer{}, "", 0, proto.Ref{}
	fl.ledger.clear()
	if fl.sha512 != nil {
		fl.sha512.Reset()
	}
	return true
}

// wantNow is what other nodes are asked for: what a body that has begun is of, or all that the
// readers take, by all the names that may still lead to it.
func (fl *flight) wantNow() proto.ObjectRequest {
	object := fl.object
	if fl.body.written > 0 && !fl.narrowed.IsZero() {
		object.Ref, object.Others, object.SHA512 = fl.narrowed, nil, proto.SHA512{}
	}
	return fl.sameWant(object)
}

// sameWant is want with the names and the urgency that all readers have by now.
func (fl *flight) sameWant(object proto.ObjectRequest) proto.ObjectRequest {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	object.Class = fl.class
	if object.Provable() {
		object.Where = fl.targets.where()
	}
	for _, p := range fl.targets.all {
		p.asked = true
	}
	return object
}

// publish lets readers see what has been written: the first bytes at once, then
// by the quarter megabyte, or after a few milliseconds if the source pauses.
func (fl *flight) publish() {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	before := fl.visibleLocked()
	fl.written = fl.body.written
	if before == 0 || fl.written-fl.wakeLast >= wakeBytes {
		fl.wakeLast = fl.written
		fl.wakeLocked()
		return
	}
	if !fl.timer {
		fl.timer = true
		time.AfterFunc(wakeEvery, func() {
			fl.mu.Lock()
			fl.timer = false
			fl.wakeLocked()
			fl.mu.Unlock()
		})
	}
}

// wakeLocked wakes all that wait for a change. The caller holds mu.
func (fl *flight) wakeLocked() {
	close(fl.changed)
	fl.changed = make(chan struct{})
}

// visibleLocked is how many bytes readers may read: all when proven. Before that, all
// except the last, and nothing of a small body. The caller holds mu.
func (fl *flight) visibleLocked() int64 {
	switch {
	case fl.proven:
		return fl.size
	case fl.size != proto.UnknownSize && fl.size <= fl.f.cfg.HoldSmall:
		return 0
	default:
		return max(fl.written-1, 0)
	}
}

func (fl *flight) sizeNow() int64 {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.size
}

func (fl *flight) modifiedNow() time.Time {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.modified
}

func (fl *flight) classNow() proto.Class {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.class
}

func (fl *flight) describe() Flight {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return Flight{
		Loc: fl.object.Where.First, Ref: fl.refLocked(),
		Written: fl.written, Readers: len(fl.readers), Tier: fl.tier, Started: fl.start,
		Source: fl.sourceLocked(), Mirror: fl.mirror,
	}
}
