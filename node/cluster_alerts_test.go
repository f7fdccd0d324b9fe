package node_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// twoMirrors is a cluster whose archive has two mirrors: m.near, which is asked
// first, and m.up.
type twoMirrors struct {
	*mesh
	near   *testarchive.Server
	change func(*config.Config)
	debs   []string
}

// newTwoMirrors starts n nodes that all hold the indices, with an archive of so many
// packages that every node owns some. tune may change the mesh before.
func newTwoMirrors(t *testing.T, n int, tune func(*mesh)) *twoMirrors {
	a := newArchive()
	m := &twoMirrors{mesh: &mesh{t: t}}
	if tune != nil {
		tune(m.mesh)
	}
	for i := range 60 {
		m.debs = append(m.debs, a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("p%d", i), Version: "1", Size: 2000}))
	}
	a.Publish(epoch.Add(time.Minute))
	m.near = testarchive.NewServer(a)
	t.Cleanup(m.near.Close)
	m.change = func(cfg *config.Config) {
		u := &cfg.Archives[0]
		near, far := archiveconf.NewMirror(), archiveconf.NewMirror()
		near.URL, far.URL, far.Priority = m.near.URL, u.Upstream, 2
		u.Upstream, u.Upstreams = "", []archiveconf.Mirror{near, far}
		// Nobody looks at upstream meanwhile but for what hosts ask for.
		u.CheckEvery = time.Hour
	}
	m.begin(a, n, m.change)
	for _, s := range m.sites {
		s.update()
	}
	return m
}

// of takes a package that a site owns and nobody has asked for yet.
func (m *twoMirrors) of(s *site) string {
	m.t.Helper()
	for i, deb := range m.debs {
		if m.owner(deb) == s {
			m.debs = append(m.debs[:i:i], m.debs[i+1:]...)
			return deb
		}
	}
	m.t.Fatalf("%s owns no package", s.name)
	return ""
}

// meet has the near mirror ask the finder to wait, for as long as a mirror can, so
// that the test may take its time. A host of another site asks for the package.
func (m *twoMirrors) meet(finder, asked *site) {
	m.t.Helper()
	deb := m.of(finder)
	// Only for packages: that a node looks at a suite meanwhile must not be how it
	// finds out.
	m.near.Inject("pool/*", 0, testarchive.Status(http.StatusTooManyRequests, 600))
	asked.want(deb)
	found := finder.node.Troubles()
	if len(found) != 1 || found[0].Mirror != m.near.URL || found[0].Kind != proto.AlertWait {
		m.t.Fatalf("%s has found out %+v", finder.name, found)
	}
}

// asked is how often the near mirror was asked for packages.
func (m *twoMirrors) asked() int {
	n := 0
	for _, r := range m.near.Log() {
		if strings.HasPrefix(r.Path, "pool/") {
			n++
		}
	}
	return n
}

// onlyFinder demands that nobody but the first site has found out anything itself.
func (m *twoMirrors) onlyFinder() {
	m.t.Helper()
	for _, s := range m.sites[1:] {
		if own := s.node.Troubles(); len(own) > 0 {
			m.t.Errorf("%s has found out itself: %+v", s.name, own)
		}
	}
}

// avoid waits until a site would ask the near mirror last.
func (m *twoMirrors) avoid(s *site) {
	m.t.Helper()
	m.eventually(s.name+" leaves the near mirror alone", func() bool { return s.node.Mirrors("ubuntu")[0] == m.up.URL })
}

// TestClusterReceivesAlerts: one node is asked to wait by a mirror, and no other node
// asks it any more, be it that it joins only then.
func TestClusterReceivesAlerts(t *testing.T) {
	m := newTwoMirrors(t, 3, nil)
	finder := m.sites[0]
	before := m.asked()
	m.meet(finder, m.sites[1])
	if n := m.asked() - before; n != 1 {
		t.Errorf("the mirror was asked %d times by the first to find out", n)
	}

	known := m.asked()
	for _, s := range m.sites {
		m.avoid(s)
		for _, asked := range m.sites {
			asked.want(m.of(s))
		}
	}
	late := m.add(m.change)
	m.whole()
	m.avoid(late)
	late.want(m.of(late))
	m.sites[1].want(m.of(late))
	if n := m.asked(); n > known {
		t.Errorf("the mirror was asked %d times more, although all know that it wants to be left alone", n-known)
	}
	m.onlyFinder()
	m.checkCluster()
}

// TestClusterAlertsNeedNoGossip: who finds out tells the others itself.
func TestClusterAlertsNeedNoGossip(t *testing.T) {
	m := newTwoMirrors(t, 3, func(m *mesh) {
		m.hasty = true
		m.newLinks()
		m.tune = append(m.tune, func(s *site) {
			wires := s.gossip
			s.gossip = func(c *ring.Config) { wires(c); c.Received, c.MergeState = nil, nil }
		})
	})
	finder := m.sites[0]
	m.meet(finder, finder)
	m.avoid(m.sites[1])
	m.avoid(m.sites[2])
	m.onlyFinder()
}

// TestClusterSendsAlertsAfterAPartition: who finds out while it is cut off from
// the others tells them when they are back.
func TestClusterSendsAlertsAfterAPartition(t *testing.T) {
	var l *links
	m := newTwoMirrors(t, 3, func(m *mesh) {
		m.hasty = true
		l = m.newLinks()
	})
	finder, rest := m.sites[0], m.sites[1:]
	deb := m.of(finder)
	l.partition([]*site{finder}, rest)
	m.eventually("the node is alone", func() bool { return !m.healthy(finder, rest[0]) && !m.healthy(finder, rest[1]) })
	m.debs = []string{deb}
	m.meet(finder, finder)
	for _, s := range rest {
		if s.node.Mirrors("ubuntu")[0] != m.near.URL {
			t.Fatalf("%s knows already", s.name)
		}
	}
	l.heal()
	for _, s := range rest {
		m.avoid(s)
	}
	m.onlyFinder()
}

// healthy reports whether a site believes that it can fetch from another one.
func (m *mesh) healthy(s, other *site) bool {
	for _, member := range s.node.Status().Cluster.Members {
		if member.Name == other.name {
			return member.Health == admin.HealthOK
		}
	}
	return false
}
