package view

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// A frozen file holds the contents that count of every path in ascending order of hashes, those
// with SHA-512 only in a part of their own, and then where they begin:
//
//	magic      16 bytes
//	rows       48 bytes each
//	strong     80 bytes each
//	two directories: for each range of hashes (hash>>shift) 8 bytes, where its records begin (a
//	           number of records) and their CRC-32C; one more entry ends each
//	trailer    seed 16, rows 8, strong 8, the two shifts 8 each, CRC-32C of magic and these
//
// A look-up reads two directory entries and one range, about 32 records, and proves the range. Of a
// table of up to a million records the directories are kept in memory: a byte for four records.
// Reading, not mapping: a disk that fails is an error then, and not the end of the process.
const (
	frozenMagic   = "aptmeshF2\n\x00\x00\x00\x00\x00\x00"
	frozenTrailer = 16 + 8 + 8 + 8 + 8 + 4
	frozenRange   = 32
	maxRange      = 1 << 16 // records; only a damaged file has more in one range
	maxKept       = 1 << 18 // bytes of a directory in memory
)

// WriteFrozen writes what current Lists list as a file that OpenFrozen opens. The file contains the
// seed, so it is as secret as the seed. It fails if a List cannot be read. rows is the number of rows.
func WriteFrozen(w io.Writer, seed Seed, src ListSource, current []string) (rows int, err error) {
	m, err := openLists(src, seed, current)
	if err != nil {
		return 0, err
	}
	defer m.close()
	var most [2]uint64
	for _, lr := range m.readers {
		most[0] += lr.rows.left
		most[1] += lr.strong.left
	}
	if _, err := io.WriteString(w, frozenMagic); err != nil {
		return 0, err
	}
	a, b := newRangeWriter[row](w, most[0]), newRangeWriter[strongRow](w, most[1])
	err = m.each(func(group []ranked[row]) error { return a.add(group, len(current)) },
		func(group []ranked[strongRow]) error { return b.add(group, len(current)) })
	if err != nil {
		return 0, err
	}
	if err := a.end(); err != nil {
		return 0, err
	}
	if err := b.end(); err != nil {
		return 0, err
	}
	t := append(append(a.dir, b.dir...), seed[:]...)
	from := len(t) - len(seed)
	for _, n := range []uint64{uint64(a.n), uint64(b.n), uint64(a.shift), uint64(b.shift)} {
		t = binary.LittleEndian.AppendUint64(t, n)
	}
	t = binary.LittleEndian.AppendUint32(t, trailerSum(t[from:]))
	_, err = w.Write(t)
	return a.n + b.n, err
}

func trailerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(frozenMagic), castagnoli), castagnoli, b)
}

// rangeWriter writes one part of a frozen file and collects its directory.
type rangeWriter[T record[T]] struct {
	w     io.Writer
	shift uint
	n     int    // records so far
	in    uint64 // the range that buf is of
	buf   []byte
	dir   []byte
	found []T
}

func newRangeWriter[T record[T]](w io.Writer, most uint64) *rangeWriter[T] {
	r := &rangeWriter[T]{w: w, shift: 64}
	for frozenRange<<(64-r.shift) < most && r.shift > 40 {
		r.shift--
	}
	return r
}

func (r *rangeWriter[T]) add(group []ranked[T], current int) error {
	if err := r.goTo(group[0].t.path() >> r.shift); err != nil {
		return err
	}
	r.found, _ = contents(r.found[:0], group, current)
	for _, t := range r.found {
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, t.width())...)
		t.put(r.buf[at:])
	}
	return nil
}

// goTo ends all ranges before the given one.
func (r *rangeWriter[T]) goTo(in uint64) error {
	for ; r.in < in; r.in++ {
		if err := r.endRange(); err != nil {
			return err
		}
	}
	return nil
}

func (r *rangeWriter[T]) endRange() error {
	var zero T
	r.dir = binary.LittleEndian.AppendUint32(r.dir, uint32(r.n))
	r.dir = binary.LittleEndian.AppendUint32(r.dir, crc32.Checksum(r.buf, castagnoli))
	r.n += len(r.buf) / zero.width()
	_, err := r.w.Write(r.buf)
	r.buf = r.buf[:0]
	return err
}

// end writes the last range, and the entry behind it.
func (r *rangeWriter[T]) end() error {
	if err := r.goTo(1 << (64 - r.shift)); err != nil {
		return err
	}
	r.dir = binary.LittleEndian.AppendUint64(r.dir, uint64(uint32(r.n)))
	return nil
}

// Frozen finds files in a table that stays on disk. It is safe for concurrent use if its reader is.
// Closing the file is for the caller.
type Frozen struct {
	r      io.ReaderAt
	seed   Seed
	rows   part
	strong part
}

// part is the place of one of the two parts.
type part struct {
	data, dir int64
	shift     uint
	n         uint64
	kept      []byte // the directory; nil: it is read each time
}

// entry reads two entries of the directory into b: where a range begins, and where it ends.
func (p *part) entry(r io.ReaderAt, in uint64, b []byte) error {
	if p.kept != nil {
		copy(b, p.kept[8*in:])
		return nil
	}
	return readAt(r, b, p.dir+8*int64(in))
}

// keep reads the directory into memory, if it is small.
func (p *part) keep(r io.ReaderAt) error {
	size := 8 * (uint64(1)<<(64-p.shift) + 1)
	if p.n == 0 || size > maxKept {
		return nil
	}
	kept := make([]byte, size)
	if err := readAt(r, kept, p.dir); err != nil {
		return err
	}
	p.kept = kept
	return nil
}

// OpenFrozen opens what WriteFrozen wrote. It fails with ErrList, or with the error of r. It proves
// the trailer; the rest is proven when it is read.
func OpenFrozen(r io.ReaderAt, length int64) (*Frozen, error) {
	if length < int64(len(frozenMagic)+frozenTrailer) {
		return nil, fmt.Errorf("%w: it is torn", ErrList)
	}
	b := make([]byte, frozenTrailer)
	if err := readAt(r, b, length-int64(len(b))); err != nil {
		return nil, err
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if trailerSum(body) != sum {
		return nil, fmt.Errorf("%w: the trailer is damaged or of another version", ErrList)
	}
	f := &Frozen{r: r, seed: Seed(body)}
	number := func(i int) uint64 { return binary.LittleEndian.Uint64(body[len(f.seed)+8*i:]) }
	f.rows.n, f.strong.n = number(0), number(1)
	f.rows.shift, f.strong.shift = uint(number(2)), uint(number(3))
	if err := f.place(uint64(length)); err != nil {
		return nil, err
	}
	if err := f.rows.keep(r); err != nil {
		return nil, err
	}
	return f, f.strong.keep(r)
}

// place computes where the parts lie, and holds that against the length of the file.
func (f *Frozen) place(length uint64) error {
	if f.rows.n > length || f.strong.n > length || f.rows.shift < 40 || f.rows.shift > 64 || f.strong.shift < 40 || f.strong.shift > 64 {
		return fmt.Errorf("%w: its numbers are wrong", ErrList)
	}
	at := uint64(len(frozenMagic))
	f.rows.data, at = int64(at), at+f.rows.n*uint64(row{}.width())
	f.strong.data, at = int64(at), at+f.strong.n*uint64(strongRow{}.width())
	f.rows.dir, at = int64(at), at+8*(1<<(64-f.rows.shift)+1)
	f.strong.dir, at = int64(at), at+8*(1<<(64-f.strong.shift)+1)
	if at+frozenTrailer != length {
		return fmt.Errorf("%w: its length is wrong", ErrList)
	}
	return nil
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	if n, err := r.ReadAt(b, off); n < len(b) {
		return tornIfShort(err)
	}
	return nil
}

// Len is the number of rows.
func (f *Frozen) Len() int { return int(f.rows.n + f.strong.n) }

// buffers are used by look-ups: what is read into escapes through the interface.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Lookup implements Files.
func (f *Frozen) Lookup(path string) (Listed, bool, error) {
	h := f.seed.hash([]byte(path))
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var l Listed
	found := 0
	err := eachAt(f, &f.rows, h, buf, func(r row) {
		switch found++; {
		case found == 1:
			l.Ref = r.ref()
		case found <= MaxContents:
			l.Others = append(l.Others, r.ref())
		}
	})
	if err != nil || found > 0 || f.strong.n == 0 {
		return l, found > 0, err
	}
	err = eachAt(f, &f.strong, h, buf, func(r strongRow) {
		if found++; found == 1 {
			l.Ref.Size, l.SHA512 = r.size.bytes(), r.sum
		}
	})
	return l, found > 0, err
}

// eachAt yields the records of one hash.
func eachAt[T record[T]](f *Frozen, p *part, h uint64, buf *[]byte, each func(T)) error {
	if p.n == 0 {
		return nil
	}
	var t T
	b := (*buf)[:16]
	if err := p.entry(f.r, h>>p.shift, b); err != nil {
		return err
	}
	from, sum, to := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if from > to || uint64(to) > p.n || to-from > maxRange {
		return fmt.Errorf("%w: its directory is damaged", ErrList)
	}
	n := int(to-from) * t.width()
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	b = (*buf)[:n]
	if err := readAt(f.r, b, p.data+int64(from)*int64(t.width())); err != nil {
		return err
	}
	if crc32.Checksum(b, castagnoli) != sum {
		return fmt.Errorf("%w: a checksum differs", ErrList)
	}
	for ; len(b) > 0; b = b[t.width():] {
		if t = t.get(b); t.path() == h {
			each(t)
		}
	}
	return nil
}

var (
	_ Files = (*Table)(nil)
	_ Files = (*Frozen)(nil)
)
