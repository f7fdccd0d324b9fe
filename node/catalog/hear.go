package catalog

import (
	"maps"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// rumours are what other nodes tell of a suite, and what came of it.
type rumours struct {
	tellers   map[string]*teller
	listening bool                      // somebody goes after what they tell
	retry     *time.Timer               // for what could not be staged, or not be had
	told      proto.Ref                 // the root that this node has told of last
	attempts  map[proto.Digest]*attempt // by root, until the next flip
}

// attempt is what came of adopting a root that is trusted.
type attempt struct {
	passed bool      // it is not to be taken, as things stand
	tries  int       // in vain: it could not be staged
	until  time.Time // when it may be tried again
}

// teller is the newest generation that one node has told of: one only, for it holds
// one at a time, so that a node that lies is in nobody's way but its own.
type teller struct {
	news    proto.News
	checked time.Time
	// faults counts what it told in vain, in a row; until then nobody listens to it.
	faults int
	until  time.Time
}

// Bounds of what other nodes may make this one remember.
const (
	maxNews     = 4096 // of one message
	maxTellers  = 256
	maxHeard    = 128 // suites that nothing is held of yet
	maxAttempts = 64
	maxHolders  = 8
)

// Hear takes in what another node tells of suites. It is a hint: what is newer than
// what is held is opened by its digest and verified like any other root. It never
// blocks, and what it makes the catalog keep is bounded. Safe for concurrent use.
func (c *Catalog) Hear(from string, news ...proto.News) {
	for _, n := range news[:min(len(news), maxNews)] {
		s, ok := c.heardOf(n)
		if !ok {
			c.metrics.heard.WithLabelValues("ignored").Inc()
			continue
		}
		s.hear(from, n)
		s.goAfter()
	}
}

// heardOf returns the suite that news is of, made if need be; false if it is none
// that this node should know.
func (c *Catalog) heardOf(n proto.News) (*suite, bool) {
	id := n.Generation.Suite
	if s, ok := c.known(id); ok {
		return s, true
	}
	if n.Generation.Root.IsZero() || !canBeSuite(id.Dir) {
		return nil, false
	}
	c.mu.Lock()
	empty := 0
	for _, s := range c.suites {
		if s.current == nil {
			empty++
		}
	}
	c.mu.Unlock()
	if empty >= maxHeard {
		return nil, false // it will be told again
	}
	return c.suite(id)
}

// hear notes what a node tells, and returns when upstream was last looked at by what
// it says, in no case later than now.
func (s *suite) hear(from string, n proto.News) (checked time.Time) {
	now := s.c.cfg.Now()
	if checked = n.Checked; checked.After(now) {
		checked = now
	}
	s.noteOthers(n.Uses, false)
	held := s.held()
	result := s.weigh(held, n.Generation, checked)
	s.c.metrics.heard.WithLabelValues(result).Inc()
	if result == "same" {
		s.confirm(checked)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if result == "newer" {
		s.note(from, n, checked, now)
	}
	return checked
}

// note keeps what a node tells of a newer generation. suite.mu is held.
func (s *suite) note(from string, n proto.News, checked, now time.Time) {
	t, ok := s.tellers[from]
	if !ok {
		if len(s.tellers) >= maxTellers {
			maps.DeleteFunc(s.tellers, func(_ string, t *teller) bool { return !t.until.After(now) })
		}
		if len(s.tellers) >= maxTellers {
			return
		}
		if s.tellers == nil {
			s.tellers = make(map[string]*teller)
		}
		t = &teller{}
		s.tellers[from] = t
	}
	// Messages overtake each other: the newest counts, but if it was told in vain.
	if t.faults > 0 || !n.Generation.Date.Before(t.news.Generation.Date) {
		t.news, t.checked = n, checked
		t.news.Uses = nil
	}
}

// confirm notes that another node has seen upstream have nothing newer than what is
// held. Its word for this node's own last look is no news.
func (s *suite) confirm(checked time.Time) {
	if checked.IsZero() {
		return
	}
	raise(&s.lastGood, checked)
	if checked.UnixNano() > s.lastOwn.Load()+int64(s.interval()/2) {
		raise(&s.lastHeard, checked)
	}
	if checked.UnixNano() > s.lastTry.Load() && !s.leads() {
		s.forgive()
	}
	if s.heardLately(s.c.cfg.Now()) {
		s.wake()
	}
}

// forgive forgets that this node's last look failed: another has looked since, and it
// is for that one to look again.
func (s *suite) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.attempts {
		if !a.passed {
			return // there is a newer one, which could not be staged
		}
	}
	s.failure, s.failures = nil, 0
}

// weigh tells what a generation that a node tells of is to this one: "newer" is what
// may have to be adopted, going by what the teller says of it. checked is when
// upstream was last seen to have nothing newer than that.
func (s *suite) weigh(held *generation, told proto.Generation, checked time.Time) string {
	switch {
	case told.Root.IsZero():
		return "nothing"
	case held == nil:
		return "newer"
	case told.Root.Digest == held.Root.Digest:
		return "same"
	case s.isTakenBack(told.Date) && checked.UnixNano() <= s.lastOwn.Load():
		return "taken_back"
	}
	switch held.Compare(told) {
	case proto.Past:
		return "older"
	case proto.Fork:
		// One of the two may be the other with its signature beside it: then the
		// text decides, which nobody has seen yet.
		if !held.ForkWinner(told) && !(held.detached() && told.Signature.IsZero()) {
			return "older"
		}
	}
	return "newer"
}

// isTakenBack reports whether an operator has gone back from the Release of this date,
// or from a newer one.
func (s *suite) isTakenBack(date time.Time) bool {
	taken := s.takenBack.Load()
	return taken != 0 && date.Unix() <= taken
}

// goAfter sees to it that what was heard of is adopted, now or when its time comes.
func (s *suite) goAfter() {
	offer, at := s.nextOffer()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.listening || s.ctx.Err() != nil:
	case offer != nil:
		s.listening = s.c.spawn(func() {
			s.follow()
			s.mu.Lock()
			s.listening = false
			s.mu.Unlock()
			if s.held() == nil {
				s.c.forget(s)
			}
			s.goAfter()
		})
	case !at.IsZero():
		if s.retry != nil {
			s.retry.Stop()
		}
		s.retry = time.AfterFunc(max(at.Sub(s.c.cfg.Now()), time.Millisecond), s.goAfter)
	}
}

// offer is a newer generation, as one or more nodes tell of it.
type offer struct {
	gen     proto.Generation
	pair    proto.Pair
	checked time.Time
	from    []string // sorted
	faults  int      // of the first of them
}

// same reports whether another node tells of the same: of a Release that is signed
// beside it, with the same signature.
func (o *offer) same(gen proto.Generation) bool {
	return o.gen.Root.Digest == gen.Root.Digest && o.gen.Signature.Digest == gen.Signature.Digest
}

// before reports whether o is to be gone after first: what is told by nodes that have
// told nothing in vain, and of that the newest.
func (o *offer) before(other *offer) bool {
	switch {
	case other == nil:
		return true
	case o.faults != other.faults:
		return o.faults < other.faults
	case !o.gen.Date.Equal(other.gen.Date):
		return o.gen.Date.After(other.gen.Date)
	}
	return other.gen.ForkWinner(o.gen)
}

// nextOffer picks the generation to be gone after next of those that were told of;
// where there is none at this moment, it tells when there will be, or the zero time
// for never.
func (s *suite) nextOffer() (best *offer, at time.Time) {
	now := s.c.cfg.Now()
	held := s.held()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.tellers)) {
		t := s.tellers[name]
		gen := t.news.Generation
		a := s.attempts[gen.Root.Digest]
		if gen.Root.IsZero() || a != nil && a.passed || s.weigh(held, gen, t.checked) != "newer" {
			continue
		}
		until := t.until
		if a != nil && a.until.After(until) {
			until = a.until
		}
		o := &offer{gen: gen, pair: t.news.Pair, checked: t.checked, from: []string{name}, faults: t.faults}
		switch {
		case until.After(now):
			if at.IsZero() || until.Before(at) {
				at = until
			}
		case best != nil && best.same(gen) && best.faults == t.faults:
			best.from = append(best.from, name)
			if t.checked.After(best.checked) {
				best.checked = t.checked
			}
		case o.before(best):
			best = o
		}
	}
	if best != nil {
		best.from = best.from[:min(len(best.from), maxHolders)]
	}
	return best, at
}

// blame books that nodes have told of what this one cannot or will not adopt.
func (s *suite) blame(o *offer, lie *fault) {
	if s.ctx.Err() != nil {
		return
	}
	s.c.metrics.heard.WithLabelValues(lie.kind).Inc()
	now := s.c.cfg.Now()
	first := false
	s.mu.Lock()
	for _, name := range o.from {
		if t, ok := s.tellers[name]; ok { // whatever it has told since
			first = first || t.faults == 0
			t.until = now.Add(min(s.interval(), 5*time.Second<<min(t.faults, 8)))
			t.faults++
		}
	}
	s.mu.Unlock()
	attrs := []any{"nodes", o.from, "date", o.gen.Date.Format(time.RFC3339), "root", o.gen.Root.Digest.String(), "error", lie.err}
	if first {
		s.log.Warn("what another node tells of a newer Release is not believed", attrs...)
	} else {
		s.log.Debug("what another node tells of a newer Release is still not believed", attrs...)
	}
}

// postpone books that a generation could not be staged: it is tried again soon, then
// less and less often.
func (s *suite) postpone(o *offer, err error) {
	if s.ctx.Err() != nil {
		return
	}
	s.c.metrics.heard.WithLabelValues("failed").Inc()
	s.mu.Lock()
	a := s.attempt(o.gen.Root.Digest)
	a.until = s.c.cfg.Now().Add(min(s.interval(), 5*time.Second<<min(a.tries, 8)))
	a.tries++
	first := a.tries == 1
	s.failure = err
	s.mu.Unlock()
	if first {
		s.log.Warn("a Release that another node tells of was not adopted; clients go on with what is held", "nodes", o.from, "error", err)
	}
}

// adopted books that what nodes have told of was adopted, or had been in the end.
func (s *suite) adopted(o *offer) {
	held := s.held()
	took := held != nil && held.Root.Digest == o.gen.Root.Digest
	s.mu.Lock()
	if took {
		s.failure = nil
		for _, name := range o.from {
			if t, ok := s.tellers[name]; ok {
				t.faults = 0
			}
		}
	} else {
		s.attempt(o.gen.Root.Digest).passed = true
	}
	s.mu.Unlock()
	if !took {
		s.c.metrics.heard.WithLabelValues("passed").Inc()
		return
	}
	s.c.metrics.heard.WithLabelValues("adopted").Inc()
	s.confirm(o.checked)
	s.wake()
	s.tell(false)
}

// attempt returns what has come of adopting a root so far. suite.mu is held.
func (s *suite) attempt(root proto.Digest) *attempt {
	a, ok := s.attempts[root]
	if !ok {
		if s.attempts == nil || len(s.attempts) >= maxAttempts {
			s.attempts = make(map[proto.Digest]*attempt)
		}
		a = &attempt{}
		s.attempts[root] = a
	}
	return a
}
