package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
)

// pacDir is where the repository lies in the archive, as in Arch Linux.
const pacDir = "core/os/x86_64"

// pacRepo is a repository that the real repo-add writes, and its server.
type pacRepo struct {
	t       *testing.T
	archive *testarchive.Archive
	server  *testarchive.Server
	dir     string // repo-add's
	files   map[string][]byte
	built   time.Time
}

func newPacRepo(t *testing.T, tls bool) *pacRepo {
	t.Helper()
	for _, tool := range []string{"pacman", "repo-add"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian: pacman-package-manager and makepkg)", tool)
		}
	}
	r := &pacRepo{t: t, archive: testarchive.New(7), dir: t.TempDir(), files: make(map[string][]byte), built: time.Now().Add(-time.Hour).Truncate(time.Second)}
	if tls {
		r.server = testarchive.NewTLSServer(r.archive)
	} else {
		r.server = testarchive.NewServer(r.archive)
	}
	t.Cleanup(r.server.Close)
	return r
}

// publish adds packages with repo-add, and puts the databases on the server.
func (r *pacRepo) publish(packages ...testrepo.Package) {
	r.t.Helper()
	r.built = r.built.Add(time.Minute)
	args := []string{"--quiet", "--nocolor", "core.db.tar.gz"}
	for _, p := range packages {
		file := p.File()
		rendered := make(map[string][]byte)
		testrepo.Repo{Name: "core", Packages: []testrepo.Package{p}, Built: r.built}.Render(rendered)
		writeFile(r.t, filepath.Join(r.dir, file), rendered[file])
		r.put(file, rendered[file])
		args = append(args, file)
	}
	add := exec.Command("repo-add", args...)
	add.Dir = r.dir
	if out, err := add.CombinedOutput(); err != nil {
		r.t.Fatalf("repo-add: %v\n%s", err, out)
	}
	for _, name := range []string{"core.db", "core.files"} {
		r.put(name, must(os.ReadFile(filepath.Join(r.dir, name)))(r.t))
	}
}

func (r *pacRepo) put(name string, data []byte) {
	r.files[name] = data
	r.archive.Put(pacDir+"/"+name, data, r.built)
}

// config is a node's section for the repository.
func (r *pacRepo) config(keys string) string {
	return fmt.Sprintf("archives:\n  arch:\n    format: pacman\n    upstream: %s\n    check_every: 1s\n%s\n", r.server.URL, indent(keys))
}

// pacHost is a host with its own root directory.
type pacHost struct {
	t   *testing.T
	dir string
}

// newPacHost makes a host whose servers are these, in order.
func newPacHost(t *testing.T, servers ...string) *pacHost {
	t.Helper()
	h := &pacHost{t, t.TempDir()}
	for _, dir := range []string{"root", "db", "cache"} {
		if err := os.Mkdir(filepath.Join(h.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := "[options]\nArchitecture = x86_64\nSigLevel = Never\nParallelDownloads = 4\n[core]\n"
	for _, s := range servers {
		text += "Server = " + s + "/" + pacDir + "\n"
	}
	writeFile(t, filepath.Join(h.dir, "pacman.conf"), []byte(text))
	return h
}

// pacman runs the client.
func (h *pacHost) pacman(args ...string) (out string, err error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 90*time.Second)
	defer cancel()
	at := func(name string) string { return filepath.Join(h.dir, name) }
	all := append([]string{"--config", at("pacman.conf"), "-r", at("root"), "-b", at("db"), "--cachedir", at("cache"),
		"--logfile", at("log"), "--hookdir", at("hooks"), "--gpgdir", at("gpg"), "--noconfirm", "--noprogressbar"}, args...)
	name := "pacman"
	if os.Getuid() != 0 { // it wants to be root, and writes nowhere else
		name, all = "fakeroot", append([]string{"pacman"}, all...)
	}
	b, err := exec.CommandContext(ctx, name, all...).CombinedOutput()
	return string(b), err
}

// must runs the client and demands that all is well.
func (h *pacHost) must(args ...string) string {
	h.t.Helper()
	out, err := h.pacman(args...)
	if err != nil || strings.Contains(out, "error:") || strings.Contains(out, "warning: too many errors") {
		h.t.Fatalf("pacman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// has demands that the host holds these files of the repository, byte for byte.
func (h *pacHost) has(r *pacRepo, dir string, names ...string) {
	h.t.Helper()
	for _, name := range names {
		got, err := os.ReadFile(filepath.Join(h.dir, dir, name))
		if err != nil || !bytes.Equal(got, r.files[name]) {
			h.t.Errorf("%s: %v, %d bytes of %d", name, err, len(got), len(r.files[name]))
		}
	}
}

var pacPackages = []testrepo.Package{
	{Name: "app", Version: "1.0-1", Size: 3 << 20, Depends: []string{"libapp>=1", "libapp.so=1-64"}},
	{Name: "libapp", Version: "1:1.2-1", Size: 200_000, Provides: []string{"libapp.so=1-64"}},
	{Name: "data", Version: "2-1", Arch: "any", Size: 1 << 20, Compression: "xz"},
	{Name: "c++", Version: "14.1.1+r1-1", Size: 1000},
}

func pacFiles(packages ...testrepo.Package) (names []string) {
	for _, p := range packages {
		names = append(names, p.File())
	}
	return names
}

// A host reads the databases and its packages through a node, which asks upstream for each once; after a
// publication it gets the next ones; and what it gets has upstream's dates.
func TestPacman(t *testing.T) {
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	h := newPacHost(t, n.URL+"/arch")
	h.must("-Sy")
	h.has(r, "db/sync", "core.db")
	first := r.built
	if at := must(os.Stat(filepath.Join(h.dir, "db/sync/core.db")))(t).ModTime(); !at.Equal(first) {
		t.Errorf("the database is of %v on the host and of %v upstream", at, first)
	}
	h.must("-Sy")
	if log := n.accessLog(); log[len(log)-1].Status != http.StatusNotModified {
		t.Errorf("asked again: %+v", log[len(log)-1])
	}
	h.must("-Fy")
	h.has(r, "db/sync", "core.files")
	h.must("-Sw", "app", "data", "c++")
	h.has(r, "cache", pacFiles(pacPackages...)...)
	for _, p := range pacPackages {
		if n := r.server.Requests(pacDir + "/" + p.File()); n != 1 {
			t.Errorf("upstream was asked %d times for %s", n, p.File())
		}
	}

	next := testrepo.Package{Name: "libapp", Version: "1:1.3-1", Size: 300_000, Provides: []string{"libapp.so=1-64"}}
	r.publish(next)
	eventually(t, 20*time.Second, "the new database is served", func() bool {
		_, body := n.get("/arch/" + pacDir + "/core.db")
		return bytes.Equal(body, r.files["core.db"])
	})
	h.must("-Sy")
	h.has(r, "db/sync", "core.db")
	h.must("-Sw", "app")
	h.has(r, "cache", next.File())
	if resp, _ := n.get("/arch/" + pacDir + "/core.db.sig"); resp.StatusCode != 404 {
		t.Errorf("a signature that upstream does not have: %s", resp.Status)
	}
	if resp, _ := n.get("/arch/" + pacDir + "/" + pacPackages[1].File()); resp.StatusCode != 200 { // of hosts with the old database
		t.Errorf("a superseded package: %s", resp.Status)
	}
	n.checkStored()
}
