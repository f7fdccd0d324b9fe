package view

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Staged is a member that this node holds.
type Staged struct {
	Ref proto.Ref `json:"ref"`
	// Table names the List of what the member lists; "" where it lists nothing, or nothing that is
	// known.
	Table string `json:"list,omitempty"`
}

// Generation is one published state of a suite, as this node has it. It is immutable: the With…
// methods return a new one that shares the unchanged parts.
type Generation struct {
	proto.Generation
	// Manifest is what the root says. Of a retained generation it has the staged members only.
	Manifest *proto.Manifest
	// Superseded is when another generation took its place; zero while it is current.
	Superseded time.Time

	files  []proto.Companion    // the files of the root, the root itself included
	staged map[string]Staged    // by member path
	known  map[int32]memberInfo // by member, for those that are staged or learned
	*index
}

// index finds the members of a manifest.
type index struct {
	byPath map[string]int32        // to the member
	byKey  map[proto.HashKey]int32 // to the first of those in sums that have the key
	sums   []keyOf                 // in the order of keys, then of members
}

type keyOf struct {
	key    proto.HashKey
	member int32
}

// memberInfo is what a node knows of a member beyond what the root says.
type memberInfo struct {
	learned proto.Ref // of a member that is listed without SHA-256, once its bytes are proven
	where   []proto.Location
}

// NewGeneration loads a generation. files are the files of its root that this node can serve: the
// root itself and its companions, by their names below the suite's directory.
func NewGeneration(g proto.Generation, m *proto.Manifest, files ...proto.Companion) *Generation {
	return &Generation{Generation: g, Manifest: m, files: slices.Clone(files), index: newIndex(m)}
}

func newIndex(m *proto.Manifest) *index {
	x := &index{byPath: make(map[string]int32, len(m.Members))}
	keys := 0
	for i := range m.Members {
		x.byPath[m.Members[i].Path] = int32(i)
		keys += len(m.Members[i].Keys)
	}
	x.sums = make([]keyOf, 0, keys)
	for i := range m.Members {
		for _, k := range m.Members[i].Keys {
			x.sums = append(x.sums, keyOf{k, int32(i)})
		}
	}
	slices.SortFunc(x.sums, func(a, b keyOf) int {
		return cmp.Or(cmp.Compare(a.key.Kind, b.key.Kind), bytes.Compare(a.key.Sum[:], b.key.Sum[:]), cmp.Compare(a.member, b.member))
	})
	x.byKey = make(map[proto.HashKey]int32, keys)
	for i, s := range x.sums {
		if i == 0 || x.sums[i-1].key != s.key {
			x.byKey[s.key] = int32(i)
		}
	}
	return x
}

// WithFiles returns the generation with other files of its root.
func (g *Generation) WithFiles(files ...proto.Companion) *Generation {
	next := *g
	next.files = slices.Clone(files)
	return &next
}

// WithStaged returns the generation with a member staged, or staged otherwise. A path that is no
// member's is kept as well: it counts for Blobs and Tables.
func (g *Generation) WithStaged(path string, s Staged) *Generation {
	return g.WithAllStaged(map[string]Staged{path: s})
}

// WithAllStaged is WithStaged for several members.
func (g *Generation) WithAllStaged(staged map[string]Staged) *Generation {
	next := *g
	next.staged, next.known = cloneOf(g.staged), cloneOf(g.known)
	for path, s := range staged {
		next.staged[path] = s
		next.learn(path, s.Ref)
	}
	return &next
}

// WithoutStaged returns the generation without some of its staged members: their bytes are lost.
func (g *Generation) WithoutStaged(paths ...string) *Generation {
	next := *g
	next.staged = cloneOf(g.staged)
	for _, path := range paths {
		delete(next.staged, path)
	}
	return &next
}

// WithoutTable returns the generation as it is when the List of the name is lost.
func (g *Generation) WithoutTable(name string) *Generation {
	next := *g
	next.staged = cloneOf(g.staged)
	for path, s := range next.staged {
		if s.Table == name {
			s.Table = ""
			next.staged[path] = s
		}
	}
	return &next
}

// WithLearned returns the generation with the SHA-256 of a member that is listed without one. ref
// must be that of bytes which the listed SHA-512 has proven.
func (g *Generation) WithLearned(path string, ref proto.Ref) *Generation {
	next := *g
	next.known = cloneOf(g.known)
	next.learn(path, ref)
	return &next
}

func cloneOf[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m)+1)
	maps.Copy(c, m)
	return c
}

// learn fills in known for a member, on a generation that nobody else has yet.
func (g *Generation) learn(path string, ref proto.Ref) {
	i, ok := g.byPath[path]
	if !ok {
		return
	}
	m, info := &g.Manifest.Members[i], g.known[i]
	if m.Ref.IsZero() && !ref.IsZero() && ref.Size == m.Ref.Size {
		info.learned = ref
	}
	if info.where == nil {
		info.where = g.whereOf(m)
	}
	g.known[i] = info
}

// Retained returns the generation as it is kept after another took its place at the time at: what
// this node holds of it, and nothing that a format reads in it. It shares no memory with g.
func (g *Generation) Retained(at time.Time) *Generation {
	m := *g.Manifest
	m.Members, m.Oddities, m.Detail = nil, nil, nil
	for i := range g.Manifest.Members {
		if _, ok := g.staged[g.Manifest.Members[i].Path]; ok {
			m.Members = append(m.Members, cloneMember(g.Manifest.Members[i]))
		}
	}
	next := NewGeneration(g.Generation, &m, g.files...)
	next.Superseded = at
	next.known = make(map[int32]memberInfo, len(m.Members))
	next.staged = make(map[string]Staged, len(g.staged))
	for path, s := range g.staged {
		next.staged[strings.Clone(path)] = s
		next.learn(path, s.Ref)
	}
	return next
}

// cloneMember copies a member with all its text: that may be a piece of the whole root.
func cloneMember(m proto.Member) proto.Member {
	m.Path, m.Slot, m.Plain, m.Table = strings.Clone(m.Path), strings.Clone(m.Slot), strings.Clone(m.Plain), strings.Clone(m.Table)
	m.Keys, m.Upstream = slices.Clone(m.Keys), slices.Clone(m.Upstream)
	for i, name := range m.Upstream {
		m.Upstream[i] = strings.Clone(name)
	}
	return m
}

// Member returns the member of a path below the suite's directory; nil where the root lists none.
// Nobody changes it.
func (g *Generation) Member(path string) *proto.Member {
	i, ok := g.byPath[path]
	if !ok {
		return nil
	}
	return &g.Manifest.Members[i]
}

// BySlot returns the provable members of a slot, in the order of their paths.
func (g *Generation) BySlot(slot string) []*proto.Member {
	if m := g.Member(slot); m != nil && m.Slot == slot && m.Provable() {
		return []*proto.Member{m} // the slot of most formats is the path, and a path is unique
	}
	var found []*proto.Member
	for i := range g.Manifest.Members {
		if m := &g.Manifest.Members[i]; m.Slot == slot && m.Provable() {
			found = append(found, m)
		}
	}
	return found
}

// maxAlike bounds how many members of one sum are looked through for the one that was meant.
const maxAlike = 64

// BySum returns the provable member that a name made of a sum stands for; nil for none. Of members
// with equal content it returns the one in the directory of the name (below the suite's directory),
// if there is one, because the client uses its slot.
func (g *Generation) BySum(h *proto.HashName, name string) *proto.Member {
	if h.Kind == 0 {
		return nil
	}
	key := h.Key()
	first, ok := g.byKey[key]
	if !ok {
		return nil
	}
	var found *proto.Member
	for _, s := range g.sums[first:min(int(first)+maxAlike, len(g.sums))] {
		if s.key != key {
			break
		}
		m := &g.Manifest.Members[s.member]
		if !m.Provable() || !h.Names(m) {
			continue
		}
		if strings.HasPrefix(name, m.Path[:strings.LastIndexByte(m.Path, '/')+1]) {
			if dir := strings.LastIndexByte(m.Path, '/') + 1; dir > 0 || found == nil {
				return m
			}
		}
		if found == nil {
			found = m
		}
	}
	return found
}

// Staged returns how a member is staged.
func (g *Generation) Staged(path string) (Staged, bool) {
	s, ok := g.staged[path]
	return s, ok
}

// AllStaged returns a copy of the staged members by path.
func (g *Generation) AllStaged() map[string]Staged { return maps.Clone(g.staged) }

// Files returns the files of the root that this node can serve. Nobody changes them.
func (g *Generation) Files() []proto.Companion { return g.files }

// File returns a file of the root by its name.
func (g *Generation) File(name string) (proto.Companion, bool) {
	for i := range g.files {
		if g.files[i].Name == name {
			return g.files[i], true
		}
	}
	return proto.Companion{}, false
}

// ObjectRequest is how to obtain a member, by the names that are best upstream.
func (g *Generation) Request(m *proto.Member) proto.ObjectRequest {
	w := proto.ObjectRequest{Class: proto.ClassMetadata}
	g.fill(&w, m)
	return w
}

// fill writes what is known of a member into w. It allocates for members that are not staged only.
func (g *Generation) fill(w *proto.ObjectRequest, m *proto.Member) {
	w.Ref, w.SHA512 = m.Ref, m.SHA512
	info, ok := g.known[g.byPath[m.Path]]
	if !ok {
		w.Where = proto.WhereOf(g.whereOf(m))
		return
	}
	if m.Ref.IsZero() && !info.learned.IsZero() {
		w.Ref = info.learned
	}
	w.Where = proto.WhereOf(info.where)
}

// whereOf names a member upstream.
func (g *Generation) whereOf(m *proto.Member) []proto.Location {
	if len(m.Upstream) == 0 {
		return []proto.Location{g.Suite.At(m.Path)}
	}
	locs := make([]proto.Location, len(m.Upstream))
	for i, name := range m.Upstream {
		locs[i] = g.Suite.At(name)
	}
	return locs
}

// Blobs are the digests that must stay stored while the generation is served, in no order: its
// root, the root's other files, and the staged members. A digest may come twice.
func (g *Generation) Blobs() []proto.Digest {
	digests := make([]proto.Digest, 0, 2+len(g.files)+len(g.staged))
	digests = append(digests, g.Root.Digest)
	for i := range g.files {
		digests = append(digests, g.files[i].Ref.Digest)
	}
	for _, s := range g.staged {
		digests = append(digests, s.Ref.Digest)
	}
	return slices.DeleteFunc(digests, proto.Digest.IsZero)
}

// Tables names the Lists of the staged members, in the order of their paths, each once.
func (g *Generation) Tables() []string {
	var names []string
	seen := make(map[string]bool)
	for _, path := range slices.Sorted(maps.Keys(g.staged)) {
		if t := g.staged[path].Table; t != "" && !seen[t] {
			seen[t] = true
			names = append(names, t)
		}
	}
	return names
}

// PackageIndexes are the staged members that list packages and whose List is known: of each index
// one compression, in the order of their paths.
func (g *Generation) PackageIndexes() []*proto.Member {
	var found []*proto.Member
	seen := make(map[string]bool)
	for _, path := range slices.Sorted(maps.Keys(g.staged)) {
		m := g.Member(path)
		if m == nil || !m.Packages || g.staged[path].Table == "" || seen[m.Plain] {
			continue
		}
		seen[m.Plain] = true
		found = append(found, m)
	}
	return found
}

// Names reports whether the root lists a file by this name below the suite's directory, its own
// name or one made of its sum (info is of the whole path).
func (g *Generation) Names(name string, info *proto.PathInfo) bool {
	if _, ok := g.File(name); ok {
		return true
	}
	return g.Member(name) != nil || g.BySum(&info.Hash, name) != nil
}
