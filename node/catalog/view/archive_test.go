package view

import (
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func staged(g *Generation, tables map[string]string) *Generation {
	all := make(map[string]Staged)
	for path, table := range tables {
		all[path] = Staged{Ref: ref(path), Table: table}
	}
	return g.WithAllStaged(all)
}

func TestTablesOfASet(t *testing.T) {
	index := func(path string) proto.Member { return member(path, path, false) }
	suites := []*Suite{
		{ID: proto.Suite{Archive: "a", Dir: "s"}, Current: staged(gen("s", 3, index("p")), map[string]string{"p": "s3", "n": ""}), Retained: []*Generation{
			staged(gen("s", 4, index("p")), map[string]string{"p": "s4", "q": "shared"}), staged(gen("s", 5, index("p")), map[string]string{"p": "s5"}),
		}},
		{ID: proto.Suite{Archive: "a", Dir: "u"}, Current: staged(gen("u", 1, index("p")), map[string]string{"p": "u1", "a": "shared"}), Retained: []*Generation{
			staged(gen("u", 4, index("p")), map[string]string{"p": "u4"}),
		}},
		{ID: proto.Suite{Archive: "a", Dir: "none"}, Retained: []*Generation{staged(gen("none", 0, index("p")), map[string]string{"p": "no"})}},
	}
	current, retained := Tables(suites)
	if !slices.Equal(current, []string{"shared", "u1", "s3"}) || !slices.Equal(retained, []string{"s4", "u4", "s5"}) {
		t.Errorf("%v, %v", current, retained)
	}
}

func TestEnclosing(t *testing.T) {
	var suites []*Suite
	for _, dir := range []string{"", "dists/noble", "dists/noble/x/y", "dist"} {
		suites = append(suites, suite(gen(dir, 0)))
	}
	a := BuildArchive("a", suites, nil)
	for path, want := range map[string][]string{
		"InRelease":               {" InRelease"},
		"dists/noble":             {" dists/noble"},
		"dists/noble/InRelease":   {"dists/noble InRelease", " dists/noble/InRelease"},
		"dists/noble/x/y/z/a":     {"dists/noble/x/y z/a", "dists/noble x/y/z/a", " dists/noble/x/y/z/a"},
		"dists/noble-updates/Rel": {" dists/noble-updates/Rel"},
		"":                        {" "},
	} {
		var got []string
		for s, name := range a.Enclosing(path) {
			got = append(got, s.ID.Dir+" "+name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
		for range a.Enclosing(path) {
			break
		}
	}
	if a.Suite(proto.Suite{Dir: "dist"}) == nil || a.Suite(proto.Suite{Dir: "dists"}) != nil || len(a.Suites()) != 4 || a.Suites()[0].ID.Dir != "" {
		t.Error("Suite")
	}
}

// TestSuitesOfOneDirectory: each answers for its own root and members, and none hides the other.
func TestSuitesOfOneDirectory(t *testing.T) {
	suiteOf := func(name string) *Suite {
		g := NewGeneration(proto.Generation{Suite: proto.Suite{Archive: "a", Dir: "os", Name: name}, Date: day, RootName: name + ".db", Root: ref(name)},
			&proto.Manifest{Members: []proto.Member{member(name+"-member", name, false)}}, proto.Companion{Name: name + ".db", Ref: ref(name)})
		return &Suite{ID: g.Suite, Roots: []string{name + ".db", name + ".sig"}, Current: g}
	}
	core, extra := suiteOf("core"), suiteOf("extra")
	a := BuildArchive("a", []*Suite{extra, core}, nil)
	if a.Suite(core.ID) != core || a.Suite(extra.ID) != extra || a.Suite(proto.Suite{Dir: "os"}) != nil || a.Suites()[0] != core {
		t.Error("the suites are not told apart")
	}
	for path, want := range map[string]*Suite{"os/core.db": core, "os/extra.db": extra, "os/extra.sig": extra, "os/core-member": core, "os/extra-member": extra} {
		var e proto.Resolution
		if d, _ := a.Resolve(&e, proto.Location{Archive: "a", Path: path}, &proto.PathInfo{}); d.Suite != want {
			t.Errorf("%s is answered for by %v", path, d.Suite)
		}
	}
	var e proto.Resolution
	if d, ok := a.Resolve(&e, proto.Location{Archive: "a", Path: "os/other.db"}, &proto.PathInfo{}); ok || d.Suite == nil {
		t.Errorf("what neither lists: %+v, %v", d, ok)
	}
}

func TestViewIsSwappedAsAWhole(t *testing.T) {
	v0 := &View{}
	v1 := v0.With(BuildArchive("a", nil, nil))
	v2 := v1.With(BuildArchive("b", nil, nil)).Without("a")
	if v0.Archive("a") != nil || v1.Archive("a") == nil || v1.Archive("b") != nil || v2.Archive("a") != nil || v2.Archive("b") == nil {
		t.Error("a view has changed")
	}
}

func TestDates(t *testing.T) {
	src := memLists{}
	put := func(name string, files ...proto.File) map[string]string {
		src[name] = fileOf(t, listOf(t, files...))
		return map[string]string{"p": name}
	}
	s := &Suite{ID: proto.Suite{Archive: "a", Dir: "s"}, Roots: roots, Current: staged(gen("s", 0, member("p", "0", false)), put("t0", file("x", "1"))),
		Retained: []*Generation{
			staged(gen("s", 1, member("p", "1", false), member("q", "q", false)), put("t1", file("x", "1"), file("y", "1"))),
			staged(gen("s", 2, member("p", "2", false)), put("t2", file("y", "2"), strongFile("z", "1"))),
		}}
	u := &Suite{ID: proto.Suite{Archive: "a", Dir: "u"}, Current: staged(gen("u", 1, member("p", "3", false)), put("u1", file("x", "1")))}
	current, retained := Tables([]*Suite{s, u})
	a := BuildArchive("a", []*Suite{s, u}, tableOf(t, src, current, retained))
	for path, want := range map[string][]int{
		"x": {0, 1}, "y": {1, 2}, "z": {2}, "none": nil, "s/p": {0, 1, 2}, "s/q": {1}, "s/InRelease": {0, 1, 2},
		"s/" + hashPath("p", proto.HashMD5, "2"): {2}, "s/" + hashPath("p", proto.HashSHA256, "nope"): nil,
	} {
		var dates []time.Time
		for _, age := range want {
			dates = append(dates, day.AddDate(0, 0, -age))
		}
		if got := a.Dates(src, testSeed, path, infoOf(path)); !slices.EqualFunc(got, dates, time.Time.Equal) {
			t.Errorf("%s: %v, want %v", path, got, dates)
		}
	}
}

func TestFresh(t *testing.T) {
	src := memLists{}
	put := func(name string, files ...proto.File) { src[name] = fileOf(t, listOf(t, files...)) }
	put("main0", file("kept", "1"), file("changed", "1"), file("gone", "1"), strongFile("strong kept", "1"), strongFile("strong changed", "1"))
	put("main1", file("kept", "1"), file("changed", "2"), file("new", "1"), file("moved", "1"), strongFile("strong kept", "1"), strongFile("strong changed", "2"))
	put("universe0", file("moved", "1"), file("u", "1"))
	put("added", file("of a new index", "1"))
	put("lost1", file("lost", "1"))
	members := func() (all []proto.Member) {
		for _, path := range []string{"main/Packages.xz", "main/Packages", "universe/Packages", "added/Packages", "lost/Packages", "Sources"} {
			m := member(path, path, false)
			m.Packages = path != "Sources"
			all = append(all, m)
		}
		return all
	}
	before := staged(gen("s", 1, members()...), map[string]string{"main/Packages": "main0", "universe/Packages": "universe0", "lost/Packages": "lost0"})
	after := staged(gen("s", 0, members()...), map[string]string{"main/Packages.xz": "main1", "universe/Packages": "universe0", "added/Packages": "added", "lost/Packages": "lost1", "Sources": "lost1"})
	f := BuildFresh(testSeed, src, before, after)
	for _, path := range []string{"changed", "new", "strong changed"} {
		if !f.Has(path) {
			t.Errorf("%s is not new", path)
		}
	}
	for _, path := range []string{"kept", "gone", "strong kept", "moved", "u", "of a new index", "lost", "who"} {
		if f.Has(path) {
			t.Errorf("%s is new", path)
		}
	}
	if f.Len() != 3 {
		t.Errorf("%d are new", f.Len())
	}
	if same := BuildFresh(testSeed, src, after, after); same.Len() != 0 {
		t.Errorf("%d are new in the same generation", same.Len())
	}
	delete(src, "main1")
	if f := BuildFresh(testSeed, src, before, after); f.Len() != 0 || f.Has("new") {
		t.Error("what cannot be read is new")
	}
	if (*Fresh)(nil).Has("x") || (*Fresh)(nil).Len() != 0 {
		t.Error("nothing has new files")
	}
}
