package node_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/ring"
)

// links are the wires between the nodes of a mesh, to be cut and slowed down. A
// wire is named by the site at the far end.
type links struct {
	mu    sync.Mutex
	state map[string]wire // by address; guarded by mu
	sides map[string]int  // gossip: the side of a partition, by address; guarded by mu
	noUDP bool            // guarded by mu
}

// wire is how one peer address is reached.
type wire struct {
	dead bool  // swallows everything, without a reset
	rate int64 // bytes per second towards whoever dialled; 0: no limit
}

// newLinks puts wires under every node that the mesh starts from now on.
func (m *mesh) newLinks() *links {
	l := &links{state: make(map[string]wire), sides: make(map[string]int)}
	m.tune = append(m.tune, func(s *site) {
		s.peers = func(c *peers.Config) {
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return l.dial(ctx, s, addr) }
		}
		s.gossip = func(c *ring.Config) {
			t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
				BindAddrs: []string{"127.0.0.1"}, Logger: log.New(io.Discard, "", 0),
			})
			if err != nil {
				m.t.Fatal(err)
			}
			c.Transport = &gossipWire{NetTransport: t, links: l, self: net.JoinHostPort("127.0.0.1", strconv.Itoa(t.GetAutoBindPort()))}
		}
	})
	return l
}

func (l *links) set(s *site, w wire) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state[s.node.PeerAddr()] = w
}

func (l *links) of(addr string) wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state[addr]
}

var errCut = errors.New("the wire is cut")

// partition keeps two groups of sites apart, for gossip and for everything else.
func (l *links) partition(groups ...[]*site) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sides)
	for i, group := range groups {
		for _, s := range group {
			l.sides[s.node.GossipAddr()] = i + 1
			l.sides[s.node.PeerAddr()] = i + 1
		}
	}
}

func (l *links) heal() { l.partition() }

func (l *links) apart(a, b string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sides[a] != l.sides[b]
}

func (l *links) dropUDP() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noUDP = true
}

func (l *links) udpDropped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noUDP
}

func (l *links) dial(ctx context.Context, s *site, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wired{Conn: conn, links: l, from: s, to: addr}, nil
}

// wired is a connection to a peer, seen from the side that dialled it.
type wired struct {
	net.Conn
	links *links
	from  *site
	to    string
}

func (c *wired) dead() bool { return c.links.of(c.to).dead || c.links.apart(c.from.peerAddr(), c.to) }

func (c *wired) Read(p []byte) (int, error) {
	for {
		rate := c.links.of(c.to).rate
		if rate > 0 {
			p = p[:min(len(p), 1<<10)]
		}
		n, err := c.Conn.Read(p)
		if err != nil {
			return n, err
		}
		if c.dead() {
			continue // into the void
		}
		if rate > 0 {
			time.Sleep(time.Duration(int64(n) * int64(time.Second) / rate)) // what is tested: a slow wire
		}
		return n, nil
	}
}

func (c *wired) Write(p []byte) (int, error) {
	if c.dead() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// gossipWire is memberlist's transport on a wire that can be cut.
type gossipWire struct {
	*memberlist.NetTransport
	links *links
	self  string
}

func (g *gossipWire) cut(addr string) bool { return g.links.apart(g.self, addr) }

func (g *gossipWire) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (g *gossipWire) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if g.links.udpDropped() || g.cut(addr.Addr) {
		return time.Now(), nil
	}
	return g.NetTransport.WriteToAddress(b, addr)
}

func (g *gossipWire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (g *gossipWire) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if g.cut(addr.Addr) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errCut}
	}
	return g.NetTransport.DialAddressTimeout(addr, timeout)
}

// TestClusterPartition: two nodes and three cannot hear each other for longer than
// the gossip remembers; a Release is published meanwhile, and seen by one side
// first.
func TestClusterPartition(t *testing.T) {
	m := &mesh{t: t}
	l := m.newLinks()
	m.begin(newArchive(), 5)
	for _, s := range m.sites {
		s.update()
	}
	left, right := m.sites[:2], m.sites[2:]
	l.partition(left, right)
	m.eventually("both sides have given the other up", func() bool {
		return m.ringSize(left[0]) == 2 && m.ringSize(left[1]) == 2 &&
			m.ringSize(right[0]) == 3 && m.ringSize(right[1]) == 3 && m.ringSize(right[2]) == 3
	})
	m.archive.AddPackage("noble", testarchive.Package{Name: "during", Version: "1", Size: 4000})
	m.publish()
	// Both sides serve, each with a poller of its own.
	for _, s := range m.sites {
		m.aptUpdate(s, s, newClient("host during the partition"))
	}
	m.mu.Lock()
	m.deaths++ // for each side, the other one is dead
	m.mu.Unlock()
	l.heal()
	m.checkCluster()
	for _, s := range m.sites {
		s.update()
	}
}

// TestClusterWithoutUDP: no datagram passes; nodes stay members over TCP, a flip is
// seen everywhere in a moment, and the operator is told.
func TestClusterWithoutUDP(t *testing.T) {
	m := &mesh{t: t}
	l := m.newLinks()
	l.dropUDP()
	m.begin(newArchive(), 3)
	for _, s := range m.sites {
		s.update()
	}
	m.archive.AddPackage("noble", testarchive.Package{Name: "late", Version: "1", Size: 4000})
	m.publish()
	f, _ := m.archive.Lookup(inRelease)
	has := func(s *site, header ...string) bool {
		return string(s.get(t.Context(), newClient("watcher"), inRelease, header...).body) == string(f.Data)
	}
	m.eventually("a host that asks for the newest gets it", func() bool { return has(m.sites[0], "Cache-Control", "no-cache") })
	began := time.Now()
	for _, s := range m.sites {
		m.eventually(s.name+" has the new Release", func() bool { return has(s) })
	}
	if took := time.Since(began); took > 10*time.Second { // far below the minute that passes between two looks
		t.Errorf("without datagrams it took %v until all nodes had it", took)
	}
	m.eventually("the alarm is raised", func() bool {
		for _, member := range m.sites[0].node.Status().Cluster.Members {
			if member.Name != m.sites[0].name && !member.GossipSilent {
				return false
			}
		}
		return true
	})
	m.checkCluster()
}
