package suite

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// adoption is a candidate on its way to become the current generation. From whatever source, it is
// judged, staged and committed.
type adoption struct {
	cand  *Candidate
	older bool
	check *check // that brought it, or
	offer *offer // that it came from

	revision bool
	stage    *Stage
	commit   *Commit
}

// queue appends a candidate to those that wait for adoption.
func (m *Machine) queue(a *adoption) { m.waiting = append(m.waiting, a) }

// startAdoption begins with the next candidate.
func (m *Machine) startAdoption() {
	for m.adopting == nil && len(m.waiting) > 0 {
		a := m.waiting[0]
		m.waiting = m.waiting[1:]
		verdict, err := m.judge(a.cand, a.older)
		if verdict == ignore {
			m.adoptionEnded(a, err)
			continue
		}
		if err := m.waitForPair(a.cand); err != nil {
			m.adoptionEnded(a, err)
			continue
		}
		a.revision = verdict == revise
		a.stage = &Stage{a.cand}
		m.adopting = a
		m.emit(a.stage)
	}
}

// verdict is what to do with a candidate.
type verdict uint8

const (
	ignore verdict = iota // with an error: it is refused
	take
	revise // the current generation goes on in other bytes
)

// judge decides about a candidate, by the current root.
func (m *Machine) judge(c *Candidate, older bool) (verdict, error) {
	if m.current == nil {
		return m.judgeFirst(c, older)
	}
	order := m.current.Gen.Compare(c.Gen)
	switch order {
	case proto.Same:
		return ignore, nil
	case proto.Revised:
		if !m.tearsPair(c) && m.takesRevision(c) {
			return revise, nil
		}
		return ignore, nil
	}
	if !older && m.heals(c) {
		m.note(slog.LevelWarn, "a root that says that it is of this suite takes the place of one that does not", "date", stamp(c.Gen.Date), "by", c.source())
		return take, nil
	}
	switch {
	case order == proto.Past && !older:
		return ignore, m.olderThan(c.source(), c.Gen.Date, m.current.Gen.Date)
	case order == proto.Fork:
		m.logFork(c)
		if !c.Prevails && !m.upstreamsWord(c) && !m.current.Gen.ForkWinner(c.Gen) {
			return ignore, nil
		}
	}
	return m.notAhead(c)
}

// judgeFirst decides about the first generation. What was newest before the bytes were lost still
// counts.
func (m *Machine) judgeFirst(c *Candidate, older bool) (verdict, error) {
	if !older && !c.Undated && c.Gen.Age().Before(m.floor) {
		return ignore, m.olderThan(c.source(), c.Gen.Date, m.floor)
	}
	return m.notAhead(c)
}

func (m *Machine) notAhead(c *Candidate) (verdict, error) {
	if !m.ahead(c.Gen.Date) {
		return take, nil
	}
	return ignore, reject(KindFuture, proto.RejectFuture, "the root of %s is dated %s, %s ahead of this node's clock (%s); clients refuse it too, if their clocks say the same: check the clock of this node, then that of the archive; the key max_future lets in what hosts let in",
		m.cfg.ID, stamp(c.Gen.Date), c.Gen.Date.Sub(m.at.Wall).Round(time.Second), stamp(m.at.Wall))
}

// takesRevision decides whether other bytes of the current statement replace the current bytes.
// Hosts get what upstream serves now; if two sources differ, the newest signature counts.
func (m *Machine) takesRevision(c *Candidate) bool {
	switch {
	case c.Gen.BackLater(m.current.Gen):
		return true
	case c.Form != m.current.Form:
		// The statement now also comes in a form that clients prefer; or upstream has lost the
		// preferred form, or is about to write it.
		return c.Form < m.current.Form
	case c.Prevails, m.upstreamsWord(c):
		return true
	}
	return m.current.Gen.NewerRevision(c.Gen)
}

// upstreamsWord reports whether a candidate is what the mirror that this node goes by serves now.
func (m *Machine) upstreamsWord(c *Candidate) bool {
	return len(c.From) == 0 && (c.Mirror == m.book.primary || len(m.at.Mirrors) <= 1)
}

// heals reports whether a candidate says that it is of this suite, while the current root does not.
// So a root that was adopted wrongly does not stay because its date is newer.
func (m *Machine) heals(c *Candidate) bool {
	return c.Manifest.Proven && len(c.From) == 0 && m.current != nil && c.Gen.Statement != m.current.Gen.Statement &&
		m.fits(&c.Root) && !m.fits(m.current)
}

// fits reports whether a root by itself says that it is of this suite.
func (m *Machine) fits(r *Root) bool { return m.cfg.Judge.Belongs(nil, r.Manifest) == proto.BelongsYes }

// belonging is how far a candidate is one of this suite, by the names of the current root.
func (m *Machine) belonging(c *Candidate) proto.Belonging {
	if m.current == nil {
		b := m.cfg.Judge.Belongs(nil, c.Manifest)
		if b == proto.BelongsUnsure && len(c.From) > 0 && m.cfg.Judge.InOtherSuite(c.Gen.Statement) {
			return proto.BelongsNo
		}
		return b
	}
	if c.Gen.Statement == m.current.Gen.Statement {
		return proto.BelongsYes
	}
	return m.cfg.Judge.Belongs(&m.current.Manifest.Names, c.Manifest)
}

// logFork says that there are two statements of one date. What upstream serves counts, as it does
// for a client that asks upstream itself; between sources that differ the digest decides, on every
// node alike.
func (m *Machine) logFork(c *Candidate) {
	if m.forked == c.Gen.Statement {
		return
	}
	m.forked = c.Gen.Statement
	m.emit(Count{What: CountFork})
	m.note(slog.LevelWarn, "two different roots are signed with the same date", "date", stamp(m.current.Gen.Date),
		"current", m.current.Gen.Root.Digest.String(), "offered", c.Gen.Root.Digest.String(), "by", c.source(), "signer", c.Manifest.Signer)
}

func (e Staged) apply(m *Machine) {
	a := m.adopting
	if a == nil || a.stage != e.Stage || a.commit != nil {
		return
	}
	err := e.Err
	if err == nil && !a.revision {
		err = m.beComplete(a.cand, e.Missing)
	}
	if err == nil && !m.stillWanted(a) {
		m.adopting = nil
		m.adoptionEnded(a, nil)
		return
	}
	if err != nil {
		m.adopting = nil
		m.adoptionEnded(a, err)
		return
	}
	a.commit = &Commit{Candidate: a.cand, Revision: a.revision, Record: m.recordWith(a)}
	m.emit(a.commit)
}

// stillWanted is always so while adoptions run one at a time; it guards that rule.
func (m *Machine) stillWanted(a *adoption) bool {
	v, _ := m.judge(a.cand, a.older)
	return v != ignore
}

// beComplete decides whether to switch without files that cannot be fetched. Required ones are
// waited for: the archive is in the middle of publishing then, or a mirror is behind. Others are
// waited for with patience: the time counts for each file by itself and over several generations,
// so that neither an archive that publishes all the time nor a file that it never has can hold a
// suite back.
func (m *Machine) beComplete(c *Candidate, missing []Missing) error {
	date := stamp(c.Gen.Date)
	slots := make(map[string]error, len(missing))
	for _, f := range missing {
		if f.Required && m.current != nil {
			m.emit(Count{What: CountIncomplete})
			return refuse(KindIncomplete, "the root of %s is not adopted yet: %s cannot be fetched as it lists it (mirror sync in progress?): %w", date, f.Slot, f.Err)
		}
		slots[f.Slot] = f.Err
	}
	maps.DeleteFunc(m.missing, func(slot string, _ Mono) bool { _, still := slots[slot]; return !still })
	var waitFor []string
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		since, ok := m.missing[slot]
		if !ok {
			since = m.at.Mono
			m.missing[slot] = since
		}
		if m.at.Mono.Sub(since) < m.cfg.Patience {
			waitFor = append(waitFor, slot)
		}
	}
	// A first generation has nobody to protect from a switch.
	if len(waitFor) > 0 && m.current != nil {
		m.emit(Count{What: CountIncomplete})
		return refuse(KindIncomplete, "the root of %s waits at most %s for optional files, %s: %w",
			date, m.cfg.Patience, strings.Join(waitFor, ", "), slots[waitFor[0]])
	}
	if len(slots) > 0 {
		m.note(slog.LevelWarn, "switching without files that upstream lists but does not have", "missing", slices.Sorted(maps.Keys(slots)))
	}
	return nil
}

func (e Committed) apply(m *Machine) {
	a := m.adopting
	if a == nil || a.commit != e.Commit {
		return
	}
	m.adopting = nil
	if e.Err == nil {
		m.floor, m.takenBack = e.Commit.Record.Floor, e.Commit.Record.TakenBack
		root := a.cand.Root
		m.current = &root
		m.attempts.clear()
		m.removed = Never
		if m.askedLately() {
			m.wake()
		}
		if a.revision {
			m.emit(Count{What: CountRevision})
		}
	}
	m.adoptionEnded(a, e.Err)
}

// adoptionEnded reports to the lane that brought the candidate.
func (m *Machine) adoptionEnded(a *adoption, err error) {
	if a.check != nil {
		m.settled(a.check, a.cand, err)
	} else {
		m.offerEnded(a.offer, err)
	}
}

// recordWith is what must become durable with a candidate. Of going back it is remembered
// from which date: other nodes still hold that root, or one in between, and their word
// must not bring it back. Upstream's may.
func (m *Machine) recordWith(a *adoption) Record {
	r := m.Record()
	g := a.cand.Gen
	switch {
	case m.current != nil && g.Date.Before(m.current.Gen.Date):
		if m.current.Gen.Date.After(r.TakenBack) {
			r.TakenBack = m.current.Gen.Date
		}
	case !g.Date.Before(r.TakenBack):
		r.TakenBack = time.Time{}
	}
	if !a.cand.Undated && (g.Date.After(r.Floor) || a.older || !g.Back.IsZero() || m.heals(a.cand)) {
		r.Floor = g.Date
	}
	return r
}
