package node_test

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// TestMetalinkAsUpstream: the mirrors of an archive are those that the metalink of one of its repositories names, as Fedora's
// hosts have them. The node remembers them over a restart.
func TestMetalinkAsUpstream(t *testing.T) {
	const repository = "releases/40/Everything/x86_64/os"
	repo := rpmarchive.Repo{Date: epoch, Packages: []rpmarchive.Package{{Name: "hello"}}}
	files := repo.Render("linux/" + repository + "/")
	for name, data := range (rpmarchive.Repo{Date: epoch, Packages: []rpmarchive.Package{{Name: "later"}}}).Render("linux/updates/40/Everything/x86_64/") {
		files[name] = data
	}
	near, far := newTreeServer(t), newTreeServer(t)
	near.show(files, epoch)
	far.show(files, epoch)

	var asked atomic.Int64
	manager := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metalink" || r.FormValue("repo") != "fedora-40" || r.FormValue("arch") != "x86_64" {
			http.NotFound(w, r)
			return
		}
		asked.Add(1)
		w.Header().Set("Content-Type", "application/metalink+xml")
		var urls strings.Builder
		for i, s := range []*treeServer{near, far} {
			urls.WriteString(`<url protocol="http" type="http" location="DE" preference="` + string(rune('9'-i)) + `">` + s.URL + "/linux/" + repository + "/repodata/repomd.xml</url>\n")
		}
		text := string(rpmarchive.Metalink(rpmarchive.Named{Repomd: files["linux/"+repository+"/repodata/repomd.xml"]}))
		w.Write([]byte(strings.Replace(text, "</resources>", urls.String()+"</resources>", 1)))
	}))
	t.Cleanup(manager.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: manager.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
		a := archiveconf.New("ubuntu")
		m := archiveconf.NewMirror()
		m.URL, m.TLS.CA = "mirror+"+manager.URL+"/metalink?repo=fedora-40&arch=x86_64#"+repository, ca
		a.Format, a.Upstreams, a.Unsigned = "rpm", []archiveconf.Mirror{m}, true
		cfg.Archives = []archiveconf.Archive{a}
	})
	w.mirrorsAre(near.URL+"/linux", far.URL+"/linux")
	gives := func(path string) {
		t.Helper()
		if r := w.get(path); r.status != 200 || !bytes.Equal(r.body, files["linux/"+path]) {
			t.Errorf("%s: %d %.200s", path, r.status, r.body)
		}
	}
	gives(repository + "/repodata/repomd.xml")
	gives("updates/40/Everything/x86_64/repodata/repomd.xml") // another repository of the archive
	for name := range files {
		if strings.HasPrefix(name, "linux/"+repository+"/repodata/") {
			gives(strings.TrimPrefix(name, "linux/"))
		}
	}
	// What the node writes for its hosts, of the archive and of a snapshot.
	if _, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "w1"}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"/ubuntu/" + repository, "/snapshot/ubuntu/w1/" + repository} {
		status, text := ask(t, w.node.Addrs()[0], at+"/metalink")
		sum := testarchive.Sum(testarchive.SHA256, files["linux/"+repository+"/repodata/repomd.xml"])
		if status != 200 || !strings.Contains(text, ">http://cache:3142"+at+"/repodata/repomd.xml<") || !strings.Contains(text, sum) {
			t.Errorf("%s/metalink: %d %s", at, status, text)
		}
	}
	if status, text := ask(t, w.node.Addrs()[0], "/ubuntu/nothing/here/mirrorlist"); status != 404 {
		t.Errorf("the list of no repository: %d %s", status, text)
	}
	near.Close()
	manager.Close()
	w.stop()
	w.start()
	w.mirrorsAre(near.URL+"/linux", far.URL+"/linux")
	gives(repository + "/Packages/h/hello-1-1.x86_64.rpm")
	if asked.Load() != 1 {
		t.Errorf("the list was read %d times", asked.Load())
	}
}

// TestListUnderTrustHTTPS: where certificates vouch, a list over https may name the mirrors, and those without https are left
// out.
func TestListUnderTrustHTTPS(t *testing.T) {
	lists := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("http://a.example.org/9/BaseOS/$basearch/os/\nhttps://b.example.org/9/BaseOS/$basearch/os/\n"))
	}))
	t.Cleanup(lists.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lists.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newArchive(), func(cfg *config.Config) {
		a := archiveconf.New("ubuntu")
		m := archiveconf.NewMirror()
		m.URL, m.TLS.CA = "mirror+"+lists.URL+"/mirrorlist/9/baseos#9/BaseOS/$basearch/os", ca
		a.Format, a.Upstreams, a.TrustHTTPS, a.CheckEvery = "rpm", []archiveconf.Mirror{m}, true, time.Hour
		cfg.Archives = []archiveconf.Archive{a}
	})
	w.mirrorsAre("https://b.example.org")
}

// TestListWithoutUse: hosts are told why a list leaves an archive without a mirror.
func TestListWithoutUse(t *testing.T) {
	lists := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("http://a.example.org/9/BaseOS\n"))
	}))
	t.Cleanup(lists.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lists.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
		a := archiveconf.New("ubuntu")
		m := archiveconf.NewMirror()
		m.URL, m.TLS.CA = "mirror+"+lists.URL+"/list", ca
		a.Format, a.Upstreams, a.TrustHTTPS = "rpm", []archiveconf.Mirror{m}, true
		cfg.Archives = []archiveconf.Archive{a}
	})
	if r := w.get("repodata/repomd.xml"); r.status != 503 || !strings.Contains(string(r.body), "only mirrors with https count") {
		t.Errorf("%d %s", r.status, r.body)
	}
}
