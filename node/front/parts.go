package front

import (
	"crypto/rand"
	"strconv"
)

// Several parts of an object go out as multipart/byteranges (RFC 9110, section 14.6). Two parsers are stricter
// than the RFC: librepo (downloader.c) takes all that follows "boundary=" up to the end of the line for the
// boundary, and zchunk (src/lib/dl/multipart.c) puts it into a regular expression as it is. So the boundary is
// the last parameter and has letters and digits only.

const typeParts = "multipart/byteranges; boundary="

// divide makes the body of an answer one of several parts.
func (a *answer) divide() {
	a.boundary = rand.Text()
	a.length = int64(len(a.end()))
	for i := range a.parts {
		a.length += int64(len(a.head(i))) + a.parts[i].length
	}
}

// pieces is how many parts the body has.
func (a *answer) pieces() int { return max(1, len(a.parts)) }

// piece returns a part of the body, and what goes before it.
func (a *answer) piece(i int) (head []byte, p part) {
	if len(a.parts) == 0 {
		return nil, a.part
	}
	return a.head(i), a.parts[i]
}

// head is what goes before one of several parts.
func (a *answer) head(i int) []byte {
	b := make([]byte, 0, 192)
	b = append(append(b, "\r\n--"...), a.boundary...)
	if a.contentType != "" {
		b = append(append(b, "\r\nContent-Type: "...), a.contentType...)
	}
	b = append(b, "\r\nContent-Range: "...)
	return append(appendRange(b, a.parts[i], a.size), "\r\n\r\n"...)
}

// end is what goes after the last part.
func (a *answer) end() []byte {
	if a.boundary == "" {
		return nil
	}
	return []byte("\r\n--" + a.boundary + "--\r\n")
}

// appendRange writes the value of a Content-Range field.
func appendRange(b []byte, p part, size int64) []byte {
	b = strconv.AppendInt(append(b, "bytes "...), p.from, 10)
	b = strconv.AppendInt(append(b, '-'), p.from+p.length-1, 10)
	return strconv.AppendInt(append(b, '/'), size, 10)
}
