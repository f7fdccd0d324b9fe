package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/holds/holdconf"
)

// mirrorArchive has a suite with many packages, and returns their paths.
func mirrorArchive(packages int, size int64) (a *testarchive.Archive, debs []string) {
	a = newArchive()
	for i := range packages {
		debs = append(debs, a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("pkg%03d", i), Version: "1", Size: size}))
	}
	a.Publish(epoch.Add(time.Minute))
	return a, debs
}

func (s *site) mirror(t *testing.T) admin.Mirror {
	t.Helper()
	list, err := s.node.Operator.Mirrors(context.Background(), "all")
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// planned waits until the shares of n nodes are known, and returns what is planned.
func (m *mesh) planned(n int) (f *admin.Forecast) {
	m.t.Helper()
	m.eventually("the shares follow the ring", func() bool {
		for _, s := range m.alive() {
			var err error
			if f, err = s.node.PlanMirror(m.t.Context(), "all"); err != nil {
				m.t.Fatal(err)
			}
			owners := 0
			for _, share := range f.Nodes {
				if share.Files > f.Indexes.Files {
					owners++
				}
			}
			if owners != n {
				return false
			}
		}
		return true
	})
	return f
}

// mirrors says how the mirror is on each node.
func (m *mesh) mirrors() {
	for _, s := range m.alive() {
		got := s.mirror(m.t)
		got.Generations, got.Unresolved = nil, nil
		m.t.Logf("%s: %+v", s.name, got)
	}
}

// Three nodes mirror one suite: each holds its share, all together hold each package twice, and upstream gives each file
// once. One of them dies in the middle; the others take its share over.
func TestClusterMirrors(t *testing.T) {
	a, debs := mirrorArchive(60, 20_000)
	m := &mesh{t: t, hasty: true}
	m.tune = append(m.tune, func(s *site) {
		s.holds = func(c *holds.Config) { c.ShareAfter, c.RetryAfter = time.Second, 200*time.Millisecond }
	})
	m.begin(a, 3, mirrorOf(func(m *holdconf.Mirror) { m.Follow = false }))
	f := m.planned(3)
	var planned int64
	for _, s := range m.sites {
		share := f.Nodes[s.name]
		planned += share.Bytes - f.Indexes.Bytes
		if share.Files <= f.Indexes.Files || share.Files >= f.Indexes.Files+f.Packages.Files {
			t.Errorf("%s is to hold %+v of %+v", s.name, share, f.Packages)
		}
	}
	if planned != 2*f.Packages.Bytes {
		t.Errorf("%d bytes of packages are planned, of %d, in 2 copies", planned, f.Packages.Bytes)
	}
	// One node tells all.
	m.up.SetBandwidth(0, 200_000)
	if _, err := m.sites[0].node.RunMirror(t.Context(), "all"); err != nil {
		t.Fatal(err)
	}
	m.eventually("the mirrors are at it", func() bool { return m.sites[2].mirror(t).Held.Files > f.Indexes.Files+3 })
	m.sites[2].kill()
	defer func() {
		if t.Failed() {
			m.mirrors()
		}
	}()
	m.up.SetBandwidth(0, 0)
	m.eventually("both that are left hold everything", func() bool {
		for _, s := range m.alive() {
			if got := s.mirror(t); got.Phase != "done" || got.Held.Files != f.Indexes.Files+f.Packages.Files {
				return false
			}
		}
		return true
	})
	for _, deb := range debs {
		// What was on its way to the node that died costs one more.
		if fresh, _ := m.fetches(deb); fresh > 2 {
			t.Errorf("%s was fetched %d times", deb, fresh)
		}
	}
	if once := len(debs) + 10; m.up.TotalRequests() > 2*once {
		t.Errorf("%d requests for %d files", m.up.TotalRequests(), once)
	}
	var seen admin.Mirror
	m.eventually("a node says how the mirror is on the other ones", func() bool {
		seen = m.sites[0].mirror(t)
		return len(seen.Others) > 0 && seen.Others[0].Phase == "done"
	})
	if other := seen.Others[0]; other.Node != "site1" || other.Held.Files != seen.Held.Files || len(seen.Others) == 2 && (seen.Others[1].Phase != "" || seen.Others[1].Failure == "") {
		t.Errorf("%+v", seen.Others)
	}
	if all, err := m.sites[1].node.VerifyMirror(t.Context(), "all"); err != nil || !all.Running() {
		t.Errorf("%+v, %v", all, err)
	}
	m.eventually("both have verified", func() bool {
		for _, s := range m.alive() {
			if got := s.mirror(t); got.Phase != "done" || got.Checked.Files != got.Held.Files {
				return false
			}
		}
		return true
	})
	m.up.Refuse()
	for i, deb := range debs {
		m.alive()[i%2].want(deb)
	}
}

// The copies of a mirror count in the whole cluster, and a node that joins takes its share.
func TestClusterMirrorFollowsTheRing(t *testing.T) {
	a, _ := mirrorArchive(40, 5000)
	m := &mesh{t: t}
	m.tune = append(m.tune, func(s *site) {
		s.holds = func(c *holds.Config) { c.ShareAfter, c.RetryAfter = 500*time.Millisecond, 200*time.Millisecond }
	})
	once := mirrorOf(func(m *holdconf.Mirror) { m.Copies = 1 })
	m.begin(a, 2, once)
	whole := func(what string) {
		t.Helper()
		m.eventually(what, func() bool {
			files, listed := 0, 0
			for _, s := range m.sites {
				got := s.mirror(t)
				if got.Phase != "done" || got.Missing.Files > 0 || got.Cluster.Files != got.Listed.Files || got.Share.Files < 8 {
					return false
				}
				listed = got.Listed.Files
				files += got.Share.Files
			}
			indexes := 5
			return files == listed-indexes+len(m.sites)*indexes
		})
	}
	whole("two nodes hold each package once")
	m.add(once)
	m.whole()
	whole("three nodes hold each package once")
}

// all on every node
func TestClusterMirrorOnEachNode(t *testing.T) {
	a, debs := mirrorArchive(10, 2000)
	m := newMesh(t, a, 2, mirrorOf(func(m *holdconf.Mirror) { m.Copies = 0 }), func(cfg *config.Config) {})
	m.eventually("both hold all", func() bool {
		for _, s := range m.sites {
			if got := s.mirror(t); got.Phase != "done" || got.Held.Files != got.Listed.Files || got.Held.Files < len(debs) {
				return false
			}
		}
		return true
	})
	for _, deb := range debs {
		if fresh, resumed := m.fetches(deb); fresh != 1 || resumed != 0 {
			t.Errorf("%s was fetched %d and %d times", deb, fresh, resumed)
		}
	}
	if strings.Contains(m.sites[0].mirror(t).Failure, "files are missing") {
		t.Error("files are missing")
	}
}
