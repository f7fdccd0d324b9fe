package upstream

import "strings"

// escapePath writes a canonical path as it stands in a request: the characters
// that RFC 3986 allows in a path segment as they are, others as %xx in lower
// case. '+' is escaped although RFC 3986 allows it, as apt does, for some object
// stores take it for a blank.
func escapePath(path string) string {
	const hex = "0123456789abcdef"
	plain := strings.IndexFunc(path, func(r rune) bool { return r >= 0x80 || !segmentByte(byte(r)) }) < 0
	if plain {
		return path
	}
	out := make([]byte, 0, len(path)+12)
	for i := range len(path) {
		c := path[i]
		if segmentByte(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}

// segmentByte reports whether c stands for itself in a path, the slash included.
func segmentByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~!$&'()*,;=:@/", c) >= 0
}
