package suite

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func superseded(r *Root) { r.Manifest.Superseded = true }

func acceptsOlder(c *Config) { c.AcceptOlder, c.Unsigned = 15*time.Minute, true }

// checks has one check after another for a while, each with the answers of the mirrors, and stops when a root
// is adopted.
func (r *rig) checks(d time.Duration, shows map[string]*Root) (adopted bool) {
	r.Helper()
	for until := r.at.Mono.Add(d); r.at.Mono < until; r.pass(interval) {
		out := r.step(Request{ID: uint64(r.at.Mono), Since: true, Fresh: true})
		for {
			asks := actions[*AskMirror](out)
			if len(actions[*Stage](out)) > 0 {
				r.adopt(out)
				return true
			}
			if len(asks) == 0 {
				break
			}
			answer := MirrorAnswered{Ask: asks[0], Err: &proto.Unavailable{Reason: "down"}}
			if shown := shows[asks[0].Mirror]; shown != nil {
				answer.Err = nil
				if asks[0].Condition.Root != shown.Gen.Root {
					answer.Candidate = from(asks[0].Mirror, shown)
				}
			}
			out = r.step(answer)
		}
	}
	return false
}

func TestGoesBackWithThePublisher(t *testing.T) {
	held, older, oldest := root("held", 0), root("older", -1), root("oldest", -2)
	lags := root("older", -1, superseded)
	for _, c := range []struct {
		name   string
		change func(*Config)
		before map[string]*Root // what the mirrors show at first
		shows  map[string]*Root // and then for an hour
		want   *Root
	}{
		{"all mirrors", acceptsOlder, nil, map[string]*Root{"one": older, "two": older}, older},
		{"a mirror that lags", acceptsOlder, nil, map[string]*Root{"one": older, "two": held}, held},
		{"the newest of what all show", acceptsOlder, nil, map[string]*Root{"one": oldest, "two": older}, older},
		{"a mirror that showed the newer one and is down", acceptsOlder, map[string]*Root{"one": older, "two": held}, map[string]*Root{"one": older}, held},
		{"a mirror that never showed any", acceptsOlder, map[string]*Root{"one": held}, map[string]*Root{"one": older}, older},
		{"a witness names a newer one", acceptsOlder, nil, map[string]*Root{"one": lags, "two": lags}, held},
		{"a witness has come to name it", acceptsOlder, map[string]*Root{"one": lags, "two": lags}, map[string]*Root{"one": older, "two": older}, older},
		{"the newest is the one that a witness names", acceptsOlder, nil, map[string]*Root{"one": root("oldest", -2), "two": lags}, oldest},
		{"where it is refused", func(c *Config) { c.Unsigned = true }, nil, map[string]*Root{"one": older, "two": older}, held},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.change)
			r.at.Mirrors = []string{"one", "two"}
			r.hold(held, Record{Primary: "one"})
			if c.before != nil {
				r.checks(3*interval, c.before)
			}
			r.checks(time.Hour, c.shows)
			if got := r.m.Current().Gen; got.Statement != c.want.Gen.Statement {
				t.Fatalf("the root of %v is held", got.Date)
			}
			if back := r.m.Current().Gen.Back; back.IsZero() == (c.want != held) || c.want != held && !back.From.Equal(held.Gen.Date) {
				t.Errorf("back %+v", back)
			}
		})
	}
}

// An older root has to be shown for the whole time, without a sign of the newer one in between.
func TestGoingBackTakesItsTime(t *testing.T) {
	r := newRig(t, acceptsOlder)
	held, older := root("held", 0), root("older", -1)
	r.hold(held, Record{Primary: "one"})
	for range 3 {
		if r.checks(14*time.Minute, map[string]*Root{"one": older}) {
			t.Fatal("gone back too early")
		}
		r.checks(interval, map[string]*Root{"one": held})
	}
	if !r.checks(17*time.Minute, map[string]*Root{"one": older}) {
		t.Fatal("not gone back")
	}
}

// What was taken back comes back only in the way in which it went; what is newer comes at once. A restart
// changes nothing in that.
func TestGoesForwardAgain(t *testing.T) {
	r := newRig(t, acceptsOlder)
	held, older, newer := root("held", -1), root("older", -2), root("newer", 0)
	r.hold(held, Record{Primary: "one"})
	if !r.checks(20*time.Minute, map[string]*Root{"one": older}) {
		t.Fatal("not gone back")
	}
	record, current := r.m.Record(), r.m.Current()
	r.m = New(r.m.cfg)
	r.hold(current, record)
	if r.checks(14*time.Minute, map[string]*Root{"one": held}) {
		t.Fatal("what was taken back is back at once")
	}
	if !r.checks(5*time.Minute, map[string]*Root{"one": held}) {
		t.Fatal("it does not come back")
	}
	if r.m.Current().Gen.Statement != held.Gen.Statement || !current.Gen.Precedes(r.m.Current().Gen) {
		t.Fatalf("held: %+v", r.m.Current().Gen)
	}
	if !r.checks(2*interval, map[string]*Root{"one": newer}) || !r.m.Current().Gen.Back.IsZero() {
		t.Fatalf("a newer root: %+v", r.m.Current().Gen)
	}
}

// Other nodes go back with the leader's word where it is enough, and else with upstream's.
func TestFollowsBack(t *testing.T) {
	back := func(r *Root, from *Root, after time.Duration) *Root {
		made := *r
		made.Gen.Back = proto.Back{From: from.Gen.Date, At: day0.Add(after)}
		return &made
	}
	held, older := root("held", 0), root("older", -1)
	told := back(older, held, time.Hour)
	vouches := func(c *Config) { c.LeaderVouches = true }
	signed := func(c *Config) { c.Unsigned = false }

	t.Run("the leader's word", func(t *testing.T) {
		r := follower(t, acceptsOlder, vouches)
		ask := only[*AskLeader](r, r.step(announced("node-2", told, r.at.Mono)))
		open := only[*OpenOffer](r, r.step(LeaderAnswered{Ask: ask, From: "leader", Ann: proto.Announcement{Generation: told.Gen}, Checked: r.at.Mono}))
		r.adopt(r.step(Opened{Open: open, Candidate: byNode(older)}))
		if got := r.m.Current().Gen; got.Statement != older.Gen.Statement || !got.Back.Equal(told.Gen.Back) {
			t.Fatalf("held: %+v", got)
		}
		no[*OpenOffer](r, r.step(announced("node-3", held, r.at.Mono))) // a node that lags
	})
	for name, change := range map[string]func(*Config){"keys vouch for roots": signed, "nobody vouches": func(*Config) {}} {
		t.Run("upstream's word: "+name, func(t *testing.T) {
			r := follower(t, acceptsOlder, change)
			if name == "keys vouch for roots" {
				vouches(&r.m.cfg)
			}
			ask := only[*AskMirror](r, r.step(announced("node-2", told, r.at.Mono)))
			if !ask.Condition.Root.IsZero() {
				t.Errorf("a proof is asked for with a condition: %+v", ask.Condition)
			}
			r.adopt(r.step(MirrorAnswered{Ask: ask, Candidate: from("one", older)}))
			if got := r.m.Current().Gen; got.Statement != older.Gen.Statement || !got.Back.Equal(told.Gen.Back) {
				t.Fatalf("held: %+v", got)
			}
		})
	}
	t.Run("upstream shows the newer one", func(t *testing.T) {
		r := follower(t, acceptsOlder)
		ask := only[*AskMirror](r, r.step(announced("node-2", told, r.at.Mono)))
		no[*Stage](r, r.step(MirrorAnswered{Ask: ask, Candidate: from("one", held)}))
	})
	t.Run("where it is refused", func(t *testing.T) {
		r := follower(t)
		out := r.step(announced("node-2", told, r.at.Mono))
		no[*AskMirror](r, out)
		no[*OpenOffer](r, out)
	})
	t.Run("from a date that is yet to come", func(t *testing.T) {
		r := follower(t, acceptsOlder)
		far := *older
		far.Gen.Back = proto.Back{From: day0.AddDate(1, 0, 0), At: day0}
		no[*AskMirror](r, r.step(announced("node-2", &far, r.at.Mono)))
	})
	t.Run("a node that never saw the newer one", func(t *testing.T) {
		r := newRig(t, acceptsOlder, clustered, vouches)
		r.at.Rank = 1
		r.hold(older, Record{Primary: "one", Checked: day0})
		r.pass(2 * time.Hour)
		ask := only[*AskLeader](r, r.step(announced("leader", told, r.at.Mono)))
		open := only[*OpenOffer](r, r.step(LeaderAnswered{Ask: ask, From: "leader", Ann: proto.Announcement{Generation: told.Gen}, Checked: r.at.Mono}))
		r.adopt(r.step(Opened{Open: open, Candidate: byNode(older)}))
		out := r.step(announced("node-3", held, r.at.Mono))
		no[*OpenOffer](r, out)
		no[*AskLeader](r, out)
	})
}

// Where older roots are taken, an operator's word holds on the other nodes, too.
func TestOperatorGoesBackForAll(t *testing.T) {
	r := newRig(t, acceptsOlder, clustered)
	held, older := root("held", 0), root("older", -1)
	r.hold(held, Record{Primary: "one"})
	out := r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, r.step(Request{ID: 1, Since: true, Older: true})), Candidate: from("one", older)}))
	if got := r.m.Current().Gen; !got.Back.From.Equal(held.Gen.Date) || !only[Announce](r, out).FirstHand {
		t.Fatalf("%+v", got)
	}
	other := follower(t, acceptsOlder)
	ask := only[*AskMirror](other, other.step(announced("node-1", r.m.Current(), other.at.Mono)))
	other.adopt(other.step(MirrorAnswered{Ask: ask, Candidate: from("one", older)}))
	if got := other.m.Current().Gen; got.Statement != older.Gen.Statement {
		t.Fatalf("%+v", got)
	}
}

// The witness that is read with the root has the last word.
func TestWitnessStopsGoingBack(t *testing.T) {
	r := newRig(t, acceptsOlder)
	r.hold(root("held", 0), Record{Primary: "one"})
	if r.checks(15*time.Minute, map[string]*Root{"one": root("older", -1)}) {
		t.Fatal("gone back too early")
	}
	if r.checks(time.Hour, map[string]*Root{"one": root("older", -1, superseded)}) {
		t.Error("gone back to what the witness calls superseded")
	}
}
