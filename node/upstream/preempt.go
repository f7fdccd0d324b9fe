package upstream

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// preemptEvery is how long after a preemption the next holder is protected by minBodyTime. A
	// single metadata request is served at once; each further one in a row waits.
	preemptEvery = 5 * time.Second
	// minBodyTime is how long a protected holder receives its body before it can be preempted. It
	// is well over the time after which peerfetch judges that a transfer brought next to nothing.
	minBodyTime = time.Second
)

// tick takes slots from stalled holders as long as that helps a waiting request. A holder
// ends its connection, without mu, before its slot is granted again.
func (g *scheduler) tick() {
	g.preempt()
	for {
		g.mu.Lock()
		victim := g.victim()
		if victim == nil {
			g.ticking = false
			g.dispatch()
			g.mu.Unlock()
			return
		}
		ph, quiet := victim.quiet()
		if ph == connecting || ph == asking {
			g.slowest = max(g.slowest, quiet)
		}
		g.mu.Unlock()

		victim.evict(&stalled{phase: ph, after: quiet, preempted: true})
		g.release(victim)
	}
}

// victim returns the holder that loses its slot to the most urgent waiting request that can be
// helped; nil if there is none. The caller holds mu.
func (g *scheduler) victim() *slot {
	for class := range g.queues {
		if g.queues[class].n == 0 {
			continue
		}
		if p := g.mostStalled(proto.Class(class)); p != nil {
			return p
		}
	}
	return nil
}

// mostStalled returns the holder furthest beyond its patience among those whose
// slot would help a request of this class; nil if there is none.
func (g *scheduler) mostStalled(class proto.Class) *slot {
	var victim *slot
	var worst time.Duration
	for p := range g.active {
		if class == proto.ClassPrefetch && p.class < class {
			continue
		}
		if over, stalled := g.overdue(p); stalled && (victim == nil || over > worst) && g.admits(class, p) {
			victim, worst = p, over
		}
	}
	return victim
}

// overdue reports whether a holder is beyond its patience, and by how much.
func (g *scheduler) overdue(p *slot) (time.Duration, bool) {
	ph, quiet := p.quiet()
	var limit time.Duration
	switch ph {
	case connecting, asking:
		limit = g.untilHeader()
	case reading:
		limit = g.rules.body
	case resting:
		limit = g.rules.rest
	default:
		return 0, false
	}
	return quiet - limit, quiet >= limit
}

// untilHeader is how long a holder may wait for the header of its answer when there is
// something better to do. The caller holds mu.
func (g *scheduler) untilHeader() time.Duration {
	return min(max(g.rules.header, 2*g.slowest), g.rules.headerMax)
}

// patience is untilHeader for a caller that does not hold mu.
func (g *scheduler) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.untilHeader()
}

// preempt takes slots from holders that keep out a more urgent class, and grants each at
// once to the request that waits for it.
func (g *scheduler) preempt() {
	for {
		g.mu.Lock()
		class, victim := g.contention()
		if victim == nil {
			g.mu.Unlock()
			return
		}
		same := victim.class == class
		delete(g.active, victim)
		w := g.grant(class)
		g.lastPreempted = time.Now()
		g.mu.Unlock()

		victim.evict(&preemptedFor{class: class, same: same})
		g.handOver(w)
	}
}

// handOver gives a waiter the slot that it was granted, or takes the slot back if
// the waiter has left meanwhile.
func (g *scheduler) handOver(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(w.ready)
	if w.left {
		delete(g.active, w.slot)
		g.dispatch()
	}
}

// contention returns the most urgent class whose first waiting request is kept out only by
// less urgent holders, or by holders of a client with several slots. It also returns the
// holder to preempt; nil if there is none. The caller holds mu.
func (g *scheduler) contention() (proto.Class, *slot) {
	for i := range g.queues {
		class := proto.Class(i)
		if g.queues[class].n == 0 {
			continue
		}
		if p := g.blocking(class); p != nil {
			return class, p
		}
		if p := g.tooMany(class, g.queues[class].first().slot.client); p != nil {
			return class, p
		}
	}
	return 0, nil
}

// tooMany returns the holder that is to be preempted for a request of a client that holds
// no slot: of the client that holds most of the class, and two at least, the one that
// began last. The caller holds mu.
func (g *scheduler) tooMany(class proto.Class, client string) *slot {
	holds := make(map[string]int)
	for p := range g.active {
		if p.client != "" && p.client == client {
			return nil
		}
		if p.class == class && p.client != "" {
			holds[p.client]++
		}
	}
	var victim *slot
	for p := range g.active {
		n := holds[p.client]
		if p.class != class || n < 2 || p.receiving() < minBodyTime {
			continue // what is short ends sooner than it would be asked for again
		}
		if victim == nil || n > holds[victim.client] || n == holds[victim.client] && p.begun().After(victim.begun()) {
			victim = p
		}
	}
	if victim != nil && g.admits(class, victim) {
		return victim
	}
	return nil
}

// blocking returns the holder that is to be preempted for a class that waits: the least
// urgent, and of those the one that began last. nil if the class holds a slot, if
// it would have one without more urgent holders, or if those in the way are to have
// their turn first. The caller holds mu.
func (g *scheduler) blocking(class proto.Class) *slot {
	var victim *slot
	below := 0
	for p := range g.active {
		switch {
		case p.class == class:
			return nil
		case p.class < class:
			continue
		}
		below++
		if !g.hadBodyTime(p) {
			continue
		}
		if victim == nil || p.class > victim.class || p.class == victim.class && p.begun().After(victim.begun()) {
			victim = p
		}
	}
	if below < g.most(class) {
		return nil
	}
	return victim
}

// hadBodyTime reports whether a holder may be preempted. The caller holds mu.
func (g *scheduler) hadBodyTime(p *slot) bool {
	return time.Since(g.lastPreempted) >= preemptEvery || p.receiving() >= minBodyTime
}
