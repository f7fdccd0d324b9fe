package aptmeta

import "strings"

// Dependency is one alternative of a dependency field: a package, and which of its
// versions will do.
type Dependency struct {
	Name string
	// Arch is what stands behind the name's colon: an architecture, "any" or
	// "native"; "" where there is none, which means the architecture of the package
	// that depends.
	Arch string
	// Relation is one of << <= = >= >>, and "" where any version will do; the old
	// "<" and ">" come as what dpkg takes them for, <= and >=.
	Relation, Version string
}

// Dependencies reads a Depends or Pre-Depends field (Debian Policy 7.1): what must
// be there, in order, each as its alternatives, first one first. The strings are
// parts of the field. An alternative that cannot be read is passed over, and so is
// one without any that can: the field is advice to a reader like us, and dpkg judges
// it. Architecture restrictions and build profiles, which only source packages have,
// are read over.
func Dependencies(field string) [][]Dependency {
	var all [][]Dependency
	for group := range strings.SplitSeq(field, ",") {
		var alternatives []Dependency
		for text := range strings.SplitSeq(group, "|") {
			if d, ok := parseDependency(text); ok {
				alternatives = append(alternatives, d)
			}
		}
		if len(alternatives) > 0 {
			all = append(all, alternatives)
		}
	}
	return all
}

// parseDependency reads "name:arch (>= version) [restriction] <profile>".
func parseDependency(text string) (d Dependency, ok bool) {
	const space = " \t\r\n"
	text = strings.Trim(text, space)
	name, rest := text, ""
	if i := strings.IndexAny(text, space+"([<"); i >= 0 {
		name, rest = text[:i], strings.TrimLeft(text[i:], space)
	}
	name, arch, colon := strings.Cut(name, ":")
	if !isPackageName(name) || colon && !isPackageName(arch) {
		return Dependency{}, false
	}
	d = Dependency{Name: name, Arch: arch}
	if version, found := strings.CutPrefix(rest, "("); found {
		version, _, found = strings.Cut(version, ")")
		version = strings.Trim(version, space)
		n := len(version) - len(strings.TrimLeft(version, "<=>"))
		d.Relation, d.Version = relation(version[:n]), strings.TrimLeft(version[n:], space)
		if !found || d.Relation == "" || d.Version == "" || strings.ContainsAny(d.Version, space+"<=>(") {
			return Dependency{}, false
		}
	}
	return d, true
}

func relation(s string) string {
	switch s {
	case "<<", "<=", "=", ">=", ">>":
		return s
	case "<", ">":
		return s + "="
	}
	return ""
}

// isPackageName accepts what Policy 5.6.1 allows, and upper case and "_", which
// packages of third parties have.
func isPackageName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '+' || c == '-' || c == '.' || c == '_'):
		default:
			return false
		}
	}
	return s != ""
}

// Allows reports whether a version will do.
func (d Dependency) Allows(version string) bool {
	if d.Relation == "" {
		return true
	}
	order := CompareVersions(version, d.Version)
	switch d.Relation {
	case "<<":
		return order < 0
	case "<=":
		return order <= 0
	case "=":
		return order == 0
	case ">=":
		return order >= 0
	}
	return order > 0
}

// CompareVersions orders two versions as dpkg does (Debian Policy 5.6.12): negative
// where a is the older one, 0 where they are equal.
func CompareVersions(a, b string) int {
	epochA, a := splitEpoch(a)
	epochB, b := splitEpoch(b)
	if order := compareDigits(epochA, epochB); order != 0 {
		return order
	}
	upstreamA, revisionA := splitRevision(a)
	upstreamB, revisionB := splitRevision(b)
	if order := compareParts(upstreamA, upstreamB); order != 0 {
		return order
	}
	return compareParts(revisionA, revisionB)
}

func splitEpoch(v string) (epoch, rest string) {
	if i := strings.IndexByte(v, ':'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return "", v
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// compareParts takes by turns what is no digit, letter by letter, and numbers.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if order := weight(a) - weight(b); order != 0 {
				return order
			}
			a, b = a[1:], b[1:] // equal and not 0: both have a letter here
		}
		i, j := digits(a), digits(b)
		if order := compareDigits(a[:i], b[:j]); order != 0 {
			return order
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

// weight orders the first byte of s: "~" before the end, the end and a digit before
// letters, letters before everything else.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

// digits counts the digits that s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// compareDigits compares two numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
