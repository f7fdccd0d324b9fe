package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/proto"
)

// BenchmarkFrozen looks a package up in one of fifty open snapshots of some 60,000 packages, and reports what each
// of them takes of the memory.
func BenchmarkFrozen(b *testing.B) {
	const open = 50
	for _, tt := range []struct {
		name, pkg string
		first     []string // what a host asks for before
		format    Format
		archive   func() *testarchive.Archive
	}{
		{"deb", "pool/main/p/package-04711/package-04711_1_amd64.deb", []string{"dists/noble/Release", "dists/noble/main/binary-amd64/Packages.gz"}, deb.New(deb.Config{Unsigned: true}), benchArchive},
		{"rpm", "Packages/p/package-04711-55-1.fc40.x86_64.rpm", nil, rpm.New(rpm.Config{Unsigned: true}), func() *testarchive.Archive { return benchRepository(".zst") }},
		{"pacman", "core/os/x86_64/package-04711-1-1-x86_64.pkg.tar.zst", nil, pacman.New(pacman.Config{Unsigned: true}), benchDatabase},
	} {
		b.Run(tt.name, func(b *testing.B) {
			keeper := newKeeper()
			up := &fakeUpstream{archives: map[string]*testarchive.Archive{"a": tt.archive()}, asked: make(map[string]int), served: make(map[string]int)}
			c, err := New(Config{
				Archives: []Archive{{Name: "a", Format: tt.format, CheckEvery: time.Hour, MaxFuture: time.Minute}},
				Blobs:    &fakeBlobs{up: up, keeper: keeper, strong: make(map[proto.SHA512]proto.Digest)},
				Upstream: up, Store: keeper, State: &memState{files: make(map[string][]byte)}, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			loc := proto.Location{Archive: "a", Path: tt.pkg}
			for _, path := range tt.first {
				if _, err := c.Discover(context.Background(), proto.Location{Archive: "a", Path: path}, false); err != nil {
					b.Fatal(err)
				}
			}
			if e, err := c.Discover(context.Background(), loc, false); err != nil || !e.Listed {
				b.Fatalf("%+v, %v", e, err)
			}
			heap := func() int64 {
				runtime.GC()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			var all []*Frozen
			captured, before := c.Capture("a"), heap()
			for range open {
				f, missing, err := c.Freeze(context.Background(), "a", time.Now(), captured)
				if err != nil || len(missing) > 0 {
					b.Fatal(err, missing)
				}
				defer f.Close()
				all = append(all, f)
			}
			size := heap() - before
			b.ReportAllocs()
			for b.Loop() {
				if e, ok := all[0].Resolve(loc); !ok || !e.Listed {
					b.Fatal("not resolved")
				}
			}
			b.ReportMetric(float64(size)/open, "heap-bytes/snapshot")
			runtime.KeepAlive(all)
		})
	}
}

// benchDatabase is a database of as many packages as Debian has.
func benchDatabase() *testarchive.Archive {
	repo := testrepo.Repo{Dir: "core/os/x86_64", Name: "core", Built: time.Now().Add(-time.Hour)}
	for i := range benchPackages {
		repo.Packages = append(repo.Packages, testrepo.Package{Name: fmt.Sprintf("package-%05d", i), Version: "1-1"})
	}
	a, files := testarchive.New(1), make(map[string][]byte)
	repo.Render(files)
	a.Put("core/os/x86_64/core.db", files["core/os/x86_64/core.db"], repo.Built)
	return a
}
