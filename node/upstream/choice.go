package upstream

import (
	"cmp"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// sizeGuess stands for the size of an object where it is not known: an index.
	sizeGuess = 256 << 10
	// Mirrors are equals if they take about as long as the best: half as long again, and a
	// little more, because smaller differences are noise.
	equalFactor = 1.5
	equalSlack  = 25 * time.Millisecond
	// fullFactor is how much longer a mirror is expected to take, at least, if every slot
	// of its host is taken.
	fullFactor = 2
)

// standing is how a mirror's breaker ranks it. The lowest goes first.
type standing uint8

const (
	healthy   standing = iota
	doubtful           // another node cannot reach it
	halfOpen           // half-open
	unhealthy          // open
	paused             // it asked us to wait
)

// candidate is a mirror that may be asked for an object, and what speaks for it now.
type candidate struct {
	*mirror
	standing standing
	fault    fault
	since    time.Time // the end of its penalty: the earlier, the older the fault
	foreign  bool      // this node has no part of its host's slots
	slow     bool      // measured below the rate floor
	tested   bool
	expected time.Duration // where tested
	full     bool
	load     float64 // where full: requests that wait for each slot
}

// compare ranks candidates by what makes one better than another at any speed.
func (a *candidate) compare(b *candidate) int {
	return cmp.Or(
		cmp.Compare(a.standing, b.standing),
		cmp.Compare(a.fault, b.fault),
		compareBool(a.foreign, b.foreign),
		compareBool(a.slow, b.slow),
		cmp.Compare(a.Priority, b.Priority),
		a.since.Compare(b.since),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// candidates looks at mirrors for a request.
func (c *Client) candidates(s *settings, mirrors []*mirror, req proto.Request) []*candidate {
	now := time.Now()
	size := req.Size - req.Offset
	if req.Size <= 0 {
		size = sizeGuess
	}
	all := make([]*candidate, len(mirrors))
	for i, m := range mirrors {
		h := c.hostOf(m.URL)
		one := &candidate{mirror: m, load: h.scheduler.load(req.ClassNow()), foreign: h.foreign.Load()}
		one.full = one.load > 0
		one.fault, one.since = c.penalties.get(m.name, req.Loc)
		m.health.rank(one, s.cfg.RateFloor, size, now)
		all[i] = one
	}
	return all
}

// rank fills in what the mirror's health says.
func (h *health) rank(one *candidate, floor, size int64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch state := h.breaker.state(now); {
	case state == BreakerClosed:
	case h.breaker.advice():
		one.standing = doubtful
	case state == BreakerHalfOpen:
		one.standing = halfOpen
	case h.breaker.mustWait(now):
		one.standing = paused
	default:
		one.standing = unhealthy
	}
	if rate, ok := h.speed.rate(now); ok {
		one.slow = rate < float64(floor)
	}
	one.expected, one.tested = h.speed.expect(size, now)
}

// choose picks the mirror to ask. Among those that rank first and take about as long
// as the best of them, it is the turn of each by its weight.
func (c *Client) choose(all []*candidate) *candidate {
	return c.weighted(quickest(firstRank(all)))
}

// firstRank returns those that none of the others is better than at any speed.
func firstRank(all []*candidate) []*candidate {
	first := slices.MinFunc(all, func(a, b *candidate) int { return a.compare(b) })
	return slices.DeleteFunc(slices.Clone(all), func(one *candidate) bool { return one.compare(first) != 0 })
}

// quickest returns those that take about as long as the best, free slots before
// taken ones. The untested are taken for as quick as the best.
func quickest(equals []*candidate) []*candidate {
	best := time.Duration(-1)
	for _, one := range equals {
		if cost := one.cost(); one.tested && (best < 0 || cost < best) {
			best = cost
		}
	}
	most := time.Duration(equalFactor*float64(best)) + equalSlack
	quick := slices.DeleteFunc(slices.Clone(equals), func(one *candidate) bool { return one.tested && one.cost() > most })
	if free := slices.DeleteFunc(slices.Clone(quick), func(one *candidate) bool { return one.full }); len(free) > 0 {
		return free
	}
	return quick
}

func (a *candidate) cost() time.Duration {
	if a.full {
		return time.Duration(max(fullFactor, 1+a.load) * float64(a.expected))
	}
	return a.expected
}

// otherMirrorFree reports whether a request that waits for a slot would now go to a mirror that has
// one.
func (c *Client) otherMirrorFree(s *settings, e *attempt) bool {
	free := func(m *mirror) bool { return c.hostOf(m.URL).scheduler.free(e.req.ClassNow()) }
	if !slices.ContainsFunc(e.others, free) {
		return false
	}
	for _, one := range quickest(firstRank(c.candidates(s, append(slices.Clone(e.others), e.mirror), e.req))) {
		if one.mirror != e.mirror && !one.full {
			return true
		}
	}
	return false
}

// weighted picks one by smooth weighted turn: each is credited its weight, and the one
// with most credit pays for all.
func (c *Client) weighted(equals []*candidate) *candidate {
	if len(equals) == 1 {
		return equals[0] // a mirror without a rival spends no credit
	}
	c.creditsMu.Lock()
	defer c.creditsMu.Unlock()
	var chosen *candidate
	total := 0
	for _, one := range equals {
		one.health.credit += one.Weight
		total += one.Weight
		if chosen == nil || one.health.credit > chosen.health.credit {
			chosen = one
		}
	}
	chosen.health.credit -= total
	return chosen
}

// Mirrors returns the names of an archive's mirrors, as Transfer.From has them, in
// the order in which they would be asked now; nil for an unknown archive.
func (c *Client) Mirrors(archive string) []string {
	s := c.settings.Load()
	a, ok := s.archives[archive]
	if !ok {
		return nil
	}
	all := c.candidates(s, a.mirrors, proto.Request{Class: proto.ClassMetadata})
	names := make([]string, 0, len(all))
	for len(all) > 0 {
		// Equals keep the order of the configuration, so that two calls return the same order.
		next := quickest(firstRank(all))[0]
		names = append(names, next.name)
		all = slices.DeleteFunc(all, func(one *candidate) bool { return one == next })
	}
	return names
}

// better reports whether another mirror, not asked yet, probably delivers the object faster
// than the given rate: it is healthy, has no penalty for the object, and is untested or was
// measured at twice that rate.
func (c *Client) better(e *attempt, rate float64) bool {
	now := time.Now()
	for _, m := range e.others {
		if c.hostOf(m.URL).foreign.Load() {
			continue
		}
		if fault, _ := c.penalties.get(m.name, e.req.Loc); fault == noFault && m.health.promises(2*rate, now) {
			return true
		}
	}
	return false
}

// promises reports whether the mirror is healthy and may deliver rate bytes per second.
func (h *health) promises(rate float64, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	known, ok := h.speed.rate(now)
	return h.breaker.state(now) == BreakerClosed && (!ok || known >= rate)
}
