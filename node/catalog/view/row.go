package view

import (
	"bytes"
	"cmp"
	"encoding/binary"

	"github.com/aptmesh/aptmesh/proto"
)

// row is one listed content of one path: 48 bytes without a pointer, so that a million of them cost
// the garbage collector nothing. The path itself is not kept, only its hash.
type row struct {
	hash   uint64 // of the path below the archive's root
	size   size
	digest proto.Digest
}

// strongRow is a row of a file that is listed with a SHA-512 only, which is rare.
type strongRow struct {
	hash uint64
	size size
	sum  proto.SHA512
}

// size is a length in bytes, and two marks of a Table, in one word.
type size uint64

const (
	markRetained size = 1 << 63 // no current generation lists the path
	markSeveral  size = 1 << 62 // the path has more contents than this one
	unknownSize  size = 1<<62 - 1
)

// sizeOf keeps a length. One that makes no sense is unknown.
func sizeOf(n int64) size {
	if n < 0 || size(n) >= unknownSize {
		return unknownSize
	}
	return size(n)
}

func (s size) bytes() int64 {
	if s &= unknownSize; s != unknownSize {
		return int64(s)
	}
	return proto.UnknownSize
}

func (r *row) ref() proto.Ref { return proto.Ref{Digest: r.digest, Size: r.size.bytes()} }

// record is what row and strongRow have in common: their order, and their form in a file.
type record[T any] interface {
	row | strongRow
	path() uint64
	length() size
	// compare orders records by path, content and size, an unknown size last.
	compare(T) int
	// alike reports whether both say the same of the same path, though one may not know the size.
	alike(T) bool
	// width is the number of bytes that put writes and get reads.
	width() int
	put(b []byte)
	get(b []byte) T
}

func (r row) path() uint64       { return r.hash }
func (r strongRow) path() uint64 { return r.hash }
func (r row) length() size       { return r.size }
func (r strongRow) length() size { return r.size }

func (r row) compare(o row) int {
	if r.hash != o.hash {
		return cmp.Compare(r.hash, o.hash)
	}
	return cmp.Or(bytes.Compare(r.digest[:], o.digest[:]), cmp.Compare(r.size, o.size))
}

func (r strongRow) compare(o strongRow) int {
	if r.hash != o.hash {
		return cmp.Compare(r.hash, o.hash)
	}
	return cmp.Or(bytes.Compare(r.sum[:], o.sum[:]), cmp.Compare(r.size, o.size))
}

func (r row) alike(o row) bool {
	return r.hash == o.hash && r.digest == o.digest && (r.size == o.size || r.size == unknownSize || o.size == unknownSize)
}

func (r strongRow) alike(o strongRow) bool {
	return r.hash == o.hash && r.sum == o.sum && (r.size == o.size || r.size == unknownSize || o.size == unknownSize)
}

func (row) width() int       { return 8 + 8 + len(proto.Digest{}) }
func (strongRow) width() int { return 8 + 8 + len(proto.SHA512{}) }

func (r row) put(b []byte) {
	binary.LittleEndian.PutUint64(b, r.hash)
	binary.LittleEndian.PutUint64(b[8:], uint64(r.size))
	copy(b[16:], r.digest[:])
}

func (row) get(b []byte) row {
	return row{binary.LittleEndian.Uint64(b), size(binary.LittleEndian.Uint64(b[8:])), proto.Digest(b[16:])}
}

func (r strongRow) put(b []byte) {
	binary.LittleEndian.PutUint64(b, r.hash)
	binary.LittleEndian.PutUint64(b[8:], uint64(r.size))
	copy(b[16:], r.sum[:])
}

func (strongRow) get(b []byte) strongRow {
	return strongRow{binary.LittleEndian.Uint64(b), size(binary.LittleEndian.Uint64(b[8:])), proto.SHA512(b[16:])}
}

// distinct drops, from records in ascending order, what says nothing new of a path, and contents
// beyond MaxContents.
type distinct[T record[T]] struct {
	last     T
	contents int // of the last path; 0 before the first record
}

// keeps reports whether the next record counts.
func (d *distinct[T]) keeps(t T) bool {
	if d.contents > 0 && d.last.path() == t.path() {
		if d.contents == MaxContents || d.last.alike(t) {
			return false
		}
		d.contents++
	} else {
		d.contents = 1
	}
	d.last = t
	return true
}

// chunks is a long slice in pieces, which grows without a second copy of itself.
type chunks[T any] struct {
	parts [][]T
	n     int
	spare [][]T // parts to be used again
}

const chunkLen = 4096

func (c *chunks[T]) add(t T) {
	if c.n%chunkLen == 0 {
		c.parts = append(c.parts, c.part())
	}
	last := &c.parts[len(c.parts)-1]
	*last = append(*last, t)
	c.n++
}

func (c *chunks[T]) part() []T {
	switch last := len(c.spare) - 1; {
	case last >= 0:
		p := c.spare[last]
		c.spare = c.spare[:last]
		return p[:0]
	case c.n == 0:
		return nil // it may stay small
	}
	return make([]T, 0, chunkLen)
}

func (c *chunks[T]) at(i int) *T { return &c.parts[i/chunkLen][i%chunkLen] }

// clip lets go of memory beyond the last element.
func (c *chunks[T]) clip() {
	c.spare = nil
	if last := len(c.parts) - 1; last >= 0 && cap(c.parts[last])-len(c.parts[last]) > len(c.parts[last])/16 {
		c.parts[last] = append(make([]T, 0, len(c.parts[last])), c.parts[last]...)
	}
}
