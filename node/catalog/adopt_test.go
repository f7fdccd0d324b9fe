package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// used is a world whose clients have used the index and the translation.
func usedWorld(t *testing.T) *world {
	t.Helper()
	w := nobleWorld(t)
	w.publish()
	w.open()
	w.must(nobleIn)
	w.use(noblePkgs, nobleTrans)
	time.Sleep(2 * time.Second)
	return w
}

func TestSwitchIsWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.upgrade()
		w.switches()
		w.listedAs(nobleIn, w.file(nobleIn))
		// Nothing has to be fetched or read for the clients of the new generation.
		w.up.reset()
		read := w.parsed()
		w.listedAs(noblePkgs, w.file(noblePkgs))
		if e, ok := w.Resolve(w.loc(hello2)); !ok || !e.Listed || e.Mutable || e.Object.Ref != refOfBytes(w.file(hello2)) {
			t.Errorf("the new package: %+v, %v", e, ok)
		}
		w.rest()
		if w.up.total() != 0 || w.parsed() != read {
			t.Errorf("%d requests upstream and %d indices read after the switch", w.up.total(), w.parsed()-read)
		}
		for _, p := range []string{noblePkgs, nobleTrans, nobleIn} {
			if d := proto.DigestOf(w.file(p)); !w.keeper.pinned(d) {
				t.Errorf("%s is not pinned", p)
			}
		}
		w.keeper.evict()
		if _, err := w.keeper.Get(proto.DigestOf(w.file(noblePkgs))); err != nil {
			t.Error("the index was evicted")
		}
		if w.metric("aptmesh_catalog_generation_switches_total") != 2 {
			t.Error("switches are not counted")
		}
	})
}

// An archive in the middle of publishing is never passed on, whatever comes first.
func TestMidPublication(t *testing.T) {
	for _, byHash := range []bool{false, true} {
		t.Run(fmt.Sprintf("byHash=%v", byHash), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: byHash})
				w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
				w.publish()
				w.open()
				w.must(nobleIn)
				w.use(noblePkgs)
				old, oldPkgs := w.file(nobleIn), w.file(noblePkgs)
				w.a.RemovePackage("noble", "hello")
				w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "2"})
				w.a.Prepare(day)

				time.Sleep(2 * time.Second)
				v := testarchive.At(0)
				v.Indices = 1 // the indices are new, InRelease is old
				w.a.Show("noble", v)
				w.up.reset()
				if changed, err := w.refresh(); changed || err != nil {
					t.Fatalf("%v, %v", changed, err)
				}
				w.listedAs(noblePkgs, oldPkgs) // which need not be asked from upstream

				time.Sleep(2 * time.Second)
				v = testarchive.At(1)
				v.Indices, v.ByHash = 0, 0 // InRelease is new, the indices are old
				w.a.Show("noble", v)
				w.stays("mirror sync in progress")
				w.listedAs(nobleIn, old)
				w.listedAs(noblePkgs, oldPkgs)
				if w.metric("aptmesh_catalog_incomplete_total") == 0 {
					t.Error("it is not counted")
				}
				if byHash {
					v.ByHash = 1 // by-hash names come with the InRelease, canonical ones later
				} else {
					v.Indices = 1
				}
				w.a.Show("noble", v)
				time.Sleep(30 * time.Second) // the watcher looks again soon
				w.listedAs(nobleIn, w.file(nobleIn))
				w.must(hello2)
				w.rest()
				if len(w.keeper.pins) != 1 {
					t.Errorf("pins of staging are left: %v", w.keeper.pins)
				}
			})
		})
	}
}

// An index of the right length and the wrong bytes is not had.
func TestEqualSizeOtherHash(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.upgrade()
		good := w.file(noblePkgs)
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		byHash := aptmeta.ByHashPath(noblePkgs, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, good))
		w.a.Put(noblePkgs, bad, day)
		w.a.Put(byHash, bad, day)
		w.stays("mirror sync in progress")
		w.a.Restore(byHash)
		time.Sleep(time.Minute)
		w.listedAs(noblePkgs, good)
	})
}

func TestOptionalIndexIsWaitedForOnlySoLong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.up.failing("i18n", proto.ErrNotFound)
		w.upgrade()
		start, want := time.Now(), w.file(nobleIn)
		w.stays("i18n/Translation-en.xz")
		// Generations that come one after the other do not prolong it.
		for time.Since(start) < 90*time.Second {
			time.Sleep(30 * time.Second)
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: fmt.Sprint(int(time.Since(start).Seconds()))})
			w.publish()
			want = w.file(nobleIn)
		}
		if _, ok := w.Resolve(w.loc(hello2)); ok {
			t.Error("it switched before its patience was at an end")
		}
		time.Sleep(w.cfg.withDefaults().Patience)
		w.listedAs(nobleIn, want)
		// The next generation need not wait for what upstream never has, but if it
		// has it one day, it is used again.
		w.a.AddPackage("noble", testarchive.Package{Name: "last", Version: "1"})
		w.publish()
		w.switches()
		w.up.setFault(nil)
		time.Sleep(absentFor)
		w.use(nobleTrans)
		if st := w.Stats()[0]; len(st.Staged) != 2 {
			t.Errorf("staged: %v", st.Staged)
		}
	})
}

func TestRequiredIndexIsWaitedForEver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		old := w.file(nobleIn)
		w.up.failing("binary-amd64", proto.ErrNotFound)
		w.upgrade()
		time.Sleep(6 * time.Hour)
		w.listedAs(nobleIn, old)
		w = w.crash()
		time.Sleep(time.Hour)
		w.listedAs(nobleIn, old)
		w.up.setFault(nil)
		time.Sleep(2 * time.Minute)
		w.listedAs(nobleIn, w.file(nobleIn))
	})
}

// A first generation has nothing to protect, and nothing is used yet.
func TestFirstGenerationDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.up.failing("main", proto.ErrNotFound)
		w.open()
		start := time.Now()
		w.must(nobleIn)
		if time.Since(start) > 0 {
			t.Errorf("it took %v", time.Since(start))
		}
	})
}

// What upstream lists but does not have does not hold the next generation back
// because somebody asked for it once.
func TestAbsentMemberIsNotUsed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		plain := strings.TrimSuffix(noblePkgs, ".xz") // listed, and served by nobody
		w.use(plain)
		asked := w.up.requests(plain)
		for range 20 {
			w.use(plain)
		}
		if n := w.up.requests(plain); n != asked {
			t.Errorf("upstream was asked %d times again", n-asked)
		}
		w.upgrade()
		w.switches()
	})
}

// That upstream did not have one generation's index says nothing of the next one's.
func TestAbsenceEndsWithItsGeneration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.failing("binary-amd64", proto.ErrNotFound) // half published
		w.use(noblePkgs)
		w.up.setFault(nil)
		w.upgrade()
		time.Sleep(2 * time.Second)
		w.switches()
		w.use(noblePkgs)
		if e, ok := w.Resolve(w.loc(hello2)); !ok || !e.Listed {
			t.Error("the index of the new generation was not read: its packages are unlisted")
		}
	})
}

// What a client asks for first while a generation is staged is known in the new
// one too.
func TestFirstUseDuringStaging(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Components: []string{"main", "universe"}})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.a.AddPackage("noble", testarchive.Package{Name: "world", Version: "1", Component: "universe"})
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		time.Sleep(2 * time.Second)
		w.upgrade()
		w.a.RemovePackage("noble", "world")
		world2 := w.a.AddPackage("noble", testarchive.Package{Name: "world", Version: "2", Component: "universe"})
		w.publish()

		universe := "dists/noble/universe/binary-amd64/Packages.xz"
		sum := aptmeta.ByHashPath(noblePkgs, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, w.file(noblePkgs)))
		w.up.setFault(func(_ context.Context, path string) error {
			if path == sum { // staging is at it
				w.up.setFault(nil)
				w.must(universe)
				time.Sleep(time.Second)
			}
			return nil
		})
		w.switches()
		w.rest()
		if e, ok := w.Resolve(w.loc(world2)); !ok || !e.Listed {
			t.Error("the package of an index that was first used during staging is not known")
		}
		w.upgradeAgain()
		w.switches()
		if st := w.Stats()[0]; len(st.Staged) != 2 {
			t.Errorf("staged: %v", st.Staged)
		}
	})
}

// Nor is a half published archive adopted while the first client's index is still
// on its way.
func TestFirstUseUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		old := w.file(nobleIn)
		time.Sleep(2 * time.Second)
		w.up.setFault(func(_ context.Context, path string) error {
			if strings.Contains(path, "binary-amd64/by-hash") {
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		w.must(noblePkgs)
		w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
		w.a.Prepare(day)
		v := testarchive.At(1)
		v.Indices, v.ByHash = 0, 0
		w.a.Show("noble", v)
		w.stays("Packages.xz")
		w.a.Show("noble", testarchive.At(1))
		w.listedAs(nobleIn, old)
		time.Sleep(15 * time.Second)
		w.listedAs(nobleIn, w.file(nobleIn))
	})
}

func (w *world) upgradeAgain() {
	time.Sleep(time.Minute)
	w.a.AddPackage("noble", testarchive.Package{Name: "again", Version: "1"})
	w.publish()
}

// A node that met the archive in the middle of publishing, so that its clients
// could not have their index, waits for that index in the next generation; but not
// for ever, for it may be broken for good.
func TestFailedUseIsWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		for i := 1; i <= 3; i++ {
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: fmt.Sprint(i)})
			w.a.Prepare(day.Add(time.Duration(i-10) * time.Second))
		}
		half := func(n int) {
			v := testarchive.At(n)
			v.Indices, v.ByHash = 0, 0
			w.a.Show("noble", v)
		}
		half(1)
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs) // which fails
		first := w.date()
		time.Sleep(2 * time.Second)
		half(2)
		w.stays("Packages.xz")
		w.a.Show("noble", testarchive.At(2))
		time.Sleep(2 * time.Second)
		w.switches()
		if got := w.date(); !got.After(first) || len(w.Stats()[0].Staged) != 1 {
			t.Errorf("%v, staged %v", got, w.Stats()[0].Staged)
		}
		// Now that it could be had once, no patience ends the waiting.
		current := w.file(nobleIn)
		half(3)
		time.Sleep(time.Hour)
		w.listedAs(nobleIn, current)
	})
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.failing("binary-amd64", &proto.Refused{Status: 403, Reason: "forbidden"})
		w.use(noblePkgs)
		time.Sleep(2 * time.Second)
		w.upgrade()
		w.stays("Packages.xz")
		time.Sleep(2 * w.cfg.withDefaults().Patience)
		w.listedAs(nobleIn, w.file(nobleIn))
	})
}

func TestDurableBeforeServed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		old := w.file(nobleIn)
		w.upgrade()
		w.state.fail = errors.New("disk on fire")
		w.stays("disk on fire")
		w.listedAs(nobleIn, old)
		w.state.fail = nil
		w.keeper.full = true
		time.Sleep(2 * time.Second)
		w.stays("no space")
		w.keeper.full = false
		time.Sleep(2 * time.Second)
		w.switches()
	})
}

// The store must have what a generation needs before it is current, not merely
// have seen it pass.
func TestStagedMeansKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.upgrade()
		blobs := w.cfg.Blobs.(*fakeBlobs)
		real := blobs.keeper
		blobs.keeper = newKeeper() // all that passes goes elsewhere
		w.stays("does not keep")
		blobs.keeper = real
		time.Sleep(2 * time.Second)
		w.switches()
	})
}

func TestUnusedMembersAreNotStaged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.UseFor = 24 * time.Hour
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}}
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs, nobleTrans)
		for range 3 {
			time.Sleep(12 * time.Hour)
			w.use(noblePkgs)
		}
		w.upgrade()
		w.switches()
		if st := w.Stats()[0]; len(st.Staged) != 1 {
			t.Errorf("staged: %v", st.Staged)
		}
	})
}

// Requests see the first generation from the swap on, also where the machine does not know of it yet.
func TestRequestWhileTheFirstGenerationIsCommitted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		asked := 0
		w.state.onList = func() {
			if w.nobleNow() == nil {
				return
			}
			asked++
			for _, e := range []func(proto.Location) (proto.Resolution, bool){w.Resolve, w.Explain} {
				if e, ok := e(w.loc(nobleIn)); ok && (e.Object.Ref != refOfBytes(w.file(nobleIn)) || e.Stale != "") {
					t.Errorf("%+v", e)
				}
			}
			w.Stats()
		}
		w.must(nobleIn)
		if asked == 0 {
			t.Fatal("nobody has asked at that moment")
		}
	})
}
