package deb

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// Parse reads an index as it is stored and emits what it lists, a file once for each path that apt
// could ask for it by: see bases. Memory is bounded as aptmeta.ParseIndex and plain.Decompress
// say. What comes out, and how long it takes, is bounded by aptmeta.DefaultLimits: no more files are
// emitted, however many paths each has, and what a Release lists as the size does not lift the bound.
func (f *Format) Parse(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(proto.File) error) error {
	kind := aptmeta.IndexKindOf(m.Path)
	if kind == aptmeta.NotAnIndex {
		return fmt.Errorf("%s is not an index that lists files", m.Path)
	}
	plain, err := plain.Decompress(m.Path, stored, plainLimit(m))
	if err != nil {
		return err
	}
	defer plain.Close()
	p := newPlaces(suite.Dir, m.Path)
	return aptmeta.ParseIndexWithin(p.limits(), kind, m.Path, plain, func(in aptmeta.File) error {
		return p.each(in.Path, func(path []byte, _ string) error {
			return emit(proto.File{Path: path, Size: in.Size, SHA256: in.SHA256, SHA512: in.SHA512})
		})
	})
}

func plainLimit(m *proto.Member) int64 {
	if m.PlainSize >= 0 {
		return min(m.PlainSize, aptmeta.DefaultLimits.Bytes)
	}
	return aptmeta.DefaultLimits.Bytes
}

// maxBases bounds the directories that the paths of one index may begin at.
const maxBases = 8

// fromBase reports whether an index lists paths from the archive's base. The others list files
// beside themselves.
func fromBase(member string) bool {
	kind := aptmeta.IndexKindOf(member)
	return kind == aptmeta.Packages || kind == aptmeta.Sources
}

// bases are the directories, with a slash behind, that the paths of an index may begin at, below the
// archive's root.
//
// apt asks for URL + Filename, where URL is that of the host's sources.list
// (apt-pkg/deb/debmetaindex.cc, debReleaseIndex::ArchiveURI; indexfile.cc,
// pkgDebianIndexTargetFile::ArchiveURI). The URL is not known here, because an archive's configured
// root may be a directory above it. What is known is where the index lies, and apt finds that at
//
//	URL + "dists/" + suite + "/" + component + "/binary-" + …   for a suite with components
//	URL + directory + "/Packages"                               for a flat repository ("" too)
//
// (constructMetaIndexURI and the MetaKey and flatMetaKey of apt's own configuration). So an index in
// the directory of a component leaves as URL what stands before a "dists/", and an index beside the
// Release leaves the directory itself and all above it.
func bases(dir, member string) []string {
	if !fromBase(member) {
		return []string{slash(dir)}
	}
	if strings.Contains(member, "/") {
		if names := afterDists(dir); len(names) > 0 {
			list := make([]string, 0, len(names))
			for _, name := range names[:min(len(names), maxBases)] {
				list = append(list, strings.TrimSuffix(dir[:len(dir)-len(name)], "dists/"))
			}
			return list
		}
	}
	list := []string{slash(dir)}
	if dir != "" {
		list = append(list, "") // the configured root is the URL as a rule
	}
	for up, _ := splitDir(dir); up != "" && len(list) < maxBases; up, _ = splitDir(up) {
		list = append(list, slash(up))
	}
	return list
}

func slash(dir string) string {
	if dir == "" {
		return ""
	}
	return dir + "/"
}

// maxCuts bounds how many directories below the URL the archive's root may lie where nothing but
// the paths of an index can tell.
const maxCuts = 3

// places turns the paths of an index into paths below the archive's root.
type places struct {
	bases []string
	// below is set where the archive's root may be a directory below the URL that hosts use. Then a
	// path begins with directories that the root stands for already.
	below bool
	// mark is what stands in such a path where the archive's root begins: "/" + directory of the
	// suite + "/". "/" where the suite is the root itself.
	mark string
	path []byte // scratch
}

func newPlaces(dir, member string) *places {
	p := &places{bases: bases(dir, member), mark: "/" + slash(dir)}
	p.below = fromBase(member) && len(afterDists(dir)) == 0
	return p
}

// limits are those of an index of which each row comes to several paths.
func (p *places) limits() aptmeta.Limits {
	paths := len(p.bases)
	if p.below {
		paths += maxCuts
	}
	return aptmeta.Limits{Rows: aptmeta.DefaultLimits.Rows / int64(paths)}
}

// each calls do for each path that listed may be asked for by, with the base that it was put below;
// the path is valid until do returns.
func (p *places) each(listed []byte, do func(path []byte, base string) error) error {
	for _, base := range p.bases {
		path := listed
		if base != "" {
			p.path = append(append(p.path[:0], base...), listed...)
			path = p.path
		}
		if err := do(path, base); err != nil {
			return err
		}
	}
	if !p.below {
		return nil
	}
	return p.cut(listed, do)
}

// cut finds the paths of a root that lies below the URL: of "deb http://example.org/repo amd64/" the
// files are listed as amd64/x.deb, and with http://example.org/repo/amd64 as the archive's root they
// are asked for as x.deb.
func (p *places) cut(listed []byte, do func(path []byte, base string) error) error {
	rest := listed
	for range maxCuts {
		i := slices.Index(rest, '/')
		if i < 0 {
			return nil
		}
		rest = rest[i+1:]
		if p.mark != "/" && !strings.HasPrefix(string(rest), p.mark[1:]) {
			continue
		}
		if err := do(rest, ""); err != nil {
			return err
		}
	}
	return nil
}
