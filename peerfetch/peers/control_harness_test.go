package peers

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// answers is a Control that does what it is sent. What is nil answers nothing.
type answers struct {
	received func(from string, announcements []proto.Announcement)
	asked    func(ctx context.Context, from string, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error)
	offered  func(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest
	status   func() []byte

	receivedAlerts func(from string, alerts []proto.MirrorAlert)
	alerts         func() []proto.MirrorAlert
	lookup         func(loc proto.Location) (proto.Ref, bool)
	snapshots      func(from string, told proto.SnapshotNews) (proto.SnapshotNews, error)
	sum            uint64
	differ         func(node string)
}

func (a *answers) ServeSnapshots(_ context.Context, from string, told proto.SnapshotNews) (proto.SnapshotNews, error) {
	if a.snapshots == nil {
		return proto.SnapshotNews{}, nil
	}
	return a.snapshots(from, told)
}

func (a *answers) ServeMirror(name, act string) ([]byte, error) {
	if name != "m" {
		return nil, errors.New("there is no such mirror")
	}
	return []byte(act), nil
}

func (a *answers) SnapshotsSum() uint64 { return a.sum }

func (a *answers) SnapshotsDiffer(node string) {
	if a.differ != nil {
		a.differ(node)
	}
}

func (a *answers) Lookup(loc proto.Location) (proto.Ref, bool) {
	if a.lookup == nil {
		return proto.Ref{}, false
	}
	return a.lookup(loc)
}

func (a *answers) ReceiveAnnouncements(from string, announcements []proto.Announcement) {
	if a.received != nil {
		a.received(from, announcements)
	}
}

func (a *answers) ReceiveAlerts(from string, alerts []proto.MirrorAlert) {
	if a.receivedAlerts != nil {
		a.receivedAlerts(from, alerts)
	}
}

func (a *answers) Alerts() []proto.MirrorAlert {
	if a.alerts == nil {
		return nil
	}
	return a.alerts()
}

func (a *answers) ServeCheck(ctx context.Context, from string, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error) {
	if a.asked == nil {
		return proto.Announcement{}, proto.ErrNotFound
	}
	return a.asked(ctx, from, id, slots, fresh)
}

func (a *answers) ReceiveOffer(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest {
	if a.offered == nil {
		return nil
	}
	return a.offered(ctx, from, offers)
}

func (a *answers) LocalStatus(context.Context) []byte {
	if a.status == nil {
		return nil
	}
	return a.status()
}

// inbox collects what a node has received.
type inbox struct {
	mu            sync.Mutex
	from          []string
	announcements []proto.Announcement
}

func (b *inbox) received(from string, announcements []proto.Announcement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.from = append(b.from, from)
	b.announcements = append(b.announcements, announcements...)
}

func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.announcements)
}

// fault is what becomes of the connections to an address.
type fault int

const (
	carry  fault = iota
	hold         // nothing arrives until it carries again, as from a node that is stopped
	lose         // nothing arrives any more, and nobody is sent
	refuse       // connections are closed, and new ones refused
)

// faults stands between nodes and the network. It acts on what the dialling end
// reads, and on dialling.
type faults struct {
	*network
	mu      sync.Mutex
	changed *sync.Cond
	to      map[string]fault         // guarded by mu, as all below
	conns   map[string][]*faultyConn // of each address
	dials   int
	fail    int // so many dials fail from now on
}

func newFaults(l link) *faults {
	f := &faults{network: newNetwork(l), to: make(map[string]fault), conns: make(map[string][]*faultyConn)}
	f.changed = sync.NewCond(&f.mu)
	return f
}

// set changes what becomes of connections to addr. What is lost stays lost.
func (f *faults) set(addr string, to fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to[addr] = to
	for _, c := range f.conns[addr] {
		switch to {
		case lose:
			c.lost = true
		case refuse:
			c.closed = true
			c.Conn.Close()
		}
	}
	f.changed.Broadcast()
}

// dialled is how often anybody has dialled anybody.
func (f *faults) dialled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials
}

func (f *faults) dial(ctx context.Context, addr string) (net.Conn, error) {
	defer context.AfterFunc(ctx, f.changed.Broadcast)()
	f.mu.Lock()
	f.dials++
	for (f.to[addr] == hold || f.to[addr] == lose) && ctx.Err() == nil {
		f.changed.Wait()
	}
	refused := f.to[addr] == refuse || f.fail > 0
	if f.fail > 0 {
		f.fail--
	}
	f.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if refused {
		return nil, errors.New("connection refused")
	}
	conn, err := f.network.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &faultyConn{Conn: conn, f: f, addr: addr}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[addr] = append(f.conns[addr], c)
	return c, nil
}

type faultyConn struct {
	net.Conn
	f            *faults
	addr         string
	lost, closed bool // guarded by f.mu
}

func (c *faultyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	for (c.lost || c.f.to[c.addr] == hold) && !c.closed {
		c.f.changed.Wait()
	}
	return n, err
}

func (c *faultyConn) Close() error {
	c.f.mu.Lock()
	c.closed = true
	c.f.mu.Unlock()
	c.f.changed.Broadcast()
	return c.Conn.Close()
}

// oneWay is the delay of the network of a cluster in memory.
const oneWay = 20 * time.Millisecond

// cluster is nodes that know each other, on a network in memory: it needs a
// synctest bubble. tune may change the configuration of each.
func cluster(t *testing.T, tune func(name string, cfg *Config), names ...string) ([]*Mesh, *faults) {
	t.Helper()
	f := newFaults(link{delay: oneWay})
	var meshes []*Mesh
	for _, name := range names {
		cfg := Config{Listen: name + ":1", listen: f.listen, Dial: f.dial}
		if tune != nil {
			tune(name, &cfg)
		}
		meshes = append(meshes, newMesh(t, name, cfg))
	}
	acquaint(t, meshes...)
	for _, m := range meshes {
		for _, other := range names {
			if other != m.cfg.Name {
				within(t, time.Second, func() bool { return m.peer(other).healthy() && m.peer(other).rtt() > 0 })
			}
		}
	}
	return meshes, f
}

// within waits until cond holds and returns how long that took; the test fails if
// it takes longer than limit.
func within(t *testing.T, limit time.Duration, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		synctest.Wait()
		if cond() {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("it is not so after %v", limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// never holds that cond does not come to hold for so long.
func never(t *testing.T, span time.Duration, cond func() bool) {
	t.Helper()
	for began := time.Now(); time.Since(began) < span; time.Sleep(20 * time.Millisecond) {
		synctest.Wait()
		if cond() {
			t.Fatalf("it is so after %v", time.Since(began))
		}
	}
}

// nodeAt is a node as gossip would have it.
func nodeAt(name, addr string) ring.Node {
	return ring.Node{Name: name, PeerAddr: addr, State: ring.Active, RingVersion: ring.Version}
}

// count is how many lines hold s.
func (l *logged) count(s string) int { return strings.Count(l.String(), s) }
