package aptmeta

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/aptmesh/aptmesh/node/format/plain"
)

const (
	// maxLine bounds in bytes what is kept of one line of an index. The longest lines seen in
	// Debian and Ubuntu are lists of dependencies of some tens of kilobytes. apt itself
	// refuses a stanza that does not fit its buffer, which grows to 2 MiB (pkgTagFile::Resize,
	// apt-pkg/tagfile.cc).
	maxLine = 1 << 20
	// startBuffer is the size of the read buffer unless a line is longer.
	startBuffer = 128 << 10
)

// errNoProgress ends a reader that returns neither bytes nor an error.
var errNoProgress = errors.New("the reader returns neither data nor an error")

// lineReader cuts a stream into lines within bounded memory. bufio.Scanner does
// the same for twice the time per line, which is what ParseIndex spends most on.
type lineReader struct {
	r          io.Reader
	buf        []byte
	start, end int   // what is read and not yet handed out
	err        error // of the reader, kept until the buffer is used up
	left       int64 // bytes that may still be read
	skip       bool  // the rest of the line that was handed out last is still to come
}

func newLineReader(r io.Reader, limit int64) *lineReader {
	return &lineReader{r: r, buf: make([]byte, startBuffer), left: limit}
}

// next returns the next line without its newline, valid until the next call. Of a line that is
// longer than maxLine it returns the beginning, and reads over the rest. At the end it fails
// with io.EOF; a last line without newline counts.
func (l *lineReader) next() ([]byte, error) {
	if i := bytes.IndexByte(l.buf[l.start:l.end], '\n'); i >= 0 && !l.skip {
		line := l.buf[l.start : l.start+i]
		l.start += i + 1
		return line, nil
	}
	return l.nextSlow()
}

// nextSlow reads on until there is a whole line, or as much of it as is kept.
func (l *lineReader) nextSlow() ([]byte, error) {
	if l.skip {
		if err := l.skipLine(); err != nil {
			return nil, err
		}
		return l.next()
	}
	for {
		searched := l.end - l.start
		if l.err != nil {
			return l.last()
		}
		if searched >= maxLine {
			line := l.buf[l.start : l.start+maxLine]
			l.start += maxLine
			l.skip = true
			return line, nil
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
		if i := bytes.IndexByte(l.buf[l.start+searched:l.end], '\n'); i >= 0 {
			return l.next()
		}
	}
}

// skipLine reads over the rest of a line, without keeping it.
func (l *lineReader) skipLine() error {
	for {
		if i := bytes.IndexByte(l.buf[l.start:l.end], '\n'); i >= 0 {
			l.start += i + 1
			l.skip = false
			return nil
		}
		l.start, l.end = 0, 0
		if l.err != nil {
			return l.err
		}
		if err := l.fill(); err != nil {
			return err
		}
	}
}

// last hands out what stands behind the last newline, then the reader's error.
func (l *lineReader) last() ([]byte, error) {
	if l.err != io.EOF || l.start == l.end {
		return nil, l.err
	}
	line := l.buf[l.start:l.end]
	l.start = l.end
	return line, nil
}

// fill makes room in the buffer and reads once into it.
func (l *lineReader) fill() error {
	if l.start > 0 {
		l.end = copy(l.buf, l.buf[l.start:l.end])
		l.start = 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		l.err = err
		if l.left -= int64(n); l.left < 0 {
			return fmt.Errorf("%w by the parser", plain.ErrTooLarge)
		}
		if n > 0 || err != nil {
			return nil
		}
	}
	return errNoProgress
}
