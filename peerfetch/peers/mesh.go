package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
	"github.com/aptmesh/aptmesh/proto/peerpb"
	"github.com/aptmesh/aptmesh/ring"
)

// Handler gives other nodes bytes.
type Handler interface {
	// ServePeer answers ask, from here or, if ask.Fill allows it, from upstream;
	// never from a third node. The blob is positioned at ask.Offset: Bytes is
	// what is left of the object, File stands at that byte, Stream begins with
	// it; Ref.Size stays the size of the whole object.
	//
	// A Stream may have a method
	//
	//	Modified() time.Time
	//
	// which is asked after io.EOF, when the bytes are proven, so that the requester
	// learns of upstream's Last-Modified.
	//
	// The errors are those of package proto; others reach the requester as
	// *proto.PeerFailed. ServePeer and the Stream end when ctx does.
	ServePeer(ctx context.Context, from string, peerReq proto.PeerRequest) (*proto.Blob, error)
}

// Control answers everything that other nodes say and ask beside bytes. from is
// the name of the node that speaks, as its certificate has it.
type Control interface {
	ReceiveAnnouncements(from string, announcements []proto.Announcement)
	// ReceiveAlerts gets what the speaker has found out about mirrors itself.
	ReceiveAlerts(from string, alerts []proto.MirrorAlert)
	// Alerts returns the present findings of this node about mirrors, for
	// nodes that missed the messages.
	Alerts() []proto.MirrorAlert
	ServeCheck(ctx context.Context, from string, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error)
	ReceiveOffer(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest
	// Lookup returns what signed metadata that this node holds says of a file; false
	// where none lists it with a SHA-256. It must not wait.
	Lookup(loc proto.Location) (proto.Ref, bool)
	LocalStatus(ctx context.Context) []byte
	// ServeSnapshots takes in what the speaker knows of snapshots, and answers with what this node knows.
	ServeSnapshots(ctx context.Context, from string, told proto.SnapshotNews) (proto.SnapshotNews, error)
	// ServeMirror does something for a mirror (status, run or verify), and says how it is, as JSON. It does not wait for
	// what it has begun.
	ServeMirror(name, act string) ([]byte, error)
	// SnapshotsSum is what two nodes that know the same names of snapshots have in common; 0 for not known.
	SnapshotsSum() uint64
	// SnapshotsDiffer tells that a node knows other names. It must not wait.
	SnapshotsDiffer(node string)
}

// Config is all a Mesh needs to know.
type Config struct {
	// Name is this node's. Others know it by its certificate too.
	Name string
	// Listen is the host:port to answer on; port 0 takes any.
	Listen string
	// TLS authenticates both ends. nil is plain TCP: a node is whatever it claims to be.
	TLS     *TLS
	Logger  *slog.Logger // nil = none
	Handler Handler      // nil: other nodes get no bytes from here
	Control Control      // nil: other nodes get no answers from here
	// Local is what this node holds, for others to follow; nil = nothing.
	Local *holdings.Local
	// RingFor is the ring by which an archive's objects are placed; nil = the
	// view's own.
	RingFor func(v *ring.View, archive string) *ring.Ring
	Version string
	// Stuck is for how long this node's store has been at the oldest operation that is
	// running, 0 where none is; nil = never stuck.
	Stuck func() time.Duration
	// Dial opens connections to other nodes; nil = a net.Dialer.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Timing is how long the phases of Fetch may take; blanks are filled in.
	Timing Timing
	// Health is how others are watched; blanks are filled in.
	Health HealthConfig

	listen  func(addr string) (net.Listener, error) // tests: on another network
	chunk   int                                     // benchmarks: in place of chunkSize
	windows *windows                                // benchmarks: in place of dataWindows
}

// Timing is how long the phases of Fetch may take. The zero value of each field stands for
// its default.
type Timing struct {
	// Accept bounds the time from asking a peer to its first word, dialling
	// included; 0 = 1 s. Four round trips are given where that is longer.
	Accept time.Duration
	// Progress bounds the time without any frame after that, and the time without
	// bytes, whatever the frames say, of a peer that has the object or was not asked
	// to get it; 0 = 3 s.
	Progress time.Duration
	// Upstream bounds the time without bytes of a peer that says that it waits for
	// upstream, or for its other transfers; 0 = 15 s. An honest peer has tried a second
	// mirror by then.
	Upstream time.Duration
	// Stuck is how long this node waits for its own disk before it reports that to a
	// requester; 0 = 1.5 s: less than the requester would wait.
	Stuck time.Duration
	// Floor is how many bytes per second a connection must deliver of what the
	// peer has, averaged over FloorWindow; 0 = 64 KiB. Negative = no floor.
	Floor       int64
	FloorWindow time.Duration // 0 = 3 s
	// Keepalive is how often a node that has nothing to send says that it is
	// there; 0 = 1 s.
	Keepalive time.Duration
	// Quarantine is how long a distrusted peer is not asked; 0 = 10 min.
	Quarantine time.Duration
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&t.Accept, time.Second},
		{&t.Progress, 3 * time.Second},
		{&t.Upstream, 15 * time.Second},
		{&t.Stuck, 1500 * time.Millisecond},
		{&t.FloorWindow, 3 * time.Second},
		{&t.Keepalive, time.Second},
		{&t.Quarantine, 10 * time.Minute},
	} {
		if *f.at <= 0 {
			*f.at = f.def
		}
	}
	if t.Floor == 0 {
		t.Floor = 64 << 10
	}
	return t
}

// Mesh is the other nodes. It is safe for concurrent use.
type Mesh struct {
	cfg        Config
	log        *slog.Logger
	listener   net.Listener
	server     *grpc.Server
	limitedLog rateLimitedLog
	metrics    *metrics
	traffic    trafficTable
	uploads    chan struct{} // one for each body that is being sent
	chunks     *chunkPool

	quarantine *quarantine

	// ctx ends with Close; every goroutine of the mesh ends with it and is
	// counted in wg. serving ends with Stop already: what other nodes follow here
	// without end must end then, or the server would never be drained.
	ctx     context.Context
	cancel  context.CancelFunc
	serving context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu    sync.Mutex
	view  *ring.View       // guarded by mu; never nil
	peers map[string]*peer // guarded by mu; by name, without this node
	// others are the peers, sorted by name, for frequent loops over all of them. SetView
	// replaces it.
	others atomic.Pointer[[]*peer]
}

// New binds the address to listen on. Nothing is answered before Serve, nobody is
// known before SetView.
func New(cfg Config) (*Mesh, error) {
	cfg.Timing = cfg.Timing.withDefaults()
	cfg.Health = cfg.Health.withDefaults()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Local == nil {
		cfg.Local = holdings.NewLocal()
	}
	if cfg.RingFor == nil {
		cfg.RingFor = func(v *ring.View, _ string) *ring.Ring { return v.Ring }
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if cfg.chunk == 0 {
		cfg.chunk = chunkSize
	}
	if cfg.windows == nil {
		cfg.windows = &dataWindows
	}
	if cfg.listen == nil {
		cfg.listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	empty, err := ring.New(nil)
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	listener, err := cfg.listen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, listener: listener, metrics: newMetrics(), uploads: make(chan struct{}, maxUploads),
		chunks: newChunkPool(cfg.chunk),
		view:   &ring.View{Ring: empty}, peers: make(map[string]*peer),
		limitedLog: newRateLimitedLog(), quarantine: expiring.New[string, *quarantined](maxQuarantined),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.serving, m.stop = context.WithCancel(m.ctx)
	m.server = m.newServer()
	m.server.RegisterService(&bytesService, m)
	peerpb.RegisterControlServer(m.server, &controlServer{m: m})
	return m, nil
}

// Addr is the host:port that is listened on.
func (m *Mesh) Addr() string { return m.listener.Addr().String() }

// Serve begins to answer other nodes. It does not block.
func (m *Mesh) Serve() {
	m.wg.Go(func() {
		if err := m.server.Serve(m.listener); err != nil && m.serving.Err() == nil {
			m.log.Error("other nodes are no longer answered", "error", err)
		}
	})
}

// Stop takes no more requests and lets running ones finish, until ctx ends; then
// they are cut, and the error is that of ctx. What this node asks of others goes
// on until Close.
func (m *Mesh) Stop(ctx context.Context) error {
	m.stop()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		m.server.GracefulStop()
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		m.server.Stop()
		<-drained
		return context.Cause(ctx)
	}
}

// Close ends everything at once and waits for it.
func (m *Mesh) Close() error {
	m.cancel()
	m.server.Stop()
	m.mu.Lock()
	peers := m.peers
	m.peers = nil
	m.mu.Unlock()
	for _, p := range peers {
		p.abandon()
	}
	m.wg.Wait()
	err := m.listener.Close()
	if errors.Is(err, net.ErrClosed) { // the server has closed it, if it ever served
		return nil
	}
	return err
}

// SetView says which nodes there are now. Those that are new are watched from now
// on; those that have gone, or have another address, are let go of when the
// transfers that run have ended.
func (m *Mesh) SetView(v *ring.View) {
	var gone []*peer
	m.mu.Lock()
	defer func() {
		m.mu.Unlock()
		for _, p := range gone {
			p.retire()
		}
	}()
	if m.peers == nil {
		return // closed
	}
	m.view = v
	present := make(map[string]bool)
	for _, node := range v.Nodes {
		if node.Name == m.cfg.Name || node.PeerAddr == "" {
			continue
		}
		present[node.Name] = true
		known := m.peers[node.Name]
		if known != nil && known.addr == node.PeerAddr {
			known.leaving.Store(node.State == ring.Leaving)
			continue
		}
		if known != nil {
			gone = append(gone, known)
			delete(m.peers, node.Name)
		}
		p, err := m.newPeer(node.Name, node.PeerAddr)
		if err != nil {
			m.log.Error("a node cannot be reached: its address makes no sense", "node", node.Name, "address", node.PeerAddr, "error", err)
			continue
		}
		p.leaving.Store(node.State == ring.Leaving)
		m.peers[node.Name] = p
		for _, waitedFor := range []string{stalledPeer, stalledUpstream} { // before the first event, for increase()
			m.metrics.stalls.WithLabelValues(p.name, waitedFor)
		}
		m.wg.Go(func() { m.monitor(p) })
	}
	for name, p := range m.peers {
		if !present[name] {
			gone = append(gone, p)
			delete(m.peers, name)
		}
	}
	others := slices.SortedFunc(maps.Values(m.peers), func(a, b *peer) int { return strings.Compare(a.name, b.name) })
	m.others.Store(&others)
}

// View is the nodes as SetView said last.
func (m *Mesh) View() *ring.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

// missing names the nodes that vanished and are not in the view.
func (m *Mesh) missing() []string {
	var names []string
	for _, node := range m.View().Missing {
		names = append(names, node.Name)
	}
	return names
}

// peer returns a node that is in the view, other than this one; nil if there is
// none of that name.
func (m *Mesh) peer(name string) *peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers[name]
}

// all returns all other nodes in the view, sorted by name. The slice is not
// to be changed.
func (m *Mesh) all() []*peer {
	if others := m.others.Load(); others != nil {
		return *others
	}
	return nil
}
