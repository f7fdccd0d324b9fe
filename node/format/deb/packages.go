package deb

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// forAll is the architecture of packages for every machine.
const forAll = "all"

// Packages reads a Packages index as it is stored and calls emit for each package that it lists, with
// the same *proto.Package every time: once for each place that the package may lie at, as Parse does,
// with the place as its Group. Memory is bounded as for Parse.
func (f *Format) Packages(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	plain, err := plain.Decompress(m.Path, stored, plainLimit(m))
	if err != nil {
		return err
	}
	defer plain.Close()
	places := newPlaces(suite.Dir, m.Path)
	var p proto.Package
	return aptmeta.ParseStanzasWithin(places.limits(), m.Path, plain, func(s *aptmeta.Stanza) error {
		p.Name, p.Version, p.Arch, p.Universal = s.Package, s.Version, s.Architecture, string(s.Architecture) == forAll
		p.Source, _, _ = bytes.Cut(s.Source, []byte{' '})
		p.Phase, p.Phased = phase(s.Phased)
		// What must be there before it is unpacked comes first.
		p.Needs = append(append(append(p.Needs[:0], s.PreDepends...), ','), s.Depends...)
		p.Provides, p.Wishes, p.Section, p.Priority = s.Provides, s.Recommends, s.Section, s.Priority
		return places.each(s.Path, func(path []byte, base string) error {
			p.File = proto.File{Path: path, Size: s.Size, SHA256: s.SHA256, SHA512: s.SHA512}
			p.Group = base
			return emit(&p)
		})
	})
}

// phase reads a Phased-Update-Percentage. 100 restricts nothing, nor does what is no percentage
// (apt-pkg/deb/deblistparser.cc, debListParser::NewVersion).
func phase(text []byte) (percent int, phased bool) {
	percent, err := strconv.Atoi(string(text))
	return percent, err == nil && 0 <= percent && percent < 100
}

// Component reads the component off <component>/binary-<arch>/; "" for an index beside the Release.
func (f *Format) Component(m *proto.Member) string {
	component, _, ok := strings.Cut(m.Path, "/binary-")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(component, "/debian-installer")
}

// HostArch reads the architecture of the hosts that use an index off <component>/binary-<arch>/; ""
// for an index of packages for any.
func (f *Format) HostArch(m *proto.Member) string {
	dir, _ := splitDir(m.Path)
	_, last := splitDir(dir)
	arch, ok := strings.CutPrefix(last, "binary-")
	if !ok || arch == forAll {
		return ""
	}
	return arch
}

// Identity splits the path of a package file, <dir>/<name>_<version>_<arch>.deb. The directory is part
// of what identifies a package, because one archive may hold several repositories. The version is left
// out, and with it how its colon is escaped.
func (f *Format) Identity(path string) (proto.PackageID, bool) {
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 {
		return proto.PackageID{}, false
	}
	switch path[dot:] {
	case ".deb", ".udeb", ".ddeb":
	default:
		return proto.PackageID{}, false
	}
	file := strings.LastIndexByte(path[:dot], '/') + 1
	first := strings.IndexByte(path[file:dot], '_')
	last := strings.LastIndexByte(path[file:dot], '_')
	if first <= 0 || last <= first+1 || file+last+1 == dot {
		return proto.PackageID{}, false // not dpkg's naming: no telling what the next version is called
	}
	return proto.PackageID{Name: path[:file+first], Arch: path[file+last+1 : dot]}, true
}

// Needs reads Package.Needs: what must be there, in order, each as its alternatives, the first one
// first (Debian Policy 7.1).
func (f *Format) Needs(needs string) [][]proto.Need {
	fields := aptmeta.Dependencies(needs)
	all := make([][]proto.Need, len(fields))
	for i, alternatives := range fields {
		for _, d := range alternatives {
			if d.Arch == "any" || d.Arch == "native" {
				d.Arch = ""
			}
			all[i] = append(all[i], proto.Need(d))
		}
	}
	return all
}

// Meets reports whether a version will do.
func (f *Format) Meets(n proto.Need, version string) bool {
	return aptmeta.Dependency(n).Allows(version)
}

// Newer reports whether version a comes after b (Debian Policy 5.6.12).
func (f *Format) Newer(a, b string) bool { return aptmeta.CompareVersions(a, b) > 0 }

// Listed reads any index that lists files. Those of a Sources index are of architecture "source" and have the
// name that dpkg-source gives them: NAME_VERSION….
func (f *Format) Listed(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	kind := aptmeta.IndexKindOf(m.Path)
	if kind == aptmeta.Packages {
		return f.Packages(suite, m, stored, emit)
	}
	var p proto.Package
	return f.Parse(suite, m, stored, func(file proto.File) error {
		p = proto.Package{File: file}
		if kind == aptmeta.Sources {
			name, _, _ := bytes.Cut(file.Path[bytes.LastIndexByte(file.Path, '/')+1:], []byte("_"))
			p.Name, p.Source, p.Arch = name, name, []byte(proto.ArchSource)
		}
		return emit(&p)
	})
}
