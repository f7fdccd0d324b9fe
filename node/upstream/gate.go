package upstream

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	classes = int(proto.ClassPrefetch) + 1
	// watchEvery is how often, while somebody waits, the gate looks for holders
	// that do not use their places.
	watchEvery = 100 * time.Millisecond
)

// gate hands out the places of one host: urgent classes first, first come first
// served within a class, and from stalled holders to those who wait.
//
// Each class leaves one place to every more urgent class: of 8, packages and
// prefetch together hold at most 7, prefetch at most 6. So an InRelease never
// stands behind a row of big downloads, nor a client behind a row of prefetches.
// One or two places are too few for that; there a holder makes way, see below.
//
// # Pre-emption of the stalled
//
// A holder that makes no progress loses its place when somebody waits for it, so
// that stalled transfers cannot use up a host for healthy ones. Patience says how
// long no progress may last:
//
//   - in a body, a fifth of the stall timeout (1 s by default). The bytes are not
//     lost, the rest is asked for again with Range, so a mistake costs a request;
//   - before the header, a quarter of the header timeout (2 s by default), since a
//     mistake here costs all that was done. A host that is slow to everybody must
//     not have its requests killed one by one for ever: patience is therefore at
//     least twice the slowest recent answer, and a wait that we cut short counts
//     as such an answer;
//   - a caller that does not read its body loses its place after the whole stall
//     timeout.
//
// Of several, the one furthest beyond its patience goes. Prefetch takes places
// from prefetch only. Nobody is pre-empted while nobody waits: then the stall and
// header timeouts alone decide.
//
// # Making way
//
// Where only less urgent holders keep a class out, and it holds no place itself,
// one of them makes way at once, stalled or not: the only place of one is a big
// download's, the one of two that packages and prefetch share is a prefetch's, or
// the limit has been lowered and all that run are downloads. The place changes
// hands, so that no more are held than before, even above a lowered limit. What
// made way goes on with Range, as above.
//
// It must get on nevertheless: while holders were made to make way lately
// (wayEvery), the next one has a second of its body first (wayTurn), however many
// metadata requests follow each other.
type gate struct {
	mu      sync.Mutex
	limit   int // guarded by mu, as all below
	rules   patience
	held    map[*place]struct{}
	queues  [classes][]*waiter
	ticking bool // a look at the holders is due
	slowest time.Duration
	madeWay time.Time // when a holder last had to make way for a more urgent class
}

// patience is how long a holder may go without progress when others wait.
type patience struct {
	header, headerMax time.Duration
	body              time.Duration
	rest              time.Duration
}

func patienceOf(cfg Config) patience {
	return patience{
		header:    cfg.HeaderTimeout / 4,
		headerMax: cfg.HeaderTimeout,
		body:      cfg.StallTimeout / 5,
		rest:      cfg.StallTimeout,
	}
}

type waiter struct {
	place *place
	ready chan struct{} // closed when the place is had
	left  bool          // nobody waits any more; guarded by gate.mu
}

func newGate(limit int, rules patience) *gate {
	return &gate{limit: limit, rules: rules, held: make(map[*place]struct{})}
}

// configure changes the limits, and tells whether there are fewer places now; who
// holds one keeps it.
func (g *gate) configure(limit int, rules patience) (fewer bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fewer = limit < g.limit
	g.limit, g.rules = limit, rules
	g.dispatch()
	return fewer
}

// acquire waits for a place. cancel is called if the place is taken away again;
// its cause is what to tell the caller. The error is that of ctx.
func (g *gate) acquire(ctx context.Context, class proto.Class, cancel context.CancelCauseFunc) (*place, error) {
	return g.acquireFor(ctx, class, nil, cancel)
}

// acquireFor is acquire for what becomes a package's request when urgent is closed,
// if it was less.
func (g *gate) acquireFor(ctx context.Context, class proto.Class, urgent <-chan struct{}, cancel context.CancelCauseFunc) (*place, error) {
	class = min(class, proto.ClassPrefetch)
	w := &waiter{place: &place{class: class, cancel: cancel}, ready: make(chan struct{})}
	g.mu.Lock()
	g.queues[class] = append(g.queues[class], w)
	g.dispatch()
	g.mu.Unlock()
	g.makeWay()

	for {
		select {
		case <-w.ready:
			return w.place, nil
		case <-urgent:
			urgent = nil
			g.raise(w.place)
		case <-ctx.Done():
			g.forget(w)
			return nil, context.Cause(ctx)
		}
	}
}

// raise makes a place that is waited for, or held, for what nobody waited for one of
// a package.
func (g *gate) raise(p *place) {
	g.mu.Lock()
	if p.class > proto.ClassPackage {
		queue := g.queues[p.class]
		i := slices.IndexFunc(queue, func(w *waiter) bool { return w.place == p })
		if i >= 0 {
			w := queue[i]
			g.queues[p.class] = slices.Delete(queue, i, i+1)
			g.queues[proto.ClassPackage] = append(g.queues[proto.ClassPackage], w)
		}
		p.class = proto.ClassPackage
		g.dispatch()
	}
	g.mu.Unlock()
	g.makeWay()
}

// forget withdraws a waiter, also one that has just been given its place.
func (g *gate) forget(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	queue := &g.queues[w.place.class]
	if i := slices.Index(*queue, w); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
	}
	w.left = true
	select {
	case <-w.ready:
		delete(g.held, w.place)
		g.dispatch()
	default: // not had yet, or on its way: hand gives it back
	}
}

// release gives a place back. It may be called again, and after the place was
// taken away.
func (g *gate) release(p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.held[p]; ok {
		delete(g.held, p)
		g.dispatch()
	}
}

// answered notes how long the host took to send a header.
func (g *gate) answered(after time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slowest = max(after, g.slowest*7/8)
}

// dispatch hands out what is free, most urgent first. The caller holds mu.
func (g *gate) dispatch() {
	for class := range g.queues {
		for len(g.queues[class]) > 0 && g.admits(proto.Class(class), nil) {
			w := g.queues[class][0]
			g.seat(w)
			close(w.ready)
		}
	}
	if !g.ticking && g.waiting() > 0 {
		g.ticking = true
		time.AfterFunc(watchEvery, g.tick)
	}
}

// seat makes the first waiter of a queue a holder. The caller holds mu, and closes
// ready when the place is free.
func (g *gate) seat(w *waiter) {
	queue := &g.queues[w.place.class]
	*queue = slices.Delete(*queue, 0, 1)
	w.place.begin()
	g.held[w.place] = struct{}{}
}

// admits reports whether a request of this class may have a place, were the
// holder without gone. The caller holds mu.
func (g *gate) admits(class proto.Class, without *place) bool {
	var atLeast [classes]int // holders of this class or a less urgent one
	for p := range g.held {
		if p == without {
			continue
		}
		for c := range int(p.class) + 1 {
			atLeast[c]++
		}
	}
	for c := range int(class) + 1 {
		if atLeast[c] >= max(1, g.limit-c) {
			return false
		}
	}
	return true
}

// free reports whether a request of this class would have a place at once.
func (g *gate) free(class proto.Class) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admits(min(class, proto.ClassPrefetch), nil)
}

// waiting returns how many wait. The caller holds mu.
func (g *gate) waiting() int {
	n := 0
	for _, queue := range g.queues {
		n += len(queue)
	}
	return n
}

// crowded reports whether more places are held than there are, since the limit was
// lowered.
func (g *gate) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.held) > g.limit
}

// count returns the holders, those of them that are beyond their patience, and
// the waiters.
func (g *gate) count() (limit, held, stalled, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.held {
		if _, late := g.overdue(p); late {
			stalled++
		}
	}
	return g.limit, len(g.held), stalled, g.waiting()
}
