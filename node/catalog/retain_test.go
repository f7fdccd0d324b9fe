package catalog

import (
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

var allHashes = []string{testarchive.MD5Sum, testarchive.SHA1, testarchive.SHA256, testarchive.SHA512}

func TestOldGenerationsStayReadable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Hashes: allHashes, Retain: 1})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		first := w.date()
		w.use(noblePkgs)
		index, deb := w.file(noblePkgs), w.file(hello1)
		time.Sleep(time.Minute)
		w.upgrade()
		w.a.Delete(hello1)
		w.switches()

		check := func(w *world) {
			t.Helper()
			for _, hash := range aptmeta.HashTypes {
				path := aptmeta.ByHashPath(noblePkgs, hash, testarchive.Sum(hash.String(), index))
				e := w.listedAs(path, index)
				if e.Mutable || !e.Generation.Equal(first) && !e.Generation.IsZero() {
					t.Errorf("%s: %+v", path, e)
				}
			}
			if e := w.listedAs(hello1, deb); e.Mutable {
				t.Errorf("%+v", e)
			}
			w.keeper.evict()
			if _, err := w.keeper.Get(proto.DigestOf(index)); err != nil {
				t.Error("the index of the generation before was evicted")
			}
		}
		check(w)
		w = w.crash()
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		check(w)
		time.Sleep(time.Second)
		check(w)
	})
}

// A by-hash name with the right beginning and a wrong end is another object.
func TestByHashIsComparedWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Hashes: allHashes})
		w.publish()
		w.open()
		w.must(nobleIn)
		for _, hash := range []aptmeta.HashType{aptmeta.SHA256, aptmeta.SHA512} {
			sum := testarchive.Sum(hash.String(), w.file(noblePkgs))
			path := aptmeta.ByHashPath(noblePkgs, hash, sum[:len(sum)-4]+"0000")
			if e, ok := w.Resolve(w.loc(path)); ok {
				t.Errorf("%s is %+v", path, e)
			}
			if e := w.must(path); e.Object.Ref == refOfBytes(w.file(noblePkgs)) {
				t.Errorf("%s is %+v", path, e)
			}
		}
		w.rest()
	})
}

func TestRetentionByCountAndAge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.Retain.Generations, w.cfg.Retain.For = 3, 10*time.Hour
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}}
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		for i := range 6 {
			time.Sleep(time.Minute)
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: fmt.Sprint(i)})
			w.publish()
			w.switches()
		}
		w.rest()
		if st := w.Stats()[0]; st.Retained != 3 {
			t.Errorf("%d retained, want 3", st.Retained)
		}
		tables, _ := w.state.ListFiles(tableDir)
		if len(tables) != 4+1 { // and the seed
			t.Errorf("%d tables, want 4: %v", len(tables), tables)
		}
		s, _ := w.known(noble())
		for _, g := range s.public.Load().retained {
			if len(g.Manifest.Members) != 1 {
				t.Errorf("a superseded generation keeps %d members", len(g.Manifest.Members))
			}
		}
		if n := w.keeper.pinnedBy(noble().String()); n != 8 { // a root and an index of each
			t.Errorf("%d blobs pinned, want 8", n)
		}
		// Age counts without a switch, but for the newest.
		time.Sleep(11 * time.Hour)
		w.rest()
		if st := w.Stats()[0]; st.Retained != 1 {
			t.Errorf("%d retained after 11 h, want 1", st.Retained)
		}
		if tables, _ = w.state.ListFiles(tableDir); len(tables) != 2+1 {
			t.Errorf("%d tables, want 2", len(tables))
		}
		w = w.crash()
		w.rest()
		if st := w.Stats()[0]; st.Retained != 1 {
			t.Errorf("%d retained after a restart, want 1", st.Retained)
		}
	})
}

// Third parties rebuild a package in place: what is current wins.
func TestReplacedUnderTheSameName(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		for i := range 3 {
			time.Sleep(time.Minute)
			w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1", Size: 100, Salt: fmt.Sprint(i)})
			w.publish()
			w.switches()
			w.listedAs(hello1, w.file(hello1))
			w = w.crash()
			w.rest()
			w.listedAs(hello1, w.file(hello1))
		}
	})
	// Of two suites that disagree, the one that was published later knows better.
	for _, late := range []string{"a", "b"} {
		inBubble(t, func(t *testing.T) {
			w := newWorld(t, testarchive.Suite{Name: "a"}, testarchive.Suite{Name: "b"})
			for _, s := range []string{"a", "b"} {
				w.a.AddPackage(s, testarchive.Package{Name: "hello", Version: "1", Size: 100, Salt: s})
			}
			w.publish()
			w.a.AddPackage(late, testarchive.Package{Name: "hello", Version: "1", Size: 100, Salt: "new"})
			w.a.Publish(day, late)
			w.open()
			for _, s := range []string{"a", "b"} {
				w.must("dists/" + s + "/InRelease")
				w.use("dists/" + s + "/main/binary-amd64/Packages.xz")
			}
			w.listedAs(hello1, w.file(hello1))
		})
	}
}

// Tables are removed while nothing refers to them, and never while something will.
func TestListsAreClaimed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		tables, _ := w.state.ListFiles(tableDir)
		if len(tables) != 2 { // and the seed
			t.Fatal(tables)
		}
		w.state.WriteFile(tableDir+"a/claimed", []byte("x"))
		w.state.WriteFile(tableDir+"a/stray", []byte("x"))
		w.state.WriteFile(tableDir+"b/other", []byte("x"))
		release := w.claim("a", []string{"claimed"})
		also := w.claim("a", []string{"claimed"})
		w.cleanTables("a")
		if left, _ := w.state.ListFiles(tableDir); len(left) != 4 {
			t.Errorf("left: %v", left)
		}
		release()
		w.cleanTables("a")
		if left, _ := w.state.ListFiles(tableDir); len(left) != 4 {
			t.Errorf("left while it is claimed still: %v", left)
		}
		also()
		w.cleanTables("a")
		if left, _ := w.state.ListFiles(tableDir); len(left) != 3 || len(w.claims) != 0 {
			t.Errorf("left: %v, claims %v", left, w.claims)
		}
	})
}
