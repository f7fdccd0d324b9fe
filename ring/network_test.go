package ring

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

// network carries packets and streams between nodes in memory, so that hours pass
// in a testing/synctest bubble in no time, with the real intervals. Links can be
// cut.
type network struct {
	mu      sync.Mutex
	hosts   map[netip.AddrPort]*host           // those that are up; guarded by mu
	cut     func(from, to netip.AddrPort) bool // nothing passes; guarded by mu
	dropped func(from, to netip.AddrPort) bool // no packets pass; guarded by mu
}

func newNetwork() *network { return &network{hosts: make(map[netip.AddrPort]*host)} }

// host is the transport of one node.
type host struct {
	net     *network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
}

var _ memberlist.NodeAwareTransport = (*host)(nil)

// up brings up an address.
func (n *network) up(addr string) *host {
	h := &host{net: n, addr: netip.MustParseAddrPort(addr), packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[h.addr] = h
	return h
}

// split lets nothing pass between the addresses for which side differs.
func (n *network) split(side func(netip.AddrPort) bool) {
	n.setCut(func(from, to netip.AddrPort) bool { return side(from) != side(to) })
}

func (n *network) heal() { n.setCut(nil) }

func (n *network) setCut(cut func(from, to netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *network) dropPackets(dropped func(from, to netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped = dropped
}

// reach returns the host at an address, nil if it is down, and whether a packet
// and a stream would pass.
func (n *network) reach(from netip.AddrPort, addr string) (to *host, packet, stream bool) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, false, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	stream = n.cut == nil || !n.cut(from, at)
	return n.hosts[at], stream && (n.dropped == nil || !n.dropped(from, at)), stream
}

func (h *host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.addr.Addr().AsSlice(), int(h.addr.Port()), nil
}

func (h *host) WriteTo(b []byte, addr string) (time.Time, error) {
	return h.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (h *host) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	to, passes, _ := h.net.reach(h.addr, addr.Addr)
	if to != nil && passes {
		select {
		case to.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(h.addr), Timestamp: time.Now()}:
		default: // lost, as by a full socket
		}
	}
	return time.Now(), nil
}

func (h *host) PacketCh() <-chan *memberlist.Packet { return h.packets }
func (h *host) StreamCh() <-chan net.Conn           { return h.streams }

func (h *host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return h.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (h *host) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to, _, passes := h.net.reach(h.addr, addr.Addr)
	if !passes {
		time.Sleep(timeout)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("i/o timeout")}
	}
	if to == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	here, there := net.Pipe()
	select {
	case to.streams <- pipe{there, net.TCPAddrFromAddrPort(h.addr)}:
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return pipe{here, net.TCPAddrFromAddrPort(to.addr)}, nil
}

func (h *host) Shutdown() error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.hosts[h.addr] == h {
		delete(h.net.hosts, h.addr)
	}
	return nil
}

// pipe is a net.Pipe that knows who is at the other end.
type pipe struct {
	net.Conn
	remote net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.remote }

// cluster is nodes of one test.
type cluster struct {
	t        testing.TB
	net      *network
	log      *slog.Logger
	all      []*Members
	patience time.Duration // how long to wait for what must come
}

// inBubble runs a test in a bubble whose clock jumps, with nodes on a network in
// memory.
func inBubble(t *testing.T, test func(*testing.T, *cluster)) {
	bubble.Test(t, func(t *testing.T) {
		// memberlist's goroutines do not wait for its Shutdown, nor it for them.
		t.Cleanup(func() { time.Sleep(5 * time.Minute) })
		test(t, newCluster(t, 30*time.Minute))
	})
}

func newCluster(t testing.TB, patience time.Duration) *cluster {
	c := &cluster{t: t, net: newNetwork(), log: slog.New(slog.DiscardHandler), patience: patience}
	if testing.Verbose() {
		c.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	t.Cleanup(func() {
		for _, m := range c.all {
			m.Close()
		}
	})
	return c
}

// addr is the gossip address of the i-th node, from 0.
func addr(i int) string { return fmt.Sprintf("10.0.%d.%d:7946", i/200, i%200+1) }

// config is that of a node at an address, whose seed is the first one.
func (c *cluster) config(name, at string) Config {
	return Config{
		Name: name, Cluster: "test", Datacenter: "dc-" + name, Version: "v1.2.3",
		PeerAddr: net.JoinHostPort(netip.MustParseAddrPort(at).Addr().String(), "3143"),
		Seeds:    []string{addr(0)}, Logger: c.log.With("at", name), Transport: c.net.up(at),
	}
}

// start starts a node without joining it to the others.
func (c *cluster) start(cfg Config) *Members {
	c.t.Helper()
	m, err := Start(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.all = append(c.all, m)
	return m
}

// join starts a node and joins it to the others.
func (c *cluster) join(cfg Config) *Members {
	c.t.Helper()
	m := c.start(cfg)
	if err := m.Join(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// many starts n nodes called node1 … and waits until they are one ring.
func (c *cluster) many(n int, change ...func(i int, cfg *Config)) []*Members {
	c.t.Helper()
	ms := make([]*Members, n)
	for i := range ms {
		cfg := c.config("node"+strconv.Itoa(i+1), addr(i))
		for _, f := range change {
			f(i, &cfg)
		}
		ms[i] = c.join(cfg)
	}
	c.whole(ms...)
	return ms
}

// whole waits until the nodes, and nobody else, are the ring of each of them.
func (c *cluster) whole(ms ...*Members) {
	c.t.Helper()
	names := make([]string, len(ms))
	for i, m := range ms {
		names[i] = m.cfg.Name
	}
	slices.Sort(names)
	c.await(fmt.Sprintf("one ring of %v", names), func() bool {
		return all(ms, func(m *Members) bool { return slices.Equal(m.View().Ring.Names(), names) })
	})
}

func all(ms []*Members, cond func(*Members) bool) bool {
	for _, m := range ms {
		if !cond(m) {
			return false
		}
	}
	return true
}

// await waits until cond holds.
func (c *cluster) await(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(c.patience); !cond(); time.Sleep(c.patience / 20000) {
		if time.Now().After(end) {
			for _, m := range c.all {
				c.t.Logf("%s sees %+v", m.cfg.Name, m.View().Nodes)
			}
			c.t.Fatalf("waited %v for %s", c.patience, what)
		}
	}
}

// never sees that cond does not come to hold for a while.
func (c *cluster) never(what string, while time.Duration, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(c.patience / 20000) {
		if cond() {
			c.t.Fatalf("came about: %s", what)
		}
	}
}
