package bundle

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aptmesh/aptmesh/proto"
)

// entry is where a content lies.
type entry struct {
	chunk        string
	offset, size int64
}

// errForeign is that a tar archive has something that no bundle has.
var errForeign = errors.New("it was not written by aptmesh export")

// scan reads the headers of a chunk and calls found for each content. verify hashes them as well. It returns where the last good
// content ends, padding included, and why it did not come to the end of the chunk: errForeign, io.ErrUnexpectedEOF or an error of the disk; a content that is
// not what its name says is io.ErrUnexpectedEOF, too.
func scan(f *os.File, verify bool, found func(d proto.Digest, offset, size int64)) (end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return end, nil
		case errors.Is(err, tar.ErrHeader):
			return end, fmt.Errorf("%w, or is damaged", errForeign)
		case err != nil:
			return end, err
		}
		d, notDigest := proto.ParseDigest(h.Name)
		if notDigest != nil || h.Typeflag != tar.TypeReg || d.String() != h.Name {
			return end, fmt.Errorf("%w: it has %.100q, which is no SHA-256", errForeign, h.Name)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return end, err
		}
		if offset+h.Size > info.Size() {
			return end, io.ErrUnexpectedEOF
		}
		if verify {
			sum := sha256.New()
			if _, err := io.Copy(sum, t); err != nil {
				return end, err
			}
			if proto.Digest(sum.Sum(nil)) != d {
				return end, io.ErrUnexpectedEOF
			}
		}
		found(d, offset, h.Size)
		end = offset + padded(h.Size)
	}
}

// padded is the length of a content in a tar archive.
func padded(size int64) int64 { return (size + blockSize - 1) / blockSize * blockSize }

const blockSize = 512 // of tar
