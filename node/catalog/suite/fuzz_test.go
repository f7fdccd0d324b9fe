package suite

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// FuzzMachine gives a machine events in random order and, after each, compares what it does with what it may
// never do: go back, take a root of another suite, commit what was not staged, answer twice. Then honest
// mirrors answer for a while, and the machine has to serve what they serve, with nobody left waiting.
func FuzzMachine(f *testing.F) {
	for _, seed := range []string{
		"", "leader: publish, ask, answer", "\x00\x03\x05\x05\x05", "\x08\x01\x00\x04\x05\x05\x05\x05\x02\x05\x03\x05",
		"\x00\x00\x00\x01\x01\x03\x20\x05\x00\x05\x10\x05\x20\x05\x30\x07\x01\x03\x05\x05\x05\x05", "0123456789abcdefghijklmnopqrstuvwxyz",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, &script)
		for len(script) > 0 && w.steps < 400 {
			w.turn()
		}
		w.converge()
	})
}

// world is an archive with two mirrors, and nodes that announce its roots or lies, around one machine.
type world struct {
	*rig
	script *[]byte
	steps  int

	history []*Root // what the archive has signed for this suite, oldest first
	strange []*Root // signed roots that are of another suite, or that nobody can place
	serves  map[string]func() (*Candidate, error)
	nodes   []string

	open   []Action           // not answered yet
	staged *Candidate         // last, with success
	asked  map[uint64]Request // not answered yet
	last   uint64
	older  bool // an operator's word is out, or was
}

func newWorld(t *testing.T, script *[]byte) *world {
	w := &world{script: script, asked: make(map[uint64]Request), nodes: []string{"node-2", "node-3"}}
	flags := w.draw()
	w.rig = newRig(t, func(c *Config) {
		c.Clustered, c.Configured, c.Unsigned = flags&1 != 0, flags&2 != 0, flags&4 != 0
	})
	w.at.Mirrors = []string{"one", "two"}
	if flags&64 != 0 {
		w.m.cfg.AcceptOlder = 2 * interval
	}
	if flags&8 != 0 {
		w.at.Rank = int(flags >> 4 & 3)
	}
	dated := func(after time.Duration) func(*Root) {
		return func(r *Root) {
			date := day0.Add(after)
			r.Gen.Date, r.Gen.Signed, r.Manifest.Date, r.Manifest.Signed = date, date, date, date
		}
	}
	w.strange = []*Root{
		root("other", 0, named("other"), dated(-time.Second)), root("other too", 0, named("other"), dated(2*time.Minute)),
		root("odd", 0, named("odd"), dated(-2*time.Second)), root("odd too", 0, named("odd too"), dated(2*time.Minute)),
	}
	w.publish(0)
	w.honest()
	return w
}

func (w *world) draw() byte {
	if len(*w.script) == 0 {
		return 0
	}
	b := (*w.script)[0]
	*w.script = (*w.script)[1:]
	return b
}

func (w *world) newest() *Root { return w.history[len(w.history)-1] }

// publish signs a new root: kind 0 and 1 with the next text, 2 the same text signed again, 3 another text with
// the same date.
func (w *world) publish(kind byte) {
	n := len(w.history)
	text := fmt.Sprintf("text %d", n)
	switch {
	case n > 0 && kind == 2:
		again := *w.newest()
		resigned(text, time.Minute)(&again)
		w.history = append(w.history, &again)
	case n > 0 && kind == 3:
		fork := root(text, 0)
		fork.Gen.Date, fork.Manifest.Date = w.newest().Gen.Date, w.newest().Gen.Date
		fork.Gen.Signed = fork.Gen.Date
		w.history = append(w.history, fork)
	default:
		made := root(text, 0)
		date := w.at.Wall.Add(-time.Duration(8-min(n, 7)) * time.Second)
		if n > 0 && !date.After(w.newest().Gen.Date) {
			date = w.newest().Gen.Date.Add(time.Second)
		}
		made.Gen.Date, made.Gen.Signed, made.Manifest.Date, made.Manifest.Signed = date, date, date, date
		w.history = append(w.history, made)
	}
}

// honest lets both mirrors serve what the archive has signed last.
func (w *world) honest() {
	w.serves = make(map[string]func() (*Candidate, error))
	for _, name := range w.at.Mirrors {
		w.serves[name] = func() (*Candidate, error) { return from(name, w.newest()), nil }
	}
}

// befall changes what one mirror serves.
func (w *world) befall(name string, how byte) {
	older := w.history[int(how>>4)%len(w.history)]
	strange := w.strange[int(how>>4)%len(w.strange)]
	w.serves[name] = [...]func() (*Candidate, error){
		func() (*Candidate, error) { return from(name, w.newest()), nil },
		func() (*Candidate, error) { return from(name, older), nil },
		func() (*Candidate, error) { return from(name, strange), nil },
		func() (*Candidate, error) { return nil, proto.ErrNotFound },
		func() (*Candidate, error) { return nil, &proto.Unavailable{Reason: "down"} },
		func() (*Candidate, error) { return nil, NewWrongContent(proto.ErrCorrupt) },
	}[how&15%6]
}

// turn makes one thing happen.
func (w *world) turn() {
	switch op := w.draw(); op % 16 {
	case 0:
		w.publish(w.draw() % 8)
	case 1:
		w.befall(w.at.Mirrors[op>>4&1], w.draw())
	case 2, 3:
		w.pass([...]time.Duration{time.Millisecond, CheckPause / 2, CheckPause, 5 * time.Second, 11 * time.Second, interval, 2 * interval, 13 * time.Hour}[w.draw()%8])
		w.happens(Tick{})
	case 4, 5:
		w.request(w.draw())
	case 6:
		what := w.draw()
		roots := append(w.strange[:len(w.strange):len(w.strange)], w.history...)
		r := roots[int(what>>1)%len(roots)]
		checked := w.at.Mono.Add(-time.Duration(what&1) * interval)
		w.happens(announced(w.nodes[op>>4&1], r, checked))
	case 7:
		for id := range w.asked {
			if len(w.asked) == 1 || id%2 == uint64(op>>4&1) {
				delete(w.asked, id)
				w.happens(Abandoned{id})
				break
			}
		}
	case 8:
		w.at.Rank = int(op >> 4 & 1)
		w.happens(Tick{})
	case 9:
		w.happens([...]Event{Asked{}, AskedByPeer{}, DemandGrew{}, Tick{}}[op>>4&3])
	case 10:
		w.restart()
	default:
		w.answer(int(op>>4), w.draw())
	}
}

func (w *world) request(flags byte) {
	w.last++
	r := Request{ID: w.last, Fresh: flags&1 != 0, Since: flags&2 != 0, Unconditional: flags&4 != 0, Older: flags&0xf8 == 8, Peer: flags&16 != 0}
	w.older = w.older || r.Older
	w.asked[r.ID] = r
	w.happens(r)
}

// restart loses all but what is durable.
func (w *world) restart() {
	record, current := w.m.Record(), w.m.Current()
	w.m = New(w.m.cfg)
	w.m.Restore(w.at, current, record, Never)
	w.open, w.staged = nil, nil
	clear(w.asked)
	w.happens(Tick{})
}

// happens gives the machine an event, and looks at what it makes of it.
func (w *world) happens(e Event) {
	w.Helper()
	w.steps++
	before := w.m.Current()
	out := w.step(e)
	if len(out)-len(actions[Reply](out)) > 100 {
		w.Fatalf("%d actions after one event %T", len(out), e)
	}
	for _, a := range out {
		switch a := a.(type) {
		case *AskMirror, *AskLeader, *OpenOffer:
			w.open = append(w.open, a)
		case *Stage:
			if len(actions[*Stage](w.open))+len(actions[*Commit](w.open)) > 0 {
				w.Fatal("two candidates are adopted at once")
			}
			w.open = append(w.open, a)
		case *Commit:
			if a.Candidate != w.staged {
				w.Fatal("a candidate that was not staged is committed")
			}
			if healed := before != nil && before.Manifest.Names != stableNames; a.Record.Floor.Before(w.m.floor) && a.Candidate.Gen.Back.IsZero() && !w.older && !healed {
				w.Fatal("the newest date that was ever adopted is forgotten")
			}
			w.open = append(w.open, a)
		case Reply:
			if _, ok := w.asked[a.ID]; !ok {
				w.Fatalf("request %d is answered, and nobody waits for it", a.ID)
			}
			delete(w.asked, a.ID)
		}
	}
	w.judge(before)
}

// judge compares what is held with what may be held.
func (w *world) judge(before *Root) {
	w.Helper()
	current := w.m.Current()
	if current == nil || w.older {
		return
	}
	if current.Manifest.Names.Suite == "other" {
		w.Fatal("a root of another suite is held")
	}
	if before == nil || before == current {
		return
	}
	if !before.Gen.Precedes(current.Gen) && before.Gen.Statement != current.Gen.Statement && current.Gen.Compare(before.Gen) != proto.Fork && before.Manifest.Names == stableNames {
		w.Fatalf("gone back from %v to %v", before.Gen.Date, current.Gen.Date)
	}
	if before.Manifest.Names == stableNames && current.Manifest.Names != stableNames && len(w.at.Mirrors) > 1 && w.m.renaming.times == 0 && w.m.book.primary == "" {
		w.Fatal("a root that nobody can place is believed at once")
	}
}

// answer gives one of the actions that are not answered an outcome.
func (w *world) answer(which int, how byte) {
	if len(w.open) == 0 {
		return
	}
	which %= len(w.open)
	a := w.open[which]
	w.open = append(w.open[:which:which], w.open[which+1:]...)
	switch a := a.(type) {
	case *AskMirror:
		cand, err := w.serves[a.Mirror]()
		if err == nil && !a.Condition.Root.IsZero() && a.Condition.Root == cand.Gen.Root {
			cand = nil
		}
		w.happens(MirrorAnswered{Ask: a, Candidate: cand, Err: err})
	case *AskLeader:
		switch how % 4 {
		case 0:
			w.happens(LeaderAnswered{Ask: a, Err: &proto.PeerFailed{Peer: "leader", Err: errors.New("down")}})
		case 1:
			w.happens(LeaderAnswered{Ask: a, From: "leader", Err: proto.ErrNotFound})
		default:
			r := w.newest()
			if how%4 == 3 {
				r = w.history[int(how>>2)%len(w.history)]
			}
			w.happens(LeaderAnswered{Ask: a, From: "leader", Ann: proto.Announcement{Generation: r.Gen}, Checked: w.at.Mono})
		}
	case *OpenOffer:
		if how%4 == 0 {
			w.happens(Opened{Open: a, Err: &Fault{"unreachable", errors.New("down")}})
			return
		}
		for _, r := range append(w.strange[:len(w.strange):len(w.strange)], w.history...) {
			if r.Gen.Root == a.Gen.Root && r.Gen.Statement == a.Gen.Statement {
				w.happens(Opened{Open: a, Candidate: byNode(r)})
				return
			}
		}
		w.Fatalf("an offer of what nobody has announced: %+v", a.Gen)
	case *Stage:
		var missing []Missing
		if how%8 == 0 {
			missing = []Missing{{Slot: "main", Required: how&8 != 0, Err: proto.ErrNotFound}}
		}
		var err error
		if how%8 == 1 {
			err = errors.New("no space")
		}
		if w.staged = nil; err == nil {
			w.staged = a.Candidate
		}
		w.happens(Staged{Stage: a, Missing: missing, Err: err})
	case *Commit:
		var err error
		if how%8 == 0 {
			err = errors.New("no space")
		}
		w.happens(Committed{Commit: a, Err: err})
	}
}

// converge lets honest mirrors, and a client that goes on asking, have their way.
func (w *world) converge() {
	w.honest()
	w.publish(0)
	if w.newest().Gen.Date.Before(w.m.floor) { // an odd root of long after may have been believed
		w.newest().Gen.Date = w.m.floor.Add(time.Second)
	}
	w.at.Wall = w.newest().Gen.Date.Add(time.Hour)
	w.nodes = nil
	for range 3000 {
		w.happens(Asked{})
		if w.m.Current() == nil { // as a client of a suite that is not held
			w.request(0)
		}
		for len(w.open) > 0 {
			w.answer(0, 4) // nothing missing; a leader that does not answer
		}
		if len(w.asked) == 0 && w.m.Current() != nil && w.m.Current().Gen.Compare(w.newest().Gen) == proto.Same && w.m.Idle() {
			return
		}
		next, ok := w.m.Next()
		if !ok {
			next = w.at.Mono.Add(time.Minute)
		}
		w.pass(max(next.Sub(w.at.Mono), time.Millisecond))
		w.happens(Tick{})
	}
	if len(w.asked) > 0 {
		w.Fatalf("requests were never answered: %+v", w.asked)
	}
	w.Fatalf("with honest mirrors it stays at %+v, and not at %+v", w.m.Current(), w.newest().Gen)
}
