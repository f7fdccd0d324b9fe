package suite

import (
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestCheckDue(t *testing.T) {
	const now = Mono(1000 * time.Hour)
	ago := func(d time.Duration) Mono { return now.Add(-d) }
	// With a jitter of 0.5 an interval is stretched by nothing, and a follower waits a quarter longer.
	for _, c := range []struct {
		name   string
		rank   int
		change func(*Machine)
		want   time.Duration // from now
		audit  bool
	}{
		{"a leader, after an interval", 0, func(m *Machine) { m.fresh.Tried = ago(10 * time.Second) }, 50 * time.Second, false},
		{"a leader that never asked", 0, func(*Machine) {}, Never.Sub(0) + interval - time.Duration(now), false},
		{"a leader, 5 s after the first failure", 0, func(m *Machine) { m.fresh.Tried, m.failures = now, 1 }, 5 * time.Second, false},
		{"a leader, 10 s after the second", 0, func(m *Machine) { m.fresh.Tried, m.failures = now, 2 }, 10 * time.Second, false},
		{"a leader, at most an interval after many", 0, func(m *Machine) { m.fresh.Tried, m.failures = now, 1000 }, interval, false},
		{"a new leader goes by the last one's check", 0, func(m *Machine) { m.watch.since = ago(20 * time.Second) }, 40 * time.Second, false},
		{"the second in line is patient for two intervals", 1, func(m *Machine) { m.fresh.Good = now }, 2*interval + interval/4, false},
		{"the third for two and a half", 2, func(m *Machine) { m.fresh.Good = now }, 5*interval/2 + interval/4, false},
		{"the second in line, an interval after a try in vain", 1, func(m *Machine) { m.fresh.Good, m.fresh.Tried = ago(time.Hour), now }, interval, false},
		{"not twice in the pause", 1, func(m *Machine) { m.fresh.Good, m.fresh.Tried, m.watch.jitter = ago(time.Hour), now, -4.49 }, CheckPause, false},
		{"a follower audits the leader", 1, func(m *Machine) {
			m.fresh.Good, m.fresh.Own, m.watch.began, m.watch.audit = ago(0), ago(7*time.Hour), ago(9*time.Hour), 7*time.Hour+time.Minute
		}, time.Minute, true},
		{"an audit counts from when the watch began", 1, func(m *Machine) {
			m.fresh.Good, m.watch.began, m.watch.audit = ago(0), ago(time.Hour), time.Hour+time.Minute
		}, time.Minute, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, clustered)
			m := r.m
			m.at, m.current = At{Mono: now, Wall: day0, Rank: c.rank}, root("held", 0)
			m.watch = watch{awake: true, jitter: 0.5, audit: AuditEvery, since: Never, began: now}
			c.change(m)
			due, audit := m.checkDue()
			if got := due.Sub(now); got != c.want || audit != c.audit {
				t.Fatalf("due in %s, audit %v; want %s, %v", got, audit, c.want, c.audit)
			}
		})
	}
}

func TestJitterStretchesByATenth(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{0: 54 * time.Second, 0.5: time.Minute, 1: 66 * time.Second} {
		w := watch{jitter: jitter}
		if got := w.stretch(time.Minute).Round(time.Millisecond); got != want {
			t.Errorf("jitter %v: %s, want %s", jitter, got, want)
		}
	}
}

// A suite is watched from the first client on until nobody has asked for a while; then again.
func TestSleepAndWake(t *testing.T) {
	r := newRig(t)
	r.hold(root("held", 0), Record{Checked: day0})
	if _, ok := r.m.Next(); ok || r.m.Watched() {
		t.Fatal("a suite that nobody wants is watched")
	}
	r.pass(48 * time.Hour)
	ask := only[*AskMirror](r, r.step(Asked{}))
	r.step(MirrorAnswered{Ask: ask})
	checks := 1
	for range 3 * 24 * 60 {
		at, ok := r.m.Next()
		if !ok {
			break
		}
		r.pass(at.Sub(r.at.Mono))
		for _, ask := range actions[*AskMirror](r.step(Tick{})) {
			checks++
			r.step(MirrorAnswered{Ask: ask})
		}
	}
	if r.m.Watched() || checks < 23*60 || checks > 25*60 {
		t.Fatalf("watched: %v, after %d checks in a day of intervals", r.m.Watched(), checks)
	}
	r.pass(time.Hour)
	only[*AskMirror](r, r.step(AskedByPeer{}))
	if !r.m.Watched() {
		t.Fatal("another node's clients do not wake the watch")
	}
}

func TestConfiguredSuiteNeverSleeps(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Configured = true })
	r.hold(root("held", 0), Record{Checked: day0})
	r.pass(1000 * time.Hour)
	only[*AskMirror](r, r.step(Tick{}))
	if !r.m.Watched() {
		t.Fatal("not watched")
	}
}

func TestMadeUpNameIsNotWatched(t *testing.T) {
	r := newRig(t)
	no[*AskMirror](r, r.step(Asked{}))
	if r.m.Watched() {
		t.Fatal("a suite of which nothing is held is watched")
	}
}

func TestOfflineNeverAsks(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Offline, c.Configured = true, true })
	r.hold(root("held", 0), Record{})
	r.pass(1000 * time.Hour)
	no[*AskMirror](r, r.step(Tick{}))
	out := r.step(Request{ID: 1, Since: true})
	no[*AskMirror](r, out)
	if only[Reply](r, out).Err == nil {
		t.Fatal("a refresh of an offline archive reports success")
	}
}

// A follower tells the leader what its clients want: at once when they want more, otherwise now and then.
func TestRenewal(t *testing.T) {
	r := follower(t)
	answer := func(a *AskLeader) {
		r.step(LeaderAnswered{Ask: a, From: "leader", Ann: proto.Announcement{Generation: r.m.Current().Gen}, Checked: r.at.Mono})
	}
	a := only[*AskLeader](r, r.step(DemandGrew{}))
	no[*AskLeader](r, r.step(DemandGrew{})) // one at a time
	answer(a)
	no[*AskLeader](r, r.step(Tick{}))
	r.pass(interval)
	if a := only[*AskLeader](r, r.step(DemandGrew{})); a.Fresh {
		t.Fatal("a renewal has the leader ask upstream")
	}
}

// An answer of the leader that is too old to go by does not end the check: this node asks itself.
func TestLeaderThatKnowsNothingNew(t *testing.T) {
	for _, c := range []struct {
		name string
		age  time.Duration
		asks bool
	}{{"in its patience", 2 * interval, false}, {"beyond", 2*interval + 1, true}} {
		t.Run(c.name, func(t *testing.T) {
			r := follower(t)
			r.pass(time.Hour)
			a := only[*AskLeader](r, r.step(Tick{}))
			out := r.step(LeaderAnswered{Ask: a, From: "leader", Ann: proto.Announcement{Generation: r.m.Current().Gen}, Checked: r.at.Mono.Add(-c.age)})
			if asks := len(actions[*AskMirror](out)) == 1; asks != c.asks {
				t.Fatalf("asks upstream: %v", asks)
			}
		})
	}
}

func TestRemovedSuite(t *testing.T) {
	r := newRig(t)
	r.hold(root("held", 0), Record{Checked: day0})
	r.step(MirrorAnswered{Ask: r.ask(1), Err: proto.ErrNotFound})
	said := r.m.Belief(r.at).Stale(r.at.Mono, r.at.Wall)
	if said != "upstream says that it has no such suite any more" {
		t.Fatalf("status: %q", said)
	}
	r.pass(2 * CheckPause)
	// Silence proves nothing either way.
	r.step(MirrorAnswered{Ask: r.ask(2), Err: &proto.Unavailable{Reason: "down"}})
	if r.m.Belief(r.at).Stale(r.at.Mono, r.at.Wall) != said {
		t.Fatal("an outage has made the suite whole")
	}
	r.pass(2 * CheckPause)
	r.step(MirrorAnswered{Ask: r.ask(3)})
	if said := r.m.Belief(r.at).Stale(r.at.Mono, r.at.Wall); said != "" {
		t.Fatalf("still %q after the suite has come back", said)
	}
}

// What the leader says of upstream marks the suite on the nodes that follow, and what any node has seen since
// takes the mark away; what one had seen before does not.
func TestRemovedSuiteOfAFollower(t *testing.T) {
	r := follower(t)
	r.pass(interval)
	ask := only[*AskLeader](r, r.step(Request{ID: 1, Fresh: true, Since: true}))
	out := r.step(LeaderAnswered{Ask: ask, From: "leader", Err: proto.ErrNotFound})
	if reply := only[Reply](r, out); !errors.Is(reply.Err, proto.ErrNotFound) || r.m.removed == Never {
		t.Fatalf("answered %v, removed %v", reply.Err, r.m.removed != Never)
	}
	no[*AskMirror](r, out)
	r.step(announced("node-2", r.m.Current(), r.at.Mono.Add(-time.Second)))
	if r.m.removed == Never {
		t.Error("what was seen before takes the mark away")
	}
	r.pass(interval)
	r.step(announced("node-2", r.m.Current(), r.at.Mono.Add(-time.Second)))
	if r.m.removed != Never {
		t.Error("it is back, and marked as removed")
	}
}
