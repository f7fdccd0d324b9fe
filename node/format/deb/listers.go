package deb

import (
	"cmp"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// lister is an index that lists files, in the compressions that a root lists it in.
type lister struct {
	dir, name string // of the index without compression, below the suite
	kind      aptmeta.IndexKind
	// variants are its compressions, the one that is worth asking for first in front.
	variants []*proto.Member
}

// listersOf collects the indexes among members. An empty one lists nothing.
func listersOf(members []proto.Member) []*lister {
	byPlain := make(map[string]*lister)
	var all []*lister
	for i := range members {
		m := &members[i]
		if !m.Lists() || m.Ref.Size == 0 {
			continue
		}
		l, ok := byPlain[m.Plain]
		if !ok {
			l = &lister{kind: aptmeta.IndexKindOf(m.Path)}
			l.dir, l.name = splitDir(m.Plain)
			byPlain[m.Plain] = l
			all = append(all, l)
		}
		l.variants = append(l.variants, m)
	}
	for _, l := range all {
		slices.SortStableFunc(l.variants, func(a, b *proto.Member) int {
			return cmp.Compare(preference(a.Path), preference(b.Path))
		})
	}
	slices.SortFunc(all, func(a, b *lister) int {
		return cmp.Or(strings.Compare(a.dir, b.dir), strings.Compare(a.name, b.name))
	})
	return all
}

// preference orders compressions: what archives carry most reliably first; the plain form is listed
// by nearly all and carried by few.
func preference(path string) int {
	_, ext := plain.TrimCompression(path)
	if i := slices.Index([]string{".xz", ".gz", ".zst", ".bz2", ".lzma", "", ".lz4"}, ext); i >= 0 {
		return i
	}
	return 99
}

// Listers goes by how archives are laid out: the component stands behind "pool/", the architecture
// at the end of the file's name, and an index beside the Release may list anything. Of a package for
// all architectures, each architecture's indexes are a group of their own.
func (f *Format) Listers(suite proto.Suite, m *proto.Manifest, path string) [][][]*proto.Member {
	if !mayList(suite.Dir, path) {
		return nil
	}
	d := detailOf(m)
	switch aptmeta.Classify(path) {
	case aptmeta.KindPackage:
		return d.ofPackage(path)
	case aptmeta.KindSource:
		return d.group(func(l *lister) bool { return l.kind == aptmeta.Sources }, d.componentOf(path))
	case aptmeta.KindPatch:
		dir, _ := splitDir(path)
		return d.group(func(l *lister) bool { return l.kind == aptmeta.DiffIndex && join(suite.Dir, l.dir) == dir }, "")
	case aptmeta.KindInstaller:
		return d.group(func(l *lister) bool {
			return l.kind == aptmeta.SHA256Sums && strings.HasPrefix(path, slash(join(suite.Dir, l.dir)))
		}, "")
	}
	return nil
}

// mayList reports whether a path lies where an index of the suite may list it: below one of the
// bases that the index may have.
func mayList(dir, path string) bool {
	names := afterDists(dir)
	if len(names) == 0 {
		return true // the archive's root itself is among the bases
	}
	outermost := strings.TrimSuffix(dir[:len(dir)-len(names[0])], "dists/")
	return strings.HasPrefix(path, outermost)
}

func (d *detail) ofPackage(path string) [][][]*proto.Member {
	component := d.componentOf(path)
	installer := strings.HasSuffix(path, ".udeb")
	var groups [][][]*proto.Member
	for _, arch := range d.architecturesFor(path) {
		groups = append(groups, d.group(func(l *lister) bool {
			if l.kind != aptmeta.Packages || l.dir == "" {
				return false
			}
			_, last := splitDir(l.dir)
			return last == "binary-"+arch && installer == strings.Contains("/"+l.dir, "/debian-installer/")
		}, component)...)
	}
	beside := d.group(func(l *lister) bool { return l.kind == aptmeta.Packages && l.dir == "" }, "")
	return append(groups, beside...)
}

// group makes one group of the indexes that wanted names and that belong to a component; of all
// those wanted where no component is known, or none of them belongs to it.
func (d *detail) group(wanted func(*lister) bool, component string) [][][]*proto.Member {
	var all, own [][]*proto.Member
	for _, l := range d.listers {
		if !wanted(l) {
			continue
		}
		all = append(all, l.variants)
		if component != "" && inComponent(l.dir, component) {
			own = append(own, l.variants)
		}
	}
	switch {
	case len(own) > 0:
		return [][][]*proto.Member{own}
	case len(all) > 0:
		return [][][]*proto.Member{all}
	}
	return nil
}

// componentOf finds the component that a pool path belongs to, "" for unknown. The longest name that
// fits is meant: a component may be called "main/extra". In a suite whose components are called
// "updates/main" the pool says "main".
func (d *detail) componentOf(path string) string {
	_, pool, ok := strings.Cut("/"+path, "/pool/")
	if !ok {
		return ""
	}
	best := ""
	for _, c := range d.components {
		_, last := splitDir(c)
		for _, name := range []string{c, last} {
			if len(name) > len(best) && strings.Contains("/"+pool, "/"+name+"/") {
				best = name
			}
		}
	}
	return best
}

// inComponent reports whether the index in dir belongs to the component.
func inComponent(dir, component string) bool {
	return strings.Contains("/"+dir+"/", "/"+component+"/")
}

// architecturesFor names the architectures whose index may list a package, best first: that of the
// file's name, <name>_<version>_<architecture>.deb. Packages for all of them stand in every index,
// or in some archives in one of their own. A file that is not named as dpkg does may be of any.
func (d *detail) architecturesFor(path string) []string {
	_, name := splitDir(path)
	name = name[:strings.LastIndexByte(name, '.')]
	i := strings.LastIndexByte(name, '_')
	arch := name[i+1:]
	if i >= 0 && arch != "all" && (strings.Contains(name[:i], "_") || slices.Contains(d.architectures, arch)) {
		return []string{arch}
	}
	var own, common, others []string
	for _, a := range d.machines() {
		switch {
		case a == "all" && d.noAll:
		case a == "all":
			own = append(own, a)
		case a == "amd64" || a == "arm64":
			common = append(common, a)
		default:
			others = append(others, a)
		}
	}
	return slices.Concat(own, common, others)
}

// machines are the architectures of a suite: those that the Release says, or where it says none,
// those of which it lists an index.
func (d *detail) machines() []string {
	if len(d.architectures) > 0 {
		return d.architectures
	}
	var found []string
	for _, l := range d.listers {
		_, last := splitDir(l.dir)
		if arch, ok := strings.CutPrefix(last, "binary-"); ok && !slices.Contains(found, arch) {
			found = append(found, arch)
		}
	}
	return found
}
