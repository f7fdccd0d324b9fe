package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// rpmWorld is a repository that createrepo_c makes of packages that rpmbuild makes, its server, and
// a node in front of it that calls it "r".
type rpmWorld struct {
	t        *testing.T
	dir      string // the repository, as its publisher has it
	archive  *testarchive.Archive
	server   *testarchive.Server
	liar     *testarchive.Server // asked before the server; nil: there is none
	node     *node
	key      *testarchive.Key
	shown    []string // paths on the server
	size     int      // of what the packages hold, in bytes
	packages string   // the directory below dir where they lie
	dress    func()   // what else belongs to a publication; before it is signed; nil: nothing
}

func newRPMWorld(t *testing.T, signed bool) *rpmWorld {
	t.Helper()
	w := newRPMRepository(t, signed)
	w.node = newNode(t, w.config())
	w.node.start()
	return w
}

// newRPMRepository is a world without its node.
func newRPMRepository(t *testing.T, signed bool) *rpmWorld {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("dnf and zypper install as root only")
	}
	needTools(t, "rpmbuild", "createrepo_c")
	w := &rpmWorld{t: t, dir: t.TempDir(), archive: testarchive.New(7), packages: "Packages"}
	if signed {
		w.key = testarchive.DefaultKey()
	}
	w.server = testarchive.NewServer(w.archive)
	t.Cleanup(w.server.Close)
	w.build("1.0", "hello")
	w.publish("repodata/repomd.xml.asc")
	return w
}

// config is a node's section for the repository, with these keys for it besides.
func (w *rpmWorld) config(keys ...string) string {
	trust := "unsigned: true"
	if w.key != nil {
		trust = fmt.Sprintf("signed_by: [%q]", w.keyFile())
	}
	return "archives:\n  r:\n    format: rpm\n" + indent(strings.Join(append(keys, upstreamKeys(w.server, w.liar, "/repo"), trust), "\n")) + "\n"
}

// keyFile is a file with the key that signs the repository.
func (w *rpmWorld) keyFile() string {
	w.t.Helper()
	return writeFile(w.t, filepath.Join(w.t.TempDir(), "key.asc"), w.key.Armored())
}

// run runs a program that must succeed.
func (w *rpmWorld) run(name string, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	return mustRun(w.t, (*lab.Root)(nil).Command(ctx, name, args...))
}

// build makes packages of one version.
func (w *rpmWorld) build(version string, names ...string) {
	w.t.Helper()
	top := w.t.TempDir()
	args := []string{"-bb", "--quiet", "--define", "_topdir " + top, "--define", "_rpmdir " + filepath.Join(w.dir, w.packages),
		"--define", "_binary_payload w0.gzdio", // not compressed, so that a size is a size
		"--define", "__os_install_post %{nil}"}
	for _, name := range names {
		args = append(args, writeFile(w.t, filepath.Join(top, name+".spec"), fmt.Appendf(nil, `Name: %[1]s
Version: %[2]s
Release: 1
Summary: greets
License: MIT
BuildArch: noarch
%%description
It greets the <world> & others.
%%install
mkdir -p %%{buildroot}/usr/share/%[1]s
echo %[2]s > %%{buildroot}/usr/share/%[1]s/version
head -c %[3]d /dev/zero > %%{buildroot}/usr/share/%[1]s/data
%%files
/usr/share/%[1]s
`, name, version, w.size)))
	}
	w.run("rpmbuild", args...)
}

// publish runs createrepo_c and shows the repository as it is then, nothing else: the metadata of
// the publication before is gone. late are files that stay as they were.
func (w *rpmWorld) publish(late ...string) {
	w.t.Helper()
	w.run("createrepo_c", "--quiet", "--no-database", "--zck", w.dir)
	if w.dress != nil {
		w.dress()
	}
	if w.key != nil {
		root := must(os.ReadFile(filepath.Join(w.dir, "repodata/repomd.xml")))(w.t)
		for name, data := range map[string][]byte{".asc": testarchive.DetachSign(root, time.Now(), w.key), ".key": w.key.Armored()} {
			writeFile(w.t, filepath.Join(w.dir, "repodata/repomd.xml"+name), data)
		}
	}
	if len(w.shown) == 0 {
		late = nil
	}
	w.show(late...)
}

// show puts the publisher's files on the server, except those that are late.
func (w *rpmWorld) show(late ...string) {
	w.t.Helper()
	files := make(map[string][]byte)
	err := fs.WalkDir(os.DirFS(w.dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files[name], err = os.ReadFile(filepath.Join(w.dir, name))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	kept := make(map[string]bool)
	for _, name := range late {
		delete(files, name)
		kept["repo/"+name] = true
	}
	for name, data := range files {
		w.archive.Put("repo/"+name, data, time.Now())
	}
	for _, path := range w.shown {
		if _, still := files[strings.TrimPrefix(path, "repo/")]; !still && !kept[path] {
			w.archive.Delete(path)
		}
	}
	w.shown = nil
	for name := range files {
		w.shown = append(w.shown, "repo/"+name)
	}
	for path := range kept {
		w.shown = append(w.shown, path)
	}
}

// refresh has the node look for a new generation, and tells what came of it.
func (w *rpmWorld) refresh() (adopted bool, said string) {
	w.t.Helper()
	out, errs, _ := w.node.run("refresh", "r/./", "--config", w.node.ConfigFile())
	return strings.Contains(out, "adopted"), out + errs
}

// get reads a file through the node.
func (w *rpmWorld) get(path string) (int, []byte) {
	w.t.Helper()
	resp := must(http.Get(w.node.URL + "/r/" + path))(w.t)
	defer resp.Body.Close()
	return resp.StatusCode, must(io.ReadAll(resp.Body))(w.t)
}

// dnfHost is a host with a root of its own.
type dnfHost struct {
	*lab.Dnf
	w *rpmWorld
}

func (w *rpmWorld) dnf(settings ...string) *dnfHost {
	w.t.Helper()
	return w.dnfAt(w.node.URL+"/r", settings...)
}

// dnfAt makes a host that has the repository at a URL.
func (w *rpmWorld) dnfAt(url string, settings ...string) *dnfHost {
	w.t.Helper()
	client, program := needDnf(w.t)
	return &dnfHost{must(lab.NewDnf(client, program, w.t.TempDir(), url, settings...))(w.t), w}
}

// run runs dnf, which must succeed.
func (h *dnfHost) run(args ...string) string {
	h.w.t.Helper()
	ctx, cancel := context.WithTimeout(h.w.t.Context(), 2*time.Minute)
	defer cancel()
	return mustRun(h.w.t, h.Command(ctx, args...))
}

// installed is the version of hello that is installed.
func (h *dnfHost) installed() string {
	h.w.t.Helper()
	return strings.TrimSpace(string(must(os.ReadFile(filepath.Join(h.Dir, "root/usr/share/hello/version")))(h.w.t)))
}

// TestDnf is a host's whole way, on a node that knows nothing yet, and over a publication.
func TestDnf(t *testing.T) {
	t.Parallel()
	for _, zchunk := range []string{"zchunk=0", "zchunk=1"} {
		t.Run(zchunk, func(t *testing.T) {
			w := newRPMWorld(t, false)
			host := w.dnf(zchunk)
			host.run("makecache")
			host.run("install", "hello")
			if got := host.installed(); got != "1.0" {
				t.Errorf("version %q is installed", got)
			}
			another := w.dnfAt(w.node.URL+"/r?token=of-this-host", zchunk) // dnf adds it to every URL
			another.run("install", "hello")
			if log := w.node.accessLog(); !strings.HasSuffix(log[len(log)-1].URL, "?***") {
				t.Errorf("dnf asked without the query: %s", log[len(log)-1].URL)
			}
			if n := w.server.Requests("repo/Packages/noarch/hello-1.0-1.noarch.rpm"); n != 1 {
				t.Errorf("upstream was asked %d times for the package that two hosts have", n)
			}

			_, before := w.get("repodata/repomd.xml")
			w.build("1.1", "hello")
			w.publish()
			if adopted, said := w.refresh(); !adopted {
				t.Fatalf("the new publication is not adopted: %s", said)
			}
			w.readable(before)
			host.run("upgrade", "--refresh", "hello")
			if got := host.installed(); got != "1.1" {
				t.Errorf("version %q is installed after the publication", got)
			}
		})
	}
}

// A node with an entitlement serves hosts that have none, as for Red Hat's CDN: a server of a private authority lets
// in only who shows a certificate, and its own certificate vouches for repositories that nobody signs. Without one of
// the two certificates nothing is served.
func TestDnfOverTLS(t *testing.T) {
	t.Parallel()
	w := newRPMRepository(t, false)
	serverCert, serverKey := newCertificate(t)
	entitlement, entitlementKey := newCertificate(t)
	entitled := x509.NewCertPool()
	entitled.AppendCertsFromPEM(must(os.ReadFile(entitlement))(t))
	cdn := httptest.NewUnstartedServer(w.server)
	cdn.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	cdn.TLS = &tls.Config{Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(serverCert, serverKey))(t)}, ClientCAs: entitled, ClientAuth: tls.RequireAndVerifyClientCert}
	cdn.StartTLS()
	t.Cleanup(cdn.Close)
	archive := func(name, tls string) string {
		w.server.Mount(name+"/", w.archive)
		return fmt.Sprintf("  %s:\n    format: rpm\n    trust_https: true\n    upstreams: [{url: %q, tls: {%s}}]\n", name, cdn.URL+"/"+name+"/repo", tls)
	}
	show := fmt.Sprintf("cert: %q, key: %q", entitlement, entitlementKey)
	w.node = newNode(t, "archives:\n"+archive("r", fmt.Sprintf("ca: %q, %s", serverCert, show))+
		archive("no-entitlement", fmt.Sprintf("ca: %q", serverCert))+archive("another-authority", fmt.Sprintf("ca: %q, %s", entitlement, show)))
	w.node.start()

	host := w.dnf()
	host.run("makecache")
	host.run("install", "hello")
	if got := host.installed(); got != "1.0" {
		t.Errorf("version %q is installed", got)
	}
	if log := w.node.accessLog(); !log[len(log)-1].Listed {
		t.Error("the package was not verified")
	}
	w.build("1.1", "hello")
	w.publish()
	if adopted, said := w.refresh(); !adopted {
		t.Fatalf("the new publication is not adopted: %s", said)
	}
	host.run("upgrade", "--refresh", "hello")
	if got := host.installed(); got != "1.1" {
		t.Errorf("version %q is installed after the publication", got)
	}
	for name, says := range map[string]string{"no-entitlement": "certificate", "another-authority": "certificate"} {
		resp, body := w.node.get("/" + name + "/repodata/repomd.xml")
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), says) {
			t.Errorf("%s: %s, %s", name, resp.Status, body)
		}
	}
}

// dnf repeats a request at once and a few times at most, and it sends no-cache with each repomd.xml: the node
// waits out what passes in seconds, and asks upstream no more often for that.
func TestDnfIsNotApt(t *testing.T) {
	t.Parallel()
	w := newRPMWorld(t, false)
	host := w.dnf()
	for range 3 {
		host.run("makecache", "--refresh")
		time.Sleep(1100 * time.Millisecond) // no-cache asks upstream once a second at most
	}
	if n := w.server.Requests("repo/repodata/repomd.xml"); n != 1 {
		t.Errorf("upstream was asked %d times for the root that is fresh", n)
	}
	trouble := w.server.Inject("repo/Packages/noarch/hello-1.0-1.noarch.rpm", 1000, testarchive.Status(http.StatusServiceUnavailable, 0))
	time.AfterFunc(8*time.Second, trouble.Remove)
	host.run("install", "hello")
	if got := host.installed(); got != "1.0" || trouble.Hits() == 0 {
		t.Errorf("version %q is installed, after %d errors of upstream", got, trouble.Hits())
	}
	for _, a := range w.node.accessLog() {
		if a.Status >= 500 {
			t.Errorf("dnf was told of the trouble: %+v", a)
		}
	}
}

// TestDnfWithLists: the node has its mirrors from the metalink of a repository, and its hosts have a metalink or a mirror list
// that the node writes, beside the repository, or in place of the server's where it is their proxy. It goes along with
// a publication.
func TestDnfWithLists(t *testing.T) {
	t.Parallel()
	w := newRPMRepository(t, false)
	asked := 0
	var mu sync.Mutex
	lists := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		root := must(os.ReadFile(filepath.Join(w.dir, "repodata/repomd.xml")))(t)
		text := string(rpmarchive.Metalink(rpmarchive.Named{Repomd: root, Date: time.Now().Add(-time.Hour)}))
		url := `<url protocol="http" type="http" preference="100">` + w.server.URL + "/repo/repodata/repomd.xml</url>"
		io.WriteString(rw, strings.Replace(text, "</resources>", url+"</resources>", 1))
	}))
	t.Cleanup(lists.Close)
	metalink := lists.URL + "/metalink?repo=r&arch=noarch"
	w.node = newNode(t, "archives:\n  r:\n    format: rpm\n    unsigned: true\n    upstream: mirror+"+metalink+"#repo\n")
	w.node.start()

	hosts := map[string]*dnfHost{
		"metalink":   w.dnfAt("metalink=" + w.node.URL + "/r/repo/metalink"),
		"mirrorlist": w.dnfAt("mirrorlist=" + w.node.URL + "/r/repo/mirrorlist"),
		"proxy":      w.dnfAt("metalink="+metalink+"\nproxy="+w.node.URL, "countme=1"),
	}
	for name, host := range hosts {
		host.run("makecache")
		host.run("install", "hello")
		if got := host.installed(); got != "1.0" {
			t.Errorf("%s: version %q is installed", name, got)
		}
	}
	w.build("1.1", "hello")
	w.publish()
	if out, errs, _ := w.node.run("refresh", "r/repo", "--config", w.node.ConfigFile()); !strings.Contains(out, "adopted") {
		t.Fatalf("the new publication is not adopted: %s%s", out, errs)
	}
	for name, host := range hosts {
		host.run("upgrade", "--refresh", "hello")
		if got := host.installed(); got != "1.1" {
			t.Errorf("%s: version %q is installed after the publication", name, got)
		}
	}
	for _, version := range []string{"1.0", "1.1"} {
		if n := w.server.Requests("repo/Packages/noarch/hello-" + version + "-1.noarch.rpm"); n != 1 {
			t.Errorf("upstream was asked %d times for the package that all hosts have", n)
		}
	}
	mu.Lock()
	if asked == 0 || asked > 2 {
		t.Errorf("the server of the metalink was asked %d times", asked)
	}
	mu.Unlock()
	served := make(map[string]bool)
	for _, a := range w.node.accessLog() {
		path, _, _ := strings.Cut(a.URL, "?")
		served[path] = true
		if a.Status >= 400 && !strings.Contains(a.URL, "comps") {
			t.Errorf("a host got %d for %s", a.Status, a.URL)
		}
	}
	for _, path := range []string{"/r/repo/metalink", "/r/repo/mirrorlist", lists.URL + "/metalink"} {
		if !served[path] {
			t.Errorf("no host asked for %s", path)
		}
	}
	if said := w.node.do("why", w.node.URL+"/r/repo/metalink"); !strings.Contains(said, "a list that this node writes itself") {
		t.Errorf("why: %s", said)
	}
}

var hrefs = regexp.MustCompile(`href="([^"]*)"`)

// readable demands that a host that has read a repomd.xml can go on with it, though upstream has
// deleted what it names: what hosts use was staged with it.
func (w *rpmWorld) readable(repomd []byte) {
	w.t.Helper()
	found := 0
	for _, m := range hrefs.FindAllSubmatch(repomd, -1) {
		path := string(m[1])
		if !strings.Contains(path, "-primary.xml") || w.server.Requests("repo/"+path) == 0 {
			continue
		}
		found++
		if status, body := w.get(path); status != http.StatusOK || !strings.Contains(path, testarchive.Sum(testarchive.SHA256, body)) {
			w.t.Errorf("%s of the publication before: status %d, %d bytes", path, status, len(body))
		}
	}
	if found == 0 {
		w.t.Error("no host has read a primary.xml")
	}
}

// newTrio starts three nodes that act as one cache.
func newTrio(t *testing.T, archives string) []*node {
	t.Helper()
	dir := must(os.MkdirTemp("", "aptmesh-cluster-"))(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cluster := must(lab.NewCluster(lab.Plan{Name: "e2e", Nodes: []string{"n1", "n2", "n3"}, Dir: dir, Binary: binary}))(t)
	var nodes []*node
	for _, l := range cluster.Nodes {
		n := tend(t, l)
		n.URL = l.URL()
		l.Settings = common + "drain: {handoff: 5s, timeout: 10s}\nprefetch: {enabled: false}\n" + archives +
			cluster.SectionWithKeys(l, "dc-"+l.Name, filepath.Join(cluster.Keys, l.Name))
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.spawn()
	}
	for _, n := range nodes {
		n.awaitReady()
	}
	if err := lab.Agree(t.Context(), cluster.Nodes...); err != nil {
		t.Fatal(err)
	}
	return nodes
}

// TestRPMCluster: of a repository that nobody signs, upstream is asked once for three nodes, and all of
// them follow a publication. When one of them dies, the others go on.
func TestRPMCluster(t *testing.T) {
	t.Parallel()
	w := newRPMRepository(t, false)
	nodes := newTrio(t, w.config("check_every: 1s"))
	var hosts []*dnfHost
	everywhere := func(version, command string) {
		t.Helper()
		for i, n := range nodes {
			if w.node = n; len(hosts) <= i {
				hosts = append(hosts, w.dnf())
			}
			hosts[i].run(command, "--refresh", "hello")
			if got := hosts[i].installed(); got != version {
				t.Errorf("node %d: version %q is installed, want %s", i+1, got, version)
			}
		}
		for _, path := range w.shown {
			if n := w.server.Requests(path); n > 1 && (strings.HasSuffix(path, ".rpm") || strings.Contains(path, "-primary.xml")) {
				t.Errorf("upstream was asked %d times for %s", n, path)
			}
		}
	}
	everywhere("1.0", "install")
	w.build("1.1", "hello")
	w.publish()
	root := must(os.ReadFile(filepath.Join(w.dir, "repodata/repomd.xml")))(t)
	for _, n := range nodes {
		w.node = n
		eventually(t, 30*time.Second, "every node serves the new publication", func() bool {
			_, got := w.get("repodata/repomd.xml")
			return bytes.Equal(got, root)
		})
	}
	everywhere("1.1", "upgrade")

	nodes[0].Kill()
	w.build("1.0", "after")
	w.publish()
	for i, n := range nodes[1:] {
		w.node = n
		eventually(t, 60*time.Second, n.Name+" serves a publication after the death", func() bool {
			return hosts[i+1].Command(t.Context(), "install", "--refresh", "after").Run() == nil
		})
		n.checkStored()
	}
	if n := w.server.Requests("repo/Packages/noarch/after-1.0-1.noarch.rpm"); n != 1 {
		t.Errorf("upstream was asked %d times for a package that two hosts have", n)
	}
}

// TestRPMSignedPair: a publisher writes repomd.xml first and its signature later. Hosts that check
// the signature get both of one publication at any moment.
func TestRPMSignedPair(t *testing.T) {
	t.Parallel()
	w := newRPMWorld(t, true)
	host := w.dnf("r.repo_gpgcheck=1", "r.gpgkey=file://"+w.keyFile())
	host.run("makecache")

	pair := func() (root, signature []byte) {
		t.Helper()
		status1, root := w.get("repodata/repomd.xml")
		status2, signature := w.get("repodata/repomd.xml.asc")
		if status1 != http.StatusOK || status2 != http.StatusOK {
			t.Fatalf("status %d and %d", status1, status2)
		}
		return root, signature
	}
	root1, signature1 := pair()
	w.build("1.1", "hello")
	w.publish("repodata/repomd.xml.asc")
	adopted, said := w.refresh()
	if root, signature := pair(); adopted || !bytes.Equal(root, root1) || !bytes.Equal(signature, signature1) {
		t.Errorf("half a publication is adopted: %s", said)
	}
	host.run("makecache", "--refresh")
	w.archive.Delete("repo/repodata/repomd.xml.asc") // and none at all is half of one, too
	if adopted, said = w.refresh(); adopted {
		t.Errorf("a publication without its signature is adopted: %s", said)
	}
	pair()
	w.archive.Restore("repo/repodata/repomd.xml.asc")
	w.show()
	if adopted, said = w.refresh(); !adopted {
		t.Fatalf("the whole publication is not adopted: %s", said)
	}
	if root, signature := pair(); bytes.Equal(root, root1) || bytes.Equal(signature, signature1) {
		t.Error("the pair is still that of the publication before")
	}
	host.run("install", "--refresh", "hello")
	if got := host.installed(); got != "1.1" {
		t.Errorf("version %q is installed", got)
	}
}

// TestZypper refreshes and installs with the signature checked, before and after a publication.
func TestZypper(t *testing.T) {
	t.Parallel()
	w := newRPMWorld(t, true)
	zypper := w.zypper(w.node.URL + "/r?token-of-this-host").run // zypper adds the query to every URL
	zypper("refresh", "r")
	if said := zypper("search", "--details", "hello"); !strings.Contains(said, "1.0-1") {
		t.Errorf("zypper finds:\n%s", said)
	}
	w.build("1.1", "hello")
	w.publish("repodata/repomd.xml.asc")
	w.refresh()
	zypper("refresh", "--force", "r")
	w.show()
	if adopted, said := w.refresh(); !adopted {
		t.Fatalf("the publication is not adopted: %s", said)
	}
	zypper("refresh", "--force", "r")
	if said := zypper("search", "--details", "hello"); !strings.Contains(said, "1.1-1") {
		t.Errorf("zypper finds after the publication:\n%s", said)
	}
	trouble := w.server.Inject("repo/Packages/noarch/hello-1.1-1.noarch.rpm", 1000, testarchive.Status(http.StatusServiceUnavailable, 0))
	time.AfterFunc(4*time.Second, trouble.Remove)
	zypper("--no-gpg-checks", "install", "--download-only", "hello")
	if n := w.server.Requests("repo/Packages/noarch/hello-1.1-1.noarch.rpm") - trouble.Hits(); n != 1 || trouble.Hits() == 0 {
		t.Errorf("upstream was asked %d times for the package, after %d errors", n, trouble.Hits())
	}
}
