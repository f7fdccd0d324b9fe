package ring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// heap collects messages, and passes each new one on, as whoever uses Broadcast
// does.
type heap struct {
	mu   sync.Mutex
	node *Members        // guarded by mu
	seen map[string]bool // guarded by mu
}

func (h *heap) receive(msg []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.node != nil && !h.seen[string(msg)] {
		h.seen[string(msg)] = true
		_ = h.node.Broadcast(msg)
	}
}

func (h *heap) has(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen) == n
}

func TestBroadcastReachesAll(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		const nodes, messages = 12, 40
		var heaps [nodes]*heap
		ms := c.many(nodes, func(i int, cfg *Config) {
			heaps[i] = &heap{seen: make(map[string]bool)}
			cfg.Received = heaps[i].receive
		})
		for i, h := range heaps {
			h.mu.Lock()
			h.node = ms[i]
			h.mu.Unlock()
		}
		began := time.Now()
		for i := range messages {
			msg := bytes.Repeat([]byte{byte(i)}, 1+i*(MaxMessage-1)/(messages-1)) // up to the longest
			if err := ms[i%3].Broadcast(msg); err != nil {
				t.Fatal(err)
			}
			heaps[i%3].receive(msg)
		}
		c.await("all messages everywhere", func() bool {
			return !slices.ContainsFunc(heaps[:], func(h *heap) bool { return !h.has(messages) })
		})
		t.Logf("%d messages reached %d nodes after %v", messages, nodes, time.Since(began))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("that took %v", took)
		}
	})
}

func TestMessageTooLong(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		m := c.start(c.config("node1", addr(0)))
		if err := m.Broadcast(make([]byte, MaxMessage+1)); err == nil {
			t.Error("taken")
		}
		if err := m.Broadcast(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestNoNodeToSendTo sees that messages do not pile up while a node is alone.
func TestNoNodeToSendTo(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		m := c.many(1)[0]
		for i := range 10 * maxBroadcasts {
			if err := m.Broadcast([]byte(strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
		}
		if n := m.broadcasts.NumQueued(); n > maxBroadcasts {
			t.Errorf("%d messages wait", n)
		}
	})
}

// TestReceivedInOrder blocks the callback: what arrives meanwhile waits in order,
// the rest is counted, and gossip goes on.
func TestReceivedInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		gate := make(chan struct{})
		var got []int
		ms := c.many(2, func(i int, cfg *Config) {
			if i == 0 {
				cfg.Received = func(msg []byte) {
					<-gate
					n, err := strconv.Atoi(string(msg))
					if err != nil {
						t.Error(err)
					}
					got = append(got, n)
				}
			}
		})
		buffer := make([]byte, 0, 16)
		for i := range maxMessages + 100 {
			buffer = fmt.Appendf(append(buffer[:0], frameMessage), "%d", i) // one buffer, as memberlist may
			delegate{ms[0]}.NotifyMsg(buffer)
			if i == 0 {
				synctest.Wait() // it is in the callback, and the queue empty
			}
		}
		if s := ms[0].Stats(); s.Dropped != 99 {
			t.Errorf("%d dropped", s.Dropped)
		}
		c.never("a member lost", 5*time.Minute, func() bool { return ms[1].View().Ring.Len() != 2 })
		close(gate)
		synctest.Wait()
		if len(got) != maxMessages+1 || !slices.IsSorted(got) {
			t.Errorf("%d received, in order: %v", len(got), slices.IsSorted(got))
		}
		if s := ms[0].Stats(); s.Received != maxMessages+1 {
			t.Errorf("%d counted", s.Received)
		}
	})
}

func TestExchangeOfState(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		var mu sync.Mutex
		var long atomic.Bool
		got := make(map[string]int)
		ms := c.many(3, func(i int, cfg *Config) {
			cfg.LocalState = func() []byte {
				if i == 2 && long.Load() {
					return make([]byte, MaxState+1)
				}
				return []byte(cfg.Name)
			}
			cfg.MergeState = func(state []byte) {
				mu.Lock()
				defer mu.Unlock()
				got[cfg.Name+" from "+string(state)]++
			}
		})
		count := func(pair string) int {
			mu.Lock()
			defer mu.Unlock()
			return got[pair]
		}
		// The joins were such exchanges; the others come with time.
		for _, pair := range []string{"node1 from node2", "node2 from node1", "node1 from node3", "node3 from node1"} {
			if count(pair) == 0 {
				t.Errorf("no state of %s", pair)
			}
		}
		c.await("the exchanges between the others", func() bool { return count("node2 from node3") > 1 && count("node3 from node2") > 1 })
		long.Store(true)
		before, sent := count("node2 from node3"), ms[2].Stats().BytesOut
		time.Sleep(10 * time.Minute)
		if count("node2 from node3") != before || count("node3 from node2") == before {
			t.Error("a state too long was merged, or kept the other one back")
		}
		if sent = ms[2].Stats().BytesOut - sent; sent > MaxState {
			t.Errorf("a state too long was sent: %d bytes", sent)
		}
	})
}

func TestOnChange(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		m := c.start(c.config("node1", addr(0)))
		var views, nested []*View
		m.OnChange(func(v *View) {
			if v != m.View() {
				t.Error("called with another view than the present one")
			}
			if views = append(views, v); len(views) == 1 {
				m.OnChange(func(v *View) { nested = append(nested, v) })
			}
		})
		synctest.Wait()
		if len(views) != 1 || len(nested) != 1 || views[0] != nested[0] || views[0].Ring.Len() != 0 {
			t.Fatalf("at first: %v, %v", views, nested)
		}
		if err := m.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		other := c.join(c.config("node2", addr(1)))
		c.whole(m, other)
		other.Close()
		c.whole(m)
		synctest.Wait()
		if !slices.Equal(views, nested) {
			t.Error("two followers saw different views")
		}
		var sizes []int
		for i, v := range views {
			if i > 0 && views[i-1] == v {
				t.Error("the same view twice")
			}
			if i == 0 || views[i-1].Ring != v.Ring {
				sizes = append(sizes, v.Ring.Len())
			}
		}
		// Empty, itself or both, back to itself.
		if len(sizes) < 3 || sizes[0] != 0 || !slices.Contains(sizes, 2) || sizes[len(sizes)-1] != 1 {
			t.Errorf("rings of %v", sizes)
		}
		calls := len(views)
		m.Close()
		m.OnChange(func(*View) { t.Error("called after Close") })
		synctest.Wait()
		if len(views) != calls {
			t.Error("called after Close")
		}
	})
}

// TestRingIsKept sees that a view whose owners are the same keeps the ring, with all
// that was computed for it.
func TestRingIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		before := ms[0].View()
		c.start(c.config("node3", addr(2))).list.Join([]string{addr(0)}) // there, and joining for ever
		c.await("the third node", func() bool { return len(ms[0].View().Nodes) == 3 })
		if ms[0].View().Ring != before.Ring {
			t.Error("built again")
		}
	})
}

// TestEnds calls everything on a node that has ended.
func TestEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		m := ms[1]
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Close(), m.Leave(t.Context()), m.Disconnect(t.Context())); err != nil {
			t.Error(err)
		}
		if err := m.Join(t.Context()); err == nil {
			t.Error("joined after Close")
		}
		_ = m.Broadcast([]byte("x"))
		if m.View() == nil || m.Addr() != addr(1) || m.Stats().BytesIn == 0 {
			t.Error("nothing to see any more")
		}
		never := c.start(c.config("node3", addr(2)))
		never.Close()
		if err := never.Join(t.Context()); err == nil {
			t.Error("joined for the first time after Close")
		}
	})
}

func TestContextsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		cfg := c.config("node3", addr(2))
		m := c.start(cfg)
		if err := m.Join(ended); !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("Join: %v", err)
		}
		c.whole(ms[0], ms[1], m) // in the background
		began := time.Now()
		if err := m.Leave(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave: %v", err)
		}
		if time.Since(began) > 0 {
			t.Error("Leave waited")
		}
		c.whole(ms...) // in the background
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		_ = ms[1].Disconnect(short)
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("Depart within 100 ms took %v", took)
		}
	})
}

// TestManyCallers uses a node from many goroutines, for the race detector.
func TestManyCallers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
		ms := c.many(3, func(i int, cfg *Config) {
			cfg.Keys = [][]byte{key(1), key(2)}
			cfg.Received, cfg.LocalState, cfg.MergeState = func([]byte) {}, func() []byte { return []byte("s") }, func([]byte) {}
		})
		var group sync.WaitGroup
		for worker := range 6 {
			group.Go(func() {
				for i := range 50 {
					m := ms[(worker+i)%3]
					_ = m.Broadcast([]byte("hello"))
					m.OnChange(func(*View) {})
					m.View().Ring.Owners([]byte{byte(i)}, 3)
					m.View().RingFor("h", 1+i%3)
					m.Stats()
					_ = m.SetKeys([][]byte{key(1), key(2)})
					time.Sleep(time.Second)
				}
			})
		}
		group.Wait()
		for _, m := range ms {
			group.Go(func() { _ = m.Leave(t.Context()) })
			group.Go(func() { _ = m.Disconnect(t.Context()) })
			group.Go(func() { m.Close() })
		}
		group.Wait()
	})
}

func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(3)
		ms[2].Close()
		c.whole(ms[0], ms[1])
		time.Sleep(time.Minute)
		for name, want := range map[string]float64{
			"aptmesh_gossip_silent_nodes": 0, "aptmesh_gossip_missing_nodes": 1, "aptmesh_ring_nodes": 2,
			"aptmesh_gossip_refused_total": 0, "aptmesh_gossip_name_conflicts_total": 0,
			"aptmesh_ring_share_ratio": ms[0].View().Ring.Share("node1"),
		} {
			if got := metricValue(t, ms[0], name); got != want {
				t.Errorf("%s is %v, not %v", name, got, want)
			}
		}
		if got := metricValue(t, ms[0], "aptmesh_ring_changes_total"); got < 2 {
			t.Errorf("%v changes", got)
		}
		for name, h := range ms[0].Stats().Beacons {
			if time.Since(h) > 10*time.Second {
				t.Errorf("heard of %s: %+v", name, h)
			}
		}
	})
}
