package holdings

import (
	"encoding/binary"
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// prefixOf is the first eight bytes of a digest, which stand for it here. Among a
// million blobs two share them with a chance of 1 in 37 million, and then a blob
// may be believed absent that is there, or the reverse: a detour, no damage.
func prefixOf(d proto.Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }

// shards is how many parts a set has. At a million entries a part is 2 KB, which
// an insertion moves half of.
const shards = 4096

// set is a set of prefixes in 8 bytes each, plus the slack of append: a third of
// what a map takes. Digests are spread evenly, so the parts, chosen by the leading
// bits and each in order, are of one size. Not safe for concurrent use.
type set struct {
	parts [shards][]uint64
	count int
}

func (s *set) part(p uint64) *[]uint64 { return &s.parts[p>>(64-12)] }

func (s *set) has(p uint64) bool {
	_, found := slices.BinarySearch(*s.part(p), p)
	return found
}

// add reports whether p is new.
func (s *set) add(p uint64) bool {
	part := s.part(p)
	i, found := slices.BinarySearch(*part, p)
	if found {
		return false
	}
	*part = slices.Insert(*part, i, p)
	s.count++
	return true
}

// remove reports whether p was there.
func (s *set) remove(p uint64) bool {
	part := s.part(p)
	i, found := slices.BinarySearch(*part, p)
	if !found {
		return false
	}
	*part = slices.Delete(*part, i, i+1)
	s.count--
	return true
}
