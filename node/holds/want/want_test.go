package want

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// repository is suites of one archive as a filter sees them.
type repository struct {
	format interface {
		Format
		Open(proto.Suite, map[string][]byte, time.Time) (*proto.Manifest, error)
		Forms(proto.Suite) []proto.Form
	}
	suites []proto.Suite
	files  map[string][]byte
}

var now = time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)

// choose returns the indexes and the files that a filter wants, by their names below the archive.
func (r repository) choose(t *testing.T, f Filter) (indexes, files []string, result *Result) {
	t.Helper()
	s := f.NewSelection()
	for _, suite := range r.suites {
		root := make(map[string][]byte)
		for _, form := range r.format.Forms(suite) {
			for _, file := range form.Files {
				if data, ok := r.files[suite.At(file.Name).Path]; ok {
					root[file.Name] = data
				}
			}
			if len(root) > 0 {
				break
			}
		}
		m, err := r.format.Open(suite, root, now)
		if err != nil {
			t.Fatal(err)
		}
		wanted := f.Indexes(r.format, m)
		for _, member := range wanted {
			indexes = append(indexes, suite.At(member.Path).Path)
		}
		for _, group := range f.Lists(r.format, m, wanted) {
			stored := r.files[suite.At(group[0].Path).Path]
			if stored == nil {
				t.Fatalf("%s is not there", group[0].Path)
			}
			if err := s.Add(suite, r.format, group[0], bytes.NewReader(stored)); err != nil {
				t.Fatal(err)
			}
		}
	}
	result = s.Done()
	for i := range result.Files {
		f := &result.Files[i]
		for _, loc := range f.Locations {
			files = append(files, path.Base(loc.Path))
			data := r.files[loc.Path]
			if f.Ref.Size != proto.UnknownSize && int64(len(data)) != f.Ref.Size || !f.Ref.Digest.IsZero() && proto.DigestOf(data) != f.Ref.Digest {
				t.Errorf("%s is not what it is wanted as", loc.Path)
			}
		}
	}
	slices.Sort(files)
	return indexes, files, result
}

func ubuntu(t *testing.T) repository {
	a := testarchive.New(1)
	release := testarchive.Suite{
		Name: "noble", Components: []string{"main", "universe"}, Architectures: []string{"amd64", "arm64"}, Translations: true, ContentsRoot: true,
		DEP11: true, Commands: true, PDiffs: true, Installer: "20200101",
	}
	a.AddSuite(release)
	updates := release
	updates.Name, updates.Installer, updates.PDiffs = "noble-updates", "", false
	a.AddSuite(updates)
	for suite, packages := range map[string][]testarchive.Package{
		"noble": {
			{Name: "app", Version: "1", Component: "universe", Depends: "libapp (>= 1), shell | nothing, mail, python3:any", Section: "web", Fields: []string{"Source: app-src (0.9)", "Priority: optional", "Recommends: nice"}},
			{Name: "app", Version: "1", Component: "universe", Arch: "arm64", Depends: "libapp (>= 1)", Section: "web", Fields: []string{"Source: app-src (0.9)"}},
			{Name: "libapp", Version: "1", Depends: "base"},
			{Name: "libapp", Version: "1", Arch: "arm64"},
			{Name: "shell", Version: "1", Arch: "all", Depends: "missing (= 3)"},
			{Name: "python3", Version: "3"},
			{Name: "postfix", Version: "1", Fields: []string{"Provides: mail"}},
			{Name: "exim", Version: "1", Fields: []string{"Provides: mail (= 2)"}},
			{Name: "nice", Version: "1", Component: "universe"},
			{Name: "other", Version: "1", Section: "universe/games", Fields: []string{"Priority: extra"}},
			{Name: "app-src", Version: "1-1", Source: true},
			{Name: "unpacked", Version: "1", Udeb: true},
		},
		"noble-updates": {
			{Name: "libapp", Version: "2", Depends: "base"},
			{Name: "base", Version: "1"},
		},
	} {
		for _, p := range packages {
			a.AddPackage(suite, p)
		}
	}
	a.Publish(now.Add(-2*time.Hour), "noble", "noble-updates")
	a.AddPackage("noble", testarchive.Package{Name: "late", Version: "1"}) // so that there are patches
	a.Publish(now.Add(-time.Hour), "noble", "noble-updates")
	return repository{deb.New(deb.Config{Unsigned: true}), []proto.Suite{{Archive: "u", Dir: "dists/noble"}, {Archive: "u", Dir: "dists/noble-updates"}}, a.Files()}
}

// Which packages of an apt archive a filter takes, with what they depend on across suites.
func TestPackagesOfDebian(t *testing.T) {
	r := ubuntu(t)
	for name, tt := range map[string]struct {
		filter     Filter
		want       string
		unresolved string
	}{
		"all of an architecture": {Filter{Architectures: []string{"amd64"}, Components: []string{"universe"}}, "app_1_amd64 nice_1_amd64", ""},
		"of all":                 {Filter{Components: []string{"universe"}}, "app_1_amd64 app_1_arm64 nice_1_amd64", ""},
		"sources":                {Filter{Architectures: []string{"source"}, Components: []string{"main"}}, "app-src_1-1.debian.tar.xz app-src_1-1.dsc app-src_1.orig.tar.xz", ""},
		"by name":                {Filter{Only: Match{Package: []string{"lib*"}}}, "libapp_1_amd64 libapp_1_arm64 libapp_2_amd64", ""},
		"by source":              {Filter{Only: Match{Source: []string{"app-src"}}, Architectures: []string{"amd64", "source"}}, "app-src_1-1.debian.tar.xz app-src_1-1.dsc app-src_1.orig.tar.xz app_1_amd64", ""},
		"by section":             {Filter{Only: Match{Section: []string{"games", "web"}}, Architectures: []string{"amd64"}}, "app_1_amd64 other_1_amd64", ""},
		"by priority":            {Filter{Only: Match{Priority: []string{"extra"}}}, "other_1_amd64", ""},
		"without":                {Filter{Exclude: Match{Package: []string{"app", "n?ce"}}, Components: []string{"universe"}}, "", ""},
		"by use":                 {Filter{Seed: func(_ string, p *proto.Package) bool { return string(p.Name) == "base" }}, "base_1_amd64", ""},
		"closure": {Filter{Only: Match{Package: []string{"app"}}, Architectures: []string{"amd64"}, Closure: true},
			"app_1_amd64 base_1_amd64 exim_1_amd64 libapp_2_amd64 postfix_1_amd64 python3_3_amd64 shell_1_all", "shell 1 amd64: missing (= 3)"},
		"closure of both": {Filter{Only: Match{Package: []string{"app"}}, Closure: true, Exclude: Match{Package: []string{"postfix"}}},
			"app_1_amd64 app_1_arm64 base_1_amd64 exim_1_amd64 libapp_1_arm64 libapp_2_amd64 python3_3_amd64 shell_1_all", "shell 1 amd64: missing (= 3)"},
		"closure with wishes": {Filter{Only: Match{Package: []string{"app"}}, Architectures: []string{"amd64"}, Closure: true, Wishes: true},
			"app_1_amd64 base_1_amd64 exim_1_amd64 libapp_2_amd64 nice_1_amd64 postfix_1_amd64 python3_3_amd64 shell_1_all", "shell 1 amd64: missing (= 3)"},
		"an installer": {Filter{Only: Match{Package: []string{"unpacked"}}, Installer: true}, "unpacked_1_amd64.udeb", ""},
		"no installer": {Filter{Only: Match{Package: []string{"unpacked"}}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, files, result := r.choose(t, tt.filter)
			if got := strings.ReplaceAll(strings.Join(files, " ")+" ", ".deb ", " "); strings.TrimSpace(got) != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			var unresolved []string
			for _, u := range result.Unresolved {
				unresolved = append(unresolved, fmt.Sprintf("%s %s %s: %s", u.Package, u.Version, u.Arch, u.Need))
			}
			if got := strings.Join(unresolved, ", "); got != tt.unresolved {
				t.Errorf("unresolved: %s\nwant %s", got, tt.unresolved)
			}
		})
	}
}

// Which indexes of an apt archive are held: every one of the chosen components and architectures, in every compression
// that archives carry; installers by flag; differences never.
func TestIndexesOfDebian(t *testing.T) {
	r := ubuntu(t)
	r.suites = r.suites[:1]
	indexes, _, _ := r.choose(t, Filter{Components: []string{"main"}, Architectures: []string{"amd64"}})
	has := func(name string) bool { return slices.Contains(indexes, "dists/noble/"+name) }
	for _, name := range []string{"main/binary-amd64/Packages.xz", "main/binary-amd64/Packages.gz", "main/i18n/Translation-en.xz", "Contents-amd64.gz", "main/dep11/Components-amd64.yml.gz", "main/cnf/Commands-amd64.xz"} {
		if !has(name) {
			t.Errorf("%s is not wanted", name)
		}
	}
	for _, name := range indexes {
		if r.files[name] == nil {
			t.Errorf("%s is wanted, and no archive carries it", name)
		}
		for _, not := range []string{"universe", "arm64", "source", ".diff", "installer"} {
			if strings.Contains(name, not) {
				t.Errorf("%s is wanted", name)
			}
		}
	}
	indexes, files, _ := r.choose(t, Filter{Components: []string{"main"}, Architectures: []string{"amd64"}, Installer: true})
	if !slices.ContainsFunc(indexes, func(name string) bool { return strings.Contains(name, "installer-amd64/") }) || !slices.ContainsFunc(files, func(name string) bool { return strings.HasPrefix(name, "vmlinuz") || name == "linux" }) {
		t.Errorf("the installer is not wanted: %s, %s", indexes, files)
	}
}

// The same filters choose from RPM repositories.
func TestPackagesOfRPM(t *testing.T) {
	for _, sum := range []string{"sha256", "sha512"} {
		repo := rpmarchive.Repo{Sum: sum, Packages: []rpmarchive.Package{
			{Name: "app", Requires: []string{`name="libapp.so.1()(64bit)"`, `name="nowhere"`, `name="/bin/sh"`}},
			{Name: "libapp", Version: "1", Provides: []string{`name="libapp.so.1()(64bit)"`}},
			{Name: "libapp", Version: "2", Provides: []string{`name="libapp.so.1()(64bit)"`}, Requires: []string{`name="data"`}},
			{Name: "libapp", Version: "3", Arch: "i686", Provides: []string{`name="libapp.so.1()(64bit)"`}},
			{Name: "data", Arch: "noarch"},
			{Name: "shell", Files: []string{"/bin/sh"}},
			{Name: "other"},
		}, Records: []rpmarchive.Record{{Type: "primary", Ext: ".gz"}, {Type: "filelists", Ext: ".gz"}, {Type: "other", Ext: ".gz"}, {Type: "prestodelta", Ext: ".xz"}}}
		repo.Packages[6].Delta = "drpms/other-0-1.drpm"
		r := repository{rpm.New(rpm.Config{Unsigned: true}), []proto.Suite{{Archive: "f", Dir: "os"}}, repo.Render("os/")}
		indexes, files, result := r.choose(t, Filter{Only: Match{Package: []string{"app"}}, Architectures: []string{"x86_64"}, Closure: true})
		if got := strings.Join(files, " "); got != "app-1-1.x86_64.rpm data-1-1.noarch.rpm libapp-2-1.x86_64.rpm shell-1-1.x86_64.rpm" {
			t.Errorf("%s: %s", sum, got)
		}
		if len(result.Unresolved) != 2 || result.Unresolved[0].Need != "libc.so.6()(64bit)" || result.Unresolved[1].Need != "nowhere" {
			t.Errorf("unresolved: %+v", result.Unresolved)
		}
		if len(indexes) != 4 {
			t.Errorf("indexes: %s", indexes)
		}
		if _, files, _ := r.choose(t, Filter{}); len(files) != 7 {
			t.Errorf("all: %s", files)
		}
	}
}

// And from the databases of pacman, with the signatures of packages, which its hosts fetch, too.
func TestPackagesOfPacman(t *testing.T) {
	files := make(map[string][]byte)
	testrepo.Repo{Dir: "core/os/x86_64", Name: "core", Built: now, PackageKey: testarchive.DefaultKey(), IncludeSigs: true, Packages: []testrepo.Package{
		{Name: "app", Version: "1-1", Depends: []string{"libapp.so=1-64", "data>1"}},
		{Name: "libapp", Version: "1-1", Provides: []string{"libapp.so=1-64"}},
		{Name: "data", Version: "2-1", Arch: "any"},
		{Name: "other", Version: "1-1"},
	}}.Render(files)
	r := repository{pacman.New(pacman.Config{Unsigned: true}), []proto.Suite{{Archive: "a", Dir: "core/os/x86_64", Name: "core.db"}}, files}
	_, names, result := r.choose(t, Filter{Only: Match{Package: []string{"app"}}, Closure: true})
	if got := strings.ReplaceAll(strings.Join(names, " "), ".pkg.tar.zst", ""); got != "app-1-1-x86_64 app-1-1-x86_64.sig data-2-1-any data-2-1-any.sig libapp-1-1-x86_64 libapp-1-1-x86_64.sig" {
		t.Error(got)
	}
	if len(result.Unresolved) > 0 {
		t.Errorf("unresolved: %+v", result.Unresolved)
	}
	if _, names, _ := r.choose(t, Filter{}); len(names) != 8 {
		t.Errorf("all: %s", names)
	}
}
