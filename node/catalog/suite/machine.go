package suite

import (
	"log/slog"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Machine is the state of one suite. It is owned by one goroutine.
type Machine struct {
	cfg Config
	at  At       // of the Step under way
	out []Action // of the Step under way

	current   *Root
	before    []proto.Digest // statements of superseded generations that are still readable
	floor     time.Time      // see Record
	takenBack time.Time      // see Record

	fresh    Freshness
	checked  time.Time // fresh.Good as a date
	failure  error     // of the last check
	failures int       // in a row
	failing  time.Time // since when there has been a failure after each check; zero while there is none
	removed  Mono      // since when upstream does not have the suite any more; Never while it has

	tornSince  Mono // since when mirrors give a root with the signature of another publication; Never while they do not
	olderSince Mono // since when all mirrors show older roots than the current one; Never while one does not

	book     book
	probe    *AskMirror
	probeDue bool
	found    *Candidate // by a probe; the next check takes it in
	renaming renaming

	check, last *check
	requests    []*request

	announcers map[string]*announcer
	attempts   attempts
	opening    *OpenOffer
	offered    *offer           // that opening is about
	followed   *offer           // being adopted
	proving    *offer           // that upstream has to prove
	followErr  error            // what came of following since the leader answered
	word       proto.Generation // what the leader last answered that it serves, where it vouches for that

	adopting *adoption
	waiting  []*adoption
	missing  map[string]Mono // optional files that could not be fetched, and since when
	forked   proto.Digest    // the other side of a fork that was logged
	alarmed  proto.Ref       // the root that an alarm was given for

	watch              watch
	asked, askedByPeer Mono
	demandGrew         bool // clients use slots that were not reported to the leader yet
	renewal            *AskLeader
	lastAsk            Mono // when the leader last answered
	announced          proto.Generation
	announcedAt        Mono
}

// New makes the machine of a suite that nothing is known of.
func New(cfg Config) *Machine {
	return &Machine{
		cfg: cfg, fresh: never(), removed: Never, tornSince: Never, olderSince: Never, asked: Never, askedByPeer: Never, lastAsk: Never, announcedAt: Never,
		book: book{known: make(map[string]*standing), probed: Never}, announcers: make(map[string]*announcer), missing: make(map[string]Mono),
	}
}

// Restore restores what was known before a restart. current may be nil although the record is not
// empty: the bytes of the root may be lost, or not verifiable now. asked is when a client last
// wanted the suite.
func (m *Machine) Restore(at At, current *Root, r Record, asked Mono) {
	m.at = at
	m.current, m.floor, m.takenBack, m.asked = current, r.Floor, r.TakenBack, asked
	if !r.Checked.IsZero() {
		// A date in the future says that a clock was wrong, then or now: only that it was long ago
		// is sure.
		if age := at.Wall.Sub(r.Checked); age >= 0 {
			m.fresh.Good, m.checked = at.Mono.Add(-age), r.Checked.UTC()
		}
	}
	if m.current != nil && m.askedLately() {
		m.wake()
	}
	m.book.primary = r.Primary
	for name, s := range r.Mirrors {
		m.book.known[name] = &standing{Validators: s.Validators, date: s.Date, seen: s.Seen}
	}
}

// Record is what a restart must know.
func (m *Machine) Record() Record {
	r := Record{Floor: m.floor, TakenBack: m.takenBack, Checked: m.checked.Truncate(time.Second), Primary: m.book.primary}
	r.Mirrors = make(map[string]MirrorRecord, len(m.book.known))
	for name, st := range m.book.known {
		r.Mirrors[name] = MirrorRecord{st.Validators, st.date, st.seen}
	}
	return r
}

// Superseded sets the statements that were current before and are still readable.
func (m *Machine) Superseded(statements []proto.Digest) { m.before = statements }

// Step handles one event and returns what is to be done, in order.
func (m *Machine) Step(at At, e Event) []Action {
	m.at, m.out = at, nil
	e.apply(m)
	m.advance()
	return m.out
}

// advance starts whatever can start. Each lane decides for itself; the order matters only where one
// lane feeds another.
func (m *Machine) advance() {
	for before := (progress{emitted: -1}); before != m.progress(); {
		before = m.progress()
		m.startAdoption()
		m.startFollow()
		m.startAdoption()
		m.believe()
		m.takeFound()
		m.serveRequests()
		m.startProof()
		m.keepWatch()
		m.startProbe()
	}
	m.warn()
}

// progress reports whether a round of advance has changed anything.
type progress struct {
	emitted, waiting int
	check            *check
	adopting         *adoption
	proving          *offer
}

func (m *Machine) progress() progress {
	return progress{len(m.out), len(m.waiting), m.check, m.adopting, m.proving}
}

// takeFound has what a probe has found adopted, as a check of its own.
func (m *Machine) takeFound() {
	if m.found == nil || m.check != nil {
		return
	}
	k := directCheck(false)
	k.found, m.found = m.found, nil
	m.start(k)
}

// Next is when the machine wants a Tick; false for not before the next event.
func (m *Machine) Next() (Mono, bool) {
	next, ok := Mono(0), false
	sooner := func(at Mono) {
		if !ok || at < next {
			next, ok = at, true
		}
	}
	if m.opening == nil && m.followed == nil && m.proving == nil {
		if _, at := m.nextOffer(); at != Never {
			sooner(at)
		}
	}
	if m.check == nil {
		if at, waits := m.requestsDue(); waits {
			sooner(at)
		}
		if m.proving != nil {
			sooner(m.fresh.TriedFresh.Add(CheckPause))
		}
		if m.watch.awake {
			m.nextWatch(sooner)
		}
	}
	if m.current != nil && !m.cfg.Immutable && m.alarmed != m.current.Gen.Root {
		if until := m.current.Manifest.ValidUntil; !until.IsZero() {
			before := min(m.cfg.WarnBefore, until.Sub(m.current.Gen.Date)/2)
			sooner(m.at.Mono.Add(max(until.Add(-before).Sub(m.at.Wall), 0) + time.Millisecond))
		}
	}
	return max(next, m.at.Mono), ok
}

// nextWatch says when the watch has something to do: at the next check, and in a cluster at least
// once in an interval, to see whether this node leads now.
func (m *Machine) nextWatch(sooner func(Mono)) {
	listens := !m.at.isLeader() && !m.cfg.Configured && !m.askedLately()
	if !m.cfg.Offline && !listens {
		due, _ := m.checkDue()
		sooner(due)
	}
	if m.cfg.Clustered {
		sooner(m.at.Mono.Add(m.cfg.Interval))
		if m.renewal == nil && !m.at.isLeader() && !listens && m.current != nil {
			sooner(m.renewalDue())
		}
	}
}

func (e Configured) apply(m *Machine) { m.cfg = e.Config }

// Belief returns a copy of the state from which hosts are answered.
func (m *Machine) Belief(at At) *Belief {
	return &Belief{Current: m.current, Fresh: m.fresh, Failure: m.failure, FailingSince: m.failing, Removed: m.removed, id: m.cfg.ID, conf: m.cfg, checked: m.checked}
}

// fail sets what came of the last check; nil: it was good.
func (m *Machine) fail(err error) {
	switch {
	case err == nil:
		m.failing = time.Time{}
	case m.failure == nil:
		m.failing = m.at.Wall.UTC()
	}
	m.failure = err
}

// Current is the current root; nil before the first generation.
func (m *Machine) Current() *Root { return m.current }

// Watched reports whether upstream is watched.
func (m *Machine) Watched() bool { return m.watch.awake }

// Idle reports whether nothing is under way and nobody waits.
func (m *Machine) Idle() bool {
	return m.check == nil && m.probe == nil && m.opening == nil && m.adopting == nil && len(m.waiting) == 0 &&
		m.renewal == nil && len(m.requests) == 0 && m.proving == nil
}

// Following reports whether another node's announcement is just being taken in.
func (m *Machine) Following() bool { return m.following() }

func (m *Machine) emit(a Action) { m.out = append(m.out, a) }

func (m *Machine) note(level slog.Level, text string, attrs ...any) {
	m.emit(Note{level, text, attrs})
}

// LastWanted is when clients of any node last wanted the suite; Never for never.
func (m *Machine) LastWanted() Mono { return max(m.asked, m.askedByPeer, m.fresh.Announced) }

// ForgetPause lets the next check begin at once. It is for tests.
func (m *Machine) ForgetPause() {
	m.fresh.Tried, m.fresh.TriedFresh = m.fresh.Tried.Add(-CheckPause), m.fresh.TriedFresh.Add(-CheckPause)
}

// LastCheck is when upstream, or the leader, was last asked; Never for never.
func (m *Machine) LastCheck() Mono { return m.fresh.Tried }
