package suite

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestWeigh(t *testing.T) {
	current := root("held", 0)
	winner, loser := forkOf(current, true), forkOf(current, false)
	const good = Mono(time.Hour) // when upstream last had nothing newer than held
	later, at, earlier := good.Add(2*sameMoment), good, good.Add(-2*sameMoment)
	newer, older := root("held", 0, resigned("b", time.Hour)), root("held", 0, resigned("b", -time.Hour))
	for _, c := range []struct {
		name    string
		current *Root
		told    *Root
		checked Mono
		change  func(*Machine)
		want    string
	}{
		{"a node that holds nothing", current, &Root{}, at, nil, "nothing"},
		{"nothing is held", nil, root("old", -1), at, nil, "newer"},
		{"nothing is held, below the floor", nil, root("old", -1), at, func(m *Machine) { m.floor = day0 }, "older"},
		{"nothing is held, at the floor", nil, current, at, func(m *Machine) { m.floor = day0 }, "newer"},
		{"same", current, current, later, nil, "same"},
		{"past", current, root("old", -1), later, nil, "older"},
		{"future", current, root("new", 1), Never, nil, "newer"},
		{"fork, seen later", current, loser, later, nil, "newer"},
		{"fork, seen earlier", current, winner, earlier, nil, "older"},
		{"fork, seen at the same moment: the digest decides for it", current, winner, at, nil, "newer"},
		{"fork, seen at the same moment: the digest decides against it", current, loser, at, nil, "older"},
		{"fork, seen later, where this node leads and has asked", current, winner, later, func(m *Machine) { m.at.Rank = 0; m.fresh.Own = good }, "older"},
		{"fork, seen later, where this node leads and has not asked", current, loser, later, func(m *Machine) { m.at.Rank = 0 }, "newer"},
		{"revision, seen later", current, older, later, nil, "revised"},
		{"revision, seen earlier", current, newer, earlier, nil, "older"},
		{"revision, newer signature", current, newer, at, nil, "revised"},
		{"revision, older signature", current, older, at, nil, "older"},
		{"taken back, seen before this node asked", current, root("new", 1), earlier, func(m *Machine) { m.takenBack = day0.AddDate(0, 0, 2); m.fresh.Own = good }, "taken_back"},
		{"taken back, seen after this node asked", current, root("new", 1), later, func(m *Machine) { m.takenBack = day0.AddDate(0, 0, 2); m.fresh.Own = good }, "newer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, clustered)
			r.pass(10 * time.Second)
			r.m.at, r.m.current = r.at, c.current
			r.m.at.Rank = 1
			r.m.fresh.Good = good
			if c.change != nil {
				c.change(r.m)
			}
			if got := r.m.weigh(&proto.Announcement{Generation: c.told.Gen}, c.checked); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
}

// follower is a node of rank 1 that holds a root, is watched, and has just had the leader check.
func follower(t *testing.T, change ...func(*Config)) *rig {
	r := newRig(t, append(change, clustered)...)
	r.at.Rank = 1
	r.hold(root("held", 0), Record{Primary: "one", Checked: day0})
	r.pass(48 * time.Hour)
	ask := only[*AskLeader](r, r.step(Asked{}))
	r.step(LeaderAnswered{Ask: ask, From: "leader", Ann: proto.Announcement{Generation: r.m.Current().Gen}, Checked: r.at.Mono})
	if !r.m.Idle() {
		t.Fatal("the check through the leader has not ended")
	}
	r.pass(2 * CheckPause)
	return r
}

func TestFollowsAnAnnouncement(t *testing.T) {
	r := follower(t)
	next := root("next", 1)
	open := only[*OpenOffer](r, r.step(announced("node-2", next, r.at.Mono)))
	if open.Gen.Root != next.Gen.Root || len(open.From) != 1 || open.From[0] != "node-2" {
		t.Fatalf("opened %+v", open)
	}
	out := r.adopt(r.step(Opened{Open: open, Candidate: byNode(next)}))
	if r.m.Current().Gen.Statement != next.Gen.Statement {
		t.Fatal("not adopted")
	}
	if only[Announce](r, out).FirstHand {
		t.Error("a node claims to have from upstream what another node brought")
	}
}

// An announcement that promises more than its bytes hold is not opened again and again.
func TestEmptyPromiseIsNotOpenedWithoutEnd(t *testing.T) {
	proven := func(r *Root, by string) *Root {
		made := *r
		made.Gen.Companions = []proto.Companion{{Name: "sig", Ref: refOf(by), Proof: true}}
		return &made
	}
	r := newRig(t, clustered)
	r.at.Rank = 1
	current := proven(root("held", 0), "x")
	r.hold(current, Record{Primary: "one", Checked: day0})
	for _, by := range []string{"y", "z"} { // one of them has the greater digest
		opened := 0
		for out := r.step(announced("node-2", proven(current, by), r.at.Mono)); len(actions[*OpenOffer](out)) > 0; opened++ {
			if opened > 2 {
				t.Fatal("it is opened without end")
			}
			out = r.step(Opened{Open: only[*OpenOffer](r, out), Candidate: byNode(current)})
		}
	}
	r.pass(interval)
	next := root("next", 0)
	next.Gen.Date = day0.Add(time.Second)
	only[*OpenOffer](r, r.step(announced("node-2", next, r.at.Mono))) // and the node is listened to again
}

// A node's word does not do for a root of which the signature tells nothing: upstream is asked.
func TestOfferThatUpstreamHasToProve(t *testing.T) {
	unsure, undated := root("next", 1, named("unknown")), root("next", 1, func(r *Root) { r.Undated = true })
	for _, c := range []struct {
		name   string
		offer  *Root
		change func(*Config)
		before bool // the statement was current before
	}{
		{"names that tell nothing", unsure, func(*Config) {}, false},
		{"an undated root that was current before", undated, func(*Config) {}, true},
		{"no signature", root("next", 1, func(r *Root) { r.Manifest.Proven = false }), func(*Config) {}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := follower(t, c.change)
			if c.before {
				r.m.Superseded([]proto.Digest{c.offer.Gen.Statement})
			}
			open := only[*OpenOffer](r, r.step(announced("node-2", c.offer, r.at.Mono)))
			out := r.step(Opened{Open: open, Candidate: byNode(c.offer)})
			no[*Stage](r, out)
			ask := only[*AskMirror](r, out)
			// Upstream has something else: the node is not listened to for a while.
			out = r.step(MirrorAnswered{Ask: ask})
			no[*OpenOffer](r, out)
			no[*OpenOffer](r, r.step(announced("node-2", c.offer, r.at.Mono)))
			if r.m.announcers["node-2"].faults != 1 {
				t.Fatal("nobody is blamed")
			}
		})
	}
	t.Run("an archive without signatures is not even read from nodes", func(t *testing.T) {
		r := follower(t, func(c *Config) { c.Unsigned = true })
		out := r.step(announced("node-2", root("next", 1), r.at.Mono))
		no[*OpenOffer](r, out)
		only[*AskMirror](r, out)
	})
}

// TestLeaderVouches: of a root that no key vouches for, the leader's own answer is enough, and nobody
// else's word is.
func TestLeaderVouches(t *testing.T) {
	unsigned := func(c *Config) { c.Unsigned, c.LeaderVouches = true, true }
	next := root("next", 1, func(r *Root) { r.Manifest.Proven, r.Gen.Signed = false, time.Time{} })
	says := func(r *rig, ask *AskLeader, root *Root) []Action {
		return r.step(LeaderAnswered{Ask: ask, From: "leader", Ann: proto.Announcement{Generation: root.Gen}, Checked: r.at.Mono})
	}
	t.Run("it serves what was announced", func(t *testing.T) {
		r := follower(t, unsigned)
		out := r.step(announced("liar", next, r.at.Mono))
		no[*OpenOffer](r, out)
		no[*AskMirror](r, out)
		out = says(r, only[*AskLeader](r, out), next)
		no[*AskMirror](r, out)
		open := only[*OpenOffer](r, out)
		stage := only[*Stage](r, r.step(Opened{Open: open, Candidate: byNode(next)}))
		commit := only[*Commit](r, r.step(Staged{Stage: stage}))
		no[*AskMirror](r, r.step(Committed{Commit: commit}))
		if r.m.Current().Gen.Root != next.Gen.Root {
			t.Fatal("it was not adopted")
		}
	})
	t.Run("it serves something else", func(t *testing.T) {
		r := follower(t, unsigned)
		ask := only[*AskLeader](r, r.step(announced("liar", next, r.at.Mono)))
		out := says(r, ask, r.m.Current())
		no[*OpenOffer](r, out)
		r.pass(CheckPause)
		only[*AskMirror](r, append(out, r.step(Tick{})...)) // this node asks upstream itself
	})
	t.Run("with another signature beside it", func(t *testing.T) {
		r := follower(t, unsigned)
		other := *next
		other.Gen.Companions = []proto.Companion{{Name: "sig", Ref: refOf("other"), Proof: true}}
		ask := only[*AskLeader](r, r.step(announced("liar", &other, r.at.Mono)))
		out := says(r, ask, next)
		for _, open := range actions[*OpenOffer](out) {
			if len(open.Gen.Companions) > 0 {
				t.Error("what the leader did not say is opened")
			}
		}
	})
	t.Run("the leader asks upstream itself", func(t *testing.T) {
		r := follower(t, unsigned)
		r.at.Rank = 0
		out := r.step(announced("node-2", next, r.at.Mono))
		no[*AskLeader](r, out)
		no[*OpenOffer](r, out)
		only[*AskMirror](r, out)
	})
}

// A node that lies is asked less and less often; another that says the same is asked at once.
func TestFaultsCostOnlyTheCorruptSource(t *testing.T) {
	r := follower(t)
	next := root("next", 1)
	for n := range 3 {
		open := only[*OpenOffer](r, r.step(announced("liar", next, r.at.Mono)))
		before := r.at.Mono
		no[*OpenOffer](r, r.step(Opened{Open: open, Err: &Fault{"unreachable", errors.New("no such blob")}}))
		if pause := r.m.announcers["liar"].until.Sub(before); pause != 5*time.Second<<n {
			t.Fatalf("fault %d: paused for %s", n+1, pause)
		}
		no[*OpenOffer](r, r.step(announced("liar", next, r.at.Mono)))
		r.pass(5 * time.Second << n)
	}
	r.step(Opened{Open: r.m.opening})
	r = follower(t)
	open := only[*OpenOffer](r, r.step(announced("liar", next, r.at.Mono)))
	r.step(Opened{Open: open, Err: &Fault{"unreachable", errors.New("no such blob")}})
	if open = only[*OpenOffer](r, r.step(announced("honest", next, r.at.Mono))); open.From[0] != "honest" {
		t.Fatalf("asked %v", open.From)
	}
}

// What is announced in the name of a node, by somebody else, is not held against what that node announces itself.
func TestHearsayDoesNotCountAgainstANode(t *testing.T) {
	r := follower(t)
	lie, next := root("lie", 2), root("next", 1)
	hearsay := announced("node-2", lie, Never)
	hearsay.Hearsay = true
	open := only[*OpenOffer](r, r.step(hearsay))
	if len(open.From) != 1 || open.From[0] != "node-2" {
		t.Fatalf("asked %v", open.From)
	}
	no[*OpenOffer](r, r.step(Opened{Open: open, Err: &Fault{"unreachable", errors.New("no such blob")}}))
	open = only[*OpenOffer](r, r.step(announced("node-2", next, r.at.Mono)))
	if open.Gen.Root.Digest != next.Gen.Root.Digest {
		t.Fatalf("opens %v", open.Gen.Root)
	}
	r = follower(t)
	r.step(announced("busy", root("other", 3), r.at.Mono)) // is opened first
	for _, hearsay := range []bool{true, false} {
		both := announced("node-2", next, r.at.Mono)
		both.Hearsay = hearsay
		r.step(both)
	}
	out := r.step(Opened{Open: r.m.opening, Err: &Fault{"unreachable", errors.New("no such blob")}})
	if open = only[*OpenOffer](r, out); len(open.From) != 1 || open.From[0] != "node-2" {
		t.Fatalf("asked %v", open.From)
	}
}

// A generation that cannot be staged is not the announcers' fault; it is tried again.
func TestPostponedOffer(t *testing.T) {
	r := follower(t)
	next := root("next", 1)
	open := only[*OpenOffer](r, r.step(announced("node-2", next, r.at.Mono)))
	stage := only[*Stage](r, r.step(Opened{Open: open, Candidate: byNode(next)}))
	no[*OpenOffer](r, r.step(Staged{Stage: stage, Err: proto.ErrNoSpace}))
	if r.m.announcers["node-2"].faults != 0 {
		t.Fatal("the announcer is blamed for a full disk")
	}
	at, ok := r.m.Next()
	if !ok || at.Sub(r.at.Mono) > 5*time.Second {
		t.Fatalf("the next try is in %s", at.Sub(r.at.Mono))
	}
	r.pass(5 * time.Second)
	only[*OpenOffer](r, r.step(Tick{}))
}

func TestAnnouncersAreBounded(t *testing.T) {
	r := follower(t, func(c *Config) { c.Unsigned = false })
	for n := range 2 * MaxAnnouncers {
		r.step(announced(fmt.Sprintf("node-%d", n), root("next", 1), r.at.Mono))
	}
	if n := len(r.m.announcers); n > MaxAnnouncers {
		t.Fatalf("%d announcers are remembered", n)
	}
	for n := range 2 * maxAttempts {
		r.m.attempts.of(digestOf(fmt.Sprint(n)))
	}
	if n := len(r.m.attempts); n > maxAttempts {
		t.Fatalf("%d attempts are remembered", n)
	}
}

func TestStaleAnswersChangeNothing(t *testing.T) {
	r := follower(t)
	next := root("next", 1)
	for _, e := range []Event{
		MirrorAnswered{Ask: &AskMirror{Mirror: "one"}, Candidate: from("one", next)},
		LeaderAnswered{Ask: &AskLeader{}, From: "x", Err: proto.ErrNotFound},
		Opened{Open: &OpenOffer{}, Candidate: byNode(next)},
		Staged{Stage: &Stage{from("one", next)}},
		Committed{Commit: &Commit{Candidate: from("one", next)}},
	} {
		if out := r.step(e); len(out) != 0 {
			t.Errorf("%T: %+v", e, out)
		}
	}
	if r.m.Current().Gen.Statement == next.Gen.Statement {
		t.Fatal("a stale answer brought a root")
	}
}
