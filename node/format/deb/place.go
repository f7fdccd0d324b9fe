package deb

import (
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Place goes by the names that archives give their indexes: <component>/binary-<arch>/…,
// <component>/source/…, <component>/Contents-<arch>, <component>/dep11/Components-<arch>.yml,
// <component>/cnf/Commands-<arch>, <component>/debian-installer/… and <component>/installer-<arch>/….
func (f *Format) Place(m *proto.Manifest, member *proto.Member) (p proto.Place) {
	p.Component = componentOf(detailOf(m).components, member.Path)
	rest := strings.TrimPrefix(strings.TrimPrefix(member.Plain, p.Component), "/")
	if p.Component == "" {
		rest = member.Plain
	}
	for segment := range strings.SplitSeq(rest, "/") {
		switch {
		case segment == "source" && p.Arch == "":
			p.Arch = proto.ArchSource
		case segment == "debian-installer":
			p.Installer = true
		case strings.HasPrefix(segment, "installer-"):
			p.Installer, p.Arch = true, strings.TrimPrefix(segment, "installer-")
		}
		for _, begin := range []string{"binary-", "Contents-udeb-", "Contents-", "Components-", "Commands-"} {
			if arch, ok := strings.CutPrefix(segment, begin); ok && p.Arch == "" {
				p.Arch = strings.TrimSuffix(arch, ".yml")
				p.Installer = p.Installer || begin == "Contents-udeb-"
				break
			}
		}
	}
	if p.Arch = strings.TrimSuffix(p.Arch, ".diff"); p.Arch == forAll {
		p.Arch = "" // hosts of every architecture use it
	}
	p.Spare = strings.Contains("/"+member.Path, ".diff/") || strings.HasSuffix(member.Path, ".diff")
	p.Delta = aptmeta.IndexKindOf(member.Path) == aptmeta.DiffIndex
	return p
}

// componentOf is the longest component that a path lies in; where the Release names none that fits, what stands in
// front of the directories that every component has.
func componentOf(components []string, path string) (best string) {
	for _, c := range components {
		if len(c) > len(best) && strings.HasPrefix(path, c+"/") {
			best = c
		}
	}
	if best != "" {
		return best
	}
	for _, dir := range []string{"/binary-", "/source/", "/i18n/", "/dep11/", "/cnf/", "/debian-installer/", "/installer-"} {
		if i := strings.Index(path, dir); i > 0 {
			return path[:i]
		}
	}
	return ""
}
