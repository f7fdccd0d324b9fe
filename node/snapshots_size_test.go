package node_test

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

// manySnapshots are of one suite with 60,000 packages, and hosts use all of them. They are of one generation, which
// changes nothing: each has a root, a table and a record of its own.
const manySnapshots = 50

// manyPackages are as many as noble/main and universe have. With the race detector that takes minutes.
var manyPackages = func() int {
	if raceEnabled {
		return 6_000
	}
	return 60_000
}()

// withManySnapshots has a root of 800 members, as Ubuntu's have. size is the memory that its snapshots take.
func withManySnapshots(t testing.TB) (w *world, size int64) {
	a := testarchive.New(1)
	a.AddSuite(testarchive.Suite{
		Name: "noble", Components: []string{"main", "restricted", "universe", "multiverse", "extra", "contrib", "non-free"}, ByHash: true, Compressions: []string{".gz", ".xz"},
		Architectures: []string{"amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x", "mips64el", "loong64"}, Translations: true, Contents: true, DEP11: true, Commands: true,
	})
	for i := range manyPackages {
		a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("package-%05d", i), Version: "1", Missing: i > 0})
	}
	a.Publish(epoch)
	w = newWorld(t, a, func(c *config.Config) { c.Cache.Memory = 0 })
	heap := func() int64 {
		w.client.CloseIdleConnections()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	w.update()
	w.update()
	w.mustGet(manyPath(0)) // so that the index has been read
	w.create("warm-up")    // so that what is there once is no part of the difference
	w.from("warm-up", manyPath(0))
	for _, a := range w.node.Status().Archives {
		for _, s := range a.Suites {
			t.Logf("%s: %d members", s.Dir, s.Members)
		}
	}
	before := heap()
	for i := range manySnapshots {
		w.create(fmt.Sprint("s", i))
	}
	for i := range manySnapshots { // as hosts use them
		w.from(fmt.Sprint("s", i), manyPath(0))
	}
	return w, heap() - before
}

func manyPath(i int) string {
	return fmt.Sprintf("pool/main/p/package-%05d/package-%05d_1_amd64.deb", i, i)
}

func (w *world) create(name string) *admin.SnapshotResult {
	w.t.Helper()
	s, err := w.node.CreateSnapshot(w.t.Context(), admin.SnapshotPlan{Name: name, Note: name, By: "test"})
	if err != nil || len(s.Missing) > 0 {
		w.t.Fatalf("snapshot %s: %v, missing %v", name, err, s.Missing)
	}
	return s
}

// from asks for a file of a snapshot that must be there.
func (w *world) from(id, path string) {
	w.t.Helper()
	r, err := w.client.Get("http://" + w.node.Addrs()[0] + "/snapshot/ubuntu/" + id + "/" + path)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		w.t.Fatalf("%s in %s: %s", path, id, r.Status)
	}
}

// All of it fits into what one table of the packages would take in memory.
func TestSnapshotsTakeLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes an archive of 60,000 packages")
	}
	_, size := withManySnapshots(t)
	t.Logf("%d snapshots of a suite with %d packages: %.1f MB", manySnapshots, manyPackages, float64(size)/1e6)
	most := int64(20e6)
	if raceEnabled { // 50 bytes for each package of each snapshot would be 15 MB
		most = 12e6
	}
	if size > most {
		t.Errorf("they may take %.0f MB", float64(most)/1e6)
	}
}

// BenchmarkResolveInSnapshot looks packages up in a snapshot of a suite with 60,000 packages.
func BenchmarkResolveInSnapshot(b *testing.B) {
	w, size := withManySnapshots(b)
	id := fmt.Sprint("s", manySnapshots-1)
	locs := make([]proto.Location, 1<<12)
	for i := range locs {
		locs[i] = proto.Location{Archive: "ubuntu", Path: manyPath(i * 40503 % manyPackages)}
	}
	for name, live := range map[string][]string{"channel": nil, "channel-with-live-suites": {"*-security", "noble-updates"}} {
		if _, err := w.node.SetChannel(b.Context(), name, id, admin.ChannelOrder{By: "test", Live: live}); err != nil {
			b.Fatal(err)
		}
	}
	for what, id := range map[string]string{"snapshot": id, "channel": "channel", "channel-with-live-suites": "channel-with-live-suites", "moment": epoch.Format("20060102T150405Z")} {
		w.from(id, manyPath(0))
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if e, ok := w.node.ResolveIn(id, locs[i%len(locs)]); !ok || !e.Listed {
					b.Fatal(locs[i%len(locs)], ok)
				}
				i++
			}
			b.ReportMetric(float64(size)/manySnapshots, "heap-bytes/snapshot")
		})
	}
}

// BenchmarkDiffSnapshots compares two snapshots of a suite with 60,000 packages, of which 600 have a new version.
func BenchmarkDiffSnapshots(b *testing.B) {
	a := testarchive.New(1)
	a.AddSuite(testarchive.Suite{Name: "noble", ByHash: true, Compressions: []string{".xz"}})
	for i := range manyPackages {
		a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("package-%05d", i), Version: "1", Missing: i > 0})
	}
	a.Publish(epoch)
	w := newWorld(b, a)
	w.update()
	w.mustGet(manyPath(0))
	w.create("before")
	for i := range manyPackages / 100 {
		a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("package-%05d", i*100), Version: "2", Missing: true})
	}
	a.Publish(epoch.Add(time.Minute))
	if _, err := w.node.Refresh(b.Context(), "ubuntu/noble", false); err != nil {
		b.Fatal(err)
	}
	w.create("after")
	b.ReportAllocs()
	for b.Loop() {
		d, err := w.node.DiffSnapshots(b.Context(), admin.DiffPlan{Before: "before", After: "after"})
		if err != nil || len(d.Suites[0].Packages) != manyPackages/100 {
			b.Fatal(err)
		}
	}
}
