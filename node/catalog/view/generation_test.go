package view

import (
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// What is learned of a generation does not change the one before.
func TestCopyOnWrite(t *testing.T) {
	g0 := gen("s", 0, member("a", "a", true), strongOnly("b", "b"))
	g1 := g0.WithStaged("a", Staged{Ref: ref("a"), Table: "ta"})
	g2 := g1.WithStaged("b", Staged{Ref: ref("b"), Table: "tb"})
	g3 := g2.WithoutTable("ta")
	g4 := g3.WithoutStaged("b")
	g5 := g0.WithLearned("b", ref("b"))
	g6 := g0.WithFiles(proto.Companion{Name: "x", Ref: ref("x")})
	for i, tt := range []struct {
		g      *Generation
		staged []string
		tables []string
		want   proto.Ref // of b
		blobs  int
	}{
		{g0, nil, nil, proto.Ref{Size: 1}, 3},
		{g1, []string{"a"}, []string{"ta"}, proto.Ref{Size: 1}, 4},
		{g2, []string{"a", "b"}, []string{"ta", "tb"}, ref("b"), 5},
		{g3, []string{"a", "b"}, []string{"tb"}, ref("b"), 5},
		{g4, []string{"a"}, nil, ref("b"), 4},
		{g5, nil, nil, ref("b"), 3},
		{g6, nil, nil, proto.Ref{Size: 1}, 2},
	} {
		if got := slices.Sorted(maps.Keys(tt.g.AllStaged())); !slices.Equal(got, tt.staged) {
			t.Errorf("%d: staged %v", i, got)
		}
		if got := tt.g.Tables(); !slices.Equal(got, tt.tables) {
			t.Errorf("%d: tables %v", i, got)
		}
		if got := tt.g.Request(tt.g.Member("b")); got.Ref != tt.want || got.Where.First != (proto.Location{Archive: "a", Path: "s/b"}) || !got.Provable() {
			t.Errorf("%d: b is %+v", i, got)
		}
		if got := tt.g.Blobs(); len(got) != tt.blobs || slices.Contains(got, proto.Digest{}) {
			t.Errorf("%d: blobs %v", i, got)
		}
	}
	if got := g0.WithLearned("b", ref("too long")).WithLearned("a", ref("x")); got.Request(got.Member("b")).Ref != (proto.Ref{Size: 1}) || got.Request(got.Member("a")).Ref != ref("a") {
		t.Error("what cannot be true is learned")
	}
	if f, ok := g6.File("x"); !ok || f.Ref != ref("x") || len(g6.Files()) != 1 {
		t.Errorf("%+v", f)
	}
}

func TestPackageIndexes(t *testing.T) {
	pk := func(path string) proto.Member {
		m := member(path, path, false)
		m.Packages = true
		return m
	}
	g := gen("s", 0, pk("m/Packages"), pk("m/Packages.xz"), pk("c/Packages.xz"), pk("n/Packages"), member("Contents", "c", false)).WithAllStaged(map[string]Staged{
		"m/Packages": {Table: "m"}, "m/Packages.xz": {Table: "m"}, "c/Packages.xz": {Table: "c"}, "n/Packages": {}, "Contents": {Table: "x"}, "gone": {Table: "g"},
	})
	var paths []string
	for _, m := range g.PackageIndexes() {
		paths = append(paths, m.Path)
	}
	if !slices.Equal(paths, []string{"c/Packages.xz", "m/Packages"}) {
		t.Errorf("%v", paths)
	}
	if got := g.BySlot("m/Packages.xz"); len(got) != 1 || got[0].Path != "m/Packages.xz" {
		t.Errorf("%v", got)
	}
	if got := g.BySlot("nothing"); got != nil {
		t.Errorf("%v", got)
	}
}

// Slots that are not paths are found, too.
func TestBySlot(t *testing.T) {
	one, two, weak := member("1-primary.xml.gz", "1", false), member("2-primary.xml.zst", "2", false), proto.Member{Path: "3-primary"}
	one.Slot, two.Slot, weak.Slot = "primary", "primary", "primary"
	if got := gen("s", 0, one, two, weak).BySlot("primary"); len(got) != 2 || got[1].Path != two.Path {
		t.Errorf("%v", got)
	}
}

// A retained generation costs what is staged of it, however much its root listed.
func TestRetainedLetsGo(t *testing.T) {
	var members []proto.Member
	text := string(make([]byte, 4<<20)) // a root, of which all names are pieces
	for i := range 20_000 {
		m := member(fmt.Sprintf("%05d", i), fmt.Sprint(i), true)
		m.Upstream[0] = text[i : i+200]
		members = append(members, m)
	}
	g := gen("s", 0, members...).WithStaged("00007", Staged{Ref: ref("7"), Table: "t"})
	object := g.Request(g.Member("00007"))
	before := heap()
	kept := g.Retained(day)
	if d := heap() - before; d > 100<<10 {
		t.Errorf("%d bytes beside the generation", d)
	}
	full := heap()
	runtime.KeepAlive(g)
	g = nil
	runtime.KeepAlive(text)
	members, text = nil, ""
	if d := full - heap(); d < 8<<20 {
		t.Errorf("only %d bytes are let go", d)
	}
	if kept.Superseded != day || len(kept.Manifest.Members) != 1 || kept.Member("00008") != nil {
		t.Errorf("%+v", kept.Manifest)
	}
	if got := kept.Request(kept.Member("00007")); !reflect.DeepEqual(got, object) {
		t.Errorf("%+v, want %+v", got, object)
	}
	if s, ok := kept.Staged("00007"); !ok || s.Table != "t" {
		t.Error("what was staged is forgotten")
	}
	if f, ok := kept.File("InRelease"); !ok || f.Ref != kept.Root {
		t.Error("the root is forgotten")
	}
	runtime.KeepAlive(kept)
}

// A hundred thousand members with one content are loaded and found without comparing all with all:
// that would take this test minutes.
func TestEqualMembers(t *testing.T) {
	var members []proto.Member
	equal := member("x", "", false)
	for i := range 100_000 {
		equal.Path = fmt.Sprintf("%06d/x", i)
		members = append(members, equal)
	}
	g := gen("s", 0, members...)
	h := hashName(proto.HashSHA256, "")
	for range 1000 {
		if m := g.BySum(&h, "000002/by-hash/x"); m == nil || m.Path != "000002/x" {
			t.Fatalf("found %+v", m)
		}
		if g.BySum(&h, "none/by-hash/x") == nil {
			t.Fatal("not found")
		}
	}
}
