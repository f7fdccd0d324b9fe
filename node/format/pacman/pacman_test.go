package pacman_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/formattest"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

var (
	day1 = time.Date(2026, 4, 25, 15, 0, 0, 0, time.UTC)
	day2 = day1.Add(24 * time.Hour)
	now  = day2.Add(time.Hour)
	key  = testarchive.DefaultKey()
)

func keyring(t testing.TB) *pgp.Keyring {
	t.Helper()
	k, err := pgp.ReadKeyring("test", testarchive.Keyring(key))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// golden is a repository over two publications: the second one has a package more.
func golden(t *testing.T, name string, repos ...testrepo.Repo) formattest.Archive {
	t.Helper()
	g := formattest.Archive{Name: name, Signed: repos[0].Key != nil, Now: now, Files: map[string][]byte{}, Next: map[string][]byte{}, Asked: map[string]string{}}
	cfg := pacman.Config{Unsigned: !g.Signed}
	if g.Signed {
		cfg.Keyring = keyring(t)
	}
	g.Format = pacman.New(cfg)
	for _, r := range repos {
		r.Built = day1
		r.Render(g.Files)
		g.Suites = append(g.Suites, proto.Suite{Dir: r.Dir, Name: r.Name + ".db"})
		for _, p := range r.Packages {
			path := proto.Suite{Dir: r.Dir}.At(p.File()).Path
			g.Asked[path] = path
			if r.IncludeSigs {
				g.Asked[path+".sig"] = path + ".sig"
			}
		}
		r.Built = day2
		r.Packages = append([]testrepo.Package{{Name: "later", Version: "1-1"}}, r.Packages...)
		r.Render(g.Next)
	}
	return g
}

var few = testrepo.Few

func TestConformance(t *testing.T) {
	var all []formattest.Archive
	for _, g := range testrepo.Golden() {
		all = append(all, golden(t, g.Name, g.Repos...))
	}
	formattest.Run(t, all...)
}

func open(t *testing.T, f *pacman.Format, suite proto.Suite, files map[string][]byte) (*proto.Manifest, error) {
	t.Helper()
	got := make(map[string][]byte)
	for _, file := range f.Forms(suite)[0].Files {
		if data, ok := files[suite.At(file.Name).Path]; ok {
			got[file.Name] = data
		}
	}
	return f.Open(suite, got, now)
}

// TestOpen: what cannot be a database is never one, whoever is trusted.
func TestOpen(t *testing.T) {
	files := make(map[string][]byte)
	r := testrepo.Repo{Name: "x", Packages: few, Files: true, Built: day1, Key: key}
	r.Render(files)
	suite := proto.Suite{Name: "x.db"}
	f := pacman.New(pacman.Config{Unsigned: true})
	for what, data := range map[string][]byte{
		"a page":          []byte("<!DOCTYPE html><html><body>Sign in to the network</body></html>"),
		"nothing":         nil,
		"half of it":      files["x.db"][:len(files["x.db"])/2],
		"all but a byte":  files["x.db"][:len(files["x.db"])-1],
		"a damaged one":   bytes.Replace(files["x.db"], files["x.db"][60:64], []byte{1, 2, 3, 4}, 1),
		"a text":          bytes.Repeat([]byte("not found\n"), 100),
		"a line too long": long(t),
	} {
		m, err := f.Open(suite, map[string][]byte{"x.db": data}, now)
		if err == nil {
			t.Errorf("%s opens: %+v", what, m)
		}
	}
	m, err := f.Open(proto.Suite{Name: "x.files"}, map[string][]byte{"x.files": files["x.files"]}, now)
	if err != nil || len(m.Members) != 0 {
		t.Errorf("the list of files: %+v, %v", m, err)
	}
	strict := pacman.New(pacman.Config{Keyring: keyring(t)})
	if m, err = open(t, strict, suite, files); err != nil || !m.Proven || m.Signed != day1 || m.Signer == "" {
		t.Errorf("%+v, %v", m, err)
	}
	if !m.Date.IsZero() {
		t.Error("it has a date, and its order is that of Last-Modified")
	}
	delete(files, "x.db.sig")
	if _, err := open(t, strict, suite, files); err == nil || !strings.Contains(err.Error(), "no signature beside it") {
		t.Errorf("without a signature: %v", err)
	}
}

func long(t *testing.T) []byte {
	t.Helper()
	files := make(map[string][]byte)
	testrepo.Repo{Name: "x", Packages: []testrepo.Package{{Name: "a", Version: "1-1", Filename: strings.Repeat("a", 600<<10)}}, Built: day1}.Render(files)
	return files["x.db"]
}

// TestFilenames: names that the client refuses are not listed, and cost nobody else anything.
func TestFilenames(t *testing.T) {
	for name, want := range map[string]string{
		"":                              "os/a-1-1-x86_64.pkg.tar.zst",
		"a-1:1-1-any.pkg.tar.zst":       "os/a-1:1-1-any.pkg.tar.zst",
		"../../etc/passwd":              "",
		".hidden":                       "",
		"a/b.pkg.tar.zst":               "",
		"a\tb.pkg.tar.zst":              "",
		"libstdc++-1~2-1-x.pkg.tar.zst": "os/libstdc++-1~2-1-x.pkg.tar.zst",
	} {
		files := make(map[string][]byte)
		testrepo.Repo{Dir: "os", Name: "x", Packages: []testrepo.Package{{Name: "a", Version: "1-1", Filename: name}, {Name: "b", Version: "1-1"}}, Built: day1}.Render(files)
		got := parse(t, files["os/x.db"])
		if want != "" != (got[want] != proto.File{}.SHA256) || len(got) != 1 && len(got) != 2 || len(got) == 2 != (want != "") {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func parse(t *testing.T, db []byte) map[string]proto.Digest {
	t.Helper()
	got := make(map[string]proto.Digest)
	err := pacman.New(pacman.Config{}).Parse(proto.Suite{Dir: "os", Name: "x.db"}, nil, bytes.NewReader(db), func(f proto.File) error {
		got[string(f.Path)] = f.SHA256
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNames(t *testing.T) {
	f := pacman.New(pacman.Config{})
	for path, want := range map[string]string{
		"core/os/x86_64/core.db": "core/os/x86_64/core.db", "core/os/x86_64/core.db.sig": "core/os/x86_64/core.db", "x/core.files": "x/core.files",
		"x.db": "x.db", "core.db.tar.gz": "core.db.tar.gz", "core.db.tar.zst.sig": "core.db.tar.zst", "core.files.tar": "core.files.tar",
		".db": "", "core.db.tar.gz.old": "", "core.db.old": "", "db": "", "a/.db": "", "a/.x.db": "", "core.db.sig.sig": "", "core/lastsync": "", "a-1-1-any.pkg.tar.zst.sig": "",
	} {
		suite, name, ok := f.RootOf(path)
		if suite.Path() != want || ok != (want != "") || ok && suite.At(name).Path != path {
			t.Errorf("%s: %v, %q, %v", path, suite, name, ok)
		}
	}
	for name, want := range map[string]string{"core/os/x86_64/core.db": "core/os/x86_64/core.db", "core/os/x86_64/core": "core/os/x86_64/core.db", "x": "x.db", "x/y.files": "x/y.files"} {
		if got := f.SuiteNamed(name); got.Path() != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for path, want := range map[string]string{
		"core/os/x86_64/a-1-1-any.pkg.tar.zst":        "core.db x86_64.db os.db",
		"stable/extra/x86_64/a-1-1-any.pkg.tar.xz":    "extra.db stable.db x86_64.db",
		"mingw/ucrt64/a-1-1-any.pkg.tar.zst.sig":      "ucrt64.db mingw.db",
		"msys/x86_64/a-1-1-any.pkg.tar.zst":           "msys.db x86_64.db",
		"aarch64/core/a-1-1-any.pkg.tar.zst":          "core.db aarch64.db",
		"a-1-1-any.pkg.tar.zst":                       "",
		"core/os/x86_64/core.db":                      "",
		"lastupdate":                                  "",
		"archive/packages/a/a/a-1-1-any.pkg.tar.zst/": "",
	} {
		var got []string
		for _, s := range f.Suites(path) {
			got = append(got, s.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for path, kind := range map[string]string{
		"core/os/x86_64/core.db": "root", "core/os/x86_64/core.db.sig": "root", "a/b-1-1-any.pkg.tar.zst": "package", "a/b-1-1-any.pkg.tar.zst.sig": "signature",
		"a/b-1-1-any.pkg.tar": "package", "lastupdate": "other", "iso/latest/x.iso": "other", "core.db.tar.gz.old": "other",
	} {
		info := f.PathInfo(path)
		if info.Kind != kind || info.Package != (kind == "package") || info.Page != (path == "lastupdate") || info.FirstByte == 0 || info.Hold == 0 || info.Hold >= info.FirstByte {
			t.Errorf("%s: %+v", path, info)
		}
		if n := testing.AllocsPerRun(100, func() { f.PathInfo(path) }); n != 0 {
			t.Errorf("%s: %v allocations for a request", path, n)
		}
	}
}

func TestIdentity(t *testing.T) {
	f := pacman.New(pacman.Config{})
	for path, want := range map[string]proto.PackageID{
		"core/os/x86_64/linux-6.9.1.arch1-2-x86_64.pkg.tar.zst": {Name: "core/os/x86_64/linux", Arch: "x86_64"},
		"a/xorg-server-1:2.0-3.1-any.pkg.tar.xz":                {Name: "a/xorg-server", Arch: "any"},
		"a-1-1-any.pkg.tar.zst":                                 {Name: "a", Arch: "any"},
		"a-1-1-any.pkg.tar.zst.sig":                             {}, "1-1-any.pkg.tar.zst": {}, "a--1-any.pkg.tar.zst": {}, "-1-1-any.pkg.tar.zst": {}, "x/core.db": {}, "": {},
	} {
		if got, ok := f.Identity(path); got != want || ok != (want.Name != "") {
			t.Errorf("%s: %+v, %v", path, got, ok)
		}
		if n := testing.AllocsPerRun(100, func() { f.Identity(path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}

func TestPackages(t *testing.T) {
	files := make(map[string][]byte)
	testrepo.Repo{Dir: "os", Name: "x", Packages: few, Built: day1, Depends: true}.Render(files)
	f := pacman.New(pacman.Config{})
	var got []string
	err := f.Packages(proto.Suite{Dir: "os", Name: "x.db"}, nil, bytes.NewReader(files["os/x.db"]), func(p *proto.Package) error {
		got = append(got, fmt.Sprintf("%s %s %s %v %d", p.Name, p.Version, p.Arch, p.Universal, len(files[string(p.Path)])-int(p.Size)))
		if string(p.Name) == "libstdc++" {
			needs, provides := f.Needs(string(p.Needs)), f.Needs(string(p.Provides))
			if len(needs) != 2 || needs[0][0] != (proto.Need{Name: "glibc", Relation: ">=", Version: "2.39"}) || len(provides) != 1 || provides[0][0].Name != "libstdc++.so" || provides[0][0].Version != "6-64" {
				t.Errorf("%v, %v", needs, provides)
			}
		}
		return nil
	})
	want := "linux 6.9.1.arch1-2 x86_64 false 0, tzdata 1:2026a-1 any true 0, libstdc++ 14.1.1+r1+g43b730b9134-1 x86_64 false 0"
	if err != nil || strings.Join(got, ", ") != want {
		t.Errorf("%q, %v", got, err)
	}
	for _, test := range []struct {
		need, version string
		want          bool
	}{
		{"a", "", true}, {"a", "1", true}, {"a=1", "", false}, {"a=1", "1-3", true}, {"a=1-2", "1-3", false}, {"a>=2", "1:1-1", true}, {"a<2", "2-1", false}, {"a>1.0rc1", "1.0", true}, {"a<=1", "1-9", true},
	} {
		if got := f.Meets(f.Needs(test.need)[0][0], test.version); got != test.want {
			t.Errorf("%s meets %s: %v", test.version, test.need, got)
		}
	}
}

// versions of the tests of vercmp in pacman's source (test/util/vercmptest.sh), and more.
var versions = []string{
	"1.5.0", "1.5.1", "1.5.1-1", "1.5.1-2", "1.5.0-2", "1.5", "1.5-1", "1.5b", "1.5rc", "1.5.a", "1.5.b", "1.5a", "1.0a", "1.0alpha", "1.0beta", "1.0p", "1.0pre", "1.0rc", "1.0", "1.0.a", "1.0.1",
	"1", "2.0", "2.0.a", "2.0a", "2.0.1", "11.0", "0:1.0", "1:1.0", "1:1.1", ":1", "1.0_2", "1_0", "1+0", "1..0", "1.0.", "1.00", "01.0", "r42.abcdef", "20260101", "a", "", "1-", "-1", "1.2-1.1", "1~2", "1^3", "é1",
}

// TestVersionsAsPacman compares all pairs with the real vercmp.
func TestVersionsAsPacman(t *testing.T) {
	if _, err := exec.LookPath("vercmp"); err != nil {
		t.Skip("vercmp is not installed (Debian: pacman-package-manager)")
	}
	f := pacman.New(pacman.Config{})
	for i, a := range versions {
		for _, b := range versions[i:] {
			if a == "" || b == "" || a[0] == '-' || b[0] == '-' {
				continue // vercmp takes them for no version or for an option
			}
			out, err := exec.Command("vercmp", a, b).Output()
			if err != nil {
				t.Fatal(err)
			}
			order, err := strconv.Atoi(strings.TrimSpace(string(out)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Newer(a, b) != (order > 0) || f.Newer(b, a) != (order < 0) {
				t.Errorf("%q and %q: vercmp says %d, Newer %v and %v", a, b, order, f.Newer(a, b), f.Newer(b, a))
			}
		}
	}
}

func TestVersions(t *testing.T) {
	f := pacman.New(pacman.Config{})
	ascending := []string{"1.0a", "1.0alpha", "1.0b", "1.0beta", "1.0p", "1.0pre", "1.0rc", "1.0", "1.0.a", "1.0.1", "1.5-1", "1.5-2", "1.5.1", "20260101", "1:1.0", "1:1.1"}
	for i, a := range ascending {
		for j, b := range ascending {
			if f.Newer(a, b) != (i > j) {
				t.Errorf("%s is newer than %s: %v", a, b, f.Newer(a, b))
			}
		}
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 64<<20)
	var files = map[string][]byte{}
	testrepo.Repo{Name: "x", Built: day1, Packages: []testrepo.Package{{Name: "a", Version: "1-1", Depends: strings.Split(strings.Repeat("libfoo.so=1-64 ", 1<<19), " ")}}}.Render(files)
	m := &proto.Member{Path: "x.db"}
	formattest.Bombs(t, pacman.New(pacman.Config{}), 24<<20,
		formattest.Bomb{Name: "half a million needs", Suite: proto.Suite{Name: "x.db"}, Member: m, Stored: files["x.db"]},
		formattest.Bomb{Name: "a long line", Suite: proto.Suite{Name: "x.db"}, Member: m, Stored: long(t), Refused: true},
		formattest.Bomb{Name: "zeros", Suite: proto.Suite{Name: "x.db"}, Member: m, Stored: gz(zeros)},
	)
}

func FuzzPaths(f *testing.F) {
	formattest.FuzzPaths(f, pacman.New(pacman.Config{}), "core/os/x86_64/core.db", "core/os/x86_64/core.db.sig", "core/os/x86_64/core.files.tar.gz", "a/b-1-1-any.pkg.tar.zst", "a/b-1-1-any.pkg.tar.zst.sig", "lastsync", "x/.db")
}
