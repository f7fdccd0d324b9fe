package plain

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/gzip"
)

// gzipReader reads members one after the other as zlib's gzread does, which apt uses (gz_look in
// gzread.c): a file that does not begin with gzip's magic is handed out as it is, and what stands
// behind a member without beginning with the magic is ignored.
type gzipReader struct {
	in     *bufio.Reader
	member *gzip.Reader
}

func newGzipReader(in *bufio.Reader) (io.Reader, error) {
	if !startsMember(in) {
		return in, nil
	}
	member, err := gzip.NewReader(in)
	if err != nil {
		return nil, unexpected(err)
	}
	member.Multistream(false)
	return &gzipReader{in: in, member: member}, nil
}

func startsMember(in *bufio.Reader) bool {
	magic, _ := in.Peek(2)
	return string(magic) == "\x1f\x8b"
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.member.Read(p)
		if err != io.EOF || n > 0 {
			if err == io.EOF {
				err = nil // the next call looks for another member
			}
			return n, err
		}
		if !startsMember(g.in) {
			return 0, io.EOF
		}
		if err := g.member.Reset(g.in); err != nil {
			return 0, unexpected(err)
		}
		g.member.Multistream(false)
	}
}
