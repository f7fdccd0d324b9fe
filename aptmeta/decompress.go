package aptmeta

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow bounds in bytes how far back a compressed stream may refer, and with
// it the memory that decompressing takes. It is what "xz -9" uses; archives use
// 8 MiB.
const maxWindow = 64 << 20

// ErrTooLarge means that a decompressed file has more bytes than it may have.
var ErrTooLarge = errors.New("the decompressed file is larger than allowed")

// Decompress returns the plain bytes of a compressed file. The suffix of the name
// decides on the format: .gz .xz .bz2 .zst .lzma, or none of them for a file that
// is not compressed. Reading fails with ErrTooLarge when more than limit bytes
// come out.
//
// Memory is bounded: a stream that wants to refer back by more than 64 MiB is
// refused, whatever its header asks for. The checksums of the formats are
// verified, but bytes are handed out before: compare the digest of the compressed
// file first. Close releases the decompressor; it does not close r.
func Decompress(name string, r io.Reader, limit int64) (io.ReadCloser, error) {
	if limit < 0 {
		return nil, fmt.Errorf("decompressing %s: the limit of %d bytes is negative", name, limit)
	}
	_, ext := TrimCompression(name)
	plain, release, err := decompressor(ext, r, limit)
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", name, err)
	}
	return &decompressed{name: name, r: plain, release: release, limit: limit, left: limit}, nil
}

func decompressor(ext string, r io.Reader, limit int64) (plain io.Reader, release func(), err error) {
	release = func() {}
	switch ext {
	case "":
		return r, release, nil
	case ".gz":
		plain, err = gzip.NewReader(r)
	case ".bz2":
		plain = bzip2.NewReader(bufio.NewReader(r))
	case ".xz":
		plain = newXZReader(r, limit)
	case ".lzma":
		plain, err = lzma.ReaderConfig{DictCap: maxWindow}.NewReader(bufio.NewReader(r))
	case ".zst":
		br := bufio.NewReader(r)
		if _, err := br.Peek(1); err != nil {
			return nil, nil, unexpected(err) // the library takes nothing for an empty file
		}
		// One goroutine less, and nothing runs on when the caller forgets Close.
		zr, zerr := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if zerr == nil {
			plain, release = zr, zr.Close
		}
		err = zerr
	default:
		err = fmt.Errorf("the format %s is not supported (gz, xz, bz2, zst and lzma are)", ext)
	}
	return plain, release, err
}

// decompressed counts what comes out.
type decompressed struct {
	name        string
	r           io.Reader
	release     func()
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
		err = fmt.Errorf("decompressing %s: %w", d.name, err)
	}
	d.err = err
	return n, err
}

// Close releases the decompressor. Reading fails afterwards.
func (d *decompressed) Close() error {
	if d.release != nil {
		d.release()
		d.release = nil
		d.err = errors.New("decompressing " + d.name + ": read after Close")
	}
	return nil
}
