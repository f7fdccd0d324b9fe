package suite

import (
	"errors"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

func TestOutcome(t *testing.T) {
	waits := refuse(KindIncomplete, "waits: %w", proto.ErrNotFound)
	older := refuse(KindOlder, "older")
	missing := proto.ErrNotFound
	busy := &proto.Unavailable{Reason: "busy"}
	forbidden := &proto.Refused{Status: 403, Reason: "forbidden"}
	corrupt := NewWrongContent(proto.ErrCorrupt)
	own := &localFailure{proto.ErrNoSpace}
	for _, c := range []struct {
		name    string
		answers []error
		want    error
		askNext bool
	}{
		{"missing", []error{missing}, missing, true},
		{"missing at all", []error{missing, missing}, missing, true},
		{"missing at one, the other is down", []error{missing, busy}, busy, true},
		{"down, then missing", []error{busy, missing}, busy, true},
		{"forbidden, then missing", []error{forbidden, missing}, forbidden, true},
		{"missing, then older", []error{missing, older}, older, true},
		{"older, then forbidden", []error{older, forbidden}, forbidden, true},
		{"corrupt, then missing", []error{corrupt, missing}, proto.ErrCorrupt, true},
		{"incomplete, then nothing better", []error{waits, errNoBetter}, waits, false},
		{"down, then incomplete", []error{busy, waits}, waits, true},
		{"incomplete, then down", []error{waits, busy}, waits, false},
		{"this node's own trouble ends a check", []error{own}, proto.ErrNoSpace, false},
		{"missing, then this node's own trouble", []error{missing, own}, proto.ErrNoSpace, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var answers []answer
			for n, err := range c.answers {
				answers = append(answers, answer{[]string{"one", "two"}[n], err})
			}
			got := outcome(answers)
			if !errors.Is(got, c.want) || errors.Is(got, missing) != errors.Is(c.want, missing) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got := mayAskNext(answers); got != c.askNext {
				t.Errorf("asks the next mirror: %v", got)
			}
		})
	}
}

// A mirror that gave bytes which nobody signed is named to upstream once another one has shown better.
func TestCorruptSourcesAreBlamed(t *testing.T) {
	r := newRig(t)
	r.at.Mirrors = []string{"one", "two"}
	out := r.step(MirrorAnswered{Ask: r.ask(1), Err: NewWrongContent(proto.ErrCorrupt)})
	no[Blame](r, out)
	out = r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, out), Candidate: from("two", root("good", -1))}))
	if b := only[Blame](r, out); b.Mirror != "one" {
		t.Fatalf("%s is blamed", b.Mirror)
	}
}
