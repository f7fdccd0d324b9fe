package holdings

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// whole is the Updates by which digests 0..n-1 are told.
func whole(t *testing.T, n int) []Update {
	t.Helper()
	c := localOf(n).Follow()
	defer c.Close()
	var updates []Update
	for len(updates) == 0 || len(c.unsent) > 0 {
		u, err := c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		updates = append(updates, u)
	}
	return updates
}

func TestApplyRefuses(t *testing.T) {
	begun := whole(t, 150_000)[0]
	many := make([]uint64, maxReported+1)
	for name, hostile := range map[string][]Update{
		"a filter that is too large":   {{Begin: true, FilterBits: maxFilterBytes*8 + 8, FilterHashes: 8}},
		"a crooked number of bits":     {{Begin: true, FilterBits: 12, FilterHashes: 8}},
		"no hashes":                    {{Begin: true, FilterBits: 64}},
		"too many hashes":              {{Begin: true, FilterBits: 64, FilterHashes: maxHashes + 1}},
		"more filter than announced":   {{Begin: true, FilterBits: 64, FilterHashes: 8, Filter: make([]byte, 9)}},
		"more in the second piece":     {{Begin: true, FilterBits: 64, FilterHashes: 8, Filter: make([]byte, 4)}, {Filter: make([]byte, 5)}},
		"a piece of no filter":         {{Filter: make([]byte, 4)}},
		"no piece":                     {begun, {}},
		"changes instead of a piece":   {begun, {Added: []uint64{1}}},
		"changes with a piece":         {begun, {Filter: make([]byte, 4), Added: []uint64{1}}},
		"too many changes in one step": {{Added: many[:maxReported/2], Removed: many[:maxReported/2+1]}},
	} {
		r := NewRemote()
		for _, u := range whole(t, 100) {
			if err := r.Apply(u); err != nil {
				t.Fatal(err)
			}
		}
		for i, u := range hostile {
			if err := r.Apply(u); (err == nil) != (i < len(hostile)-1) {
				t.Errorf("%s: update %d: %v", name, i, err)
			}
		}
		if !r.Has(digest(5)) || r.Has(digest(500)) || r.arriving != nil {
			t.Errorf("%s: what was known before is gone", name)
		}
	}
	if err := NewRemote().Apply(Update{Added: []uint64{1}}); err == nil {
		t.Error("changes before the first filter were taken")
	}
}

func TestChangesWithoutEndAreRefused(t *testing.T) {
	r := NewRemote()
	for _, u := range whole(t, 1) {
		if err := r.Apply(u); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	reported := 0
	for batch := uint64(0); err == nil && reported < 10*maxChangeSet; batch++ {
		u := Update{Added: make([]uint64, maxReported)}
		for i := range u.Added {
			u.Added[i] = (batch*maxReported + uint64(i)) * 0x9e3779b97f4a7c15
		}
		if err = r.Apply(u); err == nil {
			reported += maxReported
		}
	}
	if err == nil || reported > maxChangeSet {
		t.Errorf("%d changes were taken: %v", reported, err)
	}
	if !r.Has(digest(0)) {
		t.Error("what was known before is gone")
	}
}

func TestRemoteBeforeAndBetweenFilters(t *testing.T) {
	r := NewRemote()
	if r.Has(digest(0)) || r.Len() != 0 || r.Bytes() != 0 {
		t.Error("something is known of a node that said nothing")
	}
	if err := r.Apply(Update{Begin: true}); err != nil || r.Has(digest(0)) {
		t.Errorf("a node that holds nothing: %v", err)
	}
	if err := r.Apply(Update{Added: []uint64{prefixOf(digest(7))}, Blobs: 1}); err != nil || !r.Has(digest(7)) || r.Len() != 1 {
		t.Errorf("an addition to nothing: %v", err)
	}
	// The old knowledge serves until the last piece of the new filter is there.
	updates := whole(t, 150_000)
	for i, u := range updates {
		if !r.Has(digest(7)) || r.Has(digest(8)) {
			t.Errorf("piece %d: the old filter is gone", i)
		}
		if err := r.Apply(u); err != nil {
			t.Fatal(err)
		}
	}
	if !r.Has(digest(8)) || r.Bytes() != 150_000*filterBitsPerEntry/8 {
		t.Errorf("the new filter is not in place; %d bytes", r.Bytes())
	}
}

// FuzzApply reads Updates from bytes. Whatever they say, memory stays in
// proportion to what was sent, and a new filter mends everything.
func FuzzApply(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 64, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 1, 9, 9})
	f.Add([]byte{1, 255, 8, 255, 0, 0, 0, 255, 1, 1})
	f.Add(bytes.Repeat([]byte{1, 16, 4, 2, 255, 255, 2, 2}, 20))
	honest := localOf(50)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewRemote()
		in := bytes.NewReader(data)
		next := func() uint64 { b, _ := in.ReadByte(); return uint64(b) }
		for in.Len() > 0 {
			u := Update{Begin: next()&1 == 1, FilterBits: next() * next(), FilterHashes: uint32(next())}
			if next() == 77 {
				u.FilterBits <<= 40
			}
			u.Filter = make([]byte, next())
			in.Read(u.Filter)
			for range next() % 5 {
				u.Added = append(u.Added, next()<<56|next())
			}
			for range next() % 5 {
				u.Removed = append(u.Removed, next()<<56|next())
			}
			u.Blobs = next() << 57
			r.Apply(u)
			r.Has(digest(3))
			if r.Len() < 0 {
				t.Errorf("%d blobs", r.Len())
			}
		}
		if r.Bytes() > 256*(len(data)+1) {
			t.Errorf("%d bytes of input take %d bytes", len(data), r.Bytes())
		}
		c := honest.Follow()
		defer c.Close()
		u, _ := c.Next(t.Context())
		if err := r.Apply(u); err != nil {
			t.Fatalf("a new filter is refused: %v", err)
		}
		for i := range 50 {
			if !r.Has(digest(i)) {
				t.Fatalf("digest %d is missing", i)
			}
		}
	})
}

func BenchmarkRemoteHas(b *testing.B) {
	const n = 1_000_000
	l := localOf(n)
	c := l.Follow()
	defer c.Close()
	r := NewRemote()
	for {
		u, _ := c.Next(b.Context())
		if r.Apply(u) != nil {
			b.Fatal("refused")
		}
		if len(c.unsent) == 0 {
			break
		}
	}
	var changes []uint64
	for i := range 30_000 {
		changes = append(changes, prefixOf(digest(n+i)))
	}
	if err := r.Apply(Update{Added: changes}); err != nil {
		b.Fatal(err)
	}
	for name, from := range map[string]int{"held": 0, "absent": 2 * n} {
		b.Run(name, func(b *testing.B) {
			d := digest(from)
			for i := 0; b.Loop(); i++ {
				binary.BigEndian.PutUint64(d[:], binary.BigEndian.Uint64(d[:])*0x9e3779b97f4a7c15+1)
				r.Has(d)
			}
		})
	}
}

func BenchmarkLocal(b *testing.B) {
	b.Run("add", func(b *testing.B) {
		l := NewLocal()
		d := digest(0)
		for i := uint64(0); b.Loop(); i++ {
			binary.BigEndian.PutUint64(d[:], i%1_000_000*0x9e3779b97f4a7c15)
			l.Add(d)
		}
	})
	b.Run("filter of a million", func(b *testing.B) {
		l := localOf(1_000_000)
		for b.Loop() {
			l.builder.last = nil
			l.whole()
		}
	})
}
