package prefetch

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// BenchmarkUsed is what each answer costs a client: of a package that was used lately
// (nearly all are), while objects that were fetched ahead wait for a client, and of
// what is no package.
func BenchmarkUsed(b *testing.B) {
	p := newWorld(b).prefetcher()
	locs := make([]proto.Location, 1<<12)
	for i := range locs {
		locs[i] = loc(fmt.Sprintf("pool/main/l/linux-signed/linux-image-6.8.0-%d-generic_6.8.0-%d.52~22.04.1_amd64.deb", i, i))
		p.Used(locs[i])
	}
	run := func(name string, locs []proto.Location) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Used(locs[i%len(locs)])
			}
		})
	}
	run("known", locs)
	p.ready.add(loc("pool/nobody_1_amd64.deb"), 1)
	run("while-some-wait", locs)
	run("no-package", []proto.Location{loc("dists/noble-updates/main/binary-amd64/by-hash/SHA256/" + proto.Digest{}.String())})
	b.Run("parallel-one-package", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.Used(locs[0])
			}
		})
	})
}

// suite60k is an index of 60,000 packages with the shape of Ubuntu's: 22 lines and a
// kilobyte each, five dependencies.
var suite60k = sync.OnceValue(func() string {
	rng := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	const filler = "Priority: optional\nSection: libs\nOrigin: Ubuntu\nMaintainer: Ubuntu Developers <ubuntu-devel-discuss@lists.example.org>\n" +
		"Original-Maintainer: Some Team <team@example.org>\nBugs: https://bugs.example.org/ubuntu/+filebug\nInstalled-Size: 1234\nMulti-Arch: same\n" +
		"Description: a package of some use to some\nTask: ubuntu-desktop-minimal, ubuntu-desktop, ubuntu-live\nHomepage: https://www.example.org/\n" +
		"Description-md5: d41d8cd98f00b204e9800998ecf8427e\n"
	for i := range 60_000 {
		var deps []string
		for range rng.IntN(10) {
			deps = append(deps, fmt.Sprintf("p%d (>= 1.%d)", rng.IntN(60_000), rng.IntN(9)))
		}
		text.WriteString(filler)
		text.WriteString(stanza(fmt.Sprintf("p%d", i), "2.0-1ubuntu1", "amd64", strings.Join(deps, ", "), int64(rng.IntN(1<<20))))
	}
	return text.String()
})

// BenchmarkSwitched is a whole switch of an index of 60,000 packages of which clients
// use 2,000: reading, planning, and opening what is new and used from a world that
// gives it at once. With 600 new ones (a busy day) and with all of them (a release).
func BenchmarkSwitched(b *testing.B) {
	for _, step := range []int{100, 1} {
		b.Run(fmt.Sprintf("new=%d", 60_000/step), func(b *testing.B) {
			w := newWorld(b)
			p := w.prefetcher()
			for i := range 2000 {
				p.Used(loc(pool(fmt.Sprintf("p%d", i*30), "1", "amd64")))
			}
			isNew := make(map[string]bool)
			for i := 0; i < 60_000; i += step {
				isNew[pool(fmt.Sprintf("p%d", i), "2.0-1ubuntu1", "amd64")] = true
			}
			f := w.switched(suite60k(), func(path string) bool { return isNew[path] })
			b.ReportAllocs()
			var last Stats
			for b.Loop() {
				w.mu.Lock()
				w.held = map[proto.Digest]bool{f.Indexes[0].Object.Ref.Digest: true}
				w.mu.Unlock()
				p.Switched(f)
				for last = p.Stats(); last.Switches[len(last.Switches)-1].Ended.IsZero(); last = p.Stats() {
					time.Sleep(100 * time.Microsecond)
				}
			}
			objects := last.Switches[len(last.Switches)-1].Objects
			b.ReportMetric(float64(objects[Fetched]), "fetched")
			b.ReportMetric(float64(objects[Over]), "over")
		})
	}
}

// BenchmarkListing is what a job keeps in memory of that index while it runs.
func BenchmarkListing(b *testing.B) {
	for _, step := range []int{100, 1} {
		b.Run(fmt.Sprintf("new=%d", 60_000/step), func(b *testing.B) {
			w := newWorld(b)
			p := w.prefetcher()
			n := 0
			f := w.switched(suite60k(), func(string) bool { n++; return n%step == 0 })
			j := &job{next: f, format: debian(""), leftOver: nothing, ctx: b.Context()}
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				l := p.read(j)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB-kept")
				b.ReportMetric(float64(len(l.byPath)), "kept")
				runtime.KeepAlive(l)
			}
		})
	}
}
