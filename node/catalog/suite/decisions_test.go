package suite

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// What becomes durable with a candidate.
func TestRecordWith(t *testing.T) {
	date := func(n int) time.Time { return day0.AddDate(0, 0, n) }
	for _, c := range []struct {
		name             string
		current          *Root
		floor, takenBack time.Time
		cand             *Root
		older            bool
		wantFloor        time.Time
		wantTakenBack    time.Time
	}{
		{"forward", root("a", 1), date(1), time.Time{}, root("b", 2), false, date(2), time.Time{}},
		{"an operator goes back", root("c", 3), date(3), time.Time{}, root("b", 2), true, date(2), date(3)},
		{"and back once more", root("b", 2), date(2), date(3), root("a", 1), true, date(1), date(3)},
		{"forward again, not as far", root("a", 1), date(1), date(3), root("b", 2), false, date(2), date(3)},
		{"forward again, as far", root("a", 1), date(1), date(3), root("c", 3), false, date(3), time.Time{}},
		{"forward again, farther", root("a", 1), date(1), date(3), root("d", 4), false, date(4), time.Time{}},
		{"healing lowers the floor, or the next restart would refuse what is held", root("wrong", 3, named("unknown")), date(3), time.Time{}, root("b", 2), false, date(2), date(3)},
		{"no signed date", root("a", 1), date(1), time.Time{}, root("b", 2, func(r *Root) { r.Undated = true }), false, date(1), time.Time{}},
		{"the first one", nil, time.Time{}, time.Time{}, root("a", 1), false, date(1), time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.m.at, r.m.current, r.m.floor, r.m.takenBack = r.at, c.current, c.floor, c.takenBack
			got := r.m.recordWith(&adoption{cand: from("one", c.cand), older: c.older})
			if !got.Floor.Equal(c.wantFloor) || !got.TakenBack.Equal(c.wantTakenBack) {
				t.Errorf("floor %v, taken back %v; want %v, %v", got.Floor, got.TakenBack, c.wantFloor, c.wantTakenBack)
			}
		})
	}
}

// With a new generation, what came of adopting others counts no more.
func TestAttemptsEndWithTheirGeneration(t *testing.T) {
	r := newRig(t)
	r.hold(root("held", -1), Record{})
	r.m.attempts.of(digestOf("passed")).passed = true
	r.adopt(r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", root("next", 0))}))
	if len(r.m.attempts) != 0 {
		t.Errorf("%d attempts are remembered", len(r.m.attempts))
	}
}

// A mirror vouches for what was held when it was asked, not for what other nodes have brought since.
func TestOvertakenAnswerVouchesForNothing(t *testing.T) {
	r := newRig(t, clustered)
	r.hold(root("held", -1), Record{Primary: "one", Checked: day0})
	r.pass(time.Hour)
	ask := r.ask(1)
	next := root("next", 0)
	open := only[*OpenOffer](r, r.step(announced("node-2", next, Never)))
	r.adopt(r.step(Opened{Open: open, Candidate: byNode(next)}))
	if r.m.Current().Gen.Statement != next.Gen.Statement {
		t.Fatal("not adopted")
	}
	before := r.m.fresh.Good
	r.step(MirrorAnswered{Ask: ask})
	if r.m.fresh.Good != before {
		t.Error("upstream is said to have nothing newer than what it was not asked about")
	}
}

// When the leader's word will do, and when this node asks upstream itself.
func TestLeadersWord(t *testing.T) {
	patience := interval * 4 / 2 // of rank 1
	for _, c := range []struct {
		name    string
		current bool
		fresh   bool
		age     time.Duration // of the leader's last check
		looks   bool
	}{
		{"a check a moment ago", true, false, time.Second, false},
		{"a check within this node's patience", true, false, patience - time.Second, false},
		{"a check longer ago", true, false, patience + time.Second, true},
		{"a check longer ago, but it is better than nothing", false, false, patience + time.Hour, false},
		{"fresh: a check that began with the question, as ages travel", true, true, CheckPause / 2, false},
		{"fresh: a check before the question", true, true, 2 * CheckPause, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, clustered)
			r.at.Rank = 1
			current := root("held", -1)
			if c.current {
				r.hold(current, Record{Primary: "one", Checked: day0})
			}
			r.pass(24 * time.Hour)
			ask := only[*AskLeader](r, r.step(Request{ID: 1, Fresh: c.fresh}))
			out := r.step(LeaderAnswered{Ask: ask, From: "leader", Ann: proto.Announcement{Generation: current.Gen}, Checked: r.at.Mono.Add(-c.age)})
			if !c.current {
				out = r.adopt(r.step(Opened{Open: only[*OpenOffer](r, out), Candidate: byNode(current)}))
			}
			if looks := len(actions[*AskMirror](out)) > 0; looks != c.looks {
				t.Errorf("it asks upstream itself: %v, want %v", looks, c.looks)
			}
		})
	}
}

// Where nothing is held and the leader cannot ask upstream just now, what it holds is better than nothing.
func TestLeaderWithoutUpstreamGivesItsGeneration(t *testing.T) {
	down := &proto.Unavailable{Reason: "down", Answered: true}
	for _, c := range []struct {
		name    string
		current bool
		err     error
		again   bool
	}{
		{"nothing is held", false, down, true},
		{"something is held", true, down, false},
		{"upstream has no such suite", false, proto.ErrNotFound, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, clustered)
			r.at.Rank = 1
			if c.current {
				r.hold(root("held", 0), Record{Checked: day0})
			}
			r.pass(time.Hour)
			ask := only[*AskLeader](r, r.step(Request{ID: 1, Fresh: true}))
			out := r.step(LeaderAnswered{Ask: ask, From: "leader", Err: c.err})
			again := actions[*AskLeader](out)
			if (len(again) == 1) != c.again || c.again && again[0].Fresh {
				t.Errorf("it is asked again: %+v, want %v", again, c.again)
			}
		})
	}
}

// A mirror has little time while there is another, and the last one has enough for a slow line; no check asks more of them
// than MaxMirrors.
func TestMirrorsOfACheck(t *testing.T) {
	for n := 1; n <= MaxMirrors+2; n++ {
		r := newRig(t)
		r.at.Mirrors = nil
		for i := range n {
			r.at.Mirrors = append(r.at.Mirrors, fmt.Sprint(i))
		}
		ask, asked := r.ask(1), 1
		for last := min(n, MaxMirrors); asked < last; asked++ {
			if ask.Timeout != NextTimeout {
				t.Errorf("mirror %d of %d has %v", asked, last, ask.Timeout)
			}
			ask = only[*AskMirror](r, r.step(MirrorAnswered{Ask: ask, Err: proto.ErrNotFound}))
		}
		if ask.Timeout != LastTimeout {
			t.Errorf("the last of %d has %v", n, ask.Timeout)
		}
		no[*AskMirror](r, r.step(MirrorAnswered{Ask: ask, Err: proto.ErrNotFound}))
	}
}

// A check that fails is logged when it begins to fail, and now and then; it is remembered when that began.
func TestFailuresAreLoggedNowAndThen(t *testing.T) {
	r := newRig(t)
	r.hold(root("held", 0), Record{Checked: day0})
	var logged []int
	began := r.at.Wall.Add(2 * CheckPause).UTC()
	for n := 1; n <= 41; n++ {
		r.pass(2 * CheckPause)
		for _, a := range actions[Note](r.step(MirrorAnswered{Ask: r.ask(uint64(n)), Err: &proto.Unavailable{Reason: "down"}})) {
			if a.Text != "" {
				logged = append(logged, n)
			}
		}
	}
	if !slices.Equal(logged, []int{1, 20, 40}) {
		t.Errorf("logged at failures %v", logged)
	}
	if since := r.m.Belief(r.at).FailingSince; !since.Equal(began) {
		t.Errorf("checks fail since %v, want %v", since, began)
	}
	r.pass(time.Hour)
	r.step(MirrorAnswered{Ask: r.ask(42), Candidate: from("one", root("held", 0))})
	if b := r.m.Belief(r.at); b.Failure != nil || !b.FailingSince.IsZero() {
		t.Errorf("after a good check: %v since %v", b.Failure, b.FailingSince)
	}
}

// Messages overtake each other: of one node, the newest generation counts, except where that was announced in vain.
func TestOvertakenAnnouncement(t *testing.T) {
	for _, faults := range []int{0, 1} {
		r := newRig(t, clustered)
		r.hold(root("held", -3), Record{})
		r.m.at = r.at
		r.m.remember("node-2", announced("node-2", root("newer", -1), Never).Ann, Never)
		r.m.announcers["node-2"].faults = faults
		r.m.remember("node-2", announced("node-2", root("new", -2), Never).Ann, Never)
		want := map[int]string{0: "newer", 1: "new"}[faults]
		if got := r.m.announcers["node-2"].ann.Generation.Statement; got != digestOf(want) {
			t.Errorf("after %d faults, %q does not count", faults, want)
		}
	}
}

// What cannot be staged is tried again after 5 s, and then less and less often, up to the interval.
func TestPostponedLessAndLessOften(t *testing.T) {
	r := newRig(t)
	r.m.at = r.at
	o := &offer{gen: root("next", 0).Gen}
	for _, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, interval, interval} {
		r.m.postpone(o, proto.ErrNotFound)
		if got := r.m.attempts.of(o.gen.Root.Digest).until.Sub(r.at.Mono); got != want {
			t.Errorf("again after %v, want %v", got, want)
		}
	}
}

// What a node may bring by its word alone.
func TestMayBring(t *testing.T) {
	undated := func(r *Root) { r.Undated = true }
	for _, c := range []struct {
		name      string
		cand      *Root
		takenBack time.Time
		before    bool // the statement was current before
		want      bool
	}{
		{"a root of this suite", root("next", 1), time.Time{}, false, true},
		{"what an operator has gone back from", root("next", 1), day0.AddDate(0, 0, 1), false, false},
		{"newer than what an operator has gone back from", root("next", 2), day0.AddDate(0, 0, 1), false, true},
		{"unsigned", root("next", 1, func(r *Root) { r.Manifest.Proven = false }), time.Time{}, false, false},
		{"of who knows which suite", root("next", 1, named("unknown")), time.Time{}, false, false},
		{"of another suite", root("next", 1, named("other")), time.Time{}, false, false},
		{"undated", root("next", 1, undated), time.Time{}, false, true},
		{"undated, played back", root("next", 1, undated), time.Time{}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.m.at, r.m.current, r.m.takenBack = r.at, root("held", 0), c.takenBack
			if c.before {
				r.m.Superseded([]proto.Digest{c.cand.Gen.Statement})
			}
			if got := r.m.mayBring(byNode(c.cand), &offer{gen: c.cand.Gen}); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// Who announces one thing and gives another does not decide a fork by the announcement.
func TestForkThatWasAnnouncedAsSomethingElse(t *testing.T) {
	r := newRig(t, clustered)
	r.at.Rank = 1
	current := root("held", 0)
	r.hold(current, Record{Primary: "one", Checked: day0})
	r.at.Mirrors = []string{"one", "two"}
	loser := forkOf(current, false)
	told := *loser
	told.Gen.Statement, told.Gen.Date = digestOf("something newer"), day0.Add(time.Second)
	open := only[*OpenOffer](r, r.step(announced("node-2", &told, r.at.Mono)))
	no[*Stage](r, r.step(Opened{Open: open, Candidate: byNode(loser)}))
	if r.m.Current().Gen.Statement != current.Gen.Statement {
		t.Error("the fork is decided by a lie")
	}
}

// What another node's check of upstream is worth.
func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		name    string
		rank    int
		own     time.Duration // this node's own last check, so long ago
		checked time.Duration // the other node's
		heard   bool          // it is news
		forgive bool          // this node's failure is forgotten
	}{
		{"the other node's check of a while later", 1, time.Hour, time.Second, true, true},
		{"this node's own check, told back", 1, 10 * time.Second, 9 * time.Second, false, true},
		{"on the node that leads, its own failure stays", 0, time.Hour, time.Second, true, false},
		{"an older check", 1, time.Second, time.Minute, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, clustered)
			r.hold(root("held", 0), Record{})
			r.m.at = r.at
			r.m.at.Rank = c.rank
			r.m.fresh.Own, r.m.fresh.Tried = r.at.Mono.Add(-c.own), r.at.Mono.Add(-c.own)
			r.m.failure, r.m.failures = proto.ErrNotFound, 1
			r.m.confirm(r.at.Mono.Add(-c.checked))
			if heard := r.m.fresh.Announced != Never; heard != c.heard || (r.m.failures == 0) != c.forgive {
				t.Errorf("news: %v, forgiven: %v", heard, r.m.failures == 0)
			}
		})
	}
}

// Which mirrors are behind: what an operator has gone back from, and what is dated ahead, makes none of them so.
func TestNewestKnown(t *testing.T) {
	r := newRig(t)
	r.at.Mirrors = []string{"one", "two"}
	r.hold(root("held", -2), Record{Primary: "one"})
	r.m.at, r.m.takenBack = r.at, day0
	r.m.noteAnswer(&AskMirror{Mirror: "two"}, from("two", root("taken back", 0)), nil)
	if got := r.m.newestKnown(); !got.Equal(day0.AddDate(0, 0, -2)) {
		t.Errorf("what was taken back counts: %v", got)
	}
	r.m.takenBack = time.Time{}
	if got := r.m.newestKnown(); !got.Equal(day0) {
		t.Errorf("the newest is %v", got)
	}
	r.m.noteAnswer(&AskMirror{Mirror: "two"}, from("two", root("ahead", 5)), nil)
	if got := r.m.newestKnown(); !got.Equal(day0) {
		t.Errorf("what is dated ahead counts: %v", got)
	}
}

// The mirrors other than the primary are probed in turns, one in about five checks, and what an operator has gone back from
// is not brought back by one.
func TestProbesTakeTurns(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Configured = true })
	r.at.Mirrors = []string{"one", "three", "two"}
	current := root("held", 0)
	r.hold(current, Record{Primary: "one", TakenBack: day0.AddDate(0, 0, 1)})
	r.pass(48 * time.Hour)
	var probed []string
	const checks = 41
	for n := range checks {
		out := r.step(MirrorAnswered{Ask: r.ask(uint64(n)), Candidate: from("one", current)})
		if stage := actions[*Stage](out); len(stage) > 0 {
			out = r.adopt(out)
		}
		for _, p := range actions[*AskMirror](out) {
			probed = append(probed, p.Mirror)
			no[*Stage](r, r.step(MirrorAnswered{Ask: p, Candidate: from(p.Mirror, root("taken back", 1))}))
			if r.m.found != nil || r.m.check != nil {
				t.Fatal("a probe brings back what an operator has gone back from")
			}
		}
		r.pass(interval)
	}
	if len(probed) < checks/probeEvery-1 || len(probed) > checks/probeEvery+1 {
		t.Errorf("%d probes in %d checks", len(probed), checks)
	}
	for i := 1; i < len(probed); i++ {
		if probed[i] == probed[i-1] || probed[i] == "one" {
			t.Fatalf("probed are %v", probed)
		}
	}
}

func TestNobodyIsBlamedWhereNoMirrorIsNamed(t *testing.T) {
	r := newRig(t)
	r.m.blameCorrupt([]answer{{"", NewWrongContent(proto.ErrCorrupt)}, {"one", NewWrongContent(proto.ErrCorrupt)}, {"two", proto.ErrCorrupt}})
	if b := actions[Blame](r.m.out); len(b) != 1 || b[0].Mirror != "one" {
		t.Errorf("blamed are %+v", b)
	}
}

// In the pause after a check that failed, a host gets what is held, and a node is told what came of it.
func TestFailureInThePause(t *testing.T) {
	for _, peer := range []bool{false, true} {
		r := newRig(t)
		r.hold(root("held", 0), Record{Checked: day0})
		r.step(MirrorAnswered{Ask: r.ask(1), Err: proto.ErrNotFound})
		reply := only[Reply](r, r.step(Request{ID: 2, Fresh: true, Peer: peer}))
		if (reply.Err != nil) != peer {
			t.Errorf("peer %v: %v", peer, reply.Err)
		}
	}
}

// When another node can be answered without asking upstream.
func TestKnowsEnough(t *testing.T) {
	for _, c := range []struct {
		name       string
		rank, form int
		good       time.Duration // the last good check, so long ago
		failures   int
		tried      time.Duration
		want       bool
	}{
		{"a good check within the interval", 0, 0, interval, 0, interval, true},
		{"one a little longer ago", 0, 0, interval * 12 / 10, 0, interval * 12 / 10, false},
		{"a node that does not lead has more patience", 1, 0, 2 * interval, 0, 2 * interval, true},
		{"and not without end", 1, 0, 2*interval + time.Second, 0, 2 * interval, false},
		{"the preferred form may have come", 0, 1, HopeForForm + time.Second, 0, HopeForForm, false},
		{"the preferred form was looked for a moment ago", 0, 1, HopeForForm, 0, HopeForForm, true},
		{"asking is known to be in vain", 0, 0, time.Hour, 1, time.Second, true},
		{"it was, a while ago", 0, 0, time.Hour, 1, 6 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, clustered)
			r.m.at, r.m.current = r.at, root("held", 0, func(r *Root) { r.Form = c.form })
			r.m.at.Rank = c.rank
			r.m.fresh.Good, r.m.fresh.Tried, r.m.failures = r.at.Mono.Add(-c.good), r.at.Mono.Add(-c.tried), c.failures
			if got := r.m.knowsEnough(); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A node alone hears of nobody, whatever it has heard before its configuration changed.
func TestCheckedLately(t *testing.T) {
	r := newRig(t)
	r.m.at, r.m.fresh.Announced = r.at, r.at.Mono
	if r.m.checkedLately() {
		t.Error("alone")
	}
	r.m.cfg.Clustered = true
	if !r.m.checkedLately() {
		t.Error("in a cluster")
	}
	r.m.at.Mono = r.m.at.Mono.Add(2*r.m.cfg.RenewEvery + time.Second)
	if r.m.checkedLately() {
		t.Error("long ago")
	}
}

// A node that comes to lead goes by the last check of the node before it for the rest of the interval.
func TestNewLeaderGoesByTheLastCheck(t *testing.T) {
	r := follower(t, func(c *Config) { c.Configured = true })
	r.m.fresh.Tried, r.m.fresh.Good = r.at.Mono.Add(-time.Hour), r.at.Mono.Add(-10*time.Second)
	r.m.at, r.m.watch.jitter = r.at, 0.5
	r.m.at.Rank = 0
	r.m.noteRank()
	if due, _ := r.m.checkDue(); due != r.m.fresh.Good.Add(interval) {
		t.Errorf("due in %v, want in %v", due.Sub(r.at.Mono), interval-10*time.Second)
	}
}

// A wall clock that steps forward withholds nothing while upstream answers.
func TestClockStepWithholdsNothing(t *testing.T) {
	cfg := testConfig()
	current := root("held", 0, func(r *Root) { r.Manifest.ValidUntil = day0.Add(time.Hour) })
	const now = Mono(1000 * time.Hour)
	b := &Belief{Current: current, Fresh: Freshness{Tried: now, Good: now.Add(-time.Second)}, Removed: Never, id: cfg.ID, conf: cfg, checked: day0}
	if err := b.Withheld(now, day0.AddDate(10, 0, 0)); err != nil {
		t.Error(err)
	}
	b.Fresh.Good = Never
	if err := b.Withheld(now, day0.AddDate(10, 0, 0)); err == nil {
		t.Error("and with upstream silent it is given out for ever")
	}
}

// That upstream had nothing new is told less often than clients can make a node ask; something new at once.
func TestChecksAreAnnouncedNowAndThen(t *testing.T) {
	r := newRig(t, clustered)
	r.hold(root("held", -1), Record{Primary: "one", Checked: day0})
	told := 0
	for n := range 10 { // over less than half an interval
		told += len(actions[Announce](r.step(MirrorAnswered{Ask: r.ask(uint64(n))})))
		r.pass(2 * CheckPause)
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	only[Announce](r, r.adopt(r.step(MirrorAnswered{Ask: r.ask(20), Candidate: from("one", root("next", 0))})))
	r.pass(interval)
	only[Announce](r, r.step(MirrorAnswered{Ask: r.ask(21)}))
}
