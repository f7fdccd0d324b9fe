package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// builder collects the packages of an archive.
type builder interface {
	// add adds a package of so many bytes, roughly, and returns its path.
	add(name string, size int64) string
	// publish makes the files of the archive, and says which of them are its root and its index.
	publish(a *archive, date time.Time)
}

// formatNames are the formats that newBuilder knows.
var formatNames = []string{"apt", "rpm", "pacman"}

// newBuilder begins an archive; suite is what it is like if it is one of apt's.
func newBuilder(format string, seed uint64, suite testarchive.Suite) builder {
	switch format {
	case "rpm":
		return &rpmBuilder{}
	case "pacman":
		return &pacmanBuilder{}
	}
	b := &aptBuilder{testarchive.New(seed)}
	b.src.AddSuite(suite)
	return b
}

type aptBuilder struct{ src *testarchive.Archive }

func (b *aptBuilder) add(name string, size int64) string {
	return path.Join(mount, b.src.AddPackage("stable", testarchive.Package{Name: name, Version: "1.0", Size: size}))
}

func (b *aptBuilder) publish(a *archive, date time.Time) { a.publish(b.src, date) }

type rpmBuilder struct{ packages []rpmarchive.Package }

func (b *rpmBuilder) add(name string, size int64) string {
	b.packages = append(b.packages, rpmarchive.Package{Name: name, Size: max(1, int(size))})
	return path.Join(mount, fmt.Sprintf("Packages/%c/%s-1-1.x86_64.rpm", name[0], name))
}

func (b *rpmBuilder) publish(a *archive, date time.Time) {
	files := rpmarchive.Repo{Date: date, Key: testarchive.DefaultKey(), Packages: b.packages}.Render(mount + "/")
	a.take(files, date, "./", "repodata/repomd.xml")
	for name := range files {
		if strings.HasSuffix(name, "-primary.xml.gz") {
			a.index = name
		}
	}
}

type pacmanBuilder struct{ packages []testrepo.Package }

const pacmanDir = "core/os/x86_64"

func (b *pacmanBuilder) add(name string, size int64) string {
	p := testrepo.Package{Name: name, Version: "1-1", Size: int(size)}
	b.packages = append(b.packages, p)
	return path.Join(mount, pacmanDir, p.File())
}

func (b *pacmanBuilder) publish(a *archive, date time.Time) {
	files := make(map[string][]byte)
	testrepo.Repo{Dir: path.Join(mount, pacmanDir), Name: "core", Packages: b.packages, Built: date, Key: testarchive.DefaultKey()}.Render(files)
	a.take(files, date, pacmanDir+"/core.db", pacmanDir+"/core.db")
	a.index = a.inRelease // root and index in one
}

// take makes these files those of the archive, whose suite and root are below the mount.
func (a *archive) take(files map[string][]byte, date time.Time, suite, root string) {
	a.files = map[string]origin.File{}
	for name, data := range files {
		a.files[name] = origin.File{Body: data, Modified: date}
		if ext := path.Ext(name); ext == ".rpm" || ext == ".zst" {
			a.aPackage = name
		}
	}
	a.keyring = testarchive.Keyring(testarchive.DefaultKey())
	a.suite, a.inRelease = suite, path.Join(mount, root)
}

// section is what a node has in its configuration for an archive, but for the keys that a measurement adds.
func (p place) section(keys string) string {
	return fmt.Sprintf("archives:\n  %s:\n    format: %s\n    upstream: %q\n    signed_by: [%q]\n%s", mount, p.format, "http://"+p.upstream+"/"+mount, p.keyring, keys)
}
