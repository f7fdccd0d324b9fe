package view

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// rowsOf are all rows of a list, and its strong ones.
func rowsOf(l *List) (rows []row, strong []strongRow) {
	for i := range l.rows.n {
		rows = append(rows, *l.rows.at(i))
	}
	for i := range l.strong.n {
		strong = append(strong, *l.strong.at(i))
	}
	return rows, strong
}

// A list has what was added, each row once and in order, whatever the order and the runs.
func TestBuilderAgainstAMap(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100, minRun - 1, minRun, minRun + 1, 5 * minRun, 9*minRun + 17} {
		r := rand.New(rand.NewPCG(1, uint64(n)))
		b := NewListBuilder(testSeed, 0)
		want := make(map[row]bool)
		for range n {
			i := r.IntN(n)
			f := proto.File{Path: []byte(poolPath(i)), Size: int64(i % 7), SHA256: proto.DigestOf([]byte{byte(i), byte(r.IntN(3))})}
			if err := b.Add(f); err != nil {
				t.Fatal(err)
			}
			want[row{testSeed.hash(f.Path), size(f.Size), f.SHA256}] = true
		}
		l, err := b.List()
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := rowsOf(l)
		if len(rows) != len(want) || !slices.IsSortedFunc(rows, row.compare) {
			t.Fatalf("%d added: %d rows, want %d; sorted %v", n, len(rows), len(want), slices.IsSortedFunc(rows, row.compare))
		}
		for _, r := range rows {
			if !want[r] {
				t.Fatalf("%d added: %+v was not", n, r)
			}
		}
	}
}

func TestWhatOneIndexSaysOfOnePath(t *testing.T) {
	sized := file("a", "x")
	unsized := sized
	unsized.Size = proto.UnknownSize
	odd := sized
	odd.Size = 1 << 62
	if l := listOf(t, unsized, sized, odd, sized); l.Len() != 1 || l.rows.at(0).size.bytes() != 1 {
		t.Errorf("%d rows, %+v", l.Len(), l.rows.at(0))
	}
	if l := listOf(t, unsized); l.rows.at(0).size.bytes() != proto.UnknownSize {
		t.Errorf("%+v", l.rows.at(0))
	}
	if l := listOf(t, proto.File{Path: []byte("a"), Size: 3}); l.Len() != 0 {
		t.Error("what nothing proves is listed")
	}
	both := sized
	both.SHA512 = proto.SHA512{1}
	if l := listOf(t, both); l.rows.n != 1 || l.strong.n != 0 {
		t.Error("a file with both sums is not listed by its SHA-256")
	}
	var many []proto.File
	for i := range 3 * MaxContents {
		many = append(many, file("a", fmt.Sprint(i)), strongFile("b", fmt.Sprint(i)))
	}
	if l := listOf(t, many...); l.rows.n != MaxContents || l.strong.n != MaxContents {
		t.Errorf("%d and %d contents of one path", l.rows.n, l.strong.n)
	}
}

func TestTooManyRows(t *testing.T) {
	for _, of := range []func(path, content string) proto.File{file, strongFile} {
		b := NewListBuilder(testSeed, 1000)
		for i := range 100_000 { // one row
			if err := b.Add(of("same", "x")); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		for i := range 999 {
			if err := b.Add(of(poolPath(i), "x")); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		if l, err := b.List(); err != nil || l.Len() != 1000 {
			t.Fatalf("%d rows: %v", l.Len(), err)
		}
		b, n := NewListBuilder(testSeed, 1000), 0
		for ; n < 10_000; n++ {
			if err := b.Add(of(poolPath(n), "x")); err != nil {
				if !errors.Is(err, ErrTooManyRows) {
					t.Fatal(err)
				}
				break
			}
		}
		if n < 1000 || n > 1250 {
			t.Errorf("stopped after %d", n)
		}
		if l, err := b.List(); !errors.Is(err, ErrTooManyRows) || l.Len() < 1000 {
			t.Errorf("%v", err)
		}
	}
	b := NewListBuilder(testSeed, 10)
	for i := range 11 {
		b.Add(file(poolPath(i), "x"))
	}
	if _, err := b.List(); !errors.Is(err, ErrTooManyRows) {
		t.Errorf("one too many: %v", err)
	}
}

// Eight million equal stanzas cost one row, and no more memory than the first run.
func TestEqualStanzasCostOneRow(t *testing.T) {
	n := 8_000_000
	if testing.Short() {
		n = 500_000
	}
	f := file("a", "x")
	b := NewListBuilder(testSeed, 0)
	before := allocated()
	for range n {
		if err := b.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.List()
	if err != nil || l.Len() != 1 {
		t.Fatalf("%d rows, %v", l.Len(), err)
	}
	if got := allocated() - before; got > 10<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

// allocated counts all bytes that were ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestListRoundTrip(t *testing.T) {
	many := []proto.File{}
	for i := range 3*blockLen + 5 {
		many = append(many, file(poolPath(i), "x"), strongFile(poolPath(-i), "y"))
	}
	for name, l := range map[string]*List{
		"empty": listOf(t), "one": listOf(t, file("a", "x")), "strong": listOf(t, strongFile("a", "x")),
		"many": listOf(t, many...), "whole blocks": listOf(t, many[:2*blockLen]...),
	} {
		b := fileOf(t, l)
		got, err := ReadList(bytes.NewReader(b), testSeed)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		gotRows, gotStrong := rowsOf(got)
		rows, strong := rowsOf(l)
		if !reflect.DeepEqual(gotRows, rows) || !reflect.DeepEqual(gotStrong, strong) {
			t.Errorf("%s: became %d and %d rows, were %d and %d", name, len(gotRows), len(gotStrong), len(rows), len(strong))
		}
		src := memLists{"l": b}
		if n, err := CheckList(src, "l", testSeed); err != nil || n != l.Len() {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
		if _, err := CheckList(src, "l", Seed{}); !errors.Is(err, ErrList) {
			t.Errorf("%s: of another seed: %v", name, err)
		}
		if _, err := CheckList(src, "m", testSeed); err == nil || errors.Is(err, ErrList) {
			t.Errorf("%s: missing: %v", name, err)
		}
		has, err := ListHas(src, "l", testSeed, "a")
		if err != nil || has != (name == "one" || name == "strong") {
			t.Errorf("%s: lists a: %v, %v", name, has, err)
		}
	}
}

type failing struct {
	io.Reader
	err error
}

func (f failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

// Whatever is torn, garbled or grown is a miss, never a wrong row; trouble with the disk is no miss.
func TestDamagedListIsAMiss(t *testing.T) {
	whole := fileOf(t, listOf(t, file("a", "1"), file("b", "2"), strongFile("c", "3")))
	read := func(b []byte) error {
		_, err := ReadList(bytes.NewReader(b), testSeed)
		return err
	}
	for n := range len(whole) {
		if err := read(whole[:n]); !errors.Is(err, ErrList) {
			t.Fatalf("torn at %d: %v", n, err)
		}
		bad := slices.Clone(whole)
		bad[n] ^= 0x40
		if err := read(bad); !errors.Is(err, ErrList) {
			t.Fatalf("garbled at %d: %v", n, err)
		}
		if _, err := ReadList(failing{bytes.NewReader(whole[:n]), io.ErrNoProgress}, testSeed); !errors.Is(err, io.ErrNoProgress) {
			t.Fatalf("a disk that fails at %d: %v", n, err)
		}
	}
	if err := read(append(slices.Clone(whole), 0)); !errors.Is(err, ErrList) {
		t.Errorf("grown: %v", err)
	}
	for _, counts := range [][2]uint64{{3, 1}, {2, 2}, {1, 1}, {2, 0}, {1 << 61, 1}, {2, 1 << 60}, {1 << 63, 1 << 63}, {^uint64(0), ^uint64(0)}} {
		bad := slices.Clone(whole)
		binary.LittleEndian.PutUint64(bad[len(listMagic)+8:], counts[0])
		binary.LittleEndian.PutUint64(bad[len(listMagic)+16:], counts[1])
		seal(bad[:listHeader])
		before := allocated()
		if err := read(bad); !errors.Is(err, ErrList) {
			t.Errorf("counts %d under a checksum that is right: %v", counts, err)
		}
		if n := allocated() - before; n > 1<<20 {
			t.Errorf("counts %d: %d bytes were allocated", counts, n)
		}
	}
	// Rows in a wrong order, twice, or with the marks of a table, under checksums that are right.
	rows := whole[listHeader:][:2*48+4]
	for name, spoil := range map[string]func(){
		"order": func() { x := slices.Clone(rows[:48]); copy(rows, rows[48:96]); copy(rows[48:], x) },
		"twice": func() { copy(rows[48:96], rows[:48]) },
		"marks": func() { rows[15] |= 0x80 },
	} {
		kept := slices.Clone(rows)
		spoil()
		seal(rows)
		if err := read(whole); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", name, err)
		}
		copy(rows, kept)
	}
	if err := read(whole); err != nil {
		t.Error(err)
	}
}

// seal gives bytes the checksum that fits them.
func seal(b []byte) {
	copy(b[len(b)-4:], appendSum(slices.Clone(b[:len(b)-4]), 0)[len(b)-4:])
}

func FuzzReadList(f *testing.F) {
	f.Add([]byte{}, uint64(0), uint64(0))
	whole := fileOf(f, listOf(f, file("a", "1"), file("b", "2"), strongFile("c", "3")))
	f.Add(whole[listHeader:], uint64(2), uint64(1))
	f.Fuzz(func(t *testing.T, body []byte, rows, strong uint64) {
		// A header that is right, and blocks whose checksums are, so that the reading goes on.
		b := append([]byte(listMagic), make([]byte, listHeader-len(listMagic))...)
		binary.LittleEndian.PutUint64(b[len(listMagic):], testSeed.mark())
		binary.LittleEndian.PutUint64(b[len(listMagic)+8:], rows)
		binary.LittleEndian.PutUint64(b[len(listMagic)+16:], strong)
		seal(b)
		at := len(b)
		b = append(b, body...)
		for _, part := range []struct{ n, width uint64 }{{rows, 48}, {strong, 80}} {
			for left := part.n; left > 0; {
				n := min(left, blockLen)
				end := at + int(n*part.width) + 4
				if end > len(b) {
					break
				}
				seal(b[at:end])
				at, left = end, left-n
			}
		}
		l, err := ReadList(bytes.NewReader(b), testSeed)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if l.Len()*48 > len(b) {
			t.Fatalf("%d rows of %d bytes", l.Len(), len(b))
		}
		if again := fileOf(t, l); !bytes.Equal(again, b) {
			t.Fatal("it is not written as it was read")
		}
		src := memLists{"l": b}
		tab := tableOf(t, src, []string{"l"}, nil)
		fr, _ := frozenOf(t, src, "l")
		all, more := rowsOf(l)
		for _, r := range all {
			if got, ok := tab.find(r.hash); !ok || !slices.Contains(got.all(), r.ref()) && l.rows.n <= MaxContents {
				t.Fatalf("row %x is lost", r.hash)
			}
		}
		for _, r := range more {
			if _, ok := tab.find(r.hash); !ok {
				t.Fatalf("strong row %x is lost", r.hash)
			}
		}
		fr.Lookup("x")
	})
}
