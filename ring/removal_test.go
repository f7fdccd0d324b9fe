package ring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func missingNames(m *Members) string {
	var names []string
	for _, missing := range m.View().Missing {
		names = append(names, missing.Name)
	}
	return strings.Join(names, " ")
}

// A node that died is missing on all others until an operator removes it on one.
func TestRemove(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(4)
		dead, rest := ms[3], ms[:3]
		if err := ms[0].Remove(dead.cfg.Name); !errors.Is(err, ErrPresent) {
			t.Errorf("removing a member: %v", err)
		}
		dead.Close()
		c.await("everybody misses it", func() bool {
			return all(rest, func(m *Members) bool { return missingNames(m) == "node4" })
		})
		c.never("it is forgotten by itself", time.Hour, func() bool {
			return !all(rest, func(m *Members) bool { return missingNames(m) == "node4" })
		})
		if err := ms[0].Remove("node5"); !errors.Is(err, ErrUnknown) {
			t.Errorf("removing nobody: %v", err)
		}
		if err := ms[0].Remove("node4"); err != nil {
			t.Fatal(err)
		}
		if names := missingNames(ms[0]); names != "" {
			t.Errorf("missing at the node that removed it: %q", names)
		}
		c.await("nobody misses it", func() bool {
			return all(rest, func(m *Members) bool { return missingNames(m) == "" })
		})
		// It may come back under its name, and is missed again when it dies again.
		back := c.join(c.config("node4", addr(3)))
		c.whole(ms[0], ms[1], ms[2], back)
		back.Close()
		c.await("it is missed again", func() bool {
			return all(rest, func(m *Members) bool { return missingNames(m) == "node4" })
		})
	})
}

// A node that is started again remembers whom it knew, and learns from the others
// who has left meanwhile.
func TestKnownBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(5)
		known := ms[0].Known()
		if len(known) != 4 || known[0].Name != "node2" || known[0].Address == "" {
			t.Fatalf("known: %+v", known)
		}
		ms[0].Close() // it sees nothing of what follows
		time.Sleep(10 * time.Second)
		if err := ms[1].Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		ms[2].Close()
		c.await("one is missed, one has left", func() bool { return missingNames(ms[3]) == "node1 node3" })
		cfg := c.config("node1", addr(0))
		cfg.Known = known
		again := c.join(cfg)
		c.whole(again, ms[3], ms[4])
		c.await("it misses whom the others miss", func() bool { return missingNames(again) == "node3" })
		if err := ms[4].Remove("node3"); err != nil {
			t.Fatal(err)
		}
		c.await("the removal arrived", func() bool { return missingNames(again) == "" && missingNames(ms[3]) == "" })
	})
}

// Whoever was removed, or left, is nobody to look for, even where a seed names it.
func TestAloneByRemoval(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		inBubble(t, func(t *testing.T, c *cluster) {
			ms := c.many(2, func(_ int, cfg *Config) { cfg.Seeds = []string{"10.0.0.1", "10.0.0.2"} })
			if leaves {
				if err := ms[0].Disconnect(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ms[0].Close()
			if !leaves {
				c.await("one is missed", func() bool {
					s := ms[1].Stats()
					return missingNames(ms[1]) == "node1" && len(s.Alone) == 1 && strings.Contains(s.Alone[0], "10.0.0.1:7946: nothing listens")
				})
				if s := ms[1].Stats().Vacated; len(s) > 0 {
					t.Errorf("a missing node has not left: %q", s)
				}
				if err := ms[1].Remove("node1"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Minute)
			if s := ms[1].Stats(); len(s.Alone) > 0 || !slices.Equal(s.Vacated, []string{"10.0.0.1:7946"}) {
				t.Errorf("leaves %v: alone %q, vacated %q", leaves, s.Alone, s.Vacated)
			}
			// It stays so after a restart of the survivor, and once the seed is no more. Nobody has to come back to say so.
			cfg := ms[1].cfg
			cfg.Known = ms[1].Known()
			ms[1].Close()
			again := c.start(cfg)
			if err := again.Join(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
			if s := again.Stats(); missingNames(again) != "" || len(s.Alone) > 0 || !slices.Equal(s.Vacated, []string{"10.0.0.1:7946"}) {
				t.Errorf("leaves %v, after a restart: missing %q, alone %q, vacated %q", leaves, missingNames(again), s.Alone, s.Vacated)
			}
			back := c.join(c.config("node1", addr(0)))
			c.whole(again, back)
			back.Close()
			c.await("it is missed as any other", func() bool { return missingNames(again) == "node1" })
		})
	}
}

// A node that is alone says why; those that keep it out name it.
func TestAloneByMistake(t *testing.T) {
	key := func(b byte) [][]byte { return [][]byte{slices.Repeat([]byte{b}, 32)} }
	for _, tt := range []struct {
		name         string
		change       func(*Config)
		alone, there string
	}{
		{"another key", func(c *Config) { c.Keys = key(2) }, "another gossip key", "another gossip key"},
		{"no key", func(c *Config) { c.Keys = nil }, "this node has none", "without a gossip key"},
		{"another cluster", func(c *Config) { c.Cluster = "other" }, "another cluster.name", "cluster of another name"},
		{"nobody there", func(c *Config) { c.Seeds = []string{"10.9.9.9"} }, "10.9.9.9:7946: nothing listens there", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				ms := c.many(2, func(_ int, cfg *Config) { cfg.Keys = key(1) })
				cfg := c.config("node3", addr(2))
				cfg.Keys = key(1)
				tt.change(&cfg)
				m := c.start(cfg)
				if err := m.Join(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.await("it says why it is alone", func() bool { return strings.Contains(strings.Join(m.Stats().Alone, "; "), tt.alone) })
				strangers := slices.Concat(ms[0].Stats().Strangers, ms[1].Stats().Strangers)
				switch {
				case tt.there == "" && len(strangers) > 0, tt.there != "" && len(strangers) == 0,
					tt.there != "" && (!strings.Contains(strangers[0].Reason, tt.there) || strangers[0].Address != "10.0.0.3"):
					t.Errorf("the others say %+v", strangers)
				}
				if said := ms[0].Stats().Alone; len(said) > 0 {
					t.Errorf("a node of two says that it is alone: %q", said)
				}
				m.Close()
				if tt.there != "" {
					cured := c.config("node4", addr(2)) // on the same machine
					cured.Keys = key(1)
					c.whole(append(ms, c.join(cured))...)
					if kept := slices.Concat(ms[0].Stats().Strangers, ms[1].Stats().Strangers); len(kept) > 0 {
						t.Errorf("the machine is a member, and said to be kept out: %+v", kept)
					}
				}
				time.Sleep(10 * time.Minute)
				if s := ms[0].Stats().Strangers; len(s) > 0 {
					t.Errorf("a stranger is remembered for ever: %+v", s)
				}
			})
		})
	}
}

// Both nodes of one name are told to the operator.
func TestClaims(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		twin := c.start(c.config("node2", addr(7)))
		if err := twin.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*Members{ms[0], ms[1]} {
			c.await("the claim", func() bool {
				s := m.Stats().Claims
				return len(s) == 1 && s[0].Name == "node2" && strings.HasPrefix(s[0].Other, "10.0.0.8:") && strings.HasPrefix(s[0].Known, "10.0.0.2:")
			})
		}
		c.await("the twin knows", func() bool { return len(twin.Stats().Claims) == 1 })
		both := []*Members{ms[0], ms[1], twin}
		c.never("it is forgotten while it lasts", time.Hour, func() bool {
			return !all(both, func(m *Members) bool {
				s, known, other := m.Stats(), addr(1), addr(7)
				if m == twin {
					known, other = other, known
				}
				return len(s.Claims) == 1 && s.Claims[0].Known == known && s.Claims[0].Other == other
			})
		})
		twin.Close()
		c.await("it is over", func() bool {
			return all(ms, func(m *Members) bool { return len(m.Stats().Claims) == 0 })
		})
	})
}

// What is remembered of claims is bounded, a known claim is not passed on again at once, and one
// that nobody repeats is forgotten.
func TestClaimsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		m := c.many(1)[0]
		m.broadcasts.Reset()
		for range 2 {
			for i := range maxClaims + 10 {
				m.receiveClaim(encodeClaim(Claim{Name: fmt.Sprintf("node%d", i+2), Known: addr(1), Other: addr(2)}))
			}
		}
		if s := m.Stats().Claims; len(s) != maxClaims {
			t.Errorf("%d claims are remembered, want %d", len(s), maxClaims)
		}
		if n := m.broadcasts.NumQueued(); n != maxBroadcasts {
			t.Errorf("%d claims are passed on, want %d", n, maxBroadcasts)
		}
		m.broadcasts.Reset()
		m.receiveClaim(encodeClaim(Claim{Name: "node2", Known: addr(1), Other: addr(2)}))
		m.receiveClaim(encodeClaim(Claim{Name: "late", Known: addr(1), Other: addr(2)}))
		if n := m.broadcasts.NumQueued(); n != 0 {
			t.Errorf("%d claims are passed on again, or though there is no room for them", n)
		}
		time.Sleep(claimFor)
		if s := m.Stats().Claims; len(s) != 0 {
			t.Errorf("%d claims are remembered for ever", len(s))
		}
	})
}

func FuzzSplitState(f *testing.F) {
	f.Add(joinState(encodeLeft(nil), []byte("state")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		goneNodes, state, err := splitState(b)
		if err == nil && len(goneNodes)+len(state) >= len(b) {
			t.Errorf("%d and %d of %d bytes", len(goneNodes), len(state), len(b))
		}
		_, _ = decodeLeft(goneNodes)
	})
}

// A missing node is looked for where another one was before it.
func TestVacated(t *testing.T) {
	r := newRoster(Node{Name: "self"})
	r.recall([]Missing{{Name: "former", Address: addr(1)}, {Name: "other", Address: addr(2)}})
	for _, name := range []string{"former", "other"} {
		if err := r.forget(name); err != nil {
			t.Fatal(err)
		}
	}
	r.recall([]Missing{{Name: "latter", Address: addr(1)}})
	if got := r.vacated(); len(got) != 1 || !got[addr(2)] {
		t.Errorf("%v", got)
	}
}
