package suite

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// offer is a newer generation, as one or more nodes announce it.
type offer struct {
	gen     proto.Generation
	checked Mono
	from    []string // sorted
	faults  int      // of the first of them
	// asked says that the leader was asked about it.
	asked bool
}

// same reports whether another node announces the same bytes.
func (o *offer) same(gen proto.Generation) bool {
	return o.gen.Compare(gen) == proto.Same
}

// before reports whether o is to be gone after first: what nodes announce that have announced
// nothing in vain, and of that the newest.
func (o *offer) before(other *offer) bool {
	switch {
	case other == nil:
		return true
	case o.faults != other.faults:
		return o.faults < other.faults
	case o.gen.Precedes(other.gen) || other.gen.Precedes(o.gen):
		return other.gen.Precedes(o.gen)
	case o.gen.Statement == other.gen.Statement:
		return other.gen.NewerRevision(o.gen)
	}
	return other.gen.ForkWinner(o.gen)
}

// nextOffer picks the next announced generation to open. If there is none now, it returns when there
// will be one; Never for not at all.
func (m *Machine) nextOffer() (best *offer, at Mono) {
	at = Never
	for _, name := range slices.Sorted(maps.Keys(m.announcers)) {
		t := m.announcers[name]
		gen := t.ann.Generation
		a := m.attempts[gen.Root.Digest]
		if gen.Root.IsZero() || a != nil && a.passed {
			continue
		}
		result := m.weigh(&t.ann, t.checked)
		if result != "newer" && result != "revised" {
			continue
		}
		until := t.until
		if a != nil {
			until = max(until, a.until)
		}
		o := &offer{gen: gen, checked: t.checked, from: []string{name}, faults: t.faults}
		switch {
		case until > m.at.Mono:
			if at == Never || until < at {
				at = until
			}
		case best != nil && best.same(gen) && best.faults == t.faults:
			best.from = append(best.from, name)
			best.checked = max(best.checked, t.checked)
		case o.before(best):
			best = o
		}
	}
	if best != nil {
		best.from = best.from[:min(len(best.from), maxHolders)]
	}
	return best, at
}

// following reports whether the follow lane is at work, or has work that it can do now.
func (m *Machine) following() bool {
	if m.opening != nil || m.followed != nil {
		return true
	}
	if m.proving != nil {
		return false // only upstream can say more
	}
	o, _ := m.nextOffer()
	return o != nil
}

// startFollow goes after the best announcement.
func (m *Machine) startFollow() {
	for m.opening == nil && m.followed == nil && m.proving == nil {
		o, _ := m.nextOffer()
		if o == nil {
			return
		}
		if m.cfg.Unsigned || !o.gen.Back.IsZero() {
			if !m.leaderSays(o.gen) {
				m.prove(o)
				return
			}
			o.gen = m.word // its dates are the leader's as well
		}
		m.open(o)
	}
}

// open opens one offer.
func (m *Machine) open(o *offer) {
	m.offered = o
	m.opening = &OpenOffer{Gen: o.gen, From: nodesOf(o.from)}
	m.emit(m.opening)
}

func (e Opened) apply(m *Machine) {
	if m.opening == nil || m.opening != e.Open {
		return
	}
	o := m.offered
	m.opening, m.offered = nil, nil
	switch {
	case e.Err != nil:
		m.offerEnded(o, e.Err)
	case !m.mayBring(e.Candidate, o):
		m.prove(o)
	default:
		// Between two roots of one date the announcers' word decides, if it is of this very root.
		e.Candidate.Prevails = e.Candidate.Gen.Statement == o.gen.Statement
		m.followed = o
		m.queue(&adoption{cand: e.Candidate, offer: o})
	}
}

// mayBring decides whether another node's word will do for what the signature does not prove: that
// a root is one of this suite, and where it has no date, which it has.
func (m *Machine) mayBring(c *Candidate, o *offer) bool {
	c.Gen.Back = o.gen.Back
	if c.Undated {
		// The date that the node ordered it by that saw it first.
		c.Gen.Date = o.gen.Date
		if now := m.at.Wall.UTC().Truncate(time.Second); c.Gen.Date.After(now) {
			c.Gen.Date = now
		}
		if m.replayed(c) && !m.leaderSays(c.Gen) {
			return false
		}
	}
	return (c.Manifest.Proven || m.leaderSays(c.Gen)) && !m.isTakenBack(c.Gen) && m.belonging(c) == proto.BelongsYes
}

// takeWord notes what the leader itself says that it serves. An offer that waits for proof has it
// then.
func (m *Machine) takeWord(gen proto.Generation) {
	if !m.cfg.LeaderVouches || gen.Suite != m.cfg.ID {
		return
	}
	m.checkBack(&gen)
	m.word = gen
	if m.proving != nil && m.check != nil && !m.check.direct && m.leaderSays(m.proving.gen) {
		m.proving = nil
	}
}

// leaderSays reports whether the leader vouches for a root and for what is beside it. Where keys
// vouch for roots, its word is not enough to go back to an older one.
func (m *Machine) leaderSays(gen proto.Generation) bool {
	return m.cfg.LeaderVouches && (m.cfg.Unsigned || gen.Back.IsZero()) && m.word.Back.Equal(gen.Back) && !gen.Root.IsZero() && m.word.Root == gen.Root && slices.Equal(m.word.Proving(), gen.Proving())
}

// replayed reports whether an undated root was current before: it may be played back.
func (m *Machine) replayed(c *Candidate) bool {
	return slices.Contains(m.before, c.Gen.Statement)
}

// prove has upstream asked about a generation that a node's word will not do for.
func (m *Machine) prove(o *offer) { m.proving = o }

// startProof starts the check that an unproven offer waits for. Where the leader vouches, it is asked
// first, and what it serves will do.
func (m *Machine) startProof() {
	o := m.proving
	if o == nil || m.check != nil {
		return
	}
	if !m.stillNewer(o) {
		m.proving = nil // somebody else has asked
		return
	}
	k := directCheck(false)
	switch {
	case m.cfg.LeaderVouches && !m.at.isLeader() && !o.asked && (m.cfg.Unsigned || o.gen.Back.IsZero()):
		o.asked = true
		k = &check{good: Never}
	case m.fresh.since(m.at.Mono, true) < CheckPause:
		return
	}
	k.proof = true
	m.start(k)
}

// dateLikeOthers dates a root that says nothing of when it is from, and of which upstream says nothing
// either. What this node proves because another one has announced it has that node's date: it has seen
// the root first, and hosts get the same Last-Modified from all.
func (m *Machine) dateLikeOthers(c *Candidate) {
	o := m.proving
	if o == nil || !c.Undated || !c.Gen.Modified.IsZero() || c.Gen.Statement != o.gen.Statement {
		return
	}
	if !o.gen.Date.After(c.Gen.Date) { // which is now
		c.Gen.Date = o.gen.Date
	}
}

// proven settles an unproven offer when this node has asked upstream itself.
func (m *Machine) proven(k *check) {
	o := m.proving
	if o == nil {
		return
	}
	m.proving = nil
	switch {
	case m.current != nil && m.current.Gen.Statement == o.gen.Statement:
		m.tookOffer(o)
	case k.err != nil:
		m.postpone(o, k.err)
	default:
		m.fault(o, &Fault{"refused", errors.New("upstream has another root, and the signature alone does not tell which is this suite's")})
	}
}

// offerEnded books what came of an offer.
func (m *Machine) offerEnded(o *offer, err error) {
	if m.followed == o {
		m.followed = nil
	}
	var lie *Fault
	switch {
	case err == nil:
		m.tookOffer(o)
	case errors.As(err, &lie):
		m.faultIfNewer(o, lie)
	case isKind(err, KindOlder), isKind(err, KindFuture), isKind(err, KindOtherSuite):
		m.faultIfNewer(o, &Fault{"refused", err})
	default:
		m.postpone(o, err)
		m.followErr = err
	}
}

// faultIfNewer blames the announcers, unless a newer generation has been adopted meanwhile: then
// nobody has lied.
func (m *Machine) faultIfNewer(o *offer, lie *Fault) {
	if m.stillNewer(o) {
		m.fault(o, lie)
	}
}

// stillNewer reports whether an offer may still have to be adopted, by the current root.
func (m *Machine) stillNewer(o *offer) bool {
	r := m.weigh(&proto.Announcement{Generation: o.gen}, o.checked)
	return r == "newer" || r == "revised"
}

// fault books that nodes have announced what this one cannot or will not adopt.
func (m *Machine) fault(o *offer, lie *Fault) {
	m.emit(Count{What: CountAnnouncement, Result: lie.Kind})
	first := false
	for _, name := range o.from {
		if t, ok := m.announcers[name]; ok { // whatever it has announced since
			first = first || t.faults == 0
			t.until = m.at.Mono.Add(min(m.cfg.Interval, 5*time.Second<<min(t.faults, 8)))
			t.faults++
		}
	}
	level := slog.LevelDebug
	if first {
		level = slog.LevelWarn
	}
	m.note(level, "another node's announcement of a newer root is not believed", "nodes", o.from, "date", stamp(o.gen.Date), "root", o.gen.Root.Digest.String(), "error", lie.Err)
}

// postpone books that a generation could not be staged: it is tried again soon, then less and less
// often.
func (m *Machine) postpone(o *offer, err error) {
	m.emit(Count{What: CountAnnouncement, Result: "failed"})
	a := m.attempts.of(o.gen.Root.Digest)
	a.until = m.at.Mono.Add(min(m.cfg.Interval, 5*time.Second<<min(a.tries, 8)))
	a.tries++
	m.fail(err)
	if a.tries == 1 {
		m.note(slog.LevelWarn, m.notAdopted("an announced root"), "nodes", o.from, "error", err)
	}
}

// tookOffer books that what nodes announced was adopted, or is not to be taken as things stand.
func (m *Machine) tookOffer(o *offer) {
	if m.current == nil || m.current.Gen.Root.Digest != o.gen.Root.Digest {
		m.attempts.of(o.gen.Root.Digest).passed = true
		m.emit(Count{What: CountAnnouncement, Result: "passed"})
		return
	}
	m.fail(nil)
	for _, name := range o.from {
		if t, ok := m.announcers[name]; ok {
			t.faults = 0
		}
	}
	m.emit(Count{What: CountAnnouncement, Result: "adopted"})
	m.confirm(o.checked)
	if m.stillNewer(o) {
		// It promises more than its bytes hold. It must not be opened without end.
		m.attempts.of(o.gen.Root.Digest).until = m.at.Mono.Add(m.cfg.Interval)
	}
	m.wake()
	m.emit(Unpin{})
	m.announce(false)
}
