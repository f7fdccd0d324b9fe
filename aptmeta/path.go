package aptmeta

import (
	"errors"
	"fmt"
	"strings"
)

// maxPath bounds a path in bytes. File systems stop at 4096, and so do most
// servers.
const maxPath = 4096

// CanonicalPath turns the path of a request, percent-encoded as it came, into the
// form that proto.Location wants: decoded, without a leading or trailing slash,
// without empty or "." segments. Two spellings of one file ("%7e" and "~", "//"
// and "/") give one path; "+" stays "+". The empty path is the archive's root.
//
// "." segments are dropped and not refused because apt itself sends them: for a
// flat repository given as "./" it asks for "/./InRelease", and dpkg-scanpackages
// writes "Filename: ./hello.deb". Refused are "..", a backslash, control bytes
// (NUL among them), a raw "?" or "#", an encoding that is cut short, and paths
// longer than 4096 bytes.
func CanonicalPath(escaped string) (string, error) {
	if len(escaped) > 3*maxPath {
		return "", fmt.Errorf("path of %d bytes: longer than %d", len(escaped), maxPath)
	}
	decoded, err := unescape(escaped)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", escaped, err)
	}
	clean, err := cleanPath(decoded)
	if err != nil {
		return "", fmt.Errorf("path %q: %w", escaped, err)
	}
	return clean, nil
}

func unescape(s string) (string, error) {
	if strings.ContainsAny(s, "?#") {
		return "", errors.New("a query or fragment is not part of a path")
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
		if i+2 >= len(s) || unhex(s[i+1]) > 15 || unhex(s[i+2]) > 15 {
			return "", errors.New("a % is not followed by two hexadecimal digits")
		}
		b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		i += 2
	}
	return b.String(), nil
}

var (
	errDotDot    = errors.New(`".." is not allowed`)
	errBackslash = errors.New("a backslash is not allowed")
	errControl   = errors.New("a control byte is not allowed")
	errLongPath  = fmt.Errorf("longer than %d bytes", maxPath)
)

// cleanPath canonicalises a decoded path: see CanonicalPath.
func cleanPath(s string) (string, error) {
	if ok, err := isClean(s); ok || err != nil {
		return s, err
	}
	var b strings.Builder
	b.Grow(len(s))
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "" || segment == "." {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(segment)
	}
	return b.String(), nil
}

// isClean reports whether s is canonical as it stands; an error says that it
// never can be. It looks at every byte once, for it runs for each file of an
// index.
func isClean[T string | []byte](s T) (bool, error) {
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
		case n == 1 && s[start] == '.':
			clean = false
		case n == 2 && s[start] == '.' && s[start+1] == '.':
			return false, errDotDot
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

// TrimCompression splits a path into the name of the uncompressed file and the
// suffix that names its compression, with the dot; ext is "" where there is none.
// It knows the suffixes apt knows: .gz .xz .bz2 .zst .lzma .lz4.
func TrimCompression(name string) (base, ext string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}
	switch ext = name[i:]; ext {
	case ".gz", ".xz", ".bz2", ".zst", ".lzma", ".lz4":
		return name[:i], ext
	}
	return name, ""
}

// splitDir splits a canonical path into its directory ("" for none) and last name.
func splitDir(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// unhex returns the value of a hexadecimal digit, and more than 15 for any other
// byte.
func unhex(c byte) byte { return hexValue[c] }

var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// decodeHex fills dst from the hexadecimal digits in src, of either case, and
// reports whether src was exactly that.
func decodeHex[T string | []byte](dst []byte, src T) bool {
	if len(src) != 2*len(dst) {
		return false
	}
	var bad byte
	for i := range dst {
		hi, lo := hexValue[src[2*i]], hexValue[src[2*i+1]]
		bad |= hi | lo
		dst[i] = hi<<4 | lo
	}
	return bad <= 15
}
