package aptmeta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// maxLine bounds one line of an index in bytes. The longest seen in Debian and
	// Ubuntu are lists of dependencies of some tens of kilobytes.
	maxLine = 1 << 20
	// maxStanza bounds one stanza of an index in bytes.
	maxStanza = 16 << 20
	// startBuffer is the size of the read buffer as long as no line is longer.
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
	stanza     int64 // bytes handed out since the caller last set it to 0
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: r, buf: make([]byte, startBuffer)}
}

// next returns the next line without its newline, valid until the next call. At
// the end it fails with io.EOF; a last line without newline counts.
func (l *lineReader) next() ([]byte, error) {
	if i := bytes.IndexByte(l.buf[l.start:l.end], '\n'); i >= 0 {
		line := l.buf[l.start : l.start+i]
		l.start += i + 1
		l.stanza += int64(i) + 1
		return line, nil
	}
	return l.nextSlow()
}

// nextSlow reads on until there is a whole line.
func (l *lineReader) nextSlow() ([]byte, error) {
	if l.stanza > maxStanza {
		return nil, fmt.Errorf("a stanza is longer than %d bytes", maxStanza)
	}
	for {
		searched := l.end - l.start
		if l.err != nil {
			return l.last()
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
		if i := bytes.IndexByte(l.buf[l.start+searched:l.end], '\n'); i >= 0 {
			return l.next()
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
		if l.end >= maxLine {
			return fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		l.err = err
		if n > 0 || err != nil {
			return nil
		}
	}
	return errNoProgress
}
