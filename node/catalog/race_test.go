package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// Readers during switches see one generation or the other, never a mix: whatever
// says that it is of a generation is what that generation's Release lists, and
// what is listed can be had from there.
func TestReadersNeverSeeAMix(t *testing.T) {
	const generations = 12
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
	w.cfg.Logger = slog.New(slog.DiscardHandler)
	start := time.Now().Add(-time.Hour)
	// What each generation lists, by its date.
	var truth sync.Map
	publish := func(n int) {
		w.a.RemovePackage("noble", "hello")
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1", Size: 100, Salt: fmt.Sprint(n)})
		date := start.Add(time.Duration(n) * time.Second).UTC().Truncate(time.Second)
		w.a.Prepare(date)
		w.a.Show("noble", testarchive.At(n))
		files := map[string]proto.Ref{}
		for _, p := range []string{nobleIn, noblePkgs, hello1} {
			files[p] = refOfBytes(w.file(p))
		}
		truth.Store(date, files)
	}
	publish(0)
	w.open()
	w.must(nobleIn)
	w.must(noblePkgs)
	w.must(hello1)

	var stop atomic.Bool
	var readers sync.WaitGroup
	check := func(path string, e proto.Resolution) {
		files, ok := truth.Load(e.Generation)
		for !ok { // the publisher is about to say
			time.Sleep(time.Millisecond)
			files, ok = truth.Load(e.Generation)
		}
		if want := files.(map[string]proto.Ref)[path]; e.Object.Ref != want {
			t.Errorf("%s of %v is %v, want %v", path, e.Generation, e.Object.Ref, want)
		}
	}
	var last [4]time.Time
	for i := range last {
		readers.Go(func() {
			for n := 0; !stop.Load(); n++ {
				// One view, as one request sees it.
				v := w.viewOf("a")
				var root, index, deb proto.Resolution
				ok1 := w.inView(&root, v, nobleIn)
				ok2 := w.inView(&index, v, noblePkgs)
				ok3 := w.inView(&deb, v, hello1)
				if !ok1 || !ok2 || !ok3 || !root.Generation.Equal(index.Generation) {
					t.Errorf("%v %v %v: root of %v, index of %v", ok1, ok2, ok3, root.Generation, index.Generation)
					return
				}
				check(nobleIn, root)
				check(noblePkgs, index)
				deb.Generation = root.Generation // its own view says that it is listed there
				check(hello1, deb)

				// And by the frontend: never back in time.
				e, err := w.Discover(context.Background(), w.loc(nobleIn), i == 0 && n%50 == 0)
				if err != nil {
					t.Error(err)
					return
				}
				check(nobleIn, e)
				if e.Generation.Before(last[i]) {
					t.Errorf("went back from %v to %v", last[i], e.Generation)
				}
				last[i] = e.Generation
				if n%10 == 0 {
					w.Stats()
					w.Explain(w.loc(hello1))
					w.get(fmt.Sprintf("dists/none%d/InRelease", n%30))
					w.get("dists/noble/Release")
				}
			}
		})
	}
	s, _ := w.known(noble())
	for n := 1; n < generations; n++ {
		publish(n)
		checkAtOnce(s) // without the pause of a second
	}
	stop.Store(true)
	readers.Wait()
	if got := w.must(nobleIn).Generation; !got.Equal(start.Add((generations - 1) * time.Second).UTC().Truncate(time.Second)) {
		t.Errorf("ended at %v", got)
	}
}

// Everything at once, for the race detector; what comes out is right in the end.
func TestEverythingAtOnce(t *testing.T) {
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Components: []string{"main", "universe"}, Translations: true},
		testarchive.Suite{Name: "jammy"})
	w.cfg.Logger = slog.New(slog.DiscardHandler)
	w.cfg.Retain.Generations = 2
	w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
	w.a.AddPackage("jammy", testarchive.Package{Name: "world", Version: "1"})
	w.a.Publish(time.Now().Add(-time.Hour))
	w.open()
	paths := []string{nobleIn, noblePkgs, nobleTrans, hello1, nobleRelease, nobleGPG, "dists/jammy/InRelease", "dists/jammy/main/binary-amd64/Packages.gz",
		"pool/main/w/world/world_1_amd64.deb", "pool/universe/n/none/none_1_all.deb", "dists/none/InRelease", "dists/noble/main/InRelease"}
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			for n := range 60 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+n%5)*20*time.Millisecond)
				w.Discover(ctx, w.loc(paths[(i*7+n)%len(paths)]), n%9 == 0)
				w.Resolve(w.loc(paths[(i+n)%len(paths)]))
				cancel()
			}
		})
	}
	all.Go(func() {
		for n := range 8 {
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: fmt.Sprint(n)})
			w.a.Publish(time.Now().Add(time.Duration(n-100) * time.Second))
			for _, st := range w.Stats() {
				if s, ok := w.known(st.Suite); ok {
					checkAtOnce(s)
					s.mail.post(s.tidy)
				}
			}
			w.cleanTables("a")
			if n == 4 {
				archives := w.cfg.Archives
				w.Reconfigure(nil)
				w.Reconfigure(archives)
			}
		}
	})
	all.Wait()
	// (The entry of the InRelease may have been refused in the turmoil of the last
	// check; what is listed must be so all the same.)
	w.must(nobleIn)
	w.must(hello1)
	w.Close() // and with it all that claims
	if len(w.claims) != 0 {
		t.Errorf("claims are left: %v", w.claims)
	}
	w.crash()
	w.must(hello1)
	w.Close()
	if len(w.claims) != 0 {
		t.Errorf("claims are left: %v", w.claims)
	}
}
