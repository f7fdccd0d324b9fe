package node_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/holds/holdconf"
)

// mirrorOf is a mirror of the test archive's one suite, changed as the test needs it.
func mirrorOf(change func(*holdconf.Mirror)) func(*config.Config) {
	return func(cfg *config.Config) {
		m := keys.New[holdconf.Mirror]()
		m.Name, m.Archive, m.Suites = "all", "ubuntu", []string{"noble"}
		change(&m)
		cfg.Mirrors = append(cfg.Mirrors, m)
	}
}

func manual(m *holdconf.Mirror) { m.Follow = false }

// mirror is how a mirror of the node is now.
func (w *world) mirror(name string) admin.Mirror {
	w.t.Helper()
	list, err := w.node.Operator.Mirrors(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}

// settled waits until the run of a mirror has ended.
func (w *world) settled(name string) (m admin.Mirror) {
	w.t.Helper()
	w.eventually("the run of the mirror ends", func() bool { m = w.mirror(name); return !m.Running() })
	return m
}

// run has a mirror brought up to date and waits for it.
func (w *world) run(name string) admin.Mirror {
	w.t.Helper()
	if _, err := w.node.RunMirror(context.Background(), name); err != nil {
		w.t.Fatal(err)
	}
	return w.settled(name)
}

// A mirror is planned to the byte, fetches exactly that, and serves what no host ever asked for when upstream is gone. A
// run that changes nothing costs one request, and the node goes on holding all of it after a restart.
func TestMirror(t *testing.T) {
	w := newWorld(t, newArchive(), mirrorOf(manual))
	f, err := w.node.PlanMirror(context.Background(), "all")
	if err != nil {
		t.Fatal(err)
	}
	if f.Packages.Files != 2 || f.Packages.Bytes != int64(len(w.file(smallDeb))+len(w.file(largeDeb))) || !f.Fits || f.UnresolvedCount != 0 {
		t.Errorf("planned: %+v", f)
	}
	if w.up.Requests(largeDeb) != 0 {
		t.Error("the plan has moved packages")
	}
	m := w.run("all")
	if m.Phase != "done" || m.Failure != "" || m.Missing.Files != 0 {
		t.Fatalf("%+v", m)
	}
	planned := f.Indexes.Bytes + f.Packages.Bytes
	if m.Held.Bytes != planned || m.Share.Bytes != planned || m.Listed.Files != f.Indexes.Files+f.Packages.Files || m.Cluster != m.Listed || m.Own != m.Held || m.Share.Bytes != f.Share.Bytes {
		t.Errorf("planned %+v, held %+v", f, m)
	}
	if moved := w.up.TotalBytes(); moved != planned {
		t.Errorf("%d bytes were planned, and %d came from upstream: %v", planned, moved, w.up.Log())
	}
	if st := w.node.Status(); st.Store.Used != planned || st.Store.Pinned != planned {
		t.Errorf("%d bytes were planned, %d are stored, %d are pinned", planned, st.Store.Used, st.Store.Pinned)
	}

	w.up.ResetCounters()
	if m := w.run("all"); m.Phase != "done" {
		t.Errorf("%+v", m)
	}
	if w.up.TotalRequests() != 1 || w.up.Requests(inRelease) != 1 || w.up.TotalBytes() != 0 {
		t.Errorf("a run that changes nothing costs %v", w.up.Log())
	}

	// No host has used the suite. A snapshot has its indexes all the same, and nothing is missing of it.
	s, err := w.node.CreateSnapshot(context.Background(), admin.SnapshotPlan{Name: "s1", Hold: "all"})
	if err != nil || len(s.Missing) > 0 || len(s.Snapshot.Suites) != 1 || s.Snapshot.Suites[0].Indexes == 0 {
		t.Errorf("a snapshot of a mirror: %+v, %v", s, err)
	}

	w.stop()
	w.up.Refuse()
	w.start()
	if m := w.settled("all"); m.Phase != "done" || m.Held.Bytes != planned || m.Missing.Files != 0 || !m.Generations[0].Whole {
		t.Errorf("after a restart: %+v", m)
	}
	for _, path := range []string{inRelease, packages, "dists/noble/main/binary-amd64/Packages.gz", w.byHash(packages), "dists/noble/main/i18n/Translation-en.xz", smallDeb, largeDeb} {
		w.mustGet(path)
	}
	w.checkStore()

	// That all is held does not mean that it is the newest.
	if m := w.run("all"); m.Phase != "done" || m.Unchecked == "" {
		t.Errorf("a run without upstream: %+v", m)
	}
	if f, err := w.node.PlanMirror(context.Background(), "all"); err != nil || f.Unchecked == "" {
		t.Errorf("a plan without upstream: %+v, %v", f, err)
	}
}

// A mirror follows its suite: it holds the new generation and no more of the old one than is to be held, and tells what
// upstream has removed.
func TestMirrorFollows(t *testing.T) {
	w := newWorld(t, newArchive(), mirrorOf(func(*holdconf.Mirror) {}))
	w.eventually("the mirror is whole", func() bool { m := w.mirror("all"); return m.Phase == "done" && len(m.Generations) == 1 })
	before := w.mirror("all")
	w.archive.AddPackage("noble", testarchive.Package{Name: "fresh", Version: "1", Size: 3000})
	w.archive.RemovePackage("noble", "small")
	w.archive.Publish(epoch.Add(time.Minute))
	if _, err := w.node.Refresh(context.Background(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	w.eventually("it follows", func() bool {
		m := w.mirror("all")
		return m.Phase == "done" && m.Generations[0].Suites[0].Generation.After(before.Generations[0].Suites[0].Generation)
	})
	if m := w.mirror("all"); len(m.Generations) != 1 || m.Missing.Files != 0 {
		t.Errorf("%+v", m)
	}
	// What upstream lists and has not.
	path := w.archive.AddPackage("noble", testarchive.Package{Name: "gone", Version: "1", Missing: true})
	w.archive.Publish(epoch.Add(2 * time.Minute))
	m := w.run("all")
	if m.Phase != "incomplete" || m.LostCount != 1 || m.Lost[0].Location != "ubuntu/"+path || m.Missing.Files != 1 {
		t.Errorf("%+v", m)
	}
	if len(m.Generations) != 2 || m.Generations[0].Whole || !m.Generations[1].Whole {
		t.Errorf("the generation before is not held until the new one is whole: %+v", m.Generations)
	}
}

// What would not fit is refused with the numbers, and nothing moves.
func TestMirrorThatDoesNotFit(t *testing.T) {
	w := newWorld(t, newArchive(), mirrorOf(manual), func(cfg *config.Config) { cfg.Snapshots.MaxPinned.Percent, cfg.Snapshots.MaxPinned.Bytes = 0, big })
	f, err := w.node.PlanMirror(context.Background(), "all")
	if err != nil || f.Fits || !strings.Contains(f.Refused, "it needs") {
		t.Errorf("%+v, %v", f, err)
	}
	m := w.run("all")
	if m.Phase != "refused" || m.Held.Files != 0 || w.up.Requests(largeDeb) > 0 {
		t.Errorf("%+v", m)
	}
	if notes := w.node.Status().Notes; !slices.ContainsFunc(notes, func(n admin.Note) bool { return strings.HasPrefix(n.Text, "mirror all is refused: ") }) {
		t.Errorf("status says nothing of it: %+v", notes)
	}
	// A reload with more room lets it through.
	next := *w.cfg
	next.Snapshots.MaxPinned.Bytes = 2 * big
	if _, _, err := w.node.Reload(&next); err != nil {
		t.Fatal(err)
	}
	if m := w.run("all"); m.Phase != "done" {
		t.Errorf("%+v", m)
	}
	// And one without the mirror lets go of it.
	last := next
	last.Mirrors = nil
	if _, _, err := w.node.Reload(&last); err != nil {
		t.Fatal(err)
	}
	if list, _ := w.node.Operator.Mirrors(context.Background(), ""); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if st := w.node.Status(); st.Store.Pinned > big {
		t.Errorf("%d bytes are still pinned", st.Store.Pinned)
	}
}

// A cache that is full of what hosts ask for evicts that, and nothing that a mirror holds.
func TestMirrorIsNeverEvicted(t *testing.T) {
	a := newArchive()
	a.AddSuite(testarchive.Suite{Name: "other"})
	for i := range 30 {
		a.AddPackage("other", testarchive.Package{Name: fmt.Sprint("other", i), Version: "1", Size: 100 << 10})
	}
	a.Publish(epoch, "noble", "other")
	w := newWorld(t, a, mirrorOf(manual), func(cfg *config.Config) { cfg.Cache.MaxSize.Bytes = 2 << 20 })
	if m := w.run("all"); m.Phase != "done" {
		t.Fatalf("%+v", m)
	}
	for i := range 30 {
		w.mustGet(fmt.Sprintf("pool/main/o/other%d/other%d_1_amd64.deb", i, i))
	}
	if st := w.node.Status(); st.Store.Evictions == 0 {
		t.Fatalf("nothing had to go: %+v", st.Store)
	}
	if m := w.mirror("all"); m.Missing.Files != 0 {
		t.Errorf("%+v", m)
	}
	w.up.Refuse()
	w.mustGet(largeDeb)
	w.mustGet(smallDeb)
}

// Damage is found by a verification, and mended.
func TestMirrorVerify(t *testing.T) {
	w := newWorld(t, newArchive(), mirrorOf(manual))
	w.run("all")
	w.damage(largeDeb)
	if _, err := w.node.VerifyMirror(t.Context(), "all"); err != nil {
		t.Fatal(err)
	}
	m := w.settled("all")
	if m.Phase != "done" || m.Damaged != 1 || m.Missing.Files != 0 || m.Checked.Files != m.Held.Files || w.up.Requests(largeDeb) != 2 {
		t.Errorf("%+v; %d requests", m, w.up.Requests(largeDeb))
	}
	w.up.Refuse()
	if r := w.get(largeDeb); r.status != http.StatusOK {
		t.Errorf("%d: %s", r.status, r.body)
	}
	w.checkStore()
}

// damage changes a byte of a stored file.
func (w *world) damage(path string) {
	w.t.Helper()
	sum := testarchive.Sum(testarchive.SHA256, w.file(path))
	f, err := os.OpenFile(filepath.Join(w.cfg.Data, "blobs", sum[:2], sum), os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 100); err != nil {
		w.t.Fatal(err)
	}
}
