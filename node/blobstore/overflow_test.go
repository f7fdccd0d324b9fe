package blobstore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// TestOverflow: what a full disk does not take is there all the same, with its date and its mark, also
// where the disk became full in the middle of it; and it comes to the disk when that has room again.
func TestOverflow(t *testing.T) {
	for _, at := range []string{"create", "begin", "middle"} {
		for _, size := range []int{50_000, 2 << 20} {
			disk := &faultFS{}
			c := newClock()
			cfg := Config{Dir: fastDir(t), fs: disk, OverflowBytes: 8 << 20, MemoryBytes: 1 << 20, Now: c.now}
			s := open(t, cfg)
			waitScanned(s)
			content := randomBytes(1, size)
			step := map[string]string{"create": "blob.create", "begin": "blob.write", "middle": "blob.write"}[at]
			if at != "middle" {
				disk.Break(step, unix.ENOSPC)
			}
			w, err := s.Create(int64(size))
			if err != nil {
				t.Fatal(err)
			}
			w.Only("a")
			if at == "middle" {
				_, _ = w.Write(content[:size/2])
				disk.Break(step, unix.ENOSPC)
			} else {
				_, _ = w.Write(content[:size/2])
			}
			r, err := w.Reader()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if n, err := w.Write(content[size/2:]); err != nil || n != size-size/2 {
				t.Fatalf("%s: Write = %d, %v", at, n, err)
			}
			ref, err := w.Commit(someDay)
			if err != nil || ref != refOf(content) {
				t.Fatalf("Commit = %v, %v", ref, err)
			}
			b, got := body(t, s, ref.Digest)
			if !bytes.Equal(got, content) || !b.Modified.Equal(someDay) || b.Tier != proto.TierMemory {
				t.Errorf("%s: %v, %v, right: %v", at, b.Modified, b.Tier, bytes.Equal(got, content))
			}
			if only := s.Only(ref.Digest); !slices.Equal(only, []string{"a"}) {
				t.Errorf("%s: Only = %q", at, only)
			}
			if at, ok := s.Stat(ref.Digest); !ok || at != ref {
				t.Errorf("Stat = %v, %v", at, ok)
			}
			if late, err := w.Reader(); err != nil {
				t.Error(err)
			} else {
				if all, err := io.ReadAll(late); err != nil || !bytes.Equal(all, content) {
					t.Errorf("%s: a late reader has %d bytes, %v", at, len(all), err)
				}
				late.Close()
			}
			if st := s.Stats(); st.Overflow != int64(size) || st.Used != 0 || st.Reserved != 0 || st.Degraded == "" || s.space.pending.Load() != 0 {
				t.Errorf("%s: %+v", at, st)
			}
			wantWhole(t, s)

			disk.Heal()
			mustPut(t, s, []byte("it fits"))
			s.overflow.draining.Wait()
			if st := s.Stats(); st.Overflow != 0 || st.Blobs != 2 {
				t.Errorf("%s: not on the disk: %+v", at, st)
			}
			if b, got := body(t, s, ref.Digest); !bytes.Equal(got, content) || b.Tier == proto.TierMemory && size > 1<<20 || !slices.Equal(s.Only(ref.Digest), []string{"a"}) {
				t.Errorf("%s: on the disk: %v, right: %v", at, b.Tier, bytes.Equal(got, content))
			}
			wantWhole(t, s)
		}
	}
}

// TestOverflowIsBounded: the least recently used goes, nothing pinned does, and one blob has half of it at
// most.
func TestOverflowIsBounded(t *testing.T) {
	disk := &faultFS{}
	c := newClock()
	s := open(t, Config{Dir: fastDir(t), fs: disk, OverflowBytes: 1 << 20, Now: c.now})
	waitScanned(s)
	disk.Break("blob.create", unix.ENOSPC)
	var digests []proto.Digest
	put := func(seed uint64, size int) error {
		c.advance(time.Second)
		content := randomBytes(seed, size)
		digests = append(digests, proto.DigestOf(content))
		_, err := s.Put(content, someDay)
		return err
	}
	for i := range 4 {
		if err := put(uint64(i), 256<<10); err != nil {
			t.Fatal(err)
		}
	}
	s.Pin("x", digests[:1])
	body(t, s, digests[1])
	if err := put(4, 256<<10); err != nil {
		t.Fatal(err)
	}
	if got := held(s, digests); got != "0 1 3 4" {
		t.Errorf("left are %s", got)
	}
	if err := put(5, 600<<10); !errors.Is(err, proto.ErrNoSpace) {
		t.Errorf("more than half of it: %v", err)
	}
	s.Pin("x", digests)
	if err := put(6, 256<<10); !errors.Is(err, proto.ErrNoSpace) {
		t.Errorf("all is pinned: %v", err)
	}
	if st := s.Stats(); st.Overflow != 1<<20 {
		t.Errorf("%+v", st)
	}
	w, err := s.Create(proto.UnknownSize)
	s.Pin("x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1<<20)); !errors.Is(err, proto.ErrNoSpace) {
		t.Errorf("an unknown size has no bound: %v", err)
	}
	w.Abort()
	if _, err := w.Reader(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an aborted writer has a reader: %v", err)
	}
	for _, d := range digests {
		if err := s.Remove(d); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Overflow != 0 {
		t.Errorf("%+v", st)
	}
}

// TestOverflowOfASmallStore: a blob larger than the whole store, or than what pins leave, is in memory.
func TestOverflowOfASmallStore(t *testing.T) {
	s := open(t, Config{Dir: fastDir(t), MaxBytes: 1 << 20, OverflowBytes: 64 << 20})
	waitScanned(s)
	pinned := mustPut(t, s, randomBytes(1, 700<<10))
	s.Pin("x", []proto.Digest{pinned})
	for i, size := range []int{400 << 10, 2 << 20, 5 << 20} {
		content := randomBytes(uint64(10+i), size)
		d := mustPut(t, s, content)
		if b, got := body(t, s, d); !bytes.Equal(got, content) || b.Tier != proto.TierMemory {
			t.Errorf("%d bytes: %v", size, b.Tier)
		}
	}
	if st := s.Stats(); st.Evictions != 0 || st.Used != 700<<10 {
		t.Errorf("%+v", st)
	}
	s.Close()
	if _, err := s.Get(pinned); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}
