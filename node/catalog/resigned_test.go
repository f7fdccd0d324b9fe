package catalog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// newKeys are keys that sign beside the archive's own.
var secondKey = testarchive.NewKey("second", testarchive.KeyOptions{})

// signedAnew are the ways in which the same statement comes in other bytes. Each lays new root files over those of the
// archive, and names them.
var signedAnew = map[string]func(a *testarchive.Archive, text []byte, at time.Time) []string{
	"another signature": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		return lay(a, at, nobleIn, testarchive.ClearSign(text, at, testarchive.DefaultKey()))
	},
	"an older signature": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		return lay(a, at, nobleIn, testarchive.ClearSign(text, at.Add(-24*time.Hour), testarchive.DefaultKey()))
	},
	"another key": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		return lay(a, at, nobleIn, testarchive.ClearSign(text, at, secondKey))
	},
	"two signatures": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		return lay(a, at, nobleIn, testarchive.ClearSign(text, at, testarchive.DefaultKey(), secondKey))
	},
	"white space at the ends of lines": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		f, _ := a.Lookup(nobleIn)
		return lay(a, at, nobleIn, bytes.Replace(f.Data, []byte("\nSuite:"), []byte(" \t\nSuite:"), 1))
	},
	"other armour": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		f, _ := a.Lookup(nobleIn)
		return lay(a, at, nobleIn, bytes.Replace(f.Data, []byte("BEGIN PGP SIGNATURE-----\n"), []byte("BEGIN PGP SIGNATURE-----\nComment: anew\n"), 1))
	},
	"a new Release.gpg alone": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		return lay(a, at, nobleGPG, testarchive.DetachSign(text, at, testarchive.DefaultKey(), secondKey))
	},
	"both forms": func(a *testarchive.Archive, text []byte, at time.Time) []string {
		return append(lay(a, at, nobleIn, testarchive.ClearSign(text, at, secondKey)),
			lay(a, at, nobleGPG, testarchive.DetachSign(text, at, secondKey))...)
	},
}

func lay(a *testarchive.Archive, at time.Time, path string, data []byte) []string {
	a.Put(path, data, at)
	return []string{path}
}

// withSecondKey makes both keys trusted: the format is built from the archive's keyring otherwise.
func (w *world) withSecondKey() *world {
	w.cfg.Archives[0].Format = formatOf(keyring(w.T, append(w.a.Keyring(), secondKey.Public()...)))
	return w
}

// An archive that signs the same statement anew is followed within an interval, as hosts would follow it, and it is the
// same generation: no fork, no switch, nothing read or retained anew. So it goes back, too.
func TestSignedAnew(t *testing.T) {
	for name, sign := range signedAnew {
		inNamedBubble(t, name, func(t *testing.T) {
			w := nobleWorld(t).withSecondKey()
			w.publish()
			w.open()
			for _, path := range []string{nobleIn, nobleRelease, nobleGPG} {
				w.must(path)
			}
			w.use(noblePkgs)
			w.must(hello1)
			before, date, parsed := w.Stats()[0], w.date(), w.parsed()
			w.use(noblePkgs)
			text, first := w.file(nobleRelease), make(map[string]proto.Resolution)
			for _, path := range []string{nobleIn, nobleRelease, nobleGPG} {
				first[path] = w.must(path)
			}
			time.Sleep(10 * time.Minute)

			changed := sign(w.a, text, time.Now().Add(-time.Second))
			time.Sleep(70 * time.Second) // an interval, give or take a tenth
			w.rest()
			for _, path := range []string{nobleIn, nobleRelease, nobleGPG} {
				w.listedAs(path, w.file(path))
			}
			for _, path := range changed {
				e := w.must(path)
				if e.Object.Ref == first[path].Object.Ref {
					t.Fatalf("%s: the test has not changed it", path)
				}
				if e.Modified.Equal(first[path].Modified) {
					t.Errorf("%s has other bytes under the same Last-Modified: a host with If-Modified-Since is not told", path)
				}
			}
			w.sameGeneration(before, date, parsed)

			w = w.crash() // and it is durable
			w.up.failing("", &proto.Unavailable{Reason: "down"})
			for _, path := range changed {
				w.listedAs(path, w.file(path))
			}
			w.up.setFault(nil)
			time.Sleep(2 * time.Minute)
			for _, path := range changed {
				w.a.Restore(path)
			}
			time.Sleep(70 * time.Second)
			w.rest()
			for _, path := range changed {
				w.listedAs(path, w.file(path))
			}
			w.a.ChangeSuite("noble", func(s *testarchive.Suite) { s.Keys = nil })
			w.upgrade() // and the next one comes as ever
			time.Sleep(70 * time.Second)
			w.listedAs(nobleIn, w.file(nobleIn))
			w.listedAs(nobleGPG, w.file(nobleGPG))
		})
	}
}

// sameGeneration holds that nothing but the bytes of the root has changed.
func (w *world) sameGeneration(before SuiteStats, date time.Time, parsed int) {
	w.Helper()
	st := w.Stats()[0]
	if !w.date().Equal(date) || st.Retained != before.Retained || w.parsed() != parsed || st.Stale != "" || st.Err != nil {
		w.Errorf("of %v, %d retained, %d read; before: %v, %d, %d; stale %q, error %v", w.date(), st.Retained, w.parsed(), date, before.Retained, parsed, st.Stale, st.Err)
	}
	if forks, switches := w.metric("aptmesh_catalog_forks_total"), w.metric("aptmesh_catalog_generation_switches_total"); forks != 0 || switches != 1 {
		w.Errorf("%v forks, %v switches", forks, switches)
	}
}

// The same on three nodes: all follow, whichever node asks upstream, and read no more of it than one would.
func TestSignedAnewOnThreeNodes(t *testing.T) {
	for name, sign := range signedAnew {
		inNamedBubble(t, name, func(t *testing.T) {
			f := newFleet(t, 3)
			for _, n := range f.nodes {
				n.withSecondKey()
			}
			f.publish()
			f.start()
			for _, n := range f.nodes {
				for _, path := range []string{nobleIn, nobleRelease, nobleGPG} {
					n.must(path)
				}
				n.use(noblePkgs)
			}
			f.settled(10 * time.Minute)
			f.agree(noblePkgs, nobleRelease, nobleGPG)
			f.forget()
			text := f.nodes[0].file(nobleRelease)
			changed := sign(f.a, text, time.Now().Add(-time.Second))
			f.settled(70 * time.Second)
			f.agree(noblePkgs, nobleRelease, nobleGPG)
			f.alike(nobleIn, nobleRelease, nobleGPG)
			for _, path := range changed {
				if k := f.up.bodies(path); k > 2 {
					t.Errorf("%s was read %d times from upstream", path, k)
				}
			}
			for _, n := range f.nodes {
				if n.metric("aptmesh_catalog_forks_total") != 0 || n.metric("aptmesh_catalog_generation_switches_total") != 1 || len(n.warnings()) != 0 {
					t.Errorf("%s: forks or switches, %q", n.name, n.warnings())
				}
			}
			// A node that was away meanwhile catches up, and takes none of the others back.
			f.nodes[2].kill()
			for _, path := range changed {
				f.a.Restore(path)
			}
			f.settled(3 * time.Minute)
			f.nodes[2].resume()
			f.settled(2 * time.Minute)
			f.agree(noblePkgs, nobleRelease, nobleGPG)
			f.alike(nobleIn, nobleRelease, nobleGPG)
		})
	}
}

// alike holds that all nodes answer for paths with the same bytes and the same validators.
func (f *fleet) alike(paths ...string) {
	f.Helper()
	for _, path := range paths {
		var said []string
		for _, n := range f.nodes {
			e, ok := n.Explain(n.loc(path))
			said = append(said, fmt.Sprintf("%v of %v, modified %v, %v", e.Object.Ref, e.Generation, e.Modified, ok))
		}
		for _, other := range said[1:] {
			if other != said[0] {
				f.Errorf("%s:\n%s", path, strings.Join(said, "\n"))
				break
			}
		}
	}
}

// Two signatures of one second: only upstream can say which of them counts, and what it serves is what all nodes serve,
// also where it is asked so often that no node has seen the later one much later.
func TestSignedAnewWhereUpstreamIsAskedAllTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		for _, n := range f.nodes {
			n.withSecondKey()
			n.cfg.Archives[0].CheckEvery = time.Second
		}
		date := time.Now().Add(-time.Minute)
		f.a.Publish(date)
		f.a.ChangeSuite("noble", func(s *testarchive.Suite) { s.Keys = []*testarchive.Key{testarchive.DefaultKey(), secondKey} })
		f.a.Prepare(date)
		f.start()
		for _, n := range f.nodes {
			n.must(nobleIn)
			n.use(noblePkgs)
		}
		f.settled(time.Minute)
		for _, generation := range []int{1, 0, 1, 0} { // one of them wins by its digest, the other one does not
			f.a.Show("noble", testarchive.At(generation))
			f.settled(10 * time.Second)
			f.agree(noblePkgs)
		}
	})
}

// A root that comes in the preferred form later comes so on all nodes, however often upstream is asked.
func TestPreferredFormComesLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		for _, n := range f.nodes {
			n.cfg.Archives[0].CheckEvery = time.Second
		}
		f.a.Delete(nobleIn)
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.must(nobleRelease)
			n.use(noblePkgs)
		}
		f.settled(time.Minute)
		f.a.Restore(nobleIn)
		for range 10 { // hosts try the preferred form first
			f.settled(time.Second)
			for _, n := range f.nodes {
				n.get(nobleIn)
			}
		}
		f.agree(noblePkgs)
		f.alike(nobleIn)
		f.a.Delete(nobleIn) // and is gone again: all keep it until there is a new generation
		for range 10 {
			f.settled(time.Second)
			for _, n := range f.nodes {
				n.get(nobleIn)
			}
		}
		f.alike(nobleIn)
	})
}

// A suite that upstream had removed, and has again with an older root, is not said to be removed any more.
func TestRemovedAndBackOlder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.use(nobleIn, noblePkgs)
		time.Sleep(time.Hour)
		w.upgrade()
		w.switches()
		for _, path := range []string{nobleIn, nobleRelease, nobleGPG} {
			w.a.Delete(path)
		}
		time.Sleep(3 * time.Minute)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "no such suite") {
			t.Fatalf("stale: %q", e.Stale)
		}
		for _, path := range []string{nobleIn, nobleRelease, nobleGPG} {
			w.a.Restore(path)
		}
		w.a.Show("noble", testarchive.At(0))
		time.Sleep(5 * time.Minute)
		if e := w.must(nobleIn); strings.Contains(e.Stale, "no such suite") {
			t.Errorf("stale: %q", e.Stale)
		}
		w.stays("older than ours")
	})
}
