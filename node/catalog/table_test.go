package catalog

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"reflect"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

func listOf(paths ...string) *list {
	l := &list{}
	for _, p := range paths {
		l.add([]byte(p), int64(len(p)), proto.DigestOf([]byte(p)), proto.SHA512{})
	}
	return l
}

func poolPath(i int) string {
	return fmt.Sprintf("pool/main/p/package-%d/package-%d_1.0_amd64.deb", i, i)
}

func TestTableFinds(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 7, 1000, 20000} {
		l := &list{}
		for i := range n {
			p := poolPath(i)
			l.add([]byte(p), int64(i), proto.DigestOf([]byte(p)), proto.SHA512{})
		}
		tab := newTable([]*list{l})
		if tab.len() != n {
			t.Errorf("len %d, want %d", tab.len(), n)
		}
		for i := range n {
			p := poolPath(i)
			if r, ok := tab.lookup(p); !ok || r.size != int64(i) || r.digest != proto.DigestOf([]byte(p)) {
				t.Fatalf("%d rows: %s is %+v, %v", n, p, r, ok)
			}
		}
		for i := range 1000 {
			if r, ok := tab.lookup(poolPath(n + i)); ok {
				t.Fatalf("%d rows: found %+v, which nobody lists", n, r)
			}
		}
	}
	var none *table
	if _, ok := none.lookup("x"); ok || none.len() != 0 {
		t.Error("the nil table finds things")
	}
	if _, ok := none.lookupStrong("x"); ok {
		t.Error("the nil table finds things")
	}
}

func TestTablePriority(t *testing.T) {
	a, b := &list{}, &list{}
	one, two := proto.DigestOf([]byte("1")), proto.DigestOf([]byte("2"))
	strong := proto.SHA512(sha512.Sum512([]byte("3")))
	a.add([]byte("same"), 1, one, proto.SHA512{})
	b.add([]byte("same"), 2, two, proto.SHA512{})
	b.add([]byte("only"), 2, two, proto.SHA512{})
	a.add([]byte("row first"), 1, one, proto.SHA512{})
	b.add([]byte("row first"), 3, proto.Digest{}, strong)
	a.add([]byte("strong first"), 3, proto.Digest{}, strong)
	b.add([]byte("strong first"), 1, one, proto.SHA512{})
	a.add([]byte("unproven"), 9, proto.Digest{}, proto.SHA512{})
	a.add([]byte("both"), 1, one, strong)
	tab := newTable([]*list{a, b})

	for path, size := range map[string]int64{"same": 1, "only": 2, "row first": 1, "strong first": 0, "unproven": 0, "both": 1} {
		if r, _ := tab.lookup(path); r.size != size {
			t.Errorf("%s: row of size %d, want %d", path, r.size, size)
		}
	}
	for path, size := range map[string]int64{"same": 0, "row first": 0, "strong first": 3, "both": 0} {
		if r, _ := tab.lookupStrong(path); r.size != size || size > 0 && r.sha512 != strong {
			t.Errorf("%s: strong row of size %d, want %d", path, r.size, size)
		}
	}
	if tab.len() != 5 {
		t.Errorf("%d files, want 5", tab.len())
	}
}

func TestListRoundTrip(t *testing.T) {
	l := listOf("a", "b", "c")
	l.add([]byte("unknown size"), proto.UnknownSize, proto.DigestOf(nil), proto.SHA512{})
	l.add([]byte("strong"), 7, proto.Digest{}, sha512.Sum512([]byte("s")))
	l.add([]byte("stronger"), 8, proto.Digest{}, sha512.Sum512([]byte("t")))
	for _, l := range []*list{{}, listOf("x"), l} {
		got, err := unmarshalList(l.marshal())
		if err != nil {
			t.Fatal(err)
		}
		if len(got.rows) != len(l.rows) || len(l.rows) > 0 && !reflect.DeepEqual(got.rows, l.rows) || !maps.Equal(got.strong, l.strong) {
			t.Errorf("got %+v, want %+v", got, l)
		}
	}
}

// Whatever is torn, garbled or grown is a miss, never a wrong row.
func TestDamagedTableIsAMiss(t *testing.T) {
	l := listOf("a", "b")
	l.add([]byte("strong"), 7, proto.Digest{}, sha512.Sum512([]byte("s")))
	whole := l.marshal()
	for n := range len(whole) {
		if _, err := unmarshalList(whole[:n]); !errors.Is(err, errTable) {
			t.Fatalf("torn at %d: %v", n, err)
		}
		bad := append([]byte(nil), whole...)
		bad[n] ^= 0x40
		if _, err := unmarshalList(bad); !errors.Is(err, errTable) {
			t.Fatalf("garbled at %d: %v", n, err)
		}
	}
	if _, err := unmarshalList(append(whole, 0)); !errors.Is(err, errTable) {
		t.Errorf("grown: %v", err)
	}
	// Counts that lie, under a checksum that is right.
	for _, counts := range [][2]uint64{{3, 1}, {2, 2}, {1 << 61, 1}, {2, 1 << 60}, {1 << 63, 1 << 63}, {^uint64(0), ^uint64(0)}} {
		bad := append([]byte(nil), whole...)
		binary.LittleEndian.PutUint64(bad[len(tableMagic):], counts[0])
		binary.LittleEndian.PutUint64(bad[len(tableMagic)+8:], counts[1])
		if _, err := unmarshalList(seal(bad)); !errors.Is(err, errTable) {
			t.Errorf("counts %d: %v", counts, err)
		}
	}
}

// seal gives a table file the checksum that fits it.
func seal(b []byte) []byte {
	body := b[:len(b)-4]
	return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

func FuzzUnmarshalList(f *testing.F) {
	f.Add([]byte{})
	f.Add(listOf("a", "b").marshal())
	strong := &list{}
	strong.add([]byte("strong"), 7, proto.Digest{}, sha512.Sum512([]byte("s")))
	f.Add(strong.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := unmarshalList(b); err == nil && len(b) < tableHeader+4 {
			t.Fatal("a file too short was read")
		}
		if len(b) < 4 {
			return
		}
		l, err := unmarshalList(seal(b)) // past the checksum
		if err != nil {
			return
		}
		if n := len(l.rows)*rowBytes + len(l.strong)*strongRowBytes; n > len(b) {
			t.Fatalf("%d bytes of rows from a file of %d", n, len(b))
		}
		tab := newTable([]*list{l})
		for _, r := range l.rows {
			if _, ok := tab.find(r.hash); !ok && r.hash != 0 {
				t.Fatalf("row %x is lost", r.hash)
			}
		}
		tab.lookup("x")
	})
}

func TestEscapeName(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range []string{"", ".", "..", "_", "__", "a", "a/b", "a_2fb", "dists/noble", "dists_noble", "a.b", ".a", "ä", "a b", "A"} {
		got := escapeName(name)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q are both %q", name, other, got)
		}
		seen[got] = name
		if got == "" || got[0] == '.' {
			t.Errorf("%q is %q", name, got)
		}
	}
}

func TestTableMemory(t *testing.T) {
	l := &list{}
	for i := range 10000 {
		l.add([]byte(poolPath(i)), 1, proto.DigestOf([]byte{byte(i)}), proto.SHA512{})
	}
	tab := newTable([]*list{l, l, l}) // generations share most of their packages
	if per := float64(len(tab.slots)*rowBytes) / 10000; per > 70 {
		t.Errorf("%.0f bytes per listed file", per)
	}
}
