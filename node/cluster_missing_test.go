package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
)

// notes of a site that begin with some words.
func (s *site) notes(prefix string) []string {
	var found []string
	for _, n := range s.node.Status().Notes {
		if strings.HasPrefix(n.Text, prefix) {
			found = append(found, n.Text)
		}
	}
	return found
}

// A node that died is missing, in status and in the metrics of the others, also after
// one of these was restarted, until an operator removes it.
func TestDeadNodeStaysMissing(t *testing.T) {
	t.Parallel()
	m := newMesh(t, newArchive(), 4)
	first, other, late := m.sites[0], m.sites[1], m.sites[2]
	if _, err := first.node.Remove("site3"); err == nil || !strings.Contains(err.Error(), "site3 is a member of the cluster") {
		t.Errorf("removing a member: %v", err)
	}
	m.sites[3].kill()
	missed := func(s *site) bool {
		c := s.node.Status().Cluster
		i := slices.IndexFunc(c.Members, func(m admin.MemberStatus) bool { return m.Name == "site3" })
		return i >= 0 && c.Members[i].State == admin.MemberMissing && len(s.notes("site3 is missing since ")) == 1
	}
	m.eventually("all miss it", func() bool { return missed(first) && missed(other) && missed(late) })
	if up, there := first.node.Gauge("aptmesh_peer_up", "peer", "site3"); !there || up != 0 {
		t.Errorf("aptmesh_peer_up of the dead node: %v, %v", up, there)
	}
	if n := first.node.Status().Level; n != admin.LevelAttention {
		t.Errorf("level %q", n)
	}

	// The restart is a graceful one: nobody misses that node.
	late.stop()
	late.start()
	m.eventually("the restarted node misses it, and only it", func() bool {
		return missed(late) && len(late.notes("site")) == 1 && len(first.notes("site2 is missing")) == 0
	})
	if _, err := late.node.Remove("nobody"); err == nil || err.Error() != `no node called "nobody" is missing (missing: site3)` {
		t.Errorf("removing nobody: %v", err)
	}
	if r, err := late.node.Remove("site3"); err != nil || r.Node != "site3" {
		t.Fatalf("%+v, %v", r, err)
	}
	m.eventually("nobody misses it", func() bool { return !missed(first) && !missed(other) && !missed(late) })
	// Metrics go by the view that calls to peers go by, which follows the one of status within the change of the ring.
	m.eventually("the series of the removed node is gone", func() bool {
		_, there := first.node.Gauge("aptmesh_peer_up", "peer", "site3")
		return !there
	})
}

// Nodes that are not configured alike are told from each other by status.
func TestStatusComparesConfigurations(t *testing.T) {
	t.Parallel()
	a := newArchive()
	m := newMesh(t, a, 2)
	m.add(func(cfg *config.Config) {
		cfg.UpstreamClient.ConnectionsPerHost = 3
		cfg.Archives[0].SignedBy, cfg.Archives[0].Unsigned = nil, true
	})
	want := []string{
		"archives.ubuntu.signed_by is not the same on all nodes: site0, site1 / site2",
		"upstream_client.connections_per_host is not the same on all nodes: site0, site1 / site2",
	}
	differences := func(s *site) []string { return admin.CompareConfigurations(s.node.Status().Cluster.Members) }
	for _, s := range m.sites {
		m.eventually(s.name+" says so", func() bool { return slices.Equal(differences(s), want) })
	}
	// A reload mends it.
	mended := *m.sites[2].cfg
	mended.Archives = m.sites[0].cfg.Archives
	mended.UpstreamClient = m.sites[0].cfg.UpstreamClient
	if _, _, err := m.sites[2].node.Reload(&mended); err != nil {
		t.Fatal(err)
	}
	m.eventually("all are alike", func() bool { return len(differences(m.sites[0])) == 0 })
}

// A node that finds nobody although it has seeds says so.
func TestAloneByMistakeIsFailing(t *testing.T) {
	t.Parallel()
	m := newMesh(t, newArchive(), 1)
	s := m.sites[0]
	if notes := s.notes("this node is alone"); len(notes) > 0 {
		t.Errorf("a node without seeds: %q", notes)
	}
	s.stop()
	s.keepSeeds = []string{"127.0.0.1:1"}
	s.start()
	m.eventually("it says so", func() bool {
		notes := s.notes("this node is alone, although it has other nodes to look for: 127.0.0.1:1: nothing listens there")
		return len(notes) == 1 && s.node.Status().Level == admin.LevelFailing
	})
}

// Where two nodes have one name, all nodes say the same of them: which one is a member, and which is kept out.
func TestNameUsedTwice(t *testing.T) {
	m := newMesh(t, newArchive(), 3)
	member := m.sites[1].node.GossipAddr()
	m.tune = append(m.tune, func(s *site) { s.name = "site1" })
	twin := m.add()
	want := fmt.Sprintf("two nodes call themselves site1: the one at %s is in the cluster, the one at %s is kept out and fetches alone", member, twin.node.GossipAddr())
	for i, s := range m.sites {
		m.eventually(fmt.Sprintf("node %d says which one is a member", i), func() bool { return len(s.notes(want)) == 1 })
	}
}
