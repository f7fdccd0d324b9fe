package catalog

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// What was under way when a suite is forgotten does not bring it back: neither its state nor its pins.
func TestForgottenWhileAGenerationIsStaged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.use(nobleIn, noblePkgs)
		time.Sleep(2 * time.Second)
		w.upgrade()
		goOn := make(chan struct{})
		w.up.setFault(func(_ context.Context, path string) error {
			if path != nobleIn {
				<-goOn
			}
			return nil
		})
		refreshed := make(chan error, 1)
		go func() { _, err := w.refresh(); refreshed <- err }()
		w.rest() // it stages
		var once sync.Once
		w.state.mu.Lock()
		w.state.onWrite = func() { once.Do(func() { close(goOn); time.Sleep(time.Second) }) } // a slow disk, and the members come
		w.state.mu.Unlock()
		d, _ := w.known(noble())
		d.mail.post(d.forget)
		<-d.ended
		w.rest()
		if err := <-refreshed; err == nil {
			t.Error("who waited for the check is told that all is well")
		}
		r, err := w.readRecord(d.fileName())
		if err != nil || r == nil || r.Current != nil {
			t.Errorf("the state of the suite after it was forgotten: %+v, %v", r, err)
		}
		if n := w.keeper.pinnedBy(noble().String()); n != 0 {
			t.Errorf("%d blobs are pinned for a suite that was forgotten", n)
		}
	})
}

// A suite may be forgotten between a switch and what is to be done after it.
func TestForgottenRightAfterASwitch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.use(nobleIn, noblePkgs)
		d, _ := w.known(noble())
		d.mail.post(func() {
			d.forget()
			d.mail.post(d.catchUp)
			d.mail.post(d.takeInRemote)
		})
		<-d.ended
		w.must(nobleIn)
	})
}

// Searches in an archive that does not answer are no burden for those in another.
func TestSearchesOfAnArchiveThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.cfg.Archives = append(w.cfg.Archives, Archive{Name: "b"})
		w.up.archives["b"] = testarchive.New(8)
		w.cfg.Archives[1].Suites = []proto.Suite{{Dir: "dists/down"}}
		w.up.stalling("down")
		w.open()
		w.use(nobleIn, noblePkgs)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for i := range 40 {
			go w.Discover(ctx, proto.Location{Archive: "b", Path: fmt.Sprintf("pool/main/x/x%d_1_amd64.deb", i)}, false)
		}
		w.rest()
		start := time.Now()
		e, err := w.get("pool/main/n/none_1_amd64.deb")
		if waited := time.Since(start); err != nil || e.Listed || waited > time.Second {
			t.Errorf("a search in another archive waited %v: %+v, %v", waited, e, err)
		}
	})
}

// A suite that the configuration names, and whose upstream does not answer, is nothing that others wait for again and
// again; and what the other suites list is listed.
func TestConfiguredSuiteThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}, {Dir: "dists/down"}}
		w.publish()
		w.up.stalling("dists/down")
		w.open()
		w.must(nobleIn)
		start := time.Now()
		w.listedAs(hello1, w.file(hello1)) // its index has not been read
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("a listed package waited %v", waited)
		}
		for n := range 3 {
			start = time.Now()
			if e, err := w.get(fmt.Sprintf("pool/none_%d_amd64.deb", n)); err != nil || e.Listed {
				t.Errorf("%+v, %v", e, err)
			}
			if waited := time.Since(start); n > 0 && waited > time.Second {
				t.Errorf("file %d that nothing lists waited %v", n, waited)
			}
		}
	})
}

// An operator drops a suite: it is as if this node had never known it. A configured one is read anew.
func TestDrop(t *testing.T) {
	for _, configured := range []bool{false, true} {
		inNamedBubble(t, fmt.Sprintf("configured %t", configured), func(t *testing.T) {
			w := nobleWorld(t)
			if configured {
				w.cfg.Archives[0].Suites = []proto.Suite{{Dir: noble().Dir}}
			}
			w.publish()
			w.open()
			w.use(nobleIn, noblePkgs)
			older := w.file(nobleIn)
			time.Sleep(time.Hour)
			w.upgrade()
			w.switches()
			w.a.Put(nobleIn, older, time.Now()) // taken back: refused by all who know of the newer one
			w.rest()
			time.Sleep(2 * time.Second)
			if _, err := w.refresh(); !isRefused(err, suite.KindOlder) {
				t.Fatalf("the older root: %v", err)
			}
			d, _ := w.known(noble())
			if err := w.Drop(noble()); err != nil {
				t.Fatal(err)
			}
			if r, err := w.readRecord(d.fileName()); !configured && (err != nil || r != nil) {
				t.Errorf("a restart would find %+v, %v", r, err)
			}
			time.Sleep(2 * time.Second)
			if e := w.must(nobleIn); e.Object.Ref != refOfBytes(older) {
				t.Errorf("after it was dropped hosts get %v, upstream has %v", e.Object.Ref, refOfBytes(older))
			}
		})
	}
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		if err := w.Drop(noble()); err == nil {
			t.Error("a suite that nobody knows is dropped")
		}
	})
}

// Names that somebody makes up do not keep hosts from a suite that is there.
func TestMadeUpNamesMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		var all sync.WaitGroup
		for i := range 3 * maxUnknown {
			loc := w.loc(fmt.Sprintf("dists/made%d/InRelease", i))
			if i%16 == 0 {
				all.Wait() // as many as there are connections
			}
			all.Go(func() { w.Discover(context.Background(), loc, false) })
			if n := len(w.all("a")); n > maxUnknown+1 {
				t.Fatalf("%d suites", n)
			}
		}
		all.Wait()
		w.must(nobleIn)
	})
}
