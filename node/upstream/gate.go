package upstream

import (
	"container/list"
	"context"
	"errors"
	"fmt"
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

// gate hands out the places of one host: urgent classes first, each client in turn
// within a class, and from stalled holders to those who wait.
//
// A class leaves places to the more urgent ones (spared): of 8, all but metadata
// holds at most 7 together, unlisted names and prefetch at most 6. So a root
// never stands behind a row of big downloads, nor a listed package behind names
// that somebody made up, nor a client behind a row of prefetches. One or two
// places are too few for that; there a holder makes way, see below. A request for
// an unlisted name that has waited long goes before packages, one at a time.
//
// At most maxWaiting requests of a class wait. The one that would be beyond that is
// turned away at once, or the last one of a client that has more of them waiting.
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
// So does the newest of a client that holds several places, for a request of the
// same class of a client that holds none, but only after a second of its body.
//
// What makes way must get on nevertheless: while holders were made to make way lately
// (wayEvery), the next one has a second of its body first (wayTurn), however many
// metadata requests follow each other.
type gate struct {
	mu      sync.Mutex
	limit   int // guarded by mu, as all below
	rules   patience
	held    map[*place]struct{}
	queues  [classes]waitQueue
	name    string // of the host
	ticking bool   // a look at the holders is due
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

// spared is how many places a class leaves to the more urgent ones, where there are enough.
var spared = [classes]int{proto.ClassPackage: 1, proto.ClassUnlisted: 2, proto.ClassPrefetch: 2}

// maxWaiting is how many requests of a class may wait. Each is a connection of a client, a goroutine and
// a file.
var maxWaiting = [classes]int{proto.ClassMetadata: 1024, proto.ClassPackage: 1024, proto.ClassUnlisted: 256, proto.ClassPrefetch: 1024}

const (
	// fullRetry is how long the client of a request that is turned away is told to wait.
	fullRetry = 5 * time.Second
	// waitedLong is when a request for an unlisted name has waited long enough to go before packages.
	waitedLong = 10 * time.Second
	// lookAgain is how often a request that waits looks for another mirror that has room.
	lookAgain = 200 * time.Millisecond
)

// errElsewhere is the error of a request that does not wait any longer: another mirror has room for it.
var errElsewhere = errors.New("another mirror has room")

type waiter struct {
	place *place
	since time.Time
	ready chan struct{} // closed when the place is had, or err is set
	err   error         // why there is no place; guarded by gate.mu, as all below
	left  bool          // nobody waits any more
	line  *line         // both nil where it is in no queue
	at    *list.Element
}

func newGate(name string, limit int, rules patience) *gate {
	return &gate{name: name, limit: limit, rules: rules, held: make(map[*place]struct{})}
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

// request is what a place is wanted for.
type request struct {
	class  proto.Class
	client string // "" where it is not known
	// urgent is closed when a client begins to wait for what none waited for.
	urgent <-chan struct{}
	// elsewhere reports whether the request need not wait here any longer; nil: it must.
	elsewhere func() bool
}

// acquire waits for a place. cancel is called if the place is taken away again; its cause is what to
// tell the caller. The error is that of ctx, errElsewhere, or a *proto.Unavailable where too many wait.
func (g *gate) acquire(ctx context.Context, r request, cancel context.CancelCauseFunc) (*place, error) {
	w := &waiter{
		place: &place{class: min(r.class, proto.ClassPrefetch), client: r.client, cancel: cancel},
		since: time.Now(), ready: make(chan struct{}),
	}
	w.place.waiter = w
	g.mu.Lock()
	g.enqueue(w)
	g.dispatch()
	g.mu.Unlock()
	g.makeWay()

	var again <-chan time.Time
	if r.elsewhere != nil {
		ticker := time.NewTicker(lookAgain)
		defer ticker.Stop()
		again = ticker.C
	}
	for {
		select {
		case <-w.ready:
			return w.place, w.err
		case <-r.urgent:
			r.urgent = nil
			g.raise(w.place)
		case <-again:
			if !r.elsewhere() {
				continue
			}
			if g.forget(w) {
				return nil, errElsewhere
			}
			again = nil // the place is here, or on its way
		case <-ctx.Done():
			g.abandon(w)
			return nil, context.Cause(ctx)
		}
	}
}

// enqueue lets a request wait, or turns it or another one away. The caller holds mu.
func (g *gate) enqueue(w *waiter) {
	q := &g.queues[w.place.class]
	if q.n >= maxWaiting[w.place.class] {
		out := q.longest(w.place.client)
		if out == nil {
			g.turnAway(w, q.n)
			return
		}
		q.remove(out)
		g.turnAway(out, q.n+1)
	}
	q.push(w)
}

// turnAway ends the wait of a request that is in no queue. The caller holds mu.
func (g *gate) turnAway(w *waiter, waiting int) {
	w.err = &proto.Unavailable{
		Reason: fmt.Sprintf("%d requests (%s) wait for the %d connections to %s already; more connections may be allowed by upstream_client.connections_per_host",
			waiting, w.place.class, g.limit, g.name),
		RetryAfter: fullRetry, Answered: true,
	}
	close(w.ready)
}

// raise makes a place that is waited for, or held, for what nobody waited for or nothing listed one of
// a package.
func (g *gate) raise(p *place) {
	g.mu.Lock()
	if p.class > proto.ClassPackage {
		waits := g.queues[p.class].remove(p.waiter)
		p.class = proto.ClassPackage
		if waits {
			g.enqueue(p.waiter)
		}
		g.dispatch()
	}
	g.mu.Unlock()
	g.makeWay()
}

// forget withdraws a waiter that has no place yet, and reports whether that was so.
func (g *gate) forget(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queues[w.place.class].remove(w)
}

// abandon withdraws a waiter, also one that has just been given its place.
func (g *gate) abandon(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queues[w.place.class].remove(w)
	w.left = true
	select {
	case <-w.ready:
		if _, ok := g.held[w.place]; ok {
			delete(g.held, w.place)
			g.dispatch()
		}
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
	if g.overlooked() && g.admits(proto.ClassUnlisted, nil) {
		close(g.seat(proto.ClassUnlisted).ready)
	}
	for class := range g.queues {
		for g.queues[class].n > 0 && g.admits(proto.Class(class), nil) {
			close(g.seat(proto.Class(class)).ready)
		}
	}
	if !g.ticking && g.waiting() > 0 {
		g.ticking = true
		time.AfterFunc(watchEvery, g.tick)
	}
}

// overlooked reports whether a request for an unlisted name has waited long while none is served. The
// caller holds mu.
func (g *gate) overlooked() bool {
	w := g.queues[proto.ClassUnlisted].first()
	if w == nil || time.Since(w.since) < waitedLong {
		return false
	}
	for p := range g.held {
		if p.class == proto.ClassUnlisted {
			return false
		}
	}
	return true
}

// seat makes the first waiter of a class a holder. The caller holds mu, and closes
// ready when the place is free.
func (g *gate) seat(class proto.Class) *waiter {
	w := g.queues[class].serve()
	w.place.begin()
	g.held[w.place] = struct{}{}
	return w
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
		if atLeast[c] >= g.most(proto.Class(c)) {
			return false
		}
	}
	return true
}

// most is how many places a class and the less urgent ones may hold. The caller holds mu.
func (g *gate) most(class proto.Class) int { return max(1, g.limit-spared[class]) }

// load returns how many requests of a class wait for each place; 0 where one would have a place at once.
func (g *gate) load(class proto.Class) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	class = min(class, proto.ClassPrefetch)
	if g.admits(class, nil) {
		return 0
	}
	ahead := 1
	for c := range int(class) + 1 {
		ahead += g.queues[c].n
	}
	return float64(ahead) / float64(max(1, g.limit))
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
	for i := range g.queues {
		n += g.queues[i].n
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
