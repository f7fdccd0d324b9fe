package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
)

// do runs a command of the node that must succeed.
func (n *node) do(args ...string) string {
	n.t.Helper()
	out, errs, code := n.run(append(args, "--config", n.ConfigFile())...)
	if code != 0 {
		n.t.Fatalf("aptmesh %s: exit code %d: %s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// snapshotHost is a host that uses an archive as a snapshot or a channel has it.
func (w *world) snapshotHost(id string) *apt {
	line := "[signed-by=KEYRING] " + w.node.URL + "/snapshot/debian/" + id + " noble main"
	return newApt(w.t, w.archive.Keyring(), "deb "+line+"\ndeb-src "+line)
}

// version is the version of a package that a host would install now.
func (c *apt) version(name string) string {
	c.t.Helper()
	for line := range strings.Lines(c.run("apt-cache", "policy", name)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok {
			return v
		}
	}
	c.t.Fatalf("apt knows no %s", name)
	return ""
}

// Hosts on a snapshot and on a channel keep what they have while the archive goes on and forgets the
// past, over a restart of the node; a channel takes its hosts along when it is moved, and not before.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	suite := everything("noble")
	suite.Retain = 1 // upstream forgets by-hash names at once
	w := newWorld(t, suite, options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000},
		testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	live := w.host("mapped", "URL noble main")
	live.run("apt-get", "update")
	w.node.do("snapshot", "create", "w48", "--note", "before")
	w.node.do("channel", "set", "stable", "w48")
	w.node.do("channel", "set", "canary", "live")

	publish := func(version string, after time.Duration) {
		t.Helper()
		w.archive.RemovePackage("noble", "tool")
		w.archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: version, Size: 20_000})
		w.archive.Publish(w.began.Add(after))
		w.refresh("noble")
	}
	hosts := func(want map[string]string) {
		t.Helper()
		for id, version := range want {
			host := w.snapshotHost(id)
			host.run("apt-get", "update")
			if v := host.version("tool"); v != version {
				t.Errorf("a host on %s has %s, want %s", id, v, version)
			}
			host.run("apt-get", "download", "tool")
		}
	}
	// A package that no host has taken is held by nobody: one takes it while upstream has it.
	hosts(map[string]string{"w48": "1"})
	stable := w.snapshotHost("stable")
	stable.run("apt-get", "update")
	publish("2", time.Minute)
	publish("3", 2*time.Minute)
	w.server.ResetCounters()
	stable.run("apt-get", "update")
	stable.run("apt-get", "download", "tool")
	if v := stable.version("tool"); v != "1" {
		t.Errorf("a host on a channel that has not moved has %s", v)
	}
	live.run("apt-get", "update")
	if v := live.version("tool"); v != "3" {
		t.Errorf("a host of the archive itself has %s", v)
	}
	now := map[string]string{"w48": "1", "stable": "1", "canary": "3"}
	hosts(now)
	w.node.do("snapshot", "create", "w49")
	w.node.do("promote", "canary", "stable")
	stable.run("apt-get", "update")
	if v := stable.version("tool"); v != "3" {
		t.Errorf("after the channel was moved, its host has %s", v)
	}
	if out := w.node.do("channel", "rollback", "stable"); !strings.Contains(out, "from live to w48") {
		t.Errorf("%s", out)
	}
	w.node.stop()
	w.node.start()
	now["w49"] = "3"
	hosts(now)
	for _, p := range w.server.Paths() {
		if strings.Contains(p, "tool_1_") {
			t.Errorf("upstream was asked for %s, which the node holds", p)
		}
	}

	out, errs, code := w.node.run("snapshot", "rm", "w48", "--config", w.node.ConfigFile())
	if code == 0 || !strings.Contains(errs, "the channel stable stands for it") {
		t.Errorf("a snapshot in use is removed: %s%s", out, errs)
	}
	// What changes, what will become of it, and the way back.
	if out := w.node.do("snapshot", "diff", "stable", "live", "--used"); !strings.Contains(out, "1 upgraded") || !strings.Contains(out, "upgraded  tool") {
		t.Errorf("%s", out)
	}
	if out := w.node.do("snapshot", "show", "w48"); !strings.Contains(out, "debian/dists/noble") || !strings.Contains(out, "of them its own") {
		t.Errorf("%s", out)
	}
	w.node.do("snapshot", "rm", "w49")
	if out := w.node.do("snapshot", "list", "--removed"); !strings.Contains(out, "w49") {
		t.Errorf("%s", out)
	}
	w.node.do("snapshot", "restore", "w49", "--as", "w49-again")
	hosts(map[string]string{"w49-again": "3", "stable": "1"})
	if out := w.node.do("status"); !strings.Contains(out, "snapshots") || strings.Contains(out, "stable leads") {
		t.Errorf("%s", out)
	}
}

// A snapshot that is taken at one node is served by all, also by one that was down at that moment, and with the
// node gone that took it; a channel moves on all of them with one command.
func TestSnapshotsOfACluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, testarchive.Package{Name: "tool", Version: "1", Size: 20_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	host := func(m *member, id string) *apt {
		line := "[signed-by=KEYRING] " + m.URL + "/snapshot/debian/" + id + " noble main"
		return newApt(t, c.archive.Keyring(), "deb "+line)
	}
	has := func(m *member, id, version string) {
		t.Helper()
		h := host(m, id)
		h.run("apt-get", "update")
		if v := h.version("tool"); v != version {
			t.Errorf("a host on %s at %s has %s, want %s", id, m.Name, v, version)
		}
	}
	n1, n2, n3 := c.nodes[0], c.nodes[1], c.nodes[2]
	c.on(n1).run("apt-get", "update")
	n3.stop()
	n1.do("snapshot", "create", "w48")
	n2.do("channel", "set", "stable", "w48")
	c.archive.RemovePackage("noble", "tool")
	c.archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: "2", Size: 20_000})
	c.publish()
	n3.start()
	for _, m := range []*member{n1, n2, n3} {
		has(m, "w48", "1")
		has(m, "stable", "1")
		has(m, "live", "2")
	}
	n3.do("channel", "set", "stable", "live")
	for _, m := range []*member{n1, n2, n3} {
		has(m, "stable", "2")
	}
	n1.stop()
	n3.do("channel", "rollback", "stable")
	has(n2, "stable", "1")
	has(n3, "w48", "1")
}

// dnf stays on a snapshot while the repository goes on, and follows a channel forward and back.
func TestDnfSnapshot(t *testing.T) {
	t.Parallel()
	w := newRPMWorld(t, false)
	w.dnf().run("makecache")
	on := func(id string) *dnfHost {
		return w.dnfAt(w.node.URL+"/snapshot/r/"+id, "zchunk=0")
	}
	w.node.do("snapshot", "create", "before")
	w.node.do("channel", "set", "stable", "before")
	if said := w.node.do("client-config", w.node.URL, "--channel", "stable"); !strings.Contains(said, "\nbaseurl="+w.node.URL+"/snapshot/r/stable\n") {
		t.Errorf("hosts are to use another URL than these: %s", said)
	}
	first, stable := on("before"), on("stable")
	first.run("install", "hello") // upstream still has the package
	stable.run("makecache")
	w.build("1.1", "hello")
	w.publish()
	if adopted, said := w.refresh(); !adopted {
		t.Fatal(said)
	}
	for id, want := range map[string]string{"before": "1.0", "stable": "1.0", "live": "1.1"} {
		host := on(id)
		if host.run("install", "hello"); host.installed() != want {
			t.Errorf("a host on %s installs %s, want %s", id, host.installed(), want)
		}
	}
	w.node.do("snapshot", "create", "after")
	w.node.do("channel", "set", "stable", "after")
	stable.run("install", "--refresh", "hello")
	if got := stable.installed(); got != "1.1" {
		t.Errorf("after the channel was moved, its host installs %s", got)
	}
	w.node.do("channel", "rollback", "stable")
	stable.run("downgrade", "--refresh", "hello")
	if got := stable.installed(); got != "1.0" {
		t.Errorf("after the channel went back, its host has %s", got)
	}
}

// pacman does the same.
func TestPacmanSnapshot(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	n := newNode(t, r.config("unsigned: true"))
	n.start()
	newPacHost(t, n.URL+"/arch").must("-Sy")
	n.do("snapshot", "create", "before")
	n.do("channel", "set", "stable", "before")
	if said := n.do("client-config", n.URL, "--channel", "stable"); !strings.Contains(said, "\nServer = "+n.URL+"/snapshot/arch/stable/") {
		t.Errorf("hosts are to use another URL than these: %s", said)
	}
	stable := newPacHost(t, n.URL+"/snapshot/arch/stable")
	stable.must("-Sy")
	_, before := n.get("/arch/" + pacDir + "/core.db")
	r.publish(testrepo.Package{Name: "libapp", Version: "1:1.3-1", Size: 300_000, Provides: []string{"libapp.so=1-64"}})
	eventually(t, 20*time.Second, "the new database is served", func() bool {
		_, now := n.get("/arch/" + pacDir + "/core.db")
		return !bytes.Equal(now, before)
	})
	database := func() []byte { return must(os.ReadFile(filepath.Join(stable.Dir, "db/sync/core.db")))(t) }
	stable.must("-Sy")
	if !bytes.Equal(database(), before) {
		t.Error("a host on a channel that has not moved has another database")
	}
	n.do("snapshot", "create", "after")
	n.do("channel", "set", "stable", "after")
	stable.must("-Sy")
	if bytes.Equal(database(), before) {
		t.Error("a host on a channel that was moved has the old database")
	}
	n.do("channel", "rollback", "stable")
	stable.must("-Sy")
	if !bytes.Equal(database(), before) {
		t.Error("a host on a channel that went back has the new database")
	}
	stable.must("-Sw", "app")
}
