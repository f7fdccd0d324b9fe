package proto

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxPath bounds a path in bytes. File systems stop at 4096, and so do most
// servers.
const maxPath = 4096

// CanonicalPath turns the path of a request, percent-encoded as it came, into the
// form that a Location wants: decoded, without a leading or trailing slash,
// without empty, "." or ".." segments. Two spellings of one file ("%7e" and "~", "//"
// and "/", "x/../a" and "a") give one path; "+" stays "+". The empty path is the
// archive's root.
//
// "." segments are dropped and not refused because apt itself sends them: for a
// flat repository given as "./" it asks for "/./InRelease", and dpkg-scanpackages
// writes "Filename: ./hello.deb". apt sends ".." and "#" as they stand in an index, too
// (QuoteString in apt-pkg/contrib/strutl.cc leaves both). ".." takes away the segment
// before it, as in every web server, so no request with a ".." ever leaves this node.
// "#" is a letter of a name: a client never sends a fragment (RFC 9110, 4.2.5).
//
// Refused are a ".." with nothing before it; dots with a ";" behind them, which servlet
// containers take for "." and ".." (path parameters); a backslash; control bytes (NUL
// among them); a raw "?"; an encoding that is cut short; and paths longer than 4096 bytes.
func CanonicalPath(escaped string) (string, error) {
	if len(escaped) > 3*maxPath {
		return "", fmt.Errorf("path of %d bytes: longer than %d", len(escaped), maxPath)
	}
	decoded, err := unescape(escaped)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", escaped, err)
	}
	clean, err := CleanPath(decoded)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", escaped, err)
	}
	return clean, nil
}

func unescape(s string) (string, error) {
	if strings.Contains(s, "?") {
		return "", errors.New("a query is not part of a path")
	}
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) || hexValue(s[i+1]) > 15 || hexValue(s[i+2]) > 15 {
			return "", errors.New("a % is not followed by two hexadecimal digits")
		}
		b.WriteByte(hexValue(s[i+1])<<4 | hexValue(s[i+2]))
		i += 2
	}
	return b.String(), nil
}

var (
	errAbove     = errors.New(`".." leads above the root`)
	errDots      = errors.New("dots before a semicolon are not allowed")
	errBackslash = errors.New("a backslash is not allowed")
	errControl   = errors.New("a control byte is not allowed")
	errLongPath  = fmt.Errorf("longer than %d bytes", maxPath)
)

// CleanPath makes a path that is decoded already canonical, or says why it has no canonical form:
// see CanonicalPath.
func CleanPath(s string) (string, error) {
	if ok, err := IsCleanPath(s); ok || err != nil {
		return s, err
	}
	clean := make([]byte, 0, len(s))
	for segment := range strings.SplitSeq(s, "/") {
		switch segment {
		case "", ".":
			continue
		case "..":
			if len(clean) == 0 {
				return "", errAbove
			}
			clean = clean[:max(0, bytes.LastIndexByte(clean, '/'))]
			continue
		}
		if len(clean) > 0 {
			clean = append(clean, '/')
		}
		clean = append(clean, segment...)
	}
	return string(clean), nil
}

// IsCleanPath reports whether a decoded path is canonical as it stands; an error says that it has
// no canonical form, and CleanPath may still find one. It looks at every byte once, because it runs
// for each file of an index.
func IsCleanPath[T string | []byte](s T) (bool, error) {
	if len(s) > maxPath {
		return false, errLongPath
	}
	clean := true
	start := 0 // of the current segment
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '/' {
			switch c := s[i]; {
			case c < ' ' || c == 0x7f:
				return false, errControl
			case c == '\\':
				return false, errBackslash
			}
			continue
		}
		switch n := i - start; {
		case n == 0:
			clean = clean && len(s) == 0
		case s[start] != '.':
		case n == 1, n == 2 && s[start+1] == '.':
			clean = false
		case s[start+1] == ';', n > 2 && s[start+1] == '.' && s[start+2] == ';':
			return false, errDots
		}
		start = i + 1
	}
	return clean, nil
}

// EscapePath is the reverse of CanonicalPath, in the spelling that apt sends. apt
// (URIEncode, apt-pkg/acquire.cc) encodes '+', '~' and the space, and anything
// unprintable, with lower-case digits; '+' because some object stores take it for
// a space. Everything else that RFC 3986 does not allow in a path is encoded too.
func EscapePath(path string) string {
	plain := 0
	for i := 0; i < len(path); i++ {
		if sentPlain[path[i]] {
			plain++
		}
	}
	if plain == len(path) {
		return path
	}
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 3*len(path)-2*plain)
	for i := 0; i < len(path); i++ {
		c := path[i]
		if sentPlain[c] {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

// sentPlain holds RFC 3986's pchar and '/', less the two that apt encodes.
var sentPlain = func() (t [256]bool) {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + "-._" + "!$&'()*,;=" + ":@/"
	for i := range len(allowed) {
		t[allowed[i]] = true
	}
	return t
}()

// hexValue returns the value of a hexadecimal digit, and more than 15 for any other byte.
func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
