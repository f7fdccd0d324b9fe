package suite

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestBelief(t *testing.T) {
	const now = Mono(1000 * time.Hour)
	expiring := func(in time.Duration) *Root {
		return root("held", -10, func(r *Root) { r.Manifest.ValidUntil = day0.Add(in) })
	}
	security := func(r *Root) *Root { r.Manifest.Security = true; return r }
	silent := func(d time.Duration) Freshness {
		return Freshness{Tried: now, TriedFresh: now, Own: now, Good: now.Add(-d), Announced: Never}
	}
	for _, c := range []struct {
		name     string
		current  *Root
		fresh    Freshness
		offline  bool
		removed  bool
		withheld bool
		stale    string // begins or contains; "" for not stale
		alarm    string
	}{
		{name: "nothing is held yet", fresh: never()},
		{name: "as it should be", current: root("held", 0), fresh: silent(0)},
		{name: "as it should be, with an end far off", current: expiring(100 * time.Hour), fresh: silent(0)},
		{name: "a check that failed a moment ago is not worth a word", current: root("held", 0), fresh: silent(3*interval + 10*time.Second)},
		{name: "silent", current: root("held", 0), fresh: silent(3*interval + 11*time.Second), stale: "upstream could not be checked for 3m11s"},
		{name: "never checked", current: root("held", 0), fresh: never(), stale: "upstream could not be checked yet"},
		{name: "removed", current: root("held", 0), fresh: silent(0), removed: true, stale: "no such suite"},
		{name: "expired, and upstream answers: the client decides", current: expiring(-1000 * time.Hour), fresh: silent(0), stale: "upstream has nothing newer", alarm: "upstream has nothing newer"},
		{name: "expired, silent, for less than the period", current: expiring(-47 * time.Hour), fresh: silent(48 * time.Hour), stale: "it is served until", alarm: "cannot be reached"},
		{name: "expired, silent, for longer", current: expiring(-49 * time.Hour), fresh: silent(50 * time.Hour), withheld: true, stale: "it was served until", alarm: "cannot be reached"},
		{name: "security updates have less time", current: security(expiring(-7 * time.Hour)), fresh: silent(48 * time.Hour), withheld: true, stale: "it was served until", alarm: "cannot be reached"},
		{name: "expired long ago, but upstream went on with it until a while ago", current: expiring(-1000 * time.Hour), fresh: silent(47 * time.Hour), stale: "it is served until", alarm: "cannot be reached"},
		{name: "offline", current: expiring(-1000 * time.Hour), fresh: silent(1000 * time.Hour), offline: true, stale: "offline: true", alarm: "offline: true"},
		{name: "about to expire", current: expiring(24 * time.Hour), fresh: silent(0), alarm: "passes on"},
		{name: "not yet about to expire", current: expiring(24*time.Hour + time.Second), fresh: silent(0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Offline = c.offline
			b := &Belief{Current: c.current, Fresh: c.fresh, Removed: Never, id: cfg.ID, conf: cfg}
			if c.fresh.Good != Never {
				b.checked = day0.Add(-now.Sub(c.fresh.Good))
			}
			if c.removed {
				b.Removed = now
			}
			err := b.Withheld(now, day0)
			if (err != nil) != c.withheld {
				t.Errorf("withheld: %v", err)
			}
			if stale := b.Stale(now, day0); (stale == "") != (c.stale == "") || !strings.Contains(stale, c.stale) {
				t.Errorf("stale: %q", stale)
			}
			if alarm := b.Alarm(now, day0); (alarm == "") != (c.alarm == "") || !strings.Contains(alarm, c.alarm) {
				t.Errorf("alarm: %q", alarm)
			}
			// Years on the wall clock do not make upstream silent, or speak.
			for _, step := range []time.Duration{-20 * 365 * 24 * time.Hour, 20 * 365 * 24 * time.Hour} {
				if (c.current == nil || c.current.Manifest.ValidUntil.IsZero()) && b.Stale(now, day0.Add(step)) != b.Stale(now, day0) {
					t.Errorf("a step of %s changes what is said: %q", step, b.Stale(now, day0.Add(step)))
				}
			}
		})
	}
}

func TestMayServe(t *testing.T) {
	const now = Mono(1000 * time.Hour)
	limit := 2*interval + 5*time.Second
	for _, c := range []struct {
		name    string
		fresh   Freshness
		offline bool
		want    bool
	}{
		{"asked lately", Freshness{Tried: now.Add(1 - limit), Announced: Never}, false, true},
		{"asked too long ago", Freshness{Tried: now.Add(-limit), Announced: Never}, false, false},
		{"another node asked lately", Freshness{Tried: Never, Announced: now.Add(1 - limit)}, false, true},
		{"nobody asked", never(), false, false},
		{"nobody asks", never(), true, true},
	} {
		cfg := testConfig()
		cfg.Offline = c.offline
		if got := (&Belief{Fresh: c.fresh, conf: cfg}).MayServe(now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestAlarmOfAShortValidity(t *testing.T) {
	cfg := testConfig()
	short := root("held", 0, func(r *Root) { r.Manifest.ValidUntil = day0.Add(2 * time.Hour) })
	b := &Belief{Current: short, Fresh: Freshness{Good: 0}, conf: cfg}
	if said := b.Alarm(0, day0.Add(time.Hour-time.Second)); said != "" {
		t.Errorf("before half of the validity has passed: %q", said)
	}
	if b.Alarm(0, day0.Add(time.Hour)) == "" {
		t.Error("no alarm after half of the validity")
	}
}

func TestAlarmIsLoggedOnce(t *testing.T) {
	r := newRig(t)
	r.hold(root("held", 0, func(r *Root) { r.Manifest.ValidUntil = day0.Add(time.Hour) }), Record{})
	warned := 0
	for range 100 {
		for _, n := range actions[Note](r.step(Tick{})) {
			if strings.Contains(n.Text, "Valid-Until") {
				warned++
			}
		}
		r.pass(interval)
	}
	if warned != 1 {
		t.Fatalf("warned %d times", warned)
	}
}

// A step of the wall clock changes no interval: the next check comes when it would have come.
func TestWallClockStepsStopNoCheck(t *testing.T) {
	for _, step := range []time.Duration{-30 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 30 * 365 * 24 * time.Hour} {
		r := newRig(t)
		r.hold(root("held", 0), Record{Checked: day0})
		r.step(MirrorAnswered{Ask: only[*AskMirror](r, r.step(Asked{}))})
		before, _ := r.m.Next()
		r.at.Wall = r.at.Wall.Add(step)
		no[*AskMirror](r, r.step(Tick{}))
		if after, ok := r.m.Next(); !ok || after != before {
			t.Errorf("step of %s: the next check moves from %v to %v", step, before, after)
		}
		r.at.Mono = before
		ask := only[*AskMirror](r, r.step(Tick{}))
		r.step(MirrorAnswered{Ask: ask})
		if b := r.m.Belief(r.at); !b.MayServe(r.at.Mono) || b.Stale(r.at.Mono, r.at.Wall) != "" {
			t.Errorf("step of %s: stale: %q", step, b.Stale(r.at.Mono, r.at.Wall))
		}
	}
}

func TestRestore(t *testing.T) {
	t.Run("what was checked before counts", func(t *testing.T) {
		r := newRig(t).hold(root("held", -1), Record{Checked: day0.Add(-interval)})
		if got := r.at.Mono.Sub(r.m.fresh.Good); got != interval {
			t.Fatalf("the last good check was %s ago", got)
		}
	})
	t.Run("a date in the future counts for nothing", func(t *testing.T) {
		r := newRig(t).hold(root("held", -1), Record{Checked: day0.Add(time.Second)})
		b := r.m.Belief(r.at)
		if r.m.fresh.Good != Never || !b.Checked().IsZero() || b.Stale(r.at.Mono, r.at.Wall) == "" {
			t.Fatalf("checked %v, %v", r.m.fresh.Good, b.Checked())
		}
	})
	t.Run("the floor survives the bytes", func(t *testing.T) {
		r := newRig(t).hold(nil, Record{Floor: day0})
		out := r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", root("old", -1))})
		if !isKind(only[Reply](r, out).Err, KindOlder) {
			t.Fatal("an older root is let in after the bytes were lost")
		}
	})
	t.Run("what is recorded comes back", func(t *testing.T) {
		r := newRig(t)
		r.at.Mirrors = []string{"one", "two"}
		out := r.step(MirrorAnswered{Ask: r.ask(1), Err: proto.ErrNotFound})
		r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", root("held", -1))}))
		record := r.m.Record()
		again := newRig(t)
		again.m.Restore(r.at, r.m.Current(), record, Never)
		if got := again.m.Record(); got.Primary != "two" || !got.Floor.Equal(day0.AddDate(0, 0, -1)) || len(got.Mirrors) != 2 || got.Mirrors["two"] != record.Mirrors["two"] || got.Checked != record.Checked {
			t.Fatalf("%+v\nwant %+v", got, record)
		}
	})
	t.Run("what was asked for lately is watched again", func(t *testing.T) {
		r := newRig(t)
		r.m.Restore(r.at, root("held", 0), Record{}, r.at.Mono.Add(-time.Hour))
		if !r.m.Watched() {
			t.Fatal("not watched")
		}
	})
}

// What an operator went back from comes back from upstream only, and not from the other nodes or mirrors.
func TestTakenBack(t *testing.T) {
	r := newRig(t, clustered)
	r.at.Mirrors = []string{"one", "two"}
	newer, older := root("newer", -1), root("older", -2)
	r.hold(newer, Record{Primary: "one"})
	r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, r.step(Request{ID: 1, Since: true, Older: true})), Candidate: from("one", older)}))
	if rec := r.m.Record(); !rec.TakenBack.Equal(newer.Gen.Date) || !rec.Floor.Equal(older.Gen.Date) {
		t.Fatalf("record %+v", rec)
	}
	no[*OpenOffer](r, r.step(announced("node-2", newer, r.at.Mono.Add(-time.Second))))
	r.pass(2 * CheckPause)
	out := r.step(MirrorAnswered{Ask: r.ask(2), Err: &proto.Unavailable{Reason: "down"}})
	no[*Stage](r, r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", newer)}))
	r.pass(2 * CheckPause)
	r.adopt(r.step(MirrorAnswered{Ask: r.ask(3), Candidate: from("one", newer)}))
	if rec := r.m.Record(); !rec.TakenBack.IsZero() || !rec.Floor.Equal(newer.Gen.Date) {
		t.Fatalf("record %+v", rec)
	}
}
