package peerfetch

import (
	"context"
	"crypto/sha512"
	"errors"
	"hash"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// maxBarren is how many transfers in a row may bring next to nothing before
	// the flight fails, not counting those after which another mirror was at hand.
	// progress is how many bytes start the count anew.
	maxBarren = 3
	progress  = 16 << 10
	// wakeBytes and wakeEvery bound how often readers are woken: with hundreds
	// of them, a wake-up per network packet would cost more than the copying.
	wakeBytes = 256 << 10
	wakeEvery = 5 * time.Millisecond
	// nearlyDone is how much may be missing for a flight to be finished though
	// nobody waits for it any more.
	nearlyDone = 1 << 20
	copyBuffer = 128 << 10
)

// errStored is how a flight ends that found its object in the store after all.
var errStored = errors.New("the store holds the object")

// errAbandoned is how a flight ends that nobody waits for.
var errAbandoned = errors.New("nobody waits for this object any more")

// flight is one fetch in progress. run owns the fetching; readers only look.
type flight struct {
	f      *Fetcher
	key    key
	want   proto.Want
	start  time.Time
	ctx    context.Context // detached from every reader's
	cancel context.CancelCauseFunc
	// urgent is closed when a client begins to wait for what was fetched ahead of
	// clients; nil where one did from the start.
	urgent chan struct{}

	// owned by run
	body       body            // where the bytes go
	sha512     hash.Hash       // nil unless the object is proven by SHA-512
	known      learned         // what upstream told us last time of an unlisted file
	barren     int             // transfers from upstream without progress
	ifRange    string          // validator of what has arrived, for unlisted files
	wakeLast   int64           // written at the last wake-up
	validity   proto.Transfer  // validators of the first transfer
	gave       []origin        // who gave some of the bytes that have arrived
	tainted    bool            // what has arrived cannot be right
	sizeFrom   origin          // who told the size, where nobody signed it
	silent     map[string]bool // peers that are of no use to this flight
	liars      map[origin]bool // mirrors that gave this flight what cannot be right
	tired      map[origin]bool // mirrors that broke off since the last pause
	lastMirror string          // that answered the last request; "" for none
	blamed     []string        // mirrors that may have caused the last error
	announced  bool            // Config.Started has been told
	era        uint64          // of the archive's absent files when the flight began

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when any field below changes
	readers   map[*reader]struct{}
	lingering *time.Timer
	size      int64 // proto.UnknownSize until somebody says
	written   int64
	begun     bool // a source has answered
	proven    bool // all bytes are here, and right
	err       error
	ended     bool // no reader may join
	modified  time.Time
	tier      proto.Tier
	timer     bool   // a delayed wake-up is under way
	feed      feed   // where the bytes come from
	peer      string // who feeds it, or is being asked
	mirror    string // that feeds it, with feedUpstream
	lent      bool   // other nodes follow, or did: no peer may feed it any more
	peersOnly bool   // nobody who waits wants it from upstream
	hurried   bool   // urgent is closed
}

// newFlight makes the flight of an object. One for another node is fed by upstream
// alone.
func newFlight(f *Fetcher, k key, want proto.Want, forPeer bool) *flight {
	fl := &flight{
		f: f, key: k, want: want, start: time.Now(),
		changed:   make(chan struct{}),
		readers:   make(map[*reader]struct{}),
		silent:    make(map[string]bool),
		liars:     make(map[origin]bool),
		tired:     make(map[origin]bool),
		era:       f.absent.era(want.Where[0].Archive),
		size:      proto.UnknownSize,
		peersOnly: want.PeersOnly,
	}
	if forPeer || f.cfg.Cluster == nil {
		fl.feed, fl.lent = feedUpstream, forPeer
	}
	if want.Class == proto.ClassPrefetch {
		fl.urgent = make(chan struct{})
	}
	if want.Provable() {
		fl.size = want.Ref.Size
		if want.Ref.IsZero() {
			fl.sha512 = sha512.New()
		}
	}
	fl.ctx, fl.cancel = context.WithCancelCause(f.ctx)
	return fl
}

// run is the life of a flight: look again in the store, fetch, prove, keep.
func (fl *flight) run() {
	defer fl.cancel(nil)
	err := fl.fetch()
	if err != nil {
		fl.fail(err)
		return
	}
	fl.keep()
}

// fail ends the flight for its readers.
func (fl *flight) fail(err error) {
	if cause := context.Cause(fl.ctx); cause != nil && !errors.Is(err, errStored) {
		err = cause
		if errors.Is(cause, context.Canceled) {
			err = errClosing
		}
	}
	switch {
	case errors.Is(err, errStored):
	case errors.Is(err, errAbandoned):
		fl.f.metrics.abandoned.Inc()
	case errors.As(err, new(*held)): // nothing was tried
	default:
		fl.f.metrics.failed.WithLabelValues(reasonOf(err)).Inc()
		fl.f.cfg.Logger.Warn("fetch failed", "location", fl.want.Where[0].String(), "ref", fl.want.Ref.String(), "error", err)
	}
	fl.retract()
	fl.rememberAbsence(err)
	// Out of the table first: whoever saw the failure may start afresh.
	fl.f.drop(fl)
	fl.mu.Lock()
	fl.err, fl.ended = err, true
	fl.wakeLocked()
	fl.mu.Unlock()
	fl.body.abort() // after err is set: a reader that finds no file says why
}

// keep makes a proven body durable. The readers have had their last byte by
// then: they need not wait for the disk.
func (fl *flight) keep() {
	ref, err := fl.body.commit(fl.modifiedNow())
	switch {
	case err == nil:
		if fl.want.Ref.IsZero() {
			fl.f.learned.set(fl.key, learned{
				ref: ref, modified: fl.validity.Modified, etag: fl.validity.ETag, from: fl.validity.From, checked: time.Now(),
			})
		}
	case errors.Is(err, proto.ErrNoSpace):
		fl.f.metrics.unkept.Inc()
		fl.retract()
	default:
		fl.f.metrics.unkept.Inc()
		fl.retract()
		fl.f.cfg.Logger.Error("a fetched object could not be kept; it will be fetched again",
			"location", fl.want.Where[0].String(), "ref", fl.want.Ref.String(), "error", err)
	}
	if !fl.want.Provable() {
		fl.f.metrics.unlisted.Inc()
	}
	fl.f.drop(fl)
	fl.mu.Lock()
	fl.ended = true
	fl.mu.Unlock()
}

// fetch brings the whole body in and proves it.
func (fl *flight) fetch() error {
	if err := fl.lookAgain(); err != nil {
		return err
	}
	fl.body.open(fl)
	if fl.f.cfg.Cluster != nil && !fl.isLent() {
		return fl.search()
	}
	if fl.isPeersOnly() {
		return errNoNode
	}
	fl.announce()
	return fl.fetchUpstream()
}

// fetchUpstream takes the body, or what is missing of it, from upstream: from
// whichever place and mirror, and in as many transfers as it takes.
func (fl *flight) fetchUpstream() error {
	place := 0
	var hopeful error // of a place before this one, if that has such an object
	for {
		loc := fl.want.Where[place]
		err := fl.try(loc)
		switch {
		case err == nil:
			return nil
		case fl.ctx.Err() != nil, errors.Is(err, errStored), errors.Is(err, errAnew), errors.As(err, new(*ended)):
			return err
		case fl.otherMirror(loc, err):
		case fl.nextPlace(&place, err):
			if hopeful == nil && !errors.Is(err, proto.ErrNotFound) {
				hopeful = err
			}
		case fl.mayResume(loc, err):
		case hopeful != nil && errors.Is(err, proto.ErrNotFound):
			return hopeful // "not found" would be final for a client
		default:
			return err
		}
	}
}

// try makes one transfer from one place, within the budget of that place, and
// proves the body if it is complete.
func (fl *flight) try(loc proto.Location) error {
	fl.blamed, fl.lastMirror = nil, ""
	k := attempt{fl.key, loc}
	if err := fl.f.budget.allow(k, time.Now()); err != nil {
		return err
	}
	err := fl.transfer(loc)
	if err == nil {
		if err = fl.prove(); err != nil {
			err = fl.accuse(err)
		}
	}
	switch {
	case err == nil:
		fl.f.budget.succeeded(k)
	case fl.ctx.Err() != nil, errors.Is(err, errStored), errors.Is(err, errAnew), errors.As(err, new(*ended)):
		// Nothing that this place could be blamed for.
	default:
		fl.f.budget.failed(k, err, time.Now(), fl.blamed...)
	}
	return err
}

// lookAgain asks the store once more: between the miss and the start of this
// flight, another one may have committed the object.
func (fl *flight) lookAgain() error {
	if blob, err := fl.f.stored(&fl.want); err == nil {
		blob.Close()
		return errStored
	}
	if !fl.want.Provable() {
		if l, ok := fl.f.learned.get(fl.key); ok {
			if blob, err := fl.f.cfg.Store.Get(l.ref.Digest); err == nil {
				blob.Close()
				fl.known = l
			}
		}
	}
	return nil
}

// nextPlace moves on to the next name of the object if err says that this one
// does not lead to it and no reader has had a byte yet.
func (fl *flight) nextPlace(place *int, err error) bool {
	if *place+1 >= len(fl.want.Where) {
		return false
	}
	var refused *proto.Refused
	wrongPlace := errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrCorrupt) || errors.As(err, &refused)
	if !wrongPlace || !fl.startOver() {
		return false
	}
	*place++
	fl.barren = 0
	clear(fl.tired)
	return true
}

// startOver forgets what has arrived, if no reader can have seen any of it.
func (fl *flight) startOver() bool {
	fl.mu.Lock()
	fresh := fl.visibleLocked() == 0
	if fresh {
		fl.written, fl.modified = 0, time.Time{}
		if fl.want.Provable() {
			fl.size = fl.want.Ref.Size
		} else {
			fl.size = proto.UnknownSize
		}
	}
	fl.mu.Unlock()
	if !fresh {
		return false
	}
	fl.body.abort()
	fl.body.open(fl)
	fl.wakeLast, fl.ifRange, fl.gave, fl.sizeFrom, fl.tainted = 0, "", nil, origin{}, false
	if fl.sha512 != nil {
		fl.sha512.Reset()
	}
	return true
}

// mayResume decides after a broken transfer whether to go on: at once after one
// that brought something or where another mirror is at hand, after a pause where
// nothing is.
func (fl *flight) mayResume(loc proto.Location, err error) bool {
	var busy *proto.Unavailable
	if !errors.As(err, &busy) {
		return false
	}
	bound := !fl.resumable() && fl.ifRange != "" // to the mirror that gave the beginning
	if !fl.resumable() && !bound && (fl.barren >= maxBarren || !fl.startOver()) {
		return false
	}
	if !bound && busy.RetryAfter == 0 && fl.turnToMirror(loc) {
		fl.barren = max(fl.barren-1, 0)
		if fl.body.written > 0 {
			fl.f.metrics.resumed.Inc()
		}
		return true
	}
	if fl.barren >= maxBarren {
		return false
	}
	clear(fl.tired)
	wait := time.Duration(0)
	if fl.barren > 0 {
		wait = 250 * time.Millisecond << fl.barren
	}
	if busy.RetryAfter > 0 {
		// Before the first byte the client can wait as well as we can, and
		// keeps its own place in the queue; later only we can.
		if fl.body.written == 0 {
			return false
		}
		wait = min(busy.RetryAfter, 5*time.Second)
	}
	if fl.body.written > 0 {
		fl.f.metrics.resumed.Inc()
	}
	select {
	case <-time.After(wait):
		return true
	case <-fl.ctx.Done():
		return false
	}
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

// wakeLocked tells everybody who waits that something changed. mu is held.
func (fl *flight) wakeLocked() {
	close(fl.changed)
	fl.changed = make(chan struct{})
}

// visibleLocked is how many bytes readers may have: all when proven, all but the
// last before that, and nothing of a small body. mu is held.
func (fl *flight) visibleLocked() int64 {
	switch {
	case fl.proven:
		return fl.size
	case fl.size != proto.UnknownSize && fl.size <= fl.f.cfg.HoldSmall && fl.want.Provable():
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

func (fl *flight) describe() Flight {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return Flight{
		Loc: fl.want.Where[0], Ref: proto.Ref{Digest: fl.want.Ref.Digest, Size: fl.size},
		Written: fl.written, Readers: len(fl.readers), Tier: fl.tier, Started: fl.start,
		Source: fl.sourceLocked(), Mirror: fl.mirror,
	}
}
