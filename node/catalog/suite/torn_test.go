package suite

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// with puts a signature beside a root; "" for one that is not known.
func with(signature string) func(*Root) {
	return func(r *Root) {
		c := proto.Companion{Name: "sig", Proof: true}
		if signature != "" {
			c.Ref = refOf(signature)
		}
		r.Gen.Companions = []proto.Companion{c}
	}
}

func tornRoot(r *Root) { r.Manifest.Torn = "sig" }

// What is known takes the place of what is not, and a pair that belongs together that of one that does
// not, whoever brings it; never the other way round.
func TestRevisionsBesideARoot(t *testing.T) {
	for name, tt := range map[string]struct {
		held, offered *Root
		taken         bool
	}{
		"a signature that was not known": {root("r", 0, with("")), root("r", 0, with("x")), true},
		"there is none":                  {root("r", 0, with("")), root("r", 0), true},
		"it is not known any more":       {root("r", 0, with("x")), root("r", 0, with("")), false},
		"the pair fits":                  {root("r", 0, with("x"), tornRoot), root("r", 0, with("y")), true},
		"the pair fits, by its digest":   {root("r", 0, with("y"), tornRoot), root("r", 0, with("x")), true},
		"the pair does not fit":          {root("r", 0, with("x")), root("r", 0, with("y"), tornRoot), false},
		"nor this one":                   {root("r", 0, with("y")), root("r", 0, with("x"), tornRoot), false},
	} {
		// From a mirror that is not asked first, so that only what is offered counts.
		r := newRig(t)
		r.at.Mirrors = []string{"one", "two"}
		r.hold(tt.held, Record{Primary: "one"})
		ask := r.ask(1)
		r.step(MirrorAnswered{Ask: ask, Err: &proto.Unavailable{Reason: "down"}})
		if r.m.check == nil {
			t.Fatalf("%s: no other mirror is asked", name)
		}
		staged := actions[*Stage](r.step(MirrorAnswered{Ask: r.m.check.query, Candidate: from("two", tt.offered)}))
		if got := len(staged) > 0; got != tt.taken {
			t.Errorf("%s: taken %v, want %v", name, got, tt.taken)
		}
	}
}

// A node that has seen upstream without the signature a moment ago takes it from another one that had
// it before.
func TestSignatureOfAnotherNode(t *testing.T) {
	r := newRig(t, clustered)
	r.at.Rank = 1
	r.hold(root("r", 0, with("")), Record{})
	r.m.fresh.Good = r.at.Mono
	if len(actions[*OpenOffer](r.step(announced("node-2", root("r", 0, with("x")), r.at.Mono.Add(-30*time.Second))))) != 1 {
		t.Error("it is not taken")
	}
}

// While a file beside the root is not known, other mirrors are probed after each check, and a node that
// is asked by another asks upstream again.
func TestUnknownIsAskedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		held  *Root
		asked bool
	}{"known": {root("r", 0, with("x")), false}, "not known": {root("r", 0, with("")), true}} {
		r := newRig(t, clustered)
		r.at.Mirrors = []string{"one", "two"}
		r.hold(tt.held, Record{Primary: "one"})
		r.step(MirrorAnswered{Ask: r.ask(1)})
		r.m.probe = nil
		r.pass(interval / 2)
		if got := len(actions[*AskMirror](r.step(Request{ID: 2, Peer: true}))) > 0; got != tt.asked {
			t.Errorf("%s: another node has upstream asked: %v", name, got)
		}
		if r.m.check == nil {
			r.step(Request{ID: 3, Since: true, Fresh: true})
		}
		r.step(MirrorAnswered{Ask: r.m.check.query})
		if got := r.m.probe != nil; got != tt.asked {
			t.Errorf("%s: probed %v", name, got)
		}
	}
}

// A root waits for the signature that belongs to it, for as long as a publication may take in all.
func TestWaitsForPair(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Patience = 2 * time.Minute })
	r.hold(root("a", -9, with("a")), Record{Primary: "one"})
	offer := func(id uint64, c *Candidate) []Action { return r.step(MirrorAnswered{Ask: r.ask(id), Candidate: c}) }
	no[*Stage](r, offer(1, from("one", root("b", -8, with("a"), tornRoot))))
	if !isKind(r.m.failure, KindTorn) {
		t.Fatalf("the check ends with %v", r.m.failure)
	}
	r.pass(time.Minute)
	no[*Stage](r, offer(2, from("one", root("c", -7, with("a"), tornRoot))))
	r.pass(time.Minute)
	r.adopt(offer(3, from("one", root("d", -6, with("a"), tornRoot)))) // an archive that publishes without end
	r.pass(time.Minute)
	r.adopt(offer(4, from("one", root("e", -5, with("e")))))
	r.pass(time.Minute)
	no[*Stage](r, offer(5, from("one", root("f", -4, with("e"), tornRoot)))) // the time counts anew
}
