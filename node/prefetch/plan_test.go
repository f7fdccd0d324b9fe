package prefetch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// one makes fetches come in the order of the plan.
func one(c *Config) { c.Parallel = 1 }

// planned lets a switch of one index run, and returns what was fetched, in order, as
// "name version arch".
func planned(t *testing.T, w *world, text string, isNew func(string) bool, used ...string) []string {
	t.Helper()
	p := w.prefetcher(one)
	for _, path := range used {
		p.Used(loc(path))
	}
	p.Switched(w.switched(text, isNew))
	settled(t, p)
	return names(w.order())
}

func names(paths []string) []string {
	var all []string
	for _, path := range paths {
		name := path[strings.LastIndexByte(path, '/')+1:]
		all = append(all, strings.ReplaceAll(strings.TrimSuffix(name, ".deb"), "_", " "))
	}
	return all
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		old        []string // paths that are not new
		used       []string
		want       []string
	}{
		{"nothing is used", stanza("a", "2", "amd64", "", 1), nil, nil, nil},
		{"used on another architecture", stanza("a", "2", "amd64", "", 1), nil, []string{pool("a", "1", "arm64")}, nil},
		{"used, but not new", stanza("a", "2", "amd64", "", 1), []string{pool("a", "2", "amd64")}, []string{pool("a", "2", "amd64")}, nil},
		{"an epoch", stanza("a", "1:2", "amd64", "", 1), nil, []string{pool("a", "1:1", "amd64")}, []string{"a 1%3a2 amd64"}},
		{"what is not new is not looked behind", stanza("a", "2", "amd64", "b", 1) + stanza("b", "1", "amd64", "c", 1) + stanza("c", "1", "amd64", "", 1),
			[]string{pool("b", "1", "amd64")}, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64"}},
		{"the first alternative that there is", stanza("a", "2", "amd64", "x | y | z", 1) + stanza("y", "1", "amd64", "", 1) + stanza("z", "1", "amd64", "", 1),
			nil, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64", "y 1 amd64"}},
		{"an alternative that there is and is not new", stanza("a", "2", "amd64", "x | z", 1) + stanza("x", "1", "amd64", "", 1) + stanza("z", "1", "amd64", "", 1),
			[]string{pool("x", "1", "amd64")}, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64"}},
		{"one listed after what depends on it, in order of the fields", stanza("a", "2", "amd64", "c", 1) + "Package: b\nVersion: 2\n" + stanza("b", "2", "amd64", "d\nPre-Depends: c", 1) + stanza("d", "1", "amd64", "", 1) + stanza("c", "1", "amd64", "", 1),
			nil, []string{pool("b", "1", "amd64")}, []string{"b 2 amd64", "c 1 amd64", "d 1 amd64"}},
		{"a circle", stanza("a", "2", "amd64", "b", 1) + stanza("b", "1", "amd64", "a, b", 1), nil, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64", "b 1 amd64"}},
		{"of its own architecture or all", stanza("a", "2", "arm64", "b, c", 1) + stanza("b", "1", "amd64", "", 1) + stanza("b", "1", "arm64", "", 1) + stanza("c", "1", "all", "", 1),
			nil, []string{pool("a", "1", "arm64")}, []string{"a 2 arm64", "b 1 arm64", "c 1 all"}},
		{"of an architecture that is named", stanza("a", "2", "amd64", "b:i386, c:any", 1) + stanza("b", "1", "amd64", "", 1) + stanza("b", "1", "i386", "d", 1) + stanza("c", "1", "amd64", "", 1) +
			stanza("d", "1", "i386", "", 1) + stanza("d", "1", "amd64", "", 1),
			nil, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64", "b 1 i386", "c 1 amd64", "d 1 i386"}},
		{"for all, on hosts of the index", stanza("a", "2", "all", "b", 1) + stanza("b", "1", "arm64", "", 1) + stanza("b", "1", "amd64", "", 1),
			nil, []string{pool("a", "1", "all")}, []string{"a 2 all", "b 1 amd64"}},
		{"the newest version that will do", stanza("a", "2", "amd64", "b (<< 1.11)", 1) + stanza("b", "1.9", "amd64", "", 1) + stanza("b", "1.10", "amd64", "", 1) + stanza("b", "1.11", "amd64", "", 1),
			nil, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64", "b 1.10 amd64"}},
		{"no version that will do", stanza("a", "2", "amd64", "b (>= 2) | c", 1) + stanza("b", "1.9", "amd64", "", 1) + stanza("c", "1", "amd64", "", 1),
			nil, []string{pool("a", "1", "amd64")}, []string{"a 2 amd64"}},
		{"nothing that cannot be proven, or has no size", strings.Replace(stanza("a", "2", "amd64", "", 1), "SHA256", "SHA1", 1) + strings.Replace(stanza("b", "2", "amd64", "", 1), "Size", "Bytes", 1) + stanza("c", "2", "amd64", "", 1),
			nil, []string{pool("a", "1", "amd64"), pool("b", "1", "amd64"), pool("c", "1", "amd64")}, []string{"c 2 amd64"}},
		{"what the store has already", stanza("held", "2", "amd64", "b", 1) + stanza("b", "1", "amd64", "", 1), nil, []string{pool("held", "1", "amd64")}, []string{"b 1 amd64"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.held[proto.DigestOf([]byte(pool("held", "2", "amd64")))] = true
				if got := planned(t, w, tt.text, func(path string) bool { return !slices.Contains(tt.old, path) }, tt.used...); !slices.Equal(got, tt.want) {
					t.Errorf("fetched %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestFlat reads the index of a flat repository: paths have a base, and no directory
// tells the architecture.
func TestFlat(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		suite := proto.Suite{Archive: "ubuntu", Dir: "tools"}
		text := stanza("a", "2", "all", "b, c", 1) + stanza("b", "1", "arm64", "", 1) + stanza("c", "1", "all", "", 1)
		index := w.index("Packages", text)
		p := w.prefetcher(one)
		p.Used(loc("tools/" + pool("a", "1", "all")))
		p.Switched(proto.Switch{Suite: suite, Indexes: []proto.PackageIndex{index}, New: func(path string) bool { return strings.HasPrefix(path, "tools/pool/") }})
		settled(t, p)
		if got := w.order(); !slices.Equal(got, []string{"tools/" + pool("a", "2", "all"), "tools/" + pool("b", "1", "arm64"), "tools/" + pool("c", "1", "all")}) {
			t.Errorf("fetched %q", got)
		}
		// The same package beside the base is another one.
		p.Used(loc(pool("b", "1", "arm64")))
		if p.usage.len() != 2 {
			t.Errorf("%d packages known", p.usage.len())
		}
	})
	inBubble(t, func(t *testing.T, w *world) { // an index whose files may lie in two places
		index := w.index("Packages", stanza("a", "2", "amd64", "b", 1)+stanza("b", "1", "amd64", "", 1))
		p := w.prefetcher(one)
		p.Used(loc(pool("a", "1", "amd64")))
		p.Switched(proto.Switch{Suite: proto.Suite{Archive: "ubuntu", Dir: "tools"}, Indexes: []proto.PackageIndex{index}, New: all})
		settled(t, p)
		if got := w.order(); !slices.Equal(got, []string{pool("a", "2", "amd64"), pool("b", "1", "amd64")}) {
			t.Errorf("fetched %q", got)
		}
		p.Switched(proto.Switch{Suite: proto.Suite{Archive: "ubuntu", Dir: "tools"}}) // nothing is new
		if s := settled(t, p); len(s.Switches) != 1 {
			t.Errorf("%+v", s.Switches)
		}
	})
	inBubble(t, func(t *testing.T, w *world) { // nothing but packages for all
		p := w.prefetcher(one)
		p.Used(loc(pool("a", "1", "all")))
		p.Switched(proto.Switch{Suite: updates, Indexes: []proto.PackageIndex{w.index("Packages", stanza("a", "2", "all", "b", 1)+stanza("b", "1", "all", "", 1))}, New: all})
		settled(t, p)
		if got := names(w.order()); !slices.Equal(got, []string{"a 2 all", "b 1 all"}) {
			t.Errorf("fetched %q", got)
		}
	})
}

// TestMostUsedFirst, and what was used too long ago not at all.
func TestMostUsedFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var text string
		for _, name := range []string{"once", "often", "lately", "long-ago", "before"} {
			text += stanza(name, "2", "amd64", "", 1)
		}
		p := w.prefetcher(one, func(c *Config) { c.UsedWithin = 3 * 24 * time.Hour })
		use := func(name string, times int) {
			for range times {
				p.Used(loc(pool(name, "1", "amd64")))
				time.Sleep(slotLength)
			}
		}
		use("long-ago", 500)
		time.Sleep(40 * time.Hour)
		use("before", 2)
		time.Sleep(32 * time.Hour)
		use("often", 5)
		use("lately", 2)
		use("once", 1)
		p.Switched(w.switched(text, all))
		settled(t, p)
		if got := names(w.order()); !slices.Equal(got, []string{"often 2 amd64", "lately 2 amd64", "before 2 amd64", "once 2 amd64"}) {
			t.Errorf("fetched %q", got)
		}
	})
}

// TestBudget is kept to the byte; what the store has costs none of it, and what is too
// big leaves it to what is smaller.
func TestBudget(t *testing.T) {
	text := stanza("a", "2", "amd64", "", 10) + stanza("b", "2", "amd64", "", 10) + stanza("c", "2", "amd64", "", 5)
	for limit, want := range map[int64][]string{
		4: nil, 9: {"c 2 amd64"}, 10: {"a 2 amd64"}, 15: {"a 2 amd64", "c 2 amd64"}, 19: {"a 2 amd64", "c 2 amd64"},
		20: {"a 2 amd64", "b 2 amd64"}, 24: {"a 2 amd64", "b 2 amd64"}, 25: {"a 2 amd64", "b 2 amd64", "c 2 amd64"},
	} {
		for _, held := range []bool{false, true} {
			inBubble(t, func(t *testing.T, w *world) {
				text := text
				if held {
					text += stanza("Held", "2", "amd64", "", 10) // sorts before the others
					w.held[proto.DigestOf([]byte(pool("Held", "2", "amd64")))] = true
				}
				p := w.prefetcher(one, func(c *Config) { c.MaxBytes = limit })
				for _, name := range []string{"a", "b", "c", "Held"} {
					p.Used(loc(pool(name, "1", "amd64")))
				}
				p.Switched(w.switched(text, all))
				s := settled(t, p)
				if got := names(w.order()); !slices.Equal(got, want) || s.Objects[Over] != int64(3-len(want)) || s.Objects[Stored] > 0 != held {
					t.Errorf("limit %d, held %v: fetched %q, %v", limit, held, got, s.Objects)
				}
			})
		}
	}
}

// TestNeverOverBudget: whatever is published and used, no switch fetches more than it
// may, nothing is fetched twice, and each object fetched is new and either used or
// depended on. What is left out is named.
func TestNeverOverBudget(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4, 5, rand.Uint64()} {
		rng := rand.New(rand.NewPCG(seed, 0))
		inBubble(t, func(t *testing.T, w *world) {
			t.Logf("seed %d", seed)
			limit := int64(rng.IntN(200_000) + 1)
			p := w.prefetcher(func(c *Config) { c.MaxBytes, c.Parallel = limit, 1+rng.IntN(8) })
			for round := range 10 {
				w.mu.Lock()
				w.fetched, w.opened = 0, nil
				w.mu.Unlock()
				var text strings.Builder
				sizes := map[string]int64{}
				fresh := map[string]bool{}
				for i := range 200 {
					name := fmt.Sprint("p", i)
					var deps []string
					for range rng.IntN(4) {
						deps = append(deps, fmt.Sprintf("p%d | p%d", rng.IntN(210), rng.IntN(210)))
					}
					size := rng.Int64N(20_000)
					version := fmt.Sprint(round)
					path := pool(name, version, "amd64")
					text.WriteString(stanza(name, version, "amd64", strings.Join(deps, ", "), size))
					sizes[path], fresh[path] = size, rng.IntN(2) == 0
					if rng.IntN(20) == 0 {
						p.Used(loc(pool(name, "0", "amd64")))
					}
				}
				p.Switched(w.switched(text.String(), func(path string) bool { return fresh[path] }))
				s := settled(t, p)
				last := s.Switches[len(s.Switches)-1]
				var listed int64
				opened := w.order()
				for _, path := range opened {
					listed += sizes[path]
					if !fresh[path] {
						t.Fatalf("%s is not new", path)
					}
				}
				if w.fetched > limit || listed > limit || last.Planned > limit || last.Bytes != w.fetched {
					t.Fatalf("limit %d: fetched %d (told: %d), listed %d, planned %d", limit, w.fetched, last.Bytes, listed, last.Planned)
				}
				if sorted := slices.Sorted(slices.Values(opened)); len(slices.Compact(sorted)) != len(opened) {
					t.Fatalf("an object was fetched twice: %q", opened)
				}
				over := 0
				for path := range sizes {
					if strings.HasPrefix(p.Why(loc(path)), "Not fetched ahead: over prefetch.max_bytes") {
						over++
						// Each that was left out did not fit beside what was planned before it.
						if listed+sizes[path] <= limit {
							t.Fatalf("%s, of %d bytes, was left out with %d of %d planned", path, sizes[path], listed, limit)
						}
					}
				}
				if over != last.Objects[Over] {
					t.Fatalf("%d over the limit, told of %d", over, last.Objects[Over])
				}
			}
			if w.running != 0 {
				t.Errorf("%d bodies were not closed", w.running)
			}
		})
	}
}

// TestPublished plans from what testarchive publishes: real indices of two
// components, in two generations.
func TestPublished(t *testing.T) {
	a := testarchive.New(4)
	a.AddSuite(testarchive.Suite{Name: "noble", Components: []string{"main", "universe"}, Architectures: []string{"amd64", "arm64"}})
	day := time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)
	for _, p := range []testarchive.Package{
		{Name: "hello", Version: "2.10-3"}, {Name: "tool", Version: "1:1.0-1", Component: "universe", Depends: "libtool9 (= 1:1.0-1)"},
		{Name: "libtool9", Version: "1:1.0-1"}, {Name: "other", Version: "1"}, {Name: "docs", Version: "1", Arch: "all"},
	} {
		a.AddPackage("noble", p)
	}
	a.Publish(day)
	before := a.Files()
	for _, p := range []testarchive.Package{
		{Name: "tool", Version: "1:1.1-1", Component: "universe", Depends: "libtool10 (= 1:1.1-1), libtool9"},
		{Name: "libtool10", Version: "1:1.1-1", Depends: "tool-data"}, {Name: "tool-data", Version: "1.1", Arch: "all", Component: "universe"},
		{Name: "libtool10", Version: "1:1.1-1", Arch: "arm64"},
		{Name: "other", Version: "2"}, {Name: "docs", Version: "2", Arch: "all"},
	} {
		a.AddPackage("noble", p)
	}
	a.Publish(day.Add(24 * time.Hour))

	inBubble(t, func(t *testing.T, w *world) {
		isNew := func(path string) bool { _, old := before[path]; return !old }
		f := proto.Switch{Suite: proto.Suite{Archive: "ubuntu", Dir: "dists/noble"}, Date: day.Add(24 * time.Hour), New: isNew}
		for _, path := range []string{"main/binary-amd64/Packages.gz", "universe/binary-amd64/Packages.xz", "main/binary-arm64/Packages.xz"} {
			file, ok := a.Lookup("dists/noble/" + path)
			if !ok {
				t.Fatal(path)
			}
			f.Indexes = append(f.Indexes, w.rawIndex("dists/noble/"+path, file.Data))
		}
		p := w.prefetcher(one)
		used := 0
		for path := range before {
			if strings.Contains(path, "/tool_") || strings.Contains(path, "/docs_") || strings.Contains(path, "/hello_") {
				p.Used(loc(path))
				used++
			}
		}
		if used != 3 || p.usage.len() != 3 {
			t.Fatalf("%d files used, %d packages known: %q", used, p.usage.len(), slices.Sorted(maps.Keys(before)))
		}
		p.Switched(f)
		s := settled(t, p)
		got := names(w.order())
		if !slices.Equal(got, []string{"docs 2 all", "tool 1.1-1 amd64", "libtool10 1.1-1 amd64", "tool-data 1.1 all"}) {
			t.Errorf("fetched %q", got)
		}
		var size int64
		for _, path := range w.order() {
			file, ok := a.Lookup(path)
			if !ok {
				t.Errorf("%s is not in the archive", path)
			}
			size += int64(len(file.Data))
		}
		if s.Bytes != size {
			t.Errorf("%d bytes, want %d", s.Bytes, size)
		}
	})
}
