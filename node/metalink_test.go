package node_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// A node serves repositories that nobody signs, from a mirror without encryption, because the
// metalink of each vouches for its root.
func TestMetalinkVouches(t *testing.T) {
	const root = "releases/40/Everything/x86_64/os/repodata/repomd.xml"
	repo := rpmarchive.Repo{Date: epoch, Packages: []rpmarchive.Package{{Name: "hello"}}}
	render := func() map[string][]byte { return repo.Render("releases/40/Everything/x86_64/os/") }
	var files atomic.Pointer[map[string][]byte]
	publish := func() []byte {
		now := render()
		files.Store(&now)
		return now[root]
	}
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := (*files.Load())[strings.TrimPrefix(r.URL.Path, "/linux/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	}))
	t.Cleanup(mirror.Close)

	var named atomic.Pointer[[]byte]
	names := func(root []byte, alternates ...rpmarchive.Named) {
		text := rpmarchive.Metalink(rpmarchive.Named{Repomd: root}, alternates...)
		named.Store(&text)
	}
	manager := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metalink" || r.FormValue("repo") != "fedora-40" || r.FormValue("arch") != "x86_64" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/metalink+xml")
		w.Write(*named.Load())
	}))
	t.Cleanup(manager.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: manager.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}

	first := publish()
	names([]byte("another root"))
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
		a := archiveconf.New("ubuntu")
		a.Format, a.Upstream, a.CheckEvery = "rpm", mirror.URL+"/linux", 200*time.Millisecond
		a.Metalink, a.MetalinkCA = []string{"releases/*/Everything/*/os " + manager.URL + "/metalink?repo=fedora-{1}&arch={2}"}, ca
		cfg.Archives = []archiveconf.Archive{a}
	})
	if r := w.get(root); r.status != 403 || !strings.Contains(string(r.body), "metalink") {
		t.Fatalf("a root that the metalink does not name: %d %s", r.status, r.body)
	}
	if r := w.get("elsewhere/repodata/repomd.xml"); r.status != 404 {
		t.Errorf("a repository that does not exist: %d", r.status)
	}
	serves := func(want []byte) bool { return string(w.get(root).body) == string(want) }
	names(first)
	w.eventually("the root is served that the metalink names", func() bool { return serves(first) })
	const pkg = "releases/40/Everything/x86_64/os/Packages/h/hello-1-1.x86_64.rpm"
	if r := w.get(pkg); r.status != 200 || string(r.body) != string(render()[pkg]) || strings.Contains(r.header.Get("X-Aptmesh"), "listed=no") {
		t.Errorf("a package: %d %v", r.status, r.header)
	}

	// The mirror is ahead of the metalink.
	repo.Date, repo.Packages = epoch.Add(time.Minute), append(repo.Packages, rpmarchive.Package{Name: "later"})
	second := publish()
	time.Sleep(time.Second)
	if !serves(first) {
		t.Error("a root is served that the metalink does not name yet")
	}
	names(second, rpmarchive.Named{Repomd: first})
	w.eventually("the new root is served", func() bool { return serves(second) })

	// After a restart it is served while the metalink is out of reach.
	manager.Close()
	w.stop()
	w.start()
	if !serves(second) {
		t.Error("it is gone after a restart")
	}
}
