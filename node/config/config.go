package config

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/listen"
)

// DefaultStateDir is the default for the state of a node, if it may write there.
const DefaultStateDir = "/var/lib/aptmesh"

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

// Default returns the configuration of an empty file: every default, and no archives.
func Default() *Config {
	c := keys.New[Config]()
	return &c
}

// Has reports whether there is an archive of that name.
func (c *Config) Has(name string) bool { _, ok := c.Archive(name); return ok }

// Archive returns the archive of that name.
func (c *Config) Archive(name string) (archiveconf.Archive, bool) {
	for _, a := range c.Archives {
		if a.Name == name {
			return a, true
		}
	}
	return archiveconf.Archive{}, false
}
