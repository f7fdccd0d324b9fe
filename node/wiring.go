package node

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// upstreamSettings is what the configuration says of all upstreams alike.
func upstreamSettings(cfg *config.Config) (upstream.Config, error) {
	u := upstream.Config{
		ConnectionsPerHost: int(cfg.UpstreamClient.ConnectionsPerHost),
		BytesPerSecond:     int64(cfg.UpstreamClient.Rate),
		ConnectTimeout:     time.Duration(cfg.UpstreamClient.ConnectTimeout),
		HeaderTimeout:      time.Duration(cfg.UpstreamClient.HeaderTimeout),
		StallTimeout:       time.Duration(cfg.UpstreamClient.StallTimeout),
		RateFloor:          int64(cfg.UpstreamClient.RateFloor),
		Offline:            cfg.Offline,
		InternalAllow:      config.Networks(cfg.UpstreamClient.InternalAllow),
		Configured:         operatorURLs(cfg),
	}
	var err error
	if u.Proxy, err = upstream.ParseProxy(cfg.UpstreamClient.Proxy); err != nil {
		return u, fmt.Errorf("upstream: proxy: %w", err)
	}
	if u.AuthConf, err = upstream.ReadAuthConf(cfg.UpstreamClient.AuthConf...); err != nil {
		return u, fmt.Errorf("upstream: auth_conf: %w", err)
	}
	return u, nil
}

// upstreamConfig is the part of the configuration that the HTTP client needs. An
// archive without mirrors, which waits for its list of them, is not in it.
func (n *Node) upstreamConfig(cfg *config.Config, mirrors map[string][]config.Mirror) (upstream.Config, error) {
	u, err := upstreamSettings(cfg)
	if err != nil {
		return u, err
	}
	u.Logger, u.UserAgent = n.log, n.userAgent()
	u.Listens = n.listens
	for _, at := range slices.Concat(slices.Collect(maps.Values(mirrors))...) {
		if list, err := aptconf.ParseListURL(at.List); err == nil && list.File != "" {
			// A list on this machine is the operator's own word.
			if entry, err := url.Parse(at.URL); err == nil {
				u.Configured = append(u.Configured, entry)
			}
		}
	}
	u.Snapshots = n.snapshots
	u.Pseudonym, u.Via = n.loops.pseudonym, n.loops.via
	if n.cluster != nil {
		u.OnAlert = n.cluster.SendAlert
	}
	for _, a := range cfg.Archives {
		if len(mirrors[a.Name]) == 0 {
			continue
		}
		archive, err := upstreamArchive(a, mirrors[a.Name])
		if err != nil {
			return u, fmt.Errorf("archives: %s: %w", a.Name, err)
		}
		u.Archives = append(u.Archives, archive)
	}
	return u, nil
}

// listens are the addresses of this node that no redirect may lead to.
func (n *Node) listens() []netip.AddrPort {
	n.mu.Lock()
	at := slices.Clone(n.addrs)
	if n.admin != nil {
		at = append(at, n.admin.TCP()...)
	}
	if n.cluster != nil {
		at = append(at, n.cfg.Cluster.GossipListen, n.cfg.Cluster.PeerListen)
	}
	n.mu.Unlock()
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

// snapshots asks the catalog, once it is there, what its generations list.
func (n *Node) snapshots(loc proto.Location) []time.Time {
	if c := n.believed.Load(); c != nil {
		return c.Snapshots(loc)
	}
	return nil
}

// upstreamArchive is what the HTTP client needs to know of one archive.
func upstreamArchive(a config.Archive, mirrors []config.Mirror) (upstream.Archive, error) {
	archive := upstream.Archive{Name: a.Name, Offline: a.Offline}
	for _, at := range mirrors {
		m, err := upstreamMirror(at)
		if err != nil {
			return archive, fmt.Errorf("%s: %w", at.URL, err)
		}
		archive.Mirrors = append(archive.Mirrors, m)
	}
	if a.Snapshot != "" {
		at, err := url.Parse(a.Snapshot)
		if err != nil {
			return archive, fmt.Errorf("snapshot: %w", err)
		}
		archive.Snapshot = at
	}
	return archive, nil
}

// upstreamMirror reads the secrets and certificates of one mirror.
func upstreamMirror(at config.Mirror) (upstream.Mirror, error) {
	m := upstream.Mirror{Priority: int(at.Priority), Weight: int(at.Weight), Listed: at.List != "" || at.Led}
	var err error
	if m.URL, err = url.Parse(at.URL); err != nil {
		return m, err
	}
	if m.Credentials, err = at.Credentials.Resolve(); err != nil {
		return m, fmt.Errorf("credentials: %w", err)
	}
	m.Roots, m.Certificate, err = at.TLS.Load()
	return m, err
}

// catalogArchives reads the keyrings.
func catalogArchives(cfg *config.Config) ([]catalog.Archive, error) {
	archives := make([]catalog.Archive, 0, len(cfg.Archives))
	rings := make(map[string]*pgp.Keyring) // the members of a class have the same keyrings
	for _, a := range cfg.Archives {
		from := fmt.Sprint(a.WeakKeys, a.SignedBy)
		ring, read := rings[from]
		if !read {
			var err error
			if ring, err = a.Keyring(); err != nil {
				return nil, err
			}
			rings[from] = ring
		}
		names := keyless(a.Format)
		suites := func(named []string) []proto.Suite {
			all := make([]proto.Suite, len(named))
			for i, s := range named {
				all[i] = names.SuiteNamed(s)
			}
			return all
		}
		unsigned := suites(a.UnsignedSuites)
		keyPlace := ""
		if dir := a.KeyringsDir(); dir != "" {
			keyPlace = "a file in " + dir
		}
		archives = append(archives, catalog.Archive{
			Name: a.Name, Format: newFormat(a.Format, trust{ring, keyPlace, a.Unsigned, unsigned}),
			Unsigned: a.Unsigned, UnsignedSuites: unsigned, Suites: suites(a.Suites), CheckEvery: time.Duration(a.CheckEvery), MaxFuture: time.Duration(a.MaxFuture),
			ServeExpired: (*time.Duration)(a.ServeExpired), Offline: a.Offline || cfg.Offline,
		})
	}
	return archives, nil
}

// frontArchives is what the door needs to know of the archives.
func frontArchives(cfg *config.Config, mirrors map[string][]config.Mirror) ([]front.Archive, error) {
	archives := make([]front.Archive, 0, len(cfg.Archives))
	claimed := mirrorlist.NewClaims(cfg)
	inner := *innerOf(cfg)
	known := knownNames(cfg)
	of := formatsOf(cfg)
	for _, a := range cfg.Archives {
		door := front.Archive{Name: a.Name, Aliases: slices.Concat(a.Aliases, known[a.Name]), Allow: config.Networks(a.Allow), Deny: config.Networks(a.Deny), Format: of.of(a.Name)}
		if in := inner[a.Name]; in != nil {
			door.Inner = in.at
		}
		for _, at := range mirrors[a.Name] {
			u, err := url.Parse(at.URL)
			if err != nil {
				return nil, fmt.Errorf("archives: %s: %s: %w", a.Name, at.URL, err)
			}
			if claimed.Take(a.Name, u) {
				door.Mirrors = append(door.Mirrors, u)
			}
		}
		// The URL that the door names: the first in the configuration, if it is one of
		// a mirror, else the first that a list brought. While there is none, hosts
		// reach the archive by its name and aliases alone.
		door.Upstream = &url.URL{Scheme: "http", Host: "mirrors.invalid", Path: "/" + a.Name}
		if len(door.Mirrors) > 0 {
			door.Upstream = door.Mirrors[0]
		}
		if urls := a.MirrorURLs(); len(urls) > 0 {
			if u, err := url.Parse(urls[0]); err == nil {
				door.Upstream = u
			}
		}
		archives = append(archives, door)
	}
	return archives, nil
}

// clientLimits is what the door needs to know of its clients.
func clientLimits(c config.Clients) front.ClientLimits {
	return front.ClientLimits{
		Allow: config.Networks(c.Allow), Deny: config.Networks(c.Deny), Connections: int(c.Connections), BytesPerSecond: int64(c.Rate),
	}
}

// Reload puts a new configuration in force, as far as that can be done while the
// node runs: archives, keys, credentials, upstream limits, certificates, the log
// level. It returns which keys were applied and which wait for a restart. After an
// error everything is as it was before.
func (n *Node) Reload(cfg *config.Config) (applied, needRestart []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	applied, needRestart, configured := config.Change(n.configured, cfg)
	cfg = configured.WithMembers(n.made().names())

	// Everything that can fail comes first.
	n.lists.Use(mirrorlist.KeysOf(cfg))
	defer func() {
		if err != nil {
			n.lists.Use(mirrorlist.KeysOf(n.cfg))
		}
	}()
	plan, err := n.planArchives(cfg)
	if err != nil {
		return nil, nil, err
	}
	if len(n.cfg.TLS.Listen) > 0 && len(cfg.TLS.Listen) > 0 {
		if err := n.loadCertificate(cfg); err != nil {
			return nil, nil, err
		}
	}
	if n.cluster != nil {
		if err := n.cluster.Reload(configured); err != nil {
			return nil, nil, err
		}
	}
	if err := n.applyArchives(plan); err != nil {
		return nil, nil, err
	}
	stay := n.made().of(cfg)
	n.members.Store(&stay)
	n.prefetch.Reconfigure(cfg.Prefetch.Enabled, int64(cfg.Prefetch.MaxBytes), time.Duration(cfg.Prefetch.UsedWithin))
	if n.opts.Level != nil {
		n.opts.Level.Set(cfg.Log.SlogLevel())
	}
	n.configured = configured
	n.lists.Refresh()
	return applied, needRestart, nil
}

// archivesPlan is what the rooms need for the archives of a configuration.
type archivesPlan struct {
	cfg      *config.Config
	mirrors  mirrorPlan
	keyrings string
	catalog  []catalog.Archive
}

// planArchives reads what the archives of a configuration need, and changes nothing.
func (n *Node) planArchives(cfg *config.Config) (archivesPlan, error) {
	p := archivesPlan{cfg: cfg}
	var err error
	if p.mirrors, err = n.planMirrors(cfg); err != nil {
		return p, err
	}
	p.keyrings = cfg.KeyringsStamp() // before the files are read: a later change shows the next time
	p.catalog, err = catalogArchives(cfg)
	return p, err
}

// applyArchives puts them in force. It needs mu.
func (n *Node) applyArchives(p archivesPlan) error {
	if err := n.upstream.Reconfigure(p.mirrors.upstream); err != nil {
		return err
	}
	// From here on upstream knows the new archives; the door, which lets
	// requests for them in, comes last.
	n.access.Store(accessOf(p.cfg))
	n.formats.Store(new(formatsOf(p.cfg)))
	n.inner.Store(innerOf(p.cfg))
	n.stale.Store(staleLimitsOf(p.cfg))
	n.catalog.Reconfigure(p.catalog)
	n.keyrings = p.keyrings
	if err := n.front.Apply(p.mirrors.front); err != nil {
		return err
	}
	n.unlisted.Store(&p.mirrors.unlisted)
	if n.cluster != nil {
		n.cluster.Relimit(p.cfg)
	}
	n.cfg = p.cfg
	return nil
}
