package suite

import (
	"log/slog"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// AuditEvery is how long at most a node relies on what another node says of upstream. A leader could
// hold back a suite for all nodes, by mistake or on purpose: no signature proves that there is
// nothing newer.
const AuditEvery = 12 * time.Hour

// watch is what is remembered between two checks of a suite that is watched.
type watch struct {
	awake        bool
	jitter       float64       // 0..1, of the time to the next check
	audit        time.Duration // to this node's own check where another leads
	began        Mono
	leader       bool // this node did when it was last asked
	since        Mono // from when the interval of a node counts that has come to lead
	renewalTried Mono
}

// draw spreads the next check, so that suites do not march in step.
func (w *watch) draw(rand func() float64) {
	w.jitter = rand()
	w.audit = AuditEvery/2 + time.Duration(rand()*float64(AuditEvery/2))
}

// stretch is d give or take a tenth.
func (w *watch) stretch(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + w.jitter/5))
}

func (Tick) apply(*Machine) {}

func (Asked) apply(m *Machine) {
	m.asked = m.at.Mono
	if m.current != nil { // or any name that somebody makes up would be watched
		m.wake()
	}
}

func (AskedByPeer) apply(m *Machine) {
	m.askedByPeer = m.at.Mono
	if m.current != nil {
		m.wake()
	}
}

func (DemandGrew) apply(m *Machine) { m.demandGrew = true }

// wake begins to watch the suite.
func (m *Machine) wake() {
	if m.watch.awake {
		return
	}
	m.watch.awake = true
	m.watch.began, m.watch.since, m.watch.renewalTried = m.at.Mono, Never, Never
	m.watch.leader = m.at.isLeader()
	m.watch.draw(m.cfg.Rand)
}

// keepWatch starts the check that is due, and falls asleep when nobody wants the suite.
func (m *Machine) keepWatch() {
	if m.cfg.settled(m.current) {
		m.watch.awake = false
		return
	}
	if m.cfg.Configured {
		m.wake()
	}
	if !m.watch.awake || m.check != nil {
		return
	}
	if !m.cfg.Configured && !m.askedLately() && !m.checkedLately() {
		m.watch.awake = false
		m.note(slog.LevelInfo, "no client has asked for a while; upstream is no longer watched")
		return
	}
	m.noteRank()
	if !m.at.isLeader() && !m.cfg.Configured && !m.askedLately() {
		return // only other nodes' clients want it: their nodes see to it, and this one listens
	}
	due, audit := m.checkDue()
	if due <= m.at.Mono && !m.cfg.Offline {
		k := m.newCheck(false, false)
		if audit {
			k = directCheck(false)
		}
		m.start(k)
		return
	}
	m.renew()
}

// noteRank notes whether this node leads. A node that has come to lead goes by the checks of the
// node before it for the rest of the interval; from then on by its own only, so that nobody can
// keep it from asking by announcing checks.
func (m *Machine) noteRank() {
	if leader := m.at.isLeader(); leader != m.watch.leader {
		m.watch.leader, m.watch.since = leader, m.fresh.Good
	}
}

// checkDue is when the watch asks upstream next, or has the leader ask. audit says that it is this
// node itself that has to ask then.
func (m *Machine) checkDue() (due Mono, audit bool) {
	last := m.fresh.Tried
	if m.at.isLeader() || m.current == nil {
		due = max(last, m.watch.since).Add(m.watch.stretch(m.afterFailure()))
	} else {
		due = m.fresh.Good.Add(m.patience() + time.Duration(m.watch.jitter*float64(m.cfg.Interval)/2))
		if own := max(m.fresh.Own, m.watch.began).Add(m.watch.audit); own < due {
			due, audit = own, true
		}
		due = max(due, last.Add(m.watch.stretch(m.cfg.Interval)))
	}
	return max(due, last.Add(CheckPause)), audit
}

// patience is how old the last good check may become before a node of this rank asks itself: the
// later in line, the more.
func (m *Machine) patience() time.Duration {
	return m.cfg.Interval * time.Duration(3+m.at.Rank) / 2
}

// afterFailure is the interval, or less where the last checks have failed.
func (m *Machine) afterFailure() time.Duration {
	if m.failures > 0 {
		return min(m.cfg.Interval, 5*time.Second<<min(m.failures-1, 8))
	}
	return m.cfg.Interval
}

func (m *Machine) askedLately() bool {
	return m.at.Mono.Sub(max(m.asked, m.askedByPeer)) <= m.cfg.IdleAfter
}

// checkedLately reports whether another node has asked upstream not long ago. Then the suite is in
// use at that node, which will ask again in time.
func (m *Machine) checkedLately() bool {
	return m.cfg.Clustered && m.at.Mono.Sub(m.fresh.Announced) <= 2*m.cfg.RenewEvery
}

// renew reports to the leader that clients of this node use the suite, and which slots: when they
// use more than before, and otherwise now and then.
func (m *Machine) renew() {
	if m.renewal != nil || m.at.isLeader() || m.current == nil || m.renewalDue() > m.at.Mono {
		return
	}
	m.watch.renewalTried, m.demandGrew = m.at.Mono, false
	m.renewal = m.askLeader(false)
}

// renewalDue is when renew reports to the leader next; far ahead for not at all.
func (m *Machine) renewalDue() Mono {
	far := m.at.Mono.Add(m.cfg.RenewEvery)
	earliest := m.watch.renewalTried.Add(m.cfg.Interval * 9 / 10)
	if m.demandGrew {
		return max(earliest, m.at.Mono)
	}
	if idle := m.asked == Never || m.asked.Add(time.Second) < m.lastAsk; idle && !m.cfg.Configured {
		return far
	}
	return max(earliest, m.lastAsk.Add(m.cfg.RenewEvery))
}

// announce announces to the other nodes what this node serves. A check without a change is announced
// less often than clients can trigger checks.
func (m *Machine) announce(firstHand bool) {
	if !m.cfg.Clustered || m.current == nil {
		return
	}
	again := m.announced.Compare(m.current.Gen) == proto.Same && m.at.Mono.Sub(m.announcedAt) < m.cfg.Interval/2
	m.announced = m.current.Gen
	if again {
		return
	}
	m.announcedAt = m.at.Mono
	m.emit(Announce{firstHand})
}

// warn logs the alarm, once for each root.
func (m *Machine) warn() {
	if m.current == nil || m.alarmed == m.current.Gen.Root {
		return
	}
	if said := m.Belief(m.at).Alarm(m.at.Mono, m.at.Wall); said != "" {
		m.alarmed = m.current.Gen.Root
		m.note(slog.LevelWarn, "the root that is served is not renewed in time; clients refuse it after its Valid-Until", "date", stamp(m.current.Gen.Date), "alarm", said)
	}
}
