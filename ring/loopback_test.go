package ring

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// The tests here use real sockets, by the clock on the wall; their intervals are
// short. How long anything takes is not looked at: the machine may be busy.

func onLoopback(t *testing.T) *cluster { return newCluster(t, time.Minute) }

// quick are intervals for one machine.
func quick(p *memberlist.Config) {
	p.ProbeInterval, p.ProbeTimeout = 300*time.Millisecond, 200*time.Millisecond
	p.GossipInterval, p.PushPullInterval = 20*time.Millisecond, time.Second
	p.SuspicionMult, p.GossipToTheDeadTime, p.DeadNodeReclaimTime = 3, time.Second, 500*time.Millisecond
}

// local is the configuration of a node on 127.0.0.1.
func (c *cluster) local(name string, seeds ...string) Config {
	return Config{
		Name: name, Cluster: "test", Datacenter: "dc", PeerAddr: "127.0.0.1:3143", Bind: "127.0.0.1:0", Seeds: seeds,
		Logger: c.log.With("at", name), Timing: quick,
		Settle: 2 * time.Second, SettlePoll: 50 * time.Millisecond, RejoinEvery: 300 * time.Millisecond, BeaconEvery: 100 * time.Millisecond,
	}
}

// TestOnLoopback goes through the life of a cluster.
func TestOnLoopback(t *testing.T) {
	c := onLoopback(t)
	var heard atomic.Int64
	config := func(name string, seeds ...string) Config {
		cfg := c.local(name, seeds...)
		cfg.Keys = [][]byte{testKey(1)}
		cfg.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Received = func([]byte) { heard.Add(1) }
		return cfg
	}
	first := c.join(config("node1"))
	if at, err := netip.ParseAddrPort(first.Addr()); err != nil || at.Port() == 0 || at.Addr().String() != "127.0.0.1" {
		t.Fatalf("Addr: %q", first.Addr())
	}
	_, port, err := net.SplitHostPort(first.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ms := []*Members{first}
	for i := 2; i <= 4; i++ {
		ms = append(ms, c.join(config(fmt.Sprint("node", i), "localhost:"+port)))
	}
	c.whole(ms...)

	if err := first.Broadcast([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	c.await("the message", func() bool { return heard.Load() >= 3 })
	c.await("beacons", func() bool {
		return all(ms, func(m *Members) bool {
			for _, h := range m.Stats().Beacons {
				if h.IsZero() {
					return false
				}
			}
			return len(m.Stats().Silent) == 0
		})
	})

	if err := ms[3].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.whole(ms[:3]...)
	if err := ms[3].Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	ms[2].Close()
	c.await("two of them", func() bool { return len(ms[0].View().Nodes) == 2 && len(ms[1].View().Nodes) == 2 })

	// The name comes back on another port, before the old one is forgotten or after.
	back := c.join(config("node3", first.Addr()))
	c.whole(ms[0], ms[1], back)
	c.await("its new address", func() bool { return c.node(ms[1], "node3").GossipAddr == back.Addr() })

	stranger := c.local("stranger", first.Addr())
	stranger.Keys = [][]byte{testKey(9)}
	alone := c.join(stranger)
	c.whole(alone)
	c.whole(ms[0], ms[1], back)
	if s := first.Stats(); s.BytesIn == 0 || s.BytesOut == 0 || s.Refused != 0 {
		t.Errorf("counted: %+v", s)
	}
}

// TestRotationUnderTraffic changes the key of a cluster that talks all the time, the
// way SetKeys says, and sees that no packet was lost to it.
func TestRotationUnderTraffic(t *testing.T) {
	c := onLoopback(t)
	var failures lineCounter
	old, next := testKey(1), testKey(2)
	var ms []*Members
	for i := range 3 {
		cfg := c.local(fmt.Sprint("node", i+1))
		if i > 0 {
			cfg.Seeds = []string{ms[0].Addr()}
		}
		cfg.Keys = [][]byte{old}
		cfg.Received = func([]byte) {}
		cfg.Logger = slog.New(slog.NewTextHandler(&failures, &slog.HandlerOptions{Level: slog.LevelDebug}))
		ms = append(ms, c.join(cfg))
	}
	c.whole(ms...)
	done := make(chan struct{})
	var talk sync.WaitGroup
	for _, m := range ms {
		talk.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
					_ = m.Broadcast(fmt.Append(nil, i))
				}
			}
		})
	}
	for step, keys := range [][][]byte{{old, next}, {next, old}, {next}} {
		if n := failures.of("ecrypt"); n > 0 {
			t.Errorf("before step %d, %d packets or streams could not be decrypted", step, n)
		}
		for _, m := range ms {
			if err := m.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range ms {
			before := m.Stats().Received
			c.await("traffic with these keys", func() bool { return m.Stats().Received > before+50 })
		}
	}
	close(done)
	talk.Wait()
	c.whole(ms...)
	late := c.local("late", ms[0].Addr())
	late.Keys = [][]byte{next}
	c.whole(append(ms, c.join(late))...)
}

// lineCounter keeps log lines.
type lineCounter struct {
	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

func (l *lineCounter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(b)
}

func (l *lineCounter) of(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.log.String(), text)
}

// TestAddresses binds in several ways.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ bind, advertise, want string }{
		{"127.0.0.1:0", "", "127.0.0.1:"},
		{"localhost:0", "", ""},
		{"127.0.0.1:0", "127.0.0.9", "127.0.0.9:"},
		{"127.0.0.1:0", "127.0.0.9:77", "127.0.0.9:77"},
		{":0", "127.0.0.1", "127.0.0.1:"},
		{"0.0.0.0:0", "localhost", ""},
		{"[::]:0", "::1", "[::1]:"},
		{"[::1]:0", "", "[::1]:"},
	} {
		t.Run(tt.bind+" "+tt.advertise, func(t *testing.T) {
			if strings.Contains(tt.bind+tt.advertise, "::") && !hasIPv6() {
				t.Skip("this machine has no IPv6 on the loopback")
			}
			c := onLoopback(t)
			cfg := c.local("node")
			cfg.Bind, cfg.Advertise = tt.bind, tt.advertise
			m := c.start(cfg)
			at, err := netip.ParseAddrPort(m.Addr())
			if err != nil || !at.Addr().IsLoopback() || at.Port() == 0 || !strings.HasPrefix(m.Addr(), tt.want) {
				t.Errorf("Addr: %q", m.Addr())
			}
			if n := c.node(m, "node"); n.GossipAddr != m.Addr() {
				t.Errorf("the node says %q", n.GossipAddr)
			}
		})
	}
}

// TestIPv6Cluster: nodes that have nothing but IPv6, and listen on all of it, find each
// other, and every address they tell can be dialled as it is.
func TestIPv6Cluster(t *testing.T) {
	if !hasIPv6() {
		t.Skip("this machine has no IPv6 on the loopback")
	}
	c := onLoopback(t)
	var heard atomic.Int64
	config := func(name string, seeds ...string) Config {
		cfg := c.local(name, seeds...)
		cfg.Bind, cfg.Advertise, cfg.PeerAddr = ":0", "::1", "[::1]:3143"
		cfg.Allowed = []netip.Prefix{netip.MustParsePrefix("::1/128")}
		cfg.Received = func([]byte) { heard.Add(1) }
		return cfg
	}
	first := c.join(config("node1"))
	ms := []*Members{first, c.join(config("node2", first.Addr())), c.join(config("node3", first.Addr()))}
	c.whole(ms...)
	for _, n := range ms[2].View().Nodes {
		for _, addr := range []string{n.GossipAddr, n.PeerAddr} {
			if at, err := netip.ParseAddrPort(addr); err != nil || at.Addr() != netip.IPv6Loopback() {
				t.Errorf("%s is at %q: %v", n.Name, addr, err)
			}
		}
	}
	c.await("a message at another node", func() bool {
		if err := ms[1].Broadcast([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		return heard.Load() > 0
	})
	c.await("beacons by UDP", func() bool { return !ms[0].Stats().Beacons["node3"].IsZero() })
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// TestAddressesThatCannotBe sees that nothing keeps listening after an error.
func TestAddressesThatCannotBe(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := onLoopback(t)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"taken", func(c *Config) { c.Bind = taken.Addr().String() }, "gossip address"},
		{"not ours", func(c *Config) { c.Bind = "192.0.2.1:0" }, "gossip address"},
		{"no such name", func(c *Config) { c.Bind, c.Lookup = "nowhere.example:0", newNames().of }, "gossip address"},
		{"not a port", func(c *Config) { c.Bind = "127.0.0.1:x" }, "gossip address"},
		{"no such advertised name", func(c *Config) { c.Advertise, c.Lookup = "nowhere.example", newNames().of }, "advertised"},
		{"advertised not allowed", func(c *Config) { c.Allowed = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, "none of the allowed"},
	} {
		cfg := c.local("node")
		tt.change(&cfg)
		if m, err := Start(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
			if err == nil {
				m.Close()
			}
		}
	}
}

// TestAdvertisesSomething binds to all addresses, without saying which to tell.
func TestAdvertisesSomething(t *testing.T) {
	want, err := OwnAddress()
	if err != nil {
		t.Skip("this machine has no address but the loopback's")
	}
	c := onLoopback(t)
	for _, bind := range []string{":0", "0.0.0.0:0"} {
		var logged lineCounter
		cfg := c.local("node")
		cfg.Bind, cfg.Logger = bind, slog.New(slog.NewTextHandler(&logged, nil))
		m := c.start(cfg)
		if at, err := netip.ParseAddrPort(m.Addr()); err != nil || at.Addr() != want {
			t.Errorf("%s: Addr is %q, want %v", bind, m.Addr(), want)
		}
		if logged.of("advertises one of them") != 1 {
			t.Error("not a word about it in the log")
		}
	}
}

// TestCloseIsQuick closes nodes that wait for somebody who says nothing, or who does
// not even answer the dial.
func TestCloseIsQuick(t *testing.T) {
	swallows, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer swallows.Close()
	for _, tt := range []struct {
		name    string
		prepare func(*Members, chan<- struct{})
	}{
		{"no answer", func(m *Members, begun chan<- struct{}) {
			go func() {
				if conn, err := swallows.Accept(); err == nil {
					defer conn.Close()
					_, _ = conn.Read(make([]byte, 1))
					close(begun)
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}},
		{"no connection", func(m *Members, begun chan<- struct{}) {
			m.wire.dialer.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
				close(begun)
				<-ctx.Done()
				return ctx.Err()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := onLoopback(t)
			m := c.start(c.local("node", swallows.Addr().String()))
			begun, closed := make(chan struct{}), make(chan struct{})
			tt.prepare(m, begun)
			go m.Join(t.Context())
			<-begun
			go func() { m.Close(); close(closed) }()
			select {
			case <-closed:
			case <-time.After(9 * time.Second): // memberlist's own limit is 10 s
				t.Error("Close waits")
			}
		})
	}
}

// TestAnnouncementsAreNotLost has somebody say all the time that a node is suspect.
// Its answers, each newer than what went before, can make memberlist drop what the
// node announces of itself at that moment.
func TestAnnouncementsAreNotLost(t *testing.T) {
	c := onLoopback(t)
	var logged lineCounter
	cfg := c.local("node")
	cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m := c.start(cfg)
	done := make(chan struct{})
	var rumours sync.WaitGroup
	defer rumours.Wait()
	defer close(done)
	rumours.Go(func() {
		// The label, then memberlist's message 3 in msgpack: a map of three.
		suspect := append([]byte{244, 4}, "test\x03\x83\xa4Node\xa4node\xa4From\xa5rumor\xabIncarnation\xce"...)
		for i := uint32(1 << 30); ; i++ {
			packet := &memberlist.Packet{
				Buf: binary.BigEndian.AppendUint32(bytes.Clone(suspect), i), From: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, Timestamp: time.Now(),
			}
			select {
			case <-done:
				return
			case m.wire.packets <- packet:
			}
		}
	})
	for i := range 3000 {
		m.roster.mu.Lock()
		m.roster.self.Version = fmt.Sprint("v", i)
		m.roster.mu.Unlock()
		_ = m.announce(time.Microsecond)
		if !m.roster.upToDate() {
			t.Fatalf("announcement %d was lost", i)
		}
	}
	c.await("rumours", func() bool { return logged.of("Refuting a suspect message") > 0 })
}
