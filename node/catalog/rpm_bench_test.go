package catalog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// benchRPMs is about what Fedora's Everything for one architecture has.
const benchRPMs = 60000

// benchRepository is a repository of that size, whose primary.xml has 200 MB.
func benchRepository(ext string) *testarchive.Archive {
	repo := rpmarchive.Repo{Date: time.Now().Add(-time.Hour), Records: []rpmarchive.Record{{Type: "primary", Ext: ext}}}
	for i := range benchRPMs {
		p := rpmarchive.Package{Name: fmt.Sprintf("package-%05d", i), Version: fmt.Sprint(i % 97), Release: "1.fc40", Size: 64}
		for j := range 20 {
			p.Requires = append(p.Requires, fmt.Sprintf(`name="libsomething%d.so.%d(LIB_%d.%d)(64bit)" flags="GE" epoch="0" ver="%d.%d" rel="1.fc40"`, (i*7+j*13)%5000, j, j, i%9, i%20, j))
		}
		repo.Packages = append(repo.Packages, p)
	}
	a := testarchive.New(1)
	for path, data := range repo.Render("") {
		if path[0] == 'r' { // repodata/: nobody asks for the packages
			a.Put(path, data, repo.Date)
		}
	}
	return a
}

// BenchmarkAdoptRPM is what a repository of Fedora's size costs: to read its primary.xml for the
// first time, and to keep what it lists.
func BenchmarkAdoptRPM(b *testing.B) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, ext := range []string{".zst", ".gz", ".zck"} {
		a := benchRepository(ext)
		b.Run(ext[1:], func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				before := heap()
				keeper := newKeeper()
				up := &fakeUpstream{archives: map[string]*testarchive.Archive{"a": a}, asked: make(map[string]int), served: make(map[string]int)}
				state := &memState{files: make(map[string][]byte)}
				c, err := New(Config{
					Archives: []Archive{{Name: "a", Format: rpm.New(rpm.Config{Unsigned: true}), CheckEvery: time.Hour, MaxFuture: time.Minute}},
					Blobs:    &fakeBlobs{up: up, keeper: keeper, strong: make(map[proto.SHA512]proto.Digest)},
					Upstream: up, Store: keeper, State: state, Logger: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					b.Fatal(err)
				}
				cpu := cpuTime(b)
				b.StartTimer()
				loc := proto.Location{Archive: "a", Path: "Packages/p/package-04711-55-1.fc40.x86_64.rpm"}
				e, err := c.Discover(context.Background(), loc, false)
				if err != nil || !e.Listed {
					b.Fatalf("%+v, %v", e, err)
				}
				b.StopTimer()
				b.ReportMetric((cpuTime(b) - cpu).Seconds(), "cpu-seconds/op")
				keeper.evictAll()
				clear(state.files) // what the fakes hold is not the catalog's
				b.ReportMetric(float64(heap()-before)/benchRPMs, "heap-bytes/package")
				table, files := c.Memory()
				b.ReportMetric(float64(table)/float64(files), "table-bytes/package")
				c.Close()
				b.StartTimer()
			}
		})
	}
}

// cpuTime is what the process has computed so far: a busy machine does not change it much.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkParseRPM is the work of a switch with one changed primary.xml.
func BenchmarkParseRPM(b *testing.B) {
	f := rpm.New(rpm.Config{Unsigned: true})
	a := benchRepository(".zst")
	root, _ := a.Lookup("repodata/repomd.xml")
	m, err := f.Open(proto.Suite{}, map[string][]byte{"repodata/repomd.xml": root.Data}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	primary := &m.Members[0]
	index, _ := a.Lookup(primary.Path)
	b.SetBytes(primary.PlainSize)
	b.ReportAllocs()
	for b.Loop() {
		builder := view.NewListBuilder(view.Seed{}, 0)
		if err := f.Parse(proto.Suite{}, primary, bytes.NewReader(index.Data), builder.Add); err != nil {
			b.Fatal(err)
		}
	}
}
