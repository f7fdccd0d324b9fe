package view

import (
	"bytes"
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

func TestTableFinds(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 7, 1000, 20000} {
		var files []proto.File
		for i := range n {
			files = append(files, file(poolPath(i), fmt.Sprint(i)))
		}
		src := memLists{"l": fileOf(t, listOf(t, files...))}
		fr, _ := frozenOf(t, src, "l")
		tab := tableOf(t, src, []string{"l"}, nil)
		if tab.Len() != n || fr.Len() != n {
			t.Errorf("%d and %d rows, want %d", tab.Len(), fr.Len(), n)
		}
		for _, in := range []Files{tab, fr} {
			for i := range n {
				if l, ok, err := in.Lookup(poolPath(i)); !ok || err != nil || l.Ref != ref(fmt.Sprint(i)) || l.Others != nil || l.Retained {
					t.Fatalf("%T of %d rows: %s is %+v, %v, %v", in, n, poolPath(i), l, ok, err)
				}
			}
			for i := range 1000 {
				if l, ok, err := in.Lookup(poolPath(n + i)); ok || err != nil {
					t.Fatalf("%T of %d rows: found %+v, which nobody lists; %v", in, n, l, err)
				}
			}
		}
	}
	var none *Table
	if _, ok, err := none.Lookup("x"); ok || err != nil || none.Len() != 0 || none.Bytes() != 0 || none.Built(nil, nil) {
		t.Error("the nil table finds things")
	}
}

// What counts where several lists list one path.
func TestListingsThatDisagree(t *testing.T) {
	for name, tt := range map[string]struct {
		current, retained [][]proto.File
		want              []proto.Ref // none: by SHA-512
		strong            string      // the content
		old               bool
	}{
		"one":                     {current: [][]proto.File{{file("p", "1")}}, want: []proto.Ref{ref("1")}},
		"all agree":               {current: [][]proto.File{{file("p", "1")}, {file("p", "1")}}, retained: [][]proto.File{{file("p", "1")}}, want: []proto.Ref{ref("1")}},
		"any current one vouches": {current: [][]proto.File{{file("p", "2")}, {file("p", "1")}, {file("p", "3")}, {file("p", "2")}}, want: []proto.Ref{ref("2"), ref("1"), ref("3")}},
		"current ones rule out retained ones": {
			current: [][]proto.File{{}, {file("p", "1")}}, retained: [][]proto.File{{file("p", "2")}}, want: []proto.Ref{ref("1")}},
		"retained ones, where no current one lists it": {
			current: [][]proto.File{{file("q", "1")}}, retained: [][]proto.File{{file("p", "2")}, {file("p", "3")}}, want: []proto.Ref{ref("2"), ref("3")}, old: true},
		"SHA-512":                                 {current: [][]proto.File{{strongFile("p", "1")}, {strongFile("p", "2")}}, strong: "1"},
		"SHA-256 before SHA-512":                  {current: [][]proto.File{{strongFile("p", "1")}, {file("p", "2")}}, want: []proto.Ref{ref("2")}},
		"current SHA-512 before retained":         {current: [][]proto.File{{strongFile("p", "1")}}, retained: [][]proto.File{{file("p", "2")}}, strong: "1"},
		"retained SHA-256 before SHA-512":         {retained: [][]proto.File{{strongFile("p", "1")}, {file("p", "2")}}, want: []proto.Ref{ref("2")}, old: true},
		"current SHA-256 and retained SHA-512":    {current: [][]proto.File{{file("p", "2")}}, retained: [][]proto.File{{strongFile("p", "1")}}, want: []proto.Ref{ref("2")}},
		"retained SHA-512":                        {retained: [][]proto.File{{strongFile("p", "1")}}, strong: "1", old: true},
		"the size that one of two lists knows":    {current: [][]proto.File{{{Path: []byte("p"), Size: -1, SHA256: ref("1").Digest}}, {file("p", "1")}}, want: []proto.Ref{ref("1")}},
		"two lengths of one digest":               {current: [][]proto.File{{{Path: []byte("p"), Size: 7, SHA256: ref("1").Digest}}, {file("p", "1")}}, want: []proto.Ref{{Digest: ref("1").Digest, Size: 7}, ref("1")}},
		"a neighbour's contents are not a path's": {current: [][]proto.File{{file("p", "1"), file("q", "1")}, {file("q", "2"), file("o", "2")}, {file("o", "3")}}, want: []proto.Ref{ref("1")}},
	} {
		t.Run(name, func(t *testing.T) {
			src := memLists{}
			add := func(lists [][]proto.File) (names []string) {
				for _, l := range lists {
					n := fmt.Sprint(len(src))
					src[n] = fileOf(t, listOf(t, l...))
					names = append(names, n)
				}
				return names
			}
			current, retained := add(tt.current), add(tt.retained)
			check := func(in Files) {
				l, ok, err := in.Lookup("p")
				if !ok || err != nil || l.Retained != tt.old {
					t.Fatalf("%T: %+v, %v, %v", in, l, ok, err)
				}
				if tt.strong != "" {
					if f := strongFile("p", tt.strong); l.SHA512 != f.SHA512 || !l.Ref.IsZero() || l.Ref.Size != f.Size {
						t.Errorf("%T: %+v", in, l)
					}
				} else if !slices.Equal(l.all(), tt.want) || l.SHA512 != (proto.SHA512{}) {
					t.Errorf("%T: %+v, want %v", in, l, tt.want)
				}
			}
			check(tableOf(t, src, current, retained))
			if !tt.old && tt.retained == nil {
				f, _ := frozenOf(t, src, current...)
				check(f)
			}
		})
	}
}

// A table says of each path what a plain reading of the lists says.
func TestTableAgainstAMap(t *testing.T) {
	for round := range uint64(30) {
		r := rand.New(rand.NewPCG(round, 7))
		src := memLists{}
		var names []string
		said := make(map[string][][]proto.Ref) // by path, for each list
		for i := range 1 + r.IntN(12) {
			name := fmt.Sprint("l", i)
			names = append(names, name)
			var files []proto.File
			for range r.IntN(800) {
				p := poolPath(r.IntN(500))
				f := file(p, fmt.Sprint(r.IntN(1+int(round)%4)))
				files = append(files, f)
				for len(said[p]) <= i {
					said[p] = append(said[p], nil)
				}
				if c := (proto.Ref{Digest: f.SHA256, Size: f.Size}); !slices.Contains(said[p][i], c) {
					said[p][i] = append(said[p][i], c)
				}
			}
			src[name] = fileOf(t, listOf(t, files...))
		}
		now := r.IntN(len(names) + 1)
		tab := tableOf(t, src, names[:now], names[now:])
		f, _ := frozenOf(t, src, names[:now]...)
		for i := range 510 {
			p := poolPath(i)
			want := [2][]proto.Ref{}
			for list, contents := range said[p] {
				slices.SortFunc(contents, func(a, b proto.Ref) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
				which := 0
				if list >= now {
					which = 1
				}
				for _, c := range contents {
					if !slices.Contains(want[which], c) {
						want[which] = append(want[which], c)
					}
				}
			}
			frozen, ok, err := f.Lookup(p)
			if err != nil || ok != (want[0] != nil) || ok && !slices.Equal(frozen.all(), want[0]) {
				t.Fatalf("round %d: %s frozen is %+v, %v, %v; want %v", round, p, frozen, ok, err, want[0])
			}
			all, old := want[0], false
			if all == nil {
				all, old = want[1], true
			}
			l, ok, _ := tab.Lookup(p)
			if ok != (all != nil) || ok && (!slices.Equal(l.all(), all) || l.Retained != old) {
				t.Fatalf("round %d: %s is %+v, %v; want %v, retained %v", round, p, l, ok, all, old)
			}
		}
	}
}

func TestLostLists(t *testing.T) {
	src := memLists{"a": fileOf(t, listOf(t, file("a", "1"))), "b": fileOf(t, listOf(t, file("b", "1"))), "c": fileOf(t, listOf(t, file("c", "1")))}
	src["torn"] = src["b"][:len(src["b"])-1]
	src["other seed"] = slices.Clone(src["b"])
	src["other seed"][len(listMagic)] ^= 1
	seal(src["other seed"][:listHeader])
	tab, lost := BuildTable(testSeed, src, []string{"none", "a", "torn"}, []string{"other seed", "c"}, 0)
	var names []string
	for _, l := range lost {
		names = append(names, l.Name)
		if (l.Name == "none") == errors.Is(l.Err, ErrList) {
			t.Errorf("%s: %v", l.Name, l.Err)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"none", "other seed", "torn"}) {
		t.Errorf("lost %v", names)
	}
	a, ok, _ := tab.Lookup("a")
	c, ok2, _ := tab.Lookup("c")
	if _, ok3, _ := tab.Lookup("b"); !ok || !ok2 || ok3 || a.Retained || !c.Retained {
		t.Errorf("a %+v %v, c %+v %v, b %v", a, ok, c, ok2, ok3)
	}
	if !tab.Built([]string{"a"}, []string{"c"}) || tab.Built([]string{"a", "c"}, nil) || tab.Built(nil, []string{"a", "c"}) || tab.Built([]string{"a"}, nil) {
		t.Error("Built")
	}
	if _, err := WriteFrozen(io.Discard, testSeed, src, []string{"a", "torn"}); !errors.Is(err, ErrList) && err == nil {
		t.Errorf("a frozen table without one of its lists: %v", err)
	}
}

// A table stays within its bound: the least trusted lists go, and what lists have in common counts
// once.
func TestTableBound(t *testing.T) {
	src := memLists{}
	for i := range 10 {
		var files []proto.File
		for j := range 100 {
			files = append(files, file(poolPath(100*(i/2)+j), "x")) // pairs of equal lists
		}
		src[fmt.Sprint("l", i)] = fileOf(t, listOf(t, files...))
	}
	names := []string{"l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"}
	tab, lost := BuildTable(testSeed, src, names[:3], names[3:], 500)
	if len(lost) != 0 || tab.Len() != 500 {
		t.Errorf("%d rows, lost %+v", tab.Len(), lost)
	}
	tab, lost = BuildTable(testSeed, src, names[:3], names[3:], 499)
	if len(lost) != 6 || lost[0].Name != "l4" || !errors.Is(lost[0].Err, ErrTooManyRows) || tab.Len() != 200 {
		t.Errorf("%d rows, lost %+v", tab.Len(), lost)
	}
	if tab, lost = BuildTable(testSeed, src, names, nil, 99); len(lost) != 10 || tab.Len() != 0 {
		t.Errorf("%d rows, lost %+v", tab.Len(), lost)
	}
}

// A frozen table that is damaged anywhere says so, or gives what it should.
func TestDamagedFrozen(t *testing.T) {
	var files []proto.File
	for i := range 200 {
		files = append(files, file(poolPath(i), "x"), file(poolPath(i%50), "y"))
		if i%10 == 0 {
			files = append(files, strongFile(fmt.Sprint("strong", i), "z"))
		}
	}
	src := memLists{"l": fileOf(t, listOf(t, files...))}
	good, whole := frozenOf(t, src, "l")
	paths := []string{poolPath(3), poolPath(120), "strong10", "nowhere"}
	look := func(f *Frozen) (got []Listed, err error) {
		for _, p := range paths {
			l, _, e := f.Lookup(p)
			got, err = append(got, l), errors.Join(err, e)
		}
		return got, err
	}
	want, _ := look(good)
	for n := range whole {
		bad := slices.Clone(whole)
		bad[n] ^= 0x10
		f, err := OpenFrozen(bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			continue
		}
		if got, err := look(f); err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("byte %d: %+v", n, got)
		} else if err != nil && !errors.Is(err, ErrList) {
			t.Fatal(err)
		}
		if _, err := OpenFrozen(bytes.NewReader(whole[:n]), int64(n)); !errors.Is(err, ErrList) {
			t.Fatalf("torn at %d: %v", n, err)
		}
	}
	// A directory in which a range has become empty does not make its files unlisted.
	for at := good.rows.dir; at+16 <= good.strong.dir; at += 8 {
		bad := slices.Clone(whole)
		copy(bad[at+8:at+12], bad[at:at+4])
		f, err := OpenFrozen(bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			if _, ok, err := f.Lookup(poolPath(i)); !ok && !errors.Is(err, ErrList) {
				t.Fatalf("entry at %d: %s is not listed any more: %v", at, poolPath(i), err)
			}
		}
	}
	f, _ := OpenFrozen(bytes.NewReader(whole), int64(len(whole)))
	f.r = bytes.NewReader(whole[:20]) // it shrinks while it is open
	if _, _, err := f.Lookup(paths[0]); !errors.Is(err, ErrList) {
		t.Errorf("shrunk: %v", err)
	}
}

func FuzzFrozen(f *testing.F) {
	_, whole := frozenOf(f, memLists{"l": fileOf(f, listOf(f, file("a", "1"), file("a", "2"), strongFile("c", "3")))}, "l")
	f.Add(whole, "a")
	f.Add(whole, "c")
	f.Fuzz(func(t *testing.T, b []byte, path string) {
		if n := len(b) - frozenTrailer; n >= 0 {
			sum := trailerSum(b[n : len(b)-4])
			copy(b[len(b)-4:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
		}
		fr, err := OpenFrozen(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if l, ok, err := fr.Lookup(path); ok && err == nil && len(l.Others) >= MaxContents {
			t.Fatal("too many contents")
		}
	})
}

// Memory per listed package, as the runtime counts it.
func TestTableMemory(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 100_000 // the race detector makes it ten times as slow
	}
	src := memLists{}
	names := []string{"a", "b", "c"}
	for i, name := range names { // generations share most of their packages
		b := NewListBuilder(testSeed, 0)
		for j := range n {
			if err := b.Add(proto.File{Path: []byte(poolPath(j)), Size: 1, SHA256: proto.Digest{byte(i * (j % 500 / 499)), 1}}); err != nil {
				t.Fatal(err)
			}
		}
		l, err := b.List()
		if err != nil {
			t.Fatal(err)
		}
		src[name] = fileOf(t, l)
	}
	before := heap()
	tab := tableOf(t, src, names[:1], names[1:])
	per := float64(heap()-before) / float64(n)
	runtime.KeepAlive(src)
	t.Logf("%.1f bytes for each of %d listed files, %.1f as it counts itself", per, n, float64(tab.Bytes())/float64(n))
	if own := float64(tab.Bytes()) / float64(n); per > 60 || per < 48 || own < 0.95*per || own > 1.05*per {
		t.Errorf("%.1f bytes per listed file, %.1f as it counts itself", per, float64(tab.Bytes())/float64(n))
	}
	runtime.KeepAlive(tab)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A table answers the same whether its directories are in memory or read each time.
func TestFrozenWithoutDirectoryInMemory(t *testing.T) {
	src, names := benchLists(t, 1, 5000)
	var file bytes.Buffer
	if _, err := WriteFrozen(&file, testSeed, src, names); err != nil {
		t.Fatal(err)
	}
	kept, err := OpenFrozen(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil || kept.rows.kept == nil {
		t.Fatal("its directory is not in memory", err)
	}
	read := *kept
	read.rows.kept, read.strong.kept = nil, nil
	for i := range 6000 { // the last thousand are not there
		a, inA, errA := kept.Lookup(poolPath(i))
		b, inB, errB := read.Lookup(poolPath(i))
		if inA != (i < 5000) || inA != inB || a.Ref != b.Ref || errA != nil || errB != nil {
			t.Fatalf("%d: %v %v %v, %v %v %v", i, a, inA, errA, b, inB, errB)
		}
	}
}
