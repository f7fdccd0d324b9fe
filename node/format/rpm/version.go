package rpm

import (
	"cmp"
	"strings"
)

// evr is a version of a package: epoch, version and release.
type evr struct{ epoch, version, release string }

// splitEVR splits E:V-R. The epoch is 0 where there is none.
func splitEVR(s string) evr {
	v := evr{epoch: "0"}
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		v.epoch, s = epoch, rest
	}
	v.version = s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		v.version, v.release = s[:i], s[i+1:]
	}
	return v
}

func (v evr) compare(o evr) int {
	return cmp.Or(compareVersions(v.epoch, o.epoch), compareVersions(v.version, o.version), compareVersions(v.release, o.release))
}

// compareVersions orders versions, or releases, as rpm does (rpmvercmp in rpmio/rpmvercmp.c): from
// segment to segment of digits or of letters, whatever stands between them. Digits come after
// letters; "~" comes before the end, and "^" after it but before everything else.
func compareVersions(a, b string) int {
	for {
		a, b = trimSeparators(a), trimSeparators(b)
		switch {
		case strings.HasPrefix(a, "~") || strings.HasPrefix(b, "~"):
			if !strings.HasPrefix(a, "~") {
				return 1
			}
			if !strings.HasPrefix(b, "~") {
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		case strings.HasPrefix(a, "^") || strings.HasPrefix(b, "^"):
			switch {
			case a == "":
				return -1
			case b == "":
				return 1
			case a[0] != '^':
				return 1
			case b[0] != '^':
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		case a == "" || b == "":
			return cmp.Compare(len(a), 0) - cmp.Compare(len(b), 0)
		}
		numeric := isDigit(a[0])
		var x, y string
		x, a = cutSegment(a, numeric)
		y, b = cutSegment(b, numeric)
		if y == "" { // of the other kind
			if numeric {
				return 1
			}
			return -1
		}
		if numeric {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return cmp.Compare(len(x), len(y))
			}
		}
		if order := strings.Compare(x, y); order != 0 {
			return order
		}
	}
}

func trimSeparators(s string) string {
	i := 0
	for i < len(s) && !isDigit(s[i]) && !isLetter(s[i]) && s[i] != '~' && s[i] != '^' {
		i++
	}
	return s[i:]
}

func cutSegment(s string, numeric bool) (segment, rest string) {
	i := 0
	for i < len(s) && (numeric && isDigit(s[i]) || !numeric && isLetter(s[i])) {
		i++
	}
	return s[:i], s[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
