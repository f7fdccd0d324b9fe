package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// ErrList says that a list file is not whole, is of another version, or was made under another
// Seed. The index is to be read again.
var ErrList = errors.New("not a whole list of files")

// List is what one index lists. It is never changed, and safe for concurrent use.
type List struct {
	seed   Seed
	rows   chunks[row]
	strong chunks[strongRow]
}

// Len is the number of rows: of different pairs of a path and a content.
func (l *List) Len() int { return l.rows.n + l.strong.n }

// A list file, version 2: a header, the rows, the rows with SHA-512 only, and nothing after them.
//
//	header  magic, the seed's mark, the two numbers of rows, CRC-32C of all that: 44 bytes
//	rows    in blocks of 256 (the last one may be shorter), each with its CRC-32C behind it
//	row     hash, size, sum: 48 bytes, or 80 with SHA-512; ascending
//
// All numbers are little-endian. Blocks are proven one by one, so that a file can be read as a
// stream and nothing is believed before it is proven. A file that is not exactly this is a miss.
const (
	listMagic  = "aptmeshL2\n\x00\x00\x00\x00\x00\x00"
	listHeader = len(listMagic) + 8 + 8 + 8 + 4
	blockLen   = 256
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSum appends the checksum of b[from:] to b.
func appendSum(b []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

// unsealed returns b without the checksum behind it, if that is right.
func unsealed(b []byte) ([]byte, bool) {
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	return body, crc32.Checksum(body, castagnoli) == sum
}

// WriteTo writes the list as a list file. Memory does not grow with the list.
func (l *List) WriteTo(w io.Writer) (int64, error) {
	b := append(make([]byte, 0, listHeader), listMagic...)
	b = binary.LittleEndian.AppendUint64(b, l.seed.mark())
	b = binary.LittleEndian.AppendUint64(b, uint64(l.rows.n))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.strong.n))
	n, err := w.Write(appendSum(b, 0))
	total := int64(n)
	if err == nil {
		err = writeBlocks(w, &l.rows, &total)
	}
	if err == nil {
		err = writeBlocks(w, &l.strong, &total)
	}
	return total, err
}

func writeBlocks[T record[T]](w io.Writer, c *chunks[T], total *int64) error {
	var zero T
	b := make([]byte, 0, min(c.n, blockLen)*zero.width()+4)
	for i := range c.n {
		at := len(b)
		b = b[:at+zero.width()]
		(*c.at(i)).put(b[at:])
		if (i+1)%blockLen == 0 || i+1 == c.n {
			n, err := w.Write(appendSum(b, 0))
			*total += int64(n)
			if err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return nil
}

// ReadList reads a list file. It fails with ErrList, or with what r failed with. It takes no more
// memory than r has bytes, whatever these say.
func ReadList(r io.Reader, seed Seed) (*List, error) {
	lr, err := readHeader(r, seed)
	if err != nil {
		return nil, err
	}
	l := &List{seed: seed}
	err = lr.readAll(func(t row) bool { l.rows.add(t); return true }, func(t strongRow) bool { l.strong.add(t); return true })
	if err != nil {
		return nil, err
	}
	l.rows.clip()
	l.strong.clip()
	return l, nil
}

// ListSource opens list files by the names that Staged.Table gives. It is safe for concurrent use.
type ListSource interface {
	OpenList(name string) (io.ReadCloser, error)
}

// CheckList reads a list file through and reports whether it is whole. rows is what it holds.
func CheckList(src ListSource, name string, seed Seed) (rows int, err error) {
	err = scanList(src, name, seed, func(row) bool { rows++; return true }, func(strongRow) bool { rows++; return true })
	return rows, err
}

// ListHas reports whether a list file lists a path.
func ListHas(src ListSource, name string, seed Seed, path string) (has bool, err error) {
	h := seed.hash([]byte(path))
	err = scanList(src, name, seed,
		func(r row) bool { has = r.hash == h; return !has },
		func(r strongRow) bool { has = r.hash == h; return !has })
	return has, err
}

func scanList(src ListSource, name string, seed Seed, rows func(row) bool, strong func(strongRow) bool) error {
	f, err := src.OpenList(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lr, err := readHeader(f, seed)
	if err != nil {
		return err
	}
	return lr.readAll(rows, strong)
}

// listReader reads a list file as a stream.
type listReader struct {
	r      io.Reader
	rows   section[row]
	strong section[strongRow]
}

func readHeader(r io.Reader, seed Seed) (*listReader, error) {
	b := make([]byte, listHeader)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, tornIfShort(err)
	}
	body, whole := unsealed(b)
	if !whole || string(b[:len(listMagic)]) != listMagic {
		return nil, fmt.Errorf("%w: the header is damaged or of another version", ErrList)
	}
	body = body[len(listMagic):]
	if binary.LittleEndian.Uint64(body) != seed.mark() {
		return nil, fmt.Errorf("%w: it was made under another seed", ErrList)
	}
	lr := &listReader{r: r}
	lr.rows.left, lr.strong.left = binary.LittleEndian.Uint64(body[8:]), binary.LittleEndian.Uint64(body[16:])
	return lr, nil
}

// tornIfShort distinguishes a file that is too short from one that cannot be read.
func tornIfShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it is torn", ErrList)
	}
	return err
}

// readAll yields all records until one of the functions returns false, or proves that the file is
// whole.
func (lr *listReader) readAll(rows func(row) bool, strong func(strongRow) bool) error {
	if goOn, err := readSection(&lr.rows, lr.r, rows); err != nil || !goOn {
		return err
	}
	if goOn, err := readSection(&lr.strong, lr.r, strong); err != nil || !goOn {
		return err
	}
	return lr.end()
}

func readSection[T record[T]](s *section[T], r io.Reader, each func(T) bool) (goOn bool, err error) {
	for {
		t, ok, err := s.next(r)
		if err != nil || !ok {
			return true, err
		}
		if !each(t) {
			return false, nil
		}
	}
}

// end proves that nothing follows.
func (lr *listReader) end() error {
	switch _, err := io.ReadFull(lr.r, make([]byte, 1)); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: something follows it", ErrList)
	default:
		return err
	}
}

// section is one of the two parts of a list file.
type section[T record[T]] struct {
	left  uint64 // records that have not been read into block
	buf   []byte
	block []byte // proven, not yielded yet
	last  T
	begun bool
}

// next returns the next record; false after the last one.
func (s *section[T]) next(r io.Reader) (T, bool, error) {
	var t T
	if len(s.block) == 0 {
		if s.left == 0 {
			return t, false, nil
		}
		if err := s.fill(r); err != nil {
			return t, false, err
		}
	}
	t = t.get(s.block)
	s.block = s.block[t.width():]
	if s.begun && s.last.compare(t) >= 0 || t.length() > unknownSize {
		return t, false, fmt.Errorf("%w: its order is wrong", ErrList)
	}
	s.last, s.begun = t, true
	return t, true, nil
}

func (s *section[T]) fill(r io.Reader) error {
	var t T
	n := min(s.left, blockLen)
	s.buf = slices.Grow(s.buf[:0], blockLen*t.width()+4)[:int(n)*t.width()+4]
	if _, err := io.ReadFull(r, s.buf); err != nil {
		return tornIfShort(err)
	}
	body, whole := unsealed(s.buf)
	if !whole {
		return fmt.Errorf("%w: a checksum differs", ErrList)
	}
	s.block, s.left = body, s.left-n
	return nil
}
