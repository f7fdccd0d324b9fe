package peerfetch

import (
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// What an attempt at a target means for the target: whether it is asked again, when, and from which byte.
func TestTargetErrors(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	reset := outcomeOf(errBroken)
	later := outcomeOf(&proto.Unavailable{Reason: "429", Answered: true, RetryAfter: 20 * time.Second})
	corruption := outcomeOf(&judged{verdict: corrupt, err: proto.ErrCorrupt, culprits: []string{"m1"}})
	begun := situation{written: 100, decided: true, allowed: true, answered: "m1", mirrors: []string{"m1"}}
	with := func(s situation, change func(*situation)) situation { change(&s); return s }
	two := with(begun, func(s *situation) { s.mirrors = []string{"m1", "m2"} })
	fresh := situation{fresh: true, decided: true, allowed: true, answered: "m1", mirrors: []string{"m1"}}
	undecided := with(begun, func(s *situation) { s.decided = false })
	for _, tt := range []struct {
		name   string
		target target
		o      outcome
		s      situation
		move   move
		closed error // nil: it stays open
		wait   time.Duration
	}{
		{"404", target{}, outcomeOf(proto.ErrNotFound), fresh, move{}, proto.ErrNotFound, 0},
		{"404 for the rest, which another place may have", target{}, outcomeOf(proto.ErrNotFound), begun, move{}, proto.ErrNotFound, 0},
		{"404 for the rest of what nothing proves", target{}, outcomeOf(proto.ErrNotFound), undecided, move{}, proto.ErrNotFound, 0},
		{"the same, and nobody has had any of it", target{}, outcomeOf(proto.ErrNotFound), with(undecided, func(s *situation) { s.fresh = true }), move{startOver: true}, proto.ErrNotFound, 0},
		{"the budget", target{}, outcomeOf(withheld(proto.ErrNotFound)), fresh, move{}, proto.ErrNotFound, 0},
		{"a loop", target{}, outcomeOf(&proto.Rejected{Kind: proto.RejectLoop}), fresh, move{}, &proto.Rejected{}, 0},
		{"slow", target{}, outcome{verdict: slow, err: errSlow}, begun, move{}, nil, 0},

		{"a break that brought something", target{barren: 0}, reset, begun, move{}, nil, 0},
		{"a break that brought nothing", target{barren: 1}, reset, begun, move{}, nil, 500 * time.Millisecond},
		{"the third in a row", target{barren: maxBarren}, reset, begun, move{}, errBroken, 0},
		{"a break with another mirror at hand", target{barren: 2}, reset, two, move{switched: true}, nil, 0},
		{"of both", target{barren: 1, exhausted: map[string]bool{"m2": true}}, reset, two, move{}, nil, 500 * time.Millisecond},
		{"a break of what nothing proves", target{barren: 1}, reset, undecided, move{}, errBroken, 0},
		{"the same with a validator", target{barren: 1}, reset, with(undecided, func(s *situation) { s.validator = true }), move{}, nil, 500 * time.Millisecond},
		{"the same before anybody had any", target{barren: 1}, reset, with(undecided, func(s *situation) { s.fresh = true }), move{startOver: true}, nil, 500 * time.Millisecond},
		{"to wait before the first byte", target{}, later, fresh, move{}, later.err, 0},
		{"to wait in the middle", target{}, later, begun, move{}, nil, 5 * time.Second},

		{"wrong bytes, unseen, another mirror", target{}, corruption, with(two, func(s *situation) { s.fresh, s.tainted, s.mirrors = true, true, []string{"m2"} }), move{startOver: true, switched: true}, nil, 0},
		{"a wrong length in the middle, another mirror", target{}, corruption, with(two, func(s *situation) { s.mirrors = []string{"m2"} }), move{switched: true}, nil, 0},
		{"wrong bytes, seen, another mirror for the next request", target{}, corruption, with(two, func(s *situation) { s.tainted, s.mirrors = true, []string{"m2"} }), move{}, &proto.Unavailable{}, 0},
		{"wrong bytes, no other mirror", target{}, corruption, with(fresh, func(s *situation) { s.tainted, s.mirrors = true, nil }), move{startOver: true}, proto.ErrCorrupt, 0},
		{"wrong bytes, and no budget", target{}, corruption, with(two, func(s *situation) { s.fresh, s.tainted, s.allowed, s.mirrors = true, true, false, []string{"m2"} }), move{startOver: true}, &proto.Unavailable{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.target
			if p.exhausted == nil {
				p.exhausted = map[string]bool{}
			}
			tt.s.now = now
			if got := p.record(tt.o, tt.s); got != tt.move {
				t.Errorf("%+v, want %+v", got, tt.move)
			}
			var busy *proto.Unavailable
			var rejected *proto.Rejected
			switch tt.closed.(type) {
			case nil:
				if !p.open() {
					t.Errorf("closed with %v", p.err)
				}
			case *proto.Rejected:
				if !errors.As(p.err, &rejected) {
					t.Errorf("closed with %v", p.err)
				}
			case *proto.Unavailable:
				if !errors.As(p.err, &busy) {
					t.Errorf("closed with %v", p.err)
				}
			default:
				if !errors.Is(p.err, tt.closed) {
					t.Errorf("closed with %v", p.err)
				}
			}
			if wait := max(p.ready.Sub(now), 0); wait != tt.wait {
				t.Errorf("asked again after %s, want %s", wait, tt.wait)
			}
		})
	}
}

// Places are asked in their order, those that were slow after the others, and none before its time.
func TestNextTarget(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var ps targets
	for _, archive := range []string{"a", "b", "c"} {
		object := proto.ObjectRequest{Where: proto.At(proto.Location{Archive: archive, Path: "x"})}
		if added, ok := ps.add(&object); !added || !ok {
			t.Fatal("not added")
		}
		if added, _ := ps.add(&object); added {
			t.Fatal("added twice")
		}
	}
	next := func() (string, time.Duration) {
		p, wait := ps.next(now)
		if p == nil {
			return "", wait
		}
		return p.loc.Archive, wait
	}
	expect := func(archive string, wait time.Duration) {
		t.Helper()
		if got, after := next(); got != archive || after != wait {
			t.Errorf("%q after %s, want %q after %s", got, after, archive, wait)
		}
	}
	a, b, c := ps.all[0], ps.all[1], ps.all[2]
	expect("a", 0)
	a.left = 1
	expect("b", 0)
	b.ready = now.Add(time.Second)
	expect("c", 0)
	c.err = proto.ErrNotFound
	expect("a", 0)
	if !ps.alternative(b, now) || ps.alternative(a, now) {
		t.Error("b may be left for a, and a for nobody that is ready")
	}
	a.err = proto.ErrNotFound
	expect("b", time.Second)
	if err := ps.errOf(proto.At(a.loc, c.loc)); !errors.Is(err, proto.ErrNotFound) {
		t.Errorf("a reader of a and c is told %v", err)
	}
	if err := ps.errOf(proto.At(a.loc, b.loc)); err != nil {
		t.Errorf("a reader of a and b is told %v", err)
	}
	b.err = errAnswered
	expect("", 0)
	if err := ps.errOf(proto.At(a.loc, b.loc)); !errors.Is(err, errAnswered) {
		t.Errorf("a reader of a and b is told %v", err)
	}
	if got := ps.where(); got.Len() != 3 {
		t.Errorf("others are asked at %v", got)
	}
}

// Names beyond the bound are not taken in, and those of the first reader are, however many.
func TestTargetsHaveABound(t *testing.T) {
	at := func(from, to int) proto.ObjectRequest {
		var locs []proto.Location
		for i := from; i < to; i++ {
			locs = append(locs, proto.Location{Archive: "a", Path: string(rune('a' + i))})
		}
		return proto.ObjectRequest{Where: proto.WhereOf(locs)}
	}
	var ps targets
	first, more, same := at(0, maxTargets+3), at(20, 21), at(1, 2)
	if _, ok := ps.add(&first); !ok || len(ps.all) != maxTargets+3 {
		t.Errorf("%d places", len(ps.all))
	}
	if _, ok := ps.add(&more); ok {
		t.Error("one more was taken in")
	}
	if _, ok := ps.add(&same); !ok {
		t.Error("who knows no other name cannot join")
	}
}

func TestVerdictOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want verdict
	}{
		{nil, complete},
		{errors.New("x"), failed},
		{&proto.PeerFailed{Peer: "p", Err: proto.ErrNotFound}, failed},
		{&proto.PeerFailed{Peer: "p", Err: proto.ErrSlowUpstream}, slow},
		{&proto.NotStored{}, lacking},
		{proto.ErrNotFound, absent},
		{&proto.Refused{Status: 403}, refused},
		{proto.ErrCorrupt, corrupt},
		{&proto.Rejected{Kind: proto.RejectCorrupt, Err: errAnswered}, corrupt},
		{&proto.Rejected{Kind: proto.RejectLoop}, unreachable},
		{&proto.Unavailable{Answered: true, Err: &proto.Rejected{Kind: proto.RejectLoop}}, unreachable},
		{&proto.Unavailable{Answered: true, Err: proto.ErrCorrupt}, unavailable},
		{errPathless, unreachable},
		{errAnswered, unavailable},
		{withheld(errAnswered), untried},
	} {
		if got := verdictOf(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// Who may have caused wrong content.
func TestLedger(t *testing.T) {
	at := func(archive, mirror string) byteSource {
		return byteSource{mirror: mirror, loc: proto.Location{Archive: archive, Path: "x"}}
	}
	node := byteSource{peer: "n"}
	for _, tt := range []struct {
		name               string
		gave               []byteSource
		certain, nodesToo  bool
		archives           int
		continuesInArchive bool // "a"
	}{
		{"one mirror", []byteSource{at("a", "m1")}, true, false, 1, true},
		{"one mirror twice", []byteSource{at("a", "m1"), at("a", "m1")}, true, false, 1, true},
		{"two mirrors", []byteSource{at("a", "m1"), at("a", "m2")}, false, false, 1, true},
		{"two archives", []byteSource{at("a", "m1"), at("b", "m1")}, false, false, 2, false},
		{"another archive", []byteSource{at("b", "m1")}, true, false, 1, false},
		{"a node", []byteSource{node}, true, true, 0, true},
		{"a node and a mirror", []byteSource{node, at("a", "m1")}, false, true, 1, true},
		{"an earlier flight and a mirror", []byteSource{{partial: true}, at("a", "m1")}, false, true, 1, true},
	} {
		l := newLedger()
		for _, o := range tt.gave {
			l.credit(o)
		}
		f := l.ofBytes()
		if f.certain() != tt.certain || f.beyondUpstream() != tt.nodesToo || len(l.archives()) != tt.archives || l.ofArchive("a") != tt.continuesInArchive {
			t.Errorf("%s: certain %v, nodes %v, archives %v, of a %v", tt.name, f.certain(), f.beyondUpstream(), l.archives(), l.ofArchive("a"))
		}
	}
	l := newLedger()
	l.sizeFrom = node
	if f := l.ofSize(at("a", "m1"), false); f.certain() {
		t.Error("of a node and a mirror that disagree on the length the mirror is to blame")
	}
	if f := l.ofSize(at("a", "m1"), true); !f.certain() {
		t.Error("a length that no listing has is not the mirror's fault")
	}
	l.sizeFrom = at("a", "m1")
	if f := l.ofSize(node, false); !f.certain() {
		t.Error("a node's word counts as much as a mirror's")
	}
}
