package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/listen"
	"github.com/aptmesh/aptmesh/node/loops"
	"github.com/aptmesh/aptmesh/node/operator"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/node/statedir"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/peerfetch"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/ring"
)

// Options is what a node needs besides its configuration. The zero value will do
// for a test.
type Options struct {
	// Logger is the node's log; nil is silent.
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
	// TuneHolds, if set, changes how what is held follows the cluster.
	TuneHolds func(*holds.Config)
}

// Node is one running node. New makes it, Start binds and serves, Stop drains.
// Its methods are safe for concurrent use; Start and Stop are for one call each.
type Node struct {
	*operator.Operator

	opts        Options
	log         *slog.Logger
	life        *life
	loops       *loops.Loops
	metrics     *prometheus.Registry
	certificate listen.Certificate

	store     *blobstore.Store
	state     *statedir.Dir // what must survive
	tables    *statedir.Dir // what is derived from blobs
	table     *archives.Table
	upstream  *upstream.Client
	fetcher   *peerfetch.Fetcher
	prefetch  *prefetch.Prefetcher
	catalog   *catalog.Catalog
	snapshots *snapshot.Keeper
	holds     *holds.Keeper
	holding   atomic.Pointer[holds.Keeper] // holds, from when generation switches are told to it
	front     *front.Front
	cluster   *cluster.Cluster // nil: the node stands alone
	archives  *archives.Archives

	admin     atomic.Pointer[admin.Server] // nil before Start
	server    *http.Server                 // nil before Start
	reloading sync.Mutex
	stops     []stop // what Stop does, last first
}

// stop is one step of shutting down.
type stop struct {
	name string
	do   func(context.Context) error
}

func (n *Node) onStop(name string, do func(context.Context) error) {
	n.stops = append(n.stops, stop{name, do})
}

// closed is an onStop of what has nothing to say at its end.
func closed(do func()) func(context.Context) error {
	return func(context.Context) error { do(); return nil }
}

// New builds a node from a checked configuration: it opens the store and loads
// what was believed when it was last used, and talks to nobody. Addresses that are
// taken are noticed first. Without Start, Stop releases what New took.
func New(cfg *config.Config, opts Options) (*Node, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Name == "" {
		opts.Name = cfg.NodeName()
	}
	if err := listen.CheckFree(context.Background(), ports(cfg)); err != nil {
		return nil, err
	}
	n := &Node{opts: opts, log: opts.Logger, life: newLife(opts.Logger), loops: loops.New(), metrics: prometheus.NewRegistry()}
	if err := n.build(cfg); err != nil {
		return nil, errors.Join(listen.Explain(err), n.Stop(context.Background()))
	}
	return n, nil
}

// ports are the addresses that a configuration binds.
func ports(cfg *config.Config) []listen.Port {
	var all []listen.Port
	for i, addr := range cfg.Listen {
		all = append(all, listen.Port{Key: fmt.Sprintf("listen[%d]", i), Addr: addr})
	}
	for i, addr := range cfg.TLS.Listen {
		all = append(all, listen.Port{Key: fmt.Sprintf("tls.listen[%d]", i), Addr: addr})
	}
	all = append(all, listen.Port{Key: "admin", Addr: cfg.Admin.Address}, listen.Port{Key: "ready_listen", Addr: cfg.Admin.ReadyAddress})
	if cfg.Cluster.Name != "" {
		all = append(all, listen.Port{Key: "cluster.gossip_listen", Addr: cfg.Cluster.GossipListen, Packets: true}, listen.Port{Key: "cluster.peer_listen", Addr: cfg.Cluster.PeerListen})
	}
	return all
}

// Start binds the configured addresses and serves. It returns when the node is
// ready; ctx bounds the starting only.
func (n *Node) Start(ctx context.Context) error {
	if err := n.start(ctx, n.table.Config()); err != nil {
		return errors.Join(listen.Explain(err), n.Stop(ctx))
	}
	n.life.ready.Store(true)
	return nil
}

func (n *Node) start(ctx context.Context, cfg *config.Config) error {
	// The admin interface stops last: an operator can watch the node drain.
	if err := n.startAdmin(ctx, cfg); err != nil {
		return err
	}
	// Bound before the cluster is met, and served after: a host that connects in between waits, where a
	// refused connection would be the last word for apt.
	if len(cfg.TLS.Listen) > 0 {
		if err := n.certificate.Load(cfg.TLS.Cert, cfg.TLS.Key); err != nil {
			return err
		}
	}
	listeners, err := listen.All(ctx, cfg.Listen, cfg.TLS.Listen, &n.certificate)
	if err != nil {
		return err
	}
	if n.cluster != nil {
		if err := n.startCluster(ctx, cfg); err != nil {
			listeners.Close()
			return err
		}
	}
	n.archives.Start()
	n.onStop("archives", closed(n.archives.Stop))
	n.holding.Store(n.holds)
	n.holds.SetMirrors(n.mirrors(cfg))
	n.holds.DropUnclaimed()
	n.holds.Start()
	n.server = n.front.Server(n.Overview)
	n.onStop("frontend", n.closeFrontend)
	for _, l := range listeners {
		n.serve(l)
	}
	return nil
}

func (n *Node) startAdmin(ctx context.Context, cfg *config.Config) error {
	server, err := admin.Listen(ctx, admin.Config{
		Settings: cfg.Admin, Socket: admin.SocketIn(cfg.StateDir()),
		Node: n.Operator, Metrics: n.metrics, Failed: n.life.fail,
	})
	if err != nil {
		return err
	}
	n.onStop("admin", func(context.Context) error { return server.Close() })
	n.admin.Store(server)
	n.life.listens.Add(server.TCP()...)
	return nil
}

// startCluster meets the other nodes, and returns when this one owns its share.
func (n *Node) startCluster(ctx context.Context, cfg *config.Config) error {
	c := n.cluster
	n.onStop("peers", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, n.table.Config().Drain.Timeout)
		defer cancel()
		return c.StopServing(ctx)
	})
	n.onStop("gossip", c.Disconnect)
	n.life.listens.Add(cfg.Cluster.GossipListen, cfg.Cluster.PeerListen)
	rooms := cluster.Rooms{
		Catalog: n.catalog, Objects: loops.Objects{Fetcher: n.fetcher, Loops: n.loops}, Store: n.store, Snapshots: n.snapshots, Upstream: n.upstream, State: n.state,
		Report: n.Report, Mirror: n.ServeMirror, Ensure: func(archive, node string) { _ = n.archives.Ensure(archive, "node "+node) },
	}
	return c.Start(ctx, rooms, n.table.Config, n.register)
}

// serve answers requests on l until the frontend is closed.
func (n *Node) serve(l net.Listener) {
	n.life.hosts.Add(l.Addr().String())
	n.life.listens.Add(l.Addr().String())
	go func() {
		if err := n.server.Serve(n.front.Listener(l)); !errors.Is(err, http.ErrServerClosed) {
			n.life.fail(fmt.Errorf("the listener at %s ended: %w", l.Addr(), err))
		}
	}()
}

// Addrs are the addresses that hosts connect to, with the real ports.
func (n *Node) Addrs() []string { return n.life.Addrs() }

// AdminAddr is the address of the admin interface, as an admin.Client wants it;
// "" when it is off.
func (n *Node) AdminAddr() string {
	if server := n.admin.Load(); server != nil {
		return server.Addr()
	}
	return ""
}

// Wait returns a channel that gets the error which ended the node by itself.
func (n *Node) Wait() <-chan error { return n.life.failed }

// Leaving returns a channel that is closed when an operator asked the node to leave.
func (n *Node) Leaving() <-chan struct{} { return n.life.leaving }

// Reload puts a new configuration in force, as far as that can be done while the
// node runs: archives, keys, credentials, upstream limits, certificates, the log
// level. It returns which keys were applied and which wait for a restart. After an
// error everything is as it was before.
func (n *Node) Reload(cfg *config.Config) (applied, needRestart []string, err error) {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	applied, needRestart, next := config.Change(n.archives.Configured(), cfg)
	err = n.archives.Reload(next, func() error {
		if len(next.TLS.Listen) > 0 {
			if err := n.certificate.Load(next.TLS.Cert, next.TLS.Key); err != nil {
				return err
			}
		}
		if n.cluster != nil {
			return n.cluster.Reload(next)
		}
		return nil
	})
	if err != nil {
		n.life.reloadFailed(err)
		return nil, nil, err
	}
	n.life.reload.Store(&reload{restart: needRestart})
	n.prefetch.Reconfigure(next.Prefetch)
	n.holds.SetMirrors(n.mirrors(next))
	if n.opts.Level != nil {
		n.opts.Level.Set(next.Log.SlogLevel())
	}
	return applied, needRestart, nil
}

// ReloadFailed notes that the configuration could not even be read for a reload, so that status shows it.
func (n *Node) ReloadFailed(err error) { n.life.reloadFailed(err) }

// Stop drains and stops the node: it stops being ready, goes on serving for the
// configured delay, leaves its cluster and hands off its last copies, answers new
// requests with 503, lets the running ones finish within the configured time and ctx, and
// then stops the rooms in the reverse of the order in which they started. It returns the
// errors, but none of them ends it.
func (n *Node) Stop(ctx context.Context) error {
	var errs []error
	if n.life.ready.Swap(false) {
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

// leave waits until load balancers send hosts to other nodes, and leaves the cluster.
func (n *Node) leave(ctx context.Context) error {
	drain := n.table.Config().Drain
	if drain.Delay > 0 {
		n.life.stopping("waits %s for health checks to notice that it is not ready", drain.Delay)
		select {
		case <-time.After(drain.Delay):
		case <-ctx.Done():
		}
	}
	if n.cluster == nil {
		return nil
	}
	n.life.stopping("tells the others that it leaves, and hands on what only it holds, for %s at most", drain.Handoff)
	return n.cluster.Leave(ctx, drain.Handoff)
}

// closeFrontend lets running requests finish. Until then new requests get 503, which tells
// a client more than a refused connection.
func (n *Node) closeFrontend(ctx context.Context) error {
	timeout := n.table.Config().Drain.Timeout
	n.life.stopping("lets running requests finish, for %s at most", timeout)
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
