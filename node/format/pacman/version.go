package pacman

import (
	"cmp"
	"strings"
)

// compare orders two versions, [EPOCH:]VERSION[-RELEASE], as alpm_pkg_vercmp in version.c does. The
// releases count where both have one.
func compare(a, b string) int {
	if a == b {
		return 0
	}
	epochA, versionA, releaseA := cut(a)
	epochB, versionB, releaseB := cut(b)
	order := cmp.Or(compareParts(epochA, epochB), compareParts(versionA, versionB))
	if order == 0 && releaseA != "" && releaseB != "" {
		order = compareParts(releaseA, releaseB)
	}
	return order
}

func cut(s string) (epoch, version, release string) {
	digits := 0
	for digits < len(s) && isDigit(s[digits]) {
		digits++
	}
	epoch = "0"
	if digits < len(s) && s[digits] == ':' {
		if digits > 0 {
			epoch = s[:digits]
		}
		s = s[digits+1:]
	}
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		return epoch, s[:i], s[i+1:]
	}
	return epoch, s, ""
}

// compareParts is rpmvercmp in version.c: runs of digits and runs of letters are compared one by one.
func compareParts(a, b string) int {
	if a == b {
		return 0
	}
	for a != "" && b != "" {
		restA, restB := strings.TrimLeftFunc(a, isSeparator), strings.TrimLeftFunc(b, isSeparator)
		if restA == "" || restB == "" {
			a, b = restA, restB
			break
		}
		if skippedA, skippedB := len(a)-len(restA), len(b)-len(restB); skippedA != skippedB {
			return cmp.Compare(skippedA, skippedB)
		}
		kind, digits := isLetter, false
		if isDigit(restA[0]) {
			kind, digits = isDigit, true
		}
		partA, partB := run(restA, kind), run(restB, kind)
		a, b = restA[len(partA):], restB[len(partB):]
		switch {
		case partB == "" && digits:
			return 1 // digits are newer than letters
		case partB == "":
			return -1
		}
		if digits {
			partA, partB = strings.TrimLeft(partA, "0"), strings.TrimLeft(partB, "0")
			if len(partA) != len(partB) {
				return cmp.Compare(len(partA), len(partB))
			}
		}
		if order := strings.Compare(partA, partB); order != 0 {
			return order
		}
	}
	switch {
	case a == "" && b == "":
		return 0
	case a == "" && !isLetter(b[0]), a != "" && isLetter(a[0]):
		return -1 // letters that are left do not beat the end: 1.0rc is before 1.0
	}
	return 1
}

func run(s string, kind func(byte) bool) string {
	n := 0
	for n < len(s) && kind(s[n]) {
		n++
	}
	return s[:n]
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isSeparator(r rune) bool { return r > 0x7f || !isDigit(byte(r)) && !isLetter(byte(r)) }
