package catalog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// Everything believed is back without a request upstream and without an index read.
func TestRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		oldIndex := w.file(noblePkgs)
		w.upgrade()
		w.switches()
		before := w.Stats()[0]
		w.up.stalling("")
		w.up.reset()
		opens := w.cfg.Blobs.(*fakeBlobs).opens
		start := time.Now()
		w = w.crash()
		if e, ok := w.Resolve(w.loc(hello2)); !ok || e.Object.Ref != refOfBytes(w.file(hello2)) {
			t.Errorf("a package: %+v, %v", e, ok)
		}
		if e, ok := w.Resolve(w.loc(noblePkgs)); !ok || e.Object.Ref != refOfBytes(w.file(noblePkgs)) || !e.Generation.Equal(before.Date) {
			t.Errorf("an index: %+v, %v", e, ok)
		}
		w.must(hello1)
		w.listedAs(aptmeta.ByHashPath(noblePkgs, aptmeta.MD5Sum, testarchive.Sum(testarchive.MD5Sum, oldIndex)), oldIndex)
		if time.Since(start) > 0 {
			t.Errorf("it took %v", time.Since(start))
		}
		// The watcher has begun to look, but nobody waits for it for long.
		e := w.listedAs(nobleIn, w.file(nobleIn))
		if time.Since(start) > w.cfg.withDefaults().CheckWait || !e.Modified.Equal(before.Date) {
			t.Errorf("%+v after %v", e, time.Since(start))
		}
		if n := w.cfg.Blobs.(*fakeBlobs).opens; n != opens || w.up.bodies(nobleIn) != 0 || w.parsed() != 0 {
			t.Errorf("%d indices read, %d blobs opened", w.parsed(), n-opens)
		}
		after := w.Stats()[0]
		if after.Root != before.Root || after.Retained != before.Retained || len(after.Staged) != len(before.Staged) || after.Checked.IsZero() {
			t.Errorf("before %+v, after %+v", before, after)
		}
		// What clients use is staged for the next one.
		w.up.setFault(nil)
		time.Sleep(3 * time.Minute)
		w.upgradeAgain()
		w.switches()
		w.up.reset()
		w.listedAs(noblePkgs, w.file(noblePkgs))
		w.listedAs(nobleTrans, w.file(nobleTrans))
		w.rest()
		if w.up.total() != 0 {
			t.Error("what clients used before the restart was not staged")
		}
	})
}

// The validators are kept too: the first check moves no body.
func TestRestartIsConditional(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.Close() // a restart in good order
		w = w.crash()
		w.up.reset()
		w.rest()
		time.Sleep(2 * time.Minute)
		if w.up.requests(nobleIn) == 0 || w.up.bodies(nobleIn) != 0 {
			t.Errorf("%d requests, %d with a body", w.up.requests(nobleIn), w.up.bodies(nobleIn))
		}
	})
}

// A suite that changes rarely does not forget what its clients use.
func TestUsesOutliveRestart(t *testing.T) {
	for _, orderly := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			w := nobleWorld(t)
			w.cfg.UseFor, w.cfg.IdleAfter = 24*time.Hour, 24*time.Hour
			w.publish()
			w.open()
			w.must(nobleIn)
			w.use(noblePkgs)
			if orderly {
				time.Sleep(30 * time.Minute)
				w.use(noblePkgs)
				w.Close()
				time.Sleep(23*time.Hour + 45*time.Minute)
			} else {
				for range 4 {
					time.Sleep(12 * time.Hour)
					w.must(nobleIn)
					w.use(noblePkgs)
				}
				time.Sleep(saveEvery + 2*time.Minute)
			}
			w = w.crash()
			w.rest()
			time.Sleep(2 * time.Second)
			w.upgrade()
			w.switches()
			if st := w.Stats()[0]; len(st.Staged) != 1 {
				t.Errorf("staged %v", st.Staged)
			}
		})
	}
}

// The digest of what is listed by its SHA-512 alone is not forgotten: the store
// knows it by nothing else.
func TestStrongMemberIsLearned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Hashes: []string{testarchive.SHA512}})
		w.publish()
		w.open()
		w.must(nobleIn)
		if e, ok := w.Explain(w.loc(noblePkgs)); !ok || !e.Object.Ref.IsZero() {
			t.Errorf("%+v", e.Object)
		}
		w.use(noblePkgs)
		for range 2 {
			if e := w.must(noblePkgs); e.Object.Ref != refOfBytes(w.file(noblePkgs)) || e.Object.SHA512 != sha512Of(w.file(noblePkgs)) {
				t.Errorf("%+v", e.Object)
			}
			w = w.crash()
		}
	})
}

// The pointer on disk is never older than what was served, whoever writes last.
func TestPointerOnDiskNeverGoesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", Components: []string{"main", "universe"}})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		w.open()
		w.must(nobleIn)
		// An ingest of the old generation ends after the switch to the new one.
		w.up.setFault(func(_ context.Context, path string) error {
			if strings.Contains(path, "universe") {
				time.Sleep(time.Minute)
			}
			return nil
		})
		time.Sleep(2 * time.Second)
		w.must("dists/noble/universe/binary-amd64/Packages.xz")
		go w.fetchPairOf(t)
		w.upgrade()
		w.switches()
		current := w.file(nobleIn)
		time.Sleep(5 * time.Minute)
		if st := w.Stats()[0]; len(st.Staged) != 1 {
			t.Errorf("the ingest that outlived its generation is forgotten: %v", st.Staged)
		}
		w = w.crash()
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w.listedAs(nobleIn, current)
	})
}

func (w *world) fetchPairOf(t *testing.T) {
	if _, err := w.get("dists/noble/Release"); err != nil {
		var busy *proto.Unavailable
		if !errors.As(err, &busy) {
			t.Error(err)
		}
	}
}

// While the superseded generations are being read back, nothing of them is lost:
// neither to a switch, nor to the store, nor to another crash.
func TestSwitchWhileRetainedAreLoaded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		root, index := proto.DigestOf(w.file(nobleIn)), w.file(noblePkgs)
		w.upgrade()
		w.switches()
		goOn := make(chan bool)
		w.keeper.onGet = func(d proto.Digest) {
			if d == root {
				<-goOn
			}
		}
		w = w.crash()
		time.Sleep(5 * time.Second)
		w.upgradeAgain()
		w.switches()
		w.keeper.evict()
		afterCrash := w.state.copyState()
		close(goOn)
		w.rest()
		if st := w.Stats()[0]; st.Retained != 2 {
			t.Errorf("%d retained, want 2", st.Retained)
		}
		w.state = afterCrash
		w = w.crash()
		w.rest()
		if st := w.Stats()[0]; st.Retained != 2 {
			t.Errorf("%d retained after another crash, want 2", st.Retained)
		}
		if _, err := w.keeper.Get(proto.DigestOf(index)); err != nil {
			t.Error("the index was evicted meanwhile")
		}
	})
}

func TestDamagedState(t *testing.T) {
	two := func(t *testing.T) *world {
		w := newWorld(t, testarchive.Suite{Name: "noble"}, testarchive.Suite{Name: "jammy"})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.a.AddPackage("jammy", testarchive.Package{Name: "world", Version: "1"})
		w.publish()
		w.open()
		for _, s := range []string{"noble", "jammy"} {
			w.must("dists/" + s + "/InRelease")
			w.use("dists/" + s + "/main/binary-amd64/Packages.xz")
		}
		return w
	}
	stateOf := func(w *world) string {
		names, _ := w.state.ListFiles(suiteDir)
		for _, n := range names {
			if strings.Contains(n, "noble") {
				return n
			}
		}
		t.Fatal("no state file")
		return ""
	}
	for name, damage := range map[string]func(w *world){
		"root blob lost": func(w *world) {
			delete(w.keeper.blobs, proto.DigestOf(w.file(nobleIn)))
		},
		"root blob garbled": func(w *world) {
			w.keeper.blobs[proto.DigestOf(w.file(nobleIn))] = []byte("-----BEGIN PGP SIGNED MESSAGE-----\n")
		},
		"state file torn":  func(w *world) { w.state.files[stateOf(w)] = w.state.files[stateOf(w)][:100] },
		"state file empty": func(w *world) { w.state.files[stateOf(w)] = nil },
		"table torn": func(w *world) {
			names, _ := w.state.ListFiles(tableDir)
			w.state.files[names[0]] = w.state.files[names[0]][:20]
			w.state.files[names[1]] = nil
		},
		"table lost": func(w *world) {
			names, _ := w.state.ListFiles(tableDir)
			delete(w.state.files, names[0])
		},
		"a foreign file": func(w *world) { w.state.files[suiteDir+"x"] = []byte(`{"suite":{"archive":"a","dir":"q"}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := two(t)
				damage(w)
				w = w.crash()
				w.must("pool/main/w/world/world_1_amd64.deb")
				w.listedAs(nobleIn, w.file(nobleIn))
				w.must(hello1)
				w = w.crash() // and it is whole again
				w.rest()
				w.up.failing("", &proto.Unavailable{Reason: "down"})
				if _, ok := w.Resolve(w.loc(hello1)); !ok {
					t.Error("the package is not known after the second restart")
				}
			})
		})
	}
}

// A table that is lost while the node runs, as a broken disk may, costs no client
// more than the reading of its index.
func TestTableLostWhileRunning(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		names, _ := w.state.ListFiles(tableDir)
		delete(w.state.files, names[0])
		w.upgrade()
		w.switches() // reads the table of the old generation again
		w.must(hello2)
		w.rest()
	})
}

func TestKeysChangedOverRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.upgrade()
		w.switches()
		w.cfg.Archives[0].Format = formatOf(keyring(t, testarchive.NewKey("other", testarchive.KeyOptions{}).Public()))
		w = w.crash()
		if _, ok := w.Resolve(w.loc(hello2)); ok {
			t.Error("a package is listed by a Release that is not trusted any more")
		}
		if st := w.Stats()[0]; !st.Unverified || !strings.Contains(st.Notice, "no good signature by a key of the keyring") || strings.Contains(st.Notice, "clock") {
			t.Errorf("unverified %v, notice %q", st.Unverified, st.Notice)
		}
		if _, err := w.get(nobleIn); !errors.Is(err, proto.ErrCorrupt) {
			t.Errorf("%v", err)
		}
	})
	// A generation before that is not trusted any more vouches for nothing, at no moment.
	inBubble(t, func(t *testing.T) {
		other := testarchive.NewKey("other", testarchive.KeyOptions{})
		w := nobleWorld(t)
		w.cfg.Archives[0].Format = formatOf(pgp.MergeKeyrings(keyring(t, w.a.Keyring()), keyring(t, other.Public())))
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		w.a.ChangeSuite("noble", func(s *testarchive.Suite) { s.Keys = []*testarchive.Key{other} })
		time.Sleep(2 * time.Second)
		w.upgrade()
		w.switches()
		w.cfg.Archives[0].Format = formatOf(keyring(t, other.Public()))
		w = w.crash()
		if _, ok := w.Resolve(w.loc(hello1)); ok {
			t.Error("it is listed before it was verified")
		}
		if e, err := w.get(hello1); err != nil || e.Listed {
			t.Errorf("%+v, %v", e, err)
		}
		w.must(hello2)
		synctest.Wait()
		if st := w.Stats()[0]; st.Retained != 0 {
			t.Errorf("%d retained", st.Retained)
		}
	})
}

func TestReconfigure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		b := testarchive.New(9)
		b.AddSuite(testarchive.Suite{Name: "sid"})
		b.Publish(day)
		w.up.archives["b"] = b
		both := w.fill([]Archive{w.cfg.Archives[0], {Name: "b", Format: formatOf(keyring(t, b.Keyring())), Suites: []proto.Suite{{Dir: "dists/sid"}}}})
		sid := proto.Location{Archive: "b", Path: "dists/sid/InRelease"}
		w.Reconfigure(both)
		if e, err := w.Discover(t.Context(), sid, false); err != nil || !e.Listed {
			t.Errorf("the new archive: %+v, %v", e, err)
		}
		w.must(hello1)
		w.Reconfigure(both[1:])
		if _, ok := w.Resolve(w.loc(hello1)); ok {
			t.Error("an archive that is gone is answered for")
		}
		if _, err := w.Discover(t.Context(), w.loc(nobleIn), true); !errors.Is(err, errUnknownArchive) {
			t.Errorf("%v", err)
		}
		if _, err := w.refresh(); !errors.Is(err, errUnknownArchive) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if _, ok := w.keeper.pins[noble().String()]; ok {
			t.Error("its blobs are still pinned")
		}
		w.up.reset()
		time.Sleep(10 * time.Minute)
		if n := w.up.requests(nobleIn); n != 0 {
			t.Errorf("it is still watched: %d checks", n)
		}
		// It comes back with what was believed, not with what upstream says now.
		w.a.Delete(nobleIn)
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w.Reconfigure(both)
		w.must(hello1)
		w.must(nobleIn)
	})
}

// Of an archive that is one of many which clients make, nothing stays on the disk.
func TestTransientArchiveLeavesNothing(t *testing.T) {
	for _, transient := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			w := usedWorld(t)
			all := w.fill([]Archive{w.cfg.Archives[0]})
			all[0].Transient = transient
			w.Reconfigure(all)
			w.must(hello1)
			left := func() (n int) {
				for _, prefix := range []string{suiteDir, tablePrefix("a")} {
					names, err := w.state.ListFiles(prefix)
					if err != nil {
						t.Fatal(err)
					}
					n += len(names)
				}
				return n
			}
			if left() == 0 {
				t.Fatal("nothing was written down")
			}
			w.Reconfigure(nil)
			time.Sleep(time.Minute)
			if n := left(); (n == 0) != transient {
				t.Errorf("transient %v: %d files are left", transient, n)
			}
			w.Reconfigure(all)
			w.must(nobleIn) // it is read anew, or back
			w.must(hello1)
		})
	}
}

// An archive that is removed while a generation of it is staged leaves nothing.
func TestRemovedWhileStaging(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.upgrade()
		w.up.setFault(func(_ context.Context, path string) error {
			if strings.Contains(path, "by-hash") {
				w.up.setFault(nil)
				w.Reconfigure(nil)
			}
			return nil
		})
		w.refresh()
		synctest.Wait()
		if len(w.keeper.pins) != 0 || len(w.suiteNames()) != 0 {
			t.Errorf("left: pins %v, suites %v", w.keeper.pins, w.suiteNames())
		}
	})
}

func TestClosed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.Close()
		w.Close()
		w.Resolve(w.loc("dists/noble/main/binary-amd64/Packages.gz")) // would be taken in
		var busy *proto.Unavailable
		time.Sleep(2 * time.Second)
		if _, err := w.get("dists/x/InRelease"); !errors.As(err, &busy) {
			t.Errorf("%v", err)
		}
		w.must(hello1)
		if _, err := w.refresh(); err == nil {
			t.Error("refresh of a closed catalog")
		}
		w.get(nobleRelease)
	})
}

// A restart knows when upstream was last checked and when the generation was adopted, also after a crash right
// after the first request, while upstream does not answer.
func TestRestartKnowsWhen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		synctest.Wait()
		before := w.Stats()[0]
		if before.Checked.IsZero() || before.Changed.IsZero() {
			t.Fatalf("checked %v, changed %v", before.Checked, before.Changed)
		}
		time.Sleep(5 * time.Second)
		w.up.stalling("")
		w = w.crash()
		synctest.Wait()
		if after := w.Stats()[0]; !after.Checked.Equal(before.Checked.Truncate(time.Second)) || !after.Changed.Equal(before.Changed) {
			t.Errorf("checked %v, changed %v; before the restart %v, %v", after.Checked, after.Changed, before.Checked, before.Changed)
		}
		// The date of a clock that was ahead is worth nothing.
		w.cfg.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		w = w.crash()
		if after := w.Stats()[0]; !after.Changed.IsZero() {
			t.Errorf("changed %v", after.Changed)
		}
	})
}

// A suite that only hosts of another node use outlives a restart. When nobody has used it for UseFor, both nodes
// forget it, although they go on to exchange their state, and neither gets it back from the other.
func TestSuiteOfOtherNodesOutlivesRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 2).slowly()
		f.every = time.Minute
		f.publish()
		f.start()
		user, other := f.nodes[0], f.nodes[1]
		user.must(nobleIn)
		user.use(noblePkgs)
		time.Sleep(other.cfg.withDefaults().IdleAfter + 12*time.Hour)
		other.kill()
		other.resume()
		for range 10 {
			time.Sleep(time.Hour)
			if !other.Knows(noble()) {
				t.Fatal("forgotten because of the restart")
			}
		}
		time.Sleep(2 * other.cfg.withDefaults().UseFor)
		for range 20 {
			time.Sleep(time.Hour)
			if user.Knows(noble()) || other.Knows(noble()) {
				t.Fatal("never forgotten")
			}
		}
	})
}
