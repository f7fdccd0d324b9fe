package node_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// treeServer serves a tree of files that tests replace as a whole, and counts what it is asked for.
type treeServer struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string][]byte
	modified time.Time
	asked    map[string]int
}

func newTreeServer(t *testing.T) *treeServer {
	s := &treeServer{asked: make(map[string]int)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		s.asked[name]++
		data, ok := s.files[name]
		modified := s.modified
		s.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", modified, bytes.NewReader(data))
	}))
	t.Cleanup(s.Close)
	return s
}

// show replaces the tree, all of one date.
func (s *treeServer) show(files map[string][]byte, modified time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files, s.modified = files, modified
}

// requests are how often each file was asked for.
func (s *treeServer) requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked)
}

// edition is a repository of one format at two dates. The second has no package of the first.
type edition struct {
	suite       string
	root, pkg   string
	first, next map[string][]byte
}

// editions is one repository in every format, with the configuration that it needs.
func editions(first, next time.Time) map[string]struct {
	edition
	trust func(*archiveconf.Archive)
} {
	apt := testarchive.New(7)
	apt.AddSuite(testarchive.Suite{Name: "noble", Components: []string{"main"}, Architectures: []string{"amd64"}, ByHash: true})
	pkg := apt.AddPackage("noble", testarchive.Package{Name: "old", Version: "1", Size: 2000})
	apt.Publish(first)
	debFirst := maps.Clone(apt.Files())
	apt.RemovePackage("noble", "old")
	apt.AddPackage("noble", testarchive.Package{Name: "new", Version: "1", Size: 2000})
	apt.Publish(next)
	debNext := maps.Clone(apt.Files())
	delete(debNext, pkg)

	rpm := func(date time.Time, name string) map[string][]byte {
		return rpmarchive.Repo{Date: date, Packages: []rpmarchive.Package{{Name: name}}}.Render("os/")
	}
	arch := func(date time.Time, name string) map[string][]byte {
		files := make(map[string][]byte)
		testrepo.Repo{Dir: "core/os/x86_64", Name: "core", Built: date, Packages: []testrepo.Package{{Name: name, Version: "1-1", Size: 2000}}}.Render(files)
		return files
	}
	unsigned := func(format string) func(*archiveconf.Archive) {
		return func(a *archiveconf.Archive) { a.Format, a.Unsigned = format, true }
	}
	type formatted = struct {
		edition
		trust func(*archiveconf.Archive)
	}
	return map[string]formatted{
		"apt":    {edition{"dists/noble", inRelease, pkg, debFirst, debNext}, func(a *archiveconf.Archive) { a.SignedBy = []string{string(apt.ArmoredKeyring())} }},
		"rpm":    {edition{"os", "os/repodata/repomd.xml", "os/Packages/o/old-1-1.x86_64.rpm", rpm(first, "old"), rpm(next, "new")}, unsigned("rpm")},
		"pacman": {edition{"core/os/x86_64/core.db", "core/os/x86_64/core.db", "core/os/x86_64/old-1-1-x86_64.pkg.tar.zst", arch(first, "old"), arch(next, "new")}, unsigned("pacman")},
	}
}

// TestHistory: a host with the index of yesterday gets a package that upstream has dropped since, from a service of
// `history`, verified as always.
func TestHistory(t *testing.T) {
	first := epoch.Add(-48 * time.Hour).Truncate(24 * time.Hour).Add(5*time.Hour + 6*time.Minute + 7*time.Second)
	next := first.Add(24 * time.Hour)
	for format, e := range editions(first, next) {
		for _, tc := range []struct {
			name, template string
			at             string // where the service has it
			lies           bool   // it has other bytes
		}{
			{name: "of every second", template: "", at: first.Format("20060102T150405Z")},
			{name: "of every day", template: "/repos/{yyyy}/{mm}/{dd}", at: first.Add(24 * time.Hour).Format("repos/2006/01/02")},
			{name: "of the day before", template: "/repos/{yyyy}/{mm}/{dd}", at: first.Format("repos/2006/01/02")},
			{name: "of other bytes", template: "/{yyyy}{mm}{dd}/", at: first.Format("20060102"), lies: true},
		} {
			t.Run(format+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				mirror, service := newTreeServer(t), newTreeServer(t)
				mirror.show(e.first, first)
				want := e.first[e.pkg]
				kept := want
				if tc.lies {
					kept = bytes.Repeat([]byte{'x'}, len(want))
				}
				service.show(map[string][]byte{path.Join(tc.at, e.pkg): kept}, first)

				w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
					a := archiveconf.New("ubuntu")
					a.Upstream, a.History, a.CheckEvery = mirror.URL, service.URL+tc.template, 200*time.Millisecond
					e.trust(&a)
					cfg.Archives = []archiveconf.Archive{a}
				})
				serves := func(files map[string][]byte) bool { return bytes.Equal(w.get(e.root).body, files[e.root]) }
				if !serves(e.first) {
					t.Fatalf("the first root is not served: %d %s", w.get(e.root).status, w.get(e.root).body)
				}
				for name := range e.first { // what an index lists is known when a host has used it
					if strings.Contains(name, "repodata/") || strings.Contains(name, "/binary-amd64/Packages") {
						w.get(name)
					}
				}
				mirror.show(e.next, next)
				w.eventually("the next root is served", func() bool { return serves(e.next) })

				r := w.get(e.pkg)
				if tc.lies {
					if r.err == nil && r.status == 200 {
						t.Errorf("other bytes were served as the package: %d, %d bytes", r.status, len(r.body))
					}
					return
				}
				if r.status != 200 || r.err != nil || !bytes.Equal(r.body, want) || strings.Contains(r.header.Get("X-Aptmesh"), "listed=no") {
					t.Errorf("%d, %d bytes, %v; %v; the service was asked for %v", r.status, len(r.body), r.err, r.header, service.requests())
				}
				if again := w.get(e.pkg); !bytes.Equal(again.body, want) {
					t.Errorf("the second time: %d", again.status)
				}
				if asked := service.requests(); asked[path.Join(tc.at, e.pkg)] != 1 || len(asked) > 2 {
					t.Errorf("the service was asked for %v", asked)
				}
			})
		}
	}
}

// TestHistoryOfSnapshots: a host on a snapshot gets a package that upstream has dropped and that no generation of the live
// archive names any more.
func TestHistoryOfSnapshots(t *testing.T) {
	first, next := epoch.Add(-48*time.Hour), epoch.Add(-time.Hour)
	for format, e := range editions(first, next) {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			mirror, service := newTreeServer(t), newTreeServer(t)
			mirror.show(e.first, first)
			at := path.Join(first.Format("20060102T150405Z"), e.pkg)
			service.show(map[string][]byte{at: e.first[e.pkg]}, first)
			w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
				a := archiveconf.New("ubuntu")
				a.Upstream, a.History, a.CheckEvery = mirror.URL, service.URL, 200*time.Millisecond
				e.trust(&a)
				cfg.Archives = []archiveconf.Archive{a}
			})
			for name := range e.first {
				if name != e.pkg {
					w.get(name)
				}
			}
			if _, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "w48"}); err != nil {
				t.Fatal(err)
			}
			mirror.show(e.next, next)
			if _, err := w.node.Drop("ubuntu/" + e.suite); err != nil {
				t.Fatal(err)
			}
			w.stop()
			w.start()
			if !bytes.Equal(w.get(e.root).body, e.next[e.root]) {
				t.Error("the next root is not served")
			}
			if r := w.get(e.pkg); r.status != 404 {
				t.Errorf("the live archive names it still: %d", r.status)
			}
			if asked := service.requests(); len(asked) != 0 {
				t.Errorf("the service was asked for what no host of a snapshot wants: %v", asked)
			}
			status, body := ask(t, w.node.Addrs()[0], "/snapshot/ubuntu/w48/"+e.pkg)
			if status != 200 || body != string(e.first[e.pkg]) {
				t.Errorf("%d %.200s; the service was asked for %v", status, body, service.requests())
			}
		})
	}
}

// TestHistoryInACluster: whichever node fetches a package for the others, it knows the dates at which generations and snapshots
// list it, although no host of its own has used them.
func TestHistoryInACluster(t *testing.T) {
	for _, below := range []string{"/ubuntu/", "/snapshot/ubuntu/w48/"} {
		t.Run(strings.Trim(strings.ReplaceAll(below, "/", "-"), "-"), func(t *testing.T) { historyInACluster(t, below) })
	}
}

func historyInACluster(t *testing.T, below string) {
	const packages = 12
	first, next := epoch.Add(-48*time.Hour), epoch.Add(-time.Hour)
	publish := func(date time.Time, version string) map[string][]byte {
		repo := rpmarchive.Repo{Date: date}
		for i := range packages {
			repo.Packages = append(repo.Packages, rpmarchive.Package{Name: fmt.Sprint("p", i), Version: version})
		}
		return repo.Render("os/")
	}
	before, after := publish(first, "1"), publish(next, "2")
	mirror, service := newTreeServer(t), newTreeServer(t)
	mirror.show(before, first)
	kept := make(map[string][]byte)
	for name, data := range before {
		kept[first.Format("20060102T150405Z/")+name] = data
	}
	service.show(kept, first)
	m := newMesh(t, newArchive(), 3, unhurried, func(cfg *config.Config) {
		a := archiveconf.New("ubuntu")
		a.Format, a.Upstream, a.History, a.Unsigned, a.CheckEvery = "rpm", mirror.URL, service.URL, true, time.Second
		cfg.Archives = []archiveconf.Archive{a}
	})
	use := func(files map[string][]byte) {
		t.Helper()
		for name := range files {
			if strings.Contains(name, "/repodata/") {
				if status, body := ask(t, m.sites[0].addr, "/ubuntu/"+name); status != 200 {
					t.Fatalf("%s: %d %s", name, status, body)
				}
			}
		}
	}
	earlier := publish(first.Add(-time.Hour), "0") // so that nodes know what hosts use when the next one comes
	mirror.show(earlier, first.Add(-time.Hour))
	use(earlier)
	mirror.show(before, first)
	m.eventually("all nodes have the first root, and what it lists", func() bool {
		return !slices.ContainsFunc(m.sites, func(s *site) bool {
			ask(t, s.addr, "/ubuntu/os/repodata/repomd.xml")
			suites := s.node.Status().Archives[0].Suites
			return len(suites) == 0 || suites[0].Root != proto.DigestOf(before["os/repodata/repomd.xml"]) || len(suites[0].Used) == 0
		})
	})
	const root = "os/repodata/repomd.xml"
	if below == "/ubuntu/" {
		mirror.show(after, next)
	} else {
		made, err := m.sites[0].node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "w48"})
		if err != nil || len(made.Unreached) > 0 {
			t.Fatalf("%+v, %v", made, err)
		}
		mirror.show(after, next)
		for _, s := range m.sites {
			_, _ = s.node.Drop("ubuntu/os") // what no host asked for here is not known here
		}
	}
	m.eventually("all nodes have the next root", func() bool {
		return !slices.ContainsFunc(m.sites, func(s *site) bool {
			_, body := ask(t, s.addr, "/ubuntu/"+root)
			return body != string(after[root])
		})
	})
	for i := range packages {
		name := fmt.Sprintf("os/Packages/p/p%d-1-1.x86_64.rpm", i)
		site := m.sites[1] // so that the third has opened no snapshot
		if status, body := ask(t, site.addr, below+name); status != 200 || body != string(before[name]) {
			t.Errorf("%s from %s: %d %.200s", name, site.name, status, body)
		}
	}
	if asked := service.requests(); len(asked) != packages {
		t.Errorf("the service was asked for %v", asked)
	}
}
