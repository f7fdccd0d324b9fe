package peerfetch

import (
	"context"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// A suite's other site is asked for what can be proven, and for nothing else.
func TestBaseIsForProvableWantsOnly(t *testing.T) {
	const base = "http://other.example.org/ubuntu"
	content := randomBytes(1000, 1)
	byHash := wantOf(content)
	byHash.Ref.Size = proto.UnknownSize
	for name, tt := range map[string]struct {
		object proto.ObjectRequest
		head   bool
		base   string
	}{
		"listed":           {wantOf(content), false, base},
		"by hash, HEAD":    {byHash, true, base},
		"unlisted":         {unlistedWant("u"), false, ""},
		"unlisted by HEAD": {unlistedWant("v"), true, ""},
	} {
		w := newWorld(t, serve(content))
		tt.object.Base = base
		if tt.head {
			if _, err := w.Head(context.Background(), tt.object); err != nil {
				t.Fatal(err)
			}
		} else {
			w.mustRead(t, tt.object)
		}
		if got := w.up.request(0).Base; got != tt.base {
			t.Errorf("%s: asked at %q", name, got)
		}
	}
}
