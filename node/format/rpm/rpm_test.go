package rpm_test

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/formattest"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

var (
	day1 = time.Date(2024, 4, 25, 15, 0, 0, 0, time.UTC)
	day2 = day1.Add(24 * time.Hour)
	now  = day2.Add(time.Hour)
)

const (
	root      = "repodata/repomd.xml"
	signature = root + ".asc"
)

// golden makes two publications of repositories, by directory, as one archive.
func golden(t *testing.T, name string, repos map[string]rpmarchive.Repo) formattest.Archive {
	t.Helper()
	g := formattest.Archive{Name: name, Now: now, Files: map[string][]byte{}, Next: map[string][]byte{}, Asked: map[string]string{}}
	for dir, repo := range repos {
		g.Suites = append(g.Suites, proto.Suite{Dir: dir})
		prefix := ""
		if dir != "" {
			prefix = dir + "/"
		}
		repo.Date = day1
		addClean(t, g.Files, repo.Render(prefix))
		repo.Date = day2
		if len(repo.Packages) == 0 {
			t.Fatal("a repository without packages")
		}
		repo.Packages = append(slices.Clone(repo.Packages), rpmarchive.Package{Name: "later"})
		addClean(t, g.Next, repo.Render(prefix))
		g.Signed = repo.Key != nil
	}
	for p := range g.Files {
		if strings.HasSuffix(p, ".rpm") || strings.HasSuffix(p, ".drpm") {
			g.Asked[p] = p
		}
	}
	g.Format = formatFor(t, g.Signed)
	return g
}

// addClean adds files as a server finds them: by canonical paths.
func addClean(t *testing.T, all, files map[string][]byte) {
	t.Helper()
	for p, data := range files {
		clean, err := proto.CleanPath(p)
		if err != nil {
			t.Fatal(err)
		}
		all[clean] = data
	}
}

func formatFor(t testing.TB, signed bool) *rpm.Format {
	t.Helper()
	if !signed {
		return rpm.New(rpm.Config{Unsigned: true, URLs: []string{"https://mirror.example.org/vendor", "http://MIRROR.example.net:80/a%20b/"}})
	}
	ring, err := pgp.ReadKeyring("test", testarchive.DefaultKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	return rpm.New(rpm.Config{Keyring: ring})
}

var few = rpmarchive.Few

func TestConformance(t *testing.T) {
	var all []formattest.Archive
	repos := rpmarchive.Golden()
	for _, name := range slices.Sorted(maps.Keys(repos)) {
		all = append(all, golden(t, name, repos[name]))
	}
	formattest.Run(t, append(all, stored(t, "bzip2"))...)
}

// stored is a repository in testdata.
func stored(t *testing.T, name string) formattest.Archive {
	t.Helper()
	dir := filepath.Join("testdata", name)
	a := formattest.Archive{Name: name, Format: formatFor(t, false), Now: now, Suites: []proto.Suite{{}}, Files: make(map[string][]byte), Asked: make(map[string]string)}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel := filepath.ToSlash(strings.TrimPrefix(path, dir+string(filepath.Separator)))
		if a.Files[rel] = data; strings.HasSuffix(rel, ".rpm") {
			a.Asked[rel] = rel
		}
		return err
	})
	if err != nil || len(a.Asked) == 0 {
		t.Fatalf("%s has %d packages: %v", dir, len(a.Asked), err)
	}
	return a
}

func open(t testing.TB, f *rpm.Format, files map[string][]byte) *proto.Manifest {
	t.Helper()
	m, err := f.Open(proto.Suite{}, map[string][]byte{root: files[root], signature: files[signature]}, now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Slots survive publications, and so does what an index is without compression; paths do not.
func TestSlots(t *testing.T) {
	repo := rpmarchive.Golden()["Fedora"]["updates/40/Everything/x86_64"]
	repo.Date = day1
	f := formatFor(t, false)
	slots := func() (slots, plain, paths []string) {
		for _, m := range open(t, f, repo.Render("")).Members {
			slots, plain, paths = append(slots, m.Slot), append(plain, m.Plain), append(paths, m.Path)
		}
		slices.Sort(slots)
		slices.Sort(plain)
		return slots, plain, paths
	}
	slots1, plain1, paths1 := slots()
	repo.Packages = append(slices.Clone(repo.Packages), rpmarchive.Package{Name: "later"})
	slots2, plain2, paths2 := slots()
	if !slices.Equal(slots1, slots2) || !slices.Equal(plain1, plain2) || slices.Equal(paths1, paths2) {
		t.Errorf("slots %q, then %q", slots1, slots2)
	}
	if !slices.Contains(slots1, "primary") || !slices.Contains(slots1, "primary_zck") {
		t.Errorf("slots %q", slots1)
	}
}

// The date is what orders publications: formats.
func TestDate(t *testing.T) {
	for name, test := range map[string]struct {
		revision string
		bare     bool
		want     time.Time
	}{
		"as createrepo_c writes it": {"", false, day1},
		"a newer revision":          {"1714143600", false, day2},
		"in milliseconds":           {"1714143600000", false, day2},
		"a constant":                {"0", false, day1},
		"a word":                    {"2024-04-25", false, day1},
		"of the future":             {"4102444800", false, day1},
		"a small number":            {"1234", true, time.Time{}},
		"no timestamps":             {"1714057200", true, day1},
		"nothing":                   {"x", true, time.Time{}},
	} {
		repo := rpmarchive.Repo{Date: day1, Revision: test.revision, Records: []rpmarchive.Record{{Type: "primary", Ext: ".gz", Bare: test.bare}}}
		m := open(t, formatFor(t, false), repo.Render(""))
		if !m.Date.Equal(test.want) {
			t.Errorf("%s: %v, want %v", name, m.Date, test.want)
		}
	}
}

// A root is of its suite, whatever it calls the distribution; only another repository's identifier
// leaves a doubt.
func TestBelongs(t *testing.T) {
	f := formatFor(t, false)
	names := proto.Names{Origin: "cpe:/o:example:rolling:20240101", Suite: "obs://one"}
	for _, test := range []struct {
		name    string
		current *proto.Names
		offered proto.Names
		want    proto.Belonging
	}{
		{"first contact", nil, names, proto.BelongsYes},
		{"as before", &names, names, proto.BelongsYes},
		{"a new version of the distribution", &names, proto.Names{Origin: "cpe:/o:example:rolling:20240102", Suite: "obs://one"}, proto.BelongsYes},
		{"names that are gone", &names, proto.Names{}, proto.BelongsYes},
		{"names that are new", &proto.Names{}, names, proto.BelongsYes},
		{"another repository", &names, proto.Names{Suite: "obs://two"}, proto.BelongsUnsure},
	} {
		if got := f.Belongs(proto.Suite{}, test.current, &proto.Manifest{Names: test.offered}); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// What is odd in a root costs what it would list, and no more.
func TestOddRoots(t *testing.T) {
	for name, test := range map[string]struct {
		edit    func(repomd string) string
		sum     string
		members int
		says    string // in an oddity; "-": refused; "" nothing
	}{
		"as it should be": {nil, "", 3, ""},
		"a page":          {func(string) string { return "<html><body>log in</body></html>" }, "", 0, "-"},
		"no end":          {func(s string) string { return strings.TrimSuffix(s, "</repomd>\n") }, "", 0, "-"},
		"a base": {func(s string) string {
			return strings.Replace(s, `<location href`, `<location xml:base="https://example.net/" href`, 1)
		}, "", 2, "base of its own"},
		"a base of the archive": {func(s string) string {
			return strings.Replace(s, `<location href`, `<location xml:base="https://mirror.example.org/vendor/" href`, 1)
		}, "", 3, ""},
		"a URL of the archive": {func(s string) string {
			return strings.Replace(s, `<location href="`, `<location href="https://mirror.example.org/vendor/`, 1)
		}, "", 3, ""},
		"above the root": {func(s string) string { return strings.Replace(s, `href="repodata/`, `href="../repodata/`, 1) }, "", 2, "location"},
		"no location":    {func(s string) string { return strings.Replace(s, `<location href`, `<place href`, 1) }, "", 2, "location"},
		"one type twice": {func(s string) string { return strings.Replace(s, `type="other"`, `type="primary"`, 1) }, "", 3, ""},
		"a record of the root": {func(s string) string {
			return strings.Replace(s, `</repomd>`, `<data type="self"><location href="repodata/repomd.xml"/></data></repomd>`, 1)
		}, "", 3, "already"},
		"SHA-1":   {nil, "sha", 3, "SHA-256"},
		"SHA-384": {nil, "sha384", 3, "SHA-256"},
		"MD5":     {nil, "md5", 3, "SHA-256"},
	} {
		repo := rpmarchive.Repo{Date: day1, Packages: few, Sum: test.sum, Edit: func(kind, text string) string {
			if kind == "repomd" && test.edit != nil {
				return test.edit(text)
			}
			return text
		}}
		m, err := formatFor(t, false).Open(proto.Suite{}, repo.Render(""), now)
		if test.says == "-" {
			if err == nil {
				t.Errorf("%s: it opens", name)
			}
			continue
		}
		if err != nil || len(m.Members) != test.members || (len(m.Oddities) == 0) != (test.says == "") || test.says != "" && !strings.Contains(m.Oddities[0], test.says) {
			t.Errorf("%s: %d members, oddities %q, %v", name, len(m.Members), m.Oddities, err)
		}
		if err == nil && test.sum != "" && slices.ContainsFunc(m.Members, func(m proto.Member) bool { return m.Provable() || m.Lists() }) {
			t.Errorf("%s proves something", name)
		}
	}
}

// What vouches for a root: the signature beside it, or nothing where the configuration wants nothing.
func TestTrust(t *testing.T) {
	repo := rpmarchive.Repo{Date: day1, Packages: few, Key: testarchive.DefaultKey()}
	good := repo.Render("")
	repo.Key = testarchive.NewKey("somebody else", testarchive.KeyOptions{})
	other := repo.Render("")[signature]
	ring, err := pgp.ReadKeyring("test", testarchive.DefaultKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cfg             rpm.Config
		sig             []byte
		trusted, proven bool
	}{
		"signed":                     {rpm.Config{Keyring: ring}, good[signature], true, true},
		"signed by somebody else":    {rpm.Config{Keyring: ring}, other, false, false},
		"not signed":                 {rpm.Config{Keyring: ring}, nil, false, false},
		"a page for a signature":     {rpm.Config{Keyring: ring}, []byte("<html>"), false, false},
		"no key":                     {rpm.Config{}, good[signature], false, false},
		"unsigned":                   {rpm.Config{Unsigned: true}, nil, true, false},
		"unsigned, with a signature": {rpm.Config{Unsigned: true}, other, true, false},
		"unsigned, with a key":       {rpm.Config{Unsigned: true, Keyring: ring}, good[signature], true, true},
		"unsigned, with another key": {rpm.Config{Unsigned: true, Keyring: ring}, other, true, false},
	} {
		files := map[string][]byte{root: good[root]}
		if test.sig != nil {
			files[signature] = test.sig
		}
		m, err := rpm.New(test.cfg).Open(proto.Suite{}, files, now)
		if (err == nil) != test.trusted || err == nil && m.Proven != test.proven {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

// listed returns what an index lists.
func listed(t testing.TB, f *rpm.Format, suite proto.Suite, slot, path, text string) (paths []string, err error) {
	t.Helper()
	m := &proto.Member{Path: path, Slot: slot, PlainSize: proto.UnknownSize, Table: "x"}
	err = f.Parse(suite, m, strings.NewReader(text), func(f proto.File) error {
		if (len(f.Path) == 0) == (len(f.Outside) == 0) {
			t.Errorf("%q, outside %q", f.Path, f.Outside)
		}
		if len(f.Path) > 0 {
			paths = append(paths, string(f.Path))
		}
		return nil
	})
	return paths, err
}

// TestLocations is by which paths clients ask for what primary.xml lists.
func TestLocations(t *testing.T) {
	for href, want := range map[string][]string{
		`href="a-1-1.x86_64.rpm"`:                       {"x/y/a-1-1.x86_64.rpm"},
		`href="Packages/a/a+b~c^d-1-1.noarch.rpm"`:      {"x/y/Packages/a/a+b~c^d-1-1.noarch.rpm"},
		`href="a%2bb.rpm"`:                              {"x/y/a%2bb.rpm", "x/y/a+b.rpm"},
		`href="./a.rpm"`:                                {"x/y/a.rpm"},
		`href="../../z/a.rpm"`:                          {"z/a.rpm"},
		`href="../../../a.rpm"`:                         nil,
		`href="a b &amp; &#x63;.rpm"`:                   {"x/y/a b & c.rpm"},
		`href='a.rpm'`:                                  {"x/y/a.rpm"},
		`xml:base="https://example.net/r" href="a.rpm"`: nil,
		`xml:base="https://mirror.example.org/vendor/z" href="a.rpm"`:         {"z/a.rpm"},
		`xml:base="http://Mirror.example.org:443/vendor/z/" href="b/a.rpm"`:   {"z/b/a.rpm"},
		`xml:base="https://mirror.example.org/vendor" href="a.rpm"`:           {"a.rpm"},
		`xml:base="https://mirror.example.org/vendor/x/y" href="../a%2b.rpm"`: {"x/a%2b.rpm", "x/a+.rpm"},
		`xml:base="http://mirror.example.net/a%20b/z" href="a.rpm"`:           {"z/a.rpm"},
		`xml:base="https://mirror.example.org/vendors" href="a.rpm"`:          nil,
		`xml:base="https://mirror.example.org:8443/vendor" href="a.rpm"`:      nil,
		`xml:base="https://mirror.example.org/vendor?token=1" href="a.rpm"`:   nil,
		`xml:base="https://mirror.example.org/vendor/../other" href="a.rpm"`:  nil,
		`xml:base="ftp://mirror.example.org/vendor" href="a.rpm"`:             nil,
		`xml:base="." href="a.rpm"`:                                           nil,
		`href="https://mirror.example.org/vendor/z/a.rpm"`:                    {"z/a.rpm"},
		`href="https://github.example.com/releases/a.rpm"`:                    nil,
		`href="https://"`:                                nil,
		`xml:base="" href="a.rpm"`:                       {"x/y/a.rpm"},
		`href="a.rpm?token=1"`:                           {"x/y/a.rpm?token=1"},
		"\n\thref = \"a.rpm\"\n":                         {"x/y/a.rpm"},
		`other=">" href="a.rpm"`:                         {"x/y/a.rpm"},
		`href=""`:                                        nil,
		`href="` + strings.Repeat("a/", 3000) + `a.rpm"`: nil,
	} {
		text := `<metadata><package type="rpm"><checksum type="sha256">x</checksum><location ` + href + `/></package></metadata>`
		got, err := listed(t, formatFor(t, false), proto.Suite{Dir: "x/y"}, "primary", "repodata/primary.xml", text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%.60s: %q, %v", href, got, err)
		}
	}
}

// What an index lists before it makes no sense stays listed.
func TestDamagedPrimary(t *testing.T) {
	repo := rpmarchive.Repo{Date: day1, Packages: few}
	text := ""
	repo.Edit = func(kind, t string) string {
		if kind == "primary" {
			text = t
		}
		return t
	}
	repo.Render("")
	for name, test := range map[string]struct {
		text  string
		files int
		fails bool
	}{
		"whole":           {text, 3, false},
		"no end":          {strings.TrimSuffix(text, "</metadata>\n"), 3, true},
		"cut short":       {text[:strings.LastIndex(text, "<location")], 2, true},
		"cut in a tag":    {text[:strings.LastIndex(text, "<location")+12], 2, true},
		"empty":           {"", 0, true},
		"a page":          {"<html><body>log in</body></html>", 0, true},
		"a comment":       {strings.Replace(text, "<package ", "<!-- <package> </package> --><package ", 1), 3, false},
		"an open comment": {strings.Replace(text, "<package ", "<!-- <package ", 1), 0, true},
		"a long tag":      {strings.Replace(text, "<location ", "<location x='"+strings.Repeat("y", 1<<20)+"' ", 1), 0, true},
		"a long text":     {strings.Replace(text, "<summary>", "<summary>"+strings.Repeat("y", 1<<20), 1), 3, false},
	} {
		got, err := listed(t, formatFor(t, false), proto.Suite{}, "primary", "repodata/primary.xml", test.text)
		if len(got) != test.files || (err != nil) != test.fails {
			t.Errorf("%s: %d files, %v", name, len(got), err)
		}
	}
}

func TestPathInfo(t *testing.T) {
	f := formatFor(t, false)
	sum := strings.Repeat("0a", 32)
	for path, want := range map[string]proto.PathInfo{
		"repodata/repomd.xml":                           {Kind: "root", Root: true, Class: proto.ClassMetadata, NoCacheByHabit: true, Hold: 6 * time.Second, ContentType: "text/xml; charset=utf-8"},
		"a/repodata/repomd.xml.asc":                     {Kind: "root", Root: true, Class: proto.ClassMetadata, NoCacheByHabit: true, Hold: 6 * time.Second, ContentType: "application/pgp-signature"},
		"a/repodata/primary.xml.gz":                     {Kind: "index", Index: true, Class: proto.ClassUnlisted, Hold: 25 * time.Second, ContentType: "application/gzip"},
		"a/Packages/h/hello-1-1.x86_64.rpm":             {Kind: "package", Package: true, Class: proto.ClassUnlisted, Hold: 25 * time.Second, ContentType: "application/x-rpm"},
		"a/.treeinfo":                                   {Kind: "root", Root: true, Probed: true, Class: proto.ClassMetadata, Hold: 6 * time.Second, ContentType: "text/plain; charset=utf-8"},
		"a/media.1/media":                               {Kind: "other", Class: proto.ClassUnlisted, Hold: 6 * time.Second, ContentType: "application/octet-stream"},
		"a/README.html":                                 {Kind: "other", Class: proto.ClassUnlisted, Hold: 6 * time.Second, ContentType: "application/octet-stream", Page: true},
		"a/repodata/not-primary.xml.gz":                 {Kind: "index", Index: true, Class: proto.ClassUnlisted, Hold: 25 * time.Second, ContentType: "application/gzip"},
		"a/repodata/deeper/repomd.xml":                  {Kind: "other", Class: proto.ClassUnlisted, Hold: 6 * time.Second, ContentType: "text/xml; charset=utf-8"},
		"repodata/" + strings.Repeat("g", 64) + "-x.gz": {Kind: "index", Index: true, Class: proto.ClassUnlisted, Hold: 25 * time.Second, ContentType: "application/gzip"},
	} {
		if got := f.PathInfo(path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	got := f.PathInfo("a/repodata/" + sum + "-primary.xml.zst")
	if !got.Immutable || got.Proof != proto.ProofHint || got.Hash.Kind != proto.HashSHA256 || got.Hash.Sum[0] != 0x0a {
		t.Errorf("a name of a sum: %+v", got)
	}
	if n := testing.AllocsPerRun(100, func() { f.PathInfo("a/repodata/" + "0000000000000000000000000000000000000000-other.xml.gz") }); n > 0 {
		t.Errorf("PathInfo allocates %v times", n)
	}
}

func TestSuiteNamed(t *testing.T) {
	for name, dir := range map[string]string{
		"./": "", ".": "", "/": "", "": "", "40/x86_64/os": "40/x86_64/os", "40/x86_64/os/": "40/x86_64/os", "./a/": "a",
		"a/repodata": "a", "a/repodata/repomd.xml": "a", "repodata/repomd.xml": "",
	} {
		if got := formatFor(t, false).SuiteNamed(name); got.Dir != dir {
			t.Errorf("%q is %q", name, got.Dir)
		}
	}
}

// bombs are indexes that unpack to much more than they have.
func TestBombs(t *testing.T) {
	zeros := bytes.Repeat([]byte(" "), 64<<20)
	member := func(ext string) *proto.Member {
		return &proto.Member{Path: "repodata/primary.xml" + ext, Slot: "primary", PlainSize: proto.UnknownSize, Table: "x"}
	}
	small := member(".gz")
	small.PlainSize = 1000
	header := []byte("\x00ZCK1\x81")
	formattest.Bombs(t, formatFor(t, false), 40<<20,
		formattest.Bomb{Name: "white space", Member: member(".zst"), Stored: testarchive.Compress(".zst", zeros), Refused: true},
		formattest.Bomb{Name: "more than is listed", Member: small, Stored: testarchive.Compress(".gz", zeros), Refused: true},
		formattest.Bomb{Name: "zchunk with a large header", Member: member(".zck"), Stored: append(bytes.Clone(header), 0x7f, 0x7f, 0x7f, 0x9f), Refused: true},
		formattest.Bomb{Name: "zchunk, one chunk of zeros", Member: member(".zck"), Stored: rpmarchive.Zchunk(zeros, []byte("x")), Refused: true},
	)
}
