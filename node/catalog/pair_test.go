package catalog

import (
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

const (
	nobleRelease = "dists/noble/Release"
	nobleGPG     = "dists/noble/Release.gpg"
)

func TestPairBesideInRelease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		if n := w.up.requests(nobleRelease); n != 0 {
			t.Error("the pair was read before anybody wanted it")
		}
		w.listedAs(nobleRelease, w.file(nobleRelease))
		e := w.listedAs(nobleGPG, w.file(nobleGPG))
		if !e.Generation.Equal(w.date()) || e.Modified.IsZero() || !e.Mutable {
			t.Errorf("%+v", e)
		}
		if n := w.up.requests(nobleRelease); n != 1 {
			t.Errorf("the pair was read %d times", n)
		}
		// Once used, it comes with each generation.
		time.Sleep(2 * time.Second)
		w.upgrade()
		w.switches()
		w.up.reset()
		w.listedAs(nobleRelease, w.file(nobleRelease))
		w.listedAs(nobleGPG, w.file(nobleGPG))
		if w.up.total() != 0 {
			t.Error("it was not staged with the generation")
		}
		w.keeper.evict()
		if _, err := w.keeper.Get(proto.DigestOf(w.file(nobleGPG))); err != nil {
			t.Error("the signature was evicted")
		}
		w = w.crash()
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w.listedAs(nobleGPG, w.file(nobleGPG))
	})
}

func TestPairOfAnotherGenerationIsNotServed(t *testing.T) {
	for name, view := range map[string]testarchive.View{
		"Release is newer":   {InRelease: 0, Release: 1, Signature: 1},
		"Release is older":   {InRelease: 1, Release: 0, Signature: 0},
		"signature is older": {InRelease: 1, Release: 1, Signature: 0, Indices: 1, ByHash: 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := nobleWorld(t)
				w.publish()
				time.Sleep(time.Minute)
				w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
				w.a.Prepare(time.Now())
				w.a.Show("noble", view)
				w.open()
				w.must(nobleIn)
				var busy *proto.Unavailable
				for range 5 {
					for _, path := range []string{nobleRelease, nobleGPG} {
						if e, err := w.get(path); !errors.As(err, &busy) || busy.RetryAfter <= 0 || errors.Is(err, proto.ErrNotFound) {
							t.Errorf("%s: %+v, %v", path, e, err)
						}
					}
				}
				if n := w.up.requests(nobleIn); n > 2 {
					t.Errorf("InRelease was read %d times in one second", n)
				}
				w.a.Show("noble", testarchive.At(1))
				time.Sleep(2 * time.Second)
				w.listedAs(nobleRelease, w.file(nobleRelease))
				w.listedAs(nobleGPG, w.file(nobleGPG))
				w.listedAs(nobleIn, w.file(nobleIn))
			})
		})
	}
}

// A pair that clients use is waited for with patience, like an optional index.
func TestStagedPairWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleRelease)
		time.Sleep(2 * time.Second)
		w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
		w.a.Prepare(time.Now())
		v := testarchive.At(1)
		v.Release, v.Signature = 0, 0
		w.a.Show("noble", v)
		w.stays("Release, Release.gpg")
		w.a.Show("noble", testarchive.At(1))
		time.Sleep(10 * time.Second)
		w.listedAs(nobleRelease, w.file(nobleRelease))

		w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "2"})
		w.a.Prepare(time.Now())
		v = testarchive.At(2)
		v.Release, v.Signature = 1, 1
		w.a.Show("noble", v)
		time.Sleep(5 * time.Minute)
		w.listedAs(nobleIn, w.file(nobleIn))
		if _, err := w.get(nobleRelease); err == nil {
			t.Error("a Release of the generation before is served")
		}
	})
}

func TestNoPairUpstream(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", NoRelease: true})
		w.publish()
		w.open()
		w.must(nobleIn)
		for _, path := range []string{nobleRelease, nobleGPG} {
			if _, err := w.get(path); !errors.Is(err, proto.ErrOtherForm) {
				t.Errorf("%s: %v", path, err)
			}
		}
		if _, err := w.get("dists/nobel/InRelease"); !errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrOtherForm) {
			t.Errorf("a suite that is not there: %v", err)
		}
		w.upgradeAgain()
		w.switches() // nor does it hold the next one back
	})
}
