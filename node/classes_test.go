package node_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// ppas is an upstream with two archives of one kind, signed by different keys.
type ppas struct {
	up     *testarchive.Server
	alice  *testarchive.Archive
	bobKey *testarchive.Key
	keys   string // a directory with the key of alice/tools
}

func newPPAs(t *testing.T) *ppas {
	t.Helper()
	p := &ppas{up: testarchive.NewServer(testarchive.New(1)), bobKey: testarchive.NewKey("bob", testarchive.KeyOptions{}), keys: t.TempDir()}
	t.Cleanup(p.up.Close)
	p.alice = newArchive()
	bob := newArchive(func(s *testarchive.Suite) { s.Keys = []*testarchive.Key{p.bobKey} })
	p.up.Mount("/alice/tools/ubuntu", p.alice)
	p.up.Mount("/bob/apps/ubuntu", bob)
	if err := os.WriteFile(filepath.Join(p.keys, "alice.gpg"), p.alice.Keyring(), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// class is a configuration with the class and nothing else.
func (p *ppas) class(change ...func(*archiveconf.Archive)) func(*config.Config) {
	return func(cfg *config.Config) {
		a := archiveconf.New("ppa")
		a.Upstream, a.SignedBy = p.up.URL+"/*/*/ubuntu", []string{p.keys}
		for _, c := range change {
			c(&a)
		}
		cfg.Archives = []archiveconf.Archive{a}
	}
}

// ask asks a node for the path of a URL, or as a proxy for a URL.
func ask(t *testing.T, addr, target string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://" + addr) }}}
	defer client.CloseIdleConnections()
	if strings.HasPrefix(target, "/") {
		client.Transport = &http.Transport{}
		target = "http://" + addr + target
	}
	resp, err := client.Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// Each value of a pattern is an archive of its own, by its name and by its URL, with its own key; and it is there still
// after a restart without upstream.
func TestClass(t *testing.T) {
	p := newPPAs(t)
	w := newWorld(t, newArchive(), p.class())
	addr := func() string { return w.node.Addrs()[0] }
	if w := w.node.Why(p.up.URL + "/alice/tools/ubuntu/" + inRelease); w.Archive != "ppa/alice/tools" || len(w.Sentences) != 1 || !strings.Contains(w.Sentences[0], "the first request makes it") {
		t.Errorf("%+v", w)
	}
	if status, body := ask(t, addr(), "/ppa/alice/tools/"+inRelease); status != 200 || !strings.Contains(body, "Suite: noble") {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := ask(t, addr(), p.up.URL+"/alice/tools/ubuntu/"+smallDeb); status != 200 || !strings.HasPrefix(body, "!<arch>") {
		t.Fatalf("%d %s", status, body)
	}
	status, body := ask(t, addr(), p.up.URL+"/bob/apps/ubuntu/"+inRelease)
	if status != 403 || !strings.Contains(body, p.bobKey.KeyID()) || !strings.Contains(body, "put it into a file in "+p.keys) {
		t.Fatalf("%d %s", status, body)
	}
	if _, line, _ := from(t, "127.0.0.1", addr(), "/ppa/bob/apps/"+inRelease); !strings.Contains(line, "put it into a file in "+p.keys) || strings.HasSuffix(line, " ...") {
		t.Errorf("the status line does not say where the key belongs: %s", line)
	}
	if err := os.WriteFile(filepath.Join(p.keys, "bob.asc"), p.bobKey.Armored(), 0o644); err != nil {
		t.Fatal(err)
	}
	w.eventually("the new key counts", func() bool {
		status, _ := ask(t, addr(), "/ppa/bob/apps/"+inRelease)
		return status == 200
	})
	for target, want := range map[string]int{
		"/ppa/nobody/none/" + inRelease: 404, "/ppa/": 404, "/ppa": 404, "/ppa/alice/": 404, "/ppa/alice/tools/": 404, "/ppa/alice/.x/y": 404,
		p.up.URL + "/alice/tools/debian/" + inRelease: 403, "/" + strings.TrimPrefix(p.up.URL, "http://") + "/alice/tools/ubuntu/" + inRelease: 200,
	} {
		if status, body := ask(t, addr(), target); status != want {
			t.Errorf("%s: %d, want %d: %s", target, status, want, body)
		}
	}
	w.eventually("the archives are written down", func() bool {
		text, _ := os.ReadFile(filepath.Join(w.cfg.StateDir(), "classes.json"))
		return strings.Contains(string(text), "ppa/alice/tools") && strings.Contains(string(text), "ppa/bob/apps") && !strings.Contains(string(text), "nobody")
	})
	w.stop()
	p.up.Close()
	w.start()
	for _, name := range []string{"alice/tools", "bob/apps"} {
		if status, body := ask(t, addr(), "/ppa/"+name+"/"+inRelease); status != 200 {
			t.Errorf("%s after a restart: %d %s", name, status, body)
		}
	}
	if s := w.node.Status(); len(s.Archives) != 2 {
		t.Errorf("%+v", s.Archives)
	}
}

// A name with a value left out is the name of no archive, and the answer says what is missing. By its URL an archive may
// be called like anything.
func TestClassNameWithoutAValue(t *testing.T) {
	p := newPPAs(t)
	p.up.Mount("/alice/pool/ubuntu", p.alice)
	w := newWorld(t, newArchive(), p.class())
	addr := w.node.Addrs()[0]
	for _, path := range []string{"/ppa/alice/" + inRelease, "/ppa/" + inRelease, "/ppa/alice/" + smallDeb, "/ppa/alice/InRelease", "/ppa/alice/./" + inRelease} {
		if status, body := ask(t, addr, path); status != 404 && status != 400 || status == 404 && !strings.Contains(body, "ppa is a class of archives: ask for ppa/*/*") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if s := w.node.Status(); len(s.Archives) != 0 {
		t.Errorf("archives were made: %+v", s.Archives)
	}
	if status, body := ask(t, addr, p.up.URL+"/alice/pool/ubuntu/"+inRelease); status != 200 {
		t.Errorf("an archive called pool: %d %s", status, body)
	}
	if status, body := ask(t, addr, "/ppa/alice/pool/"+inRelease); status != 200 {
		t.Errorf("its name, now that it is there: %d %s", status, body)
	}
}

// from asks a node for the path of a URL from another address of this machine.
func from(t *testing.T, client, addr, path string) (status int, line, body string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Status, string(text)
}

// A client whose names mean nothing keeps no other client from an archive, and pushes out none that is there.
func TestClassJunk(t *testing.T) {
	p := newPPAs(t)
	if err := os.WriteFile(filepath.Join(p.keys, "bob.asc"), p.bobKey.Armored(), 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newArchive(), p.class(func(a *archiveconf.Archive) { a.MaxArchives = 12 }))
	addr := w.node.Addrs()[0]
	if status, _, body := from(t, "127.0.0.1", addr, "/ppa/alice/tools/"+inRelease); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for i := range 30 {
		if status, _, body := from(t, "127.0.0.9", addr, fmt.Sprintf("/ppa/nobody/n%d/%s", i, inRelease)); status != 404 {
			t.Errorf("name %d: %d %s", i, status, body)
		}
	}
	if status, _, body := from(t, "127.0.0.1", addr, "/ppa/bob/apps/"+inRelease); status != 200 {
		t.Errorf("another client: %d %s", status, body)
	}
	if n := len(w.node.Status().Archives); n > 12 {
		t.Errorf("there are %d archives, max_archives is 12", n)
	}
	p.up.Close()
	for _, name := range []string{"alice/tools", "bob/apps"} {
		if status, _, body := from(t, "127.0.0.1", addr, "/ppa/"+name+"/"+inRelease); status != 200 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// Hosts behind one address, which ask for more new archives at the same moment than one client may have without a
// Release, all get theirs.
func TestClassBehindOneAddress(t *testing.T) {
	p := newPPAs(t)
	const hosts = 25
	for i := range hosts {
		p.up.Mount(fmt.Sprintf("/alice/t%d/ubuntu", i), p.alice)
	}
	w := newWorld(t, newArchive(), p.class(), func(cfg *config.Config) {
		cfg.UpstreamClient.HeaderTimeout, cfg.UpstreamClient.StallTimeout = 20*time.Second, 20*time.Second
		cfg.UpstreamClient.ConnectionsPerHost = 2 * hosts
	})
	addr := w.node.Addrs()[0]
	held := p.up.Inject("*InRelease", 0, testarchive.Stall(-1))
	defer held.Release()
	var all sync.WaitGroup
	go func() { // none gets its Release before all have asked
		for range hosts {
			select {
			case <-held.Stalled():
			case <-t.Context().Done():
			}
		}
		held.Release()
	}()
	for i := range hosts {
		all.Go(func() {
			if status, body := ask(t, addr, fmt.Sprintf("/ppa/alice/t%d/%s", i, inRelease)); status != 200 {
				t.Errorf("host %d: %d %s", i, status, body)
			}
		})
	}
	all.Wait()
}

// A class whose archives are all in use refuses one more. The first words of the answer say what to do.
func TestClassFull(t *testing.T) {
	p := newPPAs(t)
	w := newWorld(t, newArchive(), p.class(func(a *archiveconf.Archive) { a.MaxArchives = 1 }))
	addr := w.node.Addrs()[0]
	if status, body := ask(t, addr, "/ppa/alice/tools/"+inRelease); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	status, line, body := from(t, "127.0.0.1", addr, "/ppa/bob/apps/"+inRelease)
	if status != 503 || !strings.HasPrefix(line, "503 raise archives.ppa.max_archives, which is 1: ") {
		t.Errorf("%q", line)
	}
	if !strings.HasPrefix(body, "ppa/bob/apps/"+inRelease+": not available at the moment: raise archives.ppa.max_archives") {
		t.Errorf("%q", body)
	}
	if n := w.node.Metric("aptmesh_class_full_total"); n != 1 {
		t.Errorf("aptmesh_class_full_total is %v", n)
	}
	if latest := w.node.Why("/ppa/bob/apps/" + inRelease).Latest; latest == nil || latest.Reason != "class-full" {
		t.Errorf("%+v", latest)
	}
}

// A client that may not read the class makes no archive, and a reload keeps the archives of a class that stays.
func TestClassReload(t *testing.T) {
	p := newPPAs(t)
	w := newWorld(t, newArchive(), p.class(func(a *archiveconf.Archive) { a.Deny = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }))
	addr := w.node.Addrs()[0]
	if status, body := ask(t, addr, "/ppa/alice/tools/"+inRelease); status != 403 {
		t.Fatalf("%d %s", status, body)
	}
	if s := w.node.Status(); len(s.Archives) != 0 {
		t.Fatalf("%+v", s.Archives)
	}
	reload := func(change func(*config.Config)) {
		t.Helper()
		next := *w.cfg
		change(&next)
		if _, restart, err := w.node.Reload(&next); err != nil || len(restart) > 0 {
			t.Fatal(restart, err)
		}
	}
	reload(p.class())
	if status, body := ask(t, addr, "/ppa/alice/tools/"+inRelease); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	asked := p.up.Requests("alice/tools/ubuntu/" + inRelease)
	if asked == 0 {
		t.Fatal("nothing was counted")
	}
	reload(p.class(func(a *archiveconf.Archive) { a.MaxArchives = 7 }))
	if status, body := ask(t, addr, "/ppa/alice/tools/"+inRelease); status != 200 || p.up.Requests("alice/tools/ubuntu/"+inRelease) != asked {
		t.Fatalf("%d %s", status, body)
	}
	reload(func(cfg *config.Config) { cfg.Archives = cfg.Archives[:0:0] })
	if status, _ := ask(t, addr, "/ppa/alice/tools/"+inRelease); status != 404 {
		t.Fatalf("the class is gone, and its archive answers %d", status)
	}
}

// All nodes derive the same archive from one URL: each object crosses from upstream once, whichever node is asked first and by
// which name, and a publication reaches the nodes that have the archive.
func TestClassInCluster(t *testing.T) {
	p := newPPAs(t)
	m := newMesh(t, newArchive(), 3, p.class(func(a *archiveconf.Archive) { a.CheckEvery = time.Second }))
	urls := []string{"/ppa/alice/tools/", p.up.URL + "/alice/tools/ubuntu/", "/HTTPS///" + strings.TrimPrefix(p.up.URL, "http://") + "/alice/tools/ubuntu/"}
	for _, path := range []string{inRelease, packages, largeDeb} {
		var all sync.WaitGroup
		for i, s := range m.sites {
			for _, at := range urls {
				all.Go(func() {
					if status, body := ask(t, s.addr, at+path); status != 200 {
						t.Errorf("node %d, %s: %d %s", i, at+path, status, body)
					}
				})
			}
		}
		all.Wait()
	}
	if n := p.up.Requests("alice/tools/ubuntu/" + largeDeb); n != 1 {
		t.Errorf("the package was fetched %d times", n)
	}
	for _, s := range m.sites {
		if archives := s.node.Status().Archives; len(archives) != 1 || archives[0].Name != "ppa/alice/tools" {
			t.Errorf("%s has %+v", s.name, archives)
		}
	}
	p.alice.AddPackage("noble", testarchive.Package{Name: "newer", Version: "2", Size: 500})
	next := epoch.Add(10 * time.Minute)
	p.alice.Publish(next)
	m.eventually("all nodes serve the publication", func() bool {
		for _, s := range m.sites {
			_, body := ask(t, s.addr, urls[0]+inRelease)
			if !strings.Contains(body, "Date: "+next.Format(time.RFC1123)) && !strings.Contains(body, next.Format("15:04:05")) {
				return false
			}
		}
		return true
	})
	if status, body := ask(t, m.sites[2].addr, urls[1]+"pool/main/n/newer/newer_2_amd64.deb"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

// Every member of a class is asked with the private CA and the token of the class, and no other host sees the
// token: not one that the upstream sends the node to, and not one that an alias names.
func TestClassOfPrivateUpstream(t *testing.T) {
	a := newArchive()
	private := testarchive.NewTLSServer(testarchive.New(1))
	t.Cleanup(private.Close)
	private.RequireBearer("hunter2")
	private.Mount("/alice", a)
	private.Mount("/bob", a)
	var elsewhere atomic.Int32 // requests with a token
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			elsewhere.Add(1)
		}
		http.Redirect(w, r, private.URL+"/alice/"+smallDeb, http.StatusFound)
	}))
	t.Cleanup(other.Close)
	asked := private.Inject("*"+largeDeb, 1, testarchive.Redirect(http.StatusFound, other.URL+"/moved/"))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, private.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	if err := os.WriteFile(filepath.Join(keys, "a.gpg"), a.Keyring(), 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newArchive(), func(cfg *config.Config) {
		c := archiveconf.New("team")
		at := archiveconf.NewMirror()
		at.URL, at.TLS.CA, at.Credentials.Bearer = private.URL+"/*", ca, upstream.NewSecret("hunter2")
		c.Upstreams, c.Aliases, c.SignedBy = []archiveconf.Mirror{at}, []string{other.URL + "/*"}, []string{keys}
		cfg.Archives = archiveconf.Archives{c}
	})
	addr := w.node.Addrs()[0]
	for _, target := range []string{
		"/team/alice/" + inRelease, "/team/bob/" + inRelease, "/team/alice/" + smallDeb, other.URL + "/bob/" + smallDeb, "/HTTPS///" + strings.TrimPrefix(private.URL, "https://") + "/bob/" + packages,
	} {
		if status, body := ask(t, addr, target); status != 200 {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if status, body := ask(t, addr, "/team/alice/"+largeDeb); status == 200 || asked.Hits() == 0 {
		t.Errorf("a redirect to another file: %d %.100s", status, body)
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("another host got the token %d times", n)
	}
	if status := w.node.Status(); len(status.Classes) != 1 || status.Classes[0].Upstream != private.URL+"/*" || len(status.Archives) != 2 {
		t.Errorf("%+v %+v", status.Classes, status.Archives)
	}
}

// A node that owns a package of an archive which no client asked it for fetches it for the others all the same.
func TestClassOwner(t *testing.T) {
	p := newPPAs(t)
	m := newMesh(t, newArchive(), 2, p.class())
	if status, body := ask(t, m.sites[0].addr, "/ppa/alice/tools/"+inRelease); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for i := range 12 {
		ask(t, m.sites[0].addr, fmt.Sprintf("/ppa/alice/tools/pool/main/x/none%d.deb", i))
	}
	m.eventually("the other node has the archive, too", func() bool {
		archives := m.sites[1].node.Status().Archives
		return len(archives) == 1 && archives[0].Name == "ppa/alice/tools"
	})
}
