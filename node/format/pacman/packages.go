package pacman

import (
	"io"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// forAll is the architecture of packages for every machine.
const forAll = "any"

// Packages reads a database and calls emit for each package, with the same *proto.Package every time.
func (f *Format) Packages(suite proto.Suite, _ *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	var p proto.Package
	return eachPackage(stored, func(d *description) error {
		file, ok := d.file(suite.Dir)
		if !ok {
			return nil
		}
		p = d.pkg(file)
		return emit(&p)
	})
}

func (d *description) pkg(file proto.File) proto.Package {
	return proto.Package{File: file, Name: d.name, Version: d.version, Arch: d.arch, Universal: string(d.arch) == forAll, Source: d.base, Needs: d.depends, Provides: d.provides}
}

// Listed reads a database and calls emit for each package, and for its signature where the database has that.
func (f *Format) Listed(suite proto.Suite, _ *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	return eachPackage(stored, func(d *description) error {
		file, ok := d.file(suite.Dir)
		if !ok {
			return nil
		}
		p := d.pkg(file)
		if err := emit(&p); err != nil {
			return err
		}
		if p.File, ok = d.signature(file); !ok {
			return nil
		}
		return emit(&p)
	})
}

// Place is empty: a database is all there is.
func (f *Format) Place(*proto.Manifest, *proto.Member) proto.Place { return proto.Place{} }

// Component: a database is one.
func (f *Format) Component(*proto.Member) string { return "" }

// Pocket: repositories are not split into a release and what is added to it.
func (f *Format) Pocket(suite proto.Suite) (release proto.Suite, pocket string) { return suite, "" }

// HostArch is unknown: a database may have packages for several, and its path need not tell.
func (f *Format) HostArch(*proto.Member) string { return "" }

// Identity splits the path of a package, DIR/NAME-VERSION-RELEASE-ARCH.pkg.tar.zst. Only the name may
// have a hyphen.
func (f *Format) Identity(path string) (proto.PackageID, bool) {
	file := strings.LastIndexByte(path, '/') + 1
	if !isPackage(path[file:]) {
		return proto.PackageID{}, false
	}
	end := strings.LastIndex(path, ".pkg.tar")
	arch := strings.LastIndexByte(path[:end], '-')
	release := strings.LastIndexByte(path[:max(arch, 0)], '-')
	version := strings.LastIndexByte(path[:max(release, 0)], '-')
	if version <= file || arch+1 == end || release+1 == arch || version+1 == release {
		return proto.PackageID{}, false
	}
	return proto.PackageID{Name: path[:version], Arch: path[arch+1 : end]}, true
}

// Needs reads Package.Needs and Package.Provides: a line each, such as "glibc>=2.38" or
// "libfoo.so=1-64". Alternatives there are none (alpm_dep_from_string in deps.c).
func (f *Format) Needs(needs string) [][]proto.Need {
	var all [][]proto.Need
	for line := range strings.Lines(needs) {
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), ": ") // a description follows
		name, relation, version := cutVersion(line)
		if name != "" {
			all = append(all, []proto.Need{{Name: name, Relation: relation, Version: version}})
		}
	}
	return all
}

func cutVersion(s string) (name, relation, version string) {
	i := strings.IndexAny(s, "<>=")
	if i < 0 {
		return s, "", ""
	}
	n := 1
	if s[i] != '=' && strings.HasPrefix(s[i+1:], "=") {
		n = 2
	}
	return s[:i], s[i : i+n], s[i+n:]
}

// Meets reports whether a version will do (dep_vercmp in deps.c). What is provided without a version
// meets no need for one.
func (f *Format) Meets(n proto.Need, version string) bool {
	if n.Relation == "" {
		return true
	}
	if version == "" {
		return false
	}
	order := compare(version, n.Version)
	switch n.Relation {
	case "=":
		return order == 0
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	}
	return false
}

// Newer reports whether version a comes after b.
func (f *Format) Newer(a, b string) bool { return compare(a, b) > 0 }
