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
	// watchEvery is how often the scheduler looks for holders that do not use their slots, while
	// requests wait.
	watchEvery = 100 * time.Millisecond
)

// scheduler grants the slots of one host: to urgent classes first, to clients of one class in
// rotation. It takes slots from stalled holders if requests wait.
//
// A class leaves slots to more urgent classes (reserved): of 8 slots, all classes except metadata
// hold at most 7 together, unlisted names and prefetch at most 6. So a root never waits behind big
// downloads, nor a listed package behind invented names, nor a client behind prefetches. One or two
// slots are too few for reservations; there a holder is preempted, see below. A request for an
// unlisted name that has waited for waitedLong goes before packages, one at a time.
//
// At most maxWaiting requests of a class wait. A request beyond that is rejected at once, or in its
// place the last request of the client with the most waiting requests.
//
// # Preemption of stalled holders
//
// A holder that makes no progress loses its slot when another request waits for it, so that stalled
// transfers cannot block a host for healthy transfers. Patience is how long a holder may make no
// progress:
//
//   - in a body, a fifth of the stall timeout (1 s by default). The bytes are not lost, because the rest
//     is requested with Range. A mistake costs one request;
//   - before the header, a quarter of the header timeout (2 s by default), because a mistake here costs
//     all the work done. Requests to a host that is slow for everybody must not be killed forever.
//     Patience is therefore at least twice the slowest recent answer, and a wait that we cut short
//     counts as such an answer;
//   - a caller that does not read its body loses its slot after the whole stall timeout.
//
// The holder furthest beyond its patience is preempted first. Prefetch takes slots only from
// prefetch. No holder is preempted while no request waits: then the stall and header timeouts
// decide.
//
// # Preemption for a more urgent class
//
// A class may hold no slot because less urgent holders have them all. One of these holders is then
// preempted at once, stalled or not. Examples: the only slot belongs to a big download; the slot
// that packages and prefetch share belongs to a prefetch; the limit was lowered and all holders are
// downloads. The slot changes its holder, so the number of used slots does not grow, even above a
// lowered limit. The preempted transfer is resumed with Range, as above.
//
// The newest transfer of a client with several slots is preempted, too, for a request of the same
// class of a client without a slot, but only after a second of its body.
//
// Preempted transfers must still make progress: if a holder was preempted within the last
// preemptEvery, the next holder first receives its body for minBodyTime, whatever number of
// metadata requests wait.
type scheduler struct {
	mu            sync.Mutex
	limit         int // guarded by mu, as all below
	rules         patience
	active        map[*slot]struct{}
	queues        [classes]waitQueue
	name          string // of the host
	ticking       bool   // a check of the holders is scheduled
	slowest       time.Duration
	lastPreempted time.Time // when a holder last had to be preempted for a more urgent class
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

// reserved is how many slots a class leaves to the more urgent ones, where there are enough.
var reserved = [classes]int{proto.ClassPackage: 1, proto.ClassUnlisted: 2, proto.ClassPrefetch: 2}

// maxWaiting is how many requests of a class may wait. Each is a connection of a client, a
// goroutine and a file.
var maxWaiting = [classes]int{proto.ClassMetadata: 1024, proto.ClassPackage: 1024, proto.ClassUnlisted: 256, proto.ClassPrefetch: 1024}

const (
	// fullRetry is the Retry-After of a request that is turned away.
	fullRetry = 5 * time.Second
	// waitedLong is when a request for an unlisted name has waited long enough to go before
	// packages.
	waitedLong = 10 * time.Second
	// recheckEvery is how often a request that waits looks for another mirror that has room.
	recheckEvery = 200 * time.Millisecond
)

// errOtherMirrorFree is the error of a request that does not wait any longer: another mirror has
// room for it.
var errOtherMirrorFree = errors.New("another mirror has room")

type waiter struct {
	slot  *slot
	since time.Time
	ready chan struct{} // closed when the slot is granted, or err is set
	err   error         // why there is no slot; guarded by scheduler.mu, as all below
	left  bool          // nobody waits any more
	queue *clientQueue  // both nil where it is in no queue
	at    *list.Element
}

func newScheduler(name string, limit int, rules patience) *scheduler {
	return &scheduler{name: name, limit: limit, rules: rules, active: make(map[*slot]struct{})}
}

// configure changes the limits, and reports whether there are fewer slots now. A holder
// keeps its slot.
func (g *scheduler) configure(limit int, rules patience) (fewer bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fewer = limit < g.limit
	g.limit, g.rules = limit, rules
	g.dispatch()
	return fewer
}

// slotRequest is what a slot is wanted for.
type slotRequest struct {
	class  proto.Class
	client string // "" where it is not known
	// urgent is closed when a client begins to wait for what none waited for.
	urgent <-chan struct{}
	// otherMirrorFree reports whether the request need not wait here any longer; nil: it must.
	otherMirrorFree func() bool
}

// acquire waits for a slot. cancel is called if the slot is taken away again; its cause is the error
// for the caller. The error is that of ctx, errOtherMirrorFree, or a *proto.Unavailable if too many
// requests wait.
func (g *scheduler) acquire(ctx context.Context, r slotRequest, cancel context.CancelCauseFunc) (*slot, error) {
	w := &waiter{
		slot:  &slot{class: min(r.class, proto.ClassPrefetch), client: r.client, cancel: cancel},
		since: time.Now(), ready: make(chan struct{}),
	}
	w.slot.waiter = w
	g.mu.Lock()
	g.enqueue(w)
	g.dispatch()
	g.mu.Unlock()
	g.preempt()

	var again <-chan time.Time
	if r.otherMirrorFree != nil {
		ticker := time.NewTicker(recheckEvery)
		defer ticker.Stop()
		again = ticker.C
	}
	for {
		select {
		case <-w.ready:
			return w.slot, w.err
		case <-r.urgent:
			r.urgent = nil
			g.raise(w.slot)
		case <-again:
			if !r.otherMirrorFree() {
				continue
			}
			if g.forget(w) {
				return nil, errOtherMirrorFree
			}
			again = nil // the slot is here, or on its way
		case <-ctx.Done():
			g.abandon(w)
			return nil, context.Cause(ctx)
		}
	}
}

// enqueue lets a request wait, or rejects this request or another one. The caller holds mu.
func (g *scheduler) enqueue(w *waiter) {
	q := &g.queues[w.slot.class]
	if q.n >= maxWaiting[w.slot.class] {
		out := q.longest(w.slot.client)
		if out == nil {
			g.reject(w, q.n)
			return
		}
		q.remove(out)
		g.reject(out, q.n+1)
	}
	q.push(w)
}

// reject ends the wait of a request that is in no queue. The caller holds mu.
func (g *scheduler) reject(w *waiter, waiting int) {
	w.err = &proto.Unavailable{
		Reason: fmt.Sprintf("%d requests (%s) wait for the %d connections to %s already; more connections may be allowed by upstream_client.connections_per_host",
			waiting, w.slot.class, g.limit, g.name),
		RetryAfter: fullRetry, Answered: true,
	}
	close(w.ready)
}

// raise makes a waiting request, or a holder, one of the class of listed packages, if it was a
// prefetch or an unlisted name.
func (g *scheduler) raise(p *slot) {
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
	g.preempt()
}

// forget withdraws a waiter that has no slot yet, and reports whether that was so.
func (g *scheduler) forget(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queues[w.slot.class].remove(w)
}

// abandon withdraws a waiter, also one that has just been given its slot.
func (g *scheduler) abandon(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queues[w.slot.class].remove(w)
	w.left = true
	select {
	case <-w.ready:
		if _, ok := g.active[w.slot]; ok {
			delete(g.active, w.slot)
			g.dispatch()
		}
	default: // not granted yet, or being granted: hand gives it back
	}
}

// release gives a slot back. It may be called again, and after the slot was
// taken away.
func (g *scheduler) release(p *slot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.active[p]; ok {
		delete(g.active, p)
		g.dispatch()
	}
}

// answered notes how long the host took to send a header.
func (g *scheduler) answered(after time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slowest = max(after, g.slowest*7/8)
}

// dispatch hands out what is free, most urgent first. The caller holds mu.
func (g *scheduler) dispatch() {
	if g.starved() && g.admits(proto.ClassUnlisted, nil) {
		close(g.grant(proto.ClassUnlisted).ready)
	}
	for class := range g.queues {
		for g.queues[class].n > 0 && g.admits(proto.Class(class), nil) {
			close(g.grant(proto.Class(class)).ready)
		}
	}
	if !g.ticking && g.waiting() > 0 {
		g.ticking = true
		time.AfterFunc(watchEvery, g.tick)
	}
}

// starved reports whether a request for an unlisted name has waited long while none is served. The
// caller holds mu.
func (g *scheduler) starved() bool {
	w := g.queues[proto.ClassUnlisted].first()
	if w == nil || time.Since(w.since) < waitedLong {
		return false
	}
	for p := range g.active {
		if p.class == proto.ClassUnlisted {
			return false
		}
	}
	return true
}

// grant makes the first waiter of a class a holder. The caller holds mu, and closes
// ready when the slot is free.
func (g *scheduler) grant(class proto.Class) *waiter {
	w := g.queues[class].serve()
	w.slot.begin()
	g.active[w.slot] = struct{}{}
	return w
}

// admits reports whether a request of this class may have a slot, were the
// holder without gone. The caller holds mu.
func (g *scheduler) admits(class proto.Class, without *slot) bool {
	var atLeast [classes]int // holders of this class or a less urgent one
	for p := range g.active {
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

// most is how many slots a class and the less urgent ones may hold. The caller holds mu.
func (g *scheduler) most(class proto.Class) int { return max(1, g.limit-reserved[class]) }

// load returns how many requests of a class wait for each slot; 0 where one would have a slot at
// once.
func (g *scheduler) load(class proto.Class) float64 {
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

// free reports whether a request of this class would have a slot at once.
func (g *scheduler) free(class proto.Class) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admits(min(class, proto.ClassPrefetch), nil)
}

// waiting returns how many wait. The caller holds mu.
func (g *scheduler) waiting() int {
	n := 0
	for i := range g.queues {
		n += g.queues[i].n
	}
	return n
}

// oversubscribed reports whether more slots are held than there are, since the limit was
// lowered.
func (g *scheduler) oversubscribed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.active) > g.limit
}

// count returns the holders, those of them that are beyond their patience, and
// the waiters.
func (g *scheduler) count() (limit, held, stalled, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.active {
		if _, late := g.overdue(p); late {
			stalled++
		}
	}
	return g.limit, len(g.active), stalled, g.waiting()
}
