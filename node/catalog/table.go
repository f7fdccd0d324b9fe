package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/proto"
)

// row is one listed file: 48 bytes without a pointer, so that a million of them
// cost the garbage collector nothing. The path itself is not kept, only its
// hash. A client that crafts a path colliding with a listed one (64 bits, no
// secret) is served another signed file of the same archive under a name that
// nobody lists: it hurts nobody but itself.
type row struct {
	hash   uint64 // of the path below the archive's root; never 0
	size   int64  // bytes, or proto.UnknownSize
	digest proto.Digest
}

const rowBytes = 48

// hashPath is how rows are found. 0 marks an empty slot, so no path hashes to it.
func hashPath(path string) uint64 {
	return max(xxhash.Sum64String(path), 1)
}

func hashPathBytes(path []byte) uint64 {
	return max(xxhash.Sum64(path), 1)
}

// table finds the rows of one archive: open addressing with linear probing over
// a slice that is never changed once it is built. Safe for concurrent use.
type table struct {
	slots []row
	count int
	// strong holds what is listed with a SHA-512 only, which is rare.
	strong map[uint64]strongRow
}

type strongRow struct {
	sha512 proto.SHA512
	size   int64
}

// lookup returns what is listed for path.
func (t *table) lookup(path string) (row, bool) {
	if t == nil {
		return row{}, false
	}
	return t.find(hashPath(path))
}

func (t *table) find(h uint64) (row, bool) {
	if len(t.slots) == 0 {
		return row{}, false
	}
	for i := t.home(h); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		switch t.slots[i].hash {
		case h:
			return t.slots[i], true
		case 0:
			return row{}, false
		}
	}
}

func (t *table) lookupStrong(path string) (strongRow, bool) {
	if t == nil || t.strong == nil {
		return strongRow{}, false
	}
	s, ok := t.strong[hashPath(path)]
	return s, ok
}

// home is where the search for h begins.
func (t *table) home(h uint64) int {
	hi, _ := bits.Mul64(h, uint64(len(t.slots)))
	return int(hi)
}

// newTable joins lists, most trusted first: where two list the same path, the
// earlier one counts.
func newTable(lists []*list) *table {
	total, strong := 0, 0
	for _, l := range lists {
		total += len(l.rows)
		strong += len(l.strong)
	}
	// A first pass on a set of hashes finds how many are distinct: suites and
	// generations share most of their packages.
	distinct := make(map[uint64]struct{}, total/max(len(lists), 1))
	for _, l := range lists {
		for i := range l.rows {
			distinct[l.rows[i].hash] = struct{}{}
		}
	}
	t := &table{}
	if n := len(distinct); n > 0 {
		t.slots = make([]row, n+n*2/5+1) // 71 % full: 67 bytes a row
	}
	if strong > 0 {
		t.strong = make(map[uint64]strongRow, strong)
	}
	for _, l := range lists {
		for _, r := range l.rows {
			if _, ok := t.strong[r.hash]; !ok {
				t.insert(r)
			}
		}
		for h, s := range l.strong {
			if _, ok := t.find(h); ok {
				continue
			}
			if _, ok := t.strong[h]; !ok {
				t.strong[h] = s
			}
		}
	}
	return t
}

func (t *table) insert(r row) {
	for i := t.home(r.hash); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		switch t.slots[i].hash {
		case r.hash:
			return
		case 0:
			t.slots[i] = r
			t.count++
			return
		}
	}
}

// list is what one index lists: the unit that is kept on disk, so that a restart
// parses no index again.
type list struct {
	rows   []row
	strong map[uint64]strongRow
}

// add takes one listed file. A file without any sum we accept is passed over: it
// stays unlisted.
func (l *list) add(path []byte, size int64, digest proto.Digest, sha512 proto.SHA512) {
	h := hashPathBytes(path)
	switch {
	case !digest.IsZero():
		l.rows = append(l.rows, row{hash: h, size: size, digest: digest})
	case sha512 != proto.SHA512{}:
		if l.strong == nil {
			l.strong = make(map[uint64]strongRow)
		}
		l.strong[h] = strongRow{sha512: sha512, size: size}
	}
}

// A table file: magic, number of rows, number of strong rows, the rows (hash,
// size, digest), the strong rows (hash, size, SHA-512), CRC-32C of all before it.
// All numbers are little-endian. A file that is not exactly this is a miss: the
// index is parsed again.
const (
	tableMagic     = "aptmeshT1\n\x00\x00\x00\x00\x00\x00"
	tableHeader    = len(tableMagic) + 16
	strongRowBytes = 8 + 8 + 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errTable = errors.New("not a whole package table")

// marshal writes the list as a table file.
func (l *list) marshal() []byte {
	b := make([]byte, 0, tableHeader+len(l.rows)*rowBytes+len(l.strong)*strongRowBytes+4)
	b = append(b, tableMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(l.rows)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(l.strong)))
	for i := range l.rows {
		r := &l.rows[i]
		b = binary.LittleEndian.AppendUint64(b, r.hash)
		b = binary.LittleEndian.AppendUint64(b, uint64(r.size))
		b = append(b, r.digest[:]...)
	}
	for h, s := range l.strong {
		b = binary.LittleEndian.AppendUint64(b, h)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.size))
		b = append(b, s.sha512[:]...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// unmarshalList reads a table file.
func unmarshalList(b []byte) (*list, error) {
	if len(b) < tableHeader+4 || string(b[:len(tableMagic)]) != tableMagic {
		return nil, errTable
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum differs", errTable)
	}
	rows := binary.LittleEndian.Uint64(b[len(tableMagic):])
	strong := binary.LittleEndian.Uint64(b[len(tableMagic)+8:])
	rest := body[tableHeader:]
	// The sums of lengths below cannot overflow: each count is first held
	// against the bytes there are.
	if rows > uint64(len(rest))/rowBytes || strong > uint64(len(rest))/strongRowBytes ||
		rows*rowBytes+strong*strongRowBytes != uint64(len(rest)) {
		return nil, fmt.Errorf("%w: length differs", errTable)
	}
	l := &list{rows: make([]row, rows)}
	for i := range l.rows {
		r := &l.rows[i]
		r.hash = binary.LittleEndian.Uint64(rest)
		r.size = int64(binary.LittleEndian.Uint64(rest[8:]))
		copy(r.digest[:], rest[16:])
		rest = rest[rowBytes:]
	}
	if strong > 0 {
		l.strong = make(map[uint64]strongRow, strong)
	}
	for range strong {
		s := strongRow{size: int64(binary.LittleEndian.Uint64(rest[8:])), sha512: proto.SHA512(rest[16:strongRowBytes])}
		l.strong[binary.LittleEndian.Uint64(rest)] = s
		rest = rest[strongRowBytes:]
	}
	return l, nil
}
