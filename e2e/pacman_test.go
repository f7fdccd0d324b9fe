package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
)

// pacDir is where the repository lies in the archive, as in Arch Linux.
const pacDir = "core/os/x86_64"

// pacRepo is a repository that the real repo-add writes, and its server.
type pacRepo struct {
	t       *testing.T
	archive *testarchive.Archive
	server  *testarchive.Server
	liar    *testarchive.Server // asked before the server; nil: there is none
	key     *testarchive.Key    // signs databases; nil: nobody does
	signer  *testarchive.Key    // signs packages, into a file beside each; nil: who signs the databases
	dir     string              // repo-add's
	files   map[string][]byte
	built   time.Time
	shown   time.Time // when the last file was put on the server
}

// askedOnce demands that upstream was asked for each of pacPackages exactly once.
func (r *pacRepo) askedOnce() {
	r.t.Helper()
	for _, p := range pacPackages {
		if n := r.server.Requests(pacDir + "/" + p.File()); n != 1 {
			r.t.Errorf("upstream was asked %d times for %s", n, p.File())
		}
	}
}

// databaseSentOnce demands that upstream has sent the newest database once. Before it was published, a node that
// had become the leader may have read the one before although another node had it: see catalog/suite.conditionFor.
func (r *pacRepo) databaseSentOnce() {
	r.t.Helper()
	var sent []testarchive.Request
	for _, q := range r.server.Log() {
		if q.Path == pacDir+"/core.db" && q.Bytes > 0 && q.At.After(r.shown) {
			sent = append(sent, q)
		}
	}
	if len(sent) != 1 || sent[0].Bytes != int64(len(r.files["core.db"])) {
		r.t.Errorf("upstream sent a database of %d bytes in these answers: %+v", len(r.files["core.db"]), sent)
	}
}

func newPacRepo(t *testing.T, tls bool) *pacRepo {
	t.Helper()
	needTools(t, "repo-add")
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
	var files []string
	for _, p := range packages {
		file := p.File()
		rendered := make(map[string][]byte)
		testrepo.Repo{Name: "core", Packages: []testrepo.Package{p}, Built: r.built}.Render(rendered)
		writeFile(r.t, filepath.Join(r.dir, file), rendered[file])
		files = append(files, file)
	}
	r.add(files...)
}

// add adds files in its directory with repo-add, and puts them and the databases on the server.
func (r *pacRepo) add(files ...string) {
	r.t.Helper()
	r.built = r.built.Add(time.Minute)
	args := append([]string{"--quiet", "--nocolor", "core.db.tar.gz"}, files...)
	add := exec.Command("repo-add", args...)
	add.Dir = r.dir
	if out, err := add.CombinedOutput(); err != nil {
		r.t.Fatalf("repo-add: %v\n%s", err, out)
	}
	for _, name := range append(files, "core.files", "core.db") {
		data, key := must(os.ReadFile(filepath.Join(r.dir, name)))(r.t), r.key
		if slices.Contains(files, name) && r.signer != nil {
			key = r.signer
		}
		r.put(name, data)
		if key != nil {
			r.put(name+".sig", testarchive.BinarySign(data, r.built, key))
		}
	}
}

func (r *pacRepo) put(name string, data []byte) {
	r.files[name], r.shown = data, time.Now()
	r.archive.Put(pacDir+"/"+name, data, r.built)
}

// config is a node's section for the repository.
func (r *pacRepo) config(keys ...string) string {
	if r.key != nil {
		keys = append(keys, fmt.Sprintf("signed_by: [%q]", writeFile(r.t, filepath.Join(r.t.TempDir(), "key.asc"), r.key.Armored())))
	}
	return "archives:\n  arch:\n    format: pacman\n    check_every: 1s\n" + indent(strings.Join(append(keys, upstreamKeys(r.server, r.liar, "")), "\n")) + "\n"
}

// pacHost is a host with its own root directory.
type pacHost struct {
	*lab.Pacman
	t *testing.T
}

// newPacHost makes a host whose servers are these, in order. A server may be a line of its own: "CacheServer = URL".
func newPacHost(t *testing.T, servers ...string) *pacHost {
	t.Helper()
	return &pacHost{must(lab.NewPacman(needClient(t, "pacman"), t.TempDir(), "core", pacDir, servers...))(t), t}
}

// trust has the host demand signatures by that key: SigLevel says of what.
func (h *pacHost) trust(key *testarchive.Key, level string) {
	h.t.Helper()
	gpg := func(args ...string) {
		h.t.Helper()
		mustRun(h.t, h.Programs.Command(h.t.Context(), "gpg", append([]string{"--homedir", filepath.Join(h.Dir, "gpg"), "--batch", "--no-autostart"}, args...)...))
	}
	gpg("--import", writeFile(h.t, filepath.Join(h.Dir, "key.asc"), key.Armored()))
	gpg("--import-ownertrust", writeFile(h.t, filepath.Join(h.Dir, "trust"), []byte(key.Fingerprint()+":6:\n")))
	conf := h.Config()
	text := must(os.ReadFile(conf))(h.t)
	writeFile(h.t, conf, bytes.Replace(text, []byte("SigLevel = Never"), []byte("SigLevel = "+level), 1))
}

// pacman runs the client.
func (h *pacHost) pacman(args ...string) (out string, err error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 90*time.Second)
	defer cancel()
	b, err := h.Command(ctx, args...).CombinedOutput()
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
		got, err := os.ReadFile(filepath.Join(h.Dir, dir, name))
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
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	h := newPacHost(t, n.URL+"/arch")
	h.must("-Sy")
	h.has(r, "db/sync", "core.db")
	first := r.built
	if at := must(os.Stat(filepath.Join(h.Dir, "db/sync/core.db")))(t).ModTime(); !at.Equal(first) {
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
	r.askedOnce()

	// Another host goes on with a download that was cut.
	cut, app := newPacHost(t, n.URL+"/arch"), pacPackages[0].File()
	cut.must("-Sy")
	writeFile(t, filepath.Join(cut.Dir, "cache", app+".part"), r.files[app][:1<<20])
	cut.must("-Sw", "app")
	cut.has(r, "cache", app)
	resumed := false
	for _, a := range n.accessLog() {
		resumed = resumed || a.Status == http.StatusPartialContent && a.Bytes == int64(len(r.files[app])-1<<20)
	}
	if !resumed {
		t.Error("the rest of the package was not all that was sent")
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

	// After a restart without upstream, a host still gets what the node has.
	n.stop()
	r.server.Refuse()
	n.start()
	last := newPacHost(t, n.URL+"/arch")
	last.must("-Sy")
	last.has(r, "db/sync", "core.db")
	last.must("-Sw", "app")
	last.has(r, "cache", pacFiles(pacPackages[0], next)...)
}

// Three nodes read a repository that nobody signs once: the leader asks upstream, and the others take its
// word. A host of each gets the same, through a publication and the death of a node.
func TestPacmanCluster(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	nodes := newTrio(t, r.config("unsigned: true\nsuites: [core/os/x86_64/core.db]"))
	var hosts []*pacHost
	for _, n := range nodes {
		hosts = append(hosts, newPacHost(t, n.URL+"/arch"))
	}
	for _, h := range hosts {
		h.must("-Sy")
		h.has(r, "db/sync", "core.db")
		h.must("-Sw", "app", "data", "c++")
		h.has(r, "cache", pacFiles(pacPackages...)...)
	}
	r.askedOnce()

	old := r.files["core.db"]
	next := testrepo.Package{Name: "data", Version: "3-1", Arch: "any", Size: 2 << 20}
	r.publish(next)
	for _, n := range nodes {
		eventually(t, 20*time.Second, n.Name+" serves the new database", func() bool {
			_, body := n.get("/arch/" + pacDir + "/core.db")
			if !bytes.Equal(body, old) && !bytes.Equal(body, r.files["core.db"]) {
				t.Errorf("%s serves a database that nobody published", n.Name)
			}
			return bytes.Equal(body, r.files["core.db"])
		})
	}
	r.databaseSentOnce()

	nodes[0].Kill()
	for _, h := range hosts[1:] {
		h.must("-Sy")
		h.must("-Sw", "data")
		h.has(r, "cache", next.File())
	}
	// A host of the dead node goes on with the next server of its list.
	both := newPacHost(t, nodes[0].URL+"/arch", nodes[1].URL+"/arch")
	if out, err := both.pacman("-Sy"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	both.has(r, "db/sync", "core.db")
}

// TestPacmanOnYesterdaysDatabase: a host that has not looked for a new database gets the package that its own names, though
// mirrors have dropped it: from the archive of every day. The node has its mirrors from the mirrorlist of a host.
func TestPacmanOnYesterdaysDatabase(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	days := testarchive.New(8)
	service := testarchive.NewServer(days)
	t.Cleanup(service.Close)
	old := pacPackages[1].File()
	kept := r.built.UTC().Format("repos/2006/01/02/") + pacDir + "/" + old
	days.Put(kept, r.files[old], r.built)
	mirrors := writeFile(t, filepath.Join(t.TempDir(), "mirrorlist"), []byte("## Worldwide\n#Server = https://off.example.org/$repo/os/$arch\nServer = "+r.server.URL+"/$repo/os/$arch\n"))
	n := newNode(t, "archives:\n  arch:\n    format: pacman\n    unsigned: true\n    check_every: 1s\n    upstream: mirror+file:"+mirrors+
		"\n    history: "+service.URL+"/repos/{yyyy}/{mm}/{dd}\n")
	n.start()
	h := newPacHost(t, n.URL+"/arch")
	h.must("-Sy")
	r.publish(testrepo.Package{Name: "libapp", Version: "1:1.3-1", Size: 300_000, Provides: []string{"libapp.so=1-64"}})
	r.archive.Delete(pacDir + "/" + old)
	eventually(t, 20*time.Second, "the new database is served", func() bool {
		_, body := n.get("/arch/" + pacDir + "/core.db")
		return bytes.Equal(body, r.files["core.db"])
	})
	h.must("-Sw", "libapp")
	h.has(r, "cache", old)
	newPacHost(t, n.URL+"/arch").must("-Sy") // with the new one
	if asked := service.Requests(kept); asked != 1 {
		t.Errorf("the archive of every day was asked %d times", asked)
	}
	if said := n.do("status"); !strings.Contains(said, service.URL+"/repos/{yyyy}/{mm}/{dd}") {
		t.Errorf("status does not show the archive of every day:\n%s", said)
	}
}

// Hosts that use CacheServer never ask for a database. Where the configuration names it, the new versions
// of the packages that they take are fetched ahead all the same.
func TestPacmanWithoutDatabaseRequests(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	n := newNode(t, "")
	n.Settings = common + r.config("unsigned: true\nsuites: [core/os/x86_64/core.db]")
	n.start()
	app := "/arch/" + pacDir + "/"
	if resp, body := n.get(app + pacPackages[2].File()); resp.StatusCode != http.StatusOK || !bytes.Equal(body, r.files[pacPackages[2].File()]) {
		t.Fatalf("a package: %s", resp.Status)
	}
	if log := n.accessLog(); !log[len(log)-1].Listed {
		t.Error("it was not verified against the database")
	}
	next := testrepo.Package{Name: "data", Version: "3-1", Arch: "any", Size: 2 << 20, Depends: []string{"libnew.so=1-64"}}
	other := testrepo.Package{Name: "c++", Version: "15-1", Size: 1000}
	needed := testrepo.Package{Name: "new-libs", Version: "1-1", Size: 1000, Provides: []string{"libnew.so=1-64"}}
	r.publish(next, other, needed)
	eventually(t, 30*time.Second, "the new version and what it newly needs are fetched ahead", func() bool {
		return r.server.Requests(pacDir+"/"+next.File()) == 1 && r.server.Requests(pacDir+"/"+needed.File()) == 1
	})
	if _, body := n.get(app + next.File()); !bytes.Equal(body, r.files[next.File()]) {
		t.Error("other bytes")
	}
	if r.server.Requests(pacDir+"/"+next.File()) != 1 || r.server.Requests(pacDir+"/"+other.File()) != 0 {
		t.Error("upstream was asked again, or for what nobody uses")
	}
}

// Signatures of packages lie beside them, and the database does not have them, as repo-add leaves it since pacman 6.1:
// a host that demands them gets each that upstream has. A package that was built again under its old name comes with
// its new signature from the moment of the switch, and a package that was signed again with that soon after.
func TestPacmanSignaturesBesidePackages(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.signer = testarchive.DefaultKey()
	r.publish(pacPackages...)
	foreign := pacPackages[2].File()
	r.put(foreign+".sig", testarchive.BinarySign(r.files[foreign], r.built, testarchive.NewKey("Somebody", testarchive.KeyOptions{})))
	nodes := newTrio(t, r.config("unsigned: true\nsuites: [core/os/x86_64/core.db]"))
	fresh := func(n *node) *pacHost {
		h := newPacHost(t, n.URL+"/arch")
		h.trust(r.signer, "Required DatabaseOptional")
		h.must("-Sy")
		return h
	}
	app := pacPackages[0]
	for _, n := range nodes {
		h := fresh(n)
		h.must("-Sw", "app")
		h.has(r, "cache", app.File(), app.File()+".sig")
		for _, a := range n.accessLog() {
			if strings.HasSuffix(a.URL, app.File()+".sig") && a.Listed {
				t.Error("the database vouches for the signature: this test is about one that it does not have")
			}
		}
	}
	if out, err := fresh(nodes[0]).pacman("-Sw", "data"); err == nil {
		t.Errorf("a host took a package that somebody else has signed: %s", out)
	}
	if n := r.server.Bytes(pacDir + "/" + app.File() + ".sig"); n != int64(len(r.files[app.File()+".sig"])) {
		t.Errorf("upstream sent %d bytes of a signature of %d", n, len(r.files[app.File()+".sig"]))
	}

	app.Size += 1000
	r.publish(app)
	for _, n := range nodes {
		eventually(t, 20*time.Second, n.Name+" serves the new database", func() bool {
			_, body := n.get("/arch/" + pacDir + "/core.db")
			return bytes.Equal(body, r.files["core.db"])
		})
	}
	for _, n := range nodes {
		h := fresh(n)
		h.must("-Sw", "app")
		h.has(r, "cache", app.File(), app.File()+".sig")
	}

	again := testarchive.BinarySign(r.files[app.File()], r.built.Add(time.Minute), r.signer)
	r.put(app.File()+".sig", again)
	for _, n := range nodes {
		eventually(t, 80*time.Second, n.Name+" serves the signature that upstream has now", func() bool {
			_, body := n.get("/arch/" + pacDir + "/" + app.File() + ".sig")
			return bytes.Equal(body, again)
		})
	}
	h := fresh(nodes[0])
	h.must("-Sw", "app")
	h.has(r, "cache", app.File(), app.File()+".sig")
}
