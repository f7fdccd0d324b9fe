package front

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// conditions are the fields of a request that choose between a whole body, a part
// of it and none (RFC 9110, sections 13 and 14).
type conditions struct {
	head              bool
	ifMatch           string
	ifUnmodifiedSince string
	ifNoneMatch       string
	ifModifiedSince   string
	ifRange           string
	ranges            string
}

// conditionsOf reads the conditions. It looks the fields up by their canonical
// names, for Header.Get would canonicalise each of them on every request.
func conditionsOf(r *http.Request) conditions {
	return conditions{
		head:              r.Method == http.MethodHead,
		ifMatch:           first(r.Header["If-Match"]),
		ifUnmodifiedSince: first(r.Header["If-Unmodified-Since"]),
		ifNoneMatch:       first(r.Header["If-None-Match"]),
		ifModifiedSince:   first(r.Header["If-Modified-Since"]),
		ifRange:           first(r.Header["If-Range"]),
		ranges:            first(r.Header["Range"]),
	}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// object is what is known of the bytes that a request asks for.
type object struct {
	digest   proto.Digest // the ETag; zero while the bytes are not proven
	modified time.Time    // Last-Modified; zero while the bytes are not proven
	size     int64        // of the whole; proto.UnknownSize
	ranged   bool         // any part can be sent, not only the whole from byte 0
	// doubted says that clients may have wrong bytes of it, from a while ago, and drop them at a 416.
	doubted bool
	// promised and claimed stand in for digest and modified in If-Range while the bytes are not
	// proven: what they must turn out to be, and what upstream calls them where nobody vouches.
	promised proto.Digest
	claimed  time.Time
}

// part is the bytes [from, from+length) of an object.
type part struct{ from, length int64 }

// verdict says which part of an object is sent, and as what.
type verdict struct {
	status int    // 200, 206, 304, 412 or 416
	part          // length may be proto.UnknownSize with a 200
	parts  []part // in place of part, where a 206 sends several
}

// decide evaluates the conditions in the order of RFC 9110, section 13.2.2. It
// answers as http.ServeContent does, with two exceptions that the RFC asks for: a range
// of HEAD and of units other than bytes is ignored.
func decide(c *conditions, o object) verdict {
	switch {
	case c.ifMatch != "":
		if !matches(c.ifMatch, o.digest, strongly) {
			return verdict{status: http.StatusPreconditionFailed}
		}
	case c.ifUnmodifiedSince != "":
		if t, ok := date(c.ifUnmodifiedSince, o.modified); ok && o.modified.Unix() > t.Unix() {
			return verdict{status: http.StatusPreconditionFailed}
		}
	}
	if c.unchanged(o) {
		return verdict{status: http.StatusNotModified}
	}
	whole := verdict{status: http.StatusOK, part: part{length: o.size}}
	if o.doubted && c.goesOn(o.size) {
		return verdict{status: http.StatusRequestedRangeNotSatisfiable}
	}
	if c.ranges == "" || c.head || !o.ranged || !c.rangeHolds(o) {
		return whole
	}
	one, several, kind := parseRange(c.ranges, o.size)
	switch kind {
	case rangePart:
		return verdict{status: http.StatusPartialContent, part: one, parts: several}
	case rangeBad:
		return verdict{status: http.StatusRequestedRangeNotSatisfiable}
	}
	return whole
}

// unchanged reports whether the client holds the object already. If-None-Match is
// stronger than a date; of dates apt sends the Last-Modified that it was given. Only
// that very second counts: a later one is not ours (the client's own clock, or
// another mirror's), and taking it for ours could leave a host with an old Release
// until the next publication.
func (c *conditions) unchanged(o object) bool {
	if c.ifNoneMatch != "" {
		// "*" asks whether there is anything at all (RFC 9110, section 13.1.2). Bytes
		// that are proven are there; else the whole body is the answer that is never wrong.
		return !o.digest.IsZero() && matches(c.ifNoneMatch, o.digest, weakly)
	}
	if c.ifModifiedSince == "" {
		return false
	}
	t, ok := date(c.ifModifiedSince, o.modified)
	return ok && o.modified.Unix() == t.Unix()
}

// rangeHolds evaluates If-Range: a strong ETag, or a date that is the same to the
// second (RFC 9110, section 13.1.5).
func (c *conditions) rangeHolds(o object) bool {
	switch {
	case c.ifRange == "":
		return true
	case strings.HasPrefix(c.ifRange, `"`) || strings.HasPrefix(c.ifRange, "W/"):
		tag, _ := scanTag(c.ifRange)
		return strongly(tag, o.digest) || strongly(tag, o.promised)
	}
	modified := o.modified
	if modified.IsZero() {
		modified = o.claimed
	}
	t, ok := date(c.ifRange, modified)
	return ok && modified.Unix() == t.Unix()
}

// goesOn reports whether a client asks for the rest of a file without saying of which one it has the beginning, as
// pacman does. Wrong bytes that it may have would be made the beginning of the file. The whole in place of the rest is
// no help: pacman takes that for a failure and keeps what it has for its next run. On 416 it deletes it
// (lib/libalpm/dload.c, curl_check_finished_download). Others get the whole: curl and wget take a 416 for the end.
func (c *conditions) goesOn(size int64) bool {
	if c.ranges == "" || c.ifRange != "" || c.head || size < 0 {
		return false
	}
	one, several, kind := parseRange(c.ranges, size)
	return kind == rangePart && len(several) == 0 && one.from > 0
}

// date parses an HTTP date that is to be compared with modified; false when either
// says nothing.
func date(s string, modified time.Time) (time.Time, bool) {
	if modified.IsZero() {
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	return t, err == nil
}

// matches reports whether a list of entity tags, or "*", names the digest.
func matches(list string, d proto.Digest, equal func(tag string, d proto.Digest) bool) bool {
	for {
		list = textproto.TrimString(list)
		switch {
		case list == "":
			return false
		case list[0] == ',':
			list = list[1:]
			continue
		case list[0] == '*':
			return true
		}
		tag, rest := scanTag(list)
		if tag == "" {
			return false
		}
		if equal(tag, d) {
			return true
		}
		list = rest
	}
}

// scanTag takes one entity tag, quotes and W/ included, off the front of a list; ""
// where there is none.
func scanTag(list string) (tag, rest string) {
	start := 0
	if strings.HasPrefix(list, "W/") {
		start = 2
	}
	if len(list) <= start || list[start] != '"' {
		return "", ""
	}
	end := strings.IndexByte(list[start+1:], '"')
	if end < 0 {
		return "", ""
	}
	end += start + 2
	return list[:end], list[end:]
}

// strongly compares an entity tag with our own, which is the digest in quotes.
func strongly(tag string, d proto.Digest) bool {
	const hexLen = 2 * len(proto.Digest{})
	if len(tag) != hexLen+2 || d.IsZero() {
		return false
	}
	var own [hexLen]byte
	return string(appendHex(own[:0], d)) == tag[1:1+hexLen]
}

func weakly(tag string, d proto.Digest) bool { return strongly(strings.TrimPrefix(tag, "W/"), d) }

// rangeKind says what a Range field comes to.
type rangeKind uint8

const (
	rangeNone rangeKind = iota // to be ignored
	rangePart
	rangeBad // no part of it lies in the object, or it is malformed
)

// maxParts bounds the parts of one answer. librepo asks for 256 at most (downloader.c, max_ranges), and
// zckdl for as many as it was told to.
const maxParts = 1024

// parseRange reads a Range field for an object of the given size: what it comes to is one part, or
// several in the order in which they were asked for. zchunk looks a part up by its first byte, so none
// are merged. Parts that lie beyond the object are dropped. More than maxParts, or parts that are longer
// together than the object, are ignored, because they would cost more than the whole (RFC 9110, section
// 14.2).
func parseRange(s string, size int64) (one part, several []part, kind rangeKind) {
	unit, list, ok := strings.Cut(s, "=")
	if !ok || !strings.EqualFold(textproto.TrimString(unit), "bytes") {
		return part{}, nil, rangeNone
	}
	n, sum, beyond := 0, int64(0), false
	for spec := range strings.SplitSeq(list, ",") {
		spec = textproto.TrimString(spec)
		if spec == "" {
			continue
		}
		p, ok := parsePart(spec, size)
		switch {
		case !ok:
			return part{}, nil, rangeBad
		case p.from >= size: // also a suffix of length 0
			beyond = true
			continue
		}
		sum += p.length
		switch n++; {
		case n == 1:
			one = p
		case n == 2:
			several = append(several, one, p)
		case n <= maxParts:
			several = append(several, p)
		}
	}
	switch {
	case n > maxParts || sum > size:
		return part{}, nil, rangeNone
	case n > 1:
		return part{}, several, rangePart
	case n == 1:
		return one, nil, rangePart
	case beyond && size > 0:
		return part{}, nil, rangeBad
	}
	return part{}, nil, rangeNone
}

// parsePart reads "first-last", "first-" or "-length".
func parsePart(spec string, size int64) (p part, ok bool) {
	start, end, ok := strings.Cut(spec, "-")
	start, end = textproto.TrimString(start), textproto.TrimString(end)
	if !ok || !digits(start) || start+end == "" {
		return part{}, false
	}
	if start == "" {
		n, err := strconv.ParseInt(end, 10, 64)
		n = min(n, size)
		return part{size - n, n}, digits(end) && err == nil
	}
	from, err := strconv.ParseInt(start, 10, 64)
	if err != nil || from >= size {
		return part{from: from}, err == nil
	}
	last := size - 1
	if end != "" {
		if last, err = strconv.ParseInt(end, 10, 64); !digits(end) || err != nil || last < from {
			return part{}, false
		}
		last = min(last, size-1)
	}
	return part{from, last - from + 1}, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
