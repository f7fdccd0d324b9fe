// Package rows is sets of digests with sizes, as sorted files that may be mapped into memory: a set of a hundred thousand
// blobs takes no heap then, and a look-up takes some seventeen comparisons. Where the disk of a mapped set fails, a look-up
// faults: see Guard. What a set is for is not known here.
package rows

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// A file is the magic, which names the format, and rows of rowSize bytes in ascending order of their digests: the
// digest, and the size of the blob in bytes, big endian; unknown is all ones.
const (
	magic   = "amrows01"
	rowSize = len(proto.Digest{}) + 8
)

// Set is a sorted set. It is never changed; safe for concurrent use. The zero Set is empty.
type Set struct {
	data  []byte // without the magic
	whole []byte // what is mapped; it must be referred to as long as data is
}

// Read makes a set of the bytes of a file, which nobody changes from then on.
func Read(file []byte) (*Set, error) {
	data, ok := bytes.CutPrefix(file, []byte(magic))
	if !ok || len(data)%rowSize != 0 {
		return nil, fmt.Errorf("a set of digests of %d bytes has not the form of one", len(file))
	}
	return &Set{data: data}, nil
}

// Map maps a file, which nobody changes from then on, and closes it. It is unmapped when nobody refers to the set.
func Map(f *os.File) (*Set, error) {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() <= int64(len(magic)) || info.Size() > math.MaxInt32*int64(rowSize) {
		text, err := io.ReadAll(io.NewSectionReader(f, 0, 64))
		if err != nil {
			return nil, err
		}
		return Read(text)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map a set of digests: %w", err)
	}
	s, err := Read(mapped)
	if err != nil {
		_ = unix.Munmap(mapped)
		return nil, err
	}
	s.whole = mapped
	runtime.AddCleanup(s, func(mapped []byte) { _ = unix.Munmap(mapped) }, mapped)
	return s, nil
}

// Write writes refs, which are sorted here; of equal digests one is written.
func Write(w io.Writer, refs []proto.Ref) error {
	slices.SortFunc(refs, compare)
	return writeAll(w, slices.Values(refs))
}

func compare(a, b proto.Ref) int { return bytes.Compare(a.Digest[:], b.Digest[:]) }

// writeAll writes refs in ascending order.
func writeAll(to io.Writer, refs iter.Seq[proto.Ref]) error {
	w := bufio.NewWriterSize(to, 64<<10)
	w.WriteString(magic) // an error is kept until Flush
	var last proto.Digest
	var size [8]byte
	first := true
	for ref := range refs {
		if !first && ref.Digest == last {
			continue
		}
		first, last = false, ref.Digest
		binary.BigEndian.PutUint64(size[:], uint64(ref.Size))
		w.Write(ref.Digest[:])
		w.Write(size[:])
	}
	return w.Flush()
}

// Part is a set of which a union takes what Keep wants; nil wants all.
type Part struct {
	*Set
	Keep func(proto.Ref) bool
}

// Guard calls do, which looks at mapped sets. It fails where their disk does, which would end the process otherwise.
func Guard(do func()) (err error) {
	before := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(before)
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // of a runtime.Error
			err = fmt.Errorf("a set of digests cannot be read from the disk: %v", fault)
		default:
			panic(fault)
		}
	}()
	do()
	return nil
}

// Unite is what is taken of any part, each digest once, in memory. It fails where the disk of a part does.
func Unite(parts ...Part) (united *Set, err error) {
	var b bytes.Buffer
	if failed := Guard(func() { err = unite(&b, parts) }); failed != nil || err != nil {
		return nil, cmp.Or(failed, err)
	}
	return Read(b.Bytes())
}

func unite(w io.Writer, parts []Part) error {
	var next cursors
	for _, p := range parts {
		if p.Len() > 0 {
			next = append(next, cursor{Part: p})
		}
	}
	heap.Init(&next)
	return writeAll(w, func(yield func(proto.Ref) bool) {
		for len(next) > 0 {
			ref, wanted := next[0].Row(next[0].at), false
			for len(next) > 0 && bytes.Equal(next[0].now(), ref.Digest[:]) {
				first := &next[0]
				wanted = wanted || first.Keep == nil || first.Keep(ref)
				if first.at++; first.at < first.Len() {
					heap.Fix(&next, 0)
				} else {
					heap.Pop(&next)
				}
			}
			if wanted && !yield(ref) {
				return
			}
		}
	})
}

// cursor is a row of a part.
type cursor struct {
	Part
	at int
}

func (c *cursor) now() []byte { return c.digest(c.at) }

// cursors is a heap with the lowest digest on top.
type cursors []cursor

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return bytes.Compare(c[i].now(), c[j].now()) < 0 }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)        { *c = append(*c, x.(cursor)) }
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// Len is how many digests there are.
func (s *Set) Len() int { return len(s.data) / rowSize }

func (s *Set) digest(i int) []byte { return s.data[i*rowSize : i*rowSize+len(proto.Digest{})] }

// Row is the i-th blob.
func (s *Set) Row(i int) proto.Ref {
	row := s.data[i*rowSize : (i+1)*rowSize]
	ref := proto.Ref{Digest: proto.Digest(row[:len(proto.Digest{})]), Size: int64(binary.BigEndian.Uint64(row[len(proto.Digest{}):]))}
	runtime.KeepAlive(s)
	return ref
}

// Rows yields all, in ascending order of their digests.
func (s *Set) Rows() iter.Seq[proto.Ref] {
	return func(yield func(proto.Ref) bool) {
		for i := range s.Len() {
			if !yield(s.Row(i)) {
				return
			}
		}
	}
}

// All yields all digests in ascending order.
func (s *Set) All() iter.Seq[proto.Digest] {
	return func(yield func(proto.Digest) bool) {
		for ref := range s.Rows() {
			if !yield(ref.Digest) {
				return
			}
		}
	}
}

// Has reports whether a digest is in the set. Digests lie evenly, so that the place of one is known to within some
// hundred rows; the search begins there.
func (s *Set) Has(d proto.Digest) bool {
	n := s.Len()
	guess, _ := bits.Mul64(binary.BigEndian.Uint64(d[:8]), uint64(n))
	low, high := int(guess), int(guess)
	for step := 64; low > 0 && bytes.Compare(s.digest(low-1), d[:]) >= 0; step *= 2 {
		high, low = low, max(low-step, 0)
	}
	for step := 64; high < n && bytes.Compare(s.digest(high), d[:]) < 0; step *= 2 {
		low, high = high+1, min(high+step, n)
	}
	for low < high {
		middle := int(uint(low+high) / 2)
		if bytes.Compare(s.digest(middle), d[:]) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	found := low < s.Len() && bytes.Equal(s.digest(low), d[:])
	runtime.KeepAlive(s)
	return found
}

// Bytes is the sum of all known sizes.
func (s *Set) Bytes() (sum int64) {
	for ref := range s.Rows() {
		sum += max(ref.Size, 0)
	}
	return sum
}
