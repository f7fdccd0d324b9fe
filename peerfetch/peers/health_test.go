package peers

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/connectivity"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
	"github.com/aptmesh/aptmesh/ring"
)

var errTransfer = &proto.PeerFailed{Peer: "b", Err: errors.New("no progress")}

func TestPeerIsUnhealthyUntilItAnswers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFaults(link{delay: oneWay})
		a := newMesh(t, "a", Config{Listen: "a:1", listen: f.listen, Dial: f.dial})
		b := newMesh(t, "b", Config{Listen: "b:1", listen: f.listen, Dial: f.dial})
		f.set("b:1", hold)
		acquaint(t, a, b)
		never(t, 10*time.Second, func() bool { return a.peer("b").healthy() })
		if got := a.Peers()[0]; got.Healthy || got.RTT != 0 || got.LastError == "" || got.RingAgrees {
			t.Errorf("a node that never answered: %+v", got)
		}
		f.set("b:1", carry)
		within(t, time.Second, func() bool { return a.peer("b").healthy() })
		within(t, time.Second, func() bool { return a.peer("b").rtt() > 0 })
		if rtt := a.peer("b").rtt(); rtt != 2*oneWay {
			t.Errorf("a round trip of %v was measured as %v", 2*oneWay, rtt)
		}
		if got := a.Peers()[0]; !got.Healthy || !got.RingAgrees || got.RTT != 2*oneWay {
			t.Errorf("a node that answers: %+v", got)
		}
	})
}

func TestPeerFreezesAndWakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, nil, "a", "b")
		p := meshes[0].peer("b")
		for _, frozen := range []time.Duration{5 * time.Second, time.Minute} {
			f.set("b:1", hold)
			took := within(t, 3200*time.Millisecond, func() bool { return !p.healthy() })
			if took < 1500*time.Millisecond {
				t.Errorf("given up %v after the last sign of life", took)
			}
			if p.reachable() {
				t.Error("asked for news though it does not answer")
			}
			never(t, frozen, p.healthy)
			f.set("b:1", carry)
			// After a minute its connections have been closed from here.
			within(t, 3*time.Second, p.healthy)
		}
	})
}

func TestPeerDiesAndReturns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, nil, "a", "b")
		p := meshes[0].peer("b")
		f.set("b:1", refuse)
		within(t, oneWay, func() bool { return !p.healthy() }) // its connections break
		before := f.dialled()
		never(t, 20*time.Second, p.healthy)
		if n := f.dialled() - before; n > 100 {
			t.Errorf("%d dials in 20 s", n)
		}
		if why := meshes[0].Peers()[0].LastError; !strings.Contains(why, "nothing listens there") {
			t.Errorf("the operator is told %q", why)
		}
		f.set("b:1", carry)
		within(t, 2500*time.Millisecond, p.healthy)

		// A short restart is noticed sooner than by the next ping.
		time.Sleep(300 * time.Millisecond)
		f.set("b:1", refuse)
		within(t, oneWay, func() bool { return !p.reachable() })
		f.set("b:1", carry)
		within(t, 500*time.Millisecond, p.reachable)
		within(t, 1500*time.Millisecond, p.healthy)
		never(t, 10*time.Second, func() bool { return !p.healthy() })
	})
}

// TestConnectionForBytes is made before it is needed, and has to work for a node
// to be asked for any.
func TestConnectionForBytes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFaults(link{delay: oneWay})
		var dials, allowed atomic.Int32
		allowed.Store(1) // the first is for control
		a := newMesh(t, "a", Config{Listen: "a:1", listen: f.listen, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if dials.Add(1) > allowed.Load() {
				return nil, errors.New("connection refused")
			}
			return f.dial(ctx, addr)
		}})
		b := newMesh(t, "b", Config{Listen: "b:1", listen: f.listen, Dial: f.dial})
		acquaint(t, a, b)
		p := a.peer("b")
		within(t, 2*time.Second, func() bool { return p.reachable() && !p.healthy() })
		never(t, 10*time.Second, p.healthy)
		allowed.Store(1 << 20)
		within(t, 2500*time.Millisecond, p.healthy)
		if state := p.data.GetState(); state != connectivity.Ready {
			t.Errorf("the connection for bytes is %v", state)
		}
	})
}

func TestPeerVanishes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, nil, "a", "b")
		p := meshes[0].peer("b")
		f.set("b:1", lose)
		within(t, 3200*time.Millisecond, func() bool { return !p.healthy() })
		f.set("b:1", carry)
		// What was lost is not noticed before keepalive gives it up.
		within(t, pingAfter+pingWait+5*time.Second, p.healthy)
	})
}

// TestFailedTransfers says when a node that answers pings is not asked for bytes.
func TestFailedTransfers(t *testing.T) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	var h health
	ping := func(began, ended float64) bool {
		h.answered(context.Background(), at(began), at(ended), true, 0)
		return h.fit.Load()
	}
	if !ping(0, 0.1) {
		t.Fatal("unhealthy though it answers")
	}
	if !h.transferFailed(errTransfer, at(1)) || h.fit.Load() || !h.isAlive() {
		t.Error("the first failure does not count")
	}
	if ping(0.9, 1.1) {
		t.Error("healthy by a ping that began before the failure")
	}
	if h.transferFailed(errTransfer, at(1.2)) {
		t.Error("one trouble is counted twice")
	}
	if ping(1.15, 1.3) {
		t.Error("healthy by a ping that began before the last failure")
	}
	if !ping(1.4, 1.5) {
		t.Error("unhealthy after a ping that began after the failure")
	}
	now := 2.0
	for i, rest := range []float64{1, 2, 4, 8, 15, 15, 15} {
		h.transferFailed(errTransfer, at(now))
		if ping(now+rest-0.5, now+rest-0.4) {
			t.Errorf("failure %d: healthy again before %v s", i+2, rest)
		}
		if !ping(now+rest-0.3, now+rest+0.1) {
			t.Errorf("failure %d: unhealthy after %v s", i+2, rest)
		}
		now += rest + 0.2
	}
	now += 61
	h.transferFailed(errTransfer, at(now))
	if !ping(now+0.1, now+0.2) {
		t.Error("old failures count for ever")
	}
	h.answered(context.Background(), at(now+1), at(now+1), false, 0)
	if h.fit.Load() || !h.isAlive() {
		t.Error("healthy though there is no connection for bytes")
	}
	h.silent(errTransfer)
	if h.fit.Load() || h.isAlive() {
		t.Error("healthy though it does not answer")
	}
}

// TestFailedTransferHasThePeerPinged soon, so that a stray failure costs little.
func TestFailedTransferHasThePeerPinged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, _ := cluster(t, nil, "a", "b")
		a, p := meshes[0], meshes[0].peer("b")
		time.Sleep(10 * time.Second)
		p.reported(nil)
		if !p.healthy() {
			t.Fatal("unhealthy after a good transfer")
		}
		p.reported(errTransfer)
		if p.healthy() || !p.reachable() {
			t.Error("a failed transfer does not count, or counts for more than bytes")
		}
		if got := a.Peers()[0].LastError; !strings.Contains(got, "no progress") {
			t.Errorf("the last error is %q", got)
		}
		within(t, 4*oneWay, p.healthy)
	})
}

// TestAnswersAreNoSilence: what clients ask for, and what a peer makes of it, must
// not make the peer count as unhealthy, or a client could cut nodes off.
func TestAnswersAreNoSilence(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var answer error
		meshes, _ := cluster(t, func(_ string, cfg *Config) {
			cfg.Handler = handlerFunc(func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) { return nil, answer })
		}, "a", "b")
		a := meshes[0]
		for what, try := range map[string]struct {
			path   string
			answer error
		}{
			"a path that is refused":   {"pool/\x01", proto.ErrNotFound},
			"a path that cannot be":    {"pool/\xff", proto.ErrNotFound},
			"no such archive there":    {"pool/x", errors.New("archive unknown")},
			"upstream is down":         {"pool/x", &proto.Unavailable{Reason: "down"}},
			"somebody else fetches it": {"pool/x", &proto.NotStored{Peer: "b", Busy: true, Try: []string{"c"}}},
		} {
			answer = try.answer
			peerReq := proto.PeerRequest{Object: proto.ObjectRequest{Ref: nothingKnown, Where: proto.At(proto.Location{Archive: "ubuntu", Path: try.path})}, Fill: true}
			if _, err := a.Fetch(t.Context(), "b", peerReq); err == nil {
				t.Errorf("%s: fetched", what)
			}
			if !a.peer("b").healthy() {
				t.Errorf("%s: b counts as unhealthy", what)
			}
		}
	})
}

func TestRingDisagreement(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, _ := cluster(t, nil, "a", "b")
		a, b := meshes[0], meshes[1]
		both := a.View()
		alone := &ring.View{Nodes: both.Nodes}
		var err error
		if alone.Ring, err = ring.New([]string{"b"}); err != nil {
			t.Fatal(err)
		}
		disagreeing := func() bool { return gathered(t, a)["aptmesh_ring_disagreement"] == 1 }
		b.SetView(alone)
		within(t, 1200*time.Millisecond, func() bool { return !a.Peers()[0].RingAgrees })
		if disagreeing() {
			t.Error("a moment's difference raises the alarm")
		}
		within(t, 3*time.Second, disagreeing)
		b.SetView(both)
		within(t, 1200*time.Millisecond, func() bool { return !disagreeing() && a.Peers()[0].RingAgrees })
	})
}

func TestHealthMetrics(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, nil, "a", "b", "c")
		a := meshes[0]
		meshes[1].cfg.Local.Add(proto.DigestOf([]byte("x")))
		f.set("c:1", refuse)
		within(t, 1200*time.Millisecond, func() bool { return !a.peer("c").healthy() && a.peer("b").stored.Len() == 1 })
		got := gathered(t, a)
		for name, want := range map[string]float64{
			"aptmesh_peer_up b": 1, "aptmesh_peer_up c": 0, "aptmesh_peer_rtt_seconds b": (2 * oneWay).Seconds(),
			"aptmesh_peer_rtt_min_seconds b": (2 * oneWay).Seconds(), "aptmesh_peer_stored_blobs b": 1, "aptmesh_ring_disagreement": 0,
		} {
			if value, ok := got[name]; !ok || value != want {
				t.Errorf("%s = %v, want %v", name, value, want)
			}
		}
	})
}

// gathered is the present metrics of a mesh that have one value.
func gathered(t *testing.T, m *Mesh) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	for _, c := range m.Collectors() {
		if err := registry.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.Metric {
			name := family.GetName()
			for _, label := range metric.Label {
				name += " " + label.GetValue()
			}
			values[name] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return values
}

func TestPeerMovesAndGoes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, nil, "a", "b")
		a, old := meshes[0], meshes[0].peer("b")
		alive, cancel, err := old.whileAlive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		moved := newMesh(t, "b", Config{Listen: "b:2", listen: f.listen, Dial: f.dial})
		a.SetView(viewOf(t, a, moved))
		if a.peer("b").healthy() {
			t.Error("healthy at an address that never answered")
		}
		within(t, time.Second, func() bool { return a.peer("b").healthy() })
		if old.healthy() || alive.Err() == nil {
			t.Error("the old address is still watched")
		}
		a.SetView(viewOf(t, a))
		if a.peer("b") != nil || len(a.all()) != 0 || len(a.Peers()) != 0 {
			t.Error("a node that has gone is still there")
		}
	})
}
