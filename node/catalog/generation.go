package catalog

import (
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// generation is one published state of a suite, as loaded. It is never changed
// once a view holds it, but for the atomic use of its members.
type generation struct {
	proto.Generation
	validUntil time.Time
	textSum    proto.Digest // of what is signed, whichever way; see textSum
	undated    bool         // the Release has no Date of its own
	superseded time.Time    // when another took its place; zero while it is current
	byHash     bool         // the archive keeps by-hash names
	plain      bool         // the root is a Release without any signature (unsigned archives)
	release    releaseFacts
	members    map[string]*member // by path below the suite's directory
	bySum      map[sumKey]*member // by each of the listed sums
	pair       *proto.Pair        // Release and Release.gpg that say what the InRelease says
	// staged are the members known to be in the store, and by which list their
	// files are known. Guarded by Catalog.mu; a view never reads it.
	staged map[string]staged
}

// releaseFacts is what the search for unlisted files needs of a Release.
type releaseFacts struct {
	architectures, components []string
	noAll                     bool // packages for "all" stand in each architecture's index
	names                     releaseNames
}

// releaseNames is what a Release calls itself.
type releaseNames struct{ origin, label, suite, codename string }

// staged is one member that this node holds.
type staged struct {
	Ref  proto.Ref `json:"ref"`
	List string    `json:"list,omitempty"` // name of the table file; "" for what lists nothing
}

// member is a file that the generation's Release lists.
type member struct {
	path   string
	ref    proto.Ref // zero digest where no SHA-256 is listed
	sha512 proto.SHA512
	where  []proto.Location // by-hash name first, where the archive keeps one
	use    atomic.Pointer[use]
	// learned is the SHA-256 of a member that is listed without one, once its
	// bytes have been proven by the SHA-512.
	learned atomic.Pointer[proto.Ref]
}

// use records that clients ask for a member path, over all generations.
type use struct {
	last atomic.Int64 // Unix seconds
	// had says that the member could be had once. One that never could is waited
	// for with patience only: it may be broken upstream for good. Guarded by
	// Catalog.mu.
	had bool
}

func (u *use) touch(now time.Time) {
	// Once a minute is enough for a period of days, and spares the cache line.
	if s := now.Unix(); s-u.last.Load() > 60 {
		u.last.Store(s)
	}
}

// sumKey finds a member by the first 16 bytes of one of its sums: they are plenty
// to tell the few thousand members of a suite apart. Whether the rest of the sum
// fits too, named tells.
type sumKey struct {
	hash aptmeta.HashType
	sum  [16]byte
}

// sumKeyOf reads the hexadecimal name of a by-hash path.
func sumKeyOf(hash aptmeta.HashType, hexSum string) (k sumKey, ok bool) {
	if len(hexSum) < 32 {
		return sumKey{}, false
	}
	for i := range k.sum {
		hi, ok1 := unhex(hexSum[2*i])
		lo, ok2 := unhex(hexSum[2*i+1])
		if !ok1 || !ok2 {
			return sumKey{}, false
		}
		k.sum[i] = hi<<4 | lo
	}
	k.hash = hash
	return k, true
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// newGeneration loads what a Release says.
func newGeneration(g proto.Generation, r *aptmeta.Release) *generation {
	gen := &generation{
		Generation: g,
		validUntil: r.ValidUntil,
		byHash:     r.AcquireByHash,
		release: releaseFacts{
			architectures: r.Architectures, components: r.Components, noAll: r.NoSupportForAll,
			names: releaseNames{r.Origin, r.Label, r.Suite, r.Codename},
		},
		members: make(map[string]*member, len(r.Members)),
		bySum:   make(map[sumKey]*member, 2*len(r.Members)),
		staged:  make(map[string]staged),
	}
	for path, m := range r.Members {
		loaded := &member{path: path, ref: m.Ref(), sha512: m.SHA512, where: whereOf(g.Suite, r, m)}
		gen.members[path] = loaded
		gen.index(loaded, m)
	}
	return gen
}

// index makes the member findable by each listed sum.
func (g *generation) index(loaded *member, m aptmeta.Member) {
	for _, t := range aptmeta.HashTypes {
		if !m.Has(t) {
			continue
		}
		if k, ok := sumKeyOf(t, m.Hex(t)); ok {
			g.bySum[k] = loaded
		}
	}
}

// whereOf names a member upstream: by its hash first, which is right whatever
// upstream is publishing at the moment, then by its plain name.
func whereOf(s proto.Suite, r *aptmeta.Release, m aptmeta.Member) []proto.Location {
	plain := s.At(m.Path)
	if !r.AcquireByHash {
		return []proto.Location{plain}
	}
	strongest := m.Strongest()
	return []proto.Location{s.At(aptmeta.ByHashPath(m.Path, strongest, m.Hex(strongest))), plain}
}

// provable reports whether the Release lists a sum of the member that we accept.
func (m *member) provable() bool { return !m.ref.IsZero() || m.sha512 != proto.SHA512{} }

// named reports whether a by-hash name that was found by its sumKey is the
// member's to its end. Of a SHA-1 or MD5, which prove nothing, only the key counts.
func (m *member) named(hash aptmeta.HashType, hexSum string) bool {
	switch hash {
	case aptmeta.SHA256:
		return equalHex(m.ref.Digest[:], hexSum)
	case aptmeta.SHA512:
		return equalHex(m.sha512[:], hexSum)
	}
	return true
}

func equalHex(sum []byte, hexSum string) bool {
	if len(hexSum) != 2*len(sum) {
		return false
	}
	for i, b := range sum {
		hi, ok1 := unhex(hexSum[2*i])
		lo, ok2 := unhex(hexSum[2*i+1])
		if !ok1 || !ok2 || hi<<4|lo != b {
			return false
		}
	}
	return true
}

func (m *member) want() proto.Want {
	w := proto.Want{Ref: m.ref, SHA512: m.sha512, Where: m.where, Class: proto.ClassMetadata}
	if l := m.learned.Load(); l != nil {
		w.Ref = *l
	}
	return w
}

// learn notes the digest of the proven bytes.
func (m *member) learn(ref proto.Ref) {
	if m.ref.IsZero() && !ref.IsZero() && ref.Size == m.ref.Size {
		m.learned.Store(&ref)
	}
}

// retained is the generation as it is kept after another has taken its place:
// only what this node holds of it. Everything else of it is found by the digest
// in its by-hash name, if upstream still has it.
func (g *generation) retained() *generation {
	kept := *g
	kept.members = make(map[string]*member, len(g.staged))
	kept.bySum = make(map[sumKey]*member, 2*len(g.staged))
	for path := range g.staged {
		if m, ok := g.members[path]; ok {
			kept.members[path] = m
		}
	}
	for k, m := range g.bySum {
		if _, ok := kept.members[m.path]; ok {
			kept.bySum[k] = m
		}
	}
	return &kept
}

// detached reports whether the generation is signed beside the Release, or not at
// all: it has no InRelease.
func (g *generation) detached() bool { return g.plain || !g.Signature.IsZero() }

// blobs lists what this node must not lose while it serves the generation.
func (g *generation) blobs() []proto.Digest {
	digests := []proto.Digest{g.Root.Digest}
	if !g.Signature.IsZero() {
		digests = append(digests, g.Signature.Digest)
	}
	if g.pair != nil {
		digests = append(digests, g.pair.Release.Digest, g.pair.Signature.Digest)
	}
	for _, s := range g.staged {
		digests = append(digests, s.Ref.Digest)
	}
	return digests
}

// rootNamed is the blob that InRelease, Release or Release.gpg is in this
// generation, with its Last-Modified; the zero Ref where it has no such file.
func (g *generation) rootNamed(name string) (proto.Ref, time.Time) {
	switch detached := g.detached(); {
	case name == "InRelease" && !detached, name == "Release" && detached:
		return g.Root, g.Modified
	case name == "Release.gpg" && detached:
		return g.Signature, g.Modified
	case name == "Release" && g.pair != nil:
		return g.pair.Release, g.pair.Modified
	case name == "Release.gpg" && g.pair != nil:
		return g.pair.Signature, g.pair.Signed
	}
	return proto.Ref{}, time.Time{}
}

// expired reports whether apt would refuse the generation for its age.
func (g *generation) expired(now time.Time) bool {
	return !g.validUntil.IsZero() && now.After(g.validUntil)
}
