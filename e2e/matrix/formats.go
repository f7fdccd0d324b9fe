package main

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// format is a repository format: what its archives are like, and what its clients do.
type format struct {
	name   string
	suite  string // as `aptmesh refresh` takes it
	client lab.Manner
	// root is the file that is replaced last; roots are all that vouch for it or take its place.
	root  string
	roots []string
	// signedWithin says that the signature is a part of the root. A line feed ends it that nothing covers.
	signedWithin bool
	// indexes is a pattern of the indices as clients ask for them, indexFile a part of their names in the archive.
	indexes, indexFile string
	// indexFirst says that a node reads the index before it gives out the root: a client that has the root is too
	// late for the faults of the index.
	indexFirst bool
	// asks is how often a node asks at most in place of the client that it holds back, until trouble has passed.
	asks int
	// objects are the kinds of file that there are, and what each of them is here.
	objects map[object]about
	// publish makes the archive's next generation, with hello in that version, and returns the path of hello. Archives
	// with different seeds have no file in common: what a node has of one, it has of all.
	publish func(a *testarchive.Archive, seed uint32, date time.Time, version int) string
	// index is the path by which a client that has just read the root asks for the index; others are its other paths.
	index func(a *testarchive.Archive) (path string, others []string)
}

// about is the name of an object, and what the table of it shows.
type about struct{ name, shows string }

// fillers are packages so that the index has a middle.
const fillers = 20

// helloSize is that of the package which the cells ask for.
func helloSize(version int) int { return map[int]int{1: 1000, 2: 200_000}[version] }

var formats = []format{aptFormat(), rpmFormat(), pacmanFormat()}

func aptFormat() format {
	const packages = "dists/noble/main/binary-amd64/Packages.xz"
	return format{
		name: "apt", suite: "noble", client: lab.AsApt, asks: 1, signedWithin: true,
		root: "dists/noble/InRelease", roots: []string{"dists/noble/InRelease", "dists/noble/Release", "dists/noble/Release.gpg"},
		indexes: "*/by-hash/*", indexFile: "/Packages",
		objects: map[object]about{
			firstRoot: {"first InRelease", "The InRelease of a suite that nobody has asked for before: the cluster holds nothing of it."},
			nextRoot: {"next InRelease", "The cluster holds a generation; the archive has just published the next one, a node looks for it once, and the client asks for InRelease. " +
				"That the mirror which leads is behind shows when another one is glanced at, about every fifth look."},
			index: {"index", "`Packages.xz` by hash, right after its InRelease."},
			pkg:   {"package", "A package of 200 KB that the index lists."},
		},
		publish: func(a *testarchive.Archive, _ uint32, date time.Time, version int) string {
			if version == 1 {
				a.AddSuite(testarchive.Suite{Name: "noble", ByHash: true, Compressions: []string{".xz"}})
				for i := range fillers {
					a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("filler%02d", i), Version: "1", Size: 100})
				}
			}
			hello := a.AddPackage("noble", testarchive.Package{Name: "hello", Version: fmt.Sprint(version), Size: int64(helloSize(version))})
			a.Publish(date)
			return hello
		},
		index: func(a *testarchive.Archive) (string, []string) {
			f, _ := a.Lookup(packages)
			return path.Dir(packages) + "/by-hash/SHA256/" + testarchive.Sum(testarchive.SHA256, f.Data), []string{packages}
		},
	}
}

func rpmFormat() format {
	const repomd = "repodata/repomd.xml"
	return format{
		name: "rpm", suite: "./", client: lab.AsDnf, asks: 15,
		root: repomd, roots: []string{repomd, repomd + ".asc", repomd + ".key"},
		indexes: "repodata/*.xml.gz", indexFile: ".xml.gz", indexFirst: true,
		objects: map[object]about{
			firstRoot: {"first repomd.xml", "The repomd.xml, signed, of a repository that nobody has asked for before."},
			nextRoot: {"next repomd.xml", "The cluster holds a generation; the publisher has just replaced its metadata, a node looks for it once, and the client asks for repomd.xml. " +
				"A mirror that is behind shows when another one is glanced at, about every fifth look."},
			index: {"index", "The primary.xml.gz, and the repomd.xml before it: a node reads both before it gives out either."},
			pkg:   {"package", "A package of 200 KB that primary.xml lists."},
		},
		publish: func(a *testarchive.Archive, seed uint32, date time.Time, version int) string {
			release := fmt.Sprint(seed)
			all := []rpmarchive.Package{{Name: "hello", Version: fmt.Sprint(version), Release: release, Size: helloSize(version)}}
			for i := range fillers {
				all = append(all, rpmarchive.Package{Name: fmt.Sprintf("filler%02d", i), Release: release, Size: 100})
			}
			replace(a, rpmarchive.Repo{Date: date, Key: testarchive.DefaultKey(), Packages: all}.Render(""), date)
			return fmt.Sprintf("Packages/h/hello-%d-%s.x86_64.rpm", version, release)
		},
		index: func(a *testarchive.Archive) (string, []string) {
			for name := range a.Files() {
				if strings.HasSuffix(name, "-primary.xml.gz") {
					return name, nil
				}
			}
			return "", nil
		},
	}
}

func pacmanFormat() format {
	const dir = "core/os/x86_64"
	return format{
		name: "pacman", suite: dir + "/core.db", client: lab.AsPacman, asks: 6,
		root: dir + "/core.db", roots: []string{dir + "/core.db", dir + "/core.db.sig"},
		objects: map[object]about{
			firstRoot: {"first database", "The core.db, signed, of a repository that nobody has asked for before."},
			nextRoot: {"next database", "The cluster holds a generation; the publisher has just replaced the database, a node looks for it once, and the client asks for core.db. " +
				"A mirror that is behind shows when another one is glanced at, about every fifth look."},
			pkg: {"package", "A package of 200 KB that the database lists."},
		},
		publish: func(a *testarchive.Archive, seed uint32, date time.Time, version int) string {
			hello := testrepo.Package{Name: "hello", Version: fmt.Sprintf("%d-%d", version, seed), Size: helloSize(version)}
			all := []testrepo.Package{hello}
			for i := range fillers {
				all = append(all, testrepo.Package{Name: fmt.Sprintf("filler%02d", i), Version: fmt.Sprintf("1-%d", seed), Size: 100})
			}
			files := make(map[string][]byte)
			testrepo.Repo{Dir: dir, Name: "core", Packages: all, Built: date, Key: testarchive.DefaultKey()}.Render(files)
			replace(a, files, date)
			return dir + "/" + hello.File()
		},
	}
}

// replace shows these files in place of the metadata of before. Packages that are not listed any more stay.
func replace(a *testarchive.Archive, files map[string][]byte, date time.Time) {
	for _, name := range slices.Sorted(maps.Keys(a.Files())) {
		if _, again := files[name]; !again && strings.HasPrefix(name, "repodata/") {
			a.Delete(name)
		}
	}
	for name, data := range files {
		if f, there := a.Lookup(name); there && string(f.Data) == string(data) {
			continue
		}
		a.Put(name, data, date)
	}
}

// has reports whether the format has such objects.
func (f format) has(o object) bool { _, ok := f.objects[o]; return ok }

// formatNamed finds a format.
func formatNamed(name string) (format, error) {
	var names []string
	for _, f := range formats {
		if f.name == name {
			return f, nil
		}
		names = append(names, f.name)
	}
	return format{}, fmt.Errorf("--format %s: there are %s", name, strings.Join(names, ", "))
}
