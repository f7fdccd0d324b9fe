package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/snapshot/bundle"
	"github.com/aptmesh/aptmesh/proto"
)

// exportWorld is a node with a snapshot w48, of which a host has installed all packages.
func exportWorld(t *testing.T) *world {
	suite := everything("noble")
	w := newWorld(t, suite, options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000},
		testarchive.Package{Name: "big", Version: "1", Size: 900_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	host := w.host("mapped", "URL noble main")
	host.run("apt-get", "update")
	host.run("apt-get", "download", "tool", "big")
	w.node.do("snapshot", "create", "w48")
	return w
}

// site is a node without a link: its upstream is nowhere. It trusts the keys of a world's archive, or others.
func (w *world) site(trust string) *node {
	w.t.Helper()
	if trust == "" {
		trust = fmt.Sprintf("signed_by: [%q]", writeFile(w.t, filepath.Join(w.t.TempDir(), "archive.gpg"), w.archive.Keyring()))
	}
	n := newNode(w.t, fmt.Sprintf("archives:\n  debian:\n    upstream: http://127.0.0.1:9/debian\n    %s\n", trust))
	n.start()
	return n
}

// on is a host that uses a snapshot of a node.
func (w *world) on(n *node, id string) *apt {
	w.t.Helper()
	line := "[signed-by=KEYRING] " + n.URL + "/snapshot/debian/" + id + " noble main"
	return newApt(w.t, w.archive.Keyring(), "deb "+line)
}

// exits runs a command that must end with a code, and returns what it says.
func (n *node) exits(code int, args ...string) string {
	n.t.Helper()
	out, errs, got := n.run(append(args, "--config", n.ConfigFile())...)
	if got != code {
		n.t.Fatalf("aptmesh %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out + errs
}

// A snapshot that was carried to another site in a directory is installed from there, with no upstream at all, also after a
// restart; the next one brings only what is new.
func TestExportImport(t *testing.T) {
	t.Parallel()
	w := exportWorld(t)
	usb := filepath.Join(t.TempDir(), "usb")
	out := w.node.exits(0, "export", "w48", "--to", usb)
	t.Log(out)
	if again := w.node.exits(0, "export", "w48", "--to", usb); !strings.Contains(again, "0 B were written") {
		t.Errorf("an unchanged export writes: %s", again)
	}
	site := w.site("")
	t.Log(site.exits(0, "import", usb))
	check := func(id, version string) {
		t.Helper()
		host := w.on(site, id)
		host.run("apt-get", "update")
		if v := host.version("tool"); v != version {
			t.Errorf("%s has %s", id, v)
		}
		host.run("apt-get", "download", "tool", "big")
	}
	check("w48", "1")
	if again := site.exits(0, "import", usb); !strings.Contains(again, "0 B were new") {
		t.Errorf("an unchanged import: %s", again)
	}
	site.stop()
	site.start()
	check("w48", "1")

	w.archive.RemovePackage("noble", "tool")
	w.archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: "2", Size: 21_000})
	w.archive.Publish(w.began.Add(time.Minute))
	w.refresh("noble")
	host := w.host("mapped", "URL noble main")
	host.run("apt-get", "update")
	host.run("apt-get", "download", "tool")
	w.node.do("snapshot", "create", "w49")
	second := filepath.Join(t.TempDir(), "second")
	t.Log(w.node.exits(0, "export", "w49", "--to", second, "--since", filepath.Join(usb, "manifest.jsonl")))
	if size := sizeOf(t, second); size > 200_000 {
		t.Errorf("the second bundle has %d bytes, though only one small package is new", size)
	}
	stranger := w.site("")
	if said := stranger.exits(4, "import", second); !strings.Contains(said, "big_1_amd64.deb: it is not in the bundle, which was written for a site that has it already") {
		t.Errorf("a site without the first bundle says %s", said)
	}
	t.Log(site.exits(0, "import", second, "--as", "january"))
	check("january", "2")
	check("w48", "1")
	if out := site.exits(3, "import", second, "--as", "w48"); !strings.Contains(out, "--as another name") {
		t.Errorf("a name that is taken: %s", out)
	}
	// Over the first directory, nothing is mixed.
	if out := w.node.exits(3, "export", "w49", "--to", usb); !strings.Contains(out, "another bundle") {
		t.Errorf("a directory that is taken: %s", out)
	}
}

// sizeOf is the size of all files below a directory.
func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// rewritten is a bundle that somebody has changed: files is what its manifest says, added are contents besides.
func rewritten(t *testing.T, from string, change func(*bundle.Head, []bundle.File) []bundle.File, added ...[]byte) (dir string) {
	t.Helper()
	r := must(bundle.Open(from))(t)
	defer r.Close()
	dir = filepath.Join(t.TempDir(), "rewritten")
	files := change(&r.Head, slices.Clone(r.Files))
	w := must(bundle.Create(dir, r.Head, 1<<30))(t)
	for _, f := range r.Files {
		body := must(r.Content(f.Ref()))(t)
		if err := errors.Join(w.Add(f.Ref(), body), body.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range added {
		if err := w.Add(proto.Ref{Digest: proto.DigestOf(data), Size: int64(len(data))}, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(files), w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stored counts the blobs of a node.
func (n *node) stored() (blobs int) {
	n.t.Helper()
	err := filepath.Walk(filepath.Join(n.DataDir(), "blobs"), func(p string, info os.FileInfo, err error) error {
		if err == nil && len(filepath.Base(p)) == 64 {
			blobs++
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return blobs
}

// What a bundle brings that no key of the site vouches for is refused, in one sentence, and nothing of it is stored.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	w := exportWorld(t)
	usb := filepath.Join(t.TempDir(), "usb")
	w.node.exits(0, "export", "w48", "--to", usb)
	evil := []byte("an evil package")
	file := func(kind, path string, data []byte) bundle.File {
		return bundle.File{Kind: kind, Archive: "debian", Path: path, SHA256: proto.DigestOf(data), Size: int64(len(data))}
	}
	find := func(files []bundle.File, part string) *bundle.File {
		i := slices.IndexFunc(files, func(f bundle.File) bool { return strings.Contains(f.Path, part) })
		if i < 0 {
			t.Fatalf("no file has %s", part)
		}
		return &files[i]
	}
	// with changes the record of the only suite.
	with := func(change func(suite map[string]any)) func(*bundle.Head, []bundle.File) []bundle.File {
		return func(h *bundle.Head, files []bundle.File) []bundle.File {
			var record map[string]any
			if err := json.Unmarshal(h.Record, &record); err != nil {
				t.Fatal(err)
			}
			change(record["archives"].([]any)[0].(map[string]any)["suites"].([]any)[0].(map[string]any))
			h.Record = must(json.Marshal(record))(t)
			return files
		}
	}
	refOf := func(data []byte) map[string]any {
		return map[string]any{"digest": proto.DigestOf(data).String(), "size": len(data)}
	}
	site := w.site("")
	other := must(bundle.Open(usb))(t)
	other.Close()
	rootPath := find(other.Files, "InRelease").Path
	for name, c := range map[string]struct {
		dir, said string
	}{
		"a file that nothing lists": {rewritten(t, usb, func(_ *bundle.Head, files []bundle.File) []bundle.File {
			return append(files, file("package", "pool/evil.deb", evil))
		}, evil), "debian/pool/evil.deb, which no signed index of the snapshot lists"},
		"another content of a package": {rewritten(t, usb, func(_ *bundle.Head, files []bundle.File) []bundle.File {
			f := find(files, "tool_1")
			*f = file("package", f.Path, evil)
			return files
		}, evil), "and the signed indexes list it as"},
		"another content of an index": {rewritten(t, usb, func(_ *bundle.Head, files []bundle.File) []bundle.File {
			f := find(files, "binary-amd64/Packages")
			*f = file("index", f.Path, evil)
			return files
		}, evil), "and the signed indexes list it as"},
		"another size": {rewritten(t, usb, func(_ *bundle.Head, files []bundle.File) []bundle.File {
			find(files, "tool_1").Size++
			return files
		}), "bytes, and the signed indexes list"},
		"an archive that the snapshot does not have": {rewritten(t, usb, func(_ *bundle.Head, files []bundle.File) []bundle.File {
			f := file("package", "pool/evil.deb", evil)
			f.Archive = "ubuntu"
			return append(files, f)
		}, evil), "whose archive is none of the snapshot"},
		"a root that nobody signed": {rewritten(t, usb, func(h *bundle.Head, files []bundle.File) []bundle.File {
			files = with(func(s map[string]any) { s["root"] = refOf([]byte("Suite: noble\n")) })(h, files)
			*find(files, "InRelease") = file("root", rootPath, []byte("Suite: noble\n"))
			return files
		}, []byte("Suite: noble\n")), "the archive debian is not trusted here as the bundle has it"},
		"another form of the root": {rewritten(t, usb, func(h *bundle.Head, files []bundle.File) []bundle.File {
			files = with(func(s map[string]any) {
				s["companions"] = []any{map[string]any{"name": "Release", "ref": refOf([]byte("Suite: noble\n"))}}
			})(h, files)
			return slices.Insert(files, 0, file("root", "dists/noble/Release", []byte("Suite: noble\n")))
		}, []byte("Suite: noble\n")), "the archive debian is not trusted here as the bundle has it"},
		"a companion that is no file of a root": {rewritten(t, usb, func(h *bundle.Head, files []bundle.File) []bundle.File {
			files = with(func(s map[string]any) {
				s["companions"] = []any{map[string]any{"name": "main/installer/evil", "ref": refOf(evil)}}
			})(h, files)
			return slices.Insert(files, 0, file("root", "dists/noble/main/installer/evil", evil))
		}, evil), "is no file of a root"},
		"a snapshot of tomorrow": {rewritten(t, usb, func(h *bundle.Head, files []bundle.File) []bundle.File {
			h.Record = bytes.Replace(h.Record, []byte(`"taken":"20`), []byte(`"taken":"21`), 1)
			return files
		}), "set the clock"},
		"a record that is none": {rewritten(t, usb, func(h *bundle.Head, files []bundle.File) []bundle.File {
			h.Record = []byte(`{"taken":"2020-01-01T00:00:00Z","archives":[],"evil":1}`)
			return files
		}), "a record of a snapshot cannot be read"},
		"no bundle": {t.TempDir(), "no bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			before := site.stored()
			out, errs, code := site.run("import", c.dir, "--as", "evil", "--config", site.ConfigFile())
			if code != 3 || !strings.Contains(errs, c.said) || strings.Count(errs, "aptmesh: ") != 1 {
				t.Errorf("exit code %d, want 3 and %q: %s%s", code, c.said, out, errs)
			}
			if out := site.exits(0, "snapshot", "list"); strings.Contains(out, "evil") {
				t.Errorf("it has a name: %s", out)
			}
			for _, data := range [][]byte{evil, []byte("Suite: noble\n")} {
				sum := proto.DigestOf(data).String()
				if _, err := os.Stat(filepath.Join(site.DataDir(), "blobs", sum[:2], sum)); err == nil {
					t.Errorf("%q is stored (%d blobs, %d before)", data, site.stored(), before)
				}
			}
		})
	}
	// A site that trusts other keys stores nothing at all; one that says that the archive needs none takes it.
	foreign := w.site(fmt.Sprintf("signed_by: [%q]", writeFile(t, filepath.Join(t.TempDir(), "other.asc"), testarchive.NewKey("other", testarchive.KeyOptions{}).Armored())))
	if said := foreign.exits(3, "import", usb); !strings.Contains(said, "not trusted here") || foreign.stored() > 0 {
		t.Errorf("%d blobs; %s", foreign.stored(), said)
	}
	careless := w.site("unsigned: true")
	careless.exits(0, "import", usb)
	trusting := newNode(t, "archives:\n  debian:\n    upstream: https://127.0.0.1:9/debian\n    trust_https: true\n")
	trusting.start()
	if said := trusting.exits(3, "import", usb); !strings.Contains(said, "no key vouches for debian/dists/noble/InRelease") || trusting.stored() > 0 {
		t.Errorf("%d blobs; %s", trusting.stored(), said)
	}
	unknown := newNode(t, "archives:\n  other:\n    upstream: http://127.0.0.1:9/\n    unsigned: true\n")
	unknown.start()
	if said := unknown.exits(3, "import", usb); !strings.Contains(said, "the archive debian is not configured here") {
		t.Error(said)
	}
	tiny := newNode(t, "")
	tiny.Settings = strings.Replace(site.Settings, "max_size: 2GiB, memory: 64MiB", "max_size: 512KiB, memory: 256KiB", 1)
	tiny.start()
	if said := tiny.exits(3, "import", usb); !strings.Contains(said, "it does not fit: ") {
		t.Error(said)
	}

	// Damage is found and named; what is whole is taken, and the rest comes later.
	chunk := filepath.Join(usb, "00001.tar")
	whole := must(os.ReadFile(chunk))(t)
	spoilt := bytes.Clone(whole)
	spoilt[len(spoilt)-4000] ^= 1 // in the last package
	writeFile(t, chunk, spoilt)
	if said := site.exits(4, "import", usb); !strings.Contains(said, "it is damaged in the bundle") || !strings.Contains(said, "no name yet, because 1 file is missing") {
		t.Error(said)
	}
	writeFile(t, chunk, whole[:len(whole)-100_000])
	if said := site.exits(4, "import", usb); !strings.Contains(said, "00001.tar is cut short or damaged") || !strings.Contains(said, "1 file is missing") {
		t.Error(said)
	}
	writeFile(t, chunk, whole)
	if said := site.exits(0, "import", usb); !strings.Contains(said, "w48: 1 suite, imported") {
		t.Error(said)
	}
	// An older snapshot does not take the name of a newer one.
	older := rewritten(t, usb, func(h *bundle.Head, files []bundle.File) []bundle.File {
		var record map[string]any
		if err := json.Unmarshal(h.Record, &record); err != nil {
			t.Fatal(err)
		}
		record["note"] = "another"
		h.Record = must(json.Marshal(record))(t)
		return files
	})
	if said := site.exits(3, "import", older); !strings.Contains(said, `"w48" is there already; import it --as another name`) {
		t.Error(said)
	}
}

// webServer is a static web server, and what hosts asked it for. before, if not nil, is called before each answer.
type webServer struct {
	*httptest.Server
	mu     sync.Mutex
	paths  []string
	before func(path string)
}

// serveTree serves what an export has written, as any web server would.
func serveTree(t *testing.T, dir string) *webServer {
	t.Helper()
	s := &webServer{}
	files := http.FileServer(http.Dir(filepath.Join(dir, "current")))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.Path)
		before := s.before
		s.mu.Unlock()
		if before != nil {
			before(r.URL.Path)
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// asked reports whether a host asked for a path that has a part.
func (s *webServer) asked(part string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.paths, func(p string) bool { return strings.Contains(p, part) })
}

// wholeTree demands that all files of the tree that the link leads to are what its list says, and returns its name.
func wholeTree(t *testing.T, dir string) (generation string) {
	t.Helper()
	generation = must(os.Readlink(filepath.Join(dir, "current")))(t)
	lines := strings.Split(strings.TrimSpace(string(must(os.ReadFile(filepath.Join(dir, generation+".list")))(t))), "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "end" {
		t.Fatalf("%s has a list of %d lines", generation, len(lines))
	}
	for _, line := range lines[:len(lines)-1] {
		words := strings.SplitN(line, " ", 5)
		data := must(os.ReadFile(filepath.Join(dir, "current", words[4])))(t)
		if proto.DigestOf(data).String() != words[0] {
			t.Fatalf("%s of %s has other bytes than the list says", words[4], generation)
		}
	}
	return generation
}

// A tree on a plain web server serves apt like the archive, by hash, with sources, and while it is replaced in the middle of
// an update. A run that changes nothing makes nothing.
func TestExportTree(t *testing.T) {
	t.Parallel()
	w := exportWorld(t)
	dir := filepath.Join(t.TempDir(), "mirror")
	w.node.exits(0, "export", "w48", "--to", dir, "--tree", "--all")
	first := wholeTree(t, dir)
	if again := w.node.exits(0, "export", "w48", "--to", dir, "--tree", "--all"); !strings.Contains(again, "has it already") || wholeTree(t, dir) != first {
		t.Errorf("an unchanged run: %s", again)
	}
	web := serveTree(t, dir)
	host := func(settings ...string) *apt {
		line := "[signed-by=KEYRING] " + web.URL + "/debian noble main"
		return newApt(t, w.archive.Keyring(), "deb "+line+"\ndeb-src "+line, settings...)
	}
	before := host()
	before.run("apt-get", "update")
	before.run("apt-get", "download", "tool", "big")
	before.run("apt-get", "source", "--download-only", "made")
	if !web.asked("/by-hash/SHA256/") {
		t.Errorf("apt asked for nothing by hash: %q", web.paths)
	}
	byName := host(`Acquire::By-Hash "no";`)
	byName.run("apt-get", "update")
	byName.run("apt-get", "download", "tool")

	// The archive goes on, and the tree is replaced behind the Release that a host has just read.
	w.archive.RemovePackage("noble", "tool")
	w.archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: "2", Size: 21_000})
	w.archive.Publish(w.began.Add(time.Minute))
	w.refresh("noble")
	live := w.host("mapped", "URL noble main")
	live.run("apt-get", "update")
	w.node.do("snapshot", "create", "w49")
	var once sync.Once
	web.mu.Lock()
	web.before = func(path string) {
		if strings.Contains(path, "by-hash") {
			once.Do(func() { w.node.exits(0, "export", "w49", "--to", dir, "--tree", "--all") })
		}
	}
	web.mu.Unlock()
	middle := host()
	middle.run("apt-get", "update")
	if second := wholeTree(t, dir); second == first {
		t.Fatal("the tree was not replaced")
	}
	if v := middle.version("tool"); v != "1" {
		t.Errorf("a host in the middle of its update has %s", v)
	}
	middle.run("apt-get", "download", "tool", "big")
	middle.run("apt-get", "update")
	if v := middle.version("tool"); v != "2" {
		t.Errorf("after the next update it has %s", v)
	}
	middle.run("apt-get", "download", "tool", "big")
	same := func(path string) bool {
		a, b := must(os.Stat(filepath.Join(dir, first, path)))(t), must(os.Stat(filepath.Join(dir, "current", path)))(t)
		return os.SameFile(a, b)
	}
	if path, _ := w.find("pool/", "big_1_amd64.deb"); !same(filepath.Join("debian", path)) {
		t.Error("an unchanged package was written again")
	}
}

// At whatever moment an export or an import is killed, the tree that the link leads to is whole, and what comes next goes on and
// ends well.
func TestExportKilled(t *testing.T) {
	t.Parallel()
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, everything("noble"), options{}, manyPackages(150, 0)...)
	host := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] "+w.node.URL+"/debian noble main")
	for i := range 2 {
		for _, p := range manyPackages(60, i) {
			w.archive.AddPackage("noble", p)
		}
		w.archive.Publish(w.began.Add(time.Duration(i+1) * time.Minute))
		w.refresh("noble")
		host.run("apt-get", "update")
		w.node.do("snapshot", "create", fmt.Sprint("s", i))
		w.node.exits(0, "export", fmt.Sprint("s", i), "--to", filepath.Join(t.TempDir(), "warm"), "--all") // the node fetches all of it
	}
	// killed runs a command and kills it at a random moment; it reports whether it ended before.
	killed := func(n *node, most time.Duration, args ...string) (ended bool) {
		t.Helper()
		cmd := exec.Command(binary, append(args, "--config", n.ConfigFile())...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		hold(t.Context(), time.Duration(random.Int64N(int64(most))))
		_ = cmd.Process.Kill() // it may have ended
		return cmd.Wait() == nil
	}
	site := w.site("")
	dir, usb := filepath.Join(t.TempDir(), "mirror"), filepath.Join(t.TempDir(), "usb")
	w.node.exits(0, "export", "s0", "--to", dir, "--tree", "--all")
	trees, bundles, imports := 0, 0, 0
	for round := range rounds {
		if killed(w.node, 350*time.Millisecond, "export", fmt.Sprint("s", (round+1)%2), "--to", dir, "--tree", "--all") {
			trees++
		}
		wholeTree(t, dir)
		if killed(w.node, 350*time.Millisecond, "export", "s1", "--to", usb, "--all", "--chunk-size", "1MiB") {
			bundles++
			if err := os.RemoveAll(usb); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("of %d, %d trees and %d bundles came to an end", rounds, trees, bundles)
	w.node.exits(0, "export", "s1", "--to", dir, "--tree", "--all")
	wholeTree(t, dir)
	w.node.exits(0, "export", "s1", "--to", usb, "--all", "--chunk-size", "1MiB")
	for range rounds / 2 {
		if killed(site, 200*time.Millisecond, "import", usb) {
			imports++
		}
	}
	t.Logf("of %d, %d imports came to an end", rounds/2, imports)
	site.exits(0, "import", usb)
	there := w.on(site, "s1")
	there.run("apt-get", "update")
	fromTree := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] "+serveTree(t, dir).URL+"/debian noble main")
	fromTree.run("apt-get", "update")
	names := strings.Fields(there.run("apt-cache", "pkgnames"))
	if len(names) < 150 {
		t.Fatalf("apt knows %d packages", len(names))
	}
	for _, h := range []*apt{there, fromTree} {
		h.run("apt-get", append([]string{"download"}, names...)...)
	}
}

// dnf and pacman use trees of their repositories, which need no other layout.
func TestExportTreeRPM(t *testing.T) {
	t.Parallel()
	w := newRPMWorld(t, true)
	w.dnf().run("install", "hello")
	w.node.do("snapshot", "create", "w48")
	dir := filepath.Join(t.TempDir(), "mirror")
	w.node.exits(0, "export", "w48", "--to", dir, "--tree", "--all")
	wholeTree(t, dir)
	host := w.dnfAt(serveTree(t, dir).URL+"/r", "zchunk=0", "r.repo_gpgcheck=1", "r.gpgkey=file://"+w.keyFile())
	host.run("install", "hello")
	if got := host.installed(); got != "1.0" {
		t.Errorf("%q is installed", got)
	}
}

func TestExportTreePacman(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.signer = testarchive.DefaultKey() // into a file beside each package, which the database does not have
	r.publish(pacPackages...)
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	h := newPacHost(t, n.URL+"/arch")
	h.must("-Sy")
	h.must("-Fy")
	n.exits(4, "snapshot", "create", "w48") // of core.files no index is kept: it lists none
	dir := filepath.Join(t.TempDir(), "mirror")
	n.exits(0, "export", "w48", "--to", dir, "--tree", "--all")
	wholeTree(t, dir)
	host := newPacHost(t, serveTree(t, dir).URL+"/arch")
	host.trust(r.signer, "Required DatabaseOptional")
	host.must("-Sy")
	host.must("-Fy")
	host.must("-Sw", "app", "data", "c++")
	host.has(r, "cache", pacFiles(pacPackages...)...)
	host.has(r, "cache", pacPackages[0].File()+".sig")
	if again := n.exits(0, "export", "w48", "--to", dir, "--tree", "--all"); !strings.Contains(again, "has it already") {
		t.Errorf("an unchanged run: %s", again)
	}
}

// What was imported on one node of a cluster is installed from the others, whose upstream never had it.
func TestImportInCluster(t *testing.T) {
	t.Parallel()
	w := exportWorld(t)
	usb := filepath.Join(t.TempDir(), "usb")
	w.node.exits(0, "export", "w48", "--to", usb)
	c := newCluster(t, 2, testarchive.Package{Name: "other", Version: "1", Size: 1000})
	n1, n2 := c.nodes[0], c.nodes[1]
	n1.exits(0, "import", usb, "--as", "from-headquarters")
	if out := n2.exits(0, "snapshot", "list"); !strings.Contains(out, "from-headquarters") {
		t.Errorf("the other node does not know it: %s", out)
	}
	host := w.on(n2.node, "from-headquarters")
	host.run("apt-get", "update")
	if v := host.version("tool"); v != "1" {
		t.Errorf("the other node has %s", v)
	}
	host.run("apt-get", "download", "tool", "big")
	// Removed, with its packages; a day later, nothing keeps them.
	n2.exits(0, "snapshot", "rm", "from-headquarters")
	if out := n1.exits(0, "snapshot", "list"); strings.Contains(out, "from-headquarters") {
		t.Errorf("it is still there: %s", out)
	}
}

// A snapshot that holds all its packages is exported with all of them, and holds them where it is imported.
func TestExportHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{}, manyPackages(20, 0)...)
	host := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] "+w.node.URL+"/debian noble main")
	host.run("apt-get", "update")
	w.node.exits(0, "snapshot", "create", "w48", "--hold", "all")
	usb := filepath.Join(t.TempDir(), "usb")
	if said := w.node.exits(0, "export", "w48", "--to", usb); strings.Contains(said, "left out") {
		t.Error(said)
	}
	site := w.site("")
	site.exits(0, "import", usb)
	there := w.on(site, "w48")
	there.run("apt-get", "update")
	there.run("apt-get", append([]string{"download"}, strings.Fields(there.run("apt-cache", "pkgnames"))...)...)
	var shown admin.Snapshot
	eventually(t, 20*time.Second, "the snapshot holds its packages", func() bool {
		if err := json.Unmarshal([]byte(site.exits(0, "snapshot", "show", "w48", "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		return shown.Packages != nil && shown.Packages.Phase == "done" && shown.Packages.Missing.Files == 0
	})
	if shown.Hold != "all" {
		t.Errorf("it holds %s", shown.Hold)
	}
}

// A node that is killed in the middle of an import has forgotten it, and what it has stored is not sent again.
func TestImportNodeKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{}, manyPackages(300, 0)...)
	host := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] "+w.node.URL+"/debian noble main")
	host.run("apt-get", "update")
	w.node.do("snapshot", "create", "w48")
	usb := filepath.Join(t.TempDir(), "usb")
	w.node.exits(0, "export", "w48", "--to", usb, "--all")
	site := w.site("")
	// How much comes until the node is killed is a matter of luck. An import that was too quick to be killed ends the rounds.
	kills, ended := 0, false
	for round := 0; round < 4 && !ended; round++ {
		before := site.stored()
		cmd := exec.Command(binary, "import", usb, "--config", site.ConfigFile())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "files come", func() bool { return site.stored() > min(before+20, 290) })
		site.Kill()
		ended = cmd.Wait() == nil
		site.start()
		if ended {
			break
		}
		kills++
		if out := site.exits(0, "snapshot", "list"); strings.Contains(out, "w48") {
			t.Errorf("round %d: it has its name already", round)
		}
	}
	var result struct {
		Bytes, Sent int64
	}
	if kills == 0 {
		t.Fatal("no import could be killed in its middle")
	}
	if !ended {
		said := site.exits(0, "import", usb, "--json")
		if err := json.NewDecoder(strings.NewReader(said)).Decode(&result); err != nil || result.Sent >= result.Bytes {
			t.Errorf("%+v, %v: %s", result, err, said)
		}
	}
	there := w.on(site, "w48")
	there.run("apt-get", "update")
	there.run("apt-get", append([]string{"download"}, strings.Fields(there.run("apt-cache", "pkgnames"))...)...)
}
