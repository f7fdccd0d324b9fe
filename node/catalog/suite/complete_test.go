package suite

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestBeComplete(t *testing.T) {
	optional := func(slots ...string) (missing []Missing) {
		for _, slot := range slots {
			missing = append(missing, Missing{slot, false, proto.ErrNotFound})
		}
		return missing
	}
	required := []Missing{{"main/amd64", true, proto.ErrNotFound}}
	// Each step is a candidate, after a while.
	type step struct {
		after   time.Duration
		missing []Missing
		waits   bool
	}
	for _, c := range []struct {
		name    string
		current *Root
		steps   []step
	}{
		{"nothing is missing", root("held", 0), []step{{0, nil, false}}},
		{"what is required is waited for without end", root("held", 0), []step{{0, required, true}, {100 * time.Hour, required, true}}},
		{"a first generation waits for nothing", nil, []step{{0, append(optional("a"), required...), false}}},
		{"optional files wait for their patience", root("held", 0), []step{{0, optional("a"), true}, {time.Hour - 1, optional("a"), true}, {1, optional("a"), false}}},
		{"each file has its own patience", root("held", 0), []step{
			{0, optional("a"), true}, {30 * time.Minute, optional("a", "b"), true}, {30 * time.Minute, optional("a", "b"), true}, {30 * time.Minute, optional("a", "b"), false}}},
		{"a file that came back begins anew", root("held", 0), []step{
			{0, optional("a"), true}, {time.Hour, nil, false}, {0, optional("a"), true}}},
		{"a required file does not stop the others' time", root("held", 0), []step{
			{0, optional("a"), true}, {time.Hour, required, true}, {0, optional("a"), false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.m.current = c.current
			for n, s := range c.steps {
				r.pass(s.after)
				r.m.at = r.at
				err := r.m.beComplete(from("one", root("next", 1)), s.missing)
				if (err != nil) != s.waits || err != nil && !incomplete(err) {
					t.Fatalf("step %d: %v, want it to wait: %v", n+1, err, s.waits)
				}
			}
		})
	}
}

// While a newer root waits for its members, the next mirror is asked, but does not bring an older one.
func TestIncompleteRootIsNoReasonToGoBack(t *testing.T) {
	r := newRig(t)
	r.at.Mirrors = []string{"one", "two"}
	r.hold(root("held", 0), Record{Primary: "one"})
	r.pass(96 * time.Hour)
	stage := only[*Stage](r, r.step(MirrorAnswered{Ask: r.ask(1), Candidate: from("one", root("newest", 3))}))
	ask := only[*AskMirror](r, r.step(Staged{Stage: stage, Missing: []Missing{{"a", true, proto.ErrNotFound}}}))
	out := r.step(MirrorAnswered{Ask: ask, Candidate: from("two", root("newer", 2))})
	no[*Stage](r, out)
	if reply := only[Reply](r, out); !incomplete(reply.Err) {
		t.Fatalf("the check ended with %v", reply.Err)
	}
}
