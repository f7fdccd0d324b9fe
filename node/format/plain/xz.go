package plain

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// This is a reader of the .xz container (the .xz file format, version 1.2.1,
// tukaani.org) around the LZMA2 decoder of ulikunitz/xz. That library's own
// container reader allocates the dictionary that a block's header asks for, up to
// 4 GiB, before a byte has been decoded, and every block may ask again. Here the
// header is judged first.

// xzBudget bounds in bytes the dictionaries allocated for one file, beyond 16
// times what has come out of it, so that a file of ten thousand empty blocks does
// not keep the allocator busy for minutes.
const xzBudget = 2 * maxWindow

var (
	xzMagic       = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	xzFooterMagic = []byte{'Y', 'Z'}
	errXZ         = errors.New("not a valid xz file")
)

// xzReader decodes one or more streams, with padding between them.
type xzReader struct {
	in    xzInput
	limit int64 // of the plain bytes of the whole file

	out       int64 // plain bytes so far
	allocated int64 // dictionaries so far
	streams   int
	stream    *xzStream
	block     *xzBlock
	err       error
}

// xzInput counts what is read, since xz aligns to multiples of 4.
type xzInput struct {
	r *bufio.Reader
	n int64
}

func (in *xzInput) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	in.n += int64(n)
	return n, err
}

// ReadByte makes the LZMA decoder read from the buffer without another one between.
func (in *xzInput) ReadByte() (byte, error) {
	c, err := in.r.ReadByte()
	if err == nil {
		in.n++
	}
	return c, err
}

func newXZReader(r *bufio.Reader, limit int64) *xzReader {
	return &xzReader{in: xzInput{r: r}, limit: limit}
}

func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		if x.block == nil {
			x.err = x.advance()
			continue
		}
		n, err := x.block.read(p)
		x.out += int64(n)
		if err == io.EOF {
			err = x.endBlock()
		}
		x.err = unexpected(err)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// advance reads on to the next block; io.EOF says that the file ends here.
func (x *xzReader) advance() error {
	if x.stream == nil {
		return x.startStream()
	}
	size, err := x.in.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	if size == 0 {
		return unexpected(x.endStream())
	}
	return unexpected(x.startBlock(size))
}

// unexpected turns an end of input where more must follow into an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// xzStream is what the header of a stream says, and the record of its blocks that
// its index must repeat.
type xzStream struct {
	flags  [2]byte
	check  func() hash.Hash // nil: none
	blocks int64
	record hash.Hash
}

// startStream reads a stream's header. Between streams stands padding of 4 zero bytes each.
// Anything else behind a stream is ignored, because apt does not read on behind the first one.
func (x *xzReader) startStream() error {
	var header [12]byte
	if x.streams > 0 && !x.anotherStream() {
		return io.EOF
	}
	if _, err := io.ReadFull(&x.in, header[:]); err != nil {
		return unexpected(err)
	}
	if !bytes.HasPrefix(header[:], xzMagic) {
		return fmt.Errorf("%w: its first bytes are not those of xz", errXZ)
	}
	if crc32.ChecksumIEEE(header[6:8]) != binary.LittleEndian.Uint32(header[8:]) {
		return fmt.Errorf("%w: the header of a stream is damaged", errXZ)
	}
	s := &xzStream{flags: [2]byte(header[6:8]), record: sha256.New()}
	switch {
	case s.flags == [2]byte{0, 0}:
	case s.flags == [2]byte{0, 1}:
		s.check = func() hash.Hash { return crc32.NewIEEE() }
	case s.flags == [2]byte{0, 4}:
		s.check = func() hash.Hash { return crc64.New(crc64ECMA) }
	case s.flags == [2]byte{0, 10}:
		s.check = sha256.New
	default:
		return fmt.Errorf("%w: the xz file has the unknown integrity check %x", ErrUnsupported, s.flags)
	}
	x.stream = s
	x.streams++
	return nil
}

// anotherStream skips padding and reports whether a stream follows.
func (x *xzReader) anotherStream() bool {
	for {
		next, err := x.in.r.Peek(len(xzMagic))
		if len(next) < 4 || !allZero(next[:4]) {
			return err == nil && bytes.Equal(next, xzMagic)
		}
		x.in.r.Discard(4)
		x.in.n += 4
	}
}

var crc64ECMA = crc64.MakeTable(crc64.ECMA)

// xzBlock is one block being decoded.
type xzBlock struct {
	r         io.Reader
	check     hash.Hash // nil: none
	headerLen int64
	began     int64 // position of the first compressed byte
	packed    int64 // compressed size by the header, -1 if not given
	plain     int64 // plain size by the header, -1 if not given
	out       int64
}

// read decodes on, never beyond what the header announced.
func (b *xzBlock) read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.out += int64(n)
	if b.check != nil {
		b.check.Write(p[:n])
	}
	if b.plain >= 0 && b.out > b.plain {
		return n, fmt.Errorf("%w: a block is longer than its header says", errXZ)
	}
	return n, err
}

// startBlock reads a block's header, whose first byte gives its length.
func (x *xzReader) startBlock(size byte) error {
	header := make([]byte, (int(size)+1)*4)
	header[0] = size
	if _, err := io.ReadFull(&x.in, header[1:]); err != nil {
		return err
	}
	body, sum := header[:len(header)-4], header[len(header)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return fmt.Errorf("%w: the header of a block is damaged", errXZ)
	}
	b := &xzBlock{headerLen: int64(len(header)), packed: -1, plain: -1}
	dict, err := b.parse(body[1:])
	if err != nil {
		return err
	}
	if err := x.allow(&dict, b); err != nil {
		return err
	}
	b.began = x.in.n
	if b.r, err = (lzma.Reader2Config{DictCap: int(dict)}).NewReader2(&x.in); err != nil {
		return err
	}
	if x.stream.check != nil {
		b.check = x.stream.check()
	}
	x.block = b
	return nil
}

// parse reads the header behind its length byte and returns the size of the
// dictionary that it asks for.
func (b *xzBlock) parse(header []byte) (dict int64, err error) {
	const packedGiven, plainGiven, reserved, filters = 0x40, 0x80, 0x3c, 0x03
	damaged := fmt.Errorf("%w: the header of a block makes no sense", errXZ)
	flags, header := header[0], header[1:]
	if flags&reserved != 0 {
		return 0, damaged
	}
	if flags&filters != 0 {
		return 0, fmt.Errorf("%w: the xz file uses filters other than LZMA2", ErrUnsupported)
	}
	ok := true
	if flags&packedGiven != 0 {
		b.packed, header, ok = cutVarint(header)
	}
	if ok && flags&plainGiven != 0 {
		b.plain, header, ok = cutVarint(header)
	}
	// The one filter: its number, the length of its properties, the properties.
	if !ok || len(header) < 3 || header[1] != 1 || !allZero(header[3:]) {
		return 0, damaged
	}
	if header[0] != 0x21 {
		return 0, fmt.Errorf("%w: the xz file uses filters other than LZMA2", ErrUnsupported)
	}
	if dict, err = lzma.DecodeDictCap(header[2]); err != nil {
		return 0, damaged
	}
	return dict, nil
}

// allow judges the dictionary that a block asks for, lowered to what the block can
// make use of.
func (x *xzReader) allow(dict *int64, b *xzBlock) error {
	useful := x.limit
	if b.plain >= 0 {
		useful = min(useful, b.plain)
	}
	*dict = max(min(*dict, useful), lzma.MinDictCap)
	if *dict > maxWindow {
		return fmt.Errorf("%w: an xz dictionary of %d bytes, more than %d", ErrUnsupported, *dict, maxWindow)
	}
	x.allocated += *dict
	if x.allocated > xzBudget+16*x.out {
		return fmt.Errorf("%w: the xz file consists of too many small blocks with large dictionaries", ErrUnsupported)
	}
	return nil
}

// endBlock reads the padding and the integrity check behind a block and records
// its sizes.
func (x *xzReader) endBlock() error {
	b := x.block
	x.block = nil
	packed := x.in.n - b.began
	if b.packed >= 0 && b.packed != packed || b.plain >= 0 && b.plain != b.out {
		return fmt.Errorf("%w: a block has other sizes than its header says", errXZ)
	}
	var tail [3 + sha256.Size]byte
	checkSize := 0
	if b.check != nil {
		checkSize = b.check.Size()
	}
	padding := int(-packed & 3)
	if _, err := io.ReadFull(&x.in, tail[:padding+checkSize]); err != nil {
		return err
	}
	if !allZero(tail[:padding]) {
		return fmt.Errorf("%w: the padding of a block is not zero", errXZ)
	}
	if b.check != nil && !bytes.Equal(littleEndianSum(b.check), tail[padding:padding+checkSize]) {
		return fmt.Errorf("%w: the integrity check of a block fails", errXZ)
	}
	x.stream.blocks++
	recordBlock(x.stream.record, b.headerLen+packed+int64(checkSize), b.out)
	return nil
}

// littleEndianSum returns the sum as xz stores it: CRCs little-endian, which Go's
// hash.Hash gives big-endian.
func littleEndianSum(h hash.Hash) []byte {
	switch h := h.(type) {
	case hash.Hash32:
		return binary.LittleEndian.AppendUint32(nil, h.Sum32())
	case hash.Hash64:
		return binary.LittleEndian.AppendUint64(nil, h.Sum64())
	}
	return h.Sum(nil)
}

func recordBlock(record hash.Hash, unpadded, plain int64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], uint64(unpadded))
	binary.LittleEndian.PutUint64(b[8:], uint64(plain))
	record.Write(b[:])
}

// endStream reads the index, whose first byte has been read, and the footer, and
// checks both against the blocks that came before.
func (x *xzReader) endStream() error {
	s := x.stream
	began := x.in.n - 1
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	in := &summedInput{in: &x.in, sum: sum}
	count, err := in.varint()
	if err != nil {
		return err
	}
	if count != s.blocks {
		return fmt.Errorf("%w: its index counts %d blocks instead of %d", errXZ, count, s.blocks)
	}
	record := sha256.New()
	for range count {
		unpadded, err := in.varint()
		if err != nil {
			return err
		}
		plain, err := in.varint()
		if err != nil {
			return err
		}
		recordBlock(record, unpadded, plain)
	}
	for (x.in.n-began)&3 != 0 {
		c, err := in.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return fmt.Errorf("%w: the padding of its index is not zero", errXZ)
		}
	}
	size := x.in.n - began + 4
	var tail [16]byte // the index's sum and the footer
	if _, err := io.ReadFull(&x.in, tail[:]); err != nil {
		return err
	}
	footer := tail[4:]
	switch {
	case binary.LittleEndian.Uint32(tail[:4]) != sum.Sum32(),
		!bytes.Equal(record.Sum(nil), s.record.Sum(nil)):
		return fmt.Errorf("%w: its index does not fit its blocks", errXZ)
	case crc32.ChecksumIEEE(footer[4:10]) != binary.LittleEndian.Uint32(footer[:4]),
		(int64(binary.LittleEndian.Uint32(footer[4:8]))+1)*4 != size,
		[2]byte(footer[8:10]) != s.flags,
		!bytes.Equal(footer[10:12], xzFooterMagic):
		return fmt.Errorf("%w: the footer of a stream is damaged", errXZ)
	}
	x.stream = nil
	return nil
}

// summedInput reads bytes of the index and sums them.
type summedInput struct {
	in  *xzInput
	sum hash.Hash32
}

func (s *summedInput) ReadByte() (byte, error) {
	c, err := s.in.ReadByte()
	if err == nil {
		s.sum.Write([]byte{c})
	}
	return c, err
}

// varint reads a number of up to 63 bits, 7 to a byte.
func (s *summedInput) varint() (int64, error) {
	n, err := binary.ReadUvarint(s)
	if err != nil {
		return 0, err
	}
	if n > 1<<63-1 {
		return 0, fmt.Errorf("%w: its index holds an absurd number", errXZ)
	}
	return int64(n), nil
}

func cutVarint(b []byte) (int64, []byte, bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > 1<<63-1 {
		return 0, nil, false
	}
	return int64(n), b[size:], true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
