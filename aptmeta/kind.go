package aptmeta

import (
	"fmt"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/plain"
)

// Kind says what a path of an archive is, as far as the name shows it.
type Kind uint8

// The kinds of paths. Which of them may change under their name matters most:
// roots and indices do, the others do not.
const (
	// KindOther is a path that apt would not ask for by itself.
	KindOther Kind = iota
	// KindRoot is InRelease, Release or Release.gpg of a suite.
	KindRoot
	// KindIndex is any other metadata under its canonical name: Packages, Sources,
	// Translation-*, Contents-*, dep11, cnf, *.diff/Index, the Release of a
	// component, SHA256SUMS, and whatever else lies below dists/.
	KindIndex
	// KindByHash is metadata named by its sum: <dir>/by-hash/<type>/<hex>.
	KindByHash
	// KindPackage is a .deb, .udeb or .ddeb.
	KindPackage
	// KindSource is a part of a source package: .dsc, *.orig.tar.*, *.debian.tar.*,
	// *.diff.gz and their .asc.
	KindSource
	// KindPatch is a patch of an index: <index>.diff/<time>.gz.
	KindPatch
	// KindInstaller is a file of the installer: …/installer-<arch>/<version>/….
	KindInstaller
)

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

var kindNames = [...]string{"other", "root", "index", "by-hash", "package", "source", "patch", "installer"}

// Classify returns the kind of a canonical path.
func Classify(path string) Kind {
	if _, _, ok := SplitRoot(path); ok {
		return KindRoot
	}
	if _, _, _, ok := ParseByHash(path); ok {
		return KindByHash
	}
	dir, name := splitDir(path)
	switch {
	case hasAnySuffix(name, ".deb", ".udeb", ".ddeb"):
		return KindPackage
	case isIndexName(dir, name):
		return KindIndex
	case strings.HasSuffix(dir, ".diff"):
		return KindPatch
	case inInstaller(dir):
		return KindInstaller
	case isSourceName(name):
		return KindSource
	case belowDists(path):
		return KindIndex
	}
	return KindOther
}

// isIndexName knows the canonical names of metadata wherever they lie, so that
// flat repositories are covered.
func isIndexName(dir, name string) bool {
	base, _ := plain.TrimCompression(name)
	switch base {
	case "Packages", "Sources", "Release", "SHA256SUMS", "SHA512SUMS", "SHA1SUMS", "MD5SUMS":
		return true
	case "Index":
		return strings.HasSuffix(dir, ".diff") || lastSegment(dir) == "i18n"
	}
	return hasAnyPrefix(base, "Translation-", "Contents-", "Commands-", "Components-")
}

// isSourceName knows parts of source packages by dpkg's naming, which has an
// underscore before the version. The underscore keeps icons-64x64.tar.gz apart.
func isSourceName(name string) bool {
	name = strings.TrimSuffix(name, ".asc")
	if strings.HasSuffix(name, ".dsc") {
		return true
	}
	if !strings.Contains(name, "_") {
		return false
	}
	base, ext := plain.TrimCompression(name)
	return ext != "" && hasAnySuffix(base, ".tar", ".diff")
}

// inInstaller reports whether dir is that of an installer version or below it.
func inInstaller(dir string) bool {
	i := strings.Index("/"+dir, "/installer-")
	return i >= 0 && strings.Contains(dir[i:], "/")
}

// SplitRoot splits the path of a suite's InRelease, Release or Release.gpg into
// the suite's directory and the name. It refuses the small Release files that lie
// beside the indices of a component (dists/x/main/binary-amd64/Release): those are
// members of a suite like any index.
func SplitRoot(path string) (dir, name string, ok bool) {
	dir, name = splitDir(path)
	switch name {
	case "InRelease", "Release.gpg":
		return dir, name, true
	case "Release":
		last := lastSegment(dir)
		ofComponent := last == "source" || strings.HasPrefix(last, "binary-")
		if ofComponent && belowDists(path) {
			return "", "", false
		}
		return dir, name, true
	}
	return "", "", false
}

// maxSuiteDepth bounds how many directories deep a suite may lie below dists/.
const maxSuiteDepth = 8

// GuessSuiteDirs names the directories that may hold the Release which lists a
// path, most likely first. Below dists/ the name of a suite has one segment as a
// rule and sometimes more ("jessie/updates"), so the shortest comes first. In a
// flat repository it is the directory of the file. A pool path does not show its suite, and
// the result is nil.
func GuessSuiteDirs(path string) []string {
	dir, _ := splitDir(path)
	if !belowDists(path) {
		return guessFlat(path, dir)
	}
	start := 0
	if !strings.HasPrefix(path, "dists/") {
		start = strings.Index(path, "/dists/") + 1
	}
	start += len("dists/")
	if start > len(dir) {
		return nil
	}
	segments := strings.Split(dir[start:], "/")
	depth := suiteDepth(segments)
	guesses := make([]string, 0, depth)
	end := start - 1
	for _, segment := range segments[:depth] {
		end += 1 + len(segment)
		guesses = append(guesses, dir[:end])
	}
	return guesses
}

func guessFlat(path, dir string) []string {
	switch Classify(path) {
	case KindIndex, KindPatch:
		if strings.HasSuffix(dir, ".diff") {
			dir, _ = splitDir(dir)
		}
		return []string{dir}
	case KindByHash:
		dir, _, _, _ = ParseByHash(path)
		if strings.HasSuffix(dir, ".diff") {
			dir, _ = splitDir(dir)
		}
		return []string{dir}
	}
	return nil
}

// suiteDepth says how many of the segments below dists/ can belong to the name of
// the suite: those before the first directory that only occurs inside a suite,
// less the component that precedes it.
func suiteDepth(segments []string) int {
	depth := len(segments)
	for i, s := range segments {
		if s == "by-hash" {
			depth = i // the suite or a component may have its own
			break
		}
		inside := s == "source" || s == "i18n" || s == "dep11" || s == "cnf" || s == "debian-installer" ||
			strings.HasSuffix(s, ".diff") || hasAnyPrefix(s, "binary-", "installer-")
		if inside && i > 0 {
			depth = i - 1
			break
		}
	}
	return min(max(depth, 1), maxSuiteDepth, len(segments))
}

// HashType is one of the four sums by which a Release lists its files, weakest
// first.
type HashType uint8

// The hash types. Their names in by-hash directories and Release fields differ
// only for MD5: both say "MD5Sum".
const (
	MD5Sum HashType = iota
	SHA1
	SHA256
	SHA512
)

// HashTypes lists the types in the order in which apt prefers them.
var HashTypes = [...]HashType{SHA512, SHA256, SHA1, MD5Sum}

var hashNames = [...]string{"MD5Sum", "SHA1", "SHA256", "SHA512"}
var hashSizes = [...]int{16, 20, 32, 64}

// String returns the name of the by-hash directory, which is also the name of the
// field in a Release.
func (t HashType) String() string {
	if int(t) < len(hashNames) {
		return hashNames[t]
	}
	return fmt.Sprintf("hash type %d", uint8(t))
}

// Size returns the length of the sum in bytes.
func (t HashType) Size() int { return hashSizes[t] }

// ParseByHash splits <dir>/by-hash/<type>/<digits>. Only the first t.Size() bytes of sum are set.
// ok is false where the digits are not those of a sum of the type; they may be of either case.
func ParseByHash(path string) (dir string, t HashType, sum [64]byte, ok bool) {
	rest, digits := splitDir(path)
	rest, typeName := splitDir(rest)
	dir, mark := splitDir(rest)
	if mark != "by-hash" {
		return "", 0, sum, false
	}
	for i, name := range hashNames {
		if name == typeName && decodeHex(sum[:hashSizes[i]], digits) {
			return dir, HashType(i), sum, true
		}
	}
	return "", 0, sum, false
}

// ByHashPath names the by-hash twin of a file: the reverse of ParseByHash.
func ByHashPath(path string, t HashType, hex string) string {
	dir, _ := splitDir(path)
	if dir != "" {
		dir += "/"
	}
	return dir + "by-hash/" + t.String() + "/" + hex
}

// Optional reports whether a suite is of use to clients without this member.
// Packages and Sources are needed; translations, contents, dep11, cnf, diffs, the
// Release of a component and the installer are not, and must not block a suite.
func Optional(memberPath string) bool {
	switch IndexKindOf(memberPath) {
	case Packages, Sources:
		return false
	}
	return true
}

// belowDists reports whether a directory of the path is called dists, which is
// what tells a suite with components from a flat repository (proto.Suite.Flat).
func belowDists(path string) bool {
	return strings.HasPrefix(path, "dists/") || strings.Contains(path, "/dists/")
}

func lastSegment(dir string) string {
	_, name := splitDir(dir)
	return name
}

func hasAnySuffix(s string, suffixes ...string) bool {
	for _, suffix := range suffixes {
		if strings.HasSuffix(s, suffix) {
			return true
		}
	}
	return false
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}
