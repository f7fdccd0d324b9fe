package upstream

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// wayEvery is how long after one holder made way the next one makes way without
	// having had its turn. A lone metadata request is served at once; of a row of
	// them each further one waits for a turn to end.
	wayEvery = 5 * time.Second
	// wayTurn is that turn: so long a holder has been receiving its body. It is well
	// over what peerfetch takes for a transfer that brought next to nothing.
	wayTurn = time.Second
)

// tick takes places from stalled holders as long as that helps somebody. A holder
// ends its connection before its place is handed on, without mu.
func (g *gate) tick() {
	g.makeWay()
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

// victim returns the holder to take a place from, for the most urgent of those
// who wait that can be helped; nil if there is none. The caller holds mu.
func (g *gate) victim() *place {
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
// place would help a request of this class; nil if there is none.
func (g *gate) mostStalled(class proto.Class) *place {
	var victim *place
	var worst time.Duration
	for p := range g.held {
		if class == proto.ClassPrefetch && p.class < class {
			continue
		}
		if over, stalled := g.overdue(p); stalled && (victim == nil || over > worst) && g.admits(class, p) {
			victim, worst = p, over
		}
	}
	return victim
}

// overdue tells whether a holder is beyond its patience, and by how much.
func (g *gate) overdue(p *place) (time.Duration, bool) {
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
func (g *gate) untilHeader() time.Duration {
	return min(max(g.rules.header, 2*g.slowest), g.rules.headerMax)
}

// patience is untilHeader for who does not hold mu.
func (g *gate) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.untilHeader()
}

// makeWay takes places from holders that keep out a more urgent class, and hands
// each straight to who waits for it.
func (g *gate) makeWay() {
	for {
		g.mu.Lock()
		class, victim := g.standoff()
		if victim == nil {
			g.mu.Unlock()
			return
		}
		same := victim.class == class
		delete(g.held, victim)
		w := g.seat(class)
		g.madeWay = time.Now()
		g.mu.Unlock()

		victim.evict(&madeWay{class: class, same: same})
		g.hand(w)
	}
}

// hand gives a waiter the place that it was seated on, or takes the place back if
// the waiter has left meanwhile.
func (g *gate) hand(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(w.ready)
	if w.left {
		delete(g.held, w.place)
		g.dispatch()
	}
}

// standoff returns the most urgent class whose first waiter only less urgent holders
// keep out, or holders of a client that has several places, and the one of those that
// is to make way; nil if there is none. The caller holds mu.
func (g *gate) standoff() (proto.Class, *place) {
	for i := range g.queues {
		class := proto.Class(i)
		if g.queues[class].n == 0 {
			continue
		}
		if p := g.inTheWay(class); p != nil {
			return class, p
		}
		if p := g.tooMany(class, g.queues[class].first().place.client); p != nil {
			return class, p
		}
	}
	return 0, nil
}

// tooMany returns the holder that is to make way for a request of a client that holds
// no place: of the client that holds most of the class, and two at least, the one that
// began last. The caller holds mu.
func (g *gate) tooMany(class proto.Class, client string) *place {
	holds := make(map[string]int)
	for p := range g.held {
		if p.client != "" && p.client == client {
			return nil
		}
		if p.class == class && p.client != "" {
			holds[p.client]++
		}
	}
	var victim *place
	for p := range g.held {
		n := holds[p.client]
		if p.class != class || n < 2 || p.receiving() < wayTurn {
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

// inTheWay returns the holder that is to make way for a class that waits: the least
// urgent, and of those the one that began last. nil if the class holds a place, if
// it would have one but for more urgent holders, or if those in the way are to have
// their turn first. The caller holds mu.
func (g *gate) inTheWay(class proto.Class) *place {
	var victim *place
	below := 0
	for p := range g.held {
		switch {
		case p.class == class:
			return nil
		case p.class < class:
			continue
		}
		below++
		if !g.hadTurn(p) {
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

// hadTurn reports whether a holder may be made to make way. The caller holds mu.
func (g *gate) hadTurn(p *place) bool {
	return time.Since(g.madeWay) >= wayEvery || p.receiving() >= wayTurn
}
