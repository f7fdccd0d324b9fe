package peerfetch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// walk follows a route whose sources answer as said: by node, the answers one after the other, the last
// one for ever; "up" is this node's own way. It returns the steps: a node, with + where it may go
// upstream, "up", a pause "~", and at last the error.
func walk(t *testing.T, r routing, view proto.Route, answers map[string][]error) (steps []string, last step) {
	t.Helper()
	r.locate = func() proto.Route { return view }
	r.random = func(time.Duration) time.Duration { return time.Millisecond }
	if r.avoid == nil {
		r.avoid = func(string) bool { return false }
	}
	if r.mayAsk == nil {
		r.mayAsk = func() bool { return true }
	}
	if r.peersOnly == nil {
		r.peersOnly = func() bool { return false }
	}
	answer := func(who string) outcome {
		said := answers[who]
		if len(said) == 0 {
			t.Fatalf("%s was asked after %q", who, steps)
		}
		if len(said) > 1 {
			answers[who] = said[1:]
		}
		o := outcomeOf(said[0])
		o.by = byteSource{peer: who}
		return o
	}
	route := newRoute(r)
	for range 100 {
		s := route.next()
		switch s.do {
		case end:
			return steps, s
		case pause:
			steps = append(steps, "~")
		case askUpstream:
			steps = append(steps, "up")
			o := answer("up")
			if o.verdict == complete {
				return steps, s
			}
			route.upstreamEnded(o)
		case askPeer:
			name := s.peer
			if s.fill {
				name += "+"
			}
			steps = append(steps, name)
			o := answer(s.peer)
			if o.verdict == complete {
				return steps, s
			}
			route.nodeEnded(s.fill, o)
		}
	}
	t.Fatalf("no end: %q", steps)
	return nil, step{}
}

func TestRoute(t *testing.T) {
	var (
		has     = []error{nil}
		dead    = []error{&proto.PeerFailed{Peer: "p", Err: errors.New("refused")}}
		lacks   = []error{&proto.NotStored{Peer: "p"}}
		cut     = []error{errPathless}
		says404 = []error{proto.ErrNotFound}
		says403 = []error{&proto.Refused{Status: 403}}
		wrong   = []error{proto.ErrCorrupt}
		down    = []error{errAnswered}
		waits   = []error{&proto.Unavailable{Reason: "429", Answered: true, RetryAfter: time.Minute}}
		held    = []error{withheld(proto.ErrNotFound)}
		broken  = []error{&judged{verdict: hopeless, err: errors.New("disk")}}
	)
	liar := &proto.Unavailable{Reason: "the next request asks another mirror", Answered: true, Wrong: true}
	points := func(to ...string) []error { return []error{&proto.NotStored{Peer: "p", Try: to}} }
	busy := func(with string) error { return &proto.NotStored{Peer: "p", Busy: true, Try: []string{with}} }
	listed := routing{digest: true, listed: true, pause: time.Second}
	unlisted := routing{pause: time.Second}
	only := listed
	only.peersOnly = func() bool { return true }
	lent := listed
	lent.mayAsk = func() bool { return false }
	view := func(holders string, owners string) proto.Route {
		return proto.Route{Self: "x", Holders: strings.Fields(holders), Owners: strings.Fields(owners)}
	}
	for _, tt := range []struct {
		name    string
		r       routing
		view    proto.Route
		answers map[string][]error
		steps   string
		ends    error // nil: with the body
		told    bool
	}{
		{"a holder", listed, view("h", "a x"), map[string][]error{"h": has}, "h", nil, false},
		{"holders of what has no digest are not known", unlisted, view("h", "a x"), map[string][]error{"a": has}, "a+", nil, false},
		{"dead holders, no more than three", listed, view("h i j k", "a"), map[string][]error{"h": dead, "i": dead, "j": dead, "a": has}, "h i j a+", nil, false},
		{"a holder that points on", listed, view("h i", "a"), map[string][]error{"h": points("j"), "j": points("k"), "i": has}, "h j i", nil, false},
		{"this node owns it", listed, view("", "x a"), map[string][]error{"up": has}, "up", nil, false},
		{"a follower's flight stays upstream", lent, view("h", "a x"), map[string][]error{"up": says404}, "up", proto.ErrNotFound, false},
		{"the first owner is cut off", listed, view("", "a b"), map[string][]error{"a": cut, "b": has}, "a+ b+", nil, false},
		{"both are", listed, view("", "a b c"), map[string][]error{"a": cut, "b": cut}, "a+ b+", errPathless, true},
		{"this node and the next are", listed, view("", "x b c"), map[string][]error{"up": cut, "b": cut}, "up b+", errPathless, true},

		{"an owner's 404 is checked", listed, view("", "a b"), map[string][]error{"a": says404, "b": has}, "a+ b+", nil, false},
		{"an owner's 403 is", listed, view("", "a b"), map[string][]error{"a": says403, "b": has}, "a+ b+", nil, false},
		{"an owner's wrong bytes are", listed, view("", "a b"), map[string][]error{"a": wrong, "b": has}, "a+ b+", nil, false},
		{"an owner's 503 is", listed, view("", "a b"), map[string][]error{"a": down, "b": has}, "a+ b+", nil, false},
		{"by this node, if no other is an owner", listed, view("", "a"), map[string][]error{"a": says404, "up": has}, "a+ ~ up", nil, false},
		{"and this node's by another", listed, view("", "x a"), map[string][]error{"up": says404, "a": has}, "up a+", nil, false},
		{"two of them are believed", listed, view("", "a b c"), map[string][]error{"a": says404, "b": says404}, "a+ b+", proto.ErrNotFound, true},
		{"one that is all there is, too", listed, view("", "x"), map[string][]error{"up": says404}, "up", proto.ErrNotFound, false},
		{"404 and no way: not final", listed, view("", "a b"), map[string][]error{"a": says404, "b": cut, "up": cut}, "a+ b+ ~ up", errPathless, false},
		{"who is to wait asks nobody else", listed, view("", "a b"), map[string][]error{"a": waits}, "a+", waits[0], true},
		{"an unlisted file's 404 is the owner's to say", unlisted, view("", "a b"), map[string][]error{"a": says404}, "a+", proto.ErrNotFound, true},
		{"what the budget forbids is asked of nobody", listed, view("", "x a"), map[string][]error{"up": held}, "up", proto.ErrNotFound, false},
		{"a store that fails is nobody's fault", listed, view("", "x a"), map[string][]error{"up": broken}, "up", broken[0], false},

		{"an owner with another mirror", listed, view("", "a b"), map[string][]error{"a": {liar, nil}}, "a+ a+", nil, false},
		{"and with nothing but such", listed, view("", "a b"), map[string][]error{"a": {liar}, "b": has}, "a+ a+ a+ a+ b+", nil, false},
		{"an owner that waits in vain for upstream", listed, view("", "a b x"), map[string][]error{"a": {&proto.PeerFailed{Peer: "a", Err: proto.ErrSlowUpstream}}, "up": has}, "a+ up", nil, false},
		{"so does this node, and the next one", listed, view("", "a b"), map[string][]error{"a": {&proto.PeerFailed{Peer: "a", Err: proto.ErrSlowUpstream}}, "up": cut, "b": has}, "a+ up b+", nil, false},
		{"an owner that sends on, and back", listed, view("", "a"), map[string][]error{"a": {points("h")[0], nil}, "h": lacks}, "a+ h a+", nil, false},
		{"an owner that has it from another", listed, view("", "a"), map[string][]error{"a": {busy("b"), busy("b"), nil}, "b": lacks}, "a+ b ~ a+ b ~ a+", nil, false},
		{"nodes that wait for each other", listed, proto.Route{Self: "1", Owners: []string{"a"}}, map[string][]error{"a": {busy("1")}, "up": has}, "a+ up", nil, false},
		{"from other nodes only", only, view("h", "a b"), map[string][]error{"h": lacks, "a": lacks, "b": says404}, "h a b", errNoNode, false},
		{"all nodes are dead", listed, view("h", "a b"), map[string][]error{"h": dead, "a": dead, "b": dead, "up": has}, "h a+ b+ ~ up", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps, last := walk(t, tt.r, tt.view, tt.answers)
			if got := strings.Join(steps, " "); got != tt.steps {
				t.Errorf("%s, want %s", got, tt.steps)
			}
			if !errors.Is(last.err, tt.ends) || (tt.ends == nil) != (last.do != end) || last.hearsay != tt.told {
				t.Errorf("ended with %+v", last)
			}
		})
	}
}

// Whatever the sources say, a route ends, asks no node again that was of no use, and goes upstream
// once in a round.
func TestAnyRouteEnds(t *testing.T) {
	names := []string{"a", "b", "c", "d", "x"}
	said := []error{
		&proto.PeerFailed{Peer: "p", Err: errors.New("refused")}, errPathless, errAnswered, proto.ErrNotFound, proto.ErrCorrupt,
		&proto.NotStored{Peer: "p"}, &proto.NotStored{Peer: "p", Try: names}, &proto.NotStored{Peer: "p", Busy: true, Try: names[:1]},
		&proto.NotStored{Peer: "p", Busy: true, Try: names[4:]},
	}
	for seed := range uint64(20_000) {
		dice := &dice{rng: rand.New(rand.NewPCG(seed, 7))}
		answers := map[string][]error{}
		for _, who := range append(names, "up") {
			for range 3 {
				answers[who] = append(answers[who], said[dice.n(len(said))])
			}
		}
		answers["up"] = []error{said[1+dice.n(4)]}
		view := proto.Route{Self: "x", Holders: shuffled(dice, names)[:dice.n(5)], Owners: shuffled(dice, names)[:dice.n(6)]}
		r := routing{digest: true, listed: dice.n(2) == 0, pause: time.Second, peersOnly: func() bool { return false }}
		steps, last := walk(t, r, view, answers)
		if last.err == nil || slices.Contains(steps, "x") || slices.Contains(steps, "x+") || strings.Count(fmt.Sprint(steps), "up") > 1 {
			t.Fatalf("seed %d: %q, then %+v", seed, steps, last)
		}
	}
}

// A node that breaks off each time after it has brought something is left in the end.
func TestRevivalsHaveABound(t *testing.T) {
	r := newRoute(routing{
		locate: func() proto.Route { return proto.Route{Self: "x", Holders: []string{"h"}} },
		avoid:  func(string) bool { return false }, mayAsk: func() bool { return true }, peersOnly: func() bool { return false },
		random: func(time.Duration) time.Duration { return 0 }, digest: true, listed: true,
	})
	asked := 0
	for s := r.next(); s.do != askUpstream; s = r.next() {
		if s.do != askPeer {
			continue
		}
		if asked++; asked > 100 {
			t.Fatal("it is asked for ever")
		}
		r.nodeEnded(s.fill, outcome{verdict: failed, err: errBroken, by: byteSource{peer: "h"}})
		r.revived("h")
	}
	if asked != maxRevivals+1 {
		t.Errorf("asked %d times", asked)
	}
}
