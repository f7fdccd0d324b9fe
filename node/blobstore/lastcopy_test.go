package blobstore

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// others is what the other nodes hold.
type others struct {
	mu    sync.Mutex
	blobs map[proto.Digest]bool
	asked int
}

func (o *others) hold(digests ...proto.Digest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.blobs == nil {
		o.blobs = make(map[proto.Digest]bool)
	}
	for _, d := range digests {
		o.blobs[d] = true
	}
}

func (o *others) Replicated(d proto.Digest) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	return o.blobs[d]
}

// putDaily stores n blobs of 100 bytes, a day apart.
func putDaily(t *testing.T, s *Store, c *clock, n int) (digests []proto.Digest) {
	for i := range n {
		digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 100)))
		c.advance(24 * time.Hour)
	}
	return digests
}

func TestEvictsReplicatedBlobsFirst(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name       string
		replicated []int // nil: nobody is asked
		bonus      time.Duration
		want       []int // evicted, in this order
	}{
		{"alone", nil, day, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"all lone", []int{}, 0, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"all elsewhere", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 0, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"lone blobs outlive copies used a week later, at most", []int{5, 9}, 7*day - time.Hour, []int{5, 0, 1, 2, 9, 3, 4, 6, 7, 8}},
		{"a shorter bonus", []int{5, 9}, 60 * time.Hour, []int{0, 1, 2, 5, 3, 4, 6, 9, 7, 8}},
		{"for ever, nearly", []int{1, 8}, 1000 * day, []int{1, 8, 0, 2, 3, 4, 5, 6, 7, 9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClock()
			cfg := Config{MaxBytes: 1000, Now: c.now, LastCopyBonus: tc.bonus}
			var others others
			if tc.replicated != nil {
				cfg.Replicated = others.Replicated
			}
			s := open(t, cfg)
			waitScanned(s)
			digests := putDaily(t, s, c, 10)
			for _, i := range tc.replicated {
				others.hold(digests[i])
			}
			for n := range tc.want {
				mustPut(t, s, randomBytes(uint64(100+n), 100))
				gone := tc.want[:n+1]
				for i, d := range digests {
					if s.Has(d) == slices.Contains(gone, i) {
						t.Fatalf("left are %s; gone should be %v", held(s, digests), gone)
					}
				}
				c.advance(time.Minute)
			}
			wantWhole(t, s)
		})
	}
}

// TestOldestIsExact compares the choice with sorting all blobs.
func TestOldestIsExact(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 1))
		var others others
		bonus := time.Duration(r.IntN(200)*10 + 5) // so that no two ranks are equal
		cfg := Config{LastCopyBonus: bonus}
		if seed%4 > 0 {
			cfg.Replicated = others.Replicated
		}
		s := open(t, cfg)
		waitScanned(s)
		type blob struct {
			digest     proto.Digest
			size, rank int64
		}
		var all []blob
		var pinned []proto.Digest
		for i, place := range r.Perm(200) {
			d := proto.DigestOf(fmt.Append(nil, seed, i))
			size, used := r.Int64N(100)+1, int64(3000+10*place)
			s.index.shard(d).put(d, newEntry(size, used))
			b := blob{d, size, used}
			if cfg.Replicated != nil && r.IntN(4) < int(seed%5) {
				others.hold(d)
				b.rank -= int64(bonus)
			}
			if r.IntN(10) == 0 {
				pinned = append(pinned, d)
				continue
			}
			all = append(all, b)
		}
		s.Pin("test", pinned)
		slices.SortFunc(all, func(a, b blob) int { return cmp.Compare(a.rank, b.rank) })

		need := r.Int64N(2000) + 1
		upTo := need + r.Int64N(2000)
		var total int64
		var got, want []proto.Digest
		for _, b := range all {
			if total >= need && total+b.size > upTo {
				break
			}
			total += b.size
			want = append(want, b.digest)
		}
		for _, v := range s.oldest(need, upTo) {
			got = append(got, v.digest)
			if v.replicated != others.blobs[v.digest] {
				t.Errorf("seed %d: %+v", seed, v)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: chose %d, want %d, or others", seed, len(got), len(want))
		}
	}
}

// TestReplicatedIsCalledSparingly: not of each blob for each eviction.
func TestReplicatedIsCalledSparingly(t *testing.T) {
	const blobs = 20_000
	var others others
	s := open(t, Config{Replicated: others.Replicated, Observer: deaf{}})
	waitScanned(s)
	s.fill(blobs, 60*24*time.Hour)
	for _, tc := range []struct {
		name string
		most int
	}{{"none is elsewhere", blobs / 4}, {"all are", blobs / 8}} {
		others.asked = 0
		if n := len(s.oldest(1, blobs*50_000/evictBatch)); n != blobs/evictBatch {
			t.Errorf("%s: chose %d", tc.name, n)
		}
		if others.asked > tc.most {
			t.Errorf("%s: asked about %d of %d blobs, want %d at most", tc.name, others.asked, blobs, tc.most)
		}
		for i := range s.index {
			for d := range s.index[i].blob {
				others.hold(d)
			}
		}
	}
}

// TestLastCopyIsSpared: what was elsewhere when it was chosen, and no longer when
// its turn comes, stays, unless the room is needed.
func TestLastCopyIsSpared(t *testing.T) {
	for _, tc := range []struct {
		name  string
		still int // are elsewhere when their turn comes
		want  int64
	}{{"the other node evicted all of them too", 0, 1}, {"most of them", 2, 2}} {
		c := newClock()
		var others others
		version := false
		s := open(t, Config{MaxBytes: 64_000, Now: c.now, Replicated: func(d proto.Digest) bool { return !version || others.Replicated(d) }})
		waitScanned(s)
		digests := putHourly(t, s, c, 640)
		others.hold(digests[5 : 5+tc.still]...)
		s.evicting.Lock()
		chosen := s.oldest(100, 1100)
		version = true
		freed := s.evictAll(chosen, 100)
		s.evicting.Unlock()
		if st := s.Stats(); len(chosen) != 11 || st.Evictions != tc.want || freed != 100*tc.want {
			t.Errorf("%s: chose %d, evicted %d, freed %d", tc.name, len(chosen), st.Evictions, freed)
		}
		if tc.still > 0 && (s.Has(digests[5]) || !s.Has(digests[0])) {
			t.Errorf("%s: the wrong ones went", tc.name)
		}
		wantWhole(t, s)
	}
}

func TestLastCopies(t *testing.T) {
	for _, size := range []int{1, 3, 20, 1000} {
		c := newClock()
		s := open(t, Config{Now: c.now})
		waitScanned(s)
		var others others
		var digests []proto.Digest
		for i := range 20 {
			digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 100+i)))
			if i%4 > 0 { // of some the last use is the same
				c.advance(time.Hour)
			}
		}
		others.hold(digests[3], digests[18])
		body(t, s, digests[7])
		c.advance(time.Hour)
		used := s.index.shard(digests[0]).get(digests[0]).used.Load()

		var got []int
		var uses []int64
		for ref := range s.lastCopyPages(others.Replicated, size) {
			i := slices.Index(digests, ref.Digest)
			if ref.Size != int64(100+i) {
				t.Errorf("blob %d has %d bytes", i, ref.Size)
			}
			got = append(got, i)
			uses = append(uses, s.index.shard(ref.Digest).get(ref.Digest).used.Load())
		}
		slices.Reverse(uses)
		if !slices.IsSorted(uses) {
			t.Errorf("pages of %d: %v are out of order", size, got)
		}
		slices.Sort(got)
		if want := []int{0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: came %v, want %v", size, got, want)
		}
		if s.index.shard(digests[0]).get(digests[0]).used.Load() != used {
			t.Error("the look counted as a use")
		}
	}
}

// TestLastCopiesWhileTheStoreIsInUse: nothing that is there from beginning to end is left
// out, whatever is used, comes, goes or is taken by others meanwhile.
func TestLastCopiesWhileTheStoreIsInUse(t *testing.T) {
	c := newClock()
	s := open(t, Config{Now: c.now})
	waitScanned(s)
	digests := putHourly(t, s, c, 10)
	body(t, s, digests[3]) // as the loop begins: it comes once
	var others others
	var got []string
	for ref := range s.lastCopyPages(others.Replicated, 3) {
		i := slices.Index(digests, ref.Digest)
		got = append(got, fmt.Sprint(i))
		switch i {
		case 9:
			c.advance(time.Minute)
			body(t, s, digests[2]) // of a later page: it is passed by, and comes at the end
			c.advance(time.Minute)
			body(t, s, digests[8]) // of this page
		case 8:
			others.hold(digests[7], digests[1])
			c.advance(time.Hour)
			digests = append(digests, mustPut(t, s, randomBytes(10, 100)))
		case 6:
			_ = s.Remove(digests[5])
			_ = s.Remove(digests[0])
		}
	}
	// 10 was stored meanwhile. 8 was used, too, when it was about to come.
	if want := "9 8 6 4 10 8 2 3"; strings.Join(got, " ") != want {
		t.Errorf("came %v, want %v", got, want)
	}
	n := 0
	for range s.LastCopies(others.Replicated) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d came after the break", n)
	}
}

// TestHas: it is seen before the scan is done, and does not count as a use.
func TestHas(t *testing.T) {
	c := newClock()
	s := open(t, Config{Now: c.now})
	d := mustPut(t, s, []byte("x"))
	used := s.index.shard(d).get(d).used.Load()
	c.advance(time.Hour)
	if !s.Has(d) || s.Has(proto.DigestOf([]byte("y"))) {
		t.Error("wrong")
	}
	s.scan.finished.Store(false)
	s.index.shard(d).drop(d)
	if !s.Has(d) || s.Has(proto.DigestOf([]byte("y"))) {
		t.Error("wrong before the scan is done")
	}
	s.index.shard(d).put(d, newEntry(1, used))
	s.scan.finished.Store(true)
	if s.index.shard(d).get(d).used.Load() != used {
		t.Error("it counted as a use")
	}
}

// TestReplicatedUnderLoad: for the race detector.
func TestReplicatedUnderLoad(t *testing.T) {
	var n atomic.Int64
	s := open(t, Config{MaxBytes: 50_000, LastCopyBonus: time.Millisecond, Replicated: func(proto.Digest) bool { return n.Add(1)%3 > 0 }})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				d := mustPut(t, s, randomBytes(uint64(g*1000+i), 500))
				_ = s.Has(d)
				if i%50 == 0 {
					for range s.LastCopies(func(proto.Digest) bool { return n.Add(1)%2 > 0 }) {
					}
				}
			}
		})
	}
	wg.Wait()
	wantWhole(t, s)
}
