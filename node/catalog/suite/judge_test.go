package suite

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestJudge(t *testing.T) {
	current := root("held", 0)
	// Two statements of the same date: by digest, winner takes the place of held, and loser does not.
	winner, loser := forkOf(current, true), forkOf(current, false)
	prevailing := func(c *Candidate) *Candidate { c.Prevails = true; return c }
	undated := func(r *Root) { r.Undated = true }
	form := func(n int) func(*Root) { return func(r *Root) { r.Form = n } }
	ahead := func(r *Root) { r.Gen.Date = day0.Add(time.Minute) }
	wrong := root("wrong", 0, named("unknown"))
	unproven := func(r *Root) { r.Manifest.Proven = false }

	for _, c := range []struct {
		name    string
		current *Root
		floor   time.Time
		cand    *Candidate
		older   bool
		want    verdict
		kind    string // of the Refusal; "" for none
	}{
		{"first contact", nil, time.Time{}, from("one", current), false, take, ""},
		{"first contact, below the floor", nil, day0.Add(time.Second), from("one", current), false, ignore, KindOlder},
		{"first contact, at the floor", nil, day0, from("one", current), false, take, ""},
		{"first contact, below the floor by the operator's word", nil, day0.Add(time.Second), from("one", current), true, take, ""},
		{"first contact, a date that nobody signed is not held against the floor", nil, day0.Add(time.Second), from("one", root("u", 0, undated)), false, take, ""},
		{"first contact, dated ahead", nil, time.Time{}, from("one", root("f", 0, ahead)), false, ignore, KindFuture},
		{"first contact, dated ahead by the operator's word", nil, time.Time{}, from("one", root("f", 0, ahead)), true, ignore, KindFuture},

		{"the same bytes", current, day0, from("one", current), false, ignore, ""},
		{"past", current, day0, from("one", root("old", -1)), false, ignore, KindOlder},
		{"past, from a node that prevails", current, day0, prevailing(byNode(root("old", -1))), false, ignore, KindOlder},
		{"past, by the operator's word", current, day0, from("one", root("old", -1)), true, take, ""},
		{"future", root("older", -1), day0, from("one", current), false, take, ""},
		{"future, from a node", root("older", -1), day0, byNode(current), false, take, ""},
		{"future, dated ahead", current, day0, from("one", root("f", 0, ahead)), false, ignore, KindFuture},

		{"fork, from the mirror that this node goes by", current, day0, from("one", loser), false, take, ""},
		{"fork, from another mirror, by digest", current, day0, from("two", loser), false, ignore, ""},
		{"fork, from another mirror, that wins by digest", current, day0, from("two", winner), false, take, ""},
		{"fork, from a node, by digest", current, day0, byNode(loser), false, ignore, ""},
		{"fork, from a node, that prevails", current, day0, prevailing(byNode(loser)), false, take, ""},

		{"revision, what upstream serves now", current, day0, from("one", root("held", 0, resigned("b", -time.Hour))), false, revise, ""},
		{"revision, another mirror's older signature", current, day0, from("two", root("held", 0, resigned("b", -time.Hour))), false, ignore, ""},
		{"revision, another mirror's newer signature", current, day0, from("two", root("held", 0, resigned("b", time.Hour))), false, revise, ""},
		{"revision, a node's older signature that prevails", current, day0, prevailing(byNode(root("held", 0, resigned("b", -time.Hour)))), false, revise, ""},
		{"revision, in a form that clients prefer", root("held", 0, form(1)), day0, byNode(root("held", 0, resigned("b", -time.Hour))), false, revise, ""},
		{"revision, only in a form that clients do not prefer", current, day0, from("one", root("held", 0, form(1), resigned("b", time.Hour))), false, ignore, ""},

		{"healing: an older root of this suite takes the place of a newer one of who knows which", wrong, day0, from("two", root("old", -1)), false, take, ""},
		{"no healing on a node's word", wrong, day0, byNode(root("old", -1)), false, ignore, KindOlder},
		{"no healing without a signature", wrong, day0, from("two", root("old", -1, unproven)), false, ignore, KindOlder},
		{"no healing by a root of who knows which suite", wrong, day0, from("two", root("old", -1, named("unknown"))), false, ignore, KindOlder},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.m.at = r.at
			r.m.at.Mirrors = []string{"one", "two"}
			r.m.book.primary = "one"
			r.m.current, r.m.floor = c.current, c.floor
			got, err := r.m.judge(c.cand, c.older)
			if got != c.want || c.kind == "" && err != nil || c.kind != "" && !isKind(err, c.kind) {
				t.Fatalf("verdict %d, error %v; want %d, kind %q", got, err, c.want, c.kind)
			}
		})
	}
}

// forkOf is another statement of the same date. wins says which one takes the other's place by digest.
func forkOf(current *Root, wins bool) *Root {
	for n := 'a'; ; n++ {
		if other := root(string(n), 0); current.Gen.ForkWinner(other.Gen) == wins {
			return other
		}
	}
}

func TestForkIsLoggedOnce(t *testing.T) {
	r := newRig(t)
	r.at.Mirrors = []string{"one", "two"}
	current := root("held", 0)
	r.hold(current, Record{Primary: "one"})
	loser := forkOf(current, false)
	logged := 0
	for n := range 3 {
		r.pass(2 * CheckPause)
		out := r.step(MirrorAnswered{Ask: r.ask(uint64(n)), Err: proto.ErrNotFound})
		out = r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", loser)})
		for _, n := range actions[Count](out) {
			if n.What == CountFork {
				logged++
			}
		}
	}
	if logged != 1 || r.m.Current().Gen.Statement != current.Gen.Statement {
		t.Fatalf("the fork was counted %d times, held is %v", logged, r.m.Current().Gen)
	}
}

func TestBelonging(t *testing.T) {
	current := root("held", 0)
	for _, c := range []struct {
		name    string
		current *Root
		cand    *Candidate
		want    proto.Belonging
	}{
		{"first contact", nil, from("one", current), proto.BelongsYes},
		{"first contact, from a mirror, nobody knows", nil, from("one", root("x", 0, named("unknown"))), proto.BelongsUnsure},
		{"first contact, from a node, another suite holds it", nil, byNode(root("x", 0, named("unknown"))), proto.BelongsNo},
		{"first contact, from a node, no suite holds it", nil, byNode(root("y", 0, named("unknown"))), proto.BelongsUnsure},
		{"the statement that is held, whatever its names", root("x", 0, named("other")), from("one", root("x", 0, named("other"))), proto.BelongsYes},
		{"another suite's", current, from("one", root("x", 1, named("other"))), proto.BelongsNo},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *Config) {
				cfg.Judge = &namesJudge{map[proto.Digest]bool{digestOf("x"): true}}
			})
			r.m.at, r.m.current = r.at, c.current
			if got := r.m.belonging(c.cand); got != c.want {
				t.Fatalf("got %v, want %v", got, c.want)
			}
		})
	}
}

// The names of a root change: two mirrors that agree are believed at once, one after a while, and the
// operator at once.
func TestRenamedRoot(t *testing.T) {
	renamed := root("renamed", 1, named("oldstable"))
	begin := func(t *testing.T, mirrors ...string) *rig {
		r := newRig(t)
		r.at.Mirrors = mirrors
		r.hold(root("held", 0), Record{Primary: "one"})
		r.pass(48 * time.Hour)
		return r
	}
	t.Run("two mirrors agree", func(t *testing.T) {
		r := begin(t, "one", "two")
		out := r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", renamed)})
		next := only[*AskMirror](r, out)
		if next.Mirror != "two" {
			t.Fatalf("%s is asked next", next.Mirror)
		}
		r.adopt(r.step(MirrorAnswered{Ask: next, Candidate: from("two", renamed)}))
		if r.m.Current().Gen.Statement != renamed.Gen.Statement {
			t.Fatal("not adopted")
		}
	})
	t.Run("the second mirror disagrees", func(t *testing.T) {
		r := begin(t, "one", "two")
		out := r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", renamed)})
		out = r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", root("another", 1, named("sid")))})
		if reply := only[Reply](r, out); !isKind(reply.Err, KindRenamed) {
			t.Fatalf("the check ended with %v", reply.Err)
		}
		no[*Stage](r, out)
	})
	t.Run("the second mirror goes on as before", func(t *testing.T) {
		r := begin(t, "one", "two")
		out := r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", renamed)})
		r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", root("newer", 1))}))
		if r.m.Current().Gen.Statement != digestOf("newer") {
			t.Fatal("the root that goes by the old names was not adopted")
		}
	})
	t.Run("one mirror, for a while", func(t *testing.T) {
		r := begin(t, "one")
		for n := 1; ; n++ {
			out := r.step(MirrorAnswered{Ask: r.ask(uint64(n)), Candidate: from("one", renamed)})
			if n < renameTimes {
				no[*Stage](r, out)
				if reply := only[Reply](r, out); !isKind(reply.Err, KindRenamed) || !strings.Contains(reply.Err.Error(), `Suite from "stable" to "oldstable"`) {
					t.Fatalf("check %d ended with %v", n, reply.Err)
				}
				r.pass(interval)
				continue
			}
			r.adopt(out)
			return
		}
	})
	t.Run("one mirror, many checks in a moment", func(t *testing.T) {
		r := begin(t, "one")
		for n := range 2 * renameTimes {
			no[*Stage](r, r.step(MirrorAnswered{Ask: r.ask(uint64(n)), Candidate: from("one", renamed)}))
			r.pass(CheckPause)
		}
	})
	t.Run("the count begins anew when the old names come back", func(t *testing.T) {
		r := begin(t, "one")
		for n := range 3 * renameTimes {
			cand := from("one", renamed)
			if n%renameTimes == renameTimes-1 {
				cand = nil
			}
			no[*Stage](r, r.step(MirrorAnswered{Ask: r.ask(uint64(n)), Candidate: cand}))
			r.pass(interval)
		}
	})
	t.Run("the operator's word", func(t *testing.T) {
		r := begin(t, "one")
		ask := only[*AskMirror](r, r.step(Request{ID: 1, Since: true, Older: true}))
		r.adopt(r.step(MirrorAnswered{Ask: ask, Candidate: from("one", renamed)}))
		if r.m.Current().Gen.Statement != renamed.Gen.Statement {
			t.Fatal("not adopted")
		}
	})
	t.Run("first contact with one mirror", func(t *testing.T) {
		r := newRig(t)
		r.adopt(r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", root("x", 0, named("unknown")))}))
	})
}

// A root of which the names tell nothing is decided about once in a check, also where it is then refused.
func TestDoubtfulRootThatIsRefused(t *testing.T) {
	for name, mirrors := range map[string][]string{"one mirror": {"one"}, "two mirrors agree": {"one", "two"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.at.Mirrors = mirrors
			ask, doubtful := r.ask(1), root("x", 1, named("unknown"))
			out := r.step(MirrorAnswered{Ask: ask, Candidate: from("one", doubtful)})
			if len(mirrors) > 1 {
				out = r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", doubtful)})
			}
			if reply := only[Reply](r, out); !isKind(reply.Err, KindFuture) {
				t.Fatalf("the check ended with %v", reply.Err)
			}
		})
	}
}

// A root that says that it is of another suite is refused whoever offers it, at first contact too; the
// next mirror is asked instead.
func TestAnotherSuitesRoot(t *testing.T) {
	r := newRig(t)
	r.at.Mirrors = []string{"one", "two"}
	foreign := root("foreign", 0, named("other"))
	out := r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", foreign)})
	no[*Stage](r, out)
	r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", root("ours", -1))}))
	r.pass(interval)
	out = r.step(MirrorAnswered{Ask: r.ask(2), Candidate: from("two", foreign)})
	out = r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("one", foreign)})
	if reply := only[Reply](r, out); !isKind(reply.Err, KindOtherSuite) {
		t.Fatalf("the check ended with %v", reply.Err)
	}
}
