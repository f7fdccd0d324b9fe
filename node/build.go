package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/node/loops"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/operator"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/node/statedir"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/peerfetch"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
)

// The fit of the rooms is stated where they are joined.
var (
	_ front.Fetcher      = (*peerfetch.Fetcher)(nil)
	_ front.Catalog      = (*catalog.Catalog)(nil)
	_ front.Snapshots    = (*snapshot.Keeper)(nil)
	_ snapshot.Catalog   = snapshotCatalog{}
	_ snapshot.Cluster   = (*peers.Mesh)(nil)
	_ cluster.Snapshots  = (*snapshot.Keeper)(nil)
	_ snapshot.Store     = (*blobstore.Store)(nil)
	_ holds.Catalog      = (*catalog.Catalog)(nil)
	_ snapshot.Holds     = (*holds.Keeper)(nil)
	_ holds.Store        = holdsStore{}
	_ catalog.Blobs      = (*peerfetch.Fetcher)(nil)
	_ catalog.Upstream   = archives.Source{}
	_ catalog.Store      = archives.Store{}
	_ catalog.Cluster    = (*cluster.Cluster)(nil)
	_ catalog.State      = (*statedir.Dir)(nil)
	_ blobstore.Observer = (*cluster.Cluster)(nil)
	_ peerfetch.Source   = archives.Source{}
	_ peerfetch.Store    = fetcherStore{}
	_ archives.Upstream  = (*upstream.Client)(nil)
	_ archives.Catalog   = (*catalog.Catalog)(nil)
	_ archives.Front     = (*front.Front)(nil)
	_ archives.Cluster   = (*cluster.Cluster)(nil)
)

// build makes the rooms, each with those that it needs. The line after the one that starts a room
// registers what stops it. The rooms get their archives together, when the last room is there.
func (n *Node) build(cfg *config.Config) (err error) {
	if cfg.Cluster.Name != "" {
		if n.cluster, err = cluster.New(cluster.Config{
			Config: cfg, Name: n.opts.Name, Version: n.opts.Version, Logger: n.log,
			TuneGossip: n.opts.TuneGossip, TunePeers: n.opts.TunePeers,
		}); err != nil {
			return err
		}
		n.onStop("peer connections", func(context.Context) error { return n.cluster.Close() })
	}
	if err := n.openDirectories(cfg); err != nil {
		return err
	}
	n.table = archives.NewTable(cfg, n.state, n.log)

	client := n.clientConfig(cfg)
	if n.upstream, err = upstream.New(client); err != nil {
		return err
	}
	n.onStop("upstream", closed(n.upstream.Close))
	reader := &mirrorlist.Reader{
		Config: n.table.Config, Listens: client.Listens,
		Header: http.Header{"User-Agent": {client.UserAgent}, "Via": {"1.1 " + client.Pseudonym}},
	}
	lists := mirrorlist.New(mirrorlist.Config{Read: reader.Read, State: n.state, Logger: n.log})
	source := archives.Source{Client: n.upstream, Table: n.table, Lists: lists}

	n.fetcher = peerfetch.New(n.fetcherConfig(source))
	n.onStop("flights", closed(n.fetcher.Close))

	if n.prefetch, err = prefetch.New(n.prefetchConfig(cfg)); err != nil {
		return err
	}
	n.onStop("prefetch", func(context.Context) error { return n.prefetch.Close() })

	believing := n.catalogConfig(cfg, source)
	believing.Witness = reader.Metalink
	if n.catalog, err = catalog.New(believing); err != nil {
		return err
	}
	n.onStop("catalog", closed(n.catalog.Close))

	if n.holds, err = holds.New(n.holdsConfig()); err != nil {
		return err
	}
	n.onStop("holds", func(context.Context) error { return n.holds.Close() })

	keeping := snapshot.Config{
		Node: n.opts.Name, Catalog: snapshotCatalog{n.catalog}, Store: n.store, Holds: n.holds, State: n.state, Logger: n.log, Now: time.Now,
	}
	if n.cluster != nil {
		keeping.Cluster = n.cluster.Mesh()
	}
	keeping.Schedule = snapshot.Schedule{
		Rules: func() (rules snapshotconf.Settings) {
			if n.life.Ready() { // and there is an Operator
				rules = n.table.Config().Snapshots.Schedule
			}
			return rules
		},
		Take: func(ctx context.Context, name string, rule snapshotconf.Auto, as snapshot.Plan) error {
			return n.TakeSnapshot(ctx, name, rule, as)
		},
		Failing: func() bool { return n.Failing() },
	}
	if n.snapshots, err = snapshot.New(keeping); err != nil {
		return err
	}
	n.onStop("snapshots", func(context.Context) error { return n.snapshots.Close() })

	if n.front, err = front.New(n.frontConfig(cfg), n.catalog, n.fetcher); err != nil {
		return err
	}
	n.onStop("front", func(context.Context) error { return n.front.Close() })

	client.Dates = func(ctx context.Context, loc proto.Location) []time.Time {
		dates := n.catalog.Dates(loc)
		if n.table.FormatOf(loc.Archive).PathInfo(loc.Path).Package { // to open a snapshot, its indexes are read
			dates = append(dates, n.snapshots.Dates(ctx, loc)...)
		}
		return dates
	}
	told := archives.Config{
		Configured: cfg, Table: n.table, Lists: lists, Client: client,
		Upstream: n.upstream, Catalog: n.catalog, Front: n.front, State: n.state, Logger: n.log,
	}
	if n.cluster != nil {
		told.Cluster = n.cluster
	}
	if n.archives, err = archives.New(told); err != nil {
		return err
	}
	n.Operator = operator.New(operator.Config{
		Name: n.opts.Name, Version: n.opts.Version, Node: n.life, Logger: n.log,
		Archives: n.table, Catalog: n.catalog, Cluster: n.cluster, Fetcher: n.fetcher, Front: n.front,
		Holds: n.holds, Prefetch: n.prefetch, Snapshots: n.snapshots, State: n.state, Store: n.store, Upstream: n.upstream,
	})
	n.onStop("imports", closed(n.Operator.Close))
	return n.registerRooms()
}

// stateFormat is the format of the state directory, and tablesFormat that of the package tables. One is
// raised whenever an older program that rewrites such a file would lose or misread something. The program
// that raises it has to convert what the older one wrote.
const stateFormat, tablesFormat = 1, 1

// openDirectories opens the store, the state and the package tables. Those of another format are
// refused before anything is written.
func (n *Node) openDirectories(cfg *config.Config) (err error) {
	program := "aptmesh " + n.opts.Version
	tables := statedir.Config{Dir: filepath.Join(cfg.Data, "tables"), Format: tablesFormat, Program: program}
	state := statedir.Config{Dir: cfg.StateDir(), Format: stateFormat, Program: program}
	if err := statedir.Check(tables.Dir, tables.Format); err != nil {
		return fmt.Errorf("%w (`data:` or --data names the directory above it)", err)
	}
	if err := statedir.Check(state.Dir, state.Format); err != nil {
		return fmt.Errorf("%w (`state:` or --state names the directory)", err)
	}
	storing, err := cfg.Cache.Config(cfg.Data)
	if err != nil {
		return fmt.Errorf("data: %w (choose another directory with `data:` or --data)", err)
	}
	storing.Logger = n.log
	if n.cluster != nil {
		storing.Observer, storing.Replicated = n.cluster, n.cluster.Replicated
	}
	if n.store, err = blobstore.Open(storing); err != nil {
		return notOurs(err, "data", cfg.Data)
	}
	n.onStop("store", func(context.Context) error { return n.store.Close() })
	if n.tables, err = statedir.Open(tables); err != nil {
		return notOurs(err, "data", cfg.Data)
	}
	n.onStop("package tables", func(context.Context) error { return n.tables.Close() })
	if n.state, err = statedir.Open(state); err != nil {
		return notOurs(err, "state", state.Dir)
	}
	n.onStop("state", func(context.Context) error { return n.state.Close() })
	return nil
}

// notOurs says which key names a directory that cannot be opened, and whose it has to be.
func notOurs(err error, key, dir string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (`%s:` or --%s names the directory)", err, key, key)
	}
	owner := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("%w (`%s:` or --%s names the directory; all of it must belong to the user of this node: chown -R %s %s)", err, key, key, owner, dir)
}

// clientConfig is for the HTTP client of the archives, without the archives.
func (n *Node) clientConfig(cfg *config.Config) upstream.Config {
	c := upstream.Config{
		Settings: cfg.UpstreamClient, Logger: n.log, UserAgent: upstream.DefaultUserAgent, Listens: n.life.listens.Parsed,
		Pseudonym: n.loops.Pseudonym, Via: n.loops.Via,
	}
	if n.opts.Version != "" {
		c.UserAgent = "aptmesh/" + n.opts.Version + " (+https://github.com/aptmesh/aptmesh)"
	}
	if n.cluster != nil {
		c.OnAlert = n.cluster.SendAlert
	}
	return c
}

func (n *Node) fetcherConfig(source archives.Source) peerfetch.Config {
	c := peerfetch.Config{
		Store: fetcherStore{n.store}, Upstream: source, Logger: n.log, Notes: n.tables,
		Restricted: n.table.Restricted, ServeStale: n.table.ServeStale, Immutable: n.table.Immutable,
	}
	if n.cluster != nil {
		c.Cluster, c.Started = loops.Cluster{Mesh: n.cluster.Mesh(), Loops: n.loops}, n.cluster.Started
	}
	return c
}

// prefetchConfig: in a cluster each node fetches what its own clients use, through flights like any
// other, so that the owners get it from upstream once for all.
func (n *Node) prefetchConfig(cfg *config.Config) prefetch.Config {
	return prefetch.Config{
		Formats: func(archive string) prefetch.Format { return n.table.FormatOf(archive) },
		Open:    n.fetcher.Open,
		Stored: func(want proto.ObjectRequest) bool {
			tier, _ := n.fetcher.Stored(want)
			return tier != ""
		},
		State: n.state, Logger: n.log, Settings: cfg.Prefetch,
	}
}

func (n *Node) catalogConfig(cfg *config.Config, source archives.Source) catalog.Config {
	c := catalog.Config{
		Blobs: n.fetcher, Upstream: source, Store: archives.Store{Store: n.store, Table: n.table},
		State: n.state, Tables: n.tables, Scratch: n.tables.Scratch, Logger: n.log, Switched: n.switched,
		Retain: cfg.Retain, Stale: cfg.Stale,
	}
	if n.cluster != nil {
		c.Cluster, c.LeaderVouches = n.cluster, cfg.Cluster.Secured()
	}
	return c
}

// holdsConfig is for the room of holds, which fetches as prefetch does.
func (n *Node) holdsConfig() holds.Config {
	c := holds.Config{
		Node: n.opts.Name, Catalog: n.catalog, Store: holdsStore{n.store}, State: n.state, Logger: n.log,
		Formats: func(archive string) want.Format { // not an interface around nil
			if !n.table.Has(archive) {
				return nil
			}
			return n.table.FormatOf(archive)
		},
		Open: n.fetcher.Open,
		Stored: func(object proto.ObjectRequest) bool {
			tier, _ := n.fetcher.Stored(object)
			return tier != ""
		},
		Used:      func(archive, path string) bool { return n.prefetch.InUse(proto.Location{Archive: archive, Path: path}) },
		MaxPinned: func(limit int64) int64 { return n.table.Config().Snapshots.MaxPinned.Of(limit) },
	}
	if n.cluster != nil {
		mesh := n.cluster.Mesh()
		c.Holders = mesh.Holders
		c.Ring = func() holds.Ring {
			if v := mesh.View(); v != nil && v.Ring != nil {
				return v.Ring
			}
			return nil
		}
	}
	if n.opts.TuneHolds != nil {
		n.opts.TuneHolds(&c)
	}
	return c
}

// mirrors are the mirrors of a configuration, with their suites as the formats of their archives name them.
func (n *Node) mirrors(cfg *config.Config) (all []holds.Mirror) {
	for _, m := range cfg.Mirrors {
		if !n.table.Has(m.Archive) {
			continue // it was checked; the archives of the machine have changed since
		}
		mirror := holds.Mirror{Mirror: m}
		for _, name := range m.Suites {
			id := n.table.FormatOf(m.Archive).SuiteNamed(name)
			id.Archive = m.Archive
			mirror.IDs = append(mirror.IDs, id)
		}
		all = append(all, mirror)
	}
	return all
}

// switched is called for every generation that this node begins to serve.
func (n *Node) switched(s proto.Switch) {
	// What upstream did not have may be there now, and what nothing signs may have changed.
	n.fetcher.ArchiveChanged(s.Suite.Archive)
	n.table.Proven(s.Suite.Archive)
	if h := n.holding.Load(); h != nil {
		h.Switched(s.Suite)
	}
	if len(s.Indexes) > 0 {
		n.prefetch.Switched(s)
	}
}

func (n *Node) frontConfig(cfg *config.Config) front.Config {
	c := front.Config{
		Names: []string{"localhost", n.opts.Name}, Listens: n.life.hosts.All, Node: n.opts.Name, ArchiveRoot: deb.ArchiveRoot,
		Snapshots: n.snapshots, Served: n.prefetch.Used, Pseudonym: n.loops.Pseudonym, Waits: n.loops.Wait, Dial: n.upstream.Tunnel,
		Logger: n.log, AccessFormat: cfg.Log.Format,
	}
	if cfg.Log.Access {
		c.AccessLog = n.opts.AccessLog
	}
	return c
}

// registerRooms collects the metrics of all rooms.
func (n *Node) registerRooms() error {
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_build_info", Help: "Constant 1, with the version.", ConstLabels: prometheus.Labels{"version": n.opts.Version},
	}, func() float64 { return 1 })
	all := []prometheus.Collector{
		info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	rooms := []interface{ Collectors() []prometheus.Collector }{n.life, n.store, n.state, n.upstream, n.fetcher, n.prefetch, n.catalog, n.holds, n.front, n.archives, n.snapshots}
	if n.cluster != nil {
		rooms = append(rooms, n.cluster)
	}
	for _, room := range rooms {
		all = append(all, room.Collectors()...)
	}
	return n.register(all)
}

func (n *Node) register(all []prometheus.Collector) error {
	for _, c := range all {
		if err := n.metrics.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// fetcherStore is the store as the fetcher uses it, whose Writer is an interface.
type fetcherStore struct{ *blobstore.Store }

func (s fetcherStore) Create(size int64) (peerfetch.Writer, error) { return s.Store.Create(size) }

func (s fetcherStore) Resume(ref proto.Ref, from string) (peerfetch.Writer, error) {
	return s.Store.Resume(ref, from)
}

// holdsStore is the store as holds use it, whose Held is theirs.
type holdsStore struct{ *blobstore.Store }

func (s holdsStore) Hold(set holds.Held) { s.Store.Hold(set) }

// snapshotCatalog is the catalog as snapshots use it, whose Frozen is an interface.
type snapshotCatalog struct{ *catalog.Catalog }

func (c snapshotCatalog) Freeze(ctx context.Context, archive string, at time.Time, suites []proto.Captured) (snapshot.Frozen, []proto.Missing, error) {
	f, missing, err := c.Catalog.Freeze(ctx, archive, at, suites)
	if err != nil {
		return nil, nil, err
	}
	return f, missing, nil
}
