package ring

import (
	"bytes"
	"io"
	"log"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// TestFences starts a node that lacks one thing that the cluster asks for, beside
// one that has it.
func TestFences(t *testing.T) {
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	for _, tt := range []struct {
		name   string
		strict func(*Config) // all nodes of the cluster
		odd    func(*Config)
	}{
		{"another key", func(c *Config) { c.Keys = [][]byte{key(1)} }, func(c *Config) { c.Keys = [][]byte{key(2)} }},
		{"no key", func(c *Config) { c.Keys = [][]byte{key(1)} }, func(c *Config) { c.Keys = nil }},
		{"a key where there is none", func(c *Config) {}, func(c *Config) { c.Keys = [][]byte{key(1)} }},
		{"another cluster", func(c *Config) { c.Keys = [][]byte{key(1)} }, func(c *Config) { c.Cluster = "other" }},
		{"another cluster, no keys", func(c *Config) {}, func(c *Config) { c.Cluster = "other" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				ms := c.many(2, func(_ int, cfg *Config) { tt.strict(cfg) })
				cfg := c.config("odd", addr(2))
				tt.strict(&cfg)
				tt.odd(&cfg)
				odd := c.join(cfg)
				c.never("it is let in, or lets others in", 5*time.Minute, func() bool {
					return len(ms[0].View().Nodes) != 2 || len(ms[1].View().Nodes) != 2 || len(odd.View().Nodes) != 1
				})
				cfg = c.config("even", addr(3))
				tt.strict(&cfg)
				c.whole(ms[0], ms[1], c.join(cfg))
			})
		})
	}
}

// TestAllowedNetworks sees that whoever is not in one is neither taken in nor told
// anything, also over streams, which memberlist itself does not check.
func TestAllowedNetworks(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		allowed := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("::ffff:10.7.0.0/112")}
		var merged, told atomic.Int64
		ms := c.many(2, func(_ int, cfg *Config) {
			cfg.Allowed = allowed
			cfg.LocalState, cfg.MergeState = func() []byte { return []byte("secret") }, func([]byte) { merged.Add(1) }
		})
		before := merged.Load()
		cfg := c.config("stranger", "192.168.0.1:7946")
		cfg.LocalState, cfg.MergeState = func() []byte { return []byte("lies") }, func([]byte) { told.Add(1) }
		stranger := c.join(cfg)
		c.never("it is let in", 5*time.Minute, func() bool {
			return len(ms[0].View().Nodes) != 2 || told.Load() > 0 || len(stranger.View().Nodes) != 1
		})
		if s := ms[0].Stats(); s.Refused == 0 {
			t.Error("nothing refused")
		}
		if merged.Load() == before {
			t.Error("the test would not see an exchange")
		}
		cfg = c.config("inside", "10.7.0.3:7946")
		cfg.Allowed = allowed
		c.whole(ms[0], ms[1], c.join(cfg))
	})
}

func TestOwnAddressMustBeAllowed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		cfg := c.config("node", addr(0))
		cfg.Allowed = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
		if m, err := Start(cfg); err == nil || !strings.Contains(err.Error(), "10.0.0.1") {
			if m != nil {
				m.Close()
			}
			t.Errorf("Start: %v", err)
		}
	})
}

// raw is a member that is not one of ours.
type raw struct{ meta []byte }

func (r raw) NodeMeta(int) []byte           { return r.meta }
func (raw) NotifyMsg([]byte)                {}
func (raw) GetBroadcasts(int, int) [][]byte { return nil }
func (raw) LocalState(bool) []byte          { return []byte("anything") }
func (raw) MergeRemoteState([]byte, bool)   {}

// intrude joins such a member to the cluster and sends a message to the first
// node.
func (c *cluster) intrude(name, at string, meta, msg []byte) *memberlist.Memberlist {
	c.t.Helper()
	p := memberlist.DefaultWANConfig()
	p.Name, p.Label, p.Transport, p.Delegate = name, "test", c.net.up(at), raw{meta}
	p.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(p)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { list.Shutdown() })
	if _, err := list.Join([]string{addr(0)}); err != nil {
		c.t.Fatal(err)
	}
	if len(msg) > 0 {
		if err := list.SendToAddress(memberlist.Address{Addr: addr(0)}, msg); err != nil {
			c.t.Fatal(err)
		}
	}
	return list
}

// TestStrangeMetadata joins members that say things we do not understand.
func TestStrangeMetadata(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(2)
		for i, meta := range []string{
			"", "{", "null", "\xff\xfe", `{"v":1}`, `{"v":0,"s":1,"r":1}`, `{"v":1,"s":300,"r":1}`, `{"v":1,"s":7,"r":1}`, `{"v":1,"s":-1,"r":1}`,
			`{"v":1,"s":1,"r":1,"p":"a\u0000b"}`, `{"v":1,"s":1,"r":-1}`, `{"v":1,"s":1,"r":1e99}`, strings.Repeat("[", 500), `[]`,
		} {
			name := "odd" + string(rune('a'+i))
			c.intrude(name, addr(10+i), []byte(meta), []byte{frameBeacon, 9, 9})
			c.await(name, func() bool { _, ok := ms[1].View().Node(name); return ok })
			if n := c.node(ms[1], name); n.owns() || n.PeerAddr != "" {
				t.Errorf("metadata %q: %+v", meta, n)
			}
		}
		c.whole(ms...)
		// One from the future says more, and is understood as far as we know.
		c.intrude("future", addr(30), []byte(`{"v":2,"s":1,"r":1,"p":"h:1","new":{"a":1}}`), nil)
		c.await("future", func() bool { return ms[0].View().Ring.Contains("future") })
	})
}

// TestStrangeMessages sends frames that none of our nodes sends.
func TestStrangeMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		got := make(chan string, 10)
		ms := c.many(1, func(_ int, cfg *Config) { cfg.Received = func(msg []byte) { got <- string(msg) } })
		list := c.intrude("odd", addr(1), nil, nil)
		for _, frame := range [][]byte{
			{}, {0}, {3, 1, 2}, {frameBeacon}, {frameBeacon, beaconVersion}, beacon{"nobody"}.encode(), beacon{""}.encode(),
			beacon{strings.Repeat("x", maxName+1)}.encode(), append([]byte{frameMessage}, "hello"...),
		} {
			if err := list.SendToAddress(memberlist.Address{Addr: addr(0)}, frame); err != nil {
				t.Fatal(err)
			}
		}
		c.await("the one message", func() bool { return ms[0].Stats().Received == 1 })
		synctest.Wait()
		if msg := <-got; msg != "hello" || len(got) != 0 {
			t.Errorf("received %q, and %d more", msg, len(got))
		}
		if h := ms[0].Stats().Beacons; len(h) != 1 || !h["odd"].IsZero() {
			t.Errorf("heard %v", h)
		}
	})
}

// TestStrangeNames sees that members whose names are none are kept out.
func TestStrangeNames(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		ms := c.many(1)
		for i, name := range []string{"a b", "a\nb", "ä", strings.Repeat("x", maxName+1), "a/b"} {
			c.intrude(name, addr(10+i), nil, nil)
		}
		c.never("one of them is let in", time.Minute, func() bool { return len(ms[0].View().Nodes) != 1 })
	})
}
