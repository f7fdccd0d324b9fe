package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// An archive may be kept by several mirrors, none of which is always up to date, or up
// at all. A suite's root is read from one of them at a time, the mirror that leads;
// from the next one in the same look where that one has nothing to give that is trusted
// and not older than what is held. Now and then another one is glanced at, so that a
// lead that has fallen behind is noticed.
//
// A mirror that is behind for a suite is asked for that suite's root only where no
// better one answers, and in its turn. All else is fetched by digest, and for that
// it is as good as any.

// Bounds on what a look asks.
const (
	maxLook     = 4 // mirrors asked in one look
	glanceEvery = 5 // looks, about, between two glances at another mirror
)

// standing is what is known of a suite's root on one mirror. Guarded by suite.mu.
type standing struct {
	validators           // of the last root that it gave and that is trusted
	Date       time.Time `json:"date,omitzero"` // of that
	// Seen is when it last gave one, or said that it still has it.
	Seen  time.Time `json:"seen,omitzero"`
	fault error     // of the last question; nil when it was answered well
}

// copies is what is known of the mirrors of a suite. Guarded by suite.mu.
type copies struct {
	lead    string // the mirror that is asked first; "" before the first look
	known   map[string]*standing
	glanced time.Time // when another than the lead was last glanced at
	turn    string    // the one that was
}

func mirrorName(mirror string) string {
	if mirror == "" {
		return "upstream"
	}
	return mirror
}

// look asks upstream itself: the mirror that leads, and then as many others as it
// takes.
func (s *suite) look(k *check) error {
	k.looked = true
	err := s.lookAround(k)
	s.letGo(err)
	return err
}

func (s *suite) lookAround(k *check) error {
	if k.found != nil {
		return s.settleLook(k, query{mirror: k.found.mirror}, k.found, k.began)
	}
	if s.offline() {
		return s.errOffline()
	}
	var answers []answer
	mirrors := s.toAsk()
	for i, mirror := range mirrors {
		q := query{mirror: mirror, held: s.held(), whole: k.older, timeout: nextTimeout}
		if i == len(mirrors)-1 {
			q.timeout = rootTimeout
		}
		err := s.lookAt(k, q, answers)
		if err == nil {
			s.blameLiars(answers)
			return nil
		}
		answers = append(answers, answer{mirror, err})
		if s.ctx.Err() != nil || !mayAskNext(answers) {
			break
		}
	}
	return verdict(answers)
}

// answer is what a mirror was asked for in vain.
type answer struct {
	mirror string
	err    error
}

// mayAskNext reports whether another mirror may do better than the last one did. Where
// a newer Release waits for its indices, one more may have a still newer one; and
// what is this node's own trouble, none will end.
func mayAskNext(answers []answer) bool {
	last := answers[len(answers)-1].err
	switch {
	case incomplete(last):
		return true
	case slices.ContainsFunc(answers, func(a answer) bool { return incomplete(a.err) }):
		return false
	}
	var own *ownTrouble
	return !errors.As(last, &own)
}

// incomplete reports whether a Release is not adopted yet because what it lists cannot
// be had.
func incomplete(err error) bool {
	var r *refuse
	return errors.As(err, &r) && r.kind == "incomplete"
}

// ownTrouble is a failure of this node, not of a mirror.
type ownTrouble struct{ error }

func (o *ownTrouble) Unwrap() error { return o.error }

// verdict is the error of a look that was in vain: the answer that leaves most hope,
// so that a file is called missing only where all say so, and in a few words what the
// other mirrors said.
func verdict(answers []answer) error {
	hope := func(err error) int {
		var r *refuse
		var final *proto.Refused
		switch {
		case incomplete(err):
			return 0
		case errors.Is(err, proto.ErrNotFound):
			return 5
		case errors.As(err, &r) && r.kind == "older":
			return 4
		case errors.As(err, &final):
			return 3
		case errors.Is(err, proto.ErrCorrupt):
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

// errNoBetter is that a mirror has nothing newer than a Release that cannot be staged.
var errNoBetter = errors.New("it has nothing newer")

// lookAt asks one mirror, after others have been asked in vain, and adopts what it
// offers.
func (s *suite) lookAt(k *check, q query, before []answer) error {
	began := s.c.cfg.Now()
	cand, err := s.fetchRoot(q)
	// Staging may take long; it is no reason for clients to wait for another look.
	s.tried(true)
	s.lastOwn.Store(s.c.cfg.Now().UnixNano())
	s.noteAnswer(q, cand, err)
	switch {
	case err != nil:
		return err
	case cand != nil && s.overruled(cand) && !k.older:
		return refused("older", "%s offers the Release of %s again, which was taken back", cand.mirror, cand.gen.Date.Format(time.RFC3339))
	}
	for _, a := range before {
		// One that cannot be staged is no reason to settle for an older one; and the
		// same one cannot be staged from elsewhere either, for it is staged from all.
		if incomplete(a.err) && (cand == nil || !s.betterThan(cand, a.mirror)) {
			return errNoBetter
		}
	}
	return s.settleLook(k, q, cand, began)
}

// settleLook adopts what a mirror offers, nil for what was held then, and books that
// upstream has answered.
func (s *suite) settleLook(k *check, q query, cand *candidate, began time.Time) error {
	if cand == nil || s.mayLead(cand, q.held, k.older) {
		s.setLead(q.mirror) // before it is adopted, so that it is written down with that
	}
	if cand != nil {
		if err := s.adopt(cand, k.older); err != nil {
			var r *refuse
			if !errors.As(err, &r) {
				err = &ownTrouble{err}
			}
			return err
		}
	}
	k.firstHand = true
	now := s.held()
	if cand != nil && cand.gen.Root == now.Root {
		s.setLead(q.mirror)
	}
	// Where other nodes have brought a newer one meanwhile, upstream has not vouched
	// for that.
	if cand != nil || now.Root == q.held.Root {
		k.good = began
	}
	return nil
}

// mayLead reports whether the mirror that offers a Release is to be asked first from
// now on, whether or not the Release can be adopted yet.
func (s *suite) mayLead(cand *candidate, held *generation, older bool) bool {
	return held == nil || older || cand.gen.textSum == held.textSum || cand.gen.Date.After(held.Date) && !s.ahead(cand.gen.Date)
}

// ahead reports whether a date lies further ahead of this node's clock than may be.
func (s *suite) ahead(date time.Time) bool {
	return date.Sub(s.c.cfg.Now()) > s.c.cfg.MaxFuture
}

func (s *suite) setLead(mirror string) {
	s.mu.Lock()
	before := s.lead
	s.lead = mirror
	s.mu.Unlock()
	if before != mirror && before != "" {
		s.log.Info("another mirror is asked for the Release from now on", "mirror", mirror, "before", before)
	}
}

// toAsk lists the mirrors for one look: the lead first, those that are behind last, and
// else as the upstream would ask them. It lets go of what is known of mirrors that are
// not configured any more.
func (s *suite) toAsk() []string {
	names := s.c.cfg.Upstream.Mirrors(s.id.Archive)
	if len(names) == 0 {
		return []string{""} // the upstream will say why
	}
	held := s.held()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.known, func(mirror string, _ *standing) bool { return !slices.Contains(names, mirror) })
	if !slices.Contains(names, s.lead) {
		s.lead = ""
	}
	newest := s.newestKnown(held)
	place := func(mirror string) int {
		switch {
		case s.behindBy(mirror, newest) > 0:
			return 2
		case mirror != s.lead:
			return 1
		}
		return 0
	}
	order := slices.Clone(names)
	slices.SortStableFunc(order, func(x, y string) int { return place(x) - place(y) })
	return order[:min(len(order), maxLook)]
}

// toAskForPair lists the mirrors that may have the Release and Release.gpg that go with
// an InRelease: the one that gave that first, and none that is behind.
func (s *suite) toAskForPair(first string) []string {
	order := s.toAsk()
	held := s.held()
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.newestKnown(held)
	kept := slices.DeleteFunc(slices.Clone(order), func(mirror string) bool { return mirror != first && s.behindBy(mirror, newest) > 0 })
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

// newestKnown is the Date of the newest Release that is held or that a mirror has, but
// for those that an operator has gone back from. suite.mu is held.
func (s *suite) newestKnown(held *generation) (newest time.Time) {
	if held != nil {
		newest = held.Date
	}
	for _, st := range s.known {
		if st.Date.After(newest) && !s.isTakenBack(st.Date) {
			newest = st.Date
		}
	}
	return newest
}

// behindBy is by how much the Release that a mirror gave last is older than newest; 0
// where it has given none. suite.mu is held.
func (s *suite) behindBy(mirror string, newest time.Time) time.Duration {
	st, ok := s.known[mirror]
	if !ok || st.Date.IsZero() {
		return 0
	}
	return max(newest.Sub(st.Date), 0)
}

// conditionFor is what a question for a root can be made conditional with: the mirror
// has given what is held, or one that is older, which need not come again. The zero
// standing where there is none.
func (s *suite) conditionFor(name string, q query) standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.known[q.mirror]
	if !ok || q.held == nil || st.Name != name {
		return standing{}
	}
	if st.Root == q.held.Root || !q.whole && st.Date.Before(q.held.Date) {
		return *st
	}
	return standing{}
}

// noteAnswer books what a mirror has answered.
func (s *suite) noteAnswer(q query, cand *candidate, err error) {
	s.c.metrics.mirrors.WithLabelValues(s.id.Archive, q.mirror, checkReason(err)).Inc()
	now := s.c.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.known[q.mirror]
	if !ok {
		if s.known == nil {
			s.known = make(map[string]*standing)
		}
		st = &standing{}
		s.known[q.mirror] = st
	}
	st.fault = err
	var r *refuse
	switch {
	case errors.As(err, &r) && r.kind == "older":
		st.Seen, st.fault = now, nil // it still has it
	case err != nil:
	case cand == nil:
		st.Seen, st.Date = now, q.held.Date
	case !s.ahead(cand.gen.Date): // or all others would seem to be behind
		st.Seen, st.Date, st.validators = now, cand.gen.Date, cand.validators
	}
}

// overruled reports whether a mirror offers again what an operator has gone back from:
// only the one that he has gone back with may bring that.
func (s *suite) overruled(cand *candidate) bool {
	held := s.held()
	s.mu.Lock()
	defer s.mu.Unlock()
	return held != nil && cand.gen.Root != held.Root && s.isTakenBack(cand.gen.Date) && s.lead != "" && s.lead != cand.mirror
}

// betterThan reports whether a Release is not older than the one that a mirror gave
// last, and another.
func (s *suite) betterThan(cand *candidate, mirror string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.known[mirror]
	return ok && cand.gen.Root != st.Root && !cand.gen.Date.Before(st.Date)
}

// blameLiars tells the upstream of mirrors that gave what nobody has signed, now that
// another mirror has shown that there is a Release which somebody has.
func (s *suite) blameLiars(answers []answer) {
	for _, a := range answers {
		var l *lied
		if errors.As(a.err, &l) && a.mirror != "" {
			s.c.cfg.Upstream.Blame(s.id.At("InRelease"), []string{a.mirror}, a.err)
		}
	}
}

// glance looks at one other mirror than the lead, each in its turn, about once in five
// looks: so that a lead that has fallen behind is noticed, and a mirror that has caught
// up. It is run behind a look that went well, and nobody waits for it.
func (s *suite) glance() {
	mirror, ok := s.nextGlance()
	if !ok {
		return
	}
	q := query{mirror: mirror, held: s.held(), timeout: nextTimeout}
	cand, err := s.fetchRoot(q)
	s.noteAnswer(q, cand, err)
	switch {
	case err != nil:
		s.log.Debug("a mirror that was glanced at has no Release to give", "mirror", mirror, "error", err)
	case cand == nil || cand.gen.Root == q.held.Root:
		if names := s.c.cfg.Upstream.Mirrors(s.id.Archive); len(names) > 0 && names[0] == mirror {
			s.setLead(mirror) // it is preferred, and not behind
		}
	default:
		s.takeFound(cand, q.held)
	}
}

// nextGlance picks the mirror whose turn it is, if it is time.
func (s *suite) nextGlance() (mirror string, ok bool) {
	names := s.c.cfg.Upstream.Mirrors(s.id.Archive)
	if len(names) < 2 || !s.leads() || s.held() == nil {
		return "", false
	}
	now := s.c.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.glanced) < s.interval()*(2*glanceEvery-1)/2 {
		return "", false
	}
	names = slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(name string) bool { return name == s.lead })
	if len(names) == 0 {
		return "", false
	}
	mirror = names[0]
	if i := slices.IndexFunc(names, func(name string) bool { return name > s.turn }); i >= 0 {
		mirror = names[i]
	}
	s.glanced, s.turn = now, mirror
	return mirror, true
}

// takeFound adopts a Release that a mirror has offered at a glance, if it is newer
// than what was held, as a look of its own.
func (s *suite) takeFound(cand *candidate, held *generation) {
	order := held.Compare(cand.gen.Generation)
	if order == proto.Past || s.overruled(cand) {
		return
	}
	for s.ctx.Err() == nil {
		k := directCheck(false)
		k.found = cand
		running := s.join(k)
		running.wait(s.ctx)
		if running == k || s.held().Compare(cand.gen.Generation) != order {
			return
		}
	}
}

// MirrorStatus is what is known of a suite on one mirror of its archive.
type MirrorStatus struct {
	Mirror string        // URL of its root, without credentials
	Lead   bool          // it is asked first for the suite's root
	Date   time.Time     // of the Release that it gave last; zero for none yet
	Behind time.Duration // by how much that is older than the newest one known
	Seen   time.Time     // when it last said so
	Err    error         // of the last question; nil when it was answered well
}

// mirrorStatus lists the mirrors that have been asked, by name.
func (s *suite) mirrorStatus(held *generation) []MirrorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.newestKnown(held)
	all := make([]MirrorStatus, 0, len(s.known))
	for _, mirror := range slices.Sorted(maps.Keys(s.known)) {
		st := s.known[mirror]
		all = append(all, MirrorStatus{
			Mirror: mirror, Lead: mirror == s.lead, Date: st.Date, Behind: s.behindBy(mirror, newest), Seen: st.Seen, Err: st.fault,
		})
	}
	return all
}

// standings is what is written down of the mirrors.
func (s *suite) standings() (lead string, known map[string]standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known = make(map[string]standing, len(s.known))
	for mirror, st := range s.known {
		known[mirror] = *st
	}
	return s.lead, known
}
