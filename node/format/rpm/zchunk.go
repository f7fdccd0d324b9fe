package rpm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/aptmesh/aptmesh/node/format/plain"
)

// zchunk is a file of independently compressed chunks, behind a header that lists them
// (zchunk_format.txt). The chunks are zstd frames; the first one may be a dictionary for the others.
//
// The sums in it are not checked here: whoever reads an index has proven the bytes of the whole file.

// Bounds of a zchunk file. createrepo_c makes a chunk of each package: a few kilobytes, and a
// dictionary of 100 KB; a header has some 50 bytes a chunk.
const (
	maxZchunkHeader = 64 << 20
	maxChunk        = 32 << 20
)

var errZchunk = errors.New("not a valid zchunk file")

// What a zchunk file may have and may lack, in its flags.
const (
	zckStreams = 1 << iota
	zckOptional
	zckPlainSums
)

// How the chunks are compressed.
const (
	zckNone = 0
	zckZstd = 2
)

// sumSizes are the sizes of sums by their kind: SHA-1, SHA-256, SHA-512, and half of SHA-512.
var sumSizes = []int{20, 32, 64, 16}

// chunk is a part of a zchunk file.
type chunk struct{ packed, plain int64 }

// zchunk reads the plain bytes of a file.
type zchunk struct {
	r      *bufio.Reader
	chunks []chunk
	zstd   *zstd.Decoder // nil: the chunks are plain
	left   int64
	packed []byte // of the current chunk
	buf    []byte // plain bytes of it
	rest   []byte // those not yet handed out
}

// newZchunk reads the header and the dictionary.
func newZchunk(r io.Reader, limit int64) (io.ReadCloser, error) {
	z := &zchunk{r: bufio.NewReaderSize(r, 64<<10), left: limit}
	compression, err := z.readHeader()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errZchunk, err)
	}
	dict := z.chunks[0]
	z.chunks = z.chunks[1:]
	packed, err := z.take(dict)
	if err != nil {
		return nil, err
	}
	if compression == zckNone {
		return z, nil
	}
	opts := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxChunk)}
	if z.zstd, err = zstd.NewReader(nil, opts...); err != nil {
		return nil, err
	}
	if dict.packed == 0 {
		return z, nil
	}
	plain, err := z.zstd.DecodeAll(packed, nil)
	z.zstd.Close()
	if err != nil {
		return nil, fmt.Errorf("%w: its dictionary: %w", errZchunk, err)
	}
	if bytes.HasPrefix(plain, []byte("\x37\xa4\x30\xec")) {
		opts = append(opts, zstd.WithDecoderDicts(plain))
	} else {
		opts = append(opts, zstd.WithDecoderDictRaw(0, plain))
	}
	if z.zstd, err = zstd.NewReader(nil, opts...); err != nil {
		return nil, fmt.Errorf("%w: its dictionary: %w", errZchunk, err)
	}
	return z, nil
}

// readHeader reads everything before the chunks.
func (z *zchunk) readHeader() (compression uint64, err error) {
	var magic [5]byte
	if _, err := io.ReadFull(z.r, magic[:]); err != nil {
		return 0, unexpected(err)
	}
	if string(magic[:]) != "\x00ZCK1" {
		return 0, errors.New("its first bytes are others")
	}
	sumKind, err := readVarint(z.r)
	if err != nil {
		return 0, err
	}
	size, err := readVarint(z.r)
	switch {
	case err != nil:
		return 0, err
	case sumKind >= uint64(len(sumSizes)):
		return 0, fmt.Errorf("%w: sums of kind %d", plain.ErrUnsupported, sumKind)
	case size > maxZchunkHeader:
		return 0, fmt.Errorf("%w: a header of %d bytes", plain.ErrUnsupported, size)
	}
	if _, err := z.r.Discard(sumSizes[sumKind]); err != nil { // the header's own sum
		return 0, unexpected(err)
	}
	// A copy that grows as bytes come: a size alone allocates nothing.
	var header bytes.Buffer
	if _, err := io.CopyN(&header, z.r, int64(size)); err != nil {
		return 0, unexpected(err)
	}
	return z.parseHeader(&header, sumSizes[sumKind])
}

// parseHeader reads the preface and the index.
func (z *zchunk) parseHeader(h *bytes.Buffer, dataSum int) (compression uint64, err error) {
	h.Next(dataSum)
	flags, err := readVarint(h)
	if err != nil {
		return 0, err
	}
	if compression, err = readVarint(h); err != nil {
		return 0, err
	}
	if flags&zckStreams != 0 || flags > zckStreams|zckOptional|zckPlainSums || compression != zckNone && compression != zckZstd {
		return 0, fmt.Errorf("%w: flags %x, compression %d", plain.ErrUnsupported, flags, compression)
	}
	if flags&zckOptional != 0 {
		if err := skipOptional(h); err != nil {
			return 0, err
		}
	}
	if _, err = readVarint(h); err != nil { // the size of the index
		return 0, err
	}
	kind, err := readVarint(h)
	if err != nil {
		return 0, err
	}
	if kind >= uint64(len(sumSizes)) {
		return 0, fmt.Errorf("%w: sums of kind %d", plain.ErrUnsupported, kind)
	}
	count, err := readVarint(h)
	if err != nil {
		return 0, err
	}
	sums := sumSizes[kind]
	if flags&zckPlainSums != 0 {
		sums *= 2
	}
	// The first chunk is the dictionary, and is not counted where it is said to be none.
	if count > uint64(h.Len()/(sums+2)) {
		return 0, fmt.Errorf("a header of %d bytes for %d chunks", h.Len(), count)
	}
	for range count {
		h.Next(sums)
		packed, err1 := readVarint(h)
		size, err2 := readVarint(h)
		if err := errors.Join(err1, err2); err != nil {
			return 0, err
		}
		if packed > maxChunk || size > maxChunk {
			return 0, fmt.Errorf("%w: a chunk of %d bytes", plain.ErrUnsupported, max(packed, size))
		}
		z.chunks = append(z.chunks, chunk{int64(packed), int64(size)})
	}
	if len(z.chunks) == 0 {
		return 0, errors.New("it has no chunk for the dictionary")
	}
	return compression, nil
}

func skipOptional(h *bytes.Buffer) error {
	count, err := readVarint(h)
	if err != nil || count > uint64(h.Len()) {
		return errors.Join(err, errors.New("too many optional elements"))
	}
	for range count {
		_, err1 := readVarint(h) // which one
		size, err2 := readVarint(h)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if size > uint64(h.Len()) {
			return io.ErrUnexpectedEOF
		}
		h.Next(int(size))
	}
	return nil
}

// readVarint reads a number of seven bits a byte, the lowest first. The last byte has its highest
// bit set.
func readVarint(r io.ByteReader) (uint64, error) {
	var n uint64
	for shift := 0; shift < 63; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		n |= uint64(c&0x7f) << shift
		if c&0x80 != 0 {
			return n, nil
		}
	}
	return 0, errors.New("a number does not end")
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take reads the bytes of a chunk as they are stored.
func (z *zchunk) take(c chunk) ([]byte, error) {
	if int64(cap(z.packed)) < c.packed {
		z.packed = make([]byte, c.packed)
	}
	z.packed = z.packed[:c.packed]
	if _, err := io.ReadFull(z.r, z.packed); err != nil {
		return nil, fmt.Errorf("%w: %w", plain.ErrCorrupt, unexpected(err))
	}
	return z.packed, nil
}

func (z *zchunk) Read(p []byte) (int, error) {
	for len(z.rest) == 0 {
		if len(z.chunks) == 0 {
			return 0, io.EOF
		}
		if err := z.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.rest)
	z.rest = z.rest[n:]
	return n, nil
}

// advance unpacks the next chunk.
func (z *zchunk) advance() error {
	c := z.chunks[0]
	z.chunks = z.chunks[1:]
	if z.left -= c.plain; z.left < 0 {
		return fmt.Errorf("%w: of a zchunk file", plain.ErrTooLarge)
	}
	packed, err := z.take(c)
	if err != nil {
		return err
	}
	z.rest = packed
	if z.zstd != nil && c.packed > 0 {
		if z.buf, err = z.zstd.DecodeAll(packed, z.buf[:0]); err != nil {
			return fmt.Errorf("%w: a chunk: %w", plain.ErrCorrupt, err)
		}
		z.rest = z.buf
	}
	if int64(len(z.rest)) != c.plain {
		return fmt.Errorf("%w: a chunk has %d bytes instead of %d", plain.ErrCorrupt, len(z.rest), c.plain)
	}
	return nil
}

// Close releases the decompressor.
func (z *zchunk) Close() error {
	if z.zstd != nil {
		z.zstd.Close()
	}
	return nil
}
