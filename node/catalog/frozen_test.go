package catalog

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// freeze freezes what the catalog believes now. Everything that was captured must be there.
func (w *world) freeze() *Frozen {
	w.Helper()
	f, missing, err := w.Freeze(context.Background(), "a", time.Now(), w.Capture("a"))
	if err != nil || len(missing) > 0 {
		w.Fatalf("freeze: %v, missing %v", err, missing)
	}
	w.Cleanup(f.Close)
	w.keeper.Pin("test", f.Blobs())
	return f
}

// frozenAs demands that a path means exactly these bytes in a snapshot.
func (w *world) frozenAs(f *Frozen, path string, data []byte) {
	w.Helper()
	e, err := f.Discover(context.Background(), w.loc(path))
	switch {
	case err != nil:
		w.Fatalf("%s: %v", path, err)
	case !e.Listed || e.Mutable || e.Stale != "":
		w.Fatalf("%s: listed %v, mutable %v, stale %q", path, e.Listed, e.Mutable, e.Stale)
	case e.Object.Ref != refOfBytes(data):
		w.Fatalf("%s is %v, want %v", path, e.Object.Ref, refOfBytes(data))
	}
}

// What was frozen stays, whatever upstream and the live view do, and after a restart.
func TestFrozenStays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		root, pkgs, trans, deb := w.file(nobleIn), w.file(noblePkgs), w.file(nobleTrans), w.file(hello1)
		captured, at := w.Capture("a"), time.Now()
		f := w.freeze()

		time.Sleep(time.Hour)
		w.upgrade()
		w.switches()
		if e := w.must(nobleIn); e.Object.Ref == refOfBytes(root) {
			t.Fatal("the live view has not moved on")
		}
		// Years later, past every Valid-Until.
		time.Sleep(3 * 365 * 24 * time.Hour)
		same := func(w *world, f *Frozen) {
			w.frozenAs(f, nobleIn, root)
			w.frozenAs(f, noblePkgs, pkgs)
			w.frozenAs(f, nobleTrans, trans) // that nobody had asked for
			w.frozenAs(f, hello1, deb)
			if e, err := f.Discover(context.Background(), w.loc(hello2)); err != nil || e.Listed {
				t.Errorf("a package that came later is listed: %v, %v", e.Listed, err)
			}
		}
		same(w, f)
		f.Close()
		w = w.crash()
		f, missing, err := w.Freeze(context.Background(), "a", at, captured)
		if err != nil || len(missing) > 0 {
			t.Fatalf("after a restart: %v, missing %v", err, missing)
		}
		defer f.Close()
		same(w, f)
	})
}

// An index that nobody had used at the moment is read when a client needs it.
func TestFrozenReadsIndexesLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.rest()
		f := w.freeze()
		before := w.parsed()
		w.frozenAs(f, hello1, w.file(hello1))
		if n := w.parsed() - before; n != 1 {
			t.Errorf("%d indexes were read for one package", n)
		}
		w.frozenAs(f, noblePkgs, w.file(noblePkgs))
		w.rest()
		if n := w.parsed() - before; n != 1 {
			t.Errorf("%d indexes were read, one of them twice", n)
		}
	})
}

// A client that takes an index from a snapshot will ask for its packages: it is read behind the answer.
func TestFrozenReadsWhatClientsTake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.rest()
		f := w.freeze()
		if _, ok := f.Resolve(w.loc(hello1)); ok {
			t.Fatal("a package is known before its index was read")
		}
		if _, ok := f.Resolve(w.loc(noblePkgs)); !ok {
			t.Fatal("a member of the root is not known")
		}
		w.rest()
		if _, ok := f.Resolve(w.loc(hello1)); !ok {
			t.Error("the index that a client took was not read")
		}
	})
}

func TestFrozenRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		captured := w.Capture("a")
		f := w.freeze()
		if _, err := f.Discover(context.Background(), w.loc("dists/other/InRelease")); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("a suite that was not captured: %v", err)
		} else if _, other := f.Discover(context.Background(), w.loc(nobleGPG)); errors.Is(err, proto.ErrOtherForm) || !errors.Is(other, proto.ErrOtherForm) {
			t.Errorf("a suite that was not captured: %v; a signature beside InRelease: %v", err, other)
		}
		other := captured[0]
		other.Statement = proto.DigestOf([]byte("another text"))
		if _, _, err := w.Freeze(context.Background(), "a", time.Now(), []proto.Captured{other}); err == nil {
			t.Error("a root that says something else was taken")
		}
		// Most reloads change nothing of what is trusted.
		reload := func(trust string) {
			if err := w.Reconfigure(w.fill([]Archive{{Name: "a", Format: formatOf(keyring(t, testarchive.DefaultKey().Public())), Trust: trust}})); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []struct {
			trust string
			same  bool
		}{{"the first", false}, {"the first", true}, {"another", false}, {"", false}, {"", false}} {
			before := w.freeze()
			reload(s.trust)
			if before.Current() != s.same {
				t.Errorf("after a reload, trusting %q: it counts as verified: %v", s.trust, before.Current())
			}
			before.Close()
		}
		// A key that the archive no longer has vouches for nothing, in old roots neither.
		archives := []Archive{{Name: "a", Format: formatOf(keyring(t, secondKey.Public()))}}
		if err := w.Reconfigure(w.fill(archives)); err != nil {
			t.Fatal(err)
		}
		if f.Current() {
			t.Error("it counts as verified with keys that are gone")
		}
		_, _, err := w.Freeze(context.Background(), "a", time.Now(), captured)
		if !errors.As(err, new(*proto.Rejected)) {
			t.Errorf("with the key removed: %v", err)
		}
	})
}

// What a snapshot was made of stays on the disk while it is open, and not for longer.
func TestFrozenKeepsItsTables(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.Retain.For, w.cfg.Retain.Generations = time.Second, 1
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		f := w.freeze()
		first, _ := w.state.ListFiles(tableDir)
		for i := range 3 {
			time.Sleep(time.Hour)
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: strconv.Itoa(i)})
			w.publish()
			w.switches()
			w.rest()
		}
		for _, name := range first {
			if _, err := w.state.ReadFile(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.Close()
		w.cleanTables("a")
		left, _ := w.state.ListFiles(tableDir)
		for _, name := range first {
			if strings.Contains(name, "seed") != slices.Contains(left, name) {
				t.Errorf("after the end: %s is among %v", name, left)
			}
		}
	})
}

// A key that has ended since was good when it signed. apt, too, may be told to accept that.
func TestFrozenOutlivesItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		short := testarchive.NewKey("short", testarchive.KeyOptions{Expires: day.AddDate(0, 1, 0)})
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Keys: []*testarchive.Key{short}})
		w.cfg.Archives[0].Format = formatOf(keyring(t, short.Public()))
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		captured, at := w.Capture("a"), time.Now()
		w.freeze()
		time.Sleep(60 * 24 * time.Hour)
		if _, _, err := w.Freeze(context.Background(), "a", time.Now(), captured); err == nil {
			t.Fatal("the key has not ended")
		}
		f, _, err := w.Freeze(context.Background(), "a", at, captured)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w.frozenAs(f, hello1, w.file(hello1))
	})
}

// A snapshot is the same thing in all formats: the old root, its signature and the packages of then, while the archive goes
// on and no longer has them.
func TestFrozenOfEachFormat(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		key := testarchive.DefaultKey()
		w := worldOf(t, k, key)
		first := k.published(1, key)
		w.lay(first)
		w.open()
		w.must(k.root)
		w.must(k.signature)
		if index := first.index(); index != "" {
			w.use(index)
		}
		w.rest()
		f := w.freeze()
		time.Sleep(time.Hour)
		second := k.published(2, key)
		w.lay(second)
		if _, err := w.Refresh(context.Background(), k.suite, false); err != nil {
			t.Fatal(err)
		}
		if e := w.must(k.root); e.Object.Ref != refOfBytes(second.files[k.root]) {
			t.Fatal("the live view has not moved on")
		}
		w.frozenAs(f, k.root, first.files[k.root])
		w.frozenAs(f, k.signature, first.files[k.signature])
		w.frozenAs(f, k.pkg("p1"), first.files[k.pkg("p1")])
		if e, err := f.Discover(context.Background(), w.loc(k.pkg("p2"))); err != nil || e.Listed {
			t.Errorf("a package that came later is listed: %v, %v", e.Listed, err)
		}
	})
}

// cleaning has old tables cleaned up at every fetch: the worst moments for who is reading indexes.
type cleaning struct {
	Blobs
	clean func()
}

func (c cleaning) Open(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
	c.clean()
	return c.Blobs.Open(ctx, want)
}

// What was read of the first suite is not cleaned up while the second one is being read.
func TestFreezeKeepsWhatItReads(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, testarchive.Suite{Name: "jammy", ByHash: true})
		w.cfg.Retain.For, w.cfg.Retain.Generations = time.Second, 1
		clean := func() {}
		w.cfg.Blobs = cleaning{w.cfg.Blobs, func() { clean() }}
		for _, suite := range []string{"noble", "jammy"} {
			w.a.AddPackage(suite, testarchive.Package{Name: suite + "-tool", Version: "1"})
		}
		w.publish()
		w.open()
		for _, suite := range []string{"noble", "jammy"} {
			w.must("dists/" + suite + "/InRelease")
			w.use("dists/" + suite + "/main/binary-amd64/Packages.xz")
		}
		captured, at := w.Capture("a"), time.Now()
		files := w.a.Files()
		w.freeze().Close()
		for i := range 3 {
			time.Sleep(time.Hour)
			for _, suite := range []string{"noble", "jammy"} {
				w.a.RemovePackage(suite, suite+"-tool")
				w.a.AddPackage(suite, testarchive.Package{Name: suite + "-tool", Version: strconv.Itoa(i + 2)})
			}
			w.publish()
			for _, suite := range []string{"noble", "jammy"} {
				if _, err := w.Refresh(context.Background(), proto.Suite{Archive: "a", Dir: "dists/" + suite}, false); err != nil {
					t.Fatal(err)
				}
			}
			w.rest()
		}
		clean = func() { w.cleanTables("a") }
		f, missing, err := w.Freeze(context.Background(), "a", at, captured)
		if err != nil || len(missing) > 0 {
			t.Fatalf("%v, missing %v", err, missing)
		}
		defer f.Close()
		for path, data := range files {
			if strings.Contains(path, "-tool_1_") {
				w.frozenAs(f, path, data)
			}
		}
	})
}

// What hosts of other nodes use belongs to a snapshot, also if this node has not read it.
func TestCaptureKnowsOtherNodesUse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.rest()
		paths := func() (paths []string) {
			for _, index := range w.Capture("a")[0].Indexes {
				paths = append(paths, index.Path)
			}
			return paths
		}
		if got := paths(); len(got) != 0 {
			t.Fatalf("nobody uses an index, and there is %v", got)
		}
		w.Receive("other", proto.Announcement{Generation: w.nobleNow().Generation, Slots: []string{w.nobleNow().Member("main/binary-amd64/Packages.xz").Slot}})
		w.rest()
		if got := paths(); !slices.Contains(got, "main/binary-amd64/Packages.xz") {
			t.Errorf("captured are %v", got)
		}
		f := w.freeze()
		if _, ok := f.Resolve(w.loc(hello1)); !ok {
			t.Error("what the index lists is not known")
		}
	})
}
