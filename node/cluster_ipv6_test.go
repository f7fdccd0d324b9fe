package node_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/config"
)

// TestClusterOfIPv6 is a cluster that has no IPv4 between its nodes and to its hosts:
// one fetch for all, and addresses that can be dialled as they are shown.
func TestClusterOfIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6 on the loopback")
	}
	l.Close()
	a := newArchive()
	deb := a.AddPackage("noble", testarchive.Package{Name: "brief", Version: "2", Size: 300_000})
	m := newMesh(t, a, 3, func(cfg *config.Config) {
		cfg.Listen = []string{"[::1]:0"}
		cfg.Cluster.GossipListen, cfg.Cluster.PeerListen = "[::1]:0", "[::1]:0"
		cfg.Cluster.Allow = []netip.Prefix{netip.MustParsePrefix("::1/128")}
	})
	m.publish("noble")
	for _, s := range m.sites {
		s.update()
		s.want(deb)
	}
	if n := m.up.Requests(deb); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
	for _, member := range m.sites[0].node.Status().Cluster.Members {
		if at, err := netip.ParseAddrPort(member.Address); err != nil || at.Addr() != netip.IPv6Loopback() {
			t.Errorf("%s is shown at %q: %v", member.Name, member.Address, err)
		}
	}
	m.checkCluster()
}
