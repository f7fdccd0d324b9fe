package rpm

import (
	"bytes"
	"io"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// Packages reads a primary.xml as it is stored and calls emit for each package that it lists, with
// the same *proto.Package every time. Memory is bounded as for Parse.
func (f *Format) Packages(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	text, err := open(m, stored)
	if err != nil {
		return err
	}
	defer text.Close()
	places := f.newPlaces(suite)
	var p proto.Package
	return readPrimary(text, true, func(e *entry) error {
		if !places.within(e) {
			return nil
		}
		p.Name, p.Version, p.Arch, p.Universal, p.Needs = e.name, e.version, e.arch, string(e.arch) == "noarch", e.needs
		return places.each(e.path, func(path []byte) error {
			p.File = proto.File{Path: path, Size: e.size, SHA256: e.sum.sha256, SHA512: e.sum.sha512}
			return emit(&p)
		})
	})
}

// HostArch is not told by a primary.xml: it lists packages of every architecture that its hosts can
// install.
func (f *Format) HostArch(*proto.Member) string { return "" }

// Identity splits the path of a package file, <dir>/<name>-<version>-<release>.<arch>.rpm, from its
// end, because a name may hold dashes and a version may not. The directory is part of what
// identifies a package, because one archive may hold several repositories.
func (f *Format) Identity(path string) (proto.PackageID, bool) {
	rest, ok := strings.CutSuffix(path, ".rpm")
	if !ok {
		return proto.PackageID{}, false
	}
	file := strings.LastIndexByte(rest, '/') + 1
	dot := strings.LastIndexByte(rest, '.')
	if dot <= file || dot == len(rest)-1 {
		return proto.PackageID{}, false
	}
	release := strings.LastIndexByte(rest[file:dot], '-')
	if release <= 0 {
		return proto.PackageID{}, false
	}
	version := strings.LastIndexByte(rest[file:file+release], '-')
	if version <= 0 || version == release-1 || file+release == dot-1 {
		return proto.PackageID{}, false
	}
	return proto.PackageID{Name: rest[:file+version], Arch: rest[dot+1:]}, true
}

// readMore takes in what a package is and needs. Needs are written one a line: the name, the
// relation and the version with tabs between.
func (e *entry) readMore(s *scanner, name []byte) error {
	switch string(name) {
	case "name":
		text, err := s.text()
		e.name = unescape(e.name[:0], text)
		return err
	case "arch":
		text, err := s.text()
		e.arch = unescape(e.arch[:0], text)
		return err
	case "version":
		var v evrText
		err := s.attributes(v.read)
		e.version = v.append(e.version[:0])
		return err
	case "rpm:requires":
		e.inNeeds = true
	case "/rpm:requires":
		e.inNeeds = false
	case "rpm:entry":
		if e.inNeeds {
			return e.readNeed(s)
		}
	}
	return nil
}

// readNeed takes in one requirement. A capability that is no name of a package is left out: which
// package provides it, primary.xml tells only to those who read all of it. So are requirements of
// rpm itself, and alternatives in the notation of rich dependencies.
func (e *entry) readNeed(s *scanner) error {
	var v evrText
	var need, relation []byte
	err := s.attributes(func(name, value []byte) {
		switch string(name) {
		case "name":
			need = value
		case "flags":
			relation = value
		default:
			v.read(name, value)
		}
	})
	if err != nil || len(need) == 0 || bytes.ContainsAny(need, "()/&\t\n") {
		return err
	}
	e.needs = append(append(append(e.needs, need...), '\t'), relation...)
	e.needs = append(v.append(append(e.needs, '\t')), '\n')
	return nil
}

// evrText collects the parts of a version from attributes.
type evrText struct{ epoch, version, release []byte }

func (v *evrText) read(name, value []byte) {
	switch string(name) {
	case "epoch":
		v.epoch = value
	case "ver":
		v.version = value
	case "rel":
		v.release = value
	}
}

// append writes the version as E:V-R to dst; without what is missing.
func (v *evrText) append(dst []byte) []byte {
	if len(v.epoch) > 0 && string(v.epoch) != "0" {
		dst = append(append(dst, v.epoch...), ':')
	}
	dst = append(dst, v.version...)
	if len(v.release) > 0 {
		dst = append(append(dst, '-'), v.release...)
	}
	return dst
}

// Needs reads Package.Needs. Each need has one alternative.
func (f *Format) Needs(needs string) [][]proto.Need {
	var all [][]proto.Need
	for line := range strings.Lines(needs) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 3 {
			continue
		}
		all = append(all, []proto.Need{{Name: fields[0], Relation: fields[1], Version: fields[2]}})
	}
	return all
}

// Meets reports whether a version will do. A need without a release is met by every release of its
// version (rpmdsCompareEVR in lib/rpmds.c).
func (f *Format) Meets(n proto.Need, version string) bool {
	if n.Relation == "" || n.Version == "" {
		return true
	}
	want, have := splitEVR(n.Version), splitEVR(version)
	if want.release == "" {
		have.release = ""
	}
	order := have.compare(want)
	switch n.Relation {
	case "EQ":
		return order == 0
	case "LT":
		return order < 0
	case "LE":
		return order <= 0
	case "GT":
		return order > 0
	case "GE":
		return order >= 0
	}
	return true
}

// Newer reports whether version a comes after b.
func (f *Format) Newer(a, b string) bool { return splitEVR(a).compare(splitEVR(b)) > 0 }
