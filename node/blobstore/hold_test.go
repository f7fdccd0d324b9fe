package blobstore

import (
	"errors"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// these are digests that are held.
type these []proto.Digest

func (d these) Has(digest proto.Digest) bool { return slices.Contains(d, digest) }
func (d these) All() iter.Seq[proto.Digest]  { return slices.Values(d) }

// What is held is evicted as little as what is pinned, counts once with it, and is let go with the set.
func TestHeldIsNeverEvicted(t *testing.T) {
	c := newClock()
	s := open(t, Config{MaxBytes: 1000, Now: c.now})
	waitScanned(s)
	digests := putHourly(t, s, c, 10)
	s.Hold(these{digests[0], digests[1], proto.DigestOf([]byte("not here"))})
	s.Pin("a", digests[1:3])
	mustPut(t, s, randomBytes(100, 200))
	if got := held(s, digests); got != "0 1 2 5 6 7 8 9" {
		t.Errorf("left are %s", got)
	}
	if st := s.Stats(); st.Pinned != 300 || st.PinnedBlobs != 3 {
		t.Errorf("pinned: %+v", st)
	}
	if _, err := s.Create(701); !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("Create beyond what is held: %v", err)
	}
	chosen := s.oldest(700, 700)
	s.Hold(these{digests[5]})
	for _, v := range chosen {
		s.evictOne(v)
	}
	if got := held(s, digests); got != "0 1 2 5" {
		t.Errorf("what was held just before it was to go: left are %s", got)
	}
	s.Hold(nil)
	if st := s.Stats(); st.Pinned != 200 {
		t.Errorf("nothing is held, and pinned are %d bytes", st.Pinned)
	}
	wantWhole(t, s)
}

// Check finds what is damaged, and removes it; what after fails with ends it.
func TestCheck(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	waitScanned(s)
	good, bad := mustPut(t, s, randomBytes(1, 5000)), mustPut(t, s, randomBytes(2, 5000))
	f, err := os.OpenFile(s.dirs.blob(bad), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 77); err != nil {
		t.Fatal(err)
	}
	read := 0
	if whole, err := s.Check(good, func(n int) error { read += n; return nil }); !whole || err != nil || read != 5000 {
		t.Errorf("a good blob: %v, %v, %d bytes read", whole, err, read)
	}
	stop := errors.New("stop")
	if _, err := s.Check(bad, func(int) error { return stop }); !errors.Is(err, stop) || !s.Has(bad) {
		t.Errorf("stopped: %v", err)
	}
	if whole, err := s.Check(bad, nil); whole || err != nil || s.Has(bad) {
		t.Errorf("a damaged blob: %v, %v, stored %v", whole, err, s.Has(bad))
	}
	if whole, err := s.Check(bad, nil); whole || err != nil {
		t.Errorf("one that is not there: %v, %v", whole, err)
	}
	if !s.Has(good) {
		t.Error("the good one is gone")
	}
}
