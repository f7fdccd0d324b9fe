package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// Two roots of one date, each on one side: all nodes end with the same.
func TestForkInACluster(t *testing.T) {
	for _, last := range []int{0, 1} {
		t.Run(fmt.Sprintf("upstream ends with number %d", last+1), func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				f := usedFleetOf(t, 4, k)
				f.set(func() { f.side["n3"], f.side["n4"] = 1, 1 })
				time.Sleep(time.Hour)
				var fork []publication
				at := time.Now().UTC().Truncate(time.Second)
				for i := range 2 {
					fork = append(fork, publication{k, i + 2, at, k.render(i+2, at, f.key)})
					f.nodes[0].lay(fork[i])
					for _, n := range f.nodes[2*i : 2*i+2] {
						n.refresh()
					}
				}
				if f.nodes[0].must(f.root).Object.Ref == f.nodes[3].must(f.root).Object.Ref {
					t.Fatal("there is no fork")
				}
				f.shown = fork[last]
				f.nodes[0].lay(f.shown)
				f.set(func() { clear(f.side) })
				f.settled(5 * time.Minute)
				winner := f.nodes[0].must(f.root).Object.Ref
				for _, n := range f.nodes {
					if got := n.must(f.root); got.Object.Ref != winner || got.Stale != "" {
						t.Errorf("%s serves %v, n1 %v; stale %q", n.name, got.Object.Ref, winner, got.Stale)
					}
				}
			})
		})
	}
}

// Whatever is lost, doubled and overtaken, whoever dies and leads, whenever there is
// something new: in the end all nodes are alike, and none has gone back.
func TestAgreementProperty(t *testing.T) {
	seeds := []uint64{1, 2, rand.Uint64()}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			// Debian's forms side by side, and indexes that not all nodes use.
			inNamedBubble(t, "InRelease and Release", func(t *testing.T) {
				f := newFleet(t, 5)
				f.publish()
				index := func() string { return noblePkgs }
				agreement(t, f, seed, f.upgrade, index, nobleIn, nobleIn, nobleRelease, noblePkgs, nobleTrans, universePkgs)
			})
			overKinds(t, func(t *testing.T, k kind) {
				key := testarchive.DefaultKey()
				f := fleetOf(t, 5, k, key)
				var shown publication
				publish := func(version string) {
					n, _ := strconv.Atoi(version)
					shown = k.published(n, key)
					f.nodes[0].lay(shown)
				}
				publish("1")
				agreement(t, f, seed, publish, func() string { return cmp.Or(shown.index(), k.root) }, k.root, k.signature, k.pkg("hello"))
			})
		})
	}
}

// agreement lets things happen to a fleet, with an archive that publish goes on with and clients that ask for paths.
// index is the path of what lists the packages of what upstream shows.
func agreement(t *testing.T, f *fleet, seed uint64, publish func(version string), index func() string, paths ...string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	f.rng = rand.New(rand.NewPCG(seed, 1))
	f.start()
	f.set(func() { f.loss, f.twice, f.way = 0.3, 0.3, 3*time.Second })
	var clients sync.WaitGroup
	version := 1
	for range 150 {
		time.Sleep(time.Second + time.Duration(rng.Int64N(int64(20*time.Second)))) // no two of one date
		n := f.nodes[rng.IntN(len(f.nodes))]
		switch k := rng.IntN(20); {
		case k < 10:
			path, fresh := append(paths, index())[rng.IntN(len(paths)+1)], rng.IntN(3) == 0
			if n.isRunning() {
				clients.Go(func() { n.Discover(t.Context(), n.loc(path), fresh) })
			}
		case k < 12:
			version++
			publish(fmt.Sprint(version))
		case k < 14:
			f.set(func() { f.side[n.name] = rng.IntN(2) })
		case k < 15:
			f.set(func() { clear(f.side) })
		case k < 16:
			f.set(func() { f.ill[n.name] = !f.ill[n.name] })
		case k < 17:
			f.set(func() { f.dead[n.name] = !f.dead[n.name] })
		case k < 18:
			f.set(func() { rng.Shuffle(len(f.order), func(i, j int) { f.order[i], f.order[j] = f.order[j], f.order[i] }) })
		case k < 19:
			if clients.Wait(); n.isRunning() {
				n.kill()
			} else {
				n.resume()
			}
		default:
			if n.up.failAll(nil); rng.IntN(2) == 0 {
				n.up.failAll(&proto.Unavailable{Reason: "down"})
			}
		}
		for _, n := range f.nodes {
			oneGeneration(t, n, index())
		}
	}
	clients.Wait()
	for _, n := range f.nodes {
		if n.up.failAll(nil); !n.isRunning() {
			n.resume()
		}
	}
	f.set(func() { clear(f.side); clear(f.ill); clear(f.dead); f.loss, f.twice = 0, 0 })
	f.nodes[0].must(f.root) // somebody has to ask
	f.settled(6 * time.Minute)
	f.agree(f.root)
	for _, n := range f.nodes {
		if st := n.Stats()[0]; st.Err != nil || st.Stale != "" {
			t.Errorf("%s: %v, stale %q", n.name, st.Err, st.Stale)
		}
	}
}

// oneGeneration holds that what a node serves is of one generation. An index that is named after its
// content is of the one that upstream shows, or not there.
func oneGeneration(t *testing.T, n *clusterNode, path string) {
	t.Helper()
	v := n.viewOf("a")
	var root, index proto.Resolution
	if v == nil || v.Suite(n.f.suite) == nil {
		return
	}
	if n.inView(&root, v, n.f.root) && n.inView(&index, v, path) && !root.Generation.Equal(index.Generation) && index.Mutable {
		t.Errorf("%s: root of %v, index of %v", n.name, root.Generation, index.Generation)
	}
}

// Two nodes that take each other for the one that leads do not wait for each other.
func TestMutualLeaders(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 2)
		f.publish()
		f.start()
		f.set(func() { f.nodes[0].ranked, f.nodes[1].ranked = []string{"n2", "n1"}, []string{"n1", "n2"} })
		both := func(path string, fresh bool) {
			start := time.Now()
			var all sync.WaitGroup
			for _, n := range f.nodes {
				all.Go(func() {
					if _, err := n.Discover(t.Context(), n.loc(path), fresh); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took := time.Since(start); took > time.Second {
				t.Errorf("%s: it took %v", path, took)
			}
		}
		both(nobleIn, false)
		if n := f.polls(); n > 2 {
			t.Errorf("upstream was asked by %s", f.polled())
		}
		both(nobleRelease, false)
		time.Sleep(2 * time.Second)
		f.upgrade("2")
		both(nobleIn, true)
		f.settled(time.Minute)
		f.agree()
		// And nobody believes to lead at all: somebody looks all the same.
		f.forget()
		time.Sleep(time.Hour)
		if n := f.polls(); n < 15 || n > 70 {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
	})
}

// Release and Release.gpg beside the InRelease are read from upstream once, too.
func TestPairInACluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 4)
		n := f.nodes[2]
		n.listedAs(nobleRelease, n.file(nobleRelease))
		n.listedAs(nobleGPG, n.file(nobleGPG))
		if k := n.up.requests(nobleRelease); k != 0 {
			t.Errorf("it asked upstream %d times", k)
		}
		f.nodes[3].listedAs(nobleGPG, n.file(nobleGPG))
		f.settled(5 * time.Minute)
		f.upgrade("2")
		f.settled(2 * time.Minute)
		f.agree(nobleIn, nobleRelease, nobleGPG)
		if a, b := f.up.bodies(nobleRelease), f.up.bodies(nobleGPG); a != 2 || b != 2 {
			t.Errorf("Release was read %d times, Release.gpg %d", a, b)
		}
		for _, n := range f.nodes {
			e, _ := n.Explain(n.loc(nobleGPG))
			if other, _ := f.nodes[0].Explain(n.loc(nobleGPG)); !e.Modified.Equal(other.Modified) || e.Modified.IsZero() {
				t.Errorf("%s: Last-Modified %v", n.name, e.Modified)
			}
		}
		// A pair that a node makes up is not taken.
		f.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
		f.set(func() { f.loss, f.gossip = 1, false })
		old := f.nodes[3].Announcements()[0].Generation.Companions
		f.publish()
		f.settled(70 * time.Second)
		told := f.nodes[0].Announcements()[0]
		told.Generation.Companions = old
		f.nodes[3].Receive("n1", told)
		f.settled(time.Second)
		f.nodes[3].listedAs(nobleIn, n.file(nobleIn))
		f.nodes[3].listedAs(nobleGPG, n.file(nobleGPG))
	})
}

// What signs a root is read from upstream once, for all nodes and with each publication, whether it vouches for the root
// or is only passed on; all nodes give it the same date. One that a node tells of and that does not fit is not taken.
func TestSignatureInACluster(t *testing.T) {
	for trust, trusted := range map[string]*testarchive.Key{"signed": testarchive.DefaultKey(), "unsigned": nil} {
		t.Run(trust, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				f := fleetOf(t, 4, k, trusted)
				f.key = testarchive.DefaultKey() // also where no node knows it
				for _, n := range f.nodes {
					n.cfg.LeaderVouches = true
				}
				f.upgrade("1")
				f.start()
				for i := range 3 {
					for _, n := range f.nodes {
						n.listedAs(k.root, n.file(k.root))
						n.listedAs(k.signature, n.file(k.signature))
					}
					f.settled(5 * time.Minute)
					f.agree(k.root, k.signature)
					if a, b := f.up.bodies(k.root), f.up.bodies(k.signature); a != i+1 || b != i+1 {
						t.Errorf("of %d publications the root was read %d times, the signature %d times", i+1, a, b)
					}
					for _, n := range f.nodes {
						e, _ := n.Explain(n.loc(k.signature))
						if first, _ := f.nodes[0].Explain(n.loc(k.signature)); !e.Modified.Equal(first.Modified) || e.Modified.IsZero() {
							t.Errorf("%s: Last-Modified %v, n1 %v", n.name, e.Modified, first.Modified)
						}
					}
					f.upgrade(fmt.Sprint(i + 2))
					f.settled(2 * time.Minute)
				}
				if trusted == nil {
					return // there is nothing by which a node could tell
				}
				before := f.nodes[3].Announcements()[0].Generation.Companions
				f.set(func() { f.loss, f.gossip = 1, false })
				f.upgrade("9")
				for range 70 {
					if f.nodes[0].now(k.suite).Root != refOfBytes(f.shown.files[k.root]) {
						time.Sleep(time.Second)
					}
				}
				told := f.nodes[0].Announcements()[0]
				told.Generation.Companions = before
				f.nodes[3].Receive("n9", told)
				f.settled(time.Second)
				if now := f.nodes[3].now(k.suite).Root; now == told.Generation.Root {
					t.Error("a root with the signature of another is taken")
				}
				if w := f.nodes[3].warnings(); len(w) != 1 || !strings.Contains(w[0], "n9") {
					t.Errorf("it warns of %q", w)
				}
			})
		})
	}
}

// An archive that has none is not asked for it by everybody, and nobody waits.
func TestNoPairInACluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3, testarchive.Suite{Name: "noble", NoRelease: true, ByHash: true})
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.must(nobleIn)
			if _, err := n.get(nobleRelease); !errors.Is(err, proto.ErrNotFound) {
				t.Errorf("%v", err)
			}
		}
		f.settled(5 * time.Minute)
		f.publish()
		f.settled(70 * time.Second)
		f.agree()
	})
}

// rootForm is an odd form of a root that clients accept, as a repository that goes on publishing.
type rootForm struct {
	kind
	unsigned bool
}

// rootForms are the odd forms of all formats, by name.
func rootForms() map[string]rootForm {
	forms := make(map[string]rootForm)
	for name, s := range map[string]testarchive.Suite{
		"detached":           {NoInRelease: true, ByHash: true},
		"undated":            {NoDate: true},
		"undated, detached":  {NoDate: true, NoInRelease: true},
		"only SHA-512":       {Hashes: []string{testarchive.SHA512}, ByHash: true},
		"without by-hash":    {},
		"unsigned":           {Unsigned: true},
		"unsigned InRelease": {Keys: []*testarchive.Key{testarchive.NewKey("whoever", testarchive.KeyOptions{})}},
	} {
		k := kinds[0]
		s.Name = "noble"
		if !s.NoInRelease && !s.Unsigned {
			k.root = nobleIn
		}
		k.render = func(n int, at time.Time, _ *testarchive.Key) map[string][]byte {
			a := testarchive.New(7)
			a.AddSuite(s)
			a.AddPackage("noble", testarchive.Package{Name: "hello", Version: fmt.Sprint(n)})
			a.Publish(at)
			return a.Files()
		}
		forms["deb, "+name] = rootForm{k, s.Unsigned || s.Keys != nil}
	}
	for name, r := range map[string]rpmarchive.Repo{
		"a constant revision":     {Revision: "1"},
		"a revision in words":     {Revision: "spring"},
		"names without sums":      {PlainNames: true},
		"SHA-512":                 {Sum: "sha512"},
		"records without dates":   {Revision: "x", Records: []rpmarchive.Record{{Type: "primary", Ext: ".gz", Bare: true}}},
		"uncompressed":            {Records: []rpmarchive.Record{{Type: "primary"}}},
		"zchunk beside gzip":      {Records: []rpmarchive.Record{{Type: "primary", Ext: ".gz"}, {Type: "primary_zck", Ext: ".zck"}}},
		"a listed file is absent": {Records: []rpmarchive.Record{{Type: "primary", Ext: ".zst"}, {Type: "other_db", Text: "x", Absent: true}}},
	} {
		k := kinds[1]
		k.isIndex = func(path string) bool {
			return strings.Contains(path, "primary.xml") && !strings.HasSuffix(path, ".zck")
		}
		k.render = func(n int, at time.Time, _ *testarchive.Key) map[string][]byte {
			r.Date, r.Packages = at, []rpmarchive.Package{{Name: "hello", Version: fmt.Sprint(n)}}
			return r.Render("os/")
		}
		forms["rpm, "+name] = rootForm{k, true}
	}
	for name, r := range map[string]testrepo.Repo{
		"xz":               {Compression: "xz"},
		"zst":              {Compression: "zst"},
		"uncompressed":     {Compression: "none"},
		"flat":             {Flat: true},
		"depends apart":    {Depends: true},
		"with signatures":  {IncludeSigs: true, PackageKey: testarchive.DefaultKey()},
		"names with .tar.": {LongNames: true, Files: true},
	} {
		k := kinds[2]
		k.render = func(n int, at time.Time, _ *testarchive.Key) map[string][]byte {
			files := make(map[string][]byte)
			r.Dir, r.Name, r.Built = k.suite.Dir, "core", at
			r.Packages = []testrepo.Package{{Name: "hello", Version: fmt.Sprintf("%d-1", n)}}
			r.Render(files)
			return files
		}
		forms["pacman, "+name] = rootForm{k, true}
	}
	return forms
}

// Roots in odd forms are followed as well, and ordered alike on all nodes: also where upstream gives no
// Last-Modified, and over a restart.
func TestKindsOfRootsInACluster(t *testing.T) {
	for name, form := range rootForms() {
		inNamedBubble(t, name, func(t *testing.T) {
			key := testarchive.DefaultKey()
			if form.unsigned {
				key = nil
			}
			f := fleetOf(t, 3, form.kind, key)
			f.way = 6 * time.Second
			var shown publication
			publish := func(n int, dated bool) {
				shown = form.published(n, key)
				f.nodes[0].lay(shown)
				if !dated {
					f.a.Put(form.root, shown.files[form.root], time.Time{})
				}
			}
			publish(1, true)
			f.start()
			index := func() string { return cmp.Or(shown.index(), form.root) }
			for _, n := range f.nodes {
				n.must(form.root)
				n.use(index())
			}
			alike := func() {
				t.Helper()
				f.serve(shown)
				for _, n := range f.nodes {
					e := n.must(form.root)
					if first := f.nodes[0].must(form.root); !e.Generation.Equal(first.Generation) || !e.Modified.Equal(first.Modified) {
						t.Errorf("%s: of %v, modified %v; n1: %v, %v", n.name, e.Generation, e.Modified, first.Generation, first.Modified)
					}
					n.must(index())
				}
			}
			for i := range 4 {
				f.settled(5 * time.Minute)
				alike()
				publish(i+2, i <= 1)
			}
			if n := f.up.bodies(form.root); n > 4 && !form.unsigned || n > 4*3 {
				t.Errorf("%d generations were read %d times", 4, n)
			}
			f.nodes[2].stop()
			f.nodes[2].resume()
			f.settled(5 * time.Minute)
			alike()
		})
	}
}

// madeUp is what a hostile node tells of a root that it has made up.
func (f *fleet) madeUp(k kind) proto.Announcement {
	evil := k.published(66, nil).files[k.root]
	told := proto.Announcement{Checked: time.Now(), FirstHand: true, Generation: proto.Generation{
		Suite: k.suite, Statement: proto.DigestOf(evil), Date: time.Now(), RootName: strings.TrimPrefix(k.root, k.suite.Dir+"/"), Root: refOfBytes(evil), Modified: time.Now(),
	}}
	f.set(func() { f.foreign[told.Generation.Root.Digest] = evil })
	return told
}

// Of an archive without signatures a peer's word is not taken.
func TestUnsignedNeedsUpstream(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := newFleet(t, 4)
		for _, n := range f.nodes {
			n.serve(k, nil)
		}
		first := k.published(1, nil)
		n := f.nodes[1]
		n.lay(first)
		f.start()
		n.used(first)
		f.settled(5 * time.Minute)
		// They all look for themselves, but tell of it once.
		second := k.published(2, nil)
		n.lay(second)
		f.forget()
		for began := time.Now(); f.up.requests(k.root) < 4; time.Sleep(time.Second) {
			if time.Since(began) > 10*time.Minute {
				t.Fatalf("upstream was asked %d times by four nodes", f.up.requests(k.root))
			}
		}
		if messages := f.messages(); messages > 3 {
			t.Errorf("%d messages", messages)
		}
		time.Sleep(time.Minute)
		n.Receive("n9", f.madeUp(k))
		f.settled(5 * time.Minute)
		f.serve(second)
		if len(n.warnings()) != 1 {
			t.Errorf("%q", n.warnings())
		}
	})
}

// Where nodes prove to each other who they are, the leader's word does for an archive without
// signatures: upstream is asked once for all, and nobody else can bring a root.
func TestLeadersWordForUnsigned(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := newFleet(t, 4)
		for _, n := range f.nodes {
			n.serve(k, nil)
			n.cfg.LeaderVouches = true
		}
		first := k.published(1, nil)
		n := f.nodes[1]
		n.lay(first)
		f.start()
		for _, n := range f.nodes {
			n.used(first)
		}
		f.settled(5 * time.Minute)
		f.forget()
		second := k.published(2, nil)
		n.lay(second)
		f.settled(5 * time.Minute)
		if n := f.up.bodies(k.root); n != 1 {
			t.Errorf("upstream gave the new root %d times", n)
		}
		f.serve(second)
		n.Receive("n9", f.madeUp(k))
		f.settled(5 * time.Minute)
		f.serve(second)
	})
}

// A generation of a Release without Date that the node has gone on from is not played
// back to it.
func TestUndatedIsNotPlayedBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 2, testarchive.Suite{Name: "noble", NoDate: true, ByHash: true})
		f.publish()
		f.start()
		n := f.nodes[1]
		n.must(nobleIn)
		f.settled(time.Minute)
		old := n.Announcements()[0]
		f.upgrade("2")
		f.settled(2 * time.Minute)
		old.Generation.Date = time.Now()
		n.Receive("n9", old)
		f.settled(2 * time.Minute)
		f.agree()
		if len(n.warnings()) != 1 {
			t.Errorf("%q", n.warnings())
		}
	})
}

// An operator's going back holds on the node that he tells it to, whatever the others
// say; upstream's word ends it.
func TestAllowOlderInACluster(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 3, k)
		show := func(p publication) {
			f.shown = p
			f.nodes[0].lay(p)
		}
		one, first := f.shown, f.nodes[0].date()
		f.upgrade("2")
		f.settled(2 * time.Minute)
		two := f.shown
		show(one)
		back := f.nodes[2]
		f.set(func() {
			for _, n := range f.nodes {
				n.mayGoBack = true
			}
		})
		if changed, err := back.Refresh(t.Context(), k.suite, true); !changed || err != nil {
			t.Fatal(changed, err)
		}
		f.settled(time.Hour)
		back.stop()
		back.resume()
		f.settled(time.Hour)
		if got := back.date(); !got.Equal(first) {
			t.Errorf("it is brought forward again, to %v", got)
		}
		if got := f.nodes[0].date(); got.Equal(first) {
			t.Error("others went back, too")
		}
		for _, n := range f.nodes[:2] {
			if changed, err := n.Refresh(t.Context(), k.suite, true); !changed || err != nil {
				t.Fatal(changed, err)
			}
		}
		f.settled(5 * time.Minute)
		f.agree(f.index())
		f.forget()
		f.settled(time.Hour)
		if n := f.polls(); n > 68 {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		show(two) // it was meant after all
		f.settled(2 * time.Minute)
		f.agree(f.index())
		f.upgrade("3")
		f.settled(2 * time.Minute)
		f.agree(f.index())
	})
}

// A by-hash name is answered, whatever the node that is asked knows of it.
func TestByHashOfAnotherGeneration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 3)
		behind := f.nodes[2]
		f.set(func() { f.dead["n3"] = true })
		old := behind.file(noblePkgs)
		f.upgrade("2")
		f.settled(70 * time.Second)
		index := f.nodes[0].file(noblePkgs)
		path := aptmeta.ByHashPath(noblePkgs, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, index))
		f.set(func() { clear(f.dead) })
		fresh := f.add().start()
		unknown := aptmeta.ByHashPath("dists/none/main/binary-amd64/Packages.xz", aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, index))
		for _, n := range []*clusterNode{behind, fresh} {
			for _, p := range []string{path, unknown} {
				e, err := n.get(p)
				if err != nil || !e.Listed || e.Mutable || e.Object.Ref.Digest != proto.DigestOf(index) || e.Object.PeersOnly || e.Object.Where.IsZero() {
					t.Errorf("%s: %s: %+v, %v", n.name, p, e, err)
				}
			}
		}
		// Its plain name is of the generation held.
		behind.listedAs(noblePkgs, old)
		f.settled(time.Minute)
		f.agree(noblePkgs)
	})
}
