package node_test

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
)

// A node that is failing is so in the status of every node. What a node said of itself before it died is not said
// any more.
func TestNodeThatFailsIsFailingEverywhere(t *testing.T) {
	t.Parallel()
	m := newMesh(t, newArchive(), 2)
	bad, other := m.sites[0], m.sites[1]
	about := func() admin.MemberStatus {
		for _, member := range other.node.Status().Cluster.Members {
			if member.Name == bad.name {
				return member
			}
		}
		return admin.MemberStatus{}
	}
	m.eventually("both are well, once their rings agree", func() bool {
		said := about()
		return said.Level == admin.LevelGood && said.Note == "" && other.node.Status().Level == admin.LevelGood
	})
	broken := *bad.cfg
	archive := archiveconf.New("broken")
	archive.Upstream, archive.Suites, archive.Unsigned = "http://127.0.0.1:1/broken", []string{"noble"}, true
	broken.Archives = append([]archiveconf.Archive{archive}, bad.cfg.Archives...)
	if _, _, err := bad.node.Reload(&broken); err != nil {
		t.Fatal(err)
	}
	m.eventually("the other node says so", func() bool {
		said := about()
		return said.Level == admin.LevelFailing && strings.HasPrefix(said.Note, "broken") &&
			len(other.notes(bad.name+" is failing: broken")) == 1 && other.node.Status().Level == admin.LevelFailing
	})
	if own := bad.notes(bad.name + " is failing"); len(own) > 0 || bad.node.Status().Cluster.Members[0].Level != admin.LevelFailing {
		t.Errorf("of itself: %q", own)
	}
	bad.kill()
	m.eventually("it is unreachable", func() bool { return about().Health == admin.HealthUnreachable })
	if said := about(); said.Level != "" || said.Note != "" || len(other.notes(bad.name+" is failing")) > 0 {
		t.Errorf("of a node that died: %+v", said)
	}
}
