package clusterconf

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/listen"
	"github.com/aptmesh/aptmesh/node/pki"
)

type checker struct {
	*keys.Checker
	Settings
	node string // the node's name
}

// Check checks the section, except for what the tags of the keys say, and the name of the node. given is
// the name in the configuration, host that of this machine, which takes its place.
func Check(with *keys.Checker, s Settings, given, host string) {
	c := checker{with, s, cmp.Or(given, host)}
	if s.Name == "" {
		c.standsAlone()
		if given != "" {
			c.named(given)
		}
		return
	}
	named := c.named(given)
	// The library that gossips would listen everywhere for a name.
	if host, _, err := listen.SplitHostPort(c.GossipListen); err == nil && host != "" && net.ParseIP(host) == nil {
		c.Problem("cluster.gossip_listen", "%q has a name for its host; write an IP address, or none for every address of the machine", c.GossipListen)
	}
	c.trust(named)
}

// standsAlone checks a node that is in no cluster, and is meant to be in none.
func (c *checker) standsAlone() {
	for _, k := range []struct {
		key string
		set bool
	}{
		{"seeds", len(c.Seeds) > 0}, {"gossip_key", c.GossipKey != ""}, {"ca", c.CA != ""}, {"cert", c.Cert != ""}, {"key", c.Key != ""},
	} {
		if k.set {
			c.Problem("cluster.name", "is missing: without it this node stands alone, and cluster.%s means nothing", k.key)
			return
		}
	}
}

// named checks how this node calls itself.
func (c *checker) named(given string) bool {
	why := pki.NameProblem(c.node)
	switch {
	case why == "":
		return true
	case given == "" && c.NoFiles:
		return false // the name of another host
	case given == "":
		c.Problem("name", "is missing, and the host's name will not do: %s", why)
	default:
		c.Problem("name", "%s", why)
	}
	return false
}

// trust checks by what the nodes know each other; named says that this one
// has a name to be known by.
func (c *checker) trust(named bool) {
	var given, missing []string
	for _, f := range []struct{ key, file string }{
		{"gossip_key", c.GossipKey}, {"ca", c.CA}, {"cert", c.Cert}, {"key", c.Key},
	} {
		if f.file == "" {
			missing = append(missing, f.key)
		} else {
			given = append(given, f.key)
		}
	}
	var open []string // addresses that other machines may reach
	for _, addr := range []string{c.GossipListen, c.PeerListen} {
		if _, _, err := listen.SplitHostPort(addr); err == nil && !listen.IsLoopback(addr) {
			open = append(open, strconv.Quote(addr))
		}
	}
	switch {
	case len(given) > 0 && len(missing) > 0:
		c.Problem("cluster", "gossip_key, ca, cert and key go together, and there is no %s: `aptmesh cluster init` makes all of them", strings.Join(missing, ", "))
	case len(given) > 0 && c.Insecure:
		c.Problem("cluster.insecure", "is true, yet there are keys and certificates; drop the one or the other")
	case len(given) > 0:
		if !c.NoFiles {
			c.files(named)
		}
	case c.Insecure && len(open) > 0:
		c.Warning("cluster.insecure", "everybody who reaches %s is trusted as a node of the cluster", strings.Join(open, " or "))
	case !c.Insecure && len(open) > 0:
		c.Problem("cluster", "other machines may reach %s, and without keys everybody who does is trusted as a node: `aptmesh cluster init` makes keys and certificates, `insecure: true` accepts it as it is",
			strings.Join(open, " and "))
	}
}

// files checks the files by which the nodes know each other.
func (c *checker) files(named bool) {
	c.File("cluster.gossip_key", c.GossipKey, func(name string) error { _, err := pki.ReadGossipKeys(name); return err })
	for _, f := range []struct{ key, file string }{{"cluster.gossip_key", c.GossipKey}, {"cluster.key", c.Key}} {
		if files.OthersMayRead(f.file) {
			c.Warning(f.key, "every user of this machine may read %s; chmod 600 it", f.file)
		}
	}
	if !named || c.Unusable("cluster.ca", "cluster.cert", "cluster.key") {
		return // there is no name to hold the certificate against, or no certificate
	}
	t, err := pki.Read(pki.Files{CA: c.CA, Cert: c.Cert, Key: c.Key}, c.node)
	var wrong *pki.FileError
	switch {
	case errors.As(err, &wrong):
		file := map[string]string{"ca": c.CA, "cert": c.Cert, "key": c.Key}[wrong.Key]
		c.Problem("cluster."+wrong.Key, "%s", files.Trouble(file, wrong.Err, ""))
	case err != nil:
		c.Problem("cluster", "%v", err)
	default:
		if why := t.Expiry(time.Now()); why != "" {
			c.Warning("cluster.cert", "%s %s", c.Cert, why)
		}
	}
}

// SeedProblem says why a text is none of `seeds`; "" if it is.
func SeedProblem(text string) string {
	if strings.Contains(text, "://") {
		return fmt.Sprintf("%q is a URL; write the host, or the host and the port of gossip, as in ams1 or ams1:7946", text)
	}
	if _, _, err := pki.SplitSeed(text); err != nil {
		return fmt.Sprintf("%q is not a host, or a host and a port: %v", text, err)
	}
	return ""
}
