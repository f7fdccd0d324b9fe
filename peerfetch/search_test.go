package peerfetch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// A node that has said that it cannot reach upstream is not asked to do so.
func TestPathlessHolderIsNotAskedToFill(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, five, o.archive())
		c.falsely["a"] = true
		c.setFault("a", reports(errPathless))
		if _, err := c.nodes["e"].expect(o.content, o.object); err != nil {
			t.Error(err)
		}
		if got := c.asked("e"); got != "a b+ b+" { // b sends it to a first
			t.Errorf("asked %q", got)
		}
		c.check(t)
		c.close()
	})
}

// Where one node points is followed, and no further.
func TestHearsayIsFollowedOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, append([]string{"x"}, five...), o.archive())
		c.ring = func(string) []string { return []string{"x"} }
		points := func(to string) fault { return reports(&proto.NotStored{Peer: "p", Try: []string{to}}) }
		c.falsely["a"] = true
		c.setFault("a", points("b"))
		c.setFault("b", points("c"))
		c.setFault("c", points("d"))
		if _, err := c.nodes["x"].expect(o.content, o.object); err != nil {
			t.Error(err)
		}
		if got := c.asked("x"); got != "a b" {
			t.Errorf("asked %q", got)
		}
		c.close()
	})
}

// A node that reaches none of those that hold an object does not try them all.
func TestCutOffNodeDoesNotTryThemAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, append([]string{"x"}, five...), o.archive())
		c.ring = func(string) []string { return []string{"x"} }
		for _, name := range five {
			c.falsely[name] = true
			c.setFault(name, refuses)
		}
		if _, err := c.nodes["x"].expect(o.content, o.object); err != nil {
			t.Error(err)
		}
		if got := c.asked("x"); got != "a b c" {
			t.Errorf("asked %q", got)
		}
		c.close()
	})
}

// A transfer that brought something and broke is taken up again where it was, if the
// node is still there.
func TestBrokenConnectionToALivingPeer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, []string{"a", "x"}, o.archive())
		c.noHealth = true
		c.nodes["a"].hold(t, o.content)
		breaks := int64(0)
		c.setFault("a", func(ctx context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
			breaks += 40_000
			return cuts(breaks)(ctx, a, honest)
		})
		if _, err := c.nodes["x"].expect(o.content, o.object); err != nil {
			t.Error(err)
		}
		if got := c.asked("x"); got != "a a@40000 a@80000 a@120000" || c.up.count() != 0 {
			t.Errorf("asked %q, %d fetches", got, c.up.count())
		}
		if got := testutil.ToFloat64(c.nodes["x"].metrics.resumed); got != 3 {
			t.Errorf("%g resumed", got)
		}
		c.check(t)
		c.close()
	})
}

// Whom a node asks, in which order.
func TestOrderOfSources(t *testing.T) {
	o := objects()[1]
	unlisted := objects()[3]
	for _, tt := range []struct {
		name     string
		o        object
		ring     []string
		holds    []string
		false_   []string
		dead     []string
		hint     []string
		asked    string
		upstream int           // fetches by anybody
		within   time.Duration // 0: 100 ms
	}{
		{name: "a holder", o: o, ring: five, holds: []string{"d", "e"}, asked: "d"},
		{name: "a hint first", o: o, ring: five, holds: []string{"d", "e"}, hint: []string{"e"}, asked: "e"},
		{name: "a hint that is wrong", o: o, ring: five, holds: []string{"d"}, hint: []string{"e"}, asked: "e d"},
		{name: "an owner", o: o, ring: five, asked: "a+", upstream: 1},
		{name: "a false holder, then the owner, who is told the same", o: o, ring: five, false_: []string{"d"}, asked: "d a+ a+", upstream: 1},
		{name: "the next owner", o: o, ring: five, dead: []string{"a"}, asked: "a+ b+", upstream: 1},
		{name: "myself first", o: o, ring: []string{"x", "a"}, asked: "", upstream: 1},
		{name: "myself next", o: o, ring: []string{"a", "x"}, dead: []string{"a"}, asked: "a+", upstream: 1},
		{name: "myself at last", o: o, ring: []string{"a", "b"}, dead: []string{"a", "b"}, asked: "a+ b+", upstream: 1, within: 600 * time.Millisecond},
		{name: "nobody owns", o: o, asked: "", upstream: 1, within: 600 * time.Millisecond},
		{name: "unlisted files have no holders", o: unlisted, ring: five, false_: []string{"d"}, asked: "a+", upstream: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, append([]string{"x"}, five...), tt.o.archive())
				c.ring = func(string) []string { return tt.ring }
				for _, name := range tt.holds {
					c.nodes[name].hold(t, tt.o.content)
				}
				for _, name := range tt.false_ {
					c.falsely[name] = true
				}
				for _, name := range tt.dead {
					c.setFault(name, refuses)
				}
				object := tt.o.object
				object.Holders = tt.hint
				began := time.Now()
				if _, err := c.nodes["x"].expect(tt.o.content, object); err != nil {
					t.Error(err)
				}
				if took, most := time.Since(began), max(tt.within, 100*time.Millisecond); took > most {
					t.Errorf("it took %s", took)
				}
				if got := c.asked("x"); got != tt.asked {
					t.Errorf("x asked %q, want %q", got, tt.asked)
				}
				if got := c.up.count(); got != tt.upstream {
					t.Errorf("%d fetches from upstream", got)
				}
				c.check(t)
				c.close()
			})
		})
	}
}

// When the owner of all is gone and no other node knows a better one, a random pause
// lets one node go first and the others find it there.
func TestFallbackIsNoStorm(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, append([]string{"gone"}, five...), o.archive())
		c.ring = func(string) []string { return []string{"gone"} }
		c.kill("gone")
		c.nodes["gone"].Close()
		c.latency, c.lag = far(time.Millisecond), 5*time.Millisecond
		c.readEverywhere(t, o, 10)
		if got := c.up.count(); got > 3 { // 1 but for those that went within the lag
			t.Errorf("%d fetches from upstream", got)
		}
		c.check(t)
		c.close()
	})
}

// An owner that cannot reach upstream is not the last word, two are.
func TestOwnersWithoutAWayUpstream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, five, o.archive())
		cut := func(names ...string) {
			for _, name := range names {
				c.nodes[name].up.corrupt(func(proto.Request) answer { return answer{err: errPathless} })
			}
		}
		cut("a")
		for _, name := range []string{"e", "a"} { // the requester; and the owner itself
			if _, err := c.nodes[name].expect(o.content, o.object); err != nil {
				t.Errorf("%s, with one way left: %v", name, err)
			}
			c.check(t)
			for _, n := range c.nodes {
				n.evict(o.object.Ref.Digest)
			}
			c.asks = nil
		}
		cut("b")
		_, err := c.nodes["e"].expect(o.content, o.object)
		if !errors.As(err, new(*proto.Unavailable)) {
			t.Errorf("without a way: %v", err)
		}
		if got := c.asked("e"); got != "a+ b+" {
			t.Errorf("e asked %q", got)
		}
		c.check(t)
		c.close()
	})
}

// A flight that other nodes follow stays with upstream, whatever happens: they look
// elsewhere themselves.
func TestFollowedFlightNeverAsksPeers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, []string{"a", "b", "x"}, o.archive())
		c.latency = far(time.Millisecond)
		c.nodes["a"].up.corrupt(func(r proto.Request) answer { // gives half, once
			if r.Offset > 0 {
				return answer{err: errPathless}
			}
			return answer{body: &trickle{breakOff(o.content[:75_000], errPathless)}, size: 150_000}
		})
		var all sync.WaitGroup
		all.Go(func() {
			if n, err := c.nodes["a"].expect(o.content, o.object); err == nil || n < 70_000 {
				t.Errorf("a's own reader had %d bytes, %v", n, err)
			}
		})
		all.Go(func() {
			if _, err := c.nodes["x"].expect(o.content, o.object); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if got := c.asked("a"); got != "" {
			t.Errorf("a asked %q", got)
		}
		c.check(t)
		c.close()
	})
}

func TestPeersOnly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[0]
		c := newCluster(t, five, o.archive())
		object := o.object
		object.PeersOnly, object.Holders = true, []string{"d"}
		for range 3 { // the failure is not held against the next try
			_, err := c.nodes["b"].expect(o.content, object)
			var busy *proto.Unavailable
			if !errors.As(err, &busy) || busy.RetryAfter != time.Second {
				t.Fatalf("nobody holds it: %v", err)
			}
		}
		c.nodes["d"].hold(t, o.content)
		if _, err := c.nodes["b"].expect(o.content, object); err != nil {
			t.Error(err)
		}
		for _, n := range c.nodes {
			for _, a := range c.asksOf(n.name) {
				if a.Fill {
					t.Errorf("%s was asked to fill", a.to)
				}
			}
		}
		if c.up.count() != 0 {
			t.Error("it went upstream")
		}
		c.check(t)
		c.close()
	})
}

// Where there is no node to ask, the flight ends all the same.
func TestPeersOnlyWithoutPeers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[0]
		object := o.object
		object.PeersOnly = true
		alone, two := newWorld(t, o.archive()), newCluster(t, []string{"a"}, o.archive())
		for _, open := range []func() error{
			func() error { _, err := alone.read(object); return err },
			func() error { _, err := two.nodes["a"].expect(o.content, object); return err },
		} {
			if err := open(); !errors.Is(err, errNoNode) {
				t.Error(err)
			}
		}
		two.close()
		alone.Close()
	})
}

// A client that may have it from upstream is not told that no node has it.
func TestPeersOnlyFlightJoinedByAClient(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, five, o.archive())
		c.setFault("d", blackholes)
		object := o.object
		object.PeersOnly, object.Holders = true, []string{"d"}
		var all sync.WaitGroup
		for _, object := range []proto.ObjectRequest{object, o.object} {
			all.Go(func() {
				if _, err := c.nodes["b"].expect(o.content, object); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		c.check(t)
		c.close()
	})
}

func TestHedge(t *testing.T) {
	small, large := objects()[0], objects()[1]
	large.content = randomBytes(2<<20, 54)
	large.object = wantOf(large.content)
	for _, tt := range []struct {
		name   string
		o      object
		holds  []string
		slow   fault
		asked  string
		took   time.Duration
		hedged float64
	}{
		{"a slow holder", small, []string{"d", "e"}, delays(time.Second), "d e", 100 * time.Millisecond, 1},
		{"a dead holder", small, []string{"d", "e"}, blackholes, "d e", 100 * time.Millisecond, 1},
		{"a quick refusal", small, []string{"d", "e"}, refuses, "d e", 0, 0},
		{"nobody else holds it", small, []string{"d"}, delays(time.Second), "d", time.Second, 0},
		{"too large", large, []string{"d", "e"}, delays(time.Second), "d", time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, five, tt.o.archive())
				for _, name := range tt.holds {
					c.nodes[name].hold(t, tt.o.content)
				}
				c.setFault("d", tt.slow)
				began := time.Now()
				if _, err := c.nodes["b"].expect(tt.o.content, tt.o.object); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %s", took)
				}
				if got := c.asked("b"); got != tt.asked {
					t.Errorf("asked %q", got)
				}
				if got := testutil.ToFloat64(c.nodes["b"].metrics.hedged); got != tt.hedged {
					t.Errorf("%g hedged", got)
				}
				synctest.Wait()
				if time.Since(began) != tt.took {
					t.Error("the loser was waited for")
				}
				c.close()
				if time.Since(began) != tt.took {
					t.Error("the loser was not cut off")
				}
			})
		})
	}
}

// Two nodes are never asked to go upstream at once, however slow the first is.
func TestOwnersAreNotHedged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[0]
		c := newCluster(t, five, o.archive())
		c.setFault("a", delays(10*time.Second))
		if _, err := c.nodes["b"].expect(o.content, o.object); err != nil {
			t.Error(err)
		}
		if got := c.asked("b"); got != "a+" || c.up.count() != 1 {
			t.Errorf("asked %q, %d fetches", got, c.up.count())
		}
		c.close()
	})
}
