package node_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
)

const heavy = 4 << 20

// newHeavyArchive has one package that takes a while.
func newHeavyArchive() *testarchive.Archive {
	a := newArchive()
	a.AddPackage("noble", testarchive.Package{Name: "heavy", Version: "1", Size: heavy})
	a.Publish(epoch.Add(time.Minute))
	return a
}

const heavyDeb = "pool/main/h/heavy/heavy_1_amd64.deb"

// TestClusterHerd: a crowd on all nodes asks for one cold package at once.
func TestClusterHerd(t *testing.T) {
	m := newMesh(t, newHeavyArchive(), 5)
	for _, s := range m.sites {
		s.update()
	}
	m.up.ResetCounters()
	m.up.SetBandwidth(4<<20, 0)
	results := m.crowd(100, 1, func(_ int, s *site, c *client) result {
		return s.get(t.Context(), c, heavyDeb)
	})
	for i, r := range results {
		if r.status != 200 || r.err != nil || len(r.body) < heavy {
			t.Fatalf("client %d: %d, %d bytes, %v", i, r.status, len(r.body), r.err)
		}
	}
	if fresh, resumed := m.fetches(heavyDeb); fresh != 1 || resumed != 0 {
		t.Errorf("upstream was asked %d times, %d times for the rest; want once", fresh, resumed)
	}
	for _, s := range m.sites {
		r := s.want(heavyDeb)
		if r.header.Get("Last-Modified") != results[0].header.Get("Last-Modified") && results[0].header.Get("Last-Modified") != "" {
			t.Errorf("Last-Modified %q here, %q there", r.header.Get("Last-Modified"), results[0].header.Get("Last-Modified"))
		}
	}
	m.alike(heavyDeb, smallDeb, inRelease)
	m.checkCluster()
}

// alike demands that all nodes give the same bytes and validators (P6).
func (m *mesh) alike(paths ...string) {
	m.t.Helper()
	for _, path := range paths {
		var first result
		for i, s := range m.alive() {
			r := s.want(path)
			if i == 0 {
				first = r
			}
			for _, h := range []string{"Last-Modified", "Etag", "Content-Length"} {
				if r.header.Get(h) != first.header.Get(h) {
					m.t.Errorf("%s: %s says %s: %q, the first node %q", path, s.name, h, r.header.Get(h), first.header.Get(h))
				}
			}
		}
	}
}

// TestClusterOwnerDies: the owner of a package is killed while it passes it on.
func TestClusterOwnerDies(t *testing.T) {
	m := newMesh(t, newHeavyArchive(), 5)
	for _, s := range m.sites {
		s.update()
	}
	m.up.ResetCounters()
	m.up.SetBandwidth(2<<20, 0)
	owner := m.owner(heavyDeb)
	rest := m.others(owner)
	m.sites = rest // the clients are hosts of other sites
	done := make(chan []result)
	go func() {
		done <- m.crowd(60, 2, func(_ int, s *site, c *client) result { return s.get(t.Context(), c, heavyDeb) })
	}()
	m.eventually("a third has arrived", func() bool { return m.up.Bytes(heavyDeb) > heavy/3 })
	owner.kill()
	for i, r := range <-done {
		if r.status != 200 || r.err != nil || len(r.body) < heavy {
			t.Fatalf("client %d: %d, %d bytes, %v", i, r.status, len(r.body), r.err)
		}
	}
	if fresh, resumed := m.fetches(heavyDeb); fresh != 1 || resumed > 1 {
		t.Errorf("upstream was asked %d times, and %d times for the rest; want once each", fresh, resumed)
	}
	m.checkCluster()
}

// owner is the site that the ring has a listed package fetched by.
func (m *mesh) owner(path string) *site {
	m.t.Helper()
	var owners []string
	m.eventually(path+" is listed", func() bool {
		owners = m.sites[0].why(path).Owners
		return len(owners) > 0
	})
	for _, s := range m.sites {
		if s.name == owners[0] {
			return s
		}
	}
	m.t.Fatalf("%s is owned by %s, which is no site", path, owners[0])
	return nil
}

// why is what a site would do about a path.
func (s *site) why(path string) *admin.Why {
	return s.node.Why("/ubuntu/" + path)
}

// others are all sites but one.
func (m *mesh) others(not *site) []*site {
	var rest []*site
	for _, s := range m.sites {
		if s != not {
			rest = append(rest, s)
		}
	}
	return rest
}

// TestClusterHoldersBeforeUpstream: what any node holds is not fetched again, also
// when its owner has changed.
func TestClusterHoldersBeforeUpstream(t *testing.T) {
	m := newMesh(t, newArchive(), 3)
	m.sites[0].update()
	m.sites[0].want(largeDeb)
	m.sites[0].want(smallDeb)
	for range 3 {
		m.add()
	}
	m.whole()
	m.up.ResetCounters()
	for _, s := range m.sites {
		s.update()
		s.want(largeDeb)
		s.want(smallDeb)
	}
	for _, path := range []string{largeDeb, smallDeb} {
		if n, _ := m.fetches(path); n != 0 {
			t.Errorf("%s was fetched %d times again though nodes held it", path, n)
		}
	}
	m.checkCluster()
}

// TestClusterColdRun: every node wants everything, in an order of its own.
func TestClusterColdRun(t *testing.T) {
	a := newArchive()
	var debs []string
	for i := range 40 {
		debs = append(debs, a.AddPackage("noble", testarchive.Package{Name: "p" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Version: "1", Size: 20 << 10}))
	}
	a.Publish(epoch.Add(time.Minute))
	m := newMesh(t, a, 3)
	m.crowd(9, 3, func(i int, _ *site, c *client) result {
		s := m.sites[i%3]
		for _, path := range append([]string{inRelease, m.byHash(packages)}, debs[i*4:]...) {
			if r := s.get(t.Context(), c, path); r.status != http.StatusOK || r.err != nil {
				t.Errorf("%s: %s: %d %v %.200s", s.name, path, r.status, r.err, r.body)
			}
		}
		return result{}
	})
	for _, path := range m.up.Paths() {
		if fresh, _ := m.fetches(path); fresh > 1 {
			t.Errorf("upstream was asked %d times for %s", fresh, path)
		}
	}
	m.checkCluster()
}

// TestClusterSwitch: the whole fleet asks for the new Release at the moment it is
// published; every host must get lists that fit together.
func TestClusterSwitch(t *testing.T) {
	m := newMesh(t, newArchive(), 4)
	for _, s := range m.sites {
		s.update()
	}
	for round := range 3 {
		m.archive.AddPackage("noble", testarchive.Package{Name: "new" + string(rune('a'+round)), Version: "1", Size: 3000})
		m.publish()
		m.up.ResetCounters()
		began := time.Now()
		m.crowd(80, uint64(round), func(i int, s *site, c *client) result {
			m.aptUpdate(s, m.sites[i%len(m.sites)], c) // anycast may move a host in between
			return result{}
		})
		m.eventually("all nodes serve the new Release", func() bool {
			f, _ := m.archive.Lookup(inRelease)
			for _, s := range m.sites {
				if r := s.get(context.Background(), newClient("watcher"), inRelease, "Cache-Control", "no-cache"); string(r.body) != string(f.Data) {
					return false
				}
			}
			return true
		})
		// Whoever insists has all of it asked for, once a second at most, and when the next one leads once more.
		most := 2 + int(time.Since(began)/time.Second)
		if fresh, _ := m.fetches(inRelease); fresh > most {
			t.Errorf("InRelease was fetched %d times in round %d, want %d at most", fresh, round, most)
		}
		if fresh, _ := m.fetches(m.byHash(packages)); fresh > 1 {
			t.Errorf("Packages was fetched %d times in round %d", fresh, round)
		}
	}
	m.checkCluster()
}

// aptUpdate reads a Release as apt does, and then, from a node that may not have
// adopted that Release yet, the index that it names.
func (m *mesh) aptUpdate(s, next *site, c *client) {
	r := s.get(context.Background(), c, inRelease, "Cache-Control", "no-cache")
	if r.status != 200 || r.err != nil {
		m.t.Errorf("%s: InRelease: %d %v %.200s", s.name, r.status, r.err, r.body)
		return
	}
	sum, ok := listedSum(r.body, "main/binary-amd64/Packages.xz")
	if !ok {
		m.t.Errorf("the Release lists no Packages.xz")
		return
	}
	path := "dists/noble/main/binary-amd64/by-hash/SHA256/" + sum
	index := next.get(context.Background(), c, path)
	if index.status != 200 || index.err != nil || testarchive.Sum(testarchive.SHA256, index.body) != sum {
		m.t.Errorf("%s: %s: %d, %d bytes, %v: %.200s", next.name, path, index.status, len(index.body), index.err, index.body)
	}
}

// listedSum finds the SHA-256 of a member in a Release.
func listedSum(release []byte, member string) (string, bool) {
	_, list, _ := strings.Cut(string(release), "\nSHA256:\n")
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(line, " ") {
			break
		}
		if f := strings.Fields(line); len(f) == 3 && f[2] == member {
			return f[0], true
		}
	}
	return "", false
}
