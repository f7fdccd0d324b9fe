package deb_test

import (
	"bytes"
	"compress/gzip"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/formattest"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

var (
	day1 = time.Date(2024, 4, 25, 15, 0, 0, 0, time.UTC)
	day2 = day1.Add(24 * time.Hour)
	now  = day2.Add(time.Hour)
)

// asked are the packages, sources, patches and installer files of an archive.
func asked(files map[string][]byte) map[string]string {
	paths := make(map[string]string)
	for p := range files {
		switch aptmeta.Classify(p) {
		case aptmeta.KindPackage, aptmeta.KindSource, aptmeta.KindPatch, aptmeta.KindInstaller:
			if !strings.HasSuffix(p, "SHA256SUMS") {
				paths[p] = p
			}
		}
	}
	return paths
}

func golden(t *testing.T, name string, signed bool, suites []testarchive.Suite, fill func(a *testarchive.Archive, suite string)) formattest.Archive {
	t.Helper()
	a := testarchive.New(1)
	g := formattest.Archive{Name: name, Signed: signed, Now: now}
	for _, s := range suites {
		a.AddSuite(s)
		fill(a, s.Name)
		g.Suites = append(g.Suites, proto.Suite{Dir: s.Dir()})
	}
	a.Publish(day1)
	for _, s := range suites {
		a.AddPackage(s.Name, testarchive.Package{Name: "later", Version: "1"})
	}
	g.Files = maps.Clone(a.Files())
	a.Publish(day2)
	g.Next = maps.Clone(a.Files())
	cfg := deb.Config{Unsigned: !signed}
	if signed {
		cfg.Keyring = readKeyring(t, a)
	}
	g.Format = deb.New(cfg)
	g.Asked = asked(g.Files)
	delete(g.Asked, "pool/main/l/later/later_1_amd64.deb") // in the pool, and not listed yet
	for p := range g.Asked {
		if strings.HasSuffix(p, "later_1_amd64.deb") {
			delete(g.Asked, p)
		}
	}
	if len(g.Asked) == 0 {
		t.Fatal("nothing is asked for")
	}
	return g
}

func readKeyring(t *testing.T, a *testarchive.Archive) *pgp.Keyring {
	t.Helper()
	k, err := pgp.ReadKeyring("test", a.Keyring())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func few(a *testarchive.Archive, suite string) {
	a.AddPackage(suite, testarchive.Package{Name: "hello", Version: "2.10-3", Size: 100})
	a.AddPackage(suite, testarchive.Package{Name: "docs", Version: "1:1+b1", Arch: "all"})
}

func many(a *testarchive.Archive, suite string) {
	few(a, suite)
	a.AddPackage(suite, testarchive.Package{Name: "libx", Version: "1", Component: "extra", Arch: "s390x"})
	a.AddPackage(suite, testarchive.Package{Name: "libx", Version: "1", Component: "extra", Source: true})
	a.AddPackage(suite, testarchive.Package{Name: "inst", Version: "1", Udeb: true})
}

func TestConformance(t *testing.T) {
	rich := testarchive.Suite{Name: "noble", ByHash: true, Components: []string{"main", "extra"},
		Architectures: []string{"amd64", "s390x"}, ListedArchitectures: []string{"riscv64"}, Compressions: []string{".gz", ".xz", ".zst"},
		Translations: true, Contents: true, DEP11: true, Commands: true, Installer: "20240101", ComponentRelease: true}
	patched := rich
	patched.Name, patched.PDiffs, patched.Hashes = "sid", true, []string{"SHA512"}
	apart := testarchive.Suite{Name: "bookworm", Architectures: []string{"all", "amd64"}}
	security := testarchive.Suite{Name: "jessie/updates", Codename: "jessie", ComponentPrefix: "updates/"}
	noClear := testarchive.Suite{Name: "old", NoInRelease: true, OmitPlain: true}
	formattest.Run(t,
		golden(t, "with components", true, []testarchive.Suite{rich}, many),
		golden(t, "with patches", true, []testarchive.Suite{patched}, func(a *testarchive.Archive, suite string) {
			many(a, suite)
			a.Publish(day1.Add(-time.Hour))
			a.AddPackage(suite, testarchive.Package{Name: "second", Version: "1"})
		}),
		golden(t, "several suites", true, []testarchive.Suite{apart, security, noClear}, few),
		golden(t, "unsigned", false, []testarchive.Suite{{Name: "stable", Unsigned: true}}, few),
		golden(t, "flat at the root", true, []testarchive.Suite{{Flat: true}}, few),
		golden(t, "flat in a directory", true, []testarchive.Suite{{Name: "a/b", Flat: true}}, few),
		golden(t, "flat from the root", true, []testarchive.Suite{{Name: "amd64", Flat: true, FlatFromRoot: true}}, few),
	)
}

// A member is asked for by both of its names: by hash first where the Release announces such names, and last where it
// does not, because hosts may insist on them and an archive may have no others.
func TestNamesUpstream(t *testing.T) {
	for _, announced := range []bool{true, false} {
		a := testarchive.New(1)
		a.AddSuite(testarchive.Suite{Name: "x", ByHash: announced})
		few(a, "x")
		a.Publish(day1)
		clear, _ := a.Lookup("dists/x/InRelease")
		m, err := deb.New(deb.Config{Keyring: readKeyring(t, a)}).Open(proto.Suite{Dir: "dists/x"}, map[string][]byte{"InRelease": clear.Data}, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range m.Members {
			plain, dir := slices.Index(in.Upstream, in.Path), path.Dir(in.Path)
			byHash := slices.IndexFunc(in.Upstream, func(name string) bool { return strings.HasPrefix(name, dir+"/by-hash/") })
			if len(in.Upstream) != 2 || plain < 0 || byHash < 0 || (byHash < plain) != announced {
				t.Fatalf("announced %v: %q", announced, in.Upstream)
			}
		}
	}
}

// TestUnsignedForms: what apt takes with [trusted=yes].
func TestUnsignedForms(t *testing.T) {
	a := testarchive.New(1)
	a.AddSuite(testarchive.Suite{Name: "x"})
	few(a, "x")
	a.Publish(day1)
	plain, _ := a.Lookup("dists/x/Release")
	clear, _ := a.Lookup("dists/x/InRelease")
	sig, _ := a.Lookup("dists/x/Release.gpg")
	suite := proto.Suite{Dir: "dists/x"}
	unsigned := deb.New(deb.Config{Unsigned: true})
	keyed := deb.New(deb.Config{Keyring: readKeyring(t, a)})
	for _, test := range []struct {
		name         string
		files        map[string][]byte
		trusted, key bool // opens without a signature; opens with the key
	}{
		{"a plain Release called InRelease", map[string][]byte{"InRelease": plain.Data}, true, false},
		{"InRelease", map[string][]byte{"InRelease": clear.Data}, true, true},
		{"Release alone", map[string][]byte{"Release": plain.Data}, true, false},
		{"Release with its signature", map[string][]byte{"Release": plain.Data, "Release.gpg": sig.Data}, true, true},
		{"Release with another file as signature", map[string][]byte{"Release": plain.Data, "Release.gpg": plain.Data}, true, false},
		{"text before the armour", map[string][]byte{"InRelease": append([]byte("Origin: Mallory\n"), clear.Data...)}, false, false},
		{"a page", map[string][]byte{"InRelease": []byte("<html>please log in</html>\n")}, false, false},
		{"nothing", nil, false, false},
	} {
		m, err := unsigned.Open(suite, test.files, now)
		if (err == nil) != test.trusted {
			t.Errorf("%s, unsigned: %v", test.name, err)
		}
		if err == nil && m.Proven {
			t.Errorf("%s: nobody vouches for it, and it is proven", test.name)
		}
		m, err = keyed.Open(suite, test.files, now)
		if (err == nil) != test.key || err == nil && (!m.Proven || !m.Signed.Equal(day1)) {
			t.Errorf("%s, with the key: %v", test.name, err)
		}
	}
	if _, err := deb.New(deb.Config{}).Open(suite, map[string][]byte{"InRelease": clear.Data}, now); err == nil {
		t.Error("an archive without a key trusts a root")
	}
	for dir, trusted := range map[string]bool{"dists/x": true, "dists/y": false} {
		f := deb.New(deb.Config{UnsignedSuites: []proto.Suite{{Dir: "dists/x"}}})
		for name, files := range map[string]map[string][]byte{"clear": {"InRelease": plain.Data}, "apart": {"Release": plain.Data}} {
			if _, err := f.Open(proto.Suite{Dir: dir}, files, now); (err == nil) != trusted {
				t.Errorf("%s of %s: %v", name, dir, err)
			}
		}
	}
	both, err := deb.New(deb.Config{Unsigned: true, Keyring: readKeyring(t, a)}).Open(suite, map[string][]byte{"InRelease": clear.Data}, now)
	if err != nil || !both.Proven {
		t.Errorf("an unsigned archive with a key: %v", err)
	}
}

// TestPlaces is what apt's URL rules allow: where an index lies, what it lists, and by which of its
// paths a client asks.
func TestPlaces(t *testing.T) {
	for _, test := range []struct{ name, dir, member, listed, asked string }{
		{"components", "dists/noble", "main/binary-amd64/Packages", "pool/x.deb", "pool/x.deb"},
		{"below a directory", "ubuntu/dists/noble", "main/binary-amd64/Packages", "pool/x.deb", "ubuntu/pool/x.deb"},
		{"a pool below dists", "dists/noble", "main/binary-amd64/Packages", "dists/noble/pool/x.deb", "dists/noble/pool/x.deb"},
		{"beside their index", "dists/noble", "main/binary-amd64/Packages", "dists/noble/main/binary-amd64/x.deb", "dists/noble/main/binary-amd64/x.deb"},
		{"a component with a slash", "dists/jessie/updates", "updates/main/binary-amd64/Packages", "pool/updates/main/x.deb", "pool/updates/main/x.deb"},
		{"dists twice, the outer", "dists/a/dists/b", "main/binary-amd64/Packages", "pool/x.deb", "pool/x.deb"},
		{"dists twice, the inner", "dists/a/dists/b", "main/binary-amd64/Packages", "pool/x.deb", "dists/a/pool/x.deb"},
		{"flat at the top", "", "Packages", "./x.deb", "x.deb"},
		{"flat, from its directory", "a/b/c", "Packages", "./x.deb", "a/b/c/x.deb"},
		{"flat, from the root", "a/b/c", "Packages", "a/b/c/x.deb", "a/b/c/x.deb"},
		{"flat, from a directory in between", "a/b/c", "Packages", "c/x.deb", "a/b/c/x.deb"},
		{"flat, from another in between", "a/b/c", "Packages", "b/c/x.deb", "a/b/c/x.deb"},
		{"flat below dists", "dists/x", "Packages", "dists/x/x.deb", "dists/x/x.deb"},
		{"flat below dists, from its directory", "dists/x", "Packages", "x.deb", "dists/x/x.deb"},
		{"flat with sources", "a", "Sources", "x.dsc", "a/x.dsc"},
		{"the root below the URL, flat", "", "Packages", "amd64/x.deb", "x.deb"},
		{"the root below the URL, in between", "b", "Packages", "a/b/x.deb", "b/x.deb"},
		{"the root is dists", "noble", "main/binary-amd64/Packages", "dists/noble/main/x.deb", "noble/main/x.deb"},
		{"the root is the suite", "", "main/binary-amd64/Packages", "dists/noble/x.deb", "x.deb"},
	} {
		index := "Package: x\nFilename: " + test.listed + "\nSize: 1\n"
		if strings.HasSuffix(test.member, "Sources") {
			index = "Package: x\nFiles:\n 00000000000000000000000000000000 1 " + test.listed + "\n"
		}
		suite := proto.Suite{Dir: test.dir}
		var got []string
		err := deb.New(deb.Config{}).Parse(suite, &proto.Member{Path: test.member, PlainSize: proto.UnknownSize}, strings.NewReader(index), func(f proto.File) error {
			got = append(got, string(f.Path))
			return nil
		})
		found := false
		for _, path := range got {
			found = found || path == test.asked
		}
		if err != nil || !found || len(got) > 11 {
			t.Errorf("%s: %q lists %q as %q: %v", test.name, test.dir, test.listed, got, err)
		}
	}
}

func TestBombs(t *testing.T) {
	f := deb.New(deb.Config{})
	suite := proto.Suite{Dir: "dists/x"}
	member := &proto.Member{Path: "main/binary-amd64/Packages.gz", PlainSize: proto.UnknownSize}
	pack := func(write func(w *gzip.Writer)) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		write(w)
		w.Close()
		return buf.Bytes()
	}
	piece := bytes.Repeat([]byte{'a'}, 1<<20)
	lines := bytes.Repeat([]byte("a: b\n"), 1<<18)
	formattest.Bombs(t, f, 32<<20,
		formattest.Bomb{Name: "one line", Suite: suite, Member: member, Stored: pack(func(w *gzip.Writer) {
			for range 48 {
				w.Write(piece)
			}
		})},
		formattest.Bomb{Name: "one stanza", Suite: suite, Member: member, Stored: pack(func(w *gzip.Writer) {
			for range 48 {
				w.Write(lines)
			}
		})},
		formattest.Bomb{Name: "more than is listed", Refused: true, Suite: suite, Member: &proto.Member{Path: member.Path, PlainSize: 10}, Stored: pack(func(w *gzip.Writer) {
			w.Write([]byte("Package: x\nFilename: x.deb\n"))
		})},
	)
}

func FuzzPaths(f *testing.F) {
	formattest.FuzzPaths(f, deb.New(deb.Config{}), "dists/noble/InRelease", "dists/noble/main/binary-amd64/Release", "Release",
		"dists/x/by-hash/SHA256/"+strings.Repeat("a0", 32), "x/by-hash/MD5Sum/"+strings.Repeat("a0", 16), "dists/a/dists/b/Packages.xz", "dists/dists/dists",
		"pool/main/h/hello/hello_1_amd64.deb", "a/b/c/d/x.deb", "noble/main/binary-amd64/Packages.gz", "dists/x/main/binary-amd64/Packages.diff/2024.gz")
}
