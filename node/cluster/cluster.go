package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/cluster/clusterconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/pki"
	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// The rooms of a node that other nodes' requests lead to, as far as they do.
type (
	// Catalog believes things of suites.
	Catalog interface {
		// Receive takes what a node says directly, ReceiveHearsay what came by gossip.
		Receive(from string, news ...proto.Announcement)
		ReceiveHearsay(from string, news ...proto.Announcement)
		ServeCheck(ctx context.Context, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error)
		Announcements() []proto.Announcement
		// Following reports whether something that was received is being adopted.
		Following() bool
		Explain(loc proto.Location) (proto.Resolution, bool)
	}
	// Objects fetches and serves what is asked for.
	Objects interface {
		peers.Handler
		Open(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error)
	}
	// Store has blobs by digest.
	Store interface {
		Has(d proto.Digest) bool
		// LastCopies are the blobs that no other node has, Only the archives through
		// which alone a blob may be given.
		LastCopies(replicated func(proto.Digest) bool) iter.Seq[proto.Ref]
		Only(d proto.Digest) []string
		// Stuck is for how long its oldest operation has been running.
		Stuck() time.Duration
	}
	// Snapshots has names for archives as they were.
	Snapshots interface {
		Sum() uint64
		// Serve takes in what a node knows, and says what is known here.
		Serve(from string, told proto.SnapshotNews) (proto.SnapshotNews, error)
		// Meet exchanges names with a node soon. It does not wait.
		Meet(node string)
		// MeetAll exchanges names with all nodes that answer, and waits; it names those with which it failed.
		MeetAll(ctx context.Context) (unreached []string)
	}
	// Upstream is the client of the archives.
	Upstream interface {
		HostsOf(archive string) []string
		SetShare(connections func(host string) int, bytesPerSecond int64)
		Alerts() []proto.MirrorAlert
		ReceiveAlert(a proto.MirrorAlert)
	}
)

// Rooms are what a cluster works for, once it starts.
type Rooms struct {
	Catalog   Catalog
	Objects   Objects
	Snapshots Snapshots
	Store     Store
	Upstream  Upstream
	State     State
	// Ensure has an archive of a class served that another node names. What cannot be
	// made is refused later, as an archive that nobody knows.
	Ensure func(archive, node string)
	// Mirror does something for a mirror (status, run or verify), and says how it is here.
	Mirror func(name, act string) ([]byte, error)
	// Report is this node's own part of the cluster's status.
	Report func() Report
}

// Config is what New needs.
type Config struct {
	*config.Config
	Name    string // of this node
	Version string
	Logger  *slog.Logger
	// TuneGossip and TunePeers, if set, change how the node takes part: for tests.
	TuneGossip func(*ring.Config)
	TunePeers  func(*peers.Config)
}

// Cluster is this node's part in a cluster. A node that stands alone has none.
type Cluster struct {
	cfg        clusterconf.Settings
	tune       func(*ring.Config)
	name       string // of this node
	datacenter string
	version    string
	log        *slog.Logger
	creds      *pki.Credentials // nil where insecure
	local      *holdings.Local
	mesh       *peers.Mesh
	rooms      Rooms // from Start on
	known      knownNodes
	joined     atomic.Pointer[ring.Members] // nil before Start
	limits     atomic.Pointer[limits]
	shared     atomic.Pointer[map[string]string] // see sharedConfiguration
	left       atomic.Bool                       // it has announced that it leaves
	curtailed  atomic.Bool                       // the state to exchange was too long the last time
	outgoing   outbox[proto.Suite, proto.Announcement]
	alerts     outbox[string, proto.MirrorAlert] // by mirror
	early      earlyAnnouncements
	met        chan struct{} // closed when the others are known
	shares     sharing
}

// New makes the connections to the others, but meets nobody yet.
func New(cfg Config) (*Cluster, error) {
	c := &Cluster{
		cfg: cfg.Cluster, tune: cfg.TuneGossip, name: cfg.Name, datacenter: cfg.Datacenter(), version: cfg.Version, log: cfg.Logger,
		local: holdings.NewLocal(), met: make(chan struct{}),
	}
	c.outgoing.init()
	c.alerts.init()
	c.limits.Store(&limits{connections: cfg.UpstreamClient.ConnectionsPerHost, bytesPerSecond: cfg.UpstreamClient.Rate})
	shared, err := sharedConfiguration(cfg.Config)
	if err != nil {
		return nil, err
	}
	c.shared.Store(&shared)
	var trust *peers.TLS
	if cfg.Cluster.CA != "" {
		creds, err := pki.NewCredentials(pki.Files{CA: cfg.Cluster.CA, Cert: cfg.Cluster.Cert, Key: cfg.Cluster.Key}, c.name, c.log)
		if err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		c.creds = creds
		trust = &peers.TLS{Certificate: creds.Certificate, Roots: creds.Roots}
	}
	config := peers.Config{
		Name: c.name, Listen: cfg.Cluster.PeerListen, TLS: trust, Logger: c.log,
		Handler: handler{c}, Control: handler{c}, Local: c.local, RingFor: c.ringFor,
		Version: cfg.Version, Stuck: func() time.Duration { return c.rooms.Store.Stuck() },
	}
	if cfg.TunePeers != nil {
		cfg.TunePeers(&config)
	}
	if c.mesh, err = peers.New(config); err != nil {
		return nil, fmt.Errorf("cluster.peer_listen: %w", err)
	}
	return c, nil
}

// Mesh is the other nodes as sources of objects.
func (c *Cluster) Mesh() *peers.Mesh { return c.mesh }

// members is the gossip; nil before Start.
func (c *Cluster) members() *ring.Members { return c.joined.Load() }

// Collectors returns the metrics that exist before Start, for the caller to register.
func (c *Cluster) Collectors() []prometheus.Collector {
	all := c.mesh.Collectors()
	if c.creds != nil {
		all = append(all, c.creds.Collectors()...)
	}
	return all
}

// ringFor is the ring of the nodes that may go to the host of an archive's first mirror.
func (c *Cluster) ringFor(v *ring.View, archive string) *ring.Ring {
	l := c.limits.Load()
	hosts := l.hosts[archive]
	if len(hosts) == 0 {
		return v.Ring
	}
	return v.RingFor(hosts[0], l.connections)
}

// Replicated reports whether another live node is believed to hold a blob.
func (c *Cluster) Replicated(d proto.Digest) bool { return c.mesh.Replicated(d) }

// Added and Removed update the summary of what is stored here.
func (c *Cluster) Added(d proto.Digest)   { c.local.Add(d) }
func (c *Cluster) Removed(d proto.Digest) { c.local.Remove(d) }

// Started publishes at once what this node fetches from upstream, so that no other node
// goes there for it. Calling done after a fetch that failed withdraws it.
func (c *Cluster) Started(d proto.Digest, going bool) {
	if going {
		c.local.Add(d)
	} else {
		c.local.Remove(d)
	}
}

// Start joins the cluster, for these rooms. It returns when this node owns its share, or
// has waited long enough for that. register is called with the metrics of the gossip.
func (c *Cluster) Start(ctx context.Context, rooms Rooms, cfg func() *config.Config, register func([]prometheus.Collector) error) error {
	var keys [][]byte
	if file := c.cfg.GossipKey; file != "" {
		var err error
		if keys, err = pki.ReadGossipKeys(file); err != nil {
			return fmt.Errorf("cluster.gossip_key: %w", err)
		}
	}
	c.rooms, c.known = rooms, knownNodes{state: rooms.State, log: c.log}
	c.limit(cfg())
	at, err := c.peerAddr()
	if err != nil {
		return fmt.Errorf("cluster.peer_listen: %w", err)
	}
	c.mesh.Serve()
	config := ring.Config{
		Name: c.name, Cluster: c.cfg.Name, Datacenter: c.datacenter,
		Bind: c.cfg.GossipListen, Advertise: c.cfg.Advertise, PeerAddr: at, Version: c.version,
		Seeds: c.cfg.Seeds, Known: c.known.read(), Keys: keys, Allowed: c.cfg.Allow, Logger: c.log,
		Received: c.receiveGossip, LocalState: c.localState, MergeState: c.mergeState,
	}
	if c.tune != nil {
		c.tune(&config)
	}
	members, err := ring.Start(config)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	c.joined.Store(members)
	c.limit(cfg()) // an archive of a class may have been made meanwhile
	if err := register(members.Collectors()); err != nil {
		return err
	}
	c.members().OnChange(c.viewChanged)
	c.outgoing.start(c.spreadAnnouncements())
	c.alerts.start(c.spreadAlerts)
	if err := c.members().Join(ctx); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	select {
	case <-c.members().Settled():
		c.catchUp(ctx)
		c.rooms.Snapshots.MeetAll(ctx)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// peerAddr is the address that the others fetch from: what is configured to be
// advertised, else the address listened on, else an address of the machine.
func (c *Cluster) peerAddr() (string, error) {
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
func (c *Cluster) viewChanged(v *ring.View) {
	c.known.write(c.members().Known())
	c.mesh.SetView(v)
	c.shareUpstream(v)
}

// Rank is part of catalog.Cluster. Before it has met the others, a node leads nothing.
func (c *Cluster) Rank(id proto.Suite) int {
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

func (c *Cluster) suiteOwners(id proto.Suite) []string {
	return c.mesh.Owners([]byte("suite:"+id.String()), suiteRanks)
}

// CheckSuite is part of catalog.Cluster. It waits until the node has met the others.
func (c *Cluster) CheckSuite(ctx context.Context, id proto.Suite, uses []string, fresh bool) (string, proto.Announcement, error) {
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
func (c *Cluster) Lookup(ctx context.Context, loc proto.Location) (proto.Ref, bool) {
	return c.mesh.Lookup(ctx, loc)
}

// Announce is part of catalog.Cluster.
func (c *Cluster) Announce(n proto.Announcement) { c.announce(n) }

// Leave announces that this node leaves, and hands off the last copies that it stores. The
// node still serves in the meantime.
func (c *Cluster) Leave(ctx context.Context, handoff time.Duration) error {
	if c.members() == nil || c.left.Swap(true) {
		return nil
	}
	if err := c.members().Leave(ctx); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, handoff)
	defer cancel()
	c.handOff(ctx)
	return nil
}

// Disconnect says good-bye and ends the gossip; running transfers go on.
func (c *Cluster) Disconnect(ctx context.Context) error {
	c.quiesce()
	c.shares.stop()
	if c.members() == nil {
		return nil
	}
	return c.members().Disconnect(ctx)
}

// quiesce ends all sending.
func (c *Cluster) quiesce() {
	c.outgoing.stop()
	c.alerts.stop()
}

// StopServing lets the transfers to other nodes finish within ctx.
func (c *Cluster) StopServing(ctx context.Context) error { return c.mesh.Stop(ctx) }

// Close ends everything without a farewell: to the others this node has failed, unless
// it has disconnected before.
func (c *Cluster) Close() error {
	c.quiesce()
	c.shares.stop()
	var err error
	if m := c.members(); m != nil {
		err = m.Close()
	}
	return errors.Join(err, c.mesh.Close())
}

// GossipAddr and PeerAddr are where other nodes reach this one, after Start.
func (c *Cluster) GossipAddr() string { return c.members().Addr() }
func (c *Cluster) PeerAddr() string   { return c.mesh.Addr() }

// Remove has a missing node forgotten by all nodes; the error is a sentence for the
// operator.
func (c *Cluster) Remove(name string) error {
	m := c.members()
	if m == nil {
		return errors.New("this node has not joined its cluster yet")
	}
	switch err := m.Remove(name); {
	case errors.Is(err, ring.ErrPresent):
		return fmt.Errorf("%s is a member of the cluster: run `aptmesh leave` there, or end it and wait until it is missing", name)
	case errors.Is(err, ring.ErrUnknown):
		var missing []string
		for _, node := range m.View().Missing {
			missing = append(missing, node.Name)
		}
		return fmt.Errorf("no node called %q is missing (missing: %s)", name, cmp.Or(strings.Join(missing, ", "), "none"))
	default:
		return err
	}
}

// Reload takes up other keys, certificates and shared settings, or changes nothing and
// says why. Call Relimit when upstream knows the new configuration.
func (c *Cluster) Reload(cfg *config.Config) error {
	shared, err := sharedConfiguration(cfg)
	if err != nil {
		return err
	}
	if err := c.rekey(cfg); err != nil {
		return err
	}
	c.shared.Store(&shared)
	return nil
}

// Reshare takes up the shared settings alone, or changes nothing and says why.
func (c *Cluster) Reshare(cfg *config.Config) error {
	shared, err := sharedConfiguration(cfg)
	if err != nil {
		return err
	}
	c.shared.Store(&shared)
	return nil
}

// rekey takes up other keys and certificates, or changes nothing and says why.
func (c *Cluster) rekey(cfg *config.Config) error {
	if c.creds == nil || !cfg.Cluster.Secured() {
		return nil // becoming one or the other waits for a restart
	}
	keys, err := pki.ReadGossipKeys(cfg.Cluster.GossipKey)
	if err != nil {
		return fmt.Errorf("cluster.gossip_key: %w", err)
	}
	if err := c.creds.Use(pki.Files{CA: cfg.Cluster.CA, Cert: cfg.Cluster.Cert, Key: cfg.Cluster.Key}); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if c.members() == nil {
		return nil
	}
	if err := c.members().SetKeys(keys); err != nil {
		return fmt.Errorf("cluster.gossip_key: %w", err)
	}
	return nil
}
