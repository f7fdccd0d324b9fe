package peers

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// blob is a digest that is the same for the same i.
func blob(i int) proto.Digest {
	return proto.DigestOf(binary.LittleEndian.AppendUint64(nil, uint64(i)))
}

// soon is how long a change of what a node holds may take to be known elsewhere.
const soon = 50*time.Millisecond + 3*oneWay

func TestHoldingsAreFollowed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, _ := cluster(t, nil, "a", "b", "c")
		a, b, c := meshes[0], meshes[1], meshes[2]
		d := blob(1)
		if a.Replicated(d) || a.Holders(d) != nil {
			t.Error("somebody holds what nobody holds")
		}
		b.cfg.Local.Add(d)
		within(t, soon, func() bool { return a.Replicated(d) && c.Replicated(d) })
		if b.Replicated(d) {
			t.Error("a node takes itself for another")
		}
		if got := a.Holders(d); len(got) != 1 || got[0] != "b" {
			t.Errorf("held by %v", got)
		}
		c.cfg.Local.Add(d)
		within(t, soon, func() bool { return len(a.Holders(d)) == 2 })
		b.cfg.Local.Remove(d)
		within(t, soon, func() bool { return len(a.Holders(d)) == 1 })
		c.cfg.Local.Remove(d)
		within(t, soon, func() bool { return !a.Replicated(d) })
	})
}

// TestHoldingsWhileAPeerIsAway are not used, but kept, and put right when it is
// back.
func TestHoldingsWhileAPeerIsAway(t *testing.T) {
	for name, fault := range map[string]fault{"frozen": hold, "dead": refuse} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				meshes, f := cluster(t, nil, "a", "b")
				a, b := meshes[0], meshes[1]
				for i := range 100 {
					b.cfg.Local.Add(blob(i))
				}
				within(t, soon, func() bool { return a.Replicated(blob(99)) })
				f.set("b:1", fault)
				within(t, 3200*time.Millisecond, func() bool { return !a.Replicated(blob(99)) })
				if a.peer("b").stored.Len() != 100 {
					t.Error("what it held is not kept")
				}
				b.cfg.Local.Remove(blob(0))
				b.cfg.Local.Add(blob(100))
				time.Sleep(time.Minute)
				f.set("b:1", carry)
				within(t, 3*time.Second, func() bool { return a.Replicated(blob(99)) })
				within(t, time.Second, func() bool { return a.Replicated(blob(100)) && !a.Replicated(blob(0)) })
			})
		})
	}
}

func TestRestartedPeerHoldsSomethingElse(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, nil, "a", "b")
		a, b := meshes[0], meshes[1]
		b.cfg.Local.Add(blob(1))
		within(t, soon, func() bool { return a.Replicated(blob(1)) })
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		again := newMesh(t, "b", Config{Listen: "b:1", listen: f.listen, Dial: f.dial})
		again.cfg.Local.Add(blob(2))
		within(t, 3*time.Second, func() bool { return a.Replicated(blob(2)) && !a.Replicated(blob(1)) })
	})
}

// TestStopEndsStreams that would last for ever, so that a node can leave.
func TestStopEndsStreams(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, _ := cluster(t, nil, "a", "b", "c")
		b := meshes[1]
		b.cfg.Local.Add(blob(1))
		within(t, soon, func() bool { return meshes[0].Replicated(blob(1)) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		within(t, 3*time.Second, func() bool { return !meshes[0].peer("b").healthy() })
	})
}

// liar is a node that says what makes no sense of what it holds.
type liar struct {
	peerpb.UnimplementedControlServer
	follows, open atomic.Int32
}

func (l *liar) Ping(context.Context, *peerpb.PingRequest) (*peerpb.PingReply, error) {
	return &peerpb.PingReply{}, nil
}

func (l *liar) Follow(_ *peerpb.FollowRequest, stream peerpb.Control_FollowServer) error {
	l.follows.Add(1)
	l.open.Add(1)
	defer l.open.Add(-1)
	if err := stream.Send(&peerpb.Holdings{Begin: true, FilterBits: 1 << 60, FilterHashes: 1, Blobs: 7}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func TestSenselessHoldings(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFaults(link{delay: oneWay})
		l, err := f.listen("b:1")
		if err != nil {
			t.Fatal(err)
		}
		b := &liar{}
		server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTolerate, PermitWithoutStream: true}))
		peerpb.RegisterControlServer(server, b)
		go server.Serve(l)
		defer server.Stop()
		var log logged
		a := newMesh(t, "a", Config{Listen: "a:1", listen: f.listen, Dial: f.dial, Logger: log.logger()})
		v := viewOf(t, a)
		v.Nodes = append(v.Nodes, nodeAt("b", "b:1"))
		a.SetView(v)
		within(t, time.Second, func() bool { return a.peer("b").healthy() })
		time.Sleep(2 * time.Minute)
		if n := b.follows.Load(); n < 5 || n > 30 {
			t.Errorf("followed %d times in two minutes", n)
		}
		if n := b.open.Load(); n > 1 {
			t.Errorf("%d streams are open", n)
		}
		if a.peer("b").stored.Len() != 0 || a.Replicated(blob(1)) {
			t.Error("it is believed")
		}
		if got := log.count("makes no sense"); got < 1 || got > 3 {
			t.Errorf("%d log lines:\n%s", got, log.String())
		}
	})
}

func TestHoldingsConversion(t *testing.T) {
	l := holdings.NewLocal()
	for i := range 10 {
		l.Add(blob(i))
	}
	c := l.Follow()
	defer c.Close()
	r := holdings.NewRemote()
	step := func() {
		u, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(holdingsIn(holdingsOut(u))); err != nil {
			t.Fatal(err)
		}
	}
	step()
	l.Remove(blob(0))
	l.Add(blob(10))
	step()
	if r.Has(blob(0)) || !r.Has(blob(1)) || !r.Has(blob(10)) || r.Len() != 10 {
		t.Error("what was told is not what was heard")
	}
}
