package upstream

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

var errWrongHash = fmt.Errorf("%w: sha256 is another one", proto.ErrCorrupt)

// A mirror that lied is benched for that object, and when it lies about several for
// all.
func TestBlame(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		blame := func(path string) { r.Blame(get(path).Loc, []string{r.from(path)}, errWrongHash) }
		blame("1.deb")
		if got := r.from("1.deb"); got != nameOf(1) {
			t.Errorf("the object it lied about, from %s", got)
		}
		if got := r.from("2.deb"); got != nameOf(0) {
			t.Errorf("another object, from %s", got)
		}
		r.wantState(0, BreakerClosed)
		r.Blame(get("1.deb").Loc, []string{nameOf(0)}, errWrongHash) // about the same again
		blame("2.deb")
		r.wantState(0, BreakerClosed)
		if told := r.changed(); len(told) != 0 {
			t.Errorf("told %v", told)
		}
		blame("3.deb")
		r.wantState(0, BreakerOpen)
		if got := r.from("4.deb"); got != nameOf(1) {
			t.Errorf("from %s", got)
		}
		if told := r.changed(); len(told) != 1 || told[0].Kind != proto.AlertContent || told[0].Mirror != nameOf(0) {
			t.Errorf("told %v", told)
		}
		if got := r.state(0); got.Penalties != 3 || got.Failovers[leftContent] != 4 {
			t.Errorf("%+v", got)
		}

		// It is asked all the same where no other has it.
		r.at(1, answers(404))
		if got := r.from("1.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}

		// And in time the penalties are forgotten.
		r.at(1, nil)
		time.Sleep(wrongContentFor)
		if got := r.from("1.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
	})
}

// Of several suspects, each is asked once all others have failed, one at a time; no
// breaker knows of it.
func TestSuspects(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 3, inOrder)
		loc := get("x.deb").Loc
		for i := range 2 * wrongAt {
			other := proto.Location{Archive: "a", Path: fmt.Sprint(i)}
			r.Blame(other, []string{nameOf(0), nameOf(1)}, errWrongHash)
		}
		r.Blame(loc, []string{nameOf(0), nameOf(1)}, errWrongHash)
		r.wantState(0, BreakerClosed)
		r.wantState(1, BreakerClosed)
		if got := r.from("x.deb"); got != nameOf(2) {
			t.Errorf("from %s", got)
		}
		r.at(2, answers(404))
		if got := r.from("x.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
		r.Blame(loc, []string{nameOf(0)}, errWrongHash)
		if got := r.from("x.deb"); got != nameOf(1) {
			t.Errorf("from %s", got)
		}
		const stranger = "http://elsewhere.example.org"
		if r.Blame(loc, []string{stranger}, errWrongHash); r.penalties.count()[stranger] != 0 {
			t.Error("what is no mirror was struck")
		}
	})
}

// Whatever number of objects is wrong, what is remembered of them is bounded, and the
// newest is.
func TestPenaltiesAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newPenalties()
		loc := func(i int) proto.Location { return proto.Location{Archive: "a", Path: fmt.Sprint(i)} }
		for i := range 3 * maxPenalties {
			s.note("m", loc(i), wrongContent)
			if f, _ := s.get("m", loc(i)); f != wrongContent {
				t.Fatalf("%d was forgotten at once", i)
			}
			if s.of.Len() > maxPenalties {
				t.Fatalf("%d penalties", s.of.Len())
			}
		}
		time.Sleep(wrongContentFor)
		s.note("m", loc(-1), brokeOff)
		if s.of.Len() != 1 {
			t.Errorf("%d penalties, of which one is not over", s.of.Len())
		}
		s.note("m", loc(-1), wrongContent)
		s.note("m", loc(-1), suspected)
		if f, _ := s.get("m", loc(-1)); f != wrongContent {
			t.Errorf("it is %d now", f)
		}
	})
}

// What a mirror broke off is held against it for that object only.
func TestPenaltyForABreak(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		r.at(0, after(3, hangsUp))
		if _, _, err := fetchAll(t.Context(), r.Client, get("x.deb")); !errors.As(err, new(*proto.Unavailable)) {
			t.Fatal(err)
		}
		r.at(0, nil)
		for path, want := range map[string]string{"x.deb": nameOf(1), "y.deb": nameOf(0)} {
			if got := r.from(path); got != want {
				t.Errorf("%s from %s", path, got)
			}
		}
		time.Sleep(penaltyFor)
		if got := r.from("x.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
	})
}
