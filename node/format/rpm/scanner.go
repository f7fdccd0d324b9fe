package rpm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/aptmesh/aptmesh/node/format/plain"
)

// maxTag bounds in bytes a tag that is looked into, and the text behind it. The longest path that a
// file may have is 4096 bytes.
const maxTag = 64 << 10

// maxName bounds the name of an element. Elements with longer names are none that matter.
const maxName = 64

var (
	errXML        = errors.New("the XML is damaged")
	errNoProgress = errors.New("the reader returns neither data nor an error")
)

// scanner goes through an XML document from tag to tag. It is for documents with few elements that
// matter among many that do not: what is not asked for is passed over by looking for the next "<",
// which XML allows nowhere but where markup begins. A general parser takes ten times as long.
//
// It does not judge whether the document is well formed. Slices that it returns are valid until the
// next call.
type scanner struct {
	r          io.Reader
	buf        []byte
	start, end int   // of what is read and not yet passed
	err        error // of the reader, kept until the buffer is used up
	left       int64 // bytes that may still be read

	tag []byte // the current tag, without "<" and ">"; read when it is asked for
}

func newScanner(r io.Reader, limit int64) *scanner {
	return &scanner{r: r, buf: make([]byte, 4*maxTag), left: limit}
}

// next moves to the next tag and returns the name of its element, with "/" before it where the tag
// closes it. It fails with io.EOF at the end.
func (s *scanner) next() ([]byte, error) {
	s.tag = nil
	for {
		i := bytes.IndexByte(s.buf[s.start:s.end], '<')
		if i < 0 {
			s.start = s.end
			if err := s.fill(); err != nil {
				return nil, err
			}
			continue
		}
		s.start += i + 1
		if s.end-s.start < maxName {
			if err := s.have(maxName); err != nil && err != io.EOF {
				return nil, err
			}
		}
		name := s.buf[s.start:min(s.end, s.start+maxName)]
		if len(name) == 0 {
			return nil, fmt.Errorf("%w: it ends within a tag", errXML)
		}
		if c := name[0]; c == '!' || c == '?' {
			if err := s.skipOther(name); err != nil {
				return nil, err
			}
			continue
		}
		return name[:nameLength(name)], nil
	}
}

func nameLength(b []byte) int {
	for i, c := range b {
		switch c {
		case ' ', '\t', '\r', '\n', '>':
			return i
		case '/':
			if i > 0 {
				return i
			}
		}
	}
	return len(b)
}

// skipOther passes over what is no tag: a comment, character data, an instruction, a declaration.
func (s *scanner) skipOther(begin []byte) error {
	switch {
	case bytes.HasPrefix(begin, []byte("!--")):
		return s.skipTo("-->")
	case bytes.HasPrefix(begin, []byte("![CDATA[")):
		return s.skipTo("]]>")
	case begin[0] == '?':
		return s.skipTo("?>")
	}
	return nil // a declaration: the next tag is behind it
}

func (s *scanner) skipTo(mark string) error {
	for {
		if i := bytes.Index(s.buf[s.start:s.end], []byte(mark)); i >= 0 {
			s.start += i + len(mark)
			return nil
		}
		s.start = max(s.start, s.end-len(mark)+1)
		switch err := s.fill(); err {
		case nil:
		case io.EOF:
			return fmt.Errorf("%w: it ends before %q", errXML, mark)
		default:
			return err
		}
	}
}

// whole makes sure that the current tag is in the buffer to its end.
func (s *scanner) whole() error {
	for s.tag == nil {
		var quote byte
		for at := range s.end - s.start {
			c := s.buf[s.start+at]
			switch {
			case quote != 0:
				if c == quote {
					quote = 0
				}
			case c == '"' || c == '\'':
				quote = c
			case c == '>':
				s.tag = s.buf[s.start : s.start+at]
				s.start += at + 1
				return nil
			}
		}
		if err := s.more(); err != nil {
			return err
		}
	}
	return nil
}

// more reads on, because a tag or a text goes on.
func (s *scanner) more() error {
	if s.end-s.start > maxTag {
		return fmt.Errorf("%w: a tag or a text of more than %d bytes", errXML, maxTag)
	}
	if err := s.fill(); err == io.EOF {
		return fmt.Errorf("%w: it ends within an element", errXML)
	} else if err != nil {
		return err
	}
	return nil
}

// attributes calls do for each attribute of the current tag, with the value as it is written.
func (s *scanner) attributes(do func(name, value []byte)) error {
	if err := s.whole(); err != nil {
		return err
	}
	rest := s.tag[nameLength(s.tag):]
	for {
		rest = bytes.TrimLeft(rest, " \t\r\n/")
		eq := bytes.IndexByte(rest, '=')
		if eq < 0 {
			return nil
		}
		name := bytes.TrimRight(rest[:eq], " \t\r\n")
		rest = bytes.TrimLeft(rest[eq+1:], " \t\r\n")
		if len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
			return fmt.Errorf("%w: the attribute %.40q has no value", errXML, name)
		}
		length := bytes.IndexByte(rest[1:], rest[0])
		if length < 0 {
			return fmt.Errorf("%w: the attribute %.40q does not end", errXML, name)
		}
		do(name, rest[1:1+length])
		rest = rest[length+2:]
	}
}

// text returns what stands between the current tag and the next one, without white space around it,
// as it is written. The tag's attributes are gone then.
func (s *scanner) text() ([]byte, error) {
	if err := s.whole(); err != nil {
		return nil, err
	}
	if bytes.HasSuffix(s.tag, []byte{'/'}) {
		return nil, nil // an empty element
	}
	for {
		if i := bytes.IndexByte(s.buf[s.start:s.end], '<'); i >= 0 {
			return bytes.TrimSpace(s.buf[s.start : s.start+i]), nil
		}
		if err := s.more(); err != nil {
			return nil, err
		}
	}
}

// have makes sure that n bytes are in the buffer; io.EOF where the document ends before.
func (s *scanner) have(n int) error {
	for s.end-s.start < n {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill makes room in the buffer and reads once into it.
func (s *scanner) fill() error {
	if s.err != nil {
		return s.err
	}
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		s.err = err
		if s.left -= int64(n); s.left < 0 {
			return fmt.Errorf("%w by the parser", plain.ErrTooLarge)
		}
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errNoProgress
}

// unescape appends a text or an attribute's value to dst with its references resolved. One that is
// unknown stays as it is.
func unescape(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '&')
		if i < 0 {
			return append(dst, raw...)
		}
		dst, raw = append(dst, raw[:i]...), raw[i:]
		end := bytes.IndexByte(raw, ';')
		if end < 0 {
			return append(dst, raw...)
		}
		if c, ok := reference(raw[1:end]); ok {
			dst = utf8.AppendRune(dst, c)
		} else {
			dst = append(dst, raw[:end+1]...)
		}
		raw = raw[end+1:]
	}
}

func reference(name []byte) (rune, bool) {
	switch string(name) {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	if len(name) < 2 || len(name) > 9 || name[0] != '#' {
		return 0, false
	}
	digits, base := string(name[1:]), 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune {
		return 0, false
	}
	return rune(n), true
}
