package catalog

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// switches collects what a catalog tells of its generation switches.
type switches struct {
	mu  sync.Mutex
	all []proto.Switch
}

func (f *switches) told(s proto.Switch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, s)
}

func (f *switches) list() []proto.Switch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

func TestSwitchedIsCalled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		told := &switches{}
		w := nobleWorld(t)
		w.cfg.Switched = told.told
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs, nobleTrans)
		first := told.list()
		if len(first) != 1 || first[0].New != nil || first[0].Indexes != nil || first[0].Suite != noble() || !first[0].Date.Equal(w.date()) {
			t.Fatalf("of the first generation: %+v", first)
		}
		time.Sleep(2 * time.Second)
		w.a.AddPackage("noble", testarchive.Package{Name: "kept", Version: "1"})
		w.upgrade()
		w.switches()
		synctest.Wait()
		all := told.list()
		if len(all) != 2 {
			t.Fatalf("%d switches were told", len(all))
		}
		f := all[1]
		if !f.Date.Equal(w.date()) || len(f.Indexes) != 1 || f.Suite.At(f.Indexes[0].Member.Path).Path != noblePkgs || f.Indexes[0].Object.Ref != refOfBytes(w.file(noblePkgs)) {
			t.Errorf("%+v", f)
		}
		for path, is := range map[string]bool{hello2: true, hello1: false, "pool/main/k/kept/kept_1_amd64.deb": true, "pool/x": false} {
			if f.New(path) != is {
				t.Errorf("%s: new %v", path, !is)
			}
		}
		// The same name with other content is new; what stays is not.
		time.Sleep(time.Minute)
		w.a.RemovePackage("noble", "hello")
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "2", Salt: "rebuilt"})
		w.publish()
		w.switches()
		synctest.Wait()
		if f := told.list()[2]; !f.New(hello2) || f.New("pool/main/k/kept/kept_1_amd64.deb") {
			t.Errorf("%v, %v", f.New(hello2), f.New("pool/main/k/kept/kept_1_amd64.deb"))
		}
		// A restart tells nothing; a look that brings nothing neither.
		w = w.crash()
		w.rest()
		time.Sleep(5 * time.Minute)
		if n := len(told.list()); n != 3 {
			t.Errorf("%d switches were told", n)
		}
		w.upgradeAgain()
		w.switches()
		synctest.Wait()
		if f := told.list()[3]; !f.New("pool/main/a/again/again_1_amd64.deb") || f.New(hello2) {
			t.Error("what is new after a restart")
		}
	})
}

// Of an index that was not known before, nothing is called new.
func TestIndexFirstUsedIsNotNew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		told := &switches{}
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Components: []string{"main", "universe"}})
		w.cfg.Switched = told.told
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		old := w.a.AddPackage("noble", testarchive.Package{Name: "world", Version: "1", Component: "universe"})
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		time.Sleep(2 * time.Second)
		w.upgrade()
		// Told of by another node, and so staged with the switch for the first time.
		s, _ := w.known(noble())
		s.receiveSlots([]string{"dists/noble/universe/binary-amd64/Packages.xz", "universe/binary-amd64/Packages.xz"}, false)
		w.switches()
		synctest.Wait()
		f := told.list()[1]
		if len(f.Indexes) != 2 || !f.New(hello2) || f.New(old) {
			t.Errorf("%d indices; %v, %v", len(f.Indexes), f.New(hello2), f.New(old))
		}
	})
}

// Flat repositories leave open where their files lie.
func TestSwitchOfAFlatRepository(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		told := &switches{}
		w := newWorld(t, testarchive.Suite{Name: "x", Flat: true})
		w.cfg.Switched = told.told
		w.a.AddPackage("x", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		w.must("x/InRelease")
		w.use("x/Packages.xz")
		time.Sleep(2 * time.Second)
		added := w.a.AddPackage("x", testarchive.Package{Name: "more", Version: "1"})
		w.publish()
		time.Sleep(2 * time.Minute)
		f := told.list()[1]
		if len(f.Indexes) != 1 || f.Suite.At(f.Indexes[0].Member.Path).Path != "x/Packages.xz" || !f.New(added) {
			t.Errorf("%+v; %s new: %v", f, added, f.New(added))
		}
	})
}

// Switches are told in the order in which they took place, however slow the listener is,
// and also where another node brought them.
func TestSwitchesInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 2)
		told := &switches{}
		var calls atomic.Int32
		f.nodes[1].cfg.Switched = func(s proto.Switch) {
			if calls.Add(1) == 1 {
				time.Sleep(5 * time.Minute)
			}
			told.told(s)
		}
		f.nodes[1].cfg.Retain.Generations = 1
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.use(nobleIn, noblePkgs)
		}
		for i := range 5 {
			f.settled(2 * time.Second)
			f.upgrade(fmt.Sprint(i + 2))
			f.nodes[0].looks()
			f.settled(20 * time.Second)
		}
		f.agree()
		f.settled(10 * time.Minute)
		all := told.list()
		if len(all) != 6 {
			t.Fatalf("%d switches were told", len(all))
		}
		for i, flip := range all {
			if i > 0 && (!flip.Date.After(all[i-1].Date) || len(flip.Indexes) == 0 || !flip.New(fmt.Sprintf("pool/main/h/hello/hello_%d_amd64.deb", i+1)) || flip.New(fmt.Sprintf("pool/main/h/hello/hello_%d_amd64.deb", i))) {
				t.Errorf("flip %d: %+v", i, flip)
			}
		}
	})
}

func TestDates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
		gens := w.threeGenerations()
		show := func(n int) { w.a.Show("noble", testarchive.At(n)) }
		show(0)
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		for n := 1; n < 3; n++ {
			show(n)
			time.Sleep(2 * time.Second)
			w.switches()
		}
		date := func(n int) time.Time { return day.Add(time.Duration(n-3) * time.Hour) }
		deb := func(n int) string { return fmt.Sprintf("pool/main/h/hello/hello_%d_amd64.deb", n) }
		check := func() {
			t.Helper()
			for n := range 3 {
				if got := w.Dates(w.loc(deb(n))); !slices.EqualFunc(got, []time.Time{date(n)}, time.Time.Equal) {
					t.Errorf("%s: %v", deb(n), got)
				}
				byHash := aptmeta.ByHashPath(noblePkgs, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, gens[n][noblePkgs].Data))
				if got := w.Dates(w.loc(byHash)); !slices.EqualFunc(got, []time.Time{date(n)}, time.Time.Equal) {
					t.Errorf("%s: %v", byHash, got)
				}
			}
			if got := w.Dates(w.loc(noblePkgs)); !slices.EqualFunc(got, []time.Time{date(2), date(1), date(0)}, time.Time.Equal) {
				t.Errorf("the index: %v", got)
			}
			for _, path := range []string{"pool/nothing", nobleIn, nobleRelease, "dists/noble/none"} {
				if got := w.Dates(w.loc(path)); got != nil {
					t.Errorf("%s: %v", path, got)
				}
			}
			if got := w.Dates(proto.Location{Archive: "other", Path: deb(1)}); got != nil {
				t.Errorf("of another archive: %v", got)
			}
		}
		check()
		w = w.crash()
		w.rest()
		check()
	})
}

// twoArchives is a world with two archives, of which each has a suite noble.
func twoArchives(t *testing.T) (w *world, secret *testarchive.Archive) {
	t.Helper()
	w = nobleWorld(t)
	secret = testarchive.New(8)
	secret.AddSuite(testarchive.Suite{Name: "noble", ByHash: true})
	secret.AddPackage("noble", testarchive.Package{Name: "secret", Version: "1"})
	secret.Publish(time.Now().Add(-time.Minute))
	w.publish()
	w.up.archives["private"] = secret
	w.cfg.Archives = append(w.cfg.Archives, Archive{Name: "private", Format: formatOf(keyring(t, secret.Keyring()))})
	return w, secret
}

// What one archive lists is not known below another one.
func TestArchivesAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, secret := twoArchives(t)
		w.open()
		at := func(archive, path string) proto.Location { return proto.Location{Archive: archive, Path: path} }
		for _, archive := range []string{"a", "private"} {
			for _, path := range []string{nobleIn, noblePkgs} {
				if e, err := w.Discover(t.Context(), at(archive, path), false); err != nil || !e.Listed {
					t.Fatalf("%s/%s: %+v, %v", archive, path, e, err)
				}
			}
			synctest.Wait()
		}
		w.rest()
		file := func(path string) []byte {
			f, ok := secret.Lookup(path)
			if !ok {
				t.Fatalf("no %s", path)
			}
			return f.Data
		}
		byHash := func(data []byte) string {
			return aptmeta.ByHashPath(noblePkgs, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, data))
		}
		index, deb := file(noblePkgs), file("pool/main/s/secret/secret_1_amd64.deb")
		// Through its own archive it is listed in any case.
		if e, err := w.Discover(t.Context(), at("private", byHash(index)), false); err != nil || !e.Listed || e.Object.Ref != refOfBytes(index) {
			t.Errorf("%+v, %v", e, err)
		}
		own := w.file(noblePkgs)
		if e, err := w.Discover(t.Context(), at("a", byHash(own)), false); err != nil || !e.Listed || e.Object.Ref != refOfBytes(own) {
			t.Errorf("%+v, %v", e, err)
		}
		// A name made of a sum vouches for its content, and for nothing but the archive of its location:
		// whether that archive's upstream gave it is for the fetcher to know.
		for _, path := range []string{byHash(index), byHash(deb), "by-hash/SHA256/" + testarchive.Sum(testarchive.SHA256, deb)} {
			e, err := w.Discover(t.Context(), at("a", path), false)
			if err != nil || !e.Object.Provable() || !e.Listed || e.Object.Where.Len() != 1 || e.Object.Where.First != at("a", path) {
				t.Errorf("%s: %+v, %v", path, e, err)
			}
		}
		// Nor does one archive answer with what another one lists.
		for _, path := range []string{"pool/main/s/secret/secret_1_amd64.deb"} {
			if e, ok := w.Resolve(at("private", path)); !ok || !e.Listed {
				t.Errorf("%s: %v", path, ok)
			}
			if e, ok := w.Resolve(at("a", path)); ok {
				t.Errorf("%s is listed below another archive: %+v", path, e)
			}
		}
		if e, ok := w.Resolve(at("private", hello1)); ok {
			t.Errorf("%+v", e)
		}
		if e, ok := w.Resolve(at("a", noblePkgs)); !ok || e.Object.Ref == refOfBytes(index) {
			t.Errorf("%+v, %v", e, ok)
		}
	})
}
