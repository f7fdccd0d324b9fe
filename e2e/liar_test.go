package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
)

// upstreamKeys is what an archive has in a configuration for its servers. The liar, if there is one, is asked first.
func upstreamKeys(server, liar *testarchive.Server, dir string) string {
	if liar == nil {
		return "upstream: " + server.URL + dir
	}
	return fmt.Sprintf("upstreams:\n  - {url: %s%s, priority: 1}\n  - {url: %s%[2]s, priority: 2}", liar.URL, dir, server.URL)
}

// liar is a mirror that will lie about the next publication.
type liar struct {
	*testarchive.Server
	dir               string // of the repository on it, with a slash behind; the rest is below
	root, proof       string // the root and its signature
	indexes, packages string // patterns; "" where the root is the index
	before            map[string]testarchive.File
}

// lie is a fault of what is below the directory.
func (l liar) lie(pattern string, e testarchive.Effect) *testarchive.Fault {
	return l.Inject(l.dir+pattern, 0, e)
}

// lies are what it may do. No host may notice any of them while there is another mirror.
var lies = []struct {
	name string
	tell func(liar) *testarchive.Fault
}{
	{"wrong bytes of a package", func(l liar) *testarchive.Fault { return l.lie(l.packages, testarchive.WrongBytes(700)) }},
	{"wrong bytes of an index", func(l liar) *testarchive.Fault { return l.lie(l.indexes, testarchive.WrongBytes(-20)) }},
	{"a wrong root", func(l liar) *testarchive.Fault { return l.lie(l.root, testarchive.WrongBytes(100)) }},
	{"the publication before", func(l liar) *testarchive.Fault {
		l.lie("*", testarchive.Status(http.StatusNotFound, 0))
		for path, f := range l.before {
			if path != l.root {
				l.lie(path, testarchive.As(f))
			}
		}
		return l.lie(l.root, testarchive.As(l.before[l.root]))
	}},
	{"the new root with the signature before", func(l liar) *testarchive.Fault { return l.lie(l.proof, testarchive.As(l.before[l.proof])) }},
	{"the root before with the new signature", func(l liar) *testarchive.Fault { return l.lie(l.root, testarchive.As(l.before[l.root])) }},
}

// newLiar makes it a mirror of what the archive shows now.
func newLiar(t *testing.T, a *testarchive.Archive, l liar) liar {
	t.Helper()
	l.Server, l.before = testarchive.NewServer(a), make(map[string]testarchive.File)
	t.Cleanup(l.Close)
	return l
}

// remember notes the publication before the lie.
func (l liar) remember(a *testarchive.Archive) {
	for path := range a.Files() {
		l.before[strings.TrimPrefix(path, l.dir)], _ = a.Lookup(path)
	}
}

// follow waits until every node serves that root with its signature, and demands that none ever serves a pair that
// nobody published. base is the archive's path on the nodes.
func follow(t *testing.T, nodes []*node, base string, l liar, root, proof []byte) {
	t.Helper()
	for _, n := range nodes {
		read := func(path string) []byte {
			resp := must(http.Get(n.URL + base + path))(t)
			defer resp.Body.Close()
			body := must(io.ReadAll(resp.Body))(t)
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s of %s: %s", n.Name, resp.Status, path, body)
			}
			return body
		}
		eventually(t, 40*time.Second, n.Name+" serves the new publication", func() bool {
			r, p := read(l.root), read(l.proof)
			if !bytes.Equal(r, read(l.root)) {
				return false // it has just switched
			}
			isNew := bytes.Equal(r, root) && bytes.Equal(p, proof)
			if !isNew && !(bytes.Equal(r, l.before[l.root].Data) && bytes.Equal(p, l.before[l.proof].Data)) {
				t.Errorf("%s serves a root and a signature that nobody published together", n.Name)
			}
			return isNew
		})
	}
}

// staysTrue has the liar left alone: what it says of the root is asked for again, and believed no more than before.
func staysTrue(t *testing.T, nodes []*node, base string, l liar, lie *testarchive.Fault, root []byte) {
	t.Helper()
	until := lie.Hits() + 3
	eventually(t, 60*time.Second, "the liar was asked for the root again", func() bool {
		for _, n := range nodes {
			if resp, body := n.get(base + l.root); resp.StatusCode != http.StatusOK || !bytes.Equal(body, root) {
				t.Fatalf("%s serves another root when the liar is alone: %s, %d bytes", n.Name, resp.Status, len(body))
			}
		}
		return lie.Hits() >= until
	})
}

// TestRPMLyingMirror: three nodes have a mirror that lies about a publication, and one that does not. dnf and zypper,
// which check the signature of the metadata, get the publication and its packages; upstream is asked once for each.
func TestRPMLyingMirror(t *testing.T) {
	t.Parallel()
	for _, lie := range lies {
		t.Run(lie.name, func(t *testing.T) {
			t.Parallel()
			w := newRPMRepository(t, true)
			l := newLiar(t, w.archive, liar{dir: "repo/", root: "repodata/repomd.xml", proof: "repodata/repomd.xml.asc",
				indexes: "repodata/*-primary.xml*", packages: "Packages/*"})
			w.liar = l.Server
			nodes := newTrio(t, w.config("check_every: 1s"))
			w.node = nodes[0]
			dnf := w.dnf("r.repo_gpgcheck=1", "r.gpgkey=file://"+w.keyFile())
			dnf.run("install", "hello")
			w.node = nodes[1]
			zypper := w.zypper(nodes[1].URL + "/r")
			zypper.run("refresh", "r")

			l.remember(w.archive)
			told := lie.tell(l)
			w.build("1.1", "hello", "extra")
			w.publish()
			files := w.archive.Files()
			root := files["repo/"+l.root]
			follow(t, nodes, "/r/", l, root, files["repo/"+l.proof])
			dnf.run("upgrade", "--refresh", "hello")
			if got := dnf.installed(); got != "1.1" {
				t.Errorf("version %q is installed", got)
			}
			zypper.run("refresh", "--force", "r")
			zypper.run("--no-gpg-checks", "install", "--download-only", "hello")
			if n := w.server.Requests("repo/Packages/noarch/hello-1.1-1.noarch.rpm") + w.liar.Requests("repo/Packages/noarch/hello-1.1-1.noarch.rpm"); n > 2 {
				t.Errorf("the mirrors were asked %d times for one package", n)
			}
			if told.Hits() == 0 {
				t.Error("the liar was never asked for what it lies about")
			}
			for _, n := range nodes {
				n.checkStored()
			}

			w.server.Refuse()
			switch lie.name {
			case "wrong bytes of a package":
			case "wrong bytes of an index":
				return
			default:
				staysTrue(t, nodes, "/r/", l, told, root)
				dnf.run("makecache", "--refresh")
				return
			}
			if out, err := dnf.Command(t.Context(), "install", "extra").CombinedOutput(); err == nil {
				t.Errorf("a package that no mirror has right is installed: %s", out)
			}
			if _, err := os.Stat(filepath.Join(dnf.Dir, "root/usr/share/extra")); err == nil {
				t.Error("files of a package that no mirror has right are there")
			}
			l.ClearFaults()
			eventually(t, 90*time.Second, "dnf is well when the mirror is", func() bool {
				return dnf.Command(t.Context(), "install", "extra").Run() == nil
			})
			for _, n := range nodes {
				n.checkStored()
			}
		})
	}
}

// TestPacmanLyingMirror is the same with pacman, which demands the signatures of databases and packages.
func TestPacmanLyingMirror(t *testing.T) {
	t.Parallel()
	for _, lie := range lies {
		if lie.name == "wrong bytes of an index" {
			continue // the database is the root
		}
		t.Run(lie.name, func(t *testing.T) {
			t.Parallel()
			r := newPacRepo(t, false)
			r.key = testarchive.DefaultKey()
			r.publish(pacPackages...)
			l := newLiar(t, r.archive, liar{dir: pacDir + "/", root: "core.db", proof: "core.db.sig", packages: "*.pkg.tar.zst"})
			r.liar = l.Server
			nodes := newTrio(t, r.config("suites: [core/os/x86_64/core.db]"))
			var hosts []*pacHost
			for _, n := range nodes {
				h := newPacHost(t, n.URL+"/arch")
				h.trust(r.key, "Required DatabaseRequired")
				h.must("-Sy")
				hosts = append(hosts, h)
			}

			l.remember(r.archive)
			told := lie.tell(l)
			next := testrepo.Package{Name: "data", Version: "3-1", Arch: "any", Size: 1 << 20}
			r.publish(next)
			root := r.files["core.db"]
			follow(t, nodes, "/arch/"+pacDir+"/", l, root, r.files["core.db.sig"])
			for i, h := range hosts {
				h.must("-Sy")
				h.has(r, "db/sync", "core.db", "core.db.sig")
				if lie.name == "wrong bytes of a package" && i == 0 {
					h.insists("-Sw", "data") // what comes of it is not known before its last byte, and pacman asks a server once
				}
				h.must("-Sw", "data")
				h.has(r, "cache", next.File())
				nodes[i].checkStored()
			}
			if n := r.server.Requests(pacDir+"/"+next.File()) + l.Requests(pacDir+"/"+next.File()); n > 2 {
				t.Errorf("the mirrors were asked %d times for one package", n)
			}
			if told.Hits() == 0 {
				t.Error("the liar was never asked for what it lies about")
			}

			r.server.Refuse()
			if lie.name != "wrong bytes of a package" {
				staysTrue(t, nodes, "/arch/"+pacDir+"/", l, told, root)
				hosts[2].must("-Sy")
				return
			}
			app := pacPackages[0].File()
			if out, err := hosts[0].pacman("-Sw", "app"); err == nil {
				t.Errorf("pacman took a package that no mirror has right: %s", out)
			}
			if _, err := os.Stat(filepath.Join(hosts[0].Dir, "cache", app)); err == nil {
				t.Error("pacman keeps a package that no mirror has right")
			}
			l.ClearFaults()
			hosts[0].insists("-Sw", "app")
			hosts[0].has(r, "cache", app)
		})
	}
}

// insists runs the client again and again, as its user does, until it succeeds.
func (h *pacHost) insists(args ...string) {
	h.t.Helper()
	runs := 0
	eventually(h.t, 90*time.Second, "pacman is well when there is a good mirror", func() bool {
		runs++
		out, err := h.pacman(args...)
		if err != nil {
			h.t.Logf("run %d: %s", runs, out)
		}
		return err == nil
	})
}

// zypperHost is a host with a root of its own.
type zypperHost struct {
	w   *rpmWorld
	dir string
	run func(args ...string) string
}

// zypper makes a host whose repository "r" has these addresses. It checks the signature of the metadata.
func (w *rpmWorld) zypper(baseurls ...string) *zypperHost {
	w.t.Helper()
	client := needClient(w.t, "zypper")
	h := &zypperHost{w: w, dir: w.t.TempDir()}
	writeFile(w.t, filepath.Join(h.dir, "etc/zypp/repos.d/r.repo"), fmt.Appendf(nil,
		"[r]\nname=r\nenabled=1\nautorefresh=0\nbaseurl=%s\ngpgcheck=1\nrepo_gpgcheck=1\npkg_gpgcheck=0\ngpgkey=file://%s\n", strings.Join(baseurls, "\n        "), w.keyFile()))
	h.run = func(args ...string) string {
		w.t.Helper()
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
		defer cancel()
		return mustRun(w.t, client.Command(ctx, "zypper", append([]string{"--root", h.dir, "--non-interactive", "--gpg-auto-import-keys"}, args...)...))
	}
	return h
}
