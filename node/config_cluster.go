package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxLabel bounds the name of a cluster and of a datacenter: they travel with every
// node's gossip.
const maxLabel = 64

var (
	labelText = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	hostText  = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	nodeText  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// labelTrouble says why a text cannot name a cluster or a datacenter; "" if it can.
func labelTrouble(label string) string {
	if len(label) <= maxLabel && labelText.MatchString(label) {
		return ""
	}
	return fmt.Sprintf(`%q cannot be used: write letters, digits, ".", "_" and "-", at most %d of them`, label, maxLabel)
}

// nodeNameTrouble says why a text cannot name a node of a cluster; "" if it can. The
// name is a DNS name in its certificate, so it looks like one, and like no address.
func nodeNameTrouble(name string) string {
	_, notAddress := netip.ParseAddr(name)
	switch {
	case len(name) > 63 || !nodeText.MatchString(name) || notAddress == nil:
		return fmt.Sprintf(`%q cannot name a node: write lower-case letters, digits, "-" and ".", at most 63 of them, as in a host's name`, name)
	case name == "localhost":
		return `"localhost" cannot name a node of a cluster, for every host is called so`
	}
	return ""
}

// hostTrouble says why a text is no host that others could reach; "" if it is one.
func hostTrouble(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() {
			return fmt.Sprintf("%q is every address of a machine, and none that others could reach", host)
		}
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			return fmt.Sprintf("%q means another machine on every network; write an address that has no zone", host)
		}
		return ""
	}
	if len(host) > 253 || !hostText.MatchString(host) {
		return fmt.Sprintf("%q is neither a host's name nor an IP address", host)
	}
	return ""
}

// splitSeed splits "host" or "host:port"; port is 0 where there is none.
func splitSeed(seed string) (host string, port int, err error) {
	host = seed
	if _, err := netip.ParseAddr(seed); err != nil && strings.Contains(seed, ":") {
		var digits string
		if host, digits, err = splitHostPort(seed); err != nil {
			return "", 0, err
		}
		if port, err = strconv.Atoi(digits); err != nil || port == 0 {
			return "", 0, errors.New("port 0 is none")
		}
	}
	if why := hostTrouble(host); why != "" {
		return "", 0, errors.New(why)
	}
	return host, port, nil
}

// isLoopback reports whether an address to listen on can be reached from this
// machine alone.
func isLoopback(addr string) bool {
	host, _, err := splitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// cluster checks the name of the node and the section `cluster`.
func (c *checker) cluster() {
	cl := c.cfg.Cluster
	if cl.Name == "" {
		c.standsAlone()
		return
	}
	if why := labelTrouble(cl.Name); why != "" {
		c.problem("cluster.name", "%s", why)
	}
	if cl.Datacenter != "" {
		if why := labelTrouble(cl.Datacenter); why != "" {
			c.problem("cluster.datacenter", "%s", why)
		}
	}
	named := c.nodeName()
	c.clusterAddress("cluster.gossip", cl.Gossip, ":7946")
	c.clusterAddress("cluster.peer", cl.Peer, ":3143")
	if cl.Gossip == cl.Peer && !strings.HasSuffix(cl.Peer, ":0") {
		c.problem("cluster.peer", "%q is used by cluster.gossip already", cl.Peer)
	}
	// The library that gossips would listen everywhere for a name.
	if host, _, err := splitHostPort(cl.Gossip); err == nil && host != "" && net.ParseIP(host) == nil {
		c.problem("cluster.gossip", "%q has a name for its host; write an IP address, or none for every address of the machine", cl.Gossip)
	}
	if cl.Advertise != "" {
		if why := hostTrouble(cl.Advertise); why != "" {
			c.problem("cluster.advertise", "%s; it is a host alone, the ports are those of gossip and peer", why)
		}
	}
	for i, seed := range cl.Seeds {
		if _, _, err := splitSeed(seed); err != nil {
			c.problem(fmt.Sprintf("cluster.seeds[%d]", i), "%q is not a host, or a host and a port: %v", seed, err)
		}
	}
	for i, text := range cl.Allow {
		if _, err := netip.ParsePrefix(text); err != nil {
			hint := "10.0.0.0/8"
			if ip, err := netip.ParseAddr(text); err == nil {
				hint = fmt.Sprintf("%s/%d", ip, ip.BitLen())
			}
			c.problem(fmt.Sprintf("cluster.allow[%d]", i), "%q is not a network: write it as %s", text, hint)
		}
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
	why := nodeNameTrouble(c.cfg.NodeName())
	switch {
	case why == "":
		return true
	case c.cfg.Name == "":
		c.problem("name", "is missing, and the host's name will not do: %s", why)
	default:
		c.problem("name", "%s", why)
	}
	return false
}

// clusterAddress checks an address that the other nodes come to.
func (c *checker) clusterAddress(key, addr, example string) {
	_, port, err := splitHostPort(addr)
	if err != nil {
		c.problem(key, "%q is not an address to listen on: write %q for every address of the machine, or \"host:port\"", addr, example)
		return
	}
	for _, door := range []struct {
		key   string
		addrs []string
	}{{"listen", c.cfg.Listen}, {"tls.listen", c.cfg.TLS.Listen}, {"admin", []string{c.cfg.Admin}}} {
		if port != "0" && slices.Contains(door.addrs, addr) {
			c.problem(key, "%q is used by %s already", addr, door.key)
		}
	}
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
	for _, addr := range []string{cl.Gossip, cl.Peer} {
		if _, _, err := splitHostPort(addr); err == nil && !isLoopback(addr) {
			open = append(open, strconv.Quote(addr))
		}
	}
	switch {
	case len(given) > 0 && len(missing) > 0:
		c.problem("cluster", "gossip_key, ca, cert and key go together, and there is no %s: `aptmesh cluster init` makes all of them", strings.Join(missing, ", "))
	case len(given) > 0 && cl.Insecure:
		c.problem("cluster.insecure", "is true, yet there are keys and certificates; drop the one or the other")
	case len(given) > 0:
		c.clusterFiles(named)
	case cl.Insecure && len(open) > 0:
		c.warning("cluster.insecure", "whoever reaches %s is trusted as a node of the cluster", strings.Join(open, " or "))
	case !cl.Insecure && len(open) > 0:
		c.problem("cluster", "other machines may reach %s, and without keys whoever does is trusted as a node: `aptmesh cluster init` makes keys and certificates, `insecure: true` accepts it as it is",
			strings.Join(open, " and "))
	}
}

// clusterFiles checks the files by which the nodes know each other.
func (c *checker) clusterFiles(named bool) {
	cl := c.cfg.Cluster
	if err := c.gossipKeys(cl.GossipKey); err != nil {
		c.problem("cluster.gossip_key", "%s", fileTrouble(cl.GossipKey, err, ""))
	}
	for _, f := range []struct{ key, file string }{{"cluster.gossip_key", cl.GossipKey}, {"cluster.key", cl.Key}} {
		if c.exposed(f.file) {
			c.warning(f.key, "every user of this machine may read %s; chmod 600 it", f.file)
		}
	}
	if !named {
		return // there is no name to hold the certificate against
	}
	t, err := c.trust(trustFiles{cl.CA, cl.Cert, cl.Key}, c.cfg.NodeName())
	var wrong *trustError
	switch {
	case errors.As(err, &wrong):
		file := map[string]string{"ca": cl.CA, "cert": cl.Cert, "key": cl.Key}[wrong.key]
		c.problem("cluster."+wrong.key, "%s", fileTrouble(file, wrong.err, ""))
	case err != nil:
		c.problem("cluster", "%v", err)
	case t != nil:
		if why := t.expiry(time.Now()); why != "" {
			c.warning("cluster.cert", "%s %s", cl.Cert, why)
		}
	}
}
