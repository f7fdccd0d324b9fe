package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
)

// mirrorStatus is what a node says of its mirror.
func (n *node) mirrorStatus() admin.Mirror {
	n.t.Helper()
	var list []admin.Mirror
	if err := json.Unmarshal(n.adminGet("/v1/mirrors?name=all"), &list); err != nil || len(list) != 1 {
		n.t.Fatalf("%v, %+v", err, list)
	}
	return list[0]
}

// A mirror is planned, run and looked at with the commands. Then upstream is cut off, the node starts again, and a host
// that is new installs packages that no host has ever asked for, from a fresh update on.
func TestMirrorOfRealApt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, everything("noble"), options{config: "mirrors:\n  all: {archive: debian, suites: [noble], components: [main], architectures: [amd64, source], follow: false}\n"},
		testarchive.Package{Name: "app", Version: "1", Size: 50_000, Depends: "libapp"},
		testarchive.Package{Name: "libapp", Version: "1", Size: 20_000},
		testarchive.Package{Name: "data", Version: "1", Arch: "all", Size: 10_000},
		testarchive.Package{Name: "foreign", Version: "1", Arch: "arm64", Size: 10_000},
		testarchive.Package{Name: "game", Version: "1", Component: "universe", Size: 10_000},
		testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	var planned admin.Forecast
	if err := json.Unmarshal([]byte(w.node.do("mirror", "plan", "all", "--json")), &planned); err != nil {
		t.Fatal(err)
	}
	if out := w.node.do("mirror", "plan", "all"); !strings.Contains(out, fmt.Sprintf("(%d bytes)", planned.Indexes.Bytes+planned.Packages.Bytes)) {
		t.Errorf("the plan says\n%s", out)
	}
	if _, _, code := w.node.run("mirror", "status", "all", "--config", w.node.ConfigFile()); code != 4 {
		t.Errorf("the status of a mirror that holds nothing ends with %d", code)
	}
	out := w.node.do("mirror", "run", "all")
	held := w.node.mirrorStatus()
	if held.Phase != "done" || held.Held.Bytes != planned.Indexes.Bytes+planned.Packages.Bytes || held.Held != held.Listed {
		t.Errorf("planned %+v, held %+v\n%s", planned, held, out)
	}
	for _, p := range w.server.Paths() {
		if strings.Contains(p, "arm64") || strings.Contains(p, "universe") || strings.Contains(p, "installer") || strings.Contains(p, "/game") {
			t.Errorf("%s was fetched", p)
		}
	}
	w.server.ResetCounters()
	w.node.do("mirror", "run", "all")
	if w.server.TotalRequests() != 1 || w.server.TotalBytes() != 0 {
		t.Errorf("a run that changes nothing costs %v", w.server.Log())
	}
	if out := w.node.do("mirror", "status"); !strings.Contains(out, "all") || !strings.Contains(out, "done") {
		t.Errorf("%s", out)
	}
	w.node.stop()
	w.server.Refuse()
	w.node.start()
	host := w.host("mapped", "URL noble main", `APT::Architecture "amd64"; APT::Architectures { "amd64"; };`)
	host.run("apt-get", "update")
	host.run("apt-get", "-y", "--download-only", "install", "app", "data")
	host.run("apt-get", "--download-only", "source", "made")
	if _, errs, code := w.node.run("mirror", "run", "none", "--config", w.node.ConfigFile()); code != 1 || !strings.Contains(errs, "no mirror of that name") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if out := w.node.do("mirror", "verify", "all"); !strings.Contains(out, "0 damaged") {
		t.Errorf("%s", out)
	}
}

// A node that is killed again and again while it fetches a mirror goes on with it each time it starts, and fetches nothing
// again that it had stored.
func TestMirrorKill9(t *testing.T) {
	t.Parallel()
	const packages, largest, parallel = 60, 400_000, 8
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	var all []testarchive.Package
	for i := range packages {
		all = append(all, testarchive.Package{Name: fmt.Sprintf("pkg%02d", i), Version: "1", Size: int64(20_000 + 40_000*(i%10))})
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{}, all...)
	w.server.SetBandwidth(0, 2<<20)
	w.node.stop()
	w.node.Settings += "mirrors:\n  all: {archive: debian, suites: [noble]}\n"
	held := -1
	kills := 0
	for range rounds {
		w.node.start()
		hold(t.Context(), time.Duration(200+random.IntN(900))*time.Millisecond)
		now := w.node.mirrorStatus()
		if now.Held.Files < held {
			t.Errorf("%d files were held before the kill, %d are now", held, now.Held.Files)
		}
		held = now.Held.Files
		w.node.Kill()
		kills++
		rehash(t, w.node.DataDir())
		if now.Phase == "done" {
			break
		}
	}
	w.server.SetBandwidth(0, 0)
	w.node.start()
	var last admin.Mirror
	deadline := time.Now().Add(30 * time.Second)
	for last = w.node.mirrorStatus(); last.Phase != "done" && time.Now().Before(deadline); last = w.node.mirrorStatus() {
		hold(t.Context(), 50*time.Millisecond)
	}
	if last.Phase != "done" || last.Missing.Files != 0 || last.Held != last.Listed || last.Held.Files < packages {
		t.Fatalf("%+v", last)
	}
	// Of each kill, what was on its way may be lost, and the root is checked at each start.
	moved, most := w.server.TotalBytes(), last.Held.Bytes+int64(kills)*(parallel*largest+100_000)
	t.Logf("%d kills, %d bytes held, %d bytes from upstream", kills, last.Held.Bytes, moved)
	if moved > most {
		t.Errorf("%d bytes came from upstream for %d, with %d kills", moved, last.Held.Bytes, kills)
	}
	w.node.checkStored()
}
