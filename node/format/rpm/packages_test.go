package rpm_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

func TestPackages(t *testing.T) {
	repo := rpmarchive.Repo{Date: day1, Packages: []rpmarchive.Package{
		{Name: "app", Version: "2.0~rc1", Release: "3", Epoch: "1", Requires: []string{
			`name="libapp" flags="EQ" epoch="1" ver="2.0~rc1" rel="3"`, `name="/bin/sh"`, `name="(a if b)"`, `name="(x or y &gt;= 1:2)"`, `name="common"`, `name="old&amp;new" flags="GE" ver="1"`, `pre="1" rel="9" ver="3" flags="LT" name="last"`}},
		{Name: "common", Arch: "noarch", Files: []string{"/etc/a&b"}, Provides: []string{
			`name="libcommon.so.1()(64bit)"`, `name="virtual" flags="EQ" epoch="0" ver="3"`, `name="kernel(printk)" flags="EQ" ver="0x1"`, `name="bundled(zlib)"`}},
	}}
	files := repo.Render("r/")
	f := formatFor(t, false)
	m, err := f.Open(proto.Suite{Dir: "r"}, map[string][]byte{root: files["r/"+root]}, now)
	if err != nil {
		t.Fatal(err)
	}
	var primary *proto.Member
	for i := range m.Members {
		if m.Members[i].Packages {
			primary = &m.Members[i]
		}
	}
	var names, versions []string
	var needs, provides [][]proto.Need
	err = f.Packages(proto.Suite{Dir: "r"}, primary, bytes.NewReader(files["r/"+primary.Path]), func(p *proto.Package) error {
		names, versions = append(names, string(p.Name)+"."+string(p.Arch)), append(versions, string(p.Version))
		if p.SHA256 != proto.DigestOf(files[string(p.Path)]) || p.Size != 2000 || p.Universal != (string(p.Arch) == "noarch") {
			t.Errorf("%s: %+v", p.Path, p)
		}
		needs, provides = append(needs, f.Needs(string(p.Needs))...), append(provides, f.Needs(string(p.Provides))...)
		return nil
	})
	if err != nil || !slices.Equal(names, []string{"app.x86_64", "common.noarch"}) || !slices.Equal(versions, []string{"1:2.0~rc1-3", "1-1"}) {
		t.Errorf("%q, %q, %v", names, versions, err)
	}
	wantNeeds := [][]proto.Need{
		{{Name: "libc.so.6()(64bit)"}}, {{Name: "libapp", Relation: "EQ", Version: "1:2.0~rc1-3"}}, {{Name: "/bin/sh"}}, {{Name: "x"}, {Name: "y", Relation: "GE", Version: "1:2"}},
		{{Name: "common"}}, {{Name: "old&new", Relation: "GE", Version: "1"}}, {{Name: "last", Relation: "LT", Version: "3-9"}}, {{Name: "libc.so.6()(64bit)"}},
	}
	if !reflect.DeepEqual(needs, wantNeeds) {
		t.Errorf("needs %+v", needs)
	}
	wantProvides := [][]proto.Need{{{Name: "/usr/bin/app"}}, {{Name: "libcommon.so.1()(64bit)"}}, {{Name: "virtual", Relation: "EQ", Version: "3"}}, {{Name: "/usr/bin/common"}}, {{Name: "/etc/a&b"}}}
	if !reflect.DeepEqual(provides, wantProvides) {
		t.Errorf("provides %+v", provides)
	}
}

// Rich dependencies tell what to fetch as far as they do not ask what else a host has.
func TestRichNeeds(t *testing.T) {
	f := formatFor(t, false)
	for text, want := range map[string]string{
		"(a or b)":             "[[{a   } {b   }]]",
		"(a or b or c)":        "[[{a   } {b   } {c   }]]",
		"(a >= 1:2 and b)":     "[[{a  GE 1:2}] [{b   }]]",
		"(a = 0:1 with a < 3)": "[[{a  EQ 1}] [{a  LT 3}]]",
		"(liba.so()(64bit))":   "[[{liba.so()(64bit)   }]]",
		"(a if b)":             "[]",
		"(a unless b else c)":  "[]",
		"(a without b)":        "[]",
		"((a or b) and c)":     "[]",
		"(a or b and c)":       "[]",
		"(a ?? 1)":             "[]",
		"(a 1)":                "[]",
		"()":                   "[]",
		"(":                    "[]",
		"(or)":                 "[]",
	} {
		if got := fmt.Sprint(f.Needs(text + "\t\t\n")); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	f := formatFor(t, false)
	for path, want := range map[string]proto.PackageID{
		"Packages/h/hello-1.0-1.fc40.x86_64.rpm":      {Name: "Packages/h/hello", Arch: "x86_64"},
		"libstdc++-devel-13~rc1^git5-1.fc40.i686.rpm": {Name: "libstdc++-devel", Arch: "i686"},
		"a/x-y-z-1-2.noarch.rpm":                      {Name: "a/x-y-z", Arch: "noarch"},
		"a/hello.rpm":                                 {},
		"a/hello-1.rpm":                               {},
		"a/hello-1.x86_64.rpm":                        {},
		"a/-1-1.x86_64.rpm":                           {},
		"a/hello-1-.x86_64.rpm":                       {},
		"a/hello--1.x86_64.rpm":                       {},
		"a/hello_1_amd64.deb":                         {},
	} {
		if got, ok := f.Identity(path); got != want || ok != (want != proto.PackageID{}) {
			t.Errorf("%s: %+v, %v", path, got, ok)
		}
	}
	if n := testing.AllocsPerRun(100, func() { f.Identity("Packages/h/hello-1.0-1.fc40.x86_64.rpm") }); n > 0 {
		t.Errorf("it allocates %v times", n)
	}
}

func TestMeets(t *testing.T) {
	f := formatFor(t, false)
	for _, test := range []struct {
		need, version string
		meets         bool
	}{
		{"", "1-1", true}, {"EQ 1", "1-5", true}, {"EQ 1-4", "1-5", false}, {"GE 1", "1-5", true}, {"GT 1", "1-5", false}, {"GT 1", "2-1", true},
		{"LT 1:1", "2-1", true}, {"LT 1", "", false}, {"", "", true}, {"LE 2-1", "2-1", true}, {"LE 2-1", "1:1-1", false}, {"GE 1.0", "1.0~rc1-1", false}, {"?? 1", "9-9", true},
	} {
		relation, version, _ := strings.Cut(test.need, " ")
		if got := f.Meets(proto.Need{Name: "x", Relation: relation, Version: version}, test.version); got != test.meets {
			t.Errorf("%q by %q: %v", test.need, test.version, got)
		}
	}
	if !f.Newer("1:1-1", "2-1") || !f.Newer("1.0^git1-1", "1.0-9") || f.Newer("1-1", "1-1") {
		t.Error("newer is not newer")
	}
}
