package node

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"

	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// upstreamConfig is the part of the configuration that the HTTP client needs.
func (n *Node) upstreamConfig(cfg *Config) (upstream.Config, error) {
	u := upstream.Config{
		ConnectionsPerHost: cfg.Upstream.ConnectionsPerHost,
		BytesPerSecond:     int64(cfg.Upstream.Rate),
		ConnectTimeout:     cfg.Upstream.ConnectTimeout,
		HeaderTimeout:      cfg.Upstream.HeaderTimeout,
		StallTimeout:       cfg.Upstream.StallTimeout,
		RateFloor:          int64(cfg.Upstream.RateFloor),
		Offline:            cfg.Offline,
		Logger:             n.log,
	}
	if n.opts.Version != "" {
		u.UserAgent = "aptmesh/" + n.opts.Version + " (+https://github.com/aptmesh/aptmesh)"
	}
	if cfg.Upstream.RateFloor == 0 {
		u.RateFloor = -1 // there, 0 is the default
	}
	if n.cluster != nil {
		u.Tell = n.cluster.tellTrouble
	}
	var err error
	if u.Proxy, err = upstream.ParseProxy(cfg.Upstream.Proxy); err != nil {
		return u, fmt.Errorf("upstream: proxy: %w", err)
	}
	if u.AuthConf, err = upstream.ReadAuthConf(cfg.Upstream.AuthConf...); err != nil {
		return u, fmt.Errorf("upstream: auth_conf: %w", err)
	}
	for _, a := range cfg.Archives {
		archive, err := upstreamArchive(a)
		if err != nil {
			return u, fmt.Errorf("archives: %s: %w", a.Name, err)
		}
		u.Archives = append(u.Archives, archive)
	}
	return u, nil
}

// upstreamArchive is what the HTTP client needs to know of one archive.
func upstreamArchive(a ArchiveConfig) (upstream.Archive, error) {
	archive := upstream.Archive{Name: a.Name, Offline: a.Offline}
	for _, at := range a.Mirrors() {
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
func upstreamMirror(at UpstreamAt) (upstream.Mirror, error) {
	m := upstream.Mirror{Priority: at.Priority, Weight: at.Weight}
	var err error
	if m.URL, err = url.Parse(at.URL); err != nil {
		return m, err
	}
	user, password, bearer, err := at.Credentials.Resolve()
	if err != nil {
		return m, fmt.Errorf("credentials: %w", err)
	}
	m.Credentials = upstream.Credentials{
		User:     user,
		Password: upstream.NewSecret(password.Reveal()),
		Bearer:   upstream.NewSecret(bearer.Reveal()),
	}
	if at.TLS.CA != "" {
		if m.Roots, err = readAuthorities(at.TLS.CA); err != nil {
			return m, fmt.Errorf("tls: ca: %w", err)
		}
	}
	if at.TLS.Cert != "" {
		cert, err := tls.LoadX509KeyPair(at.TLS.Cert, at.TLS.Key)
		if err != nil {
			return m, fmt.Errorf("tls: %w", err)
		}
		m.Certificate = &cert
	}
	return m, nil
}

// catalogArchives reads the keyrings.
func catalogArchives(cfg *Config) ([]catalog.Archive, error) {
	archives := make([]catalog.Archive, 0, len(cfg.Archives))
	for _, a := range cfg.Archives {
		ring, err := a.Keyring()
		if err != nil {
			return nil, err
		}
		suites := make([]string, len(a.Suites))
		for i, s := range a.Suites {
			suites[i] = suiteDir(s)
		}
		archives = append(archives, catalog.Archive{
			Name: a.Name, Keyring: ring, Unsigned: a.Unsigned, Suites: suites, CheckEvery: a.CheckEvery,
		})
	}
	return archives, nil
}

// suiteDir turns a suite as sources.list names it into the directory of its
// Release: "noble" is dists/noble, "./" the archive's own directory, "x/" the
// flat repository x.
func suiteDir(name string) string {
	if dir, flat := strings.CutSuffix(name, "/"); flat {
		return strings.TrimPrefix(strings.TrimPrefix(dir, "."), "/")
	}
	if strings.HasPrefix(name, "dists/") {
		return name
	}
	return "dists/" + name
}

// frontArchives is what the door needs to know of the archives.
func frontArchives(cfg *Config) ([]front.Archive, error) {
	archives := make([]front.Archive, 0, len(cfg.Archives))
	for _, a := range cfg.Archives {
		at, err := url.Parse(a.MainURL())
		if err != nil {
			return nil, fmt.Errorf("archives: %s: upstream: %w", a.Name, err)
		}
		archives = append(archives, front.Archive{Name: a.Name, Upstream: at, Aliases: a.Aliases})
	}
	return archives, nil
}

// Reload puts a new configuration in force, as far as that can be done while the
// node runs: archives, keys, credentials, upstream limits, certificates, the log
// level. It returns which keys were applied and which wait for a restart. After an
// error everything is as it was before.
func (n *Node) Reload(cfg *Config) (applied, needRestart []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	applied, needRestart = ReloadPlan(n.cfg, cfg)

	// Everything that can fail comes first.
	toUpstream, err := n.upstreamConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	toCatalog, err := catalogArchives(cfg)
	if err != nil {
		return nil, nil, err
	}
	toFront, err := frontArchives(cfg)
	if err != nil {
		return nil, nil, err
	}
	if len(n.cfg.TLS.Listen) > 0 && len(cfg.TLS.Listen) > 0 {
		if err := n.loadCertificate(cfg); err != nil {
			return nil, nil, err
		}
	}
	if n.cluster != nil {
		if err := n.cluster.rekey(cfg); err != nil {
			return nil, nil, err
		}
	}
	if err := n.upstream.Reconfigure(toUpstream); err != nil {
		return nil, nil, err
	}
	// From here on upstream knows the new archives; the door, which lets
	// requests for them in, comes last.
	n.catalog.Reconfigure(toCatalog)
	if err := n.front.Reconfigure(toFront, cfg.Connect); err != nil {
		return nil, nil, err
	}
	if n.opts.Level != nil {
		n.opts.Level.Set(cfg.Log.SlogLevel())
	}
	if n.cluster != nil {
		n.cluster.relimit(cfg)
	}
	// What waits for a restart keeps the value it runs with.
	kept := *cfg
	kept.Listen, kept.Admin, kept.Data, kept.Cache, kept.Retain = n.cfg.Listen, n.cfg.Admin, n.cfg.Data, n.cfg.Cache, n.cfg.Retain
	kept.TLS.Listen = n.cfg.TLS.Listen
	kept.Name, kept.Cluster = n.cfg.Name, n.cfg.Cluster
	if cfg.Cluster.Secured() && n.cfg.Cluster.Secured() {
		kept.Cluster.GossipKey, kept.Cluster.CA = cfg.Cluster.GossipKey, cfg.Cluster.CA
		kept.Cluster.Cert, kept.Cluster.Key = cfg.Cluster.Cert, cfg.Cluster.Key
	}
	kept.Log.Format, kept.Log.Access = n.cfg.Log.Format, n.cfg.Log.Access
	n.cfg = &kept
	return applied, needRestart, nil
}
