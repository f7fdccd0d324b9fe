package rpm

import (
	"bytes"
	"io"
	"slices"
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
		p.Name, p.Version, p.Arch, p.Universal, p.Needs, p.Provides = e.name, e.version, e.arch, string(e.arch) == "noarch", e.needs, e.provides
		p.Source, p.Wishes, p.Section = sourceName(e.source), e.wishes, e.group
		return places.each(e.path, func(path []byte) error {
			p.File = proto.File{Path: path, Size: e.size, SHA256: e.sum.sha256, SHA512: e.sum.sha512}
			return emit(&p)
		})
	})
}

// Listed reads any index that lists files: of one that lists no packages, the files have no names.
func (f *Format) Listed(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	if m.Packages {
		return f.Packages(suite, m, stored, emit)
	}
	var p proto.Package
	return f.Parse(suite, m, stored, func(file proto.File) error {
		if len(file.Path) == 0 {
			return nil // outside of the archive
		}
		p = proto.Package{File: file}
		return emit(&p)
	})
}

// Place says of the lists of differences that they are such. A repository has no components, and its indexes are
// for hosts of every architecture.
func (f *Format) Place(_ *proto.Manifest, m *proto.Member) proto.Place {
	kind := plainKind(m.Slot)
	return proto.Place{Delta: kind == "prestodelta" || kind == "deltainfo"}
}

// Component: a repository is one.
func (f *Format) Component(*proto.Member) string { return "" }

// Pocket: repositories are not split into a release and what is added to it.
func (f *Format) Pocket(suite proto.Suite) (release proto.Suite, pocket string) { return suite, "" }

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

// sourceName cuts NAME-VERSION-RELEASE.src.rpm behind the name.
func sourceName(file []byte) []byte {
	for range 2 {
		i := bytes.LastIndexByte(file, '-')
		if i < 0 {
			return nil
		}
		file = file[:i]
	}
	return file
}

// list is one of the lists of a package that are read.
type list uint8

const (
	listNone list = iota
	listNeeds
	listProvides
	listWishes
)

// maxProvides bounds what one package is known to provide. Few have more than a thousand names.
const maxProvides = 2000

// readMore takes in what a package is, needs and provides. Needs and what is provided are written one a
// line: the name, the relation and the version with tabs between. A file is provided by its path: of
// the files, primary.xml has those that other packages commonly need.
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
	case "rpm:sourcerpm":
		text, err := s.text()
		e.source = unescape(e.source[:0], text)
		return err
	case "rpm:requires":
		e.within = listNeeds
	case "rpm:provides":
		e.within = listProvides
	case "rpm:recommends":
		e.within = listWishes
	case "rpm:group":
		text, err := s.text()
		e.group = unescape(e.group[:0], text)
		return err
	case "/rpm:requires", "/rpm:provides", "/rpm:recommends":
		e.within = listNone
	case "rpm:entry":
		return e.readCapability(s)
	case "file":
		path, err := s.text()
		if path = unescape(nil, path); len(path) > 0 && err == nil {
			e.provide(capability{name: path})
		}
		return err
	}
	return nil
}

// capability is what one package needs and another one provides.
type capability struct {
	name, relation []byte
	version        evrText
}

// readCapability takes in one line of the current list.
func (e *entry) readCapability(s *scanner) error {
	if e.within == listNone {
		return nil
	}
	var c capability
	err := s.attributes(func(name, value []byte) {
		switch string(name) {
		case "name":
			c.name = value
		case "flags":
			c.relation = value
		default:
			c.version.read(name, value)
		}
	})
	if err != nil || len(c.name) == 0 || bytes.ContainsAny(c.name, "\t\n") {
		return err
	}
	c.name = unescape(nil, c.name)
	switch {
	case e.within == listProvides:
		e.provide(c)
	case e.within == listWishes:
		e.wishes = c.append(e.wishes)
	case !bytes.HasPrefix(c.name, []byte("rpmlib(")): // of rpm itself
		e.needs = c.append(e.needs)
	}
	return nil
}

// unneeded begin the names of what a package may provide thousands of, and no package outside of its own
// build needs: symbols of a kernel, and libraries that are part of a program.
var unneeded = [][]byte{[]byte("kernel("), []byte("ksym("), []byte("bundled(")}

func (e *entry) provide(c capability) {
	if bytes.Equal(c.name, e.name) || slices.ContainsFunc(unneeded, func(begin []byte) bool { return bytes.HasPrefix(c.name, begin) }) {
		return
	}
	if e.provided++; e.provided <= maxProvides {
		e.provides = c.append(e.provides)
	}
}

func (c *capability) append(dst []byte) []byte {
	dst = append(append(append(dst, c.name...), '\t'), c.relation...)
	return append(c.version.append(append(dst, '\t')), '\n')
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

// Needs reads Package.Needs and Package.Provides.
func (f *Format) Needs(needs string) [][]proto.Need {
	var all [][]proto.Need
	for line := range strings.Lines(needs) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case len(fields) != 3:
		case strings.HasPrefix(fields[0], "("):
			all = append(all, richNeeds(fields[0])...)
		default:
			all = append(all, []proto.Need{{Name: fields[0], Relation: fields[1], Version: fields[2]}})
		}
	}
	return all
}

// richNeeds reads a rich dependency: "(a or b)" is one need with alternatives, "(a and b)" and
// "(a with b)" are two. What depends on the other packages of a host ("if", "unless", "without") tells
// nothing here, nor do rich dependencies within others.
func richNeeds(text string) (all [][]proto.Need) {
	inner := strings.TrimSuffix(strings.TrimPrefix(text, "("), ")")
	words := strings.Fields(inner)
	joined := ""
	var operands [][]string
	var operand []string
	for _, word := range words {
		switch word {
		case "or", "and", "with":
			if joined != "" && joined != word {
				return nil
			}
			joined, operands, operand = word, append(operands, operand), nil
		case "if", "unless", "else", "without":
			return nil
		default:
			if strings.HasPrefix(word, "(") {
				return nil
			}
			operand = append(operand, word)
		}
	}
	for _, operand := range append(operands, operand) {
		need, ok := richOperand(operand)
		switch {
		case !ok:
			return nil
		case joined == "or" && len(all) > 0:
			all[0] = append(all[0], need)
		default:
			all = append(all, []proto.Need{need})
		}
	}
	return all
}

// richRelations are the relations of rich dependencies as primary.xml writes others.
var richRelations = map[string]string{"=": "EQ", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}

func richOperand(words []string) (n proto.Need, ok bool) {
	switch len(words) {
	case 1:
		return proto.Need{Name: words[0]}, true
	case 3:
		relation, ok := richRelations[words[1]]
		return proto.Need{Name: words[0], Relation: relation, Version: strings.TrimPrefix(words[2], "0:")}, ok
	}
	return n, false
}

// Meets reports whether a version will do. A need without a release is met by every release of its
// version (rpmdsCompareEVR in lib/rpmds.c). What is provided without a version meets no need for one:
// rpm would take it, but libsolv chooses for dnf and zypper (pool_intersect_evrs in pool.c).
func (f *Format) Meets(n proto.Need, version string) bool {
	switch {
	case n.Relation == "" || n.Version == "":
		return true
	case version == "":
		return false
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
