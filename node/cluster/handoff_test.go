package cluster

import (
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// Who may have a blob passes from a node that leaves to the one that takes it over.
func TestHandedOnKeepsRestrictions(t *testing.T) {
	ref := proto.Ref{Digest: proto.Digest{1}, Size: 3}
	for _, only := range [][]string{nil, {"esm"}, {"esm", "vendor/pro"}} {
		want := handedOff(ref, onlyOf(handedOff(ref, only, "")), "leaver")
		if got := onlyOf(want); !slices.Equal(got, only) || want.Ref != ref || !want.PeersOnly || len(want.Holders) != 1 {
			t.Errorf("%q became %q: %+v", only, got, want)
		}
	}
}
