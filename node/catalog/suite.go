package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/aptmesh/aptmesh/proto"
)

// suite is one directory with a Release: what is believed of it now, and the
// watching of upstream that keeps the belief fresh.
type suite struct {
	c      *Catalog
	id     proto.Suite
	roots  map[string][]proto.Location // of the three root names, made once
	log    *slog.Logger
	ctx    context.Context // ends when the archive is removed or the catalog closes
	cancel context.CancelFunc

	conf    atomic.Pointer[Archive] // as configured now
	asked   atomic.Int64            // Unix seconds of the last request for a root
	pairUse use                     // of Release and Release.gpg

	// Unix nanoseconds of the last look at upstream, whatever came of it: of any, of
	// those that saw what upstream had at that moment, and of this node's own. The
	// first two count questions to the node that leads.
	lastTry, lastFresh, lastOwn atomic.Int64
	// Unix nanoseconds of when upstream was last known to have nothing newer than
	// what is held, whoever looked; and of the last such look of another node that
	// this process has heard of.
	lastGood, lastHeard atomic.Int64
	// askedByOthers is asked of the clients of nodes that have asked this one, lastAsk
	// when this one last asked the node that leads, in Unix nanoseconds, lastTold when
	// it last told all.
	askedByOthers, lastAsk, lastTold atomic.Int64
	newUses                          atomic.Bool  // clients use what the node that leads has not been told of
	takenBack                        atomic.Int64 // Date, in Unix seconds, of the Release an operator went back from; 0 for none

	// loading is closed when the superseded generations of the last run have been
	// read back; nil where there are none.
	loading chan struct{}

	// following is held by whoever goes after what other nodes tell.
	following turn
	// adopting is held by whoever adopts a generation, from the comparison with what
	// is held to the flip.
	adopting turn
	// writing is held by whoever changes current and retained, over the writing
	// of the state file; the file is thus never older than what requests see.
	writing sync.Mutex
	saved   time.Time   // when the file was last written; guarded by writing
	unread  []genRecord // superseded generations of the last run, until loading is closed; guarded by writing

	// guarded by Catalog.mu; current and retained also change under writing only
	current  *generation
	retained []*generation         // newest first
	uses     map[string]*use       // by clients of this node, by member path
	others   map[string]*othersUse // by clients of other nodes

	pairing singleflight.Group // one fetch of Release and Release.gpg at a time

	failed chan struct{} // tells the watcher that a check has failed

	mu       sync.Mutex
	running  *check    // the check under way, or nil; guarded by mu
	last     *check    // the one before; guarded by mu
	watching bool      // guarded by mu
	failure  error     // of the last check; guarded by mu
	failures int       // in a row; guarded by mu
	changed  time.Time // of the last flip; guarded by mu
	source   string    // the node that brought the generation held; "" for upstream; guarded by mu
	alarmed  proto.Ref // the root that an alarm has been given for; guarded by mu
	copies             // guarded by mu
	rumours            // guarded by mu

	// guarded by adopting
	missing map[string]time.Time // optional files that could not be had, and since when
	forked  proto.Ref            // the other side of a fork that has been told of
	pinned  bool                 // there are pins for staging
	// flipTold is closed when Config.Flipped has been told of the last flip.
	flipTold chan struct{}

	// owned by the watcher
	vigil vigil
}

func newSuite(c *Catalog, id proto.Suite, a Archive) *suite {
	s := &suite{
		c:         c,
		id:        id,
		log:       c.cfg.Logger.With("suite", id.String()),
		uses:      make(map[string]*use),
		others:    make(map[string]*othersUse),
		missing:   make(map[string]time.Time),
		following: make(turn, 1),
		adopting:  make(turn, 1),
		failed:    make(chan struct{}, 1),
	}
	s.roots = make(map[string][]proto.Location, 3)
	for _, name := range []string{"InRelease", "Release", "Release.gpg"} {
		s.roots[name] = []proto.Location{id.At(name)}
	}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	s.conf.Store(&a)
	return s
}

// turn is held by one at a time, for long: whoever waits for it gives up when a context
// ends.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try takes it if nobody holds it.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t turn) give() { <-t }

// leave ends a suite whose archive is not configured any more.
func (s *suite) leave() {
	s.cancel()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.c.cfg.Keeper.Pin(s.id.String(), nil)
	s.c.cfg.Keeper.Pin(s.stagingOwner(), nil)
}

// interval is the configured time between two checks.
func (s *suite) interval() time.Duration { return s.conf.Load().CheckEvery }

// fresh reports whether the current generation may be given out without asking
// upstream first: the watcher, or another node's, has looked not long ago, whatever
// came of it.
func (s *suite) fresh(now time.Time) bool {
	return now.UnixNano()-max(s.lastTry.Load(), s.lastHeard.Load()) < int64(2*s.interval()+5*time.Second)
}

// noteAsked remembers when a client last wanted this suite.
func (s *suite) noteAsked(now time.Time) {
	if s.asked.Load() != now.Unix() { // spares the cache line under load
		s.asked.Store(now.Unix())
	}
}

// ask notes that somebody wants this suite, and starts the watcher if it sleeps.
func (s *suite) ask(now time.Time) {
	s.noteAsked(now)
	s.wake()
}

// wake starts the watcher if it sleeps.
func (s *suite) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watching || s.ctx.Err() != nil || !s.c.spawn(s.watch) {
		return
	}
	s.watching = true
}

// held returns the current generation, or nil.
func (s *suite) held() *generation {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.current
}

// sentence is the first line of a client's answer when nothing can be given.
func (s *suite) sentence() error {
	s.mu.Lock()
	err := s.failure
	s.mu.Unlock()
	switch {
	case s.offline():
		return s.errOffline()
	case err == nil:
		return &proto.Unavailable{Reason: fmt.Sprintf("%s has not been read from upstream yet", s.id)}
	}
	return err
}

// refuse is a Release that must not be adopted, and why.
type refuse struct {
	kind string // for the metric
	err  error
}

func (r *refuse) Error() string { return r.err.Error() }
func (r *refuse) Unwrap() error { return r.err }

// Is lets the door tell the client that upstream's content is at fault.
func (r *refuse) Is(target error) bool { return target == proto.ErrCorrupt }

func refused(kind, format string, args ...any) error {
	return &refuse{kind, fmt.Errorf(format, args...)}
}
