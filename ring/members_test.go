package ring

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func (c *cluster) node(sees *Members, name string) Node {
	n, _ := sees.View().Node(name)
	return n
}

func TestJoinAndSettle(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(3)
		for _, m := range ms {
			select {
			case <-m.Settled():
			default:
				t.Error("in the ring but not settled")
			}
			v := m.View()
			if len(v.Nodes) != 3 || v.Ring.Hash() != ms[0].View().Ring.Hash() {
				t.Fatalf("%s sees %v", m.cfg.Name, v.Nodes)
			}
			want := Node{Name: "node2", Datacenter: "dc-node2", PeerAddr: "10.0.0.2:3143", GossipAddr: "10.0.0.2:7946",
				Version: "v1.2.3", State: Active, RingVersion: Version, Self: m == ms[1]}
			if got := c.node(m, "node2"); got != want {
				t.Errorf("%s sees %+v, not %+v", m.cfg.Name, got, want)
			}
		}
	})
}

// TestHowLongSettlingTakes reads the bubble's clock.
func TestHowLongSettlingTakes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		seeds    []string
		prepare  func(*cluster)
		min, max time.Duration
	}{
		{"no seeds", nil, func(*cluster) {}, time.Second, 2 * time.Second},
		{"a seed that refuses", []string{addr(7)}, func(*cluster) {}, time.Second, 2 * time.Second},
		{"a seed that swallows", []string{addr(7)}, func(c *cluster) { c.net.split(func(a netip.AddrPort) bool { return a.String() == addr(7) }) }, 5 * time.Second, 5100 * time.Millisecond},
		{"itself as seed", []string{addr(1)}, func(*cluster) {}, time.Second, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				tt.prepare(c)
				cfg := c.config("node", addr(1))
				cfg.Seeds = tt.seeds
				began := time.Now()
				m := c.join(cfg)
				<-m.Settled()
				if took := time.Since(began); took < tt.min || took > tt.max {
					t.Errorf("settled after %v", took)
				}
				if s := m.Stats(); s.BytesOut > 0 {
					t.Errorf("it talked to itself: %d bytes", s.BytesOut)
				}
				c.whole(m)
			})
		})
	}
}

// TestSettlingWaitsForQuiet has nodes come all the time while one settles.
func TestSettlingWaitsForQuiet(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first := c.many(1)[0]
		began := time.Now()
		m := c.join(c.config("joiner", addr(1)))
		for i := 2; ; i++ {
			select {
			case <-m.Settled():
				if took := time.Since(began); took < 5*time.Second {
					t.Errorf("settled after %v among nodes that came and went", took)
				}
				if c.node(first, "joiner").State == Leaving {
					t.Error("leaving")
				}
				return
			case <-time.After(600 * time.Millisecond):
				c.join(c.config("late"+string(rune('a'+i)), addr(i)))
			}
			if c.node(first, "joiner").State == Active {
				if took := time.Since(began); took < 5*time.Second {
					t.Errorf("active after %v", took)
				}
			}
		}
	})
}

func TestLeave(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(12)
		leaver, rest := ms[3], slices.Concat(ms[:3], ms[4:])
		if err := leaver.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		// When Leave returns, the others know.
		for _, m := range ms {
			if n := c.node(m, "node4"); n.State != Leaving || m.View().Ring.Contains("node4") {
				t.Errorf("%s sees %+v, ring %v", m.cfg.Name, n, m.View().Ring.Names())
			}
		}
		c.never("the leaver is dropped while it serves", time.Minute, func() bool { return len(ms[0].View().Nodes) != len(ms) })
		if err := leaver.Leave(t.Context()); err != nil {
			t.Error("leaving twice:", err)
		}
		if err := leaver.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.await("the farewell", func() bool {
			return all(rest, func(m *Members) bool { return len(m.View().Nodes) == len(rest) })
		})
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the farewell took %v to arrive", took)
		}
		for _, m := range rest {
			if missing := m.Stats().Missing; len(missing) != 0 {
				t.Errorf("%s looks for %v, which bade farewell", m.cfg.Name, missing)
			}
		}
	})
}

// TestDepartWithoutLeave sees that a farewell alone is taken for one, too.
func TestDepartWithoutLeave(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(3)
		if err := ms[1].Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.whole(ms[0], ms[2])
		if missing := ms[0].Stats().Missing; len(missing) != 0 {
			t.Errorf("looks for %v", missing)
		}
	})
}

// TestLeaveBeforeSettled sees that a node told to go while it settles does not
// become active after all.
func TestLeaveBeforeSettled(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first := c.many(1)[0]
		m := c.join(c.config("node2", addr(1)))
		if err := m.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.never("active after leaving", time.Minute, func() bool { return first.View().Ring.Contains("node2") })
		select {
		case <-m.Settled():
			t.Error("settled")
		default:
		}
	})
}

func TestCrash(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(3)
		ms[2].Close()
		began := time.Now()
		c.whole(ms[0], ms[1])
		t.Logf("a node that crashed was dropped after %v", time.Since(began).Round(time.Second))
		if took := time.Since(began); took > 90*time.Second {
			t.Errorf("dropped after %v", took)
		}
		if missing := ms[0].Stats().Missing; len(missing) != 1 || missing[0].Name != "node3" || missing[0].Address == "" || missing[0].Since.IsZero() {
			t.Errorf("looks for %v", missing)
		}
	})
}

func TestComesBack(t *testing.T) {
	for _, tt := range []struct {
		name  string
		at    string
		after time.Duration // of being gone
		max   time.Duration // to be taken in
	}{
		{"at once, same address", addr(2), 0, 5 * time.Second},
		{"at once, new address", addr(9), 0, 2 * time.Minute}, // dead after 45 s, its name free after 30 s more, tried each 30 s
		{"while remembered, new address", addr(9), 85 * time.Second, 5 * time.Second},
		{"when forgotten, same address", addr(2), 10 * time.Minute, 5 * time.Second},
		{"when forgotten, new address", addr(9), 10 * time.Minute, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				ms := c.many(3)
				ms[2].Close()
				time.Sleep(tt.after)
				began := time.Now()
				back := c.join(c.config("node3", tt.at))
				c.await("its new address", func() bool {
					return all(ms[:2], func(m *Members) bool { return c.node(m, "node3").GossipAddr == tt.at })
				})
				c.whole(ms[0], ms[1], back)
				took := time.Since(began)
				t.Logf("taken in after %v", took.Round(time.Second))
				if took > tt.max {
					t.Errorf("taken in after %v", took)
				}
				c.await("nobody missing", func() bool { return len(ms[0].Stats().Missing) == 0 })
			})
		})
	}
}

// TestComesBackAnother sees that what a node says after a restart counts, not what
// it said before.
func TestComesBackAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		ms[1].Close()
		cfg := c.config("node2", addr(1))
		cfg.PeerAddr, cfg.Version = "10.9.9.9:9999", "v2"
		c.join(cfg)
		c.await("the new description", func() bool {
			n := c.node(ms[0], "node2")
			return n.PeerAddr == "10.9.9.9:9999" && n.Version == "v2" && n.State == Active
		})
	})
}

// TestComesBackAtAnotherAddress: a node that comes back under its name at another address is
// let in, and the others are told the new one: soon where it said good-bye, and when it
// has been gone for a while where it did not.
func TestComesBackAtAnotherAddress(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leave  func(context.Context, *Members) error
		within time.Duration
	}{
		{"after a farewell", func(ctx context.Context, m *Members) error { return m.Disconnect(ctx) }, 10 * time.Second},
		{"after a crash", func(_ context.Context, m *Members) error { return m.Close() }, 3 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				ms := c.many(3)
				if err := tt.leave(t.Context(), ms[2]); err != nil {
					t.Fatal(err)
				}
				cfg := c.config("node3", addr(7))
				cfg.PeerAddr, cfg.Seeds = "10.9.9.9:9999", []string{addr(0)}
				began := time.Now()
				moved := c.join(cfg)
				for _, m := range ms[:2] {
					c.await("the new address", func() bool {
						n, _ := m.View().Node("node3")
						return n.PeerAddr == "10.9.9.9:9999" && n.GossipAddr == addr(7) && n.State == Active
					})
				}
				c.whole(ms[0], ms[1], moved)
				took := time.Since(began)
				t.Logf("all know the new address after %v", took.Round(time.Second))
				if took > tt.within {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestSettledAlone starts nodes that cannot see each other, as after a power cut,
// and then lets them.
func TestSettledAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.setCut(func(from, to netip.AddrPort) bool { return true })
		var ms []*Members
		for i, name := range []string{"node1", "node2", "node3"} {
			cfg := c.config(name, addr(i))
			cfg.Seeds = []string{addr(0), addr(1)}
			ms = append(ms, c.join(cfg))
		}
		for _, m := range ms {
			<-m.Settled()
			c.whole(m)
		}
		time.Sleep(10 * time.Minute)
		c.net.heal()
		began := time.Now()
		c.whole(ms...)
		t.Logf("one ring %v after the cut was mended", time.Since(began).Round(time.Second))
		if took := time.Since(began); took > time.Minute {
			t.Errorf("one ring only after %v", took)
		}
	})
}

// TestAllStartAtOnce starts nodes of which each finds its seed not up yet. They must
// not sit in rings of their own until the next rejoin.
func TestAllStartAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		var ms []*Members
		for i, name := range []string{"node1", "node2", "node3"} {
			cfg := c.config(name, addr(i))
			cfg.Seeds = []string{addr(i + 1)}
			ms = append(ms, c.join(cfg))
		}
		began := time.Now()
		c.whole(ms...)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("one ring only after %v", took)
		}
	})
}

// TestPartition cuts the cluster for longer than memberlist remembers the dead. The
// seeds are all on one side, and later none is left at all.
func TestPartition(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(5)
		for _, m := range ms {
			m.cfg.Seeds = nil // only what is known from before can help
		}
		for round := range 2 {
			c.net.split(func(a netip.AddrPort) bool { return a.Addr().As4()[3] <= 2 })
			c.whole(ms[:2]...)
			c.whole(ms[2:]...)
			time.Sleep(10 * time.Minute)
			c.net.heal()
			began := time.Now()
			c.whole(ms...)
			t.Logf("round %d: one ring %v after the cut was mended", round, time.Since(began).Round(time.Second))
			if took := time.Since(began); took > 90*time.Second {
				t.Errorf("one ring only after %v", took)
			}
			c.await("nobody missing", func() bool {
				return all(ms, func(m *Members) bool { return len(m.Stats().Missing) == 0 })
			})
		}
	})
}

// TestSeedsAreLookedUpAgain gives a seed's name other addresses while a node tries.
func TestSeedsAreLookedUpAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first := c.many(1)[0]
		cfg := c.config("node2", addr(1))
		cfg.Seeds = []string{"seed.example:7946"}
		lookup := newNames()
		cfg.Lookup = lookup.of
		m := c.join(cfg)
		c.whole(m) // the name does not exist
		lookup.set("10.0.1.1", "10.0.1.2")
		c.never("a node where there is none", 5*time.Minute, func() bool { return len(m.View().Nodes) > 1 })
		lookup.set("10.0.1.1", "::ffff:10.0.0.1", "10.0.1.3")
		c.whole(first, m)
	})
}

// TestNoUDP drops packets: nodes stay members over TCP, and are named as silent.
func TestNoUDP(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(3)
		if s := ms[0].Stats(); len(s.Silent) != 0 || len(s.Beacons) != 2 {
			t.Errorf("of a healthy cluster: %+v", s)
		}
		c.net.dropPackets(func(from, to netip.AddrPort) bool { return true })
		c.await("silence", func() bool {
			return all(ms, func(m *Members) bool { return len(m.Stats().Silent) == 2 })
		})
		c.never("a member lost", 20*time.Minute, func() bool {
			return !all(ms, func(m *Members) bool { return m.View().Ring.Len() == 3 })
		})
		if got := metricValue(t, ms[0], "aptmesh_gossip_silent_nodes"); got != 2 {
			t.Errorf("the metric says %v are silent", got)
		}
		// What is new still comes round, by the exchange of state.
		if err := ms[2].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.whole(ms[0], ms[1])
		if n, ok := ms[0].View().Node("node3"); ok && n.State != Leaving {
			t.Errorf("node3 is %v", n.State)
		}
		c.net.dropPackets(nil)
		c.await("beacons", func() bool {
			return all(ms, func(m *Members) bool { return len(m.Stats().Silent) == 0 })
		})
	})
}

// TestOneWayUDP drops packets from one node only: the others name it.
func TestOneWayUDP(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(3)
		mute := netip.MustParseAddrPort(addr(1))
		c.net.dropPackets(func(from, to netip.AddrPort) bool { return from == mute })
		c.await("silence", func() bool { return len(ms[0].Stats().Silent) > 0 && len(ms[2].Stats().Silent) > 0 })
		for i, want := range []string{"node2", "", "node2"} {
			if got := strings.Join(ms[i].Stats().Silent, " "); got != want {
				t.Errorf("%s misses the beacons of %q, not %q", ms[i].cfg.Name, got, want)
			}
		}
	})
}

// TestOtherRingVersion starts a node that places keys in another way: it is there
// for all, and owns nothing.
func TestOtherRingVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		m := c.start(c.config("node3", addr(2)))
		m.roster.mu.Lock()
		m.roster.self.RingVersion = Version + 1
		m.roster.mu.Unlock()
		if err := m.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.await("it is active", func() bool {
			return all(ms, func(m *Members) bool { return c.node(m, "node3").State == Active })
		})
		c.whole(ms...)
		if n := c.node(ms[0], "node3"); n.RingVersion != Version+1 {
			t.Errorf("seen as %+v", n)
		}
	})
}

func TestNameConflict(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		double := c.join(c.config("node2", addr(5)))
		c.await("the conflict", func() bool { return ms[0].Stats().Conflicts > 0 && double.Stats().Conflicts > 0 })
		c.never("the second one gets in", 10*time.Minute, func() bool { return c.node(ms[0], "node2").GossipAddr != addr(1) })
		c.whole(ms...)
	})
}
