package want

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// Selection chooses from the files that indexes list. It is for one goroutine.
type Selection struct {
	filter     *Filter
	files      []File
	unprovable int
	pool       *pool // nil where no dependencies are followed
}

// NewSelection begins to choose. Suites of several archives can be chosen from together.
func (f *Filter) NewSelection() *Selection {
	s := &Selection{filter: f}
	if f.Closure && f.selective() { // without a choice, all is there already
		s.pool = newPool(f)
	}
	return s
}

// Add offers all files that an index lists. It fails with what reading it fails with.
func (s *Selection) Add(suite proto.Suite, format Format, m *proto.Member, stored io.Reader) error {
	if s.pool != nil {
		s.pool.begin(format, m)
	}
	return format.Listed(suite, m, stored, func(p *proto.Package) error {
		if !s.filter.wants(p) {
			return nil
		}
		if p.SHA256.IsZero() && p.SHA512 == (proto.SHA512{}) {
			if s.filter.seeds(suite.Archive, p) {
				s.unprovable++
			}
			return nil
		}
		seed := s.filter.seeds(suite.Archive, p)
		if s.pool != nil {
			s.pool.add(suite.Archive, p, fileOf(suite.Archive, p), seed)
		} else if seed {
			s.files = append(s.files, fileOf(suite.Archive, p))
		}
		return nil
	})
}

func fileOf(archive string, p *proto.Package) File {
	f := File{Ref: proto.Ref{Digest: p.SHA256, Size: p.Size}, Locations: []proto.Location{{Archive: archive, Path: string(p.Path)}}}
	if p.SHA256.IsZero() {
		f.SHA512 = p.SHA512
	}
	return f
}

// Done ends the choice.
func (s *Selection) Done() *Result {
	r := &Result{Unprovable: s.unprovable}
	files := s.files
	if s.pool != nil {
		files = s.pool.close(r)
	}
	r.Files = unite(files)
	for i := range r.Files {
		if r.Files[i].Ref.Size < 0 {
			r.Unsized++
		}
	}
	return r
}

// unite sorts files and makes one of those that are equal.
func unite(files []File) []File {
	slices.SortFunc(files, func(a, b File) int {
		return cmp.Or(bytes.Compare(a.Key(), b.Key()), strings.Compare(a.Locations[0].Archive, b.Locations[0].Archive), strings.Compare(a.Locations[0].Path, b.Locations[0].Path))
	})
	united := files[:0]
	for _, f := range files {
		if n := len(united); n > 0 && bytes.Equal(united[n-1].Key(), f.Key()) {
			if last := &united[n-1]; !slices.Contains(last.Locations, f.Locations[0]) {
				last.Locations = append(last.Locations, f.Locations[0])
			}
			continue
		}
		united = append(united, f)
	}
	return united
}

// pool is all packages that can be chosen, for following dependencies.
type pool struct {
	filter   *Filter
	format   Format
	byName   map[string][]*pkg
	provided map[string][]provided
	packages []*pkg
	arches   map[string]bool // of hosts
	told     map[string]bool // unresolved needs, by text
}

// pkg is a version of a package, with its files.
type pkg struct {
	format                 Format
	group                  string
	name, version, arch    string
	universal, seed, taken bool
	needs, wishes          string
	files                  []File
}

// provided is a package under another name, with the version that this has; "" for none.
type provided struct {
	*pkg
	version string
}

func newPool(f *Filter) *pool {
	return &pool{filter: f, byName: make(map[string][]*pkg), provided: make(map[string][]provided), arches: make(map[string]bool), told: make(map[string]bool)}
}

// begin notes an index that is read next.
func (l *pool) begin(format Format, m *proto.Member) {
	l.format = format
	if arch := format.HostArch(m); arch != "" {
		l.arches[arch] = true
	}
}

func (l *pool) add(archive string, p *proto.Package, f File, seed bool) {
	for _, known := range l.byName[string(p.Name)] {
		if known.version == string(p.Version) && known.arch == string(p.Arch) && known.group == p.Group {
			known.files, known.seed = append(known.files, f), known.seed || seed
			return
		}
	}
	n := &pkg{format: l.format, group: p.Group, name: string(p.Name), version: string(p.Version), arch: string(p.Arch), universal: p.Universal,
		needs: string(p.Needs), seed: seed, files: []File{f}}
	if l.filter.Wishes {
		n.wishes = string(p.Wishes)
	}
	l.packages = append(l.packages, n)
	l.byName[n.name] = append(l.byName[n.name], n)
	for _, name := range slices.Concat(l.format.Needs(string(p.Provides))...) {
		l.provided[name.Name] = append(l.provided[name.Name], provided{n, name.Version})
	}
}

// hosts are the architectures of the hosts that packages are for.
func (l *pool) hosts() []string {
	var named []string
	for _, arch := range l.filter.Architectures {
		if arch != proto.ArchSource {
			named = append(named, arch)
		}
	}
	if len(named) > 0 {
		return named
	}
	if len(l.arches) == 0 {
		for _, n := range l.packages {
			if !n.universal && n.arch != proto.ArchSource {
				l.arches[n.arch] = true
			}
		}
	}
	if len(l.arches) == 0 {
		return []string{""}
	}
	return slices.Sorted(maps.Keys(l.arches))
}

// visit is a package as it is installed on hosts of one architecture: what one for all architectures depends on is
// different on each.
type visit struct {
	pkg  *pkg
	arch string
}

// close follows dependencies breadth first from all seeds, and returns the files of all packages that it meets.
func (l *pool) close(r *Result) (files []File) {
	hosts := l.hosts()
	var queue []visit
	seen := make(map[visit]bool)
	meet := func(n *pkg, arch string) {
		if v := (visit{n, arch}); !seen[v] {
			seen[v] = true
			queue = append(queue, v)
		}
	}
	for _, n := range l.packages {
		switch {
		case !n.seed:
		case n.universal:
			for _, arch := range hosts {
				meet(n, arch)
			}
		default:
			meet(n, n.arch)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		if !v.pkg.taken {
			v.pkg.taken = true
			files = append(files, v.pkg.files...)
		}
		for _, alternatives := range v.pkg.format.Needs(v.pkg.needs) {
			found := l.choose(v, alternatives, meet)
			if !found {
				l.tell(r, v, alternatives)
			}
		}
		for _, alternatives := range v.pkg.format.Needs(v.pkg.wishes) {
			l.choose(v, alternatives, meet)
		}
	}
	return files
}

// choose meets what clients install for a dependency: the first alternative that there is, in the newest version that
// will do. Where only other packages provide it, it meets each of them, in its newest version: which of them a client
// prefers depends on the host.
func (l *pool) choose(v visit, alternatives []proto.Need, meet func(*pkg, string)) bool {
	for _, need := range alternatives {
		arch := v.arch
		if need.Arch != "" {
			arch = need.Arch
		}
		fits := func(n *pkg, version string) bool {
			return n.group == v.pkg.group && (n.universal || n.arch == arch) && v.pkg.format.Meets(need, version)
		}
		var best *pkg
		for _, n := range l.byName[need.Name] {
			if fits(n, n.version) && (best == nil || n.format.Newer(n.version, best.version)) {
				best = n
			}
		}
		if best != nil {
			meet(best, arch)
			return true
		}
		newest := make(map[string]*pkg)
		for _, p := range l.provided[need.Name] {
			if now := newest[p.name]; fits(p.pkg, p.version) && (now == nil || p.format.Newer(p.pkg.version, now.version)) {
				newest[p.name] = p.pkg
			}
		}
		if len(newest) > 0 {
			for _, name := range slices.Sorted(maps.Keys(newest)) {
				meet(newest[name], arch)
			}
			return true
		}
	}
	return false
}

// tell notes a need that nothing meets, once.
func (l *pool) tell(r *Result, v visit, alternatives []proto.Need) {
	var words []string
	for _, n := range alternatives {
		word := n.Name
		if n.Relation != "" {
			word += fmt.Sprintf(" (%s %s)", n.Relation, n.Version)
		}
		words = append(words, word)
	}
	text := strings.Join(words, " | ")
	if key := text + "\x00" + v.arch; l.told[key] {
		return
	} else {
		l.told[key] = true
	}
	if r.UnresolvedCount++; len(r.Unresolved) < MaxUnresolved {
		r.Unresolved = append(r.Unresolved, Unresolved{Package: v.pkg.name, Version: v.pkg.version, Arch: v.arch, Need: text})
	}
}
