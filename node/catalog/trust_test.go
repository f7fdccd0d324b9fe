package catalog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

func TestNoRollback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		first := w.date()
		w.upgrade()
		w.switches()
		current := w.file(nobleIn)
		w.a.Show("noble", testarchive.At(0)) // a mirror that lags
		time.Sleep(2 * time.Second)
		w.stays("older than ours")
		w.listedAs(nobleIn, current)
		w.must(hello2)
		w = w.crash()
		time.Sleep(5 * time.Minute)
		w.listedAs(nobleIn, current)

		changed, err := w.Refresh(t.Context(), noble(), true)
		if err != nil || !changed || !w.date().Equal(first) {
			t.Fatalf("an operator may go back: %v, %v, %v", changed, err, w.date())
		}
		w.must(hello1)
		time.Sleep(2 * time.Second)
		if changed, err := w.refresh(); changed || err != nil {
			t.Errorf("%v, %v", changed, err)
		}
		// And forward again, over what is among the retained.
		w.a.Show("noble", testarchive.At(1))
		time.Sleep(2 * time.Second)
		w.switches()
		if st := w.Stats()[0]; st.Retained != 1 {
			t.Errorf("%d retained: the generation came twice", st.Retained)
		}
	})
}

// An operator's word is not lost where it meets a check that is under way.
func TestOlderJoinsNoOtherCheck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		first := w.date()
		w.upgrade()
		w.switches()
		w.a.Show("noble", testarchive.At(0))
		time.Sleep(2 * time.Second)
		release := make(chan bool)
		w.up.setFault(func(context.Context, string) error { <-release; return nil })
		go w.Refresh(context.WithoutCancel(t.Context()), noble(), false)
		synctest.Wait() // and no time passes
		go close(release)
		if changed, err := w.Refresh(t.Context(), noble(), true); err != nil || !changed || !w.date().Equal(first) {
			t.Errorf("changed %v, %v", changed, err)
		}
	})
}

func TestSameIsNoOp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		f, _ := w.a.Lookup(nobleIn)
		w.a.Put(nobleIn, f.Data, day.Add(time.Hour)) // the same bytes, touched
		w.up.reset()
		for range 3 {
			time.Sleep(2 * time.Second)
			if changed, err := w.refresh(); changed || err != nil {
				t.Fatalf("%v, %v", changed, err)
			}
		}
		// (The entity tag of the fake is made of the bytes; the date must hold, too.)
		if e := w.must(nobleIn); !e.Modified.Equal(f.Modified) {
			t.Errorf("Last-Modified has changed to %v under the same bytes", e.Modified)
		}
		if st := w.Stats()[0]; st.Retained != 0 || w.metric("aptmesh_catalog_generation_switches_total") != 1 {
			t.Errorf("it switched: %+v", st)
		}
	})
}

// Two Releases of one date: what upstream serves now counts, as for a host that asks it directly.
func TestForkGoesByUpstream(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		t.Run("", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := nobleWorld(t)
				w.a.Publish(day)
				w.a.AddPackage("noble", testarchive.Package{Name: "evil", Version: "1"})
				w.a.Publish(day)
				w.a.Show("noble", testarchive.At(order[0]))
				w.open()
				w.must(nobleIn)
				w.use(noblePkgs)
				w.a.Show("noble", testarchive.At(order[1]))
				time.Sleep(2 * time.Second)
				if _, err := w.refresh(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
				w.listedAs(nobleIn, w.file(nobleIn))
				if n := w.metric("aptmesh_catalog_forks_total"); n != 1 {
					t.Errorf("one fork was counted %v times", n)
				}
			})
		})
	}
}

func TestFutureDate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		old := w.file(nobleIn)
		w.a.AddPackage("noble", testarchive.Package{Name: "tomorrow", Version: "1"})
		w.a.Publish(time.Now().Add(10 * time.Minute))
		w.stays("ahead of this node's clock")
		w.listedAs(nobleIn, old)
		time.Sleep(9 * time.Minute)
		w.listedAs(nobleIn, old)
		time.Sleep(3 * time.Minute)
		w.listedAs(nobleIn, w.file(nobleIn))

		w.a.AddPackage("noble", testarchive.Package{Name: "soon", Version: "1"})
		w.a.Publish(time.Now().Add(5 * time.Second)) // apt allows 10 s
		w.switches()
	})
}

// Where hosts accept more, the operator says so: for one archive, and without a restart.
func TestMaxFuture(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.a.Publish(time.Now().Add(2 * time.Hour))
		w.cfg.Archives[0].MaxFuture = 3 * time.Hour
		w.open()
		w.listedAs(nobleIn, w.file(nobleIn))

		w.a.AddPackage("noble", testarchive.Package{Name: "later", Version: "1"})
		w.a.Publish(time.Now().Add(4 * time.Hour))
		time.Sleep(2 * time.Second)
		w.stays("max_future")
		archives := slices.Clone(w.cfg.Archives)
		archives[0].MaxFuture = 5 * time.Hour
		w.Reconfigure(archives)
		time.Sleep(2 * time.Second)
		w.switches()
	})
}

func TestUntrusted(t *testing.T) {
	stranger := testarchive.NewKey("stranger", testarchive.KeyOptions{})
	for name, c := range map[string]struct {
		change func(*testarchive.Suite)
		why    string
	}{
		"another key": {func(s *testarchive.Suite) { s.Keys = []*testarchive.Key{stranger} }, "not in the keyring"},
		"forged":      {func(s *testarchive.Suite) { s.Forged = true }, "does not fit"},
		"unsigned":    {func(s *testarchive.Suite) { s.Unsigned = true }, "unsigned: true"},
		"expired key": {func(s *testarchive.Suite) {
			s.Keys = []*testarchive.Key{testarchive.NewKey("testarchive", testarchive.KeyOptions{Expires: day.AddDate(-1, 0, 0)})}
		}, "trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := usedWorld(t)
				old := w.file(nobleIn)
				w.a.ChangeSuite("noble", c.change)
				w.upgrade()
				w.stays(c.why)
				w.listedAs(nobleIn, old)
				if st := w.Stats()[0]; !errors.Is(st.Err, proto.ErrCorrupt) || st.Date.IsZero() {
					t.Errorf("status: %+v", st)
				}
				w = w.crash() // nothing of it has come to disk
				w.up.failing("", &proto.Unavailable{Reason: "down"})
				w.listedAs(nobleIn, old)
			})
			inBubble(t, func(t *testing.T) { // and the first generation is not taken either
				w := nobleWorld(t)
				w.cfg.Archives[0].Format = formatOf(keyring(t, w.a.Keyring()))
				w.a.ChangeSuite("noble", c.change)
				w.publish()
				w.open()
				for _, path := range []string{nobleIn, "dists/noble/Release"} {
					var verdict *proto.Rejected
					if e, err := w.get(path); !errors.As(err, &verdict) || verdict.Kind != proto.RejectUntrusted || errors.Is(err, proto.ErrNotFound) {
						t.Errorf("%s: %+v, %v", path, e, err)
					}
				}
				if e, err := w.get(hello1); err != nil || e.Listed {
					t.Errorf("a package that nobody signs: %+v, %v", e, err)
				}
			})
		})
	}
}

func keyring(t *testing.T, data []byte) *pgp.Keyring {
	t.Helper()
	k, err := pgp.ReadKeyring("test", data)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestUnsignedArchive(t *testing.T) {
	for name, s := range map[string]testarchive.Suite{
		"plain Release":    {Name: "noble", Unsigned: true},
		"InRelease signed": {Name: "noble", Keys: []*testarchive.Key{testarchive.NewKey("whoever", testarchive.KeyOptions{})}},
		"detached":         {Name: "noble", NoInRelease: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t, s)
				w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
				w.cfg.Archives[0].Format = unsignedFormat()
				w.publish()
				w.open()
				for _, name := range []string{"InRelease", "Release", "Release.gpg"} {
					path := "dists/noble/" + name
					if f, ok := w.a.Lookup(path); ok {
						w.listedAs(path, f.Data)
					} else if _, err := w.get(path); !errors.Is(err, proto.ErrNotFound) {
						t.Errorf("%s: %v", path, err)
					}
				}
				w.use(noblePkgs)
				w.must(hello1)
				w = w.crash()
				w.up.failing("", &proto.Unavailable{Reason: "down"})
				w.must(hello1)
				w.must("dists/noble/Release")
			})
		})
	}
}

func TestDetachedRoot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", NoInRelease: true})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		if _, err := w.get(nobleIn); !errors.Is(err, proto.ErrNotFound) {
			t.Fatalf("InRelease: %v", err)
		}
		w.listedAs("dists/noble/Release", w.file("dists/noble/Release"))
		w.listedAs("dists/noble/Release.gpg", w.file("dists/noble/Release.gpg"))
		w.use(noblePkgs)
		w.up.reset()
		time.Sleep(10 * time.Minute)
		if n := w.up.bodies("dists/noble/Release"); n != 0 {
			t.Errorf("an unchanged Release was read %d times", n)
		}
		w.upgrade()
		time.Sleep(2 * time.Minute)
		w.listedAs("dists/noble/Release", w.file("dists/noble/Release"))
		w.listedAs("dists/noble/Release.gpg", w.file("dists/noble/Release.gpg"))
		w.must(hello2)
		w = w.crash()
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w.listedAs("dists/noble/Release.gpg", w.file("dists/noble/Release.gpg"))
	})
}

// An InRelease that is gone for a moment, or comes later, makes no fork.
func TestInReleaseComesAndGoes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		current := w.file(nobleIn)
		w.a.Delete(nobleIn)
		time.Sleep(5 * time.Minute)
		w.listedAs(nobleIn, current)
		w.upgrade() // and now it says something new
		w.a.Delete(nobleIn)
		time.Sleep(2 * time.Minute)
		if _, err := w.get(nobleIn); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("%v", err)
		}
		w.listedAs("dists/noble/Release", w.file("dists/noble/Release"))
		w.must(hello2)
		w.a.Restore(nobleIn)
		time.Sleep(suite.HopeForForm) // a client that asks need not wait for the watcher
		w.listedAs(nobleIn, w.file(nobleIn))
		if n := w.metric("aptmesh_catalog_forks_total"); n != 0 {
			t.Errorf("%v forks", n)
		}
	})
}

func TestNoDate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", NoDate: true})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		if got := w.date(); !got.Equal(day.Add(-time.Minute)) {
			t.Errorf("ordered by %v, want Last-Modified", got)
		}
		time.Sleep(5 * time.Minute)
		w.upgrade()
		modified := time.Now().Add(-time.Minute)
		w.switches() // a poll with jitter: the clock goes on
		w = w.crash()
		if got := w.date(); !got.Equal(modified) {
			t.Errorf("after a restart it is ordered by %v, want %v", got, modified)
		}
		// Neither a Date nor a Last-Modified: still the newer content wins.
		for i := range 3 {
			time.Sleep(5 * time.Minute)
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: string(rune('1' + i))})
			w.publish()
			w.a.Put(nobleIn, w.file(nobleIn), time.Time{})
			w.switches()
			date := w.date()
			time.Sleep(time.Second)
			w = w.crash()
			if got := w.date(); !got.Equal(date) {
				t.Errorf("dated %v, and %v after a restart", date, got)
			}
			w.rest()
			w.a.Restore(nobleIn)
		}
		// A web server's clock is not signed.
		time.Sleep(5 * time.Minute)
		w.a.Publish(time.Now().Add(time.Hour))
		w.switches()
	})
}

func TestValidUntil(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ValidFor: 2 * time.Hour})
		w.publish()
		w.open()
		w.must(nobleIn)
		time.Sleep(time.Hour)
		if e := w.must(nobleIn); e.Stale != "" {
			t.Errorf("stale: %q", e.Stale)
		}
		time.Sleep(2 * time.Hour)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "Valid-Until passed") {
			t.Errorf("stale: %q", e.Stale)
		}
		if st := w.Stats()[0]; !st.Expired || st.ValidUntil.IsZero() {
			t.Errorf("status: %+v", st)
		}
		if w.metric("aptmesh_suite_valid_until_timestamp_seconds") == 0 {
			t.Error("not in the metrics")
		}
	})
}

// An index of a suite whose root is refused ends as the root does. A client that may do without a root
// (apt: --allow-insecure-repositories) asks for it after the refusal, and would take it with no sum at all.
func TestIndexesOfARefusedSuite(t *testing.T) {
	pkgs := "dists/noble/main/binary-amd64/Packages.xz"
	for name, test := range map[string]struct {
		suite  testarchive.Suite
		odd    func(w *world)
		index  string
		others []string // of the same archive, and no business of that root's
		kind   proto.RejectKind
	}{
		"unsigned": {suite: testarchive.Suite{Name: "noble", Unsigned: true}, index: pkgs, kind: proto.RejectUntrusted},
		"flat, unsigned": {suite: testarchive.Suite{Flat: true, Unsigned: true}, index: "Packages",
			others: []string{"hello.txt", "pool/tool_1.dsc", "pool/hello_1_amd64.deb", "dists/other/main/binary-amd64/Packages.xz"}, kind: proto.RejectUntrusted},
		"a key nobody trusts": {suite: testarchive.Suite{Name: "noble"}, index: pkgs, odd: func(w *world) {
			evil := testarchive.NewKey("evil", testarchive.KeyOptions{})
			w.a.Put(nobleIn, testarchive.ClearSign([]byte("Suite: noble\n"), time.Now(), evil), time.Now())
		}, kind: proto.RejectUntrusted},
		"a login page": {suite: testarchive.Suite{Name: "noble"}, index: pkgs, odd: func(w *world) {
			w.a.Put(nobleIn, []byte("<html>log in</html>"), time.Now())
		}, kind: proto.RejectMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t, test.suite)
				w.a.AddPackage(test.suite.Name, testarchive.Package{Name: "hello", Version: "1"})
				w.publish()
				if test.odd != nil {
					test.odd(w)
				}
				for _, path := range test.others {
					w.a.Put(path, []byte("x"), time.Now())
				}
				w.open()
				for range 2 { // the first one finds the suite
					e, err := w.get(test.index)
					var verdict *proto.Rejected
					if !errors.As(err, &verdict) || verdict.Kind != test.kind {
						t.Errorf("%s: %+v, %v", test.index, e.Object, err)
					}
				}
				for _, path := range test.others {
					if e, err := w.get(path); err != nil || e.Listed {
						t.Errorf("%s: listed %v, %v", path, e.Listed, err)
					}
				}
			})
		})
	}
}

// Where there is no root at all, directly a client may do without one, and so it may here; an index that a good root does
// not list is not refused either.
func TestUnlistedIndexes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		rootless, odd := "dists/rootless/main/binary-amd64/Packages.gz", "dists/noble/main/odd/Packages.gz"
		w.a.Put(rootless, []byte("x"), time.Now())
		w.a.Put(odd, []byte("x"), time.Now())
		w.open()
		for _, path := range []string{rootless, odd} {
			if e, err := w.get(path); err != nil || e.Listed {
				t.Errorf("%s: listed %v, %v", path, e.Listed, err)
			}
		}
	})
}
