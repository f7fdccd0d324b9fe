package peerfetch

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

func TestPlan(t *testing.T) {
	content := randomBytes(100, 56)
	object := wantOf(content)
	c := newCluster(t, five, serve(content))
	c.falsely["d"] = true
	peersOnly := object
	peersOnly.PeersOnly = true
	alone := newWorld(t, serve(content))
	for _, tt := range []struct {
		f      *Fetcher
		object proto.ObjectRequest
		says   []string
	}{
		{c.nodes["a"].Fetcher, object, []string{"Believed to store it, and asked first: d.", "This node is its owner and fetches it from upstream for all."}},
		{c.nodes["b"].Fetcher, unlistedWant("u"), []string{"Owner no. 1, a, would fetch it from upstream for all.", "This node is the next owner and fetches it from upstream if those before it fail."}},
		{c.nodes["d"].Fetcher, peersOnly, []string{"No other node is believed to store it.", "Only other nodes may be asked for it."}},
		{alone.Fetcher, object, []string{"It would be fetched from upstream."}},
	} {
		if got := tt.f.Plan(tt.object); !slices.Equal(got, tt.says) {
			t.Errorf("%q", got)
		}
	}
	for _, tt := range []struct {
		f      *Fetcher
		object proto.ObjectRequest
		says   []string
		nodes  bool
	}{
		{c.nodes["a"].Fetcher, object, []string{"Believed to store it, and asked first: d.", "This node asks no upstream for it (offline: true)."}, true},
		{c.nodes["b"].Fetcher, unlistedWant("u"), []string{"Owner no. 1, a, would fetch it from upstream for all, unless it is offline, too.", "This node asks no upstream for it (offline: true)."}, true},
		{c.nodes["a"].Fetcher, unlistedWant("u"), []string{"This node asks no upstream for it (offline: true)."}, false},
		{alone.Fetcher, object, []string{"This node asks no upstream for it (offline: true)."}, false},
	} {
		if got, nodes := tt.f.PlanOffline(tt.object); !slices.Equal(got, tt.says) || nodes != tt.nodes {
			t.Errorf("offline: %q, %v", got, nodes)
		}
	}
	alone.leave(t, object, content[:40])
	if got := alone.Plan(object); !slices.Equal(got, []string{"An earlier fetch left up to 40 of its 100 bytes on this node's disk: the rest would be fetched.", "It would be fetched from upstream."}) {
		t.Errorf("%q", got)
	}
	alone.mustRead(t, object)
	alone.settled(t)
	if got := alone.Plan(object); !slices.Equal(got, []string{"This node stores it (disk)."}) {
		t.Errorf("%q", got)
	}
}

func TestPlanOfAFlight(t *testing.T) {
	content := randomBytes(300_000, 57)
	gate := newGated(content)
	c := newCluster(t, five, func(int, proto.Request) answer { return answer{body: gate, size: 300_000} })
	gate.allow(1000)
	blob, err := c.nodes["b"].Open(context.Background(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	for name, source := range map[string]string{"b": "node a", "a": "upstream"} {
		want := fmt.Sprintf("It is being fetched from %s: 1000 of 300000 bytes are here, 1 readers follow, and a request would join them.", source)
		if name == "b" {
			want = "It is being fetched from node a: 999 of 300000 bytes are here, 1 readers follow, and a request would join them."
		}
		if got := c.nodes[name].Plan(wantOf(content)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	gate.allow(len(content))
	c.check(t)
}
