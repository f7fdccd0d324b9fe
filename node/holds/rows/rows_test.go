package rows

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

func refs(numbers ...int) (all []proto.Ref) {
	for _, n := range numbers {
		all = append(all, proto.Ref{Digest: proto.DigestOf(fmt.Append(nil, n)), Size: int64(n)})
	}
	return all
}

func mapped(t *testing.T, all []proto.Ref) *Set {
	t.Helper()
	name := filepath.Join(t.TempDir(), "set")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(f, all); err != nil {
		t.Fatal(err)
	}
	s, err := Map(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSets(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1000} {
		var numbers []int
		for i := range n {
			numbers = append(numbers, i, i) // each twice
		}
		s := mapped(t, refs(numbers...))
		if s.Len() != n || s.Bytes() != int64(n*(n-1)/2) {
			t.Errorf("%d: %d rows, %d bytes", n, s.Len(), s.Bytes())
		}
		for i := range n + 10 {
			if s.Has(refs(i)[0].Digest) != (i < n) {
				t.Errorf("%d of %d", i, n)
			}
		}
		if !slices.IsSortedFunc(slices.Collect(s.Rows()), compare) {
			t.Error("not sorted")
		}
	}
	if s := mapped(t, []proto.Ref{{Digest: proto.DigestOf(nil), Size: proto.UnknownSize}}); s.Row(0).Size != proto.UnknownSize || s.Bytes() != 0 {
		t.Errorf("%v", s.Row(0))
	}
}

func TestUnite(t *testing.T) {
	not := func(size int64) func(proto.Ref) bool { return func(r proto.Ref) bool { return r.Size != size } }
	s, err := Unite(Part{mapped(t, refs(1, 2, 3)), not(2)}, Part{Set: &Set{}}, Part{mapped(t, refs(3, 4)), not(4)}, Part{mapped(t, refs(5, 1, 4)), not(1)})
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 4 || s.Bytes() != 13 {
		t.Errorf("%v", slices.Collect(s.Rows()))
	}
}

func TestDamagedFiles(t *testing.T) {
	for _, text := range []string{"", "amrows0", "amrows02", "amrows01x", "another thing"} {
		if _, err := Read([]byte(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func BenchmarkHas(b *testing.B) {
	var numbers []int
	for i := range 200_000 {
		numbers = append(numbers, i)
	}
	var out bytes.Buffer
	if err := Write(&out, refs(numbers...)); err != nil {
		b.Fatal(err)
	}
	s, _ := Read(out.Bytes())
	some := refs(numbers[:4096]...)
	for i := 0; b.Loop(); i++ {
		s.Has(some[i%len(some)].Digest)
	}
}

// A disk that fails under a mapped set is an error, and no end of the process.
func TestDiskFails(t *testing.T) {
	name := filepath.Join(t.TempDir(), "set")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for i := range 1000 {
		numbers = append(numbers, i)
	}
	if err := Write(f, refs(numbers...)); err != nil {
		t.Fatal(err)
	}
	s, err := Map(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 0); err != nil { // what is mapped has no pages any more
		t.Fatal(err)
	}
	if _, err := Unite(Part{Set: s}); err == nil {
		t.Error("a set without a disk is read")
	}
	if err := Guard(func() { s.Has(refs(1)[0].Digest) }); err == nil {
		t.Error("a digest is found in it")
	}
	defer func() {
		if recover() == nil {
			t.Error("another panic is taken for a failing disk")
		}
	}()
	Guard(func() { panic("another") })
}

// Digests that do not lie evenly are found, too.
func TestCrowdedDigests(t *testing.T) {
	for _, first := range []byte{0, 0x7f, 0xff} {
		var all []proto.Ref
		for i := range 1000 {
			d := proto.Digest{first, first, first, first, first, first, first, first, byte(i >> 8), byte(i)}
			all = append(all, proto.Ref{Digest: d, Size: 1})
		}
		all = append(all, refs(1, 2, 3)...)
		s := mapped(t, all[1:]) // without the first
		for i, ref := range all {
			if s.Has(ref.Digest) != (i > 0) {
				t.Errorf("%x: %d", first, i)
			}
		}
	}
}

// Fifty snapshots of a suite with 60,000 packages, of which each replaces 600.
func BenchmarkUnite(b *testing.B) {
	var parts []Part
	for snapshot := range 50 {
		var numbers []int
		for i := range 60_000 {
			numbers = append(numbers, i+600*snapshot)
		}
		var out bytes.Buffer
		if err := Write(&out, refs(numbers...)); err != nil {
			b.Fatal(err)
		}
		s, _ := Read(out.Bytes())
		parts = append(parts, Part{Set: s})
	}
	for b.Loop() {
		if s, err := Unite(parts...); err != nil || s.Len() != 60_000+49*600 {
			b.Fatal(err)
		}
	}
}
