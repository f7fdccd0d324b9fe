package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// A package that is asked for right after its index waits until the index has
// been read: it is never unlisted.
func TestPackageRightAfterItsIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.setFault(func(context.Context, string) error { time.Sleep(3 * time.Second); return nil })
		w.must(noblePkgs)
		if _, ok := w.Resolve(w.loc(hello1)); ok {
			t.Fatal("the index cannot have been read yet")
		}
		start := time.Now()
		w.listedAs(hello1, w.file(hello1))
		if time.Since(start) != 3*time.Second {
			t.Errorf("it waited %v", time.Since(start))
		}
		if n := w.metric("aptmesh_catalog_unlisted_total"); n != 0 {
			t.Errorf("%v unlisted", n)
		}
		if n := w.up.bodies(noblePkgs) + w.parsed(); n > 2 {
			t.Errorf("the index was fetched and read %d times", n)
		}
	})
}

func TestSearchByComponentAndArchitecture(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Components: []string{"main", "universe"},
			Architectures: []string{"amd64", "arm64"}, Installer: "20230607"})
		add := func(p testarchive.Package) string { return w.a.AddPackage("noble", p) }
		deb := add(testarchive.Package{Name: "hello", Version: "1:1.0~rc1+b1"})
		arm := add(testarchive.Package{Name: "world", Version: "1", Component: "universe", Arch: "arm64"})
		all := add(testarchive.Package{Name: "doc", Version: "1", Arch: "all"})
		udeb := add(testarchive.Package{Name: "di", Version: "1", Udeb: true})
		dsc := add(testarchive.Package{Name: "src", Version: "1-1", Source: true})
		w.publish()
		w.open()
		w.must(nobleIn)
		var image string
		for path := range w.a.Files() {
			if strings.HasSuffix(path, "installer-amd64/20230607/images/netboot/mini.iso") {
				image = path
			}
		}
		for _, c := range []struct{ path, index string }{
			{deb, "main/binary-amd64/Packages.xz"},
			{arm, "universe/binary-arm64/Packages.xz"},
			{udeb, "main/debian-installer/binary-amd64/Packages.xz"},
			{dsc, "main/source/Sources.xz"},
			{image, "main/installer-amd64/20230607/images/SHA256SUMS"},
		} {
			before := len(w.Stats()[0].Staged)
			// SHA256SUMS lists no sizes.
			if e := w.must(c.path); e.Object.Ref.Digest != proto.DigestOf(w.file(c.path)) || e.Object.Ref.Size < 0 && c.path != image {
				t.Errorf("%s: %+v", c.path, e.Object)
			}
			staged := w.Stats()[0].Staged
			if len(staged) != before+1 || !strings.Contains(strings.Join(staged, " "), c.index) {
				t.Errorf("%s: staged %v, want %s beside the %d before", c.path, staged, c.index, before)
			}
		}
		w.listedAs(all, w.file(all))
		w.listedAs(strings.TrimSuffix(dsc, ".dsc")+".debian.tar.xz", w.file(strings.TrimSuffix(dsc, ".dsc")+".debian.tar.xz"))
		read := w.parsed()
		e, err := w.get("pool/main/n/none/none_1_amd64.deb")
		if err != nil || e.Listed || !e.Mutable || e.Object.Provable() || e.Object.Ref.Size != proto.UnknownSize {
			t.Errorf("a package that nobody lists: %+v, %v", e, err)
		}
		if w.parsed() != read {
			t.Errorf("%d indices were read again", w.parsed()-read)
		}
		if n := w.metric("aptmesh_catalog_unlisted_total"); n != 1 {
			t.Errorf("%v unlisted", n)
		}
	})
}

// What the configuration names is known before the first request, or while the
// first check runs.
func TestFreshNodeListsPackages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}}
		w.publish()
		w.up.setFault(func(context.Context, string) error { time.Sleep(time.Second); return nil })
		w.open()
		w.listedAs(hello1, w.file(hello1)) // the very first request
	})
	inBubble(t, func(t *testing.T) { // after upstream was down at the start
		w := nobleWorld(t)
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}}
		w.publish()
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w.open()
		w.rest()
		w.up.setFault(nil)
		time.Sleep(1500 * time.Millisecond)
		w.must(hello1)
	})
	inBubble(t, func(t *testing.T) { // an index, before the InRelease
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.listedAs(noblePkgs, w.file(noblePkgs))
		w.must(hello1)
	})
	inBubble(t, func(t *testing.T) { // a by-hash name: it proves itself, and brings its suite
		w := nobleWorld(t)
		w.publish()
		w.open()
		path := aptmeta.ByHashPath(noblePkgs, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, w.file(noblePkgs)))
		w.up.setFault(func(ctx context.Context, path string) error {
			time.Sleep(10 * time.Second)
			return nil
		})
		start := time.Now()
		e := w.must(path)
		if e.Object.Ref.Digest != proto.DigestOf(w.file(noblePkgs)) || e.Mutable || time.Since(start) > 0 {
			t.Errorf("%+v after %v", e, time.Since(start))
		}
		before := runtime.NumGoroutine()
		for range 100 {
			w.must(path)
		}
		if n := runtime.NumGoroutine() - before; n > 20 {
			t.Errorf("%d goroutines look for the same suite", n)
		}
		w.up.setFault(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.rest()
		if _, ok := w.Resolve(w.loc(hello1)); !ok {
			t.Error("its packages are not known")
		}
		if n := w.up.requests(nobleIn); n != 1 {
			t.Errorf("the suite was looked for %d times", n)
		}
	})
}

func TestPatches(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", PDiffs: true})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		time.Sleep(time.Hour)
		w.upgrade()
		w.up.base = "http://site.example.org/x"
		w.open()
		w.must(nobleIn)
		patches := 0
		for path, data := range w.a.Files() {
			if strings.HasPrefix(path, "dists/noble/main/binary-amd64/Packages.diff/") && strings.HasSuffix(path, ".gz") {
				// apt asks the site that the root came from for patches as well, and not for packages.
				if e := w.listedAs(path, data); e.Mutable || e.Object.Base != w.up.base {
					t.Errorf("%s: mutable %v, base %q", path, e.Mutable, e.Object.Base)
				}
				patches++
			}
		}
		if patches == 0 {
			t.Fatal("the archive has no patches")
		}
		staged := w.Stats()[0].Staged
		if e := w.must(hello2); e.Object.Base != "" {
			t.Errorf("a package is asked for at %q", e.Object.Base)
		}
		if len(staged) != 1 || staged[0] != "main/binary-amd64/Packages.diff/Index" {
			t.Errorf("staged %v", staged)
		}
	})
}

func TestLayouts(t *testing.T) {
	for name, s := range map[string]testarchive.Suite{
		"flat":                    {Name: "stable", Flat: true},
		"flat, names from root":   {Name: "stable", Flat: true, FlatFromRoot: true},
		"flat, deep":              {Name: "x/y/z", Flat: true, ByHash: true},
		"flat in the root":        {Name: "", Flat: true},
		"slash in the name":       {Name: "bookworm/updates", ByHash: true},
		"prefixed components":     {Name: "wheezy/updates", ComponentPrefix: "updates/"},
		"SHA-512 only":            {Name: "noble", ByHash: true, Hashes: []string{testarchive.SHA512}},
		"SHA-512 only, canonical": {Name: "noble", Hashes: []string{testarchive.SHA512}},
		"plain indices":           {Name: "noble", Compressions: []string{""}},
		"zstd":                    {Name: "noble", Compressions: []string{".zst"}},
		"no plain form listed":    {Name: "noble", OmitPlain: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t, s)
				deb := w.a.AddPackage(s.Name, testarchive.Package{Name: "hello", Version: "1"})
				dsc := w.a.AddPackage(s.Name, testarchive.Package{Name: "hello", Version: "1", Source: true})
				w.publish()
				w.open()
				w.must(s.At("InRelease"))
				sameFile := func(path string) {
					t.Helper()
					e := w.must(path)
					if f := w.file(path); e.Object.Ref.Digest != proto.DigestOf(f) && e.Object.SHA512 != sha512Of(f) || e.Object.Ref.Size != int64(len(f)) {
						t.Errorf("%s: %+v", path, e.Object)
					}
				}
				sameFile(deb)
				sameFile(dsc)
				time.Sleep(time.Minute)
				w.a.AddPackage(s.Name, testarchive.Package{Name: "hello", Version: "2"})
				deb2 := strings.Replace(deb, "_1_", "_2_", 1)
				w.publish()
				time.Sleep(2 * time.Minute)
				sameFile(deb2)
				w = w.crash()
				w.up.failing("", &proto.Unavailable{Reason: "down"})
				sameFile(deb2)
			})
		})
	}
}

// The archive of a PPA begins below "dists/".
func TestPrefixedArchive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.up.prefix = "owner/name/ubuntu/"
		w.open()
		if e := w.must("owner/name/ubuntu/" + nobleIn); e.Object.Ref != refOfBytes(w.file(nobleIn)) {
			t.Errorf("%+v", e)
		}
		if e := w.must("owner/name/ubuntu/" + hello1); e.Object.Ref != refOfBytes(w.file(hello1)) {
			t.Errorf("%+v", e)
		}
		if e, err := w.get("owner/other/ubuntu/" + hello1); err != nil || e.Listed {
			t.Errorf("the package of another owner is listed: %+v, %v", e, err)
		}
	})
}

// A mirror that lacks what its Release lists blocks nobody, and is not asked for
// it again and again.
func TestPartialMirror(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, ListedArchitectures: []string{"s390x"}, ListedComponents: []string{"universe"}})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		w.must(nobleIn)
		w.must(hello1)
		lacking := []string{"pool/universe/w/world/world_1_amd64.deb", "pool/main/h/hello/hello_1_s390x.deb"}
		for _, path := range lacking {
			if e, err := w.get(path); err != nil || e.Listed {
				t.Fatalf("%s: %+v, %v", path, e, err)
			}
		}
		asked := w.up.total()
		for range 30 {
			time.Sleep(time.Second)
			for _, path := range lacking {
				w.get(path)
			}
		}
		checks := 2
		if n := w.up.total() - asked; n > checks {
			t.Errorf("%d more requests upstream in half a minute", n)
		}
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "2"})
		w.publish()
		w.switches()
		w.must(hello2)
	})
}

// A search that upstream's trouble has spoilt is tried again soon.
func TestSearchHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.failing("", &proto.Unavailable{Reason: "reset"})
		if e, err := w.get(hello1); err != nil || e.Listed {
			t.Fatalf("%+v, %v", e, err)
		}
		asked := w.up.total()
		for range 20 {
			w.get(hello1)
		}
		if n := w.up.total() - asked; n > 0 {
			t.Errorf("%d requests more at once", n)
		}
		w.up.setFault(nil)
		w.use(noblePkgs) // a client that asks for the index itself is not kept from it
		w.must(hello1)
	})
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.failing("", &proto.Unavailable{Reason: "reset"})
		w.get(hello1)
		w.up.setFault(nil)
		time.Sleep(troubledFor)
		w.must(hello1)
	})
}

// One name that nothing lists is no reason to read all that an archive of very many components lists, much less at once.
func TestSearchAmongVeryManyIndexes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		listed := make([]string, 3000)
		for i := range listed {
			listed[i] = fmt.Sprintf("comp%d", i)
		}
		w := newWorld(t, testarchive.Suite{Name: "noble", ListedComponents: listed})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.cfg.Logger = slog.New(slog.DiscardHandler)
		w.open()
		w.must(nobleIn)
		var atOnce, most atomic.Int64
		w.up.setFault(func(context.Context, string) error {
			n := atOnce.Add(1)
			defer atOnce.Add(-1)
			if n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Millisecond)
			return nil
		})
		before := w.up.total()
		if e, err := w.get("pool/none_1_amd64.deb"); err != nil || e.Listed {
			t.Errorf("%+v, %v", e, err)
		}
		w.rest()
		if n := w.up.total() - before; n > 2*maxSearched || most.Load() > searchParallel {
			t.Errorf("upstream was asked %d times, %d at once", n, most.Load())
		}
		before = w.up.total()
		w.get("pool/none_1_amd64.deb")
		w.rest()
		if n := w.up.total() - before; n > 0 {
			t.Errorf("again upstream was asked %d times", n)
		}
	})
}

// A search ends in time. While the index that would list a file is on its way, nothing is given out as
// unlisted; once it cannot be had, what needs it is passed on as it is.
func TestSearchIsBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		end    error // of what upstream does in the end
		listed bool
	}{
		"the index comes":         {nil, true},
		"the index cannot be had": {&proto.Unavailable{Reason: "it broke off"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := nobleWorld(t)
				w.publish()
				w.open()
				w.must(nobleIn)
				w.up.setFault(func(ctx context.Context, path string) error {
					if strings.Contains(path, "Packages") || strings.Contains(path, "by-hash") {
						time.Sleep(30 * time.Second)
						return tt.end
					}
					return nil
				})
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := w.Discover(ctx, w.loc(hello1), false); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
					t.Errorf("a client that leaves: %v after %v", err, time.Since(start))
				}
				start = time.Now()
				var unavailable *proto.Unavailable
				if e, err := w.get(hello1); !errors.As(err, &unavailable) || unavailable.Cause != proto.CauseUnread || time.Since(start) != w.cfg.withDefaults().FindWait {
					t.Errorf("%+v, %v after %v", e, err, time.Since(start))
				}
				for range 8 { // an archive has an index in several compressions
					e, err := w.get(hello1)
					if err == nil {
						if e.Listed != tt.listed {
							t.Errorf("listed: %v", e.Listed)
						}
						return
					}
					if !errors.As(err, &unavailable) || unavailable.Cause != proto.CauseUnread {
						t.Errorf("%v", err)
					}
				}
				t.Error("it stays so")
			})
		})
	}
}

// Guesses for files that lie anywhere leave nothing behind and do not ask twice.
func TestGuessesAreRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		for range 3 {
			if e, err := w.get("tools/x_1_amd64.deb"); err != nil || e.Listed {
				t.Fatalf("%+v, %v", e, err)
			}
			time.Sleep(2 * time.Second)
		}
		if n := w.up.requests("tools/InRelease"); n != 1 {
			t.Errorf("asked %d times for a suite that does not exist", n)
		}
		if names := w.suiteNames(); len(names) != 0 {
			t.Errorf("left behind: %v", names)
		}
	})
}
