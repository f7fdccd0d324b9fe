package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/keyrings"
	"github.com/aptmesh/aptmesh/node/listen"
)

// DefaultDataDir and DefaultStateDir are the defaults for the cache and the state of a node, if
// it may write there.
const (
	DefaultDataDir  = "/var/cache/aptmesh"
	DefaultStateDir = "/var/lib/aptmesh"
)

// NodeName is the name of this node: Name, or else the host's, in lower case as in
// the DNS.
func (c *Config) NodeName() string {
	if c.Name != "" {
		return c.Name
	}
	host, _ := os.Hostname() // "" is refused where a name is needed
	return strings.ToLower(host)
}

// Datacenter is where this node says it stands.
func (c *Config) Datacenter() string { return cmp.Or(c.Cluster.Datacenter, c.NodeName()) }

// HostURL is where hosts reach a node with this configuration that listens at addrs: public_url, or else
// the machine's name and the port of the first address. Addresses are those of Listen, then those of
// TLS. In a container, whose name hosts cannot resolve, public_url is needed.
func (c *Config) HostURL(addrs []string) (string, error) {
	return c.HostURLOn(addrs, listen.MachineName())
}

// HostURLOn is HostURL for a machine that hosts know by that name, "" for none.
func (c *Config) HostURLOn(addrs []string, machine string) (string, error) {
	switch {
	case c.PublicURL != "":
		return listen.NodeURL(c.PublicURL)
	case len(c.Listen) == 0:
		return listen.HostURL("https", addrs, machine)
	}
	return listen.HostURL("http", addrs, machine)
}

// SlogLevel is Level as slog knows it; info where the word is none of ours.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level // info
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// StateDir is the directory of durable state: State, or else one inside Data.
func (c *Config) StateDir() string {
	if c.State != "" {
		return c.State
	}
	return InnerStateDir(c.Data)
}

// InnerStateDir is where the state lies inside the cache.
func InnerStateDir(data string) string { return filepath.Join(data, "state") }

// Secured reports whether gossip is encrypted and the nodes prove their identity.
// A checked configuration has all four files or none.
func (c Cluster) Secured() bool { return c.GossipKey != "" && c.CA != "" }

// isSimple reports whether a URL says all there is to say.
func (u Mirror) isSimple() bool {
	plain := NewMirror()
	plain.URL = u.URL
	return u == plain
}

// Mirrors returns what the archive is fetched from, in the order of the file and
// with lists of mirrors as they stand there; none only where the configuration was
// not checked.
func (a Archive) Mirrors() []Mirror {
	if a.Upstream == "" {
		return a.Upstreams
	}
	only := NewMirror()
	only.URL, only.Credentials, only.Led = a.Upstream, a.Credentials, a.Led
	return []Mirror{only}
}

// MainURL is the upstream to name where there is room for one: the first.
func (a Archive) MainURL() string {
	if mirrors := a.Mirrors(); len(mirrors) > 0 {
		return mirrors[0].URL
	}
	return ""
}

// MirrorURLs are the roots of all mirrors that the configuration names itself, in
// its order: without those that only a list knows.
func (a Archive) MirrorURLs() []string {
	var urls []string
	for _, m := range a.Mirrors() {
		if !aptconf.IsMirrorList(m.URL) {
			urls = append(urls, m.URL)
		}
	}
	return urls
}

// Keyring reads every entry of signed_by and returns all their keys together; nil
// where it has none.
func (a Archive) Keyring() (*pgp.Keyring, error) {
	ring, err := keyrings.Read(a.SignedBy)
	switch {
	case err != nil:
		return nil, fmt.Errorf("archive %s: signed_by: %w", a.Name, err)
	case ring == nil:
		return nil, nil
	}
	return ring.WithWeakKeys(a.WeakKeys), nil
}

// Restricted reports whether only some clients may read the archive.
func (a Archive) Restricted() bool { return len(a.Allow) > 0 || len(a.Deny) > 0 }

// hasCredentials reports whether any upstream of the archive gets credentials of this node: its
// files are not for everybody.
func (a Archive) hasCredentials() bool {
	for _, m := range a.Mirrors() {
		if !m.Credentials.IsZero() || m.TLS.Cert != "" {
			return true
		}
	}
	return false
}

// Has reports whether there is an archive of that name.
func (c *Config) Has(name string) bool { _, ok := c.Archive(name); return ok }

// Archive returns the archive of that name.
func (c *Config) Archive(name string) (Archive, bool) {
	for _, a := range c.Archives {
		if a.Name == name {
			return a, true
		}
	}
	return Archive{}, false
}
