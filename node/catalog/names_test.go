package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// rename changes one field of what noble's Release calls itself, in all that is published from now on.
func rename(a *testarchive.Archive, field, to string) {
	a.ChangeSuite("noble", func(s *testarchive.Suite) {
		s.Edit = func(text string) string {
			lines := strings.SplitAfter(text, "\n")
			for i, line := range lines {
				if strings.HasPrefix(line, field+": ") {
					lines[i] = field + ": " + to + "\n"
				}
			}
			return strings.Join(lines, "")
		}
	})
}

// renamed are the changes of names that hosts are asked about by apt, and that one mirror's word does not do for.
var renamed = map[string]struct{ field, to string }{
	"Origin": {"Origin", "Another"},
	"Label":  {"Label", "Another"},
	// The suite's directory is called as its Codename: of its Suite, apt asks nobody (see the test below).
	"Codename": {"Codename", "ocular"},
}

// renamedWorld is a world of these mirrors that have noble, renamed and published anew on those named in has.
func renamedWorld(t *testing.T, field, to string, mirrors, has []string) (w *world, before []byte) {
	t.Helper()
	w = mirroredWorld(t, mirrors...)
	before = w.file(nobleIn)
	rename(w.a, field, to)
	w.upgrade()
	w.sync(has...)
	return w, before
}

// Two mirrors that say the same are believed at once.
func TestRenamedByTwoMirrors(t *testing.T) {
	for name, c := range renamed {
		inNamedBubble(t, name, func(t *testing.T) {
			w, _ := renamedWorld(t, c.field, c.to, []string{mirrorA, mirrorB, mirrorC}, []string{mirrorA, mirrorB})
			if err := w.looks(); err != nil {
				t.Error(err)
			}
			w.serves(w.file(nobleIn))
			w.must(hello2)
		})
	}
}

// One mirror that says so alone is believed when it goes on saying so, and not at once, however often hosts ask.
func TestRenamedByOneMirror(t *testing.T) {
	for name, c := range renamed {
		inNamedBubble(t, name, func(t *testing.T) {
			w, before := renamedWorld(t, c.field, c.to, []string{mirrorA}, []string{mirrorA})
			for range 20 {
				if err := w.looks(); err == nil || !strings.Contains(err.Error(), c.field) || !strings.Contains(err.Error(), "--allow-older") {
					t.Fatalf("not refused, or without saying what has changed and what to do: %v", err)
				}
				w.serves(before)
			}
			time.Sleep(5 * time.Minute)
			w.serves(w.file(nobleIn))
			w.must(hello2)
			if st := w.Stats()[0]; st.Err != nil {
				t.Error(st.Err)
			}
		})
		inNamedBubble(t, name+", for a moment", func(t *testing.T) {
			w, before := renamedWorld(t, c.field, c.to, []string{mirrorA, mirrorB}, []string{mirrorA})
			w.looks()
			w.looks()
			w.serves(before)
			w.a.Show("noble", testarchive.At(0))
			w.sync(mirrorA)
			time.Sleep(30 * time.Minute)
			w.serves(before)
			if st := w.Stats()[0]; st.Err != nil {
				t.Error(st.Err)
			}
		})
		// The other mirror goes on as before, and has the newer root: that one is the suite's.
		inNamedBubble(t, name+", and another says otherwise", func(t *testing.T) {
			w, _ := renamedWorld(t, c.field, c.to, []string{mirrorA, mirrorB}, []string{mirrorA})
			w.a.ChangeSuite("noble", func(s *testarchive.Suite) { s.Edit = nil })
			time.Sleep(2 * time.Second)
			w.publish()
			w.sync(mirrorB)
			for range 60 {
				time.Sleep(70 * time.Second) // an interval, give or take a tenth
				w.serves(w.file(nobleIn))
			}
		})
	}
}

// An operator's word does at once.
func TestRenamedByTheOperator(t *testing.T) {
	for name, c := range renamed {
		inNamedBubble(t, name, func(t *testing.T) {
			w, before := renamedWorld(t, c.field, c.to, []string{mirrorA}, []string{mirrorA})
			w.looks()
			w.serves(before)
			time.Sleep(suite.CheckPause)
			if changed, err := w.Refresh(t.Context(), noble(), true); !changed || err != nil {
				t.Errorf("changed %v, %v", changed, err)
			}
			w.serves(w.file(nobleIn))
			w = w.crash() // and from then on these are its names
			w.upgradeAgain()
			w.sync(mirrorA)
			time.Sleep(3 * time.Minute)
			w.serves(w.file(nobleIn))
		})
	}
}

// That only the Suite changes is what apt takes without asking anybody: stable becomes oldstable at each release.
func TestStableBecomesOldstable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, _ := renamedWorld(t, "Suite", "oldstable", []string{mirrorA, mirrorB}, []string{mirrorA})
		if err := w.looks(); err != nil {
			t.Error(err)
		}
		w.serves(w.file(nobleIn))
	})
}

// foreign are validly signed roots that are not noble's, all newer than it.
var foreign = map[string]func(a *testarchive.Archive) []byte{
	"another suite": func(a *testarchive.Archive) []byte {
		a.AddSuite(testarchive.Suite{Name: "jammy", ByHash: true})
		return published(a, "jammy")
	},
	"a pocket": func(a *testarchive.Archive) []byte {
		// As Ubuntu's: the Suite says which it is, the Codename is shared.
		a.AddSuite(testarchive.Suite{Name: "noble-updates", Codename: "noble", ByHash: true, Edit: func(text string) string {
			return strings.Replace(text, "\nSuite: noble\n", "\nSuite: noble-updates\n", 1)
		}})
		return published(a, "noble-updates")
	},
	"another origin": func(a *testarchive.Archive) []byte {
		a.AddSuite(testarchive.Suite{Name: "elsewhere/dists/noble", Flat: true})
		f, _ := a.Lookup(nobleRelease)
		text := strings.Replace(string(f.Data), "\nSuite: ", "\nOrigin: Mallory\nSuite: ", 1)
		for _, line := range strings.SplitAfter(string(f.Data), "\n") {
			if strings.HasPrefix(line, "Origin: ") {
				text = strings.Replace(string(f.Data), line, "Origin: Mallory\n", 1)
			}
		}
		return dated(text, time.Now().Add(-time.Second))
	},
	"another suite of another origin": func(a *testarchive.Archive) []byte {
		a.AddSuite(testarchive.Suite{Name: "kali", Origin: "Kali", Label: "Kali", ByHash: true})
		return published(a, "kali")
	},
}

func published(a *testarchive.Archive, name string) []byte {
	a.AddPackage(name, testarchive.Package{Name: "hello", Version: "9"})
	a.Publish(time.Now().Add(-time.Second), name)
	f, _ := a.Lookup("dists/" + name + "/InRelease")
	return f.Data
}

// dated signs a Release anew as of a date.
func dated(text string, date time.Time) []byte {
	for _, line := range strings.SplitAfter(text, "\n") {
		if strings.HasPrefix(line, "Date: ") {
			text = strings.Replace(text, line, "Date: "+date.UTC().Format("Mon, 02 Jan 2006 15:04:05")+" UTC\n", 1)
		}
	}
	return testarchive.ClearSign([]byte(text), date, testarchive.DefaultKey())
}

// A mirror that gives another suite's root under this suite's name is not believed, and what the others have is served:
// the one that lies is asked first, alone for a moment, or at first contact.
func TestForeignRootOfAMirror(t *testing.T) {
	for name, make := range foreign {
		inNamedBubble(t, name, func(t *testing.T) {
			w := mirroredWorld(t, mirrorA, mirrorB)
			lie := make(w.a)
			w.gives(mirrorA, nobleIn, lie)
			truth := w.file(nobleIn)
			for range 10 {
				w.looks()
				w.serves(truth)
				time.Sleep(5 * time.Minute)
			}
			time.Sleep(2 * time.Second)
			w.upgrade()
			w.sync(mirrorB)
			time.Sleep(3 * time.Minute)
			w.serves(w.file(nobleIn))
			w.must(hello2)
			w = w.crash()
			time.Sleep(10 * time.Minute)
			w.serves(w.file(nobleIn))
		})
		// There is no other: hosts go on with what is held while the lie is new, and after it.
		inNamedBubble(t, name+", from the only mirror, for a moment", func(t *testing.T) {
			w := mirroredWorld(t, mirrorA)
			truth := w.file(nobleIn)
			w.gives(mirrorA, nobleIn, make(w.a))
			for range 5 {
				if err := w.looks(); err == nil {
					t.Error("believed")
				}
				w.serves(truth)
			}
			w.sync(mirrorA)
			time.Sleep(5 * time.Minute)
			w.serves(w.file(nobleIn))
			if st := w.Stats()[0]; st.Err != nil || st.Stale != "" {
				t.Errorf("%v, stale %q", st.Err, st.Stale)
			}
		})
		inNamedBubble(t, name+", at first contact", func(t *testing.T) {
			w := nobleWorld(t)
			w.publish()
			time.Sleep(time.Minute)
			lie := make(w.a)
			w.mirrored(mirrorA, mirrorB)
			w.gives(mirrorA, nobleIn, lie)
			w.open()
			if e, err := w.get(nobleIn); err == nil && e.Object.Ref == refOfBytes(lie) && name != "another origin" { // no name tells which
				t.Error("the lie is believed although the other mirror has the suite")
			}
			time.Sleep(2 * time.Minute)
			w.upgrade()
			w.sync(mirrorA, mirrorB)
			time.Sleep(10 * time.Minute)
			w.serves(w.file(nobleIn))
		})
	}
}

// What was adopted wrongly, because nobody else was there to ask, heals when an honest mirror answers, although the
// suite's own root is older.
func TestWronglyAdoptedRootHeals(t *testing.T) {
	for name, make := range foreign {
		if name == "another origin" {
			continue // it calls itself as the suite does
		}
		for _, restart := range []bool{false, true} {
			inNamedBubble(t, name, func(t *testing.T) {
				w := nobleWorld(t)
				w.publish()
				truth := w.file(nobleIn)
				time.Sleep(time.Hour)
				lie := make(w.a)
				w.mirrored(mirrorA)
				w.gives(mirrorA, nobleIn, lie)
				w.open()
				if e, err := w.get(nobleIn); err != nil {
					t.Logf("it is refused at first contact: %v", err)
				} else if e.Object.Ref != refOfBytes(lie) {
					t.Fatalf("%+v", e)
				}
				time.Sleep(10 * time.Minute)
				if restart {
					w = w.crash()
				}
				w.sync(mirrorA)
				w.get(nobleIn)
				time.Sleep(5 * time.Minute)
				w.serves(truth)
				w.must(hello1)
				if st := w.Stats()[0]; st.Err != nil || st.Stale != "" {
					t.Errorf("%v, stale %q", st.Err, st.Stale)
				}
				w = w.crash() // for good
				time.Sleep(10 * time.Minute)
				w.serves(truth)
			})
		}
	}
}

// A root is none of a directory within its suite, whoever offers it there: a mirror, or a node.
func TestNestedDirectory(t *testing.T) {
	for _, dir := range []string{"dists/noble/main", "dists/noble/main/binary-amd64", "dists/noble/main/i18n"} {
		inNamedBubble(t, dir, func(t *testing.T) {
			f := usedFleet(t, 2)
			n := f.nodes[0]
			f.a.Put(dir+"/InRelease", n.file(nobleIn), time.Now().Add(-time.Hour))
			for range 3 {
				if e, err := n.get(dir + "/InRelease"); err == nil && e.Listed {
					t.Errorf("from a mirror: %+v", e)
				}
				told := n.Announcements()[0]
				told.Generation.Suite.Dir = dir
				f.nodes[1].Receive("n1", told)
				f.settled(2 * time.Minute)
			}
			for _, n := range f.nodes {
				n.listedAs(noblePkgs, n.file(noblePkgs))
				n.must(hello1)
				if names := n.suiteNames(); len(names) != 1 {
					t.Errorf("%s: suites %q", n.name, names)
				}
			}
		})
	}
}

// On three nodes: neither a mirror that gives another suite's root, nor a node that announces it, brings any of them away
// from what honest mirrors have.
func TestForeignRootOnThreeNodes(t *testing.T) {
	for name, make := range foreign {
		inNamedBubble(t, name, func(t *testing.T) {
			f := usedFleet(t, 3)
			f.settled(time.Hour)
			lie := make(f.a)
			f.a.Put(nobleIn, lie, time.Now())
			truth := f.nodes[0].nobleNow().Root
			f.set(func() { f.foreign[proto.DigestOf(lie)] = lie })
			for range 2 { // less than persistence takes
				for _, n := range f.nodes {
					n.Receive("n9", offerOf(lie, time.Now().Add(-time.Second)))
					n.Discover(t.Context(), n.loc(nobleIn), true)
				}
				f.settled(5 * time.Second)
				for _, n := range f.nodes {
					if n.nobleNow().Root != truth {
						t.Fatalf("%s serves the root of %v", n.name, n.nobleNow().Date)
					}
				}
			}
			f.a.Restore(nobleIn)
			for range 20 { // a node alone persists in vain
				for _, n := range f.nodes {
					n.Receive("n9", offerOf(lie, time.Now().Add(-time.Second)))
				}
				f.settled(time.Minute)
			}
			f.agree(noblePkgs)
			f.upgrade("2")
			f.settled(70 * time.Second)
			f.agree(noblePkgs, hello2)
			for _, n := range f.nodes {
				if st := n.Stats()[0]; st.Err != nil || st.Stale != "" {
					t.Errorf("%s: %v, stale %q", n.name, st.Err, st.Stale)
				}
			}
		})
	}
}

// A suite is renamed upstream: all nodes take the new names at the word of mirrors, one after the other or by each other's
// announcements, and end alike.
func TestRenamedOnThreeNodes(t *testing.T) {
	for name, c := range renamed {
		inNamedBubble(t, name, func(t *testing.T) {
			f := usedFleet(t, 3)
			rename(f.a, c.field, c.to)
			f.upgrade("2")
			f.settled(10 * time.Minute)
			f.agree(noblePkgs, hello2)
			f.alike(nobleIn)
		})
		inNamedBubble(t, name+", by the operator", func(t *testing.T) {
			f := usedFleet(t, 3)
			rename(f.a, c.field, c.to)
			f.upgrade("2")
			f.unlooked()
			if _, err := f.nodes[1].Refresh(t.Context(), noble(), true); err != nil {
				t.Error(err)
			}
			f.nodes[1].listedAs(nobleIn, f.nodes[1].file(nobleIn))
			f.settled(10 * time.Minute)
			f.agree(noblePkgs, hello2)
		})
	}
}
