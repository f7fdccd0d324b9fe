package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/statedir"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/peerfetch"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// The fit of the rooms is stated where they are joined.
var (
	_ front.Fetcher      = (*peerfetch.Fetcher)(nil)
	_ front.Catalog      = (*catalog.Catalog)(nil)
	_ catalog.Blobs      = (*peerfetch.Fetcher)(nil)
	_ catalog.Upstream   = archives.Source{}
	_ catalog.Store      = archives.Store{}
	_ catalog.Cluster    = (*cluster.Cluster)(nil)
	_ blobstore.Observer = (*cluster.Cluster)(nil)
	_ catalog.State      = (*statedir.Dir)(nil)
	_ peerfetch.Source   = archives.Source{}
	_ peerfetch.Store    = storeAdapter{}
)

// Options is what a node needs besides its configuration. The zero value will do
// for a test.
type Options struct {
	// Logger is told what the node does; nil is silent.
	Logger *slog.Logger
	// Level, if set, follows log.level on a reload.
	Level *slog.LevelVar
	// AccessLog takes one line per request if log.access is on; nil is none.
	AccessLog io.Writer
	// Version is what `aptmesh version` says.
	Version string
	// Name is how the node calls itself; "" is the configured name, or else the
	// host's.
	Name string
	// TuneGossip and TunePeers, if set, change how the node takes part in its
	// cluster before it does: for tests and for programs that embed a node.
	TuneGossip func(*ring.Config)
	TunePeers  func(*peers.Config)
}

// Node is one running node. New makes it, Start binds and serves, Stop drains.
// Its methods are safe for concurrent use; Start and Stop are for one call each.
type Node struct {
	opts    Options
	log     *slog.Logger
	began   time.Time
	ready   atomic.Bool
	doing   atomic.Pointer[string] // what a node that stops does just now
	cert    atomic.Pointer[tls.Certificate]
	failed  chan error // of a listener that ended by itself
	metrics *prometheus.Registry

	store    *blobstore.Store
	state    *statedir.Dir // what must survive
	tables   *statedir.Dir // what is derived from blobs
	upstream *upstream.Client
	table    *archives.Table
	archives *archives.Archives
	fetcher  *peerfetch.Fetcher
	prefetch *prefetch.Prefetcher
	catalog  *catalog.Catalog
	front    *front.Front
	cluster  *cluster.Cluster // nil: the node stands alone
	loops    *loops
	watch    *stuckWatch // of store; nil: the node stands alone

	leaving   chan struct{} // closed when an operator asked the node to leave
	leaveOnce sync.Once

	reloading sync.Mutex

	mu     sync.Mutex
	addrs  []string      // guarded by mu
	admin  *admin.Server // guarded by mu; nil before it listens
	server *http.Server
	stops  []stop // what Stop does, last first
}

// stop is one step of shutting down.
type stop struct {
	name string
	do   func(context.Context) error
}

func (n *Node) onStop(name string, do func(context.Context) error) {
	n.stops = append(n.stops, stop{name, do})
}

// New builds a node from a checked configuration: it opens the store and loads
// what was believed when it was last used, but neither binds an address nor
// talks to anybody. Without Start, Stop releases what New took.
func New(cfg *config.Config, opts Options) (*Node, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Name == "" {
		opts.Name = cfg.NodeName()
	}
	n := &Node{
		opts: opts, log: opts.Logger, began: time.Now(), loops: newLoops(),
		failed:  make(chan error, 1),
		leaving: make(chan struct{}),
		metrics: prometheus.NewRegistry(),
	}
	if err := n.build(cfg); err != nil {
		return nil, errors.Join(err, n.Stop(context.Background()))
	}
	return n, nil
}

// build makes the rooms, each with what it needs of the configuration. The line
// after "it is there" is "this stops it".
func (n *Node) build(cfg *config.Config) error {
	if cfg.Cluster.Name != "" {
		n.watch = newStuckWatch(n.log)
		c, err := cluster.New(cluster.Config{
			Config: cfg, Name: n.opts.Name, Version: n.opts.Version, Logger: n.log, Stuck: n.watch.oldest,
			TuneGossip: n.opts.TuneGossip, TunePeers: n.opts.TunePeers,
		})
		if err != nil {
			return err
		}
		n.cluster = c
		n.onStop("peer connections", func(context.Context) error { return c.Close() })
	}
	if err := checkState(cfg); err != nil {
		return err
	}
	store, err := n.openStore(cfg)
	if err != nil {
		return err
	}
	n.store = store
	n.onStop("store", func(context.Context) error { return store.Close() })

	if err := n.openState(cfg, nil); err != nil {
		return err
	}
	n.table = archives.NewTable(cfg, n.state, n.log)
	client := upstream.Config{
		Settings: cfg.UpstreamClient, Logger: n.log, UserAgent: n.userAgent(), Listens: n.listens,
		Pseudonym: n.loops.pseudonym, Via: n.loops.via,
	}
	if n.cluster != nil {
		client.OnAlert = n.cluster.SendAlert
	}
	if n.upstream, err = upstream.New(client); err != nil {
		return err
	}
	n.onStop("upstream", func(context.Context) error { n.upstream.Close(); return nil })

	reader := &mirrorlist.Reader{
		Config: n.table.Config, Listens: n.listens,
		Header: http.Header{"User-Agent": {client.UserAgent}, "Via": {"1.1 " + n.loops.pseudonym}},
	}
	lists := mirrorlist.New(mirrorlist.Config{Read: reader.Read, State: n.state, Logger: n.log})
	source := archives.Source{Client: n.upstream, Table: n.table, Lists: lists}
	fetching := peerfetch.Config{
		Store: storeAdapter{store}, Upstream: source, Logger: n.log, Restricted: n.table.Restricted,
		Notes: n.tables, ServeStale: n.table.ServeStale,
	}
	if n.cluster != nil {
		fetching.Store = watchedStore{storeAdapter{store}, n.watch}
		fetching.Cluster, fetching.Started = viaCluster{n.cluster.Mesh(), n.loops}, n.cluster.Started
	}
	n.fetcher = peerfetch.New(fetching)
	n.onStop("flights", func(context.Context) error { n.fetcher.Close(); return nil })

	if err := n.startPrefetch(cfg); err != nil {
		return err
	}
	believing := catalog.Config{
		Blobs: n.fetcher, Upstream: source, Store: archives.Store{Store: store, Table: n.table},
		State: n.state, Tables: n.tables, Logger: n.log, Switched: n.switched,
		Retain: cfg.Retain, Stale: cfg.Stale,
	}
	if n.cluster != nil {
		believing.Cluster = n.cluster
	}
	if n.catalog, err = catalog.New(believing); err != nil {
		return err
	}
	n.onStop("catalog", func(context.Context) error { n.catalog.Close(); return nil })

	frontConfig := front.Config{
		Overview: n.overview, ArchiveRoot: deb.ArchiveRoot, Names: []string{"localhost", n.opts.Name}, Node: n.opts.Name,
		Logger: n.log, AccessFormat: cfg.Log.Format, Served: n.prefetch.Used,
		Pseudonym: n.loops.pseudonym, Waits: n.loops.wait, Dial: n.upstream.Tunnel,
	}
	if cfg.Log.Access {
		frontConfig.AccessLog = n.opts.AccessLog
	}
	if n.front, err = front.New(frontConfig, n.catalog, n.fetcher); err != nil {
		return err
	}
	n.onStop("front", func(context.Context) error { return n.front.Close() })

	client.Snapshots = n.catalog.Snapshots
	inForce := archives.Config{
		Configured: cfg, Table: n.table, Lists: lists, Client: client,
		Upstream: n.upstream, Catalog: n.catalog, Front: n.front, State: n.state, Logger: n.log,
	}
	if n.cluster != nil {
		inForce.Cluster = n.cluster
	}
	if n.archives, err = archives.New(inForce); err != nil {
		return err
	}
	return n.register()
}

// register collects the metrics of all rooms.
func (n *Node) register() error {
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_build_info", Help: "Constant 1, with the version.", ConstLabels: prometheus.Labels{"version": n.opts.Version},
	}, func() float64 { return 1 })
	all := []prometheus.Collector{
		info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	rooms := []interface{ Collectors() []prometheus.Collector }{n.store, n.state, n.upstream, n.fetcher, n.prefetch, n.catalog, n.front}
	if n.cluster != nil {
		rooms = append(rooms, n.cluster)
	}
	for _, room := range rooms {
		all = append(all, room.Collectors()...)
	}
	return n.registerAll(all)
}

func (n *Node) registerAll(all []prometheus.Collector) error {
	for _, c := range all {
		if err := n.metrics.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// openStore opens the store in the directory of the cache.
func (n *Node) openStore(cfg *config.Config) (*blobstore.Store, error) {
	config, err := cfg.Cache.Config(cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("data: %w (choose another directory with `data:` or --data)", err)
	}
	config.Logger = n.log
	if n.cluster != nil {
		config.Observer, config.Replicated = n.cluster, n.cluster.Replicated
	}
	return blobstore.Open(config)
}

// Start binds the configured addresses and serves. It returns when the node is
// ready; ctx bounds the starting only.
func (n *Node) Start(ctx context.Context) error {
	if err := n.start(ctx); err != nil {
		return errors.Join(explainBind(err), n.Stop(ctx))
	}
	n.ready.Store(true)
	return nil
}

func (n *Node) start(ctx context.Context) error {
	if err := n.startAdmin(ctx); err != nil {
		return err
	}
	// Bound before the cluster is met, and served after: a host that comes in
	// between waits, where a refused connection would be the last word for apt.
	doors, err := n.bind(ctx)
	if err != nil {
		return err
	}
	if n.cluster != nil {
		if err := n.startCluster(ctx); err != nil {
			for _, l := range doors {
				l.Close()
			}
			return err
		}
	}
	n.archives.Start()
	n.onStop("archives", func(context.Context) error { n.archives.Stop(); return nil })
	n.server = n.front.Server()
	n.onStop("door", n.closeDoor)
	for _, l := range doors {
		n.serve(l)
	}
	return nil
}

// startCluster meets the other nodes, and returns when this one owns its share.
func (n *Node) startCluster(ctx context.Context) error {
	c := n.cluster
	n.watch.start()
	n.onStop("watch of the store", func(context.Context) error { n.watch.stop(); return nil })
	n.onStop("peers", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, n.drain().Timeout)
		defer cancel()
		return c.StopServing(ctx)
	})
	n.onStop("gossip", c.Disconnect)
	rooms := cluster.Rooms{
		Catalog: n.catalog, Objects: loopFree{n.fetcher, n.loops}, Store: n.store, Upstream: n.upstream, State: n.state, Report: n.report,
		Ensure: func(archive string) { _ = n.archives.Ensure(archive) },
	}
	return c.Start(ctx, rooms, n.table.Config, func(gossip []prometheus.Collector) error {
		return n.registerAll(append(gossip, n.watch.collector()))
	})
}

// bind listens at the addresses of the doors, the plain ones first. After an error
// nothing is left open.
func (n *Node) bind(ctx context.Context) (doors []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range doors {
				l.Close()
			}
		}
	}()
	cfg := n.table.Config()
	for _, addr := range cfg.Listen {
		l, err := listen(ctx, addr)
		if err != nil {
			return doors, fmt.Errorf("listen: %w", err)
		}
		doors = append(doors, l)
	}
	if len(cfg.TLS.Listen) == 0 {
		return doors, nil
	}
	if err := n.loadCertificate(cfg); err != nil {
		return doors, err
	}
	for _, addr := range cfg.TLS.Listen {
		l, err := listen(ctx, addr)
		if err != nil {
			return doors, fmt.Errorf("tls: listen: %w", err)
		}
		doors = append(doors, tls.NewListener(l, &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.cert.Load(), nil },
		}))
	}
	return doors, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// serve answers what comes in on l until the door is closed.
func (n *Node) serve(l net.Listener) {
	n.mu.Lock()
	n.addrs = append(n.addrs, l.Addr().String())
	n.mu.Unlock()
	go func() {
		if err := n.server.Serve(n.front.Listener(l)); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("the door at %s ended: %w", l.Addr(), err))
		}
	}()
}

func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // the first one is enough
	}
}

func (n *Node) loadCertificate(cfg *config.Config) error {
	cert, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	n.cert.Store(&cert)
	return nil
}

// Addrs are the addresses the door listens at, with the real ports.
func (n *Node) Addrs() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.addrs...)
}

// AdminAddr is the address of the admin interface, as an admin.Client wants it;
// "" when it is off.
func (n *Node) AdminAddr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.admin == nil {
		return ""
	}
	return n.admin.Addr()
}

// Wait returns a channel that gets the error which ended the node by itself.
func (n *Node) Wait() <-chan error { return n.failed }

// Stop drains and stops the node: it stops being ready, goes on serving for the
// configured delay, tells its cluster and hands on what only it holds, answers new requests with 503, lets the running ones finish
// within the configured time and ctx, and then stops the rooms in the reverse of
// the order they started in. What fails on the way is returned, but stops nothing.
func (n *Node) Stop(ctx context.Context) error {
	var errs []error
	if n.ready.Swap(false) {
		errs = append(errs, n.leave(ctx))
	}
	for i := len(n.stops) - 1; i >= 0; i-- {
		if err := n.stops[i].do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", n.stops[i].name, err))
		}
	}
	n.stops = nil
	return errors.Join(errs...)
}

// leave waits until hosts are sent elsewhere, and takes leave of the cluster.
func (n *Node) leave(ctx context.Context) error {
	drain := n.drain()
	if drain.Delay > 0 {
		n.stopping("waits %s for health checks to notice that it is not ready", drain.Delay)
		select {
		case <-time.After(drain.Delay):
		case <-ctx.Done():
		}
	}
	if n.cluster == nil {
		return nil
	}
	n.stopping("tells the others that it leaves, and hands on what only it holds, for %s at most", drain.Handoff)
	return n.cluster.Leave(ctx, drain.Handoff)
}

// stopping notes what the node does just now, for whoever watches it stop.
func (n *Node) stopping(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	n.doing.Store(&said)
	n.log.Info("stopping: the node " + said)
}

func (n *Node) drain() config.Drain { return n.table.Config().Drain }

// Reload puts a new configuration in force, as far as that can be done while the
// node runs: archives, keys, credentials, upstream limits, certificates, the log
// level. It returns which keys were applied and which wait for a restart. After an
// error everything is as it was before.
func (n *Node) Reload(cfg *config.Config) (applied, needRestart []string, err error) {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	applied, needRestart, next := config.Change(n.archives.Configured(), cfg)
	err = n.archives.Reload(next, func() error {
		if n.cert.Load() != nil && len(next.TLS.Listen) > 0 {
			if err := n.loadCertificate(next); err != nil {
				return err
			}
		}
		if n.cluster != nil {
			return n.cluster.Reload(next)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	n.prefetch.Reconfigure(next.Prefetch)
	if n.opts.Level != nil {
		n.opts.Level.Set(next.Log.SlogLevel())
	}
	return applied, needRestart, nil
}

// userAgent is how this node calls itself to the servers of archives.
func (n *Node) userAgent() string {
	if n.opts.Version == "" {
		return upstream.DefaultUserAgent
	}
	return "aptmesh/" + n.opts.Version + " (+https://github.com/aptmesh/aptmesh)"
}

// listens are the addresses of this node that no redirect may lead to.
func (n *Node) listens() []netip.AddrPort {
	n.mu.Lock()
	at := slices.Clone(n.addrs)
	if n.admin != nil {
		at = append(at, n.admin.TCP()...)
	}
	n.mu.Unlock()
	if n.cluster != nil {
		cl := n.table.Config().Cluster
		at = append(at, cl.GossipListen, cl.PeerListen)
	}
	var all []netip.AddrPort
	for _, text := range at {
		if strings.HasPrefix(text, ":") {
			text = "[::]" + text
		}
		if a, err := netip.ParseAddrPort(text); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// closeDoor lets running requests finish and refuses new ones, in words as long as
// it waits: a connection that is refused tells a client less than a 503 does.
func (n *Node) closeDoor(ctx context.Context) error {
	timeout := n.drain().Timeout
	n.stopping("lets running requests finish, for %s at most", timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := n.front.Drain(ctx)
	if err == nil {
		err = n.server.Shutdown(ctx)
	}
	if err != nil {
		n.log.Warn("some requests did not finish in time and are cut", "after", timeout)
		return n.server.Close()
	}
	return nil
}

// storeAdapter makes the store fit the fetcher, whose Writer is an interface.
type storeAdapter struct{ store *blobstore.Store }

func (a storeAdapter) Get(d proto.Digest) (*proto.Blob, error) { return a.store.Get(d) }

func (a storeAdapter) Unreadable(d proto.Digest, f *os.File, err error) {
	a.store.Unreadable(d, f, err)
}

func (a storeAdapter) PartialSize(ref proto.Ref, from string) int64 {
	return a.store.PartialSize(ref, from)
}

func (a storeAdapter) Only(d proto.Digest) []string { return a.store.Only(d) }

func (a storeAdapter) Create(size int64) (peerfetch.Writer, error) {
	w, err := a.store.Create(size)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (a storeAdapter) Resume(ref proto.Ref, from string) (peerfetch.Writer, error) {
	w, err := a.store.Resume(ref, from)
	if err != nil {
		return nil, err
	}
	return w, nil
}
