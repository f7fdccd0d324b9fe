package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// clientPackages are Debian's packages of the clients that these tests drive.
var clientPackages = []string{"apt", "gpgv", "gpg", "dnf5", "zypper", "pacman-package-manager", "curl", "zchunk",
	"bash", "dash", "coreutils", "sed", "grep", "mawk", "findutils", "base-files", "dpkg", "ca-certificates"}

// clientRoot has the clients of the Debian release that APTMESH_CLIENTS names, and is nil where it names none:
// then this machine's own are driven. It is kept for the next run.
var clientRoot = sync.OnceValues(func() (*lab.Root, error) {
	release := os.Getenv("APTMESH_CLIENTS")
	if release == "" {
		return nil, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	root, err := lab.Unpack(context.Background(), filepath.Join(cache, "aptmesh-clients", release), release, clientPackages...)
	if err != nil {
		return nil, fmt.Errorf("the clients of %s are not tried: %w", release, err)
	}
	return root, nil
})

// needClient is where a client is. It skips the test where there is none.
func needClient(t *testing.T, name string) *lab.Root {
	t.Helper()
	root, err := clientRoot()
	if err != nil {
		t.Skip(err)
	}
	if !root.Has(name) {
		t.Skipf("%s is not installed: nothing to drive the node with", name)
	}
	return root
}

// needDnf is needClient for dnf, which has two names.
func needDnf(t *testing.T) (client *lab.Root, program string) {
	t.Helper()
	if root, err := clientRoot(); err == nil && root.Has("dnf5") {
		return root, "dnf5"
	}
	return needClient(t, "dnf"), "dnf"
}

// needTools skips the test where this machine lacks a program that makes repositories.
func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if !(*lab.Root)(nil).Has(name) {
			t.Skipf("%s is not installed: nothing to make a repository with", name)
		}
	}
}

// mustRun runs a command that must succeed.
func mustRun(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// TestClientVersions prints what the other tests drive.
func TestClientVersions(t *testing.T) {
	for _, name := range []string{"apt-get", "dnf", "dnf5", "zypper", "pacman", "zckdl", "curl"} {
		if root, err := clientRoot(); err != nil || !root.Has(name) {
			t.Logf("%s: none; %v", name, err)
			continue
		}
		said := mustRun(t, needClient(t, name).Command(t.Context(), name, "--version"))
		t.Logf("%s: %.120s", name, strings.Join(strings.Fields(said), " "))
	}
}

// zckdl fetches the parts of a repository's metadata that a publication changed, in one request. Debian builds
// dnf without zchunk; with `zchunk=1` it takes the other compression.
func TestZchunkOfAPublication(t *testing.T) {
	t.Parallel()
	client := needClient(t, "zckdl")
	w := newRPMWorld(t, false)
	var names, changed []string
	for i := range 24 {
		names = append(names, fmt.Sprintf("package%02d", i))
		if i%3 == 1 {
			changed = append(changed, names[i])
		}
	}
	primary := func() (path string, size int64) {
		found := must(filepath.Glob(filepath.Join(w.dir, "repodata/*-primary.xml.zck")))(t)
		if len(found) != 1 {
			t.Fatalf("createrepo_c made %q", found)
		}
		return filepath.Base(found[0]), must(os.Stat(found[0]))(t).Size()
	}
	work := t.TempDir()
	fetch := func(args ...string) (bytes int64, parts int) {
		t.Helper()
		name, _ := primary()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := client.Command(ctx, "zckdl", append(append([]string{"--fail-no-ranges"}, args...), w.node.URL+"/r/repodata/"+name)...)
		cmd.Dir = work
		mustRun(t, cmd)
		if got := must(os.ReadFile(filepath.Join(work, name)))(t); string(got) != string(must(os.ReadFile(filepath.Join(w.dir, "repodata", name)))(t)) {
			t.Errorf("zckdl made another %s, of %d bytes", name, len(got))
		}
		for _, a := range w.node.accessLog() {
			if strings.HasSuffix(a.URL, name) && a.Status == http.StatusPartialContent {
				bytes, parts = bytes+a.Bytes, parts+1
			}
		}
		return bytes, parts
	}
	w.build("1.0", names...)
	w.publish()
	w.refresh()
	old, _ := primary()
	fetch()
	w.build("1.1", changed...)
	w.publish()
	if adopted, said := w.refresh(); !adopted {
		t.Fatalf("the publication is not adopted: %s", said)
	}
	_, whole := primary()
	bytes, parts := fetch("-s", filepath.Join(work, old))
	t.Logf("%d of %d bytes in %d requests", bytes, whole, parts)
	if bytes == 0 || bytes > whole*2/3 || parts > 4 {
		t.Errorf("after a publication zckdl fetched %d of %d bytes in %d requests", bytes, whole, parts)
	}
}

// A host that has two nodes in its baseurl goes on with the second one when the first one dies in the middle of
// a package, and upstream is not asked for more than the package twice.
func TestDnfOutlivesANode(t *testing.T) {
	t.Parallel()
	if _, program := needDnf(t); program != "dnf5" {
		t.Skip("dnf 4 asks no second address after a broken transfer: it needs dnf5 (APTMESH_CLIENTS=sid)")
	}
	w := newRPMRepository(t, false)
	w.size = 8 << 20
	w.build("1.1", "hello")
	w.publish()
	nodes := newTrio(t, w.config())
	w.node = nodes[0]
	host := w.dnf(fmt.Sprintf("r.baseurl=%s/r,%s/r", nodes[0].URL, nodes[1].URL))
	host.run("makecache")
	path := "repo/Packages/noarch/hello-1.1-1.noarch.rpm"
	size := int64(len(must(os.ReadFile(filepath.Join(w.dir, strings.TrimPrefix(path, "repo/"))))(t)))
	stall := w.server.Inject(path, 1, testarchive.Stall(4<<20))
	done := make(chan struct{})
	go func() {
		defer close(done)
		host.run("install", "hello")
	}()
	<-stall.Stalled()
	nodes[0].Kill()
	stall.Remove()
	<-done
	if got := host.installed(); got != "1.1" {
		t.Errorf("version %q is installed", got)
	}
	if n := w.server.Bytes(path); n > 2*size {
		t.Errorf("upstream sent %d bytes of a package of %d", n, size)
	}
	nodes[1].checkStored()
}

// A host whose dnf is killed in the middle of a package gets it when dnf runs again; upstream sends little of it twice.
func TestDnfIsKilled(t *testing.T) {
	t.Parallel()
	w := newRPMWorld(t, false)
	w.size = 8 << 20
	w.build("1.1", "hello")
	w.publish()
	w.refresh()
	host := w.dnf()
	host.run("makecache")
	path := "repo/Packages/noarch/hello-1.1-1.noarch.rpm"
	size := int64(len(must(os.ReadFile(filepath.Join(w.dir, strings.TrimPrefix(path, "repo/"))))(t)))
	stall := w.server.Inject(path, 1, testarchive.Stall(4<<20))
	ctx, kill := context.WithCancel(t.Context())
	go func() {
		<-stall.Stalled()
		kill()
	}()
	if out, err := host.Command(ctx, "install", "hello").CombinedOutput(); err == nil {
		t.Errorf("dnf was not killed: %s", out)
	}
	stall.Remove()
	host.run("install", "hello")
	if got := host.installed(); got != "1.1" {
		t.Errorf("version %q is installed", got)
	}
	if n := w.server.Bytes(path); n > size+size/8 {
		t.Errorf("upstream sent %d bytes of a package of %d", n, size)
	}
}

// A host that has two nodes in its baseurl goes on when the first one dies in the middle of a package.
func TestZypperOutlivesANode(t *testing.T) {
	t.Parallel()
	w := newRPMRepository(t, true)
	w.size = 8 << 20
	w.build("1.1", "hello")
	w.publish()
	nodes := newTrio(t, w.config())
	w.node = nodes[0]
	host := w.zypper(nodes[0].URL+"/r", nodes[1].URL+"/r")
	host.run("refresh", "r")
	path := "repo/Packages/noarch/hello-1.1-1.noarch.rpm"
	stall := w.server.Inject(path, 1, testarchive.Stall(4<<20))
	done := make(chan struct{})
	go func() {
		defer close(done)
		host.run("--no-gpg-checks", "install", "--download-only", "hello")
	}()
	<-stall.Stalled()
	nodes[0].Kill()
	stall.Remove()
	<-done
	got := must(filepath.Glob(filepath.Join(host.dir, "var/cache/zypp/packages/r/Packages/noarch/hello-1.1-1.noarch.rpm")))(t)
	want := must(os.ReadFile(filepath.Join(w.dir, strings.TrimPrefix(path, "repo/"))))(t)
	if len(got) != 1 || string(must(os.ReadFile(got[0]))(t)) != string(want) {
		t.Errorf("zypper has %q, which is not the package", got)
	}
	if n := w.server.Bytes(path); n > int64(2*len(want)) {
		t.Errorf("upstream sent %d bytes of a package of %d", n, len(want))
	}
	nodes[1].checkStored()
}

// CacheServer comes before Server for packages, and is never asked for a database. What such a server does not
// have is no failure of it.
func TestPacmanCacheServer(t *testing.T) {
	t.Parallel()
	version := mustRun(t, needClient(t, "pacman").Command(t.Context(), "pacman", "--version"))
	if strings.Contains(version, "Pacman v5.") || strings.Contains(version, "Pacman v6.0") {
		t.Skip("this pacman has no CacheServer: it came with 6.1 (APTMESH_CLIENTS=sid)")
	}
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	h := newPacHost(t, "CacheServer = "+n.URL+"/arch", "CacheServer = "+n.URL+"/unknown", r.server.URL)
	h.must("-Sy")
	h.has(r, "db/sync", "core.db")
	h.must("-Sw", "app", "data", "c++")
	h.has(r, "cache", pacFiles(pacPackages...)...)
	packages := 0
	for _, a := range n.accessLog() {
		if strings.HasSuffix(a.URL, ".db") {
			t.Errorf("pacman asked the cache for a database: %+v", a)
		}
		if strings.HasSuffix(a.URL, ".zst") || strings.HasSuffix(a.URL, ".xz") {
			packages++
			if a.Status != http.StatusOK || !a.Listed {
				t.Errorf("a package: %+v", a)
			}
		}
	}
	if packages != len(pacPackages) {
		t.Errorf("%d packages came through the node", packages)
	}
	if resp, _ := n.get("/unknown/" + pacDir + "/" + pacPackages[0].File()); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an archive that is not configured: %s, which pacman may count as a failure", resp.Status)
	}
	// The first server does not know the archive. Four packages are more than the three failures that pacman forgives.
	soft := newPacHost(t, "CacheServer = "+n.URL+"/unknown", r.server.URL)
	soft.must("-Sy")
	soft.must("-Sw", "app", "data", "c++")
	soft.has(r, "cache", pacFiles(pacPackages...)...)
}

// pacman goes on with the next server when a node dies in the middle of a package.
func TestPacmanOutlivesANode(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	nodes := newTrio(t, r.config("unsigned: true"))
	h := newPacHost(t, nodes[0].URL+"/arch", nodes[1].URL+"/arch")
	h.must("-Sy")
	app := pacPackages[0].File()
	stall := r.server.Inject(pacDir+"/"+app, 1, testarchive.Stall(2<<20))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if out, err := h.pacman("-Sw", "app"); err != nil {
			t.Errorf("pacman -Sw: %v\n%s", err, out)
		}
	}()
	<-stall.Stalled()
	nodes[0].Kill()
	stall.Remove()
	<-done
	h.has(r, "cache", app)
	if n := r.server.Bytes(pacDir + "/" + app); n > int64(2*len(r.files[app])) {
		t.Errorf("upstream sent %d bytes of a package of %d", n, len(r.files[app]))
	}
}

// With XferCommand another program downloads, which goes on with what it has.
func TestPacmanXferCommand(t *testing.T) {
	t.Parallel()
	needClient(t, "curl")
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	h := newPacHost(t, n.URL+"/arch")
	conf := h.Config()
	text := string(must(os.ReadFile(conf))(t))
	writeFile(t, conf, []byte(strings.Replace(text, "[options]\n", "[options]\nXferCommand = /usr/bin/curl -sSL -C - -f -o %o %u\n", 1)))
	h.must("-Sy")
	h.has(r, "db/sync", "core.db")
	app := pacPackages[0].File()
	writeFile(t, filepath.Join(h.Dir, "cache", app+".part"), r.files[app][:1<<20])
	h.must("-Sw", "app")
	h.has(r, "cache", app)
	parts := 0
	for _, a := range n.accessLog() {
		if a.Status == http.StatusPartialContent && a.Bytes == int64(len(r.files[app])-1<<20) {
			parts++
		}
	}
	if parts != 1 {
		t.Errorf("curl went on %d times", parts)
	}
}

// A package that makepkg made is installed, and its next version after a publication; upstream's troubles of a
// few seconds do not reach pacman, which never asks again.
func TestPacmanInstallsWhatMakepkgMade(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("pacman installs as root only")
	}
	needTools(t, "makepkg", "setpriv", "bsdtar", "fakeroot")
	r := newPacRepo(t, false)
	r.add(r.makepkg("greeter", "1.0"))
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	h := newPacHost(t, n.URL+"/arch")
	h.must("-Sy")
	h.must("-S", "greeter")
	version := filepath.Join(h.Dir, "root/usr/share/greeter/version")
	if got := must(os.ReadFile(version))(t); string(got) != "1.0\n" {
		t.Errorf("version %q is installed", got)
	}
	next := r.makepkg("greeter", "1.1")
	r.add(next)
	eventually(t, 20*time.Second, "the new database is served", func() bool {
		_, body := n.get("/arch/" + pacDir + "/core.db")
		return string(body) == string(r.files["core.db"])
	})
	trouble := r.server.Inject(pacDir+"/"+next, 1000, testarchive.Status(http.StatusServiceUnavailable, 0))
	time.AfterFunc(3*time.Second, trouble.Remove)
	h.must("-Syu")
	if got := must(os.ReadFile(version))(t); string(got) != "1.1\n" || trouble.Hits() == 0 {
		t.Errorf("version %q is installed, after %d errors of upstream", got, trouble.Hits())
	}
}

// makepkg makes a package in the directory of the repository.
func (r *pacRepo) makepkg(name, version string) (file string) {
	r.t.Helper()
	dir := must(os.MkdirTemp("", "aptmesh-makepkg-"))(r.t) // not t.TempDir, which its user cannot enter
	r.t.Cleanup(func() { os.RemoveAll(dir) })
	writeFile(r.t, filepath.Join(dir, "PKGBUILD"), fmt.Appendf(nil, `pkgname=%[1]s
pkgver=%[2]s
pkgrel=1
pkgdesc='greets'
arch=(any)
license=(MIT)
package() {
  install -d "$pkgdir/usr/share/%[1]s"
  echo %[2]s >"$pkgdir/usr/share/%[1]s/version"
}
`, name, version))
	const user = 65534 // makepkg refuses to run as root
	if err := os.Chown(dir, user, user); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	cmd := (*lab.Root)(nil).Command(ctx, "setpriv", fmt.Sprintf("--reuid=%d", user), fmt.Sprintf("--regid=%d", user), "--clear-groups",
		"makepkg", "--nodeps", "--nocolor")
	cmd.Dir, cmd.Env = dir, append(cmd.Env, "HOME="+dir, "PKGEXT=.pkg.tar.zst")
	mustRun(r.t, cmd)
	file = fmt.Sprintf("%s-%s-1-any.pkg.tar.zst", name, version)
	data := must(os.ReadFile(filepath.Join(dir, file)))(r.t)
	writeFile(r.t, filepath.Join(r.dir, file), data)
	return file
}
