package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/pki"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/peerfetch"
	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

var (
	_ peerfetch.Cluster  = (*peers.Mesh)(nil)
	_ peers.Handler      = (*peerfetch.Fetcher)(nil)
	_ catalog.Cluster    = (*cluster)(nil)
	_ blobstore.Observer = observer{}
)

// cluster is this node's part in a cluster: it joins the gossip, the peers, and
// the rooms that use them. A node that stands alone has none.
type cluster struct {
	cfg        config.Cluster
	name       string // of this node
	datacenter string
	log        *slog.Logger
	creds      *pki.Credentials // nil where insecure
	local      *holdings.Local
	mesh       *peers.Mesh
	members    *ring.Members
	catalog    *catalog.Catalog
	fetcher    *peerfetch.Fetcher
	store      *blobstore.Store
	watch      *stuckWatch          // of store
	ensure     func(archive string) // has an archive of a class served that another node names
	upstream   *upstream.Client
	loops      *loops
	limits     atomic.Pointer[limits]
	status     func() []byte // of this node alone, as JSON
	left       atomic.Bool   // it has told the others that it leaves
	curtailed  atomic.Bool   // the state to exchange was too long the last time
	news       outbox[proto.Suite, proto.Announcement]
	alerts     outbox[string, proto.MirrorAlert] // by mirror
	early      earlyNews
	met        chan struct{} // closed when the others are known
	shares     sharing
	known      knownNodes
}

// newCluster makes the connections to the others, but meets nobody yet. The rooms
// it serves are set before start.
func newCluster(cfg *config.Config, opts Options, log *slog.Logger) (*cluster, error) {
	c := &cluster{cfg: cfg.Cluster, name: opts.Name, datacenter: cfg.Datacenter(), log: log, local: holdings.NewLocal()}
	var trust *peers.TLS
	if cfg.Cluster.CA != "" {
		creds, err := pki.NewCredentials(pki.Files{CA: cfg.Cluster.CA, Cert: cfg.Cluster.Cert, Key: cfg.Cluster.Key}, opts.Name, log)
		if err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		c.creds = creds
		trust = &peers.TLS{Certificate: creds.Certificate, Roots: creds.Roots}
	}
	c.watch = newStuckWatch(log)
	config := peers.Config{
		Name: c.name, Listen: cfg.Cluster.PeerListen, TLS: trust, Logger: log,
		Handler: peerHandler{c}, Control: peerControl{c}, Local: c.local, RingFor: c.ringFor,
		Version: opts.Version, Stuck: c.watch.oldest,
	}
	if opts.TunePeers != nil {
		opts.TunePeers(&config)
	}
	mesh, err := peers.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: peer: %w", err)
	}
	c.mesh = mesh
	c.met = make(chan struct{})
	c.news.init()
	c.alerts.init()
	return c, nil
}

// ringFor is the ring whose nodes may go to the host of an archive's first mirror.
func (c *cluster) ringFor(v *ring.View, archive string) *ring.Ring {
	l := c.limits.Load()
	hosts := l.hosts[archive]
	if len(hosts) == 0 {
		return v.Ring
	}
	return v.RingFor(hosts[0], l.connections)
}

// elsewhere reports whether another live node is believed to hold a blob.
func (c *cluster) replicated(d proto.Digest) bool { return c.mesh.Replicated(d) }

// observer tells the summary of what is held what the store gains and loses.
type observer struct{ local *holdings.Local }

func (o observer) Added(d proto.Digest)   { o.local.Add(d) }
func (o observer) Removed(d proto.Digest) { o.local.Remove(d) }

// started tells the others at once what is being fetched from upstream, so that
// nobody else goes there for it; done with a fetch that failed takes that back.
func (c *cluster) started(d proto.Digest, going bool) {
	if going {
		c.local.Add(d)
	} else {
		c.local.Remove(d)
	}
}

// start joins the cluster and returns when this node owns its share, or has waited
// long enough for that.
func (c *cluster) start(ctx context.Context, opts Options, keys [][]byte, register func([]prometheus.Collector) error) error {
	at, err := c.peerAddr()
	if err != nil {
		return fmt.Errorf("cluster: peer: %w", err)
	}
	c.mesh.Serve()
	config := ring.Config{
		Name: c.name, Cluster: c.cfg.Name, Datacenter: c.datacenter,
		Bind: c.cfg.GossipListen, Advertise: c.cfg.Advertise, PeerAddr: at, Version: opts.Version,
		Seeds: c.cfg.Seeds, Known: c.known.read(), Keys: keys, Allowed: config.Networks(c.cfg.Allow), Logger: c.log,
		Received: c.heardGossip, LocalState: c.localState, MergeState: c.mergeState,
	}
	if opts.TuneGossip != nil {
		opts.TuneGossip(&config)
	}
	members, err := ring.Start(config)
	if err != nil {
		return fmt.Errorf("cluster: gossip: %w", err)
	}
	c.members = members
	if err := register(append(members.Collectors(), c.watch.collector())); err != nil {
		return err
	}
	c.members.OnChange(c.viewChanged)
	c.news.start(c.spreadNews())
	c.alerts.start(c.spreadAlerts)
	if err := c.members.Join(ctx); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	select {
	case <-c.members.Settled():
		c.catchUp(ctx)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// peerAddr is the address that the others fetch from: what is configured to be
// advertised, else the address listened on, else an address of the machine.
func (c *cluster) peerAddr() (string, error) {
	host, port, err := net.SplitHostPort(c.mesh.Addr())
	if err != nil {
		return "", err
	}
	gossip, _, _ := net.SplitHostPort(c.cfg.GossipListen)
	switch ip := net.ParseIP(host); {
	case c.cfg.Advertise != "":
		host = c.cfg.Advertise
	case ip == nil || !ip.IsUnspecified():
	case gossip != "" && !net.ParseIP(gossip).IsUnspecified():
		host = gossip
	default:
		own, err := ring.OwnAddress()
		if err != nil {
			return "", fmt.Errorf("no address of this machine could be found to tell the other nodes (set cluster.advertise): %w", err)
		}
		host = own.String()
	}
	return net.JoinHostPort(host, port), nil
}

// viewChanged follows the live membership.
func (c *cluster) viewChanged(v *ring.View) {
	c.known.write(c.members.Known())
	c.mesh.SetView(v)
	c.shareUpstream(v)
}

// Rank is part of catalog.Cluster. Before it has met the others, a node leads nothing.
func (c *cluster) Rank(id proto.Suite) int {
	select {
	case <-c.met:
	default:
		return suiteRanks
	}
	owners := c.suiteOwners(id)
	if i := slices.Index(owners, c.name); i >= 0 {
		return i
	}
	return len(owners)
}

// suiteRanks is how many nodes are in line for a suite.
const suiteRanks = 3

func (c *cluster) suiteOwners(id proto.Suite) []string {
	return c.mesh.Owners([]byte("suite:"+id.String()), suiteRanks)
}

// Ask is part of catalog.Cluster. It waits until the node has met the others.
func (c *cluster) CheckSuite(ctx context.Context, id proto.Suite, uses []string, fresh bool) (string, proto.Announcement, error) {
	select {
	case <-c.met:
	case <-ctx.Done():
		return "", proto.Announcement{}, context.Cause(ctx)
	}
	err := error(&proto.PeerFailed{Peer: "cluster", Err: errNobodyElse})
	for _, peer := range c.suiteOwners(id) {
		if peer == c.name {
			break // the next in line is this node
		}
		var news proto.Announcement
		news, err = c.mesh.CheckSuite(ctx, peer, id, uses, fresh)
		if !isPeerFailed(err) {
			return peer, news, err
		}
	}
	return "", proto.Announcement{}, err
}

// Lookup is part of catalog.Cluster.
func (c *cluster) Lookup(ctx context.Context, loc proto.Location) (proto.Ref, bool) {
	return c.mesh.Lookup(ctx, loc)
}

// Announce is part of catalog.Cluster.
func (c *cluster) Announce(n proto.Announcement) { c.tellNews(n) }

// leave tells the others that this node goes, and hands on what only it holds.
// It goes on serving meanwhile.
func (c *cluster) leave(ctx context.Context, handoff time.Duration) error {
	if c.members == nil || c.left.Swap(true) {
		return nil
	}
	if err := c.members.Leave(ctx); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, handoff)
	defer cancel()
	c.handOn(ctx)
	return nil
}

// depart says good-bye and ends the gossip; running transfers go on.
func (c *cluster) depart(ctx context.Context) error {
	c.hush()
	c.shares.stop()
	if c.members == nil {
		return nil
	}
	return c.members.Disconnect(ctx)
}

// hush ends all telling.
func (c *cluster) hush() {
	c.news.stop()
	c.alerts.stop()
}

// peerHandler and peerControl are what other nodes may ask of this one.
type (
	peerHandler struct{ c *cluster }
	peerControl struct{ c *cluster }
)

func (h peerHandler) ServePeer(ctx context.Context, from string, ask proto.PeerRequest) (*proto.Blob, error) {
	for loc := range ask.Object.Where.All() {
		h.c.ensure(loc.Archive)
	}
	return h.c.loops.servePeer(ctx, ask, func() (*proto.Blob, error) { return h.c.fetcher.ServePeer(ctx, from, ask) })
}

func (p peerControl) ReceiveAnnouncements(from string, news []proto.Announcement) {
	p.c.catalog.Receive(from, news...)
}

func (p peerControl) ReceiveAlerts(_ string, troubles []proto.MirrorAlert) {
	p.c.receiveAlerts(troubles)
}

func (p peerControl) Alerts() []proto.MirrorAlert { return p.c.ownAlerts() }

func (p peerControl) ServeCheck(ctx context.Context, _ string, id proto.Suite, uses []string, fresh bool) (proto.Announcement, error) {
	p.c.ensure(id.Archive)
	return p.c.catalog.ServeCheck(ctx, id, uses, fresh)
}

func (p peerControl) ReceiveOffer(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest {
	for _, offer := range offers {
		for loc := range offer.Where.All() {
			p.c.ensure(loc.Archive)
		}
	}
	return p.c.takeOver(ctx, from, offers)
}

// Lookup answers from what is held, and counts as nobody's use of it.
func (p peerControl) Lookup(loc proto.Location) (proto.Ref, bool) {
	e, ok := p.c.catalog.Explain(loc)
	return e.Object.Ref, ok && e.Listed && !e.Object.Ref.IsZero()
}

func (p peerControl) LocalStatus(context.Context) []byte { return p.c.status() }

// serve gives the cluster the rooms that other nodes' requests lead to.
func (c *cluster) serve(n *Node) {
	c.store, c.fetcher, c.upstream = n.store, n.fetcher, n.upstream
	c.status = n.localStatus
	c.known = knownNodes{state: n.state, log: n.log}
	// What cannot be made is refused as an archive that nobody knows.
	c.ensure = func(archive string) { _ = n.ensure(archive) }
	c.limit(n.cfg)
}

// startCluster meets the other nodes, and returns when this one owns its share.
func (n *Node) startCluster(ctx context.Context) error {
	c := n.cluster
	var keys [][]byte
	if file := n.cfg.Cluster.GossipKey; file != "" {
		var err error
		if keys, err = pki.ReadGossipKeys(file); err != nil {
			return fmt.Errorf("cluster: gossip_key: %w", err)
		}
	}
	c.catalog = n.catalog
	c.watch.start()
	n.onStop("watch of the store", func(context.Context) error { c.watch.stop(); return nil })
	n.onStop("peers", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(n.drain().Timeout))
		defer cancel()
		return c.mesh.Stop(ctx)
	})
	n.onStop("gossip", c.depart)
	return c.start(ctx, n.opts, keys, n.registerAll)
}

// rekey takes up other keys and certificates, or changes nothing and says why.
func (c *cluster) rekey(cfg *config.Config) error {
	if c.creds == nil || !cfg.Cluster.Secured() {
		return nil // becoming one or the other waits for a restart
	}
	keys, err := pki.ReadGossipKeys(cfg.Cluster.GossipKey)
	if err != nil {
		return fmt.Errorf("cluster: gossip_key: %w", err)
	}
	if err := c.creds.Use(pki.Files{CA: cfg.Cluster.CA, Cert: cfg.Cluster.Cert, Key: cfg.Cluster.Key}); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if c.members == nil {
		return nil
	}
	if err := c.members.SetKeys(keys); err != nil {
		return fmt.Errorf("cluster: gossip_key: %w", err)
	}
	return nil
}
