package suite

import (
	"testing"
	"time"
)

// What a question to a mirror is made conditional with.
func TestCondition(t *testing.T) {
	current, again, old := root("held", 0), root("held", 0, resigned("again", time.Minute)), root("old", -1)
	wrong := root("wrong", 0, named("unknown"))
	told := func(r *Root) *standing {
		v := from("one", r).Validators
		v.ETag = `"x"`
		return &standing{Validators: v, date: r.Gen.Date}
	}
	for _, c := range []struct {
		name    string
		current *Root
		gave    *standing // by the mirror, last
		k       *check
		want    bool // a condition, which is always what the mirror gave last
	}{
		{"nothing is held", nil, told(current), nil, false},
		{"a mirror that was never asked", current, nil, nil, false},
		{"what is held", current, told(current), nil, true},
		{"what is held, by an operator's check", current, told(current), directCheck(true), true},
		{"what is held, asked for whole", current, told(current), &check{unconditional: true}, false},
		{"the same statement in other bytes", current, told(again), nil, true},
		{"an older root: the mirror is behind", current, told(old), nil, true},
		{"an older root, and an operator may want it", current, told(old), directCheck(true), false},
		{"an older root, which may heal what is held", wrong, told(old), nil, false},
		{"a newer root, which could not be adopted", current, told(root("new", 1)), nil, false},
		{"another statement of the same date", current, told(root("fork", 0)), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.m.at, r.m.current = r.at, c.current
			if c.gave != nil {
				r.m.book.known["one"] = c.gave
			}
			got := r.m.conditionFor("one", c.k)
			if c.want && got != c.gave.Validators || !c.want && got != (Validators{}) {
				t.Fatalf("the condition is %+v", got)
			}
		})
	}
}

// A date alone may hide a newer root with an older date: every wholeEvery-th question is for the whole.
func TestDateAloneIsNoConditionForEver(t *testing.T) {
	for _, etag := range []string{"", `"x"`} {
		r := newRig(t)
		current := root("held", 0)
		r.m.at, r.m.current = r.at, current
		st := &standing{Validators: from("one", current).Validators, date: current.Gen.Date}
		st.ETag, st.Modified = etag, day0
		r.m.book.known["one"] = st
		whole := 0
		for range 4 * wholeEvery {
			if r.m.conditionFor("one", nil) == (Validators{}) {
				whole++
			}
		}
		if want := map[bool]int{true: 4, false: 0}[etag == ""]; whole != want {
			t.Errorf("entity tag %q: asked for the whole %d times of %d, want %d", etag, whole, 4*wholeEvery, want)
		}
	}
}
