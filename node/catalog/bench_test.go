package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

const benchPackages = 64000

var benchArchive = sync.OnceValue(func() *testarchive.Archive {
	a := testarchive.New(1)
	a.AddSuite(testarchive.Suite{Name: "noble", ByHash: true, Unsigned: true, Compressions: []string{".gz"}})
	for i := range benchPackages {
		a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("package-%05d", i), Version: "1", Missing: true})
	}
	a.Publish(time.Now().Add(-time.Hour))
	return a
})

// benchCatalog is one suite of 64,000 packages, all indices read.
func benchCatalog(b *testing.B) (*Catalog, *testarchive.Archive) {
	b.Helper()
	a := benchArchive()
	keeper := newKeeper()
	up := &fakeUpstream{archives: map[string]*testarchive.Archive{"a": a}, asked: make(map[string]int), served: make(map[string]int)}
	c, err := New(Config{
		Archives: []Archive{{Name: "a", Format: deb.New(deb.Config{Unsigned: true}), CheckEvery: time.Hour, MaxFuture: time.Minute}},
		Blobs:    &fakeBlobs{up: up, keeper: keeper, strong: make(map[proto.SHA512]proto.Digest)},
		Upstream: up, Store: keeper, State: &memState{files: make(map[string][]byte)}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	for _, path := range []string{"dists/noble/Release", "dists/noble/main/binary-amd64/Packages.gz", "pool/main/p/package-00001/package-00001_1_amd64.deb"} {
		e, err := c.Discover(context.Background(), proto.Location{Archive: "a", Path: path}, false)
		if err != nil || !e.Listed {
			b.Fatalf("%s: %+v, %v", path, e, err)
		}
	}
	return c, a
}

func BenchmarkResolve(b *testing.B) {
	c, a := benchCatalog(b)
	index, _ := a.Lookup("dists/noble/main/binary-amd64/Packages.gz")
	for name, path := range map[string]string{
		"package": "pool/main/p/package-04711/package-04711_1_amd64.deb",
		"by-hash": aptmeta.ByHashPath("dists/noble/main/binary-amd64/Packages.gz", aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, index.Data)),
		"index":   "dists/noble/main/binary-amd64/Packages.gz",
		"root":    "dists/noble/Release",
	} {
		b.Run(name, func(b *testing.B) {
			loc := proto.Location{Archive: "a", Path: path}
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := c.Resolve(loc); !ok {
					b.Fatal("not resolved")
				}
			}
		})
	}
}

// BenchmarkMemory reports what a listed package costs while the catalog serves.
func BenchmarkMemory(b *testing.B) {
	benchArchive()
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for b.Loop() {
		before := heap()
		c, _ := benchCatalog(b)
		// What the fakes hold is not the catalog's.
		c.cfg.Store.(*memKeeper).evictAll()
		clear(c.cfg.State.(*memState).files)
		after := heap()
		table, files := c.Memory()
		b.ReportMetric(float64(after-before)/benchPackages, "heap-bytes/package")
		b.ReportMetric(float64(table)/float64(files), "table-bytes/package")
	}
}

// BenchmarkParseAndCompose is the work of a switch with one changed index of 64,000 packages.
func BenchmarkParseAndCompose(b *testing.B) {
	c, _ := benchCatalog(b)
	s, _ := c.known(proto.Suite{Archive: "a", Dir: "dists/noble"})
	g := s.heldNow()
	m := g.Member("main/binary-amd64/Packages.gz")
	b.ReportAllocs()
	t := c.tablesOf("a")
	for b.Loop() {
		l, err := s.reader().parse(context.Background(), g.Generation, m)
		if err != nil {
			b.Fatal(err)
		}
		if err := t.write(m.Table, l); err != nil {
			b.Fatal(err)
		}
		view.BuildTable(t.seed, t, []string{m.Table}, nil, 0)
	}
}

func (k *memKeeper) evictAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.blobs)
}

// BenchmarkReceive is what a node's word costs that has nothing new: one suite, with
// fifty uses.
func BenchmarkReceive(b *testing.B) {
	c, _ := benchCatalog(b)
	told := c.Announcements()[0]
	told.Slots = nil
	s, _ := c.known(told.Generation.Suite)
	for _, m := range s.heldNow().Manifest.Members {
		if len(told.Slots) < 50 {
			told.Slots = append(told.Slots, m.Slot)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		told.Checked = time.Now()
		c.Receive("n2", told)
	}
}
