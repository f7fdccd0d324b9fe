package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// manySuites is a world with n suites, s0 and so on, that requests make known.
func manySuites(t *testing.T, n int) *world {
	t.Helper()
	var suites []testarchive.Suite
	for i := range n {
		suites = append(suites, testarchive.Suite{Name: fmt.Sprintf("s%d", i), ByHash: true})
	}
	w := newWorld(t, suites...)
	for i := range n {
		w.a.AddPackage(fmt.Sprintf("s%d", i), testarchive.Package{Name: "hello", Version: "1"})
	}
	w.publish()
	return w
}

func rootOf(i int) string { return fmt.Sprintf("dists/s%d/InRelease", i) }

// Suites that requests have made known are bounded: beyond the bound, the one that nobody has asked for the longest goes,
// with its pins and its polls. Suites of the configuration stay.
func TestSuitesFoundByRequestsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := manySuites(t, 12)
		w.cfg.MaxSuites = 3
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/s0"}}
		w.open()
		w.rest()
		for i := 1; i < 12; i++ {
			w.must(rootOf(i))
			w.use(fmt.Sprintf("dists/s%d/main/binary-amd64/Packages.xz", i))
			time.Sleep(2 * time.Second)
			w.must(rootOf(1)) // somebody goes on asking for this one
			time.Sleep(2 * time.Second)
			if n := len(w.suiteNames()); n > 3+2 {
				t.Fatalf("%d suites after %d", n, i)
			}
		}
		time.Sleep(time.Minute)
		names := strings.Join(w.suiteNames(), " ")
		if len(w.suiteNames()) > 3+1+1 || !strings.Contains(names, "dists/s0") || !strings.Contains(names, "dists/s1 ") && !strings.HasSuffix(names, "dists/s1") || !strings.Contains(names, "dists/s11") {
			t.Errorf("left are %s", names)
		}
		if n := w.keeper.pinnedBy("a/dists/s5"); n != 0 {
			t.Errorf("a suite that was forgotten has %d blobs pinned", n)
		}
		w.up.reset()
		time.Sleep(10 * time.Minute)
		for i := range 12 {
			known := w.Knows(proto.Suite{Archive: "a", Dir: fmt.Sprintf("dists/s%d", i)})
			if n := w.up.requests(rootOf(i)); (n > 0) != known {
				t.Errorf("s%d: known %v, polled %d times", i, known, n)
			}
		}
		w.must(rootOf(5)) // and it is back when somebody asks
	})
}

// A suite that nobody asks for is watched no more after a while, and forgotten in the end; what it was, except for how new
// it was: an older root is refused then as before, also after a restart.
func TestSuitesAgeAndAreForgotten(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inNamedBubble(t, fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			w := nobleWorld(t)
			w.publish()
			w.open()
			w.must(nobleIn)
			w.use(noblePkgs)
			time.Sleep(time.Minute)
			w.upgrade()
			w.switches()
			newest := w.file(nobleIn)

			time.Sleep(w.cfg.withDefaults().IdleAfter + 10*time.Minute)
			w.up.reset()
			time.Sleep(24 * time.Hour)
			if n := w.up.requests(nobleIn); n != 0 {
				t.Errorf("a suite that nobody asks for was polled %d times in a day", n)
			}
			w.listedAs(nobleIn, newest)
			time.Sleep(w.cfg.withDefaults().UseFor + time.Hour)
			if names := w.suiteNames(); len(names) != 0 {
				t.Fatalf("still known: %v", names)
			}
			if len(w.keeper.pins) != 0 {
				t.Errorf("still pinned: %v", w.keeper.pins)
			}
			w.keeper.evict()
			if restart {
				w = w.crash()
			}
			w.a.Show("noble", testarchive.At(0))
			if e, err := w.get(nobleIn); err == nil {
				t.Errorf("an older root is served: of %v", e.Generation)
			} else if !strings.Contains(err.Error(), "older than ours") {
				t.Errorf("%v", err)
			}
			w.a.Show("noble", testarchive.At(1))
			time.Sleep(2 * time.Second)
			w.listedAs(nobleIn, newest)
			w.use(noblePkgs)
			w.must(hello2)
		})
	}
}

// Nothing is forgotten because upstream is silent: what a node holds may be the last copy.
func TestSilenceOfUpstreamForgetsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		time.Sleep(3 * time.Minute)
		time.Sleep(w.cfg.withDefaults().UseFor + 24*time.Hour)
		w.listedAs(nobleIn, w.file(nobleIn))
		w.must(hello1)
	})
}

// One odd name has the index read that would list it, once, and no more: that is no demand, on no node, and no generation
// waits for it.
func TestSearchIsNoDemand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3, testarchive.Suite{Name: "noble", ByHash: true, Components: []string{"main", "universe"}, Architectures: []string{"amd64", "s390x", "riscv64"}})
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.must(nobleIn)
			n.use(noblePkgs)
		}
		f.settled(5 * time.Minute)
		f.forget()
		s390x := func() (bodies int) {
			for path, n := range f.up.bodiesByPath() {
				if strings.Contains(path, "s390x") || strings.Contains(path, "riscv64") {
					bodies += n
				}
			}
			return bodies
		}
		for _, name := range []string{"pool/main/x/x/x_1_s390x.deb", "pool/universe/x/x/x_1_riscv64.deb"} {
			if e, err := f.nodes[1].get(name); err != nil || e.Listed {
				t.Errorf("%s: %+v, %v", name, e, err)
			}
		}
		f.settled(5 * time.Minute)
		before := 0
		for _, n := range f.nodes {
			if staged := n.Stats()[0].Staged; n != f.nodes[1] && len(staged) != 1 {
				t.Errorf("%s has read %v", n.name, staged)
			}
			if slots := n.Announcements()[0].Slots; len(slots) != 1 {
				t.Errorf("%s announces as used: %v", n.name, slots)
			}
		}
		if before = s390x(); before > 2 {
			t.Errorf("%d indexes were read", before)
		}
		// The next generation does not have them at all, and waits for nothing.
		f.up.failing("s390x", &proto.Unavailable{Reason: "down"})
		f.upgrade("2")
		f.settled(70 * time.Second)
		f.agree(noblePkgs)
		if after := s390x(); after != before {
			t.Errorf("%d more of them were read for the next generation", after-before)
		}
		f.up.setFault(nil)
	})
}

// Made-up suites, however slow upstream is about them, hold up nobody else: a package of a suite that is known is looked
// for at once.
func TestMadeUpSuitesDelayNoSearch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.setFault(func(ctx context.Context, path string) error {
			if strings.HasPrefix(path, "dists/x") {
				select {
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
				}
				return fmt.Errorf("%s: %w", path, proto.ErrNotFound)
			}
			return nil
		})
		stop := make(chan bool)
		for i := range 4 {
			go func() {
				for k := 0; ; k++ {
					select {
					case <-stop:
						return
					default:
						w.get(fmt.Sprintf("dists/x%d-%d/InRelease", i, k))
					}
				}
			}()
		}
		time.Sleep(7 * time.Second)
		start := time.Now()
		if e, err := w.get(hello1); err != nil || !e.Listed || time.Since(start) > 2*time.Second {
			t.Errorf("%+v, %v after %v", e, err, time.Since(start))
		}
		start = time.Now()
		if e, err := w.get("pool/main/n/nobody/nobody_1_amd64.deb"); err != nil || e.Listed || time.Since(start) > 2*time.Second {
			t.Errorf("%+v, %v after %v", e, err, time.Since(start))
		}
		close(stop)
		time.Sleep(20 * time.Second)
		if names := w.suiteNames(); len(names) != 1 {
			t.Errorf("left behind: %v", names)
		}
	})
}

// A suite that upstream has removed is served as it is, and marked: on the node that asks upstream and on the others. It
// comes back as if nothing had been, also with something new.
func TestRemovedSuite(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inNamedBubble(t, fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			f := usedFleet(t, 3)
			current := f.nodes[0].file(nobleIn)
			gone := []string{nobleIn, nobleRelease, nobleGPG}
			for _, path := range gone {
				f.a.Delete(path)
			}
			f.settled(10 * time.Minute)
			if restart {
				for _, n := range f.nodes {
					n.kill()
					n.resume()
				}
				f.settled(5 * time.Minute)
			}
			for _, n := range f.nodes {
				e, err := n.get(nobleIn)
				if err != nil || e.Object.Ref != refOfBytes(current) || !strings.Contains(e.Stale, "no such suite") {
					t.Errorf("%s: %v, stale %q, %v", n.name, e.Generation, e.Stale, err)
				}
				if e, ok := n.Resolve(n.loc(hello1)); !ok || !e.Listed {
					t.Errorf("%s: a package: %+v", n.name, e)
				}
				if st := n.Stats()[0]; !st.Removed || !errors.Is(st.Err, proto.ErrNotFound) {
					t.Errorf("%s: removed %v, error %v", n.name, st.Removed, st.Err)
				}
			}
			for _, path := range gone {
				f.a.Restore(path)
			}
			f.settled(3 * time.Minute)
			unmarked := func(when string) {
				t.Helper()
				for _, n := range f.nodes {
					if st := n.Stats()[0]; st.Removed || st.Err != nil || st.Stale != "" {
						t.Errorf("%s, %s: removed %v, error %v, stale %q", when, n.name, st.Removed, st.Err, st.Stale)
					}
				}
			}
			unmarked("back again")
			f.upgrade("2")
			f.settled(70 * time.Second)
			unmarked("and published")
			f.agree(noblePkgs, hello2)
		})
	}
}
