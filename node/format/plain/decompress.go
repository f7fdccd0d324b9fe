package plain

import (
	"bufio"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow bounds in bytes how far back a compressed stream may refer, and with it the memory
// that decompressing takes. "zstd --ultra -22" uses 128 MiB, which is also the most that apt's
// own decoder allows; "xz -9" uses 64 MiB, archives use 8 MiB.
const maxWindow = 128 << 20

// MaxDecompressMemory bounds in bytes what one open decompressor allocates. The bound is reached
// only by a stream that asks for the largest window. Callers that decompress in parallel must
// allow for it once each.
const MaxDecompressMemory = 2*maxWindow + 16<<20

var (
	// ErrTooLarge means that a decompressed file has more bytes than it may have.
	ErrTooLarge = errors.New("the decompressed file is larger than allowed")
	// ErrUnsupported means that a file may be right, and this program cannot read it: another
	// format, a larger window, a filter. Whoever published it is not to blame.
	ErrUnsupported = errors.New("this kind of compression is not supported")
	// ErrCorrupt means that a compressed file is damaged or cut short.
	ErrCorrupt = errors.New("the compressed file is damaged")
)

// Decompress returns the plain bytes of a compressed file. The suffix of the name decides on the
// format: .gz .xz .bz2 .zst .lz4 .lzma, or none of them for a file that is not compressed.
// Reading fails with ErrTooLarge when more than limit bytes come out, with ErrUnsupported, with
// ErrCorrupt, or with an error of r as it is.
//
// It reads what apt reads (FileFd, apt-pkg/contrib/fileutl.cc), and where a file consists of
// several streams it reads them all, which apt does for gz and zst only:
//
//   - gz: what follows the last member and is no member itself is ignored. A file that is not
//     compressed at all is read as it is. Both are zlib's rules.
//   - xz and lzma: the content decides which of the two it is, not the name.
//   - xz, bz2, lz4: what follows a stream and is no stream itself is ignored.
//
// Memory is bounded by MaxDecompressMemory: a stream that wants to refer back by more than 128
// MiB is not supported. The checksums of the formats are verified, but bytes are handed out
// before: compare the digest of the compressed file first. Close releases the decompressor; it
// does not close r.
func Decompress(name string, r io.Reader, limit int64) (io.ReadCloser, error) {
	if limit < 0 {
		return nil, fmt.Errorf("decompressing %s: the limit of %d bytes is negative", name, limit)
	}
	_, ext := TrimCompression(name)
	d := &decompressed{name: name, source: &source{r: r}, limit: limit, left: limit}
	var err error
	if d.r, d.release, err = decompressor(ext, d.source, limit); err != nil {
		return nil, d.explain(err)
	}
	return d, nil
}

// source remembers the error of the compressed file's reader, so that a broken connection or
// disk is not taken for a damaged file.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func decompressor(ext string, r io.Reader, limit int64) (plain io.Reader, release func(), err error) {
	if ext == "" {
		return r, nil, nil
	}
	br := bufio.NewReaderSize(r, 64<<10)
	switch ext {
	case ".gz":
		plain, err = newGzipReader(br)
	case ".bz2":
		plain = bzip2Reader{bzip2.NewReader(br)}
	case ".xz", ".lzma":
		// liblzma's auto decoder, which apt uses, goes by the first byte of xz.
		if magic, _ := br.Peek(1); len(magic) == 1 && magic[0] == xzMagic[0] {
			plain = newXZReader(br, limit)
		} else {
			plain, err = newLZMAReader(br)
		}
	case ".zst":
		return newZstdReader(br)
	case ".lz4":
		plain = &lz4Reader{frames: lz4.NewReader(br)}
	default:
		err = fmt.Errorf("%w: %s (gz, xz, bz2, zst, lz4 and lzma are)", ErrUnsupported, ext)
	}
	return plain, nil, err
}

func newZstdReader(br *bufio.Reader) (io.Reader, func(), error) {
	if _, err := br.Peek(1); err != nil {
		return nil, nil, unexpected(err) // the library takes nothing for an empty file
	}
	// One goroutine less, and nothing runs on when the caller forgets Close.
	zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, err
	}
	return zr, zr.Close, nil
}

// newLZMAReader reads the header first, because the format has no magic and the library reports
// a dictionary that is too large in words only. What is no lzma at all is told by the rules of
// liblzma (lzma_alone_decoder in its picky mode, which auto detection uses).
func newLZMAReader(br *bufio.Reader) (io.Reader, error) {
	header, err := br.Peek(lzma.HeaderLen)
	if err != nil {
		return nil, unexpected(err)
	}
	size := binary.LittleEndian.Uint32(header[1:])
	plain := binary.LittleEndian.Uint64(header[5:])
	const unknown, absurd = 1<<64 - 1, 1 << 38
	if size&(size-1) != 0 && size&(size-1) != size/3*2 && size != 1<<32-1 || plain != unknown && plain >= absurd {
		return nil, errors.New("its first bytes are neither those of xz nor of lzma")
	}
	if size > maxWindow {
		return nil, fmt.Errorf("%w: an lzma dictionary of %d bytes, more than %d", ErrUnsupported, size, maxWindow)
	}
	return lzma.ReaderConfig{DictCap: maxWindow}.NewReader(br)
}

// bzip2Reader ends where the library finds something else than another stream.
type bzip2Reader struct{ r io.Reader }

func (b bzip2Reader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == bzip2.StructuralError("bad magic value in continuation file") {
		err = io.EOF
	}
	return n, err
}

// lz4Reader ends where the library, which reads frame after frame, finds something else than
// another frame.
type lz4Reader struct {
	frames *lz4.Reader
	any    bool // something has come out
}

func (l *lz4Reader) Read(p []byte) (int, error) {
	n, err := l.frames.Read(p)
	l.any = l.any || n > 0
	if l.any && errors.Is(err, lz4.ErrInvalidFrame) {
		err = io.EOF
	}
	return n, err
}

// decompressed counts what comes out.
type decompressed struct {
	name        string
	source      *source
	r           io.Reader
	release     func() // nil: nothing to release
	limit, left int64
	err         error
}

func (d *decompressed) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > d.left+1 {
		p = p[:d.left+1] // one byte more shows that there is more
	}
	n, err := d.r.Read(p)
	if int64(n) > d.left {
		n, err = int(d.left), fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.limit)
	}
	d.left -= int64(n)
	if err != nil && err != io.EOF {
		err = d.explain(err)
	}
	d.err = err
	return n, err
}

// explain tells what an error of the decompressor means.
func (d *decompressed) explain(err error) error {
	switch {
	case d.source.err != nil:
		err = d.source.err
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrUnsupported):
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded),
		errors.Is(err, zstd.ErrUnknownDictionary):
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	default:
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("decompressing %s: %w", d.name, err)
}

// Close releases the decompressor. Reading fails afterwards.
func (d *decompressed) Close() error {
	if d.release != nil {
		d.release()
		d.release = nil
	}
	d.err = errors.New("decompressing " + d.name + ": read after Close")
	return nil
}
