package suite

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// An archive may have several mirrors, and any of them may be out of date or down. The root is read
// from the primary mirror. If that mirror has no root that is trusted and not older than the current
// one, the same check asks the next mirror. A mirror that is behind is asked for the root only if no
// better mirror answers. Everything else is fetched by digest, and for that a mirror that is behind
// is as good as any.

// Bounds on what a check asks.
const (
	MaxMirrors = 4 // asked in one check
	probeEvery = 5 // checks, about, between two probes of another mirror
)

// Time limits for one mirror's answer, so that a mirror that drips bytes cannot hold the checks of
// a suite for ever. The shorter one holds where there is another mirror to ask: at a slow 32 KiB/s
// a root of 300 KiB takes less.
const (
	LastTimeout = 2 * time.Minute
	NextTimeout = 10 * time.Second
)

// standing is what this node knows of the root on one mirror.
type standing struct {
	Validators           // of the last root that it gave and that is trusted
	date       time.Time // of that root
	seen       time.Time // when it last gave one, or said that it still has it
	err        error     // of the last question; nil when it was answered well
	superseded bool      // the witness that was read with it named another root as the current one
	asked      int       // how often with a date alone as the condition
}

// wholeEvery is after how many questions with a date alone as the condition the root is asked for
// whole.
const wholeEvery = 5

// book is what this node knows of the mirrors.
type book struct {
	primary string // asked first; "" before the first check
	known   map[string]*standing
	probed  Mono   // when another than the primary was last probed
	turn    string // the mirror that was
}

// MirrorStats is what this node knows of the root on one mirror.
type MirrorStats struct {
	Mirror  string // URL of the mirror's root, without credentials
	Primary bool   // it is asked first
	Date    time.Time
	Behind  time.Duration // by how much that is older than the newest root known
	Seen    time.Time     // when it last said so
	Err     error         // of the last question; nil when it was answered well
}

// Mirrors lists the mirrors that have been asked, by name.
func (m *Machine) Mirrors() []MirrorStats {
	newest := m.newestKnown()
	all := make([]MirrorStats, 0, len(m.book.known))
	for _, name := range slices.Sorted(maps.Keys(m.book.known)) {
		st := m.book.known[name]
		all = append(all, MirrorStats{Mirror: name, Primary: name == m.book.primary, Date: st.date,
			Behind: m.behindBy(name, newest), Seen: st.seen, Err: st.err})
	}
	return all
}

// toAsk lists the mirrors for one check: the primary first, those that are behind last, the furthest
// behind at the very end, the others as upstream would ask them. It forgets mirrors that are no longer configured.
func (m *Machine) toAsk() []string {
	names := m.at.Mirrors
	if len(names) == 0 {
		return []string{""} // upstream will say why
	}
	maps.DeleteFunc(m.book.known, func(name string, _ *standing) bool { return !slices.Contains(names, name) })
	if !slices.Contains(names, m.book.primary) {
		m.book.primary = ""
	}
	newest := m.newestKnown()
	place := func(name string) int {
		switch {
		case m.behindBy(name, newest) > 0:
			return 2
		case name != m.book.primary:
			return 1
		}
		return 0
	}
	order := slices.Clone(names)
	slices.SortStableFunc(order, func(x, y string) int {
		return cmp.Or(place(x)-place(y), cmp.Compare(m.behindBy(x, newest), m.behindBy(y, newest)))
	})
	return order[:min(len(order), MaxMirrors)]
}

// NotBehind lists the mirrors that may have what goes with the current root, the one named first.
func (m *Machine) NotBehind(at At, first string) []string {
	m.at = at
	order := m.toAsk()
	newest := m.newestKnown()
	kept := slices.DeleteFunc(slices.Clone(order), func(name string) bool { return name != first && m.behindBy(name, newest) > 0 })
	if len(kept) == 0 {
		return order[:1]
	}
	slices.SortStableFunc(kept, func(x, y string) int {
		switch first {
		case x:
			return -1
		case y:
			return 1
		}
		return 0
	})
	return kept
}

// newestKnown is the date of the newest root that this node or a mirror has, except for roots that
// an operator has gone back from.
func (m *Machine) newestKnown() (newest time.Time) {
	if m.current != nil {
		newest = m.current.Gen.Date
	}
	for _, st := range m.book.known {
		if st.date.After(newest) && !m.isTakenBack(proto.Generation{Date: st.date}) {
			newest = st.date
		}
	}
	return newest
}

// behindBy is by how much the root that a mirror gave last is older than newest; 0 where it has
// given none.
func (m *Machine) behindBy(mirror string, newest time.Time) time.Duration {
	st, ok := m.book.known[mirror]
	if !ok || st.date.IsZero() {
		return 0
	}
	return max(newest.Sub(st.date), 0)
}

// conditionFor is what a question can be made conditional with: the mirror has given the current
// root, the same statement in other bytes, or an older root, none of which need come again. Zero
// for none.
func (m *Machine) conditionFor(mirror string, k *check) Validators {
	st, ok := m.book.known[mirror]
	if !ok || m.current == nil || k != nil && (k.unconditional || !k.target.IsZero()) {
		return Validators{}
	}
	// A date alone is a weak condition: another server behind the same name may have a newer root
	// with an older date, and say 304. Now and then the root is asked for whole.
	if st.ETag == "" {
		if st.asked++; st.asked%wholeEvery == 0 {
			return Validators{}
		}
	}
	switch {
	case st.Root == m.current.Gen.Root && st.Name == m.current.Gen.RootName:
		return st.Validators
	case st.Statement == m.current.Gen.Statement:
		return st.Validators
	case (k == nil || !k.older) && st.date.Before(m.current.Gen.Date) && m.fits(m.current):
		return st.Validators // unless an older root may replace the current root: then it has to come again
	}
	return Validators{}
}

// noteAnswer books what a mirror has answered.
func (m *Machine) noteAnswer(q *AskMirror, cand *Candidate, err error) {
	m.emit(Count{What: CountMirror, Mirror: q.Mirror, Result: Reason(err)})
	st, ok := m.book.known[q.Mirror]
	if !ok {
		st = &standing{}
		m.book.known[q.Mirror] = st
	}
	st.err = err
	switch {
	case isKind(err, KindOlder):
		st.seen, st.err = m.at.Wall, nil // it still has it
	case err != nil:
	case cand == nil:
		st.seen = m.at.Wall
		if q.current != nil && st.date.IsZero() {
			st.date = q.current.Gen.Date
		}
	case !m.ahead(cand.Gen.Date): // or all others would seem to be behind
		st.seen, st.date, st.Validators, st.superseded = m.at.Wall, cand.Gen.Date, cand.Validators, cand.Manifest.Superseded
	}
}

func (m *Machine) setPrimary(mirror string) {
	before := m.book.primary
	m.book.primary = mirror
	if before != mirror && before != "" {
		m.note(slog.LevelInfo, "another mirror is asked for the root from now on", "mirror", mirror, "before", before)
	}
}

// mayBePrimary reports whether the mirror that offers a root is to be asked first from now on,
// whether or not the root can be adopted yet.
func (m *Machine) mayBePrimary(cand *Candidate, current *Root, older bool) bool {
	return current == nil || older || cand.Gen.Statement == current.Gen.Statement ||
		cand.Gen.Date.After(current.Gen.Date) && !m.ahead(cand.Gen.Date)
}

// overruled reports whether a mirror offers again what an operator has gone back from: only the
// mirror that the operator has gone back with may bring that.
func (m *Machine) overruled(cand *Candidate) bool {
	return m.current != nil && cand.Gen.Statement != m.current.Gen.Statement && m.isTakenBack(cand.Gen) &&
		m.book.primary != "" && m.book.primary != cand.Mirror
}

// betterThan reports whether a root is not older than the one that a mirror gave last, and another.
func (m *Machine) betterThan(cand *Candidate, mirror string) bool {
	st, ok := m.book.known[mirror]
	return ok && cand.Gen.Statement != st.Statement && !cand.Gen.Date.Before(st.date)
}

// isTakenBack reports whether this node has gone back from the root of this date, or from a newer
// one.
func (m *Machine) isTakenBack(g proto.Generation) bool {
	return g.Back.IsZero() && !m.takenBack.IsZero() && !g.Date.After(m.takenBack)
}

// ahead reports whether a date lies further ahead of this node's clock than allowed.
func (m *Machine) ahead(date time.Time) bool { return date.Sub(m.at.Wall) > m.cfg.MaxFuture }

// answer is what a mirror was asked for in vain.
type answer struct {
	mirror string
	err    error
}

// mayAskNext reports whether another mirror may do better than the last one. If a newer root waits
// for its members, another mirror may have a still newer root. No mirror helps if this node itself
// is the cause.
func mayAskNext(answers []answer) bool {
	last := answers[len(answers)-1].err
	switch {
	case incomplete(last):
		return true
	case slices.ContainsFunc(answers, func(a answer) bool { return incomplete(a.err) }):
		return false
	}
	var own *localFailure
	return !errors.As(last, &own)
}

// outcome is the error of a check that was in vain: the answer that leaves most hope, so that a
// file is called missing only where all say so, and in a few words what the other mirrors said.
func outcome(answers []answer) error {
	hope := func(err error) int {
		var final *proto.Refused
		switch {
		case incomplete(err), isKind(err, KindTorn):
			return 0
		case errors.Is(err, proto.ErrNotFound):
			return 5
		case isKind(err, KindOlder):
			return 4
		case errors.As(err, &final):
			return 3
		case errors.Is(err, proto.ErrCorrupt), errors.Is(err, errNoBetter):
			return 2
		}
		return 1
	}
	best := 0
	for i := range answers {
		if hope(answers[i].err) < hope(answers[best].err) {
			best = i
		}
	}
	if len(answers) == 1 {
		return answers[0].err
	}
	var others []string
	for i, a := range answers {
		if i != best {
			others = append(others, fmt.Sprintf("%s: %v", mirrorName(a.mirror), a.err))
		}
	}
	return fmt.Errorf("%s: %w (other mirrors: %s)", mirrorName(answers[best].mirror), answers[best].err, strings.Join(others, "; "))
}

// blameCorrupt reports to upstream the mirrors that gave an unsigned root, now that another mirror
// has shown that a signed root exists.
func (m *Machine) blameCorrupt(answers []answer) {
	for _, a := range answers {
		var l *WrongContent
		if errors.As(a.err, &l) && a.mirror != "" {
			m.emit(Blame{a.mirror, a.err})
		}
	}
}

// startProbe asks one mirror other than the primary, each in its turn, about once in five checks:
// so that a primary that has fallen behind is noticed, and a mirror that has caught up. Nobody
// waits for it.
func (m *Machine) startProbe() {
	if !m.probeDue || m.probe != nil || m.check != nil {
		return
	}
	m.probeDue = false
	if m.cfg.settled(m.current) || len(m.at.Mirrors) < 2 || !m.at.isLeader() || m.current == nil || m.at.Mono.Sub(m.book.probed) < m.probePause() {
		return
	}
	names := slices.DeleteFunc(slices.Sorted(slices.Values(m.at.Mirrors)), func(name string) bool { return name == m.book.primary })
	if len(names) == 0 {
		return
	}
	mirror := names[0]
	if i := slices.IndexFunc(names, func(name string) bool { return name > m.book.turn }); i >= 0 {
		mirror = names[i]
	}
	m.book.probed, m.book.turn = m.at.Mono, mirror
	m.probe = &AskMirror{Mirror: mirror, Condition: m.conditionFor(mirror, nil), Timeout: NextTimeout, current: m.current, began: m.at.Mono}
	m.emit(m.probe)
}

// probePause is the least time between two probes. While the primary does not give a file beside the
// root, another mirror may.
func (m *Machine) probePause() time.Duration {
	if m.current.Gen.Unknown() > 0 {
		return 0
	}
	return m.cfg.Interval * (2*probeEvery - 1) / 2
}

// probed handles the answer to a probe.
func (m *Machine) probed(cand *Candidate, err error) {
	q := m.probe
	m.probe = nil
	if err == nil && cand == nil {
		err = m.stillOlder(q)
	}
	m.noteAnswer(q, cand, err)
	switch {
	case err != nil:
		m.note(slog.LevelDebug, "a mirror that was probed has no root to give", "mirror", q.Mirror, "error", err)
	case cand == nil || m.current != nil && m.current.Gen.Compare(cand.Gen) == proto.Same:
		if len(m.at.Mirrors) > 0 && m.at.Mirrors[0] == q.Mirror {
			m.setPrimary(q.Mirror) // it is preferred, and not behind
		}
	case m.current != nil && m.current.Gen.Compare(cand.Gen) == proto.Past && !m.heals(cand) || m.overruled(cand):
	default:
		m.found = cand
	}
}

// stillOlder is the error of a mirror whose root is still older than the root that was current when
// it was asked; nil if the mirror has that root.
func (m *Machine) stillOlder(q *AskMirror) error {
	st := m.book.known[q.Mirror]
	if q.current == nil || q.Condition.Root.IsZero() || q.Condition.Statement == q.current.Gen.Statement || st == nil {
		return nil
	}
	return m.olderThan(mirrorName(q.Mirror), st.date, q.current.Gen.Date)
}
