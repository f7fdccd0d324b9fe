package node_test

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// TestClusterRecallsWhatANodeMissed: a generation came and went while a node was down.
// A host that still holds its indices asks that node for a package, and the mirror
// lies about it: the others know what it must be.
func TestClusterRecallsWhatANodeMissed(t *testing.T) {
	a := newArchive()
	m := newMesh(t, a, 3)
	for _, s := range m.sites {
		s.update()
	}
	late := m.sites[2]
	late.stop()
	date := epoch // each another one: two generations of one second would both be held
	publish := func(version string) string {
		a.RemovePackage("noble", "brief") // from the indices; the pool keeps it
		path := a.AddPackage("noble", testarchive.Package{Name: "brief", Version: version, Size: 9000})
		date = date.Add(time.Minute)
		a.Publish(date, "noble")
		m.note()
		if _, err := m.sites[0].node.Refresh(t.Context(), "ubuntu/noble", false); err != nil {
			t.Fatal(err)
		}
		for _, s := range m.others(late) {
			s.update()
		}
		return path
	}
	brief := publish("2")
	publish("3")
	late.start()
	m.whole()
	m.eventually("the node is where the others are", func() bool {
		return late.root() == m.sites[0].root()
	})
	m.up.Inject(brief, 1, testarchive.WrongBytes(100))
	m.eventually("a host has it, after apt's own retries at the most", func() bool {
		r := late.get(t.Context(), newClient("host"), brief) // checks the bytes against all that was ever signed
		return r.status == 200 && r.err == nil
	})
	if n := late.node.Metric("aptmesh_catalog_listed_by_peers_total"); n == 0 {
		t.Error("no other node was asked what it must be")
	}
	if n := m.up.Requests(brief); n != 2 {
		t.Errorf("upstream was asked %d times: once for the lie, and once for the truth", n)
	}
}

// root is that of the generation that the node serves of noble.
func (s *site) root() proto.Digest {
	for _, archive := range s.node.Status().Archives {
		for _, suite := range archive.Suites {
			if suite.Dir == "dists/noble" {
				return suite.Root
			}
		}
	}
	return proto.Digest{}
}
