package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// replace publishes a package of a suite with another version, and has the node take it.
func (w *world) replace(suite, name, version string, after time.Duration) {
	w.t.Helper()
	w.archive.RemovePackage(suite, name)
	w.archive.AddPackage(suite, testarchive.Package{Name: name, Version: version, Size: 20_000})
	w.archive.Publish(w.began.Add(after), suite)
	w.refresh(suite)
}

// A channel holds a release back and leaves its security updates live.
func TestChannelWithLiveSecurity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, everything("noble"), options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	w.archive.AddSuite(everything("noble-security"))
	w.archive.AddPackage("noble-security", testarchive.Package{Name: "fix", Version: "1", Size: 20_000})
	w.archive.AddPackage("noble-security", testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	w.archive.Publish(w.began, "noble-security")
	on := func(id string) *apt {
		source := "deb [signed-by=KEYRING] " + w.node.URL + "/snapshot/debian/" + id + " SUITE main"
		h := newApt(t, w.archive.Keyring(), strings.ReplaceAll(source, "SUITE", "noble")+"\n"+strings.ReplaceAll(source, "SUITE", "noble-security"))
		h.run("apt-get", "update")
		return h
	}
	on("live").run("apt-get", "download", "tool", "fix")
	w.node.do("snapshot", "create", "w48")
	if said := w.node.do("channel", "set", "stable", "w48", "--live", "*-security"); !strings.Contains(said, "it stands for w48 (live: *-security)") {
		t.Error(said)
	}
	w.replace("noble", "tool", "2", time.Minute)
	w.replace("noble-security", "fix", "2", time.Minute)
	has := func(id, tool, fix string) {
		t.Helper()
		h := on(id)
		if a, b := h.version("tool"), h.version("fix"); a != tool || b != fix {
			t.Errorf("a host on %s has tool %s and fix %s, want %s and %s", id, a, b, tool, fix)
		}
		h.run("apt-get", "download", "tool", "fix")
	}
	has("w48", "1", "1")
	has("stable", "1", "2")
	w.node.stop()
	w.node.start()
	has("stable", "1", "2")
	w.replace("noble-security", "fix", "3", 2*time.Minute)
	w.node.do("snapshot", "create", "w49")
	w.node.do("channel", "set", "canary", "w49")
	if said := w.node.do("promote", "canary", "stable"); !strings.Contains(said, "moved from w48 (live: *-security) to w49 (live: *-security)") {
		t.Error(said)
	}
	w.replace("noble", "tool", "3", 2*time.Minute)
	w.replace("noble-security", "fix", "4", 3*time.Minute)
	has("stable", "2", "4")
	for path, want := range map[string]string{
		"dists/noble/InRelease": "; channel=stable; snapshot=w49;", "dists/noble-security/InRelease": "; channel=stable; snapshot=live;",
	} {
		resp, _ := w.node.get("/snapshot/debian/stable/" + path)
		if said := resp.Header.Get("X-Aptmesh"); resp.StatusCode != http.StatusOK || !strings.Contains(said, want) || !strings.Contains(said, "; generation=") {
			t.Errorf("%s: %s, %s", path, resp.Status, said)
		}
	}
	if said := w.node.do("why", w.node.URL+"/snapshot/debian/stable/dists/noble-security/InRelease"); !strings.Contains(said, "leaves suites live: *-security") {
		t.Error(said)
	}
	if last := w.node.accessLog(); last[len(last)-1].Channel != "stable" || last[len(last)-1].Snapshot == "" {
		t.Errorf("the access log has %+v", last[len(last)-1])
	}
	w.node.do("channel", "rollback", "stable")
	if said := w.node.do("channel", "history", "stable"); strings.Count(said, "(live: *-security)") != 5 {
		t.Error(said)
	}
	has("stable", "1", "4")
	w.node.do("channel", "set", "stable", "w48", "--live", "")
	has("stable", "1", "1")
}

// Hosts that update while their channel is moved, and install while it is moved on, get all of one snapshot.
func TestChannelMovesDuringUpdate(t *testing.T) {
	t.Parallel()
	suite := everything("noble")
	suite.Retain = 1
	w := newWorld(t, suite, options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	at := map[string]string{"w1": "1", "w2": "2", "w3": "3"}
	for i, id := range []string{"w1", "w2", "w3"} {
		if i > 0 {
			w.replace("noble", "tool", at[id], time.Duration(i)*time.Minute)
		}
		live := w.host("mapped", "URL noble main")
		live.run("apt-get", "update")
		live.run("apt-get", "download", "tool") // while upstream has it
		w.node.do("snapshot", "create", id)
		path, _ := w.find("pool/", "/tool_"+at[id]+"_")
		w.archive.Delete(path)
	}
	w.node.do("channel", "set", "stable", "w1")
	ctx, stop := context.WithCancel(t.Context())
	var moving sync.WaitGroup
	moves := 0
	moving.Go(func() {
		for ctx.Err() == nil {
			for _, id := range []string{"w2", "w3", "w1"} {
				w.node.do("channel", "set", "stable", id, "--now")
				moves++
			}
		}
	})
	seen := make(map[string]int)
	old := w.snapshotHost("stable")
	for range 8 {
		for _, h := range []*apt{w.snapshotHost("stable"), old} { // old never goes back
			h.run("apt-get", "update")
			v := h.version("tool")
			seen[v]++
			h.run("apt-get", "download", "tool")
			got := must(filepath.Glob(filepath.Join(h.root, "work", "tool_"+v+"_*.deb")))(t)
			if len(got) != 1 {
				t.Fatalf("%s was downloaded, not version %s", got, v)
			}
			if err := os.Remove(got[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	moving.Wait()
	t.Logf("%d moves; hosts had %v", moves, seen)
	if len(seen) < 2 || moves < 20 {
		t.Errorf("hosts had %v in %d moves: the channel was not moved among them", seen, moves)
	}
}

// knowsSnapshots skips the test with an apt that has no --snapshot. It came with 2.7.0, and to older releases of Ubuntu.
func knowsSnapshots(t *testing.T) {
	t.Helper()
	said := mustRun(t, needClient(t, "apt-get").Command(t.Context(), "apt-get", "--version")) // apt 3.3.5 (amd64)
	version := strings.Fields(said)[1]
	if major, _, _ := strings.Cut(version, "."); major < "3" && len(major) == 1 {
		t.Skipf("apt %s: this test is for apt 3 (APTMESH_CLIENTS=sid)", version)
	}
}

// A host with the settings of client-config uses a channel and a snapshot by apt's own --snapshot, on its first update,
// too, and the source as it is without it.
func TestAptSnapshotOption(t *testing.T) {
	t.Parallel()
	knowsSnapshots(t)
	w := newWorld(t, everything("noble"), options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	live := w.host("proxy", "URL noble main")
	live.run("apt-get", "update")
	live.run("apt-get", "download", "tool")
	w.node.do("snapshot", "create", "w48")
	w.node.do("channel", "set", "stable", "w48")
	w.replace("noble", "tool", "2", time.Minute)
	conf := w.node.do("client-config", w.node.URL)
	path, _ := w.find("pool/", "/tool_1_")
	for what, host := range map[string]*apt{
		"that updated before": live, "on its first update": w.host("proxy", "URL noble main"), "that names the node": w.host("mapped", "URL noble main"),
	} {
		host.write("etc/apt/apt.conf.d/30aptmesh", conf)
		for _, id := range []string{"stable", "w48"} {
			if what == "that names the node" { // whose Origin is not known before the first update
				host.run("apt-get", "update")
			}
			out := host.run("apt-get", "-S", id, "update")
			if !strings.Contains(out, w.node.URL+"/snapshot/debian/"+id+" ") {
				t.Errorf("a host %s does not ask for %s: %s", what, id, out)
			}
			if out := host.run("apt-get", "-S", id, "install", "--print-uris", "tool"); !strings.Contains(out, w.node.URL+"/snapshot/debian/"+id+"/"+path) {
				t.Errorf("a host %s on %s: %s", what, id, out)
			}
			host.run("apt-get", "-S", id, "install", "-y", "--download-only", "tool")
			host.run("apt-get", "clean")
		}
		host.run("apt-get", "update")
		if v := host.version("tool"); v != "2" {
			t.Errorf("a host %s has %s without a snapshot", what, v)
		}
	}
	always := w.host("proxy", "URL noble main")
	always.write("etc/apt/apt.conf.d/30aptmesh", w.node.do("client-config", w.node.URL, "--channel", "stable", "--output", "apt.conf"))
	if always.run("apt-get", "update"); always.version("tool") != "1" {
		t.Error("a host that always uses the channel has another version")
	}
	one := newApt(t, w.archive.Keyring(), "", proxy(w.node))
	one.write("etc/apt/apt.conf.d/30aptmesh", conf)
	one.write("etc/apt/sources.list.d/one.sources", "Types: deb\nURIs: http://archive.example.org/debian\nSuites: noble\nComponents: main\nSnapshot: stable\nSigned-By: "+filepath.Join(one.root, "keyring.gpg")+"\n")
	if one.run("apt-get", "update"); one.version("tool") != "1" {
		t.Error("a host with a source on the channel has another version")
	}
	if out, err := live.try("apt-get", "-S", "nothing", "update"); err == nil || !strings.Contains(out, "no snapshot or channel") {
		t.Errorf("a snapshot that is not there: %v\n%s", err, out)
	}
}

// What client-config prints for a channel is what apt reads: with the keys, and without Valid-Until where the suite stays as
// it is, and there alone.
func TestClientConfigOfAChannel(t *testing.T) {
	t.Parallel()
	suite := everything("noble")
	suite.ValidFor = time.Hour + 20*time.Second // of which an hour is over
	w := newWorld(t, suite, options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	expires := w.began.Add(suite.ValidFor)
	w.archive.AddSuite(everything("noble-security"))
	w.archive.AddPackage("noble-security", testarchive.Package{Name: "fix", Version: "1", Size: 20_000})
	w.archive.Publish(w.began, "noble-security")
	live := w.host("mapped", "URL noble main")
	live.run("apt-get", "update")
	live.run("apt-get", "download", "tool")
	security := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] "+w.node.URL+"/debian noble-security main")
	security.run("apt-get", "update")
	w.node.do("snapshot", "create", "w48")
	w.node.do("channel", "set", "stable", "w48", "--live", "*-security")
	w.archive.ChangeSuite("noble", func(s *testarchive.Suite) { s.ValidFor = 0 })
	w.replace("noble", "tool", "2", time.Minute)
	w.replace("noble-security", "fix", "2", time.Minute)

	print := func(args ...string) string {
		t.Helper()
		return w.node.do(append([]string{"client-config", w.node.URL, "--channel", "stable"}, args...)...)
	}
	for name, text := range map[string]string{"aptmesh.sources": print(), "aptmesh.list": print("--output", "one-line")} {
		if strings.Count(strings.ToLower(text), "check-valid-until") != map[string]int{"aptmesh.sources": 1, "aptmesh.list": 2}[name] {
			t.Errorf("%s:\n%s", name, text)
		}
		on := func(text string) *apt {
			h := newApt(t, w.archive.Keyring(), "")
			text = strings.ReplaceAll(text, "/etc/apt/keyrings/aptmesh-debian.asc", filepath.Join(h.root, "keyring.gpg"))
			h.write("etc/apt/sources.list.d/"+name, text)
			return h
		}
		h := on(text)
		eventually(t, time.Minute, "the release has expired", func() bool { return time.Now().After(expires.Add(2 * time.Second)) })
		h.run("apt-get", "update")
		if a, b := h.version("tool"), h.version("fix"); a != "1" || b != "2" {
			t.Errorf("%s: a host has tool %s and fix %s", name, a, b)
		}
		h.run("apt-get", "download", "tool", "fix")
		without := on(strings.ReplaceAll(strings.ReplaceAll(text, "Check-Valid-Until: no\n", ""), " check-valid-until=no", ""))
		if out, err := without.try("apt-get", "update"); err == nil || !strings.Contains(out, "expired") {
			t.Errorf("%s: without the check switched off: %v\n%s", name, err, out)
		}
	}
}

// A moment in place of a name: what the node holds of it, or else what the archive's service of history has, once.
func TestMoments(t *testing.T) {
	t.Parallel()
	now := time.Now()
	archive := testarchive.New(7)
	archive.AddSuite(everything("noble"))
	archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: "1", Size: 20_000})
	archive.AddPackage("noble", testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	archive.Publish(now.Add(-72 * time.Hour))
	then := archive.Files()
	id := func(ago time.Duration) string { return now.Add(-ago).UTC().Format("20060102T150405Z") }
	old, held := id(60*time.Hour), id(36*time.Hour)
	var asked atomic.Int64
	history := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		data, ok := then[strings.TrimPrefix(r.URL.Path, "/h/"+old+"/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	}))
	t.Cleanup(history.Close)
	server := testarchive.NewServer(archive)
	t.Cleanup(server.Close)
	w := &world{t: t, archive: archive, server: server, began: now.Add(-48 * time.Hour).Truncate(time.Second)}
	keyring := writeFile(t, filepath.Join(t.TempDir(), "archive.gpg"), archive.Keyring())
	w.node = newNode(t, fmt.Sprintf("archives:\n  debian:\n    upstream: %s\n    history: %s/h\n    signed_by: [%q]\n", server.URL, history.URL, keyring))
	archive.RemovePackage("noble", "tool")
	archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: "2", Size: 20_000})
	archive.Publish(w.began)
	w.node.start()
	w.host("mapped", "URL noble main").run("apt-get", "update")

	has := func(id, version string) {
		t.Helper()
		h := w.snapshotHost(id)
		h.run("apt-get", "update")
		if v := h.version("tool"); v != version {
			t.Errorf("a host on %s has %s, want %s", id, v, version)
		}
		h.run("apt-get", "download", "tool")
	}
	has(held, "2")
	if n := asked.Load(); n != 0 {
		t.Errorf("the service of history was asked %d times for what the node holds", n)
	}
	has(old, "1")
	n := asked.Load()
	has(old, "1")
	w.node.stop()
	w.node.start()
	has(old, "1")
	if more := asked.Load() - n; n == 0 || more != 0 {
		t.Errorf("the service of history was asked %d times, and %d times for what the node had of it", n, more)
	}
	resp, _ := w.node.get("/snapshot/debian/" + old + "/dists/noble/InRelease")
	if said := resp.Header.Get("X-Aptmesh"); !strings.Contains(said, "; snapshot="+old) || !strings.Contains(said, "; generation="+now.Add(-72*time.Hour).UTC().Format(time.RFC3339)) {
		t.Error(said)
	}
	if said := w.node.do("why", w.node.URL+"/snapshot/debian/"+old+"/dists/noble/InRelease"); !strings.Contains(said, "asked of the service of `history`, as the archive history/debian/"+old) {
		t.Error(said)
	}
	w.node.do("snapshot", "create", "then", "--at", held)
	w.replace("noble", "tool", "3", 24*time.Hour)
	w.node.do("snapshot", "create", "later", "--at", held)
	for _, id := range []string{"then", "later"} {
		has(id, "2")
	}
	if out, errs, code := w.node.run("snapshot", "create", "never", "--at", old, "--config", w.node.ConfigFile()); code == 0 || !strings.Contains(errs, "does not hold debian/dists/noble as of "+old) {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	w.node.do("snapshot", "create", "all")
	if said := w.node.do("snapshot", "show", "all"); strings.Contains(said, "history/") {
		t.Errorf("a snapshot has what never changes: %s", said)
	}
	if said := w.node.do("client-config", w.node.URL); !strings.Contains(said, "::Host::127.0.0.1") {
		t.Errorf("hosts are to tell archives apart that never change: %s", said)
	}
	for at, want := range map[string]string{id(-time.Hour): "lies ahead", id(100 * time.Hour): ""} {
		if resp, body := w.node.get("/snapshot/debian/" + at + "/dists/noble/InRelease"); resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %s", at, resp.Status, body)
		}
	}
}

// A move is in force on all nodes within two seconds, whether or not the command waits for them, and never goes back.
func TestChannelMoveReachesAllNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, testarchive.Package{Name: "tool", Version: "1", Size: 20_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	c.on(c.nodes[0]).run("apt-get", "update")
	c.nodes[0].do("snapshot", "create", "w1")
	c.archive.AddPackage("noble", testarchive.Package{Name: "other", Version: "1", Size: 20_000})
	c.publish()
	c.nodes[0].do("snapshot", "create", "w2")
	c.nodes[0].do("channel", "set", "stable", "w1")
	root := func(m *member, id string) string {
		resp, body := m.get("/snapshot/debian/" + id + "/dists/noble/InRelease")
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s at %s: %s", id, m.Name, resp.Status)
		}
		return string(body)
	}
	roots := map[string]string{"w1": root(c.nodes[0], "w1"), "w2": root(c.nodes[0], "w2")}
	for _, m := range c.nodes {
		root(m, "w2")
		if root(m, "stable") != roots["w1"] {
			t.Fatalf("%s has not heard of the channel", m.Name)
		}
	}
	for _, flags := range [][]string{nil, {"--now"}} {
		var slowest time.Duration
		for i := range 6 {
			to := []string{"w2", "w1"}[i%2]
			began := time.Now()
			took := make([]time.Duration, len(c.nodes))
			var watching sync.WaitGroup
			for i, m := range c.nodes {
				watching.Go(func() {
					for took[i] == 0 && time.Since(began) < 10*time.Second {
						if root(m, "stable") == roots[to] {
							took[i] = time.Since(began)
						}
					}
				})
			}
			c.nodes[i%3].do(append([]string{"channel", "set", "stable", to}, flags...)...)
			ended := time.Since(began)
			watching.Wait()
			for i, m := range c.nodes {
				if took[i] == 0 || took[i] > ended+2*time.Second || flags == nil && root(m, "stable") != roots[to] {
					t.Errorf("the move to %s was in force at %s after %v; the command took %v", to, m.Name, took[i], ended)
				}
				slowest = max(slowest, took[i]-min(took[0], took[1], took[2]))
			}
		}
		t.Logf("%v: from the first node that had it to the last one: %v at most", flags, slowest)
		if slowest > 2*time.Second {
			t.Errorf("a move took %v from node to node", slowest)
		}
	}
}
