package config

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/listen"
	"github.com/aptmesh/aptmesh/node/pki"
)

// cluster checks the name of the node and the section `cluster`.
func (c *checker) cluster() {
	cl := c.cfg.Cluster
	if cl.Name == "" {
		c.standsAlone()
		return
	}
	named := c.nodeName()
	// The library that gossips would listen everywhere for a name.
	if host, _, err := listen.SplitHostPort(cl.GossipListen); err == nil && host != "" && net.ParseIP(host) == nil {
		c.problem("cluster.gossip_listen", "%q has a name for its host; write an IP address, or none for every address of the machine", cl.GossipListen)
	}
	c.clusterTrust(named)
}

// standsAlone checks a node that is in no cluster, and is meant to be in none.
func (c *checker) standsAlone() {
	if c.cfg.Name != "" {
		c.nodeName()
	}
	cl := c.cfg.Cluster
	for _, k := range []struct {
		key string
		set bool
	}{
		{"seeds", len(cl.Seeds) > 0}, {"gossip_key", cl.GossipKey != ""}, {"ca", cl.CA != ""}, {"cert", cl.Cert != ""}, {"key", cl.Key != ""},
	} {
		if k.set {
			c.problem("cluster.name", "is missing: without it this node stands alone, and cluster.%s means nothing", k.key)
			return
		}
	}
}

// nodeName checks how this node calls itself.
func (c *checker) nodeName() bool {
	why := pki.NameProblem(c.cfg.NodeName())
	switch {
	case why == "":
		return true
	case c.cfg.Name == "" && c.blind:
		return false // the name of another host
	case c.cfg.Name == "":
		c.problem("name", "is missing, and the host's name will not do: %s", why)
	default:
		c.problem("name", "%s", why)
	}
	return false
}

// clusterTrust checks by what the nodes know each other; named says that this one
// has a name to be known by.
func (c *checker) clusterTrust(named bool) {
	cl := c.cfg.Cluster
	var given, missing []string
	for _, f := range []struct{ key, file string }{
		{"gossip_key", cl.GossipKey}, {"ca", cl.CA}, {"cert", cl.Cert}, {"key", cl.Key},
	} {
		if f.file == "" {
			missing = append(missing, f.key)
		} else {
			given = append(given, f.key)
		}
	}
	var open []string // addresses that other machines may reach
	for _, addr := range []string{cl.GossipListen, cl.PeerListen} {
		if _, _, err := listen.SplitHostPort(addr); err == nil && !listen.IsLoopback(addr) {
			open = append(open, strconv.Quote(addr))
		}
	}
	switch {
	case len(given) > 0 && len(missing) > 0:
		c.problem("cluster", "gossip_key, ca, cert and key go together, and there is no %s: `aptmesh cluster init` makes all of them", strings.Join(missing, ", "))
	case len(given) > 0 && cl.Insecure:
		c.problem("cluster.insecure", "is true, yet there are keys and certificates; drop the one or the other")
	case len(given) > 0:
		if !c.blind {
			c.clusterFiles(named)
		}
	case cl.Insecure && len(open) > 0:
		c.warning("cluster.insecure", "everybody who reaches %s is trusted as a node of the cluster", strings.Join(open, " or "))
	case !cl.Insecure && len(open) > 0:
		c.problem("cluster", "other machines may reach %s, and without keys everybody who does is trusted as a node: `aptmesh cluster init` makes keys and certificates, `insecure: true` accepts it as it is",
			strings.Join(open, " and "))
	}
}

// clusterFiles checks the files by which the nodes know each other.
func (c *checker) clusterFiles(named bool) {
	cl := c.cfg.Cluster
	c.file("cluster.gossip_key", cl.GossipKey, func(name string) error { _, err := pki.ReadGossipKeys(name); return err })
	for _, f := range []struct{ key, file string }{{"cluster.gossip_key", cl.GossipKey}, {"cluster.key", cl.Key}} {
		if pki.OthersMayRead(f.file) {
			c.warning(f.key, "every user of this machine may read %s; chmod 600 it", f.file)
		}
	}
	if !named || c.bad["cluster.ca"] || c.bad["cluster.cert"] || c.bad["cluster.key"] {
		return // there is no name to hold the certificate against, or no certificate
	}
	t, err := pki.Read(pki.Files{CA: cl.CA, Cert: cl.Cert, Key: cl.Key}, c.cfg.NodeName())
	var wrong *pki.FileError
	switch {
	case errors.As(err, &wrong):
		file := map[string]string{"ca": cl.CA, "cert": cl.Cert, "key": cl.Key}[wrong.Key]
		c.problem("cluster."+wrong.Key, "%s", files.Trouble(file, wrong.Err, ""))
	case err != nil:
		c.problem("cluster", "%v", err)
	default:
		if why := t.Expiry(time.Now()); why != "" {
			c.warning("cluster.cert", "%s %s", cl.Cert, why)
		}
	}
}
