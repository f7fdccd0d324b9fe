package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

var five = []string{"a", "b", "c", "d", "e"}

// object is one of the kinds that a cluster treats differently.
type object struct {
	name    string
	content []byte
	object  proto.ObjectRequest
	readers []int // at a time, where every fault is tried
}

func unlistedWant(path string) proto.ObjectRequest {
	return proto.ObjectRequest{Ref: proto.Ref{Size: proto.UnknownSize}, Class: proto.ClassPackage, Where: proto.At(proto.Location{Archive: "a", Path: path})}
}

func objects() []object {
	small, large, loose := randomBytes(5000, 50), randomBytes(150_000, 51), randomBytes(100_000, 52)
	named := wantOf(large)
	named.Ref.Size = proto.UnknownSize
	return []object{
		{"small", small, wantOf(small), []int{1, 50}},
		{"large", large, wantOf(large), []int{1, 50}},
		{"named", large, named, []int{5}}, // by its digest, in a size that nobody tells
		{"unlisted", loose, unlistedWant("pool/x.deb"), []int{5}},
	}
}

func (o object) archive() func(int, proto.Request) answer {
	return trickling(map[string][]byte{"pool/x.deb": o.content})
}

// far is a latency that every way has.
func far(d time.Duration) func(string, string) time.Duration {
	return func(string, string) time.Duration { return d }
}

func TestClusterFetchesOnce(t *testing.T) {
	for _, o := range objects() {
		for _, latency := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} { // while it streams, and later
			t.Run(fmt.Sprint(o.name, " ", latency), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					c := newCluster(t, five, o.archive())
					c.latency = far(latency)
					c.readEverywhere(t, o, 20)
					c.check(t)
					if got := c.up.count(); got != 1 {
						t.Errorf("%d fetches from upstream", got)
					}
					c.checkAlike(t, o)
					c.close()
				})
			})
		}
	}
}

// checkAlike holds all nodes to one answer.
func (c *cluster) checkAlike(t *testing.T, o object) {
	t.Helper()
	for _, n := range c.nodes {
		blob, err := n.Open(context.Background(), o.object)
		if err != nil {
			t.Fatal(err)
		}
		if !blob.Modified.Equal(lastModified) || blob.Tier != proto.TierDisk {
			t.Errorf("%s gives Last-Modified %s from %s", n.name, blob.Modified, blob.Tier)
		}
		blob.Close()
	}
}

// readEverywhere has readers on every node read o at once; none may fail.
func (c *cluster) readEverywhere(t *testing.T, o object, readers int) {
	t.Helper()
	var all sync.WaitGroup
	for _, n := range c.nodes {
		for range readers {
			all.Go(func() {
				if _, err := n.expect(o.content, o.object); err != nil && !c.isDead(n.name) {
					t.Errorf("%s: %v", n.name, err)
				}
			})
		}
	}
	all.Wait()
}

// The bytes cross the cluster while they come in, and say where they come from.
func TestFirstByteCrossesTheClusterAtOnce(t *testing.T) {
	content := randomBytes(300_000, 53)
	gate := newGated(content)
	c := newCluster(t, five, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} })
	gate.allow(1000)
	blob, err := c.nodes["c"].Open(context.Background(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if blob.Tier != proto.TierPeer || !blob.Verified || !blob.Modified.IsZero() {
		t.Errorf("while it streams: %+v", blob)
	}
	if flights := c.nodes["c"].Flights(); len(flights) != 1 || flights[0].Source != "a" || flights[0].Tier != proto.TierPeer {
		t.Errorf("on the asker: %+v", flights)
	}
	if flights := c.nodes["a"].Flights(); len(flights) != 1 || flights[0].Source != "upstream" || flights[0].Readers != 1 {
		t.Errorf("on the owner: %+v", flights)
	}
	gate.allow(len(content))
	c.check(t)
	m := c.nodes["c"].metrics.bytes
	if peer, up := testutil.ToFloat64(m.WithLabelValues("peer")), testutil.ToFloat64(m.WithLabelValues("upstream")); peer != 300_000 || up != 0 {
		t.Errorf("%g bytes from peers, %g from upstream", peer, up)
	}
}

func TestOwnerDiesInTheMiddle(t *testing.T) {
	for _, o := range objects() {
		if o.name == "unlisted" {
			continue // cannot go on at byte n
		}
		t.Run(o.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, five, o.archive())
				c.latency = far(time.Millisecond)
				go func() {
					for c.nodes["b"].flightBytes() < int64(len(o.content))*3/10 {
						time.Sleep(time.Millisecond)
						if o.name == "small" && c.up.count() > 0 {
							break // it is never seen half
						}
					}
					c.kill("a")
					c.nodes["a"].Close()
				}()
				c.readEverywhere(t, o, 20)
				c.check(t)
				if got := c.up.count(); got > 2 {
					t.Errorf("%d fetches from upstream", got)
				} else if got == 2 && o.name != "small" && c.up.request(1).Offset < 40_000 {
					t.Errorf("the next owner began at byte %d", c.up.request(1).Offset)
				}
				c.close()
			})
		})
	}
}

// flightBytes is how many bytes have arrived in the node's flight.
func (n *node) flightBytes() int64 {
	if flights := n.Flights(); len(flights) > 0 {
		return flights[0].Written
	}
	return 0
}

// Rings that disagree cost a fetch at most, and never a deadlock.
func TestNodesWithDifferentRings(t *testing.T) {
	rings := map[string]map[string][]string{
		"each other":  {"a": {"b"}, "b": {"a"}},
		"and itself":  {"a": {"b", "a"}, "b": {"a", "b"}},
		"in a circle": {"a": {"b"}, "b": {"c"}, "c": {"a"}},
		"in a chain":  {"a": {"b"}, "b": {"c"}, "c": {"c"}},
	}
	for name, ring := range rings {
		t.Run(name, func(t *testing.T) {
			rng := seeded(t)
			for range 12 {
				o := objects()[rng.IntN(4)]
				delays := make(map[string]time.Duration)
				for from := range ring {
					for to := range ring {
						delays[from+to] = time.Duration(rng.IntN(100)) * time.Millisecond
					}
				}
				stagger := make(map[string]time.Duration)
				for node := range ring {
					stagger[node] = time.Duration(rng.IntN(3)) * 30 * time.Millisecond
				}
				bubble.Test(t, func(t *testing.T) {
					var names []string
					for node := range ring {
						names = append(names, node)
					}
					c := newCluster(t, names, o.archive())
					c.ring = func(self string) []string { return ring[self] }
					c.latency = func(from, to string) time.Duration { return delays[from+to] }
					began := time.Now()
					var all sync.WaitGroup
					for _, n := range c.nodes {
						all.Go(func() {
							time.Sleep(stagger[n.name])
							if _, err := n.expect(o.content, o.object); err != nil {
								t.Errorf("%s: %v", n.name, err)
							}
						})
					}
					all.Wait()
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("%s took %s", o.name, took)
					}
					if got := c.up.count(); got > 2 {
						t.Errorf("%d fetches of %s from upstream", got, o.name)
						t.Log(delays, stagger)
					}
					c.check(t)
					c.close()
				})
			}
		})
	}
}

// When two nodes would have the object of each other, the one whose name comes first
// goes upstream and the other has it from there.
func TestTieBetweenTwoNodes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, []string{"a", "b"}, o.archive())
		c.ring = func(self string) []string { return map[string][]string{"a": {"b"}, "b": {"a"}}[self] }
		c.latency = far(10 * time.Millisecond)
		c.readEverywhere(t, o, 3)
		if c.up.count() != 1 {
			t.Errorf("%d fetches from upstream", c.up.count())
		}
		if got := c.asked("a"); got != "b+" {
			t.Errorf("a asked %q", got)
		}
		if bytes := testutil.ToFloat64(c.nodes["b"].metrics.bytes.WithLabelValues("peer")); bytes != float64(len(o.content)) {
			t.Errorf("b had %g bytes of a", bytes)
		}
		c.check(t)
		c.close()
	})
}

// A node that pauses before it asks again still waits for whom it asked, and says so.
func TestTieWhileOneOfThemPauses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, []string{"a", "b"}, o.archive())
		c.ring = func(self string) []string { return map[string][]string{"a": {"b"}, "b": {"a"}}[self] }
		c.latency = far(time.Millisecond)
		c.setFault("b", delays(20*time.Millisecond)) // b has heard from a by then
		c.readEverywhere(t, o, 1)
		if got := c.asked("a"); got != "b+" || c.up.count() != 1 {
			t.Errorf("a asked %q, %d fetches", got, c.up.count())
		}
		c.check(t)
		c.close()
	})
}

func TestWhatUpstreamSaysIsRemembered(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		asks int // within 3 s; what is listed is asked for at two nodes each time
	}{
		{"404", proto.ErrNotFound, 6},
		{"403", &proto.Refused{Status: 403}, 6},
		{"corrupt", proto.ErrCorrupt, 6}, // the third answer of each is how long to wait
		{"429", &proto.Unavailable{Reason: "429", Answered: true, RetryAfter: 20 * time.Second}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				o := objects()[0]
				c := newCluster(t, five, func(_ int, r proto.Request) answer {
					if errors.Is(tt.err, proto.ErrCorrupt) {
						return answer{body: &trickle{&zeros{}}, size: 5000}
					}
					return answer{err: tt.err}
				})
				for range 300 {
					if _, err := c.nodes["e"].expect(o.content, o.object); !errors.Is(err, tt.err) && !errors.As(err, new(*proto.Unavailable)) && !errors.As(err, new(*proto.Refused)) {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Millisecond)
				}
				if got := len(c.asksOf("e")); got > tt.asks || got == 0 {
					t.Errorf("the owner was asked %d times", got)
				}
				if got := c.up.count(); got > 6 {
					t.Errorf("upstream was asked %d times", got)
				}
				c.up.heal(o.archive())
				time.Sleep(30 * time.Second)
				if _, err := c.nodes["e"].expect(o.content, o.object); err != nil {
					t.Errorf("upstream has healed: %v", err)
				}
				c.check(t)
				c.close()
			})
		})
	}
}

type zeros struct{}

func (*zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestStartedIsCalledBeforeAndWithdrawn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(100_000, 55)
		var told []string
		fails := true
		w := newWorld(t, func(i int, r proto.Request) answer {
			told = append(told, "request")
			if fails {
				return answer{err: proto.ErrNotFound}
			}
			return serve(content)(i, r)
		}, func(c *Config) {
			c.Started = func(d proto.Digest, begun bool) {
				if d != proto.DigestOf(content) {
					t.Errorf("told of %s", d)
				}
				told = append(told, fmt.Sprint(begun))
			}
		})
		w.read(wantOf(content))
		synctest.Wait()
		fails = false
		w.read(wantOf(content))
		w.read(unlistedWant("u"))
		synctest.Wait()
		w.store.remove(proto.DigestOf(content))
		w.store.refuse = true
		w.read(wantOf(content)) // passed on, not kept
		synctest.Wait()
		want := []string{"true", "request", "false", "true", "request", "request", "true", "request", "false"}
		if !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		w.Close()
	})
}

func TestRecentSetIsBounded(t *testing.T) {
	r, now := newRecentSet(time.Minute), time.Now()
	for i := range 3 * maxRecent {
		k := key{loc: proto.Location{Path: fmt.Sprint(i)}}
		r.note("p", k, now)
		if !r.recently("p", k, now) || r.recently("q", k, now) || r.recently("p", k, now.Add(time.Minute)) {
			t.Fatalf("entry %d", i)
		}
	}
	if n := r.set.Len(); n > maxRecent {
		t.Errorf("%d entries", n)
	}
	r.note("p", key{}, now.Add(time.Hour))
	if n := r.set.Len(); n != 1 {
		t.Errorf("%d entries, one of them not over", n)
	}
}
