package suite

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/aptmesh/aptmesh/proto"
)

// check is one question to upstream, shared by all requests that wait for it: this node's own,
// mirror by mirror, or one that it has the leader ask in its place.
type check struct {
	older         bool // lets an older root in
	fresh         bool // upstream is asked at this moment, by whomever
	direct        bool // this node asks upstream itself, even if another node is the leader
	proof         bool // it only proves what another node has announced to all
	unconditional bool
	// found is a root that a probe has read a moment ago; nil where the check has to ask.
	found *Candidate
	began Mono
	// target is the statement that may be gone back to, and back the reason; zero for none.
	target proto.Digest
	back   proto.Back

	// asking says that it waits for another node, or is about to: a node that asks this one must
	// not wait for it.
	asking bool
	ask    *AskLeader
	before *Root               // the current root when the leader was asked
	told   *proto.Announcement // what the leader said, while the follow lane works on it
	from   string
	asOf   Mono // when the leader last knew upstream to have nothing newer

	mirrors []string
	query   *AskMirror
	// answered says that query is no longer outstanding.
	answered bool
	answers  []answer
	unsure   []*Candidate // whose names do not show whether they are of this suite

	good      Mono // when upstream had nothing newer than the current root; Never for not known
	looked    bool // this node has asked upstream itself
	firstHand bool // and upstream has answered well
	err       error
}

// newCheck plans a check. fresh does not accept what another node saw a moment ago. older is for an
// operator: it holds only on the node where it was given, so no other node is asked.
func (m *Machine) newCheck(fresh, older bool) *check {
	if older || m.at.isLeader() || m.cfg.settled(m.current) {
		return directCheck(older)
	}
	return &check{fresh: fresh, good: Never}
}

func directCheck(older bool) *check {
	return &check{older: older, direct: true, fresh: true, good: Never}
}

// start begins a check. No other is under way.
func (m *Machine) start(k *check) {
	m.check = k
	k.began = m.at.Mono
	switch {
	case k.found != nil:
		k.looked = true
		k.query = &AskMirror{Mirror: k.found.Mirror, current: m.current, began: m.at.Mono}
		m.consider(k, k.found)
	case k.direct:
		m.look(k)
	default:
		k.asking, k.before = true, m.current
		k.ask = m.askLeader(k.fresh)
	}
}

// look asks upstream itself, beginning with the primary mirror.
func (m *Machine) look(k *check) {
	k.looked = true
	if m.cfg.Offline {
		m.end(k, errOffline(m.cfg.ID))
		return
	}
	k.target, k.back = m.mayGoBack()
	k.mirrors = m.toAsk()
	m.askNext(k)
}

func (m *Machine) askNext(k *check) {
	mirror := k.mirrors[0]
	k.mirrors = k.mirrors[1:]
	q := &AskMirror{Mirror: mirror, Condition: m.conditionFor(mirror, k), NoCache: k.unconditional, Timeout: NextTimeout, current: m.current, began: m.at.Mono}
	if len(k.mirrors) == 0 {
		q.Timeout = LastTimeout
	}
	k.query, k.answered = q, false
	m.emit(q)
}

func (e MirrorAnswered) apply(m *Machine) {
	switch k := m.check; {
	case m.probe != nil && m.probe == e.Ask:
		m.probed(e.Candidate, e.Err)
	case k != nil && k.query == e.Ask && !k.answered:
		k.answered = true
		m.answered(k, e.Candidate, e.Err)
	}
}

// answered handles the answer of the mirror that a check has asked.
func (m *Machine) answered(k *check, cand *Candidate, err error) {
	q := k.query
	// Staging may take long; it is no reason for hosts to wait for another check.
	m.fresh.tried(m.at.Mono, true)
	m.fresh.Own = m.at.Mono
	if err == nil && cand == nil {
		err = m.stillOlder(q)
	}
	m.noteAnswer(q, cand, err)
	switch {
	case err != nil:
		m.inVain(k, err)
		return
	case cand != nil && m.overruled(cand) && !k.letsBack(cand):
		m.inVain(k, refuse(KindOlder, "%s offers the root of %s again, which was taken back", cand.Mirror, stamp(cand.Gen.Date)))
		return
	}
	for _, a := range k.answers {
		// A root that cannot be adopted yet is no reason to settle for an older one.
		if m.betterNone(cand, a) {
			m.inVain(k, errNoBetter)
			return
		}
	}
	if cand == nil {
		m.setPrimary(q.Mirror)
		m.wentWell(k, nil)
		return
	}
	m.consider(k, cand)
}

// consider decides whether a mirror's root is one of this suite, and has it adopted.
func (m *Machine) consider(k *check, cand *Candidate) {
	belonging := m.belonging(cand)
	if k.older && belonging == proto.BelongsNo {
		belonging = proto.BelongsUnsure // the operator's word; but let the log show it
		m.note(slog.LevelWarn, "an operator lets in a root that says that it is of another suite", "names", cand.Manifest.Names)
	}
	switch {
	case belonging == proto.BelongsNo:
		m.inVain(k, m.ofAnother(cand))
	case belonging == proto.BelongsYes || k.older:
		m.takeFrom(k, cand)
	default:
		m.doubt(k, cand)
	}
}

// ofAnother is the refusal of a root that is of another suite.
func (m *Machine) ofAnother(cand *Candidate) error {
	n := cand.Manifest.Names
	return reject(KindOtherSuite, proto.RejectForeign, "%s offers a root for %s that says that it is of another suite (Suite %q, Codename %q; to accept it all the same: aptmesh refresh --allow-older %s)",
		cand.source(), m.cfg.ID, n.Suite, n.Codename, m.cfg.ID)
}

// doubt handles a root whose names do not show whether it is of this suite. Two mirrors with the
// same root are believed. A single mirror that answers is believed at once at first contact, later
// only after it has offered the same root for a while.
func (m *Machine) doubt(k *check, cand *Candidate) {
	for _, other := range k.unsure {
		if other.Gen.Statement == cand.Gen.Statement && other.Mirror != cand.Mirror {
			k.unsure = nil
			m.takeFrom(k, cand)
			return
		}
	}
	k.unsure = append(k.unsure, cand)
	if k.found == nil && len(k.mirrors) > 0 {
		m.askNext(k)
		return
	}
	m.decideDoubt(k)
}

// decideDoubt settles a check in which no two mirrors agreed on a root that none of its names
// vouches for.
func (m *Machine) decideDoubt(k *check) {
	cand := k.unsure[0]
	k.unsure = nil // decided; or a root that is then refused would be decided about for ever
	if m.current == nil || m.persists(cand) {
		m.takeFrom(k, cand)
		return
	}
	n, was := cand.Manifest.Names, m.current.Manifest.Names
	k.answers = append(k.answers, answer{cand.Mirror, refuse(KindRenamed, "the root of %s has changed what it calls itself (%s), and no second mirror says the same; it is adopted when this lasts (at once: aptmesh refresh --allow-older %s)",
		m.cfg.ID, changedNames(was, n), m.cfg.ID)})
	m.end(k, outcome(k.answers))
}

func changedNames(was, is proto.Names) string {
	said := ""
	for _, f := range [...]struct{ name, was, is string }{
		{"Origin", was.Origin, is.Origin}, {"Label", was.Label, is.Label}, {"Suite", was.Suite, is.Suite}, {"Codename", was.Codename, is.Codename},
	} {
		if f.was != f.is {
			if said != "" {
				said += ", "
			}
			said += fmt.Sprintf("%s from %q to %q", f.name, f.was, f.is)
		}
	}
	if said == "" {
		return "its names fit no directory"
	}
	return said
}

// renaming is a root with other names that one mirror keeps offering.
type renaming struct {
	names proto.Names
	times int
	since Mono
}

// A change of names that only one mirror says is believed after renameTimes checks over at least
// two intervals.
const renameTimes = 3

// persists notes that a root with other names is offered, and reports whether it has been for long
// enough.
func (m *Machine) persists(cand *Candidate) bool {
	if m.renaming.times == 0 || m.renaming.names != cand.Manifest.Names {
		m.renaming = renaming{names: cand.Manifest.Names, since: m.at.Mono}
	}
	m.renaming.times++
	return m.renaming.times >= renameTimes && m.at.Mono.Sub(m.renaming.since) >= 2*m.cfg.Interval*9/10
}

// takeFrom has a root of the check's mirror adopted.
func (m *Machine) takeFrom(k *check, cand *Candidate) {
	if m.mayBePrimary(cand, k.query.current, k.letsBack(cand)) {
		m.setPrimary(cand.Mirror) // before it is adopted, so that it becomes durable with it
	}
	if k.letsBack(cand) {
		m.goBack(k, cand)
	}
	m.dateLikeOthers(cand)
	m.queue(&adoption{cand: cand, older: k.older, check: k})
}

// settled handles what came of adopting a mirror's root.
func (m *Machine) settled(k *check, cand *Candidate, err error) {
	if m.check != k {
		return
	}
	if err == nil {
		m.wentWell(k, cand)
		return
	}
	var r *Refusal
	if !errors.As(err, &r) {
		err = &localFailure{err}
	}
	m.inVain(k, err)
}

// wentWell ends a check after a good answer: with cand, or with nil if the current root is still the
// newest.
func (m *Machine) wentWell(k *check, cand *Candidate) {
	k.firstHand = true
	if cand != nil && m.current != nil && cand.Gen.Statement == m.current.Gen.Statement {
		m.setPrimary(cand.Mirror)
	}
	// If other nodes have brought a newer root in the meantime, upstream's answer is not about that.
	if cand != nil || m.current != nil && k.query.current != nil && m.current.Gen.Statement == k.query.current.Gen.Statement {
		k.good = k.query.began
	}
	if m.renaming.times > 0 && (cand == nil || m.belonging(cand) == proto.BelongsYes) {
		m.renaming = renaming{}
	}
	m.blameCorrupt(k.answers)
	m.end(k, nil)
}

// inVain goes on with the next mirror, or ends the check.
func (m *Machine) inVain(k *check, err error) {
	k.answers = append(k.answers, answer{k.query.Mirror, err})
	switch {
	case k.found == nil && len(k.mirrors) > 0 && mayAskNext(k.answers):
		m.askNext(k)
	case len(k.unsure) > 0:
		m.decideDoubt(k)
	default:
		m.end(k, outcome(k.answers))
	}
}

// askLeader sends a question to the leader.
func (m *Machine) askLeader(fresh bool) *AskLeader {
	a := &AskLeader{Fresh: fresh}
	m.emit(a)
	return a
}

func (e LeaderAnswered) apply(m *Machine) {
	switch k := m.check; {
	case m.renewal != nil && m.renewal == e.Ask:
		m.renewal = nil
		if e.Err == nil {
			m.lastAsk = m.at.Mono
			m.takeWord(e.Ann.Generation)
			m.receive(e.From, e.Ann, e.Checked)
		}
	case k != nil && k.ask == e.Ask:
		m.leaderAnswered(k, e)
	}
}

// leaderAnswered goes after what the leader says. Where the leader could not ask upstream just now,
// but holds something, that is better than nothing.
func (m *Machine) leaderAnswered(k *check, e LeaderAnswered) {
	if e.Err == nil {
		m.lastAsk = m.at.Mono
	}
	m.fresh.tried(m.at.Mono, e.Ask.Fresh)
	if e.Err != nil && e.Ask.Fresh && m.current == nil && Upstreams(e.Err) && !errors.Is(e.Err, proto.ErrNotFound) {
		k.err = e.Err
		k.ask = m.askLeader(false)
		return
	}
	if e.Err != nil && k.err != nil {
		e.Err = k.err // of upstream, asked at this moment
	}
	k.asking, k.ask, k.err = false, nil, nil
	switch {
	case e.Err != nil && Upstreams(e.Err):
		m.end(k, e.Err)
	case e.Err != nil || e.Ann.Generation.Suite != m.cfg.ID || e.Ann.Generation.Root.IsZero():
		m.note(slog.LevelDebug, "this node asks upstream itself", "node", e.From, "error", e.Err)
		m.look(k)
	default:
		m.takeWord(e.Ann.Generation)
		m.receive(e.From, e.Ann, e.Checked)
		k.told, k.from, k.asOf, m.followErr = &e.Ann, e.From, min(e.Checked, m.at.Mono), nil
	}
}

// believe ends a check through the leader when the follow lane has done what it could, or goes on
// with a question of this node's own. What the leader says will do where it is what is served here
// now, and known to be upstream's newest not long ago.
func (m *Machine) believe() {
	k := m.check
	if k == nil || k.told == nil || m.following() {
		return
	}
	told := k.told
	k.told = nil
	if m.followErr != nil {
		m.end(k, m.followErr)
		return
	}
	oldest := m.at.Mono.Add(-m.patience())
	if k.fresh {
		oldest = k.began.Add(-CheckPause) // ages travel, and take their time
	}
	same := m.current != nil && m.vouchesFor(told.Generation)
	if !same || k.asOf < oldest && k.before != nil {
		m.note(slog.LevelDebug, "this node asks upstream itself", "node", k.from)
		m.look(k)
		return
	}
	k.good = k.asOf
	m.end(k, nil)
}

// end books the result of a check.
func (m *Machine) end(k *check, err error) {
	k.err = err
	m.check, m.last = nil, k
	m.fresh.tried(m.at.Mono, k.fresh)
	m.fresh.Ended = m.at.Mono
	if err == nil && k.good != Never {
		m.goodAt(k.good)
	}
	m.noteRemoved(k)
	m.noteOlder(k)
	if err == nil || m.cfg.Offline { // not to ask is what was asked for
		m.fail(nil)
		m.failures = 0
	} else {
		m.fail(err)
		m.failures++
		// Once when it begins, then now and then: a mirror can be down for days.
		if m.failures == 1 || m.failures%20 == 0 {
			level := slog.LevelWarn
			if m.current == nil && !m.cfg.Configured && errors.Is(err, proto.ErrNotFound) {
				level = slog.LevelInfo // a host asked for it, or the node guessed that there may be one
			}
			m.note(level, m.notAdopted("upstream's root"), "error", err, "checks_failed", m.failures)
		}
	}
	if k.looked {
		m.emit(Count{What: CountCheck, Result: Reason(err)})
	}
	if err == nil {
		m.emit(Unpin{})
	}
	if k.firstHand {
		m.announce(!k.proof)
		m.probeDue = !k.proof
	}
	m.watch.draw(m.cfg.Rand)
	m.checkEnded(k)
	if k.direct || k.looked {
		m.proven(k)
	}
}

// noteRemoved notes since when upstream does not have the suite any more, as it answered this node
// or the leader.
func (m *Machine) noteRemoved(k *check) {
	switch {
	case m.current != nil && errors.Is(k.err, proto.ErrNotFound):
		if m.removed == Never {
			m.removed = m.at.Mono
			m.note(slog.LevelWarn, "upstream does not have the suite any more; the current generation is served, marked stale", "error", k.err)
		}
	case k.looked && (k.err == nil || errors.As(k.err, new(*Refusal))):
		m.removed = Never // it has one, though perhaps none that can be adopted
	}
}

// goodAt notes when upstream was known to have nothing newer.
func (m *Machine) goodAt(at Mono) {
	if at > m.removed {
		m.removed = Never // it is back, even if another node found that
	}
	if at > m.fresh.Good {
		m.fresh.Good = at
		m.checked = m.at.Wall.Add(-m.at.Mono.Sub(at)).UTC()
	}
}

// notAdopted says what becomes of the hosts.
func (m *Machine) notAdopted(what string) string {
	if m.current == nil {
		return what + " was not adopted; hosts get an error, because there is no earlier generation"
	}
	return what + " was not adopted; hosts get the current generation"
}
