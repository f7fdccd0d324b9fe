package aptmeta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// MaxRelease bounds a Release, an InRelease and a Release.gpg in bytes. It is apt's own limit
// (Acquire::MaxReleaseFileSize, apt-pkg/acquire-item.cc).
const MaxRelease = 10_000_000

// Member is a file that a Release lists. Which of the sums are known, Has says.
type Member struct {
	Path   string // relative to the Release, canonical
	Size   int64  // bytes
	SHA256 proto.Digest
	SHA512 proto.SHA512
	SHA1   [20]byte
	MD5    [16]byte

	listed uint8 // bit 1<<HashType for each sum that was listed
}

// Has reports whether the Release lists the member's sum of this type.
func (m Member) Has(t HashType) bool { return m.listed&(1<<t) != 0 }

// Hex returns the sum of this type in lower-case digits, "" where it is not listed.
func (m Member) Hex(t HashType) string {
	if !m.Has(t) {
		return ""
	}
	return hex.EncodeToString(m.Sum(t))
}

// Strongest returns the strongest type listed. It is the one whose by-hash name
// apt asks for (apt-pkg/acquire-item.cc, pkgAcqMetaBase).
func (m Member) Strongest() HashType {
	for _, t := range HashTypes {
		if m.Has(t) {
			return t
		}
	}
	return MD5Sum
}

// Ref returns what proves the member by SHA-256; its Digest is zero where the
// Release does not list that sum.
func (m Member) Ref() proto.Ref { return proto.Ref{Digest: m.SHA256, Size: m.Size} }

// Sum returns the sum of a type, which is the member's own memory; zero bytes where the Release
// does not list it.
func (m *Member) Sum(t HashType) []byte {
	switch t {
	case MD5Sum:
		return m.MD5[:]
	case SHA1:
		return m.SHA1[:]
	case SHA256:
		return m.SHA256[:]
	default:
		return m.SHA512[:]
	}
}

// Release is what a Release file says, as far as a cache cares.
type Release struct {
	Origin, Label, Suite, Codename, Version string
	// Date and ValidUntil are UTC, whole seconds; zero where the field is missing. Date is also
	// zero where apt cannot read it: apt warns and goes on without one.
	Date, ValidUntil time.Time
	Architectures    []string
	// Components are as written, such as "updates/main".
	Components []string
	// AcquireByHash says that the archive keeps by-hash names.
	AcquireByHash bool
	// NoSupportForAll says that packages of architecture "all" are listed in each architecture's
	// Packages, so that clients do not ask for binary-all.
	NoSupportForAll bool
	// Weak says that no member is listed with SHA-256 or SHA-512. apt refuses such a Release
	// unless the host is configured to trust it (allow-weak, trusted).
	Weak bool
	// Members are the files listed, by path.
	Members map[string]Member
	// Oddities say, for logs and people, what was skipped: at most maxOddities texts of at most
	// maxOddity bytes each.
	Oddities []string
}

const (
	// MaxMembers bounds the files of one Release, and so its memory to some 40 MB. Debian's
	// largest has about 6,000. A Release of MaxRelease bytes could list 270,000.
	MaxMembers = 100_000

	maxOddities = 20
	maxOddity   = 300
)

// ParseRelease reads the text of a Release file: what a signature was checked for, not an
// InRelease with its armour. It reads what apt reads (debReleaseIndex::Load,
// apt-pkg/deb/debmetaindex.cc, and see readTagSection), and merges the lists of sums by path.
//
// An odd entry costs only itself and is named in Oddities:
//
//   - A Date that apt cannot read counts as missing, as with apt.
//   - Of contradictory entries of a path, the first counts, in the order SHA512, SHA256, SHA1,
//     MD5Sum, as with apt. An entry that spells the path in its canonical form comes before one
//     that does not, because that is the name apt looks for.
//   - An entry is passed over if it is not a sum, a size and a path, if its sum has the wrong
//     length, or if no request can name its path: an absolute one, one that leaves the suite's
//     directory, a directory. apt itself refuses the whole file for some of these.
//   - Entries beyond MaxMembers are passed over.
//
// It fails where apt refuses the file whatever the host's configuration: above MaxRelease,
// without a field, with lines at the end that are no field, or with a Valid-Until that is not a
// date. It also fails if none of the fields that it knows occurs, as in an HTML page.
func ParseRelease(text []byte) (*Release, error) {
	if len(text) > MaxRelease {
		return nil, fmt.Errorf("release file of %d bytes: larger than %d", len(text), MaxRelease)
	}
	section, err := readTagSection(text)
	if err != nil {
		return nil, fmt.Errorf("release file: %w", err)
	}
	p := releaseParser{section: section, release: &Release{Members: make(map[string]Member)}}
	if err := p.fields(); err != nil {
		return nil, fmt.Errorf("release file: %w", err)
	}
	p.lists()
	if !p.known {
		return nil, errors.New("release file: it has none of the fields of a Release")
	}
	p.finish()
	return p.release, nil
}

// cutLine splits off the first line, without its newline.
func cutLine(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

type releaseParser struct {
	section tagSection
	release *Release
	known   bool // a field of a Release has occurred
	untidy  map[string]bool
	more    int // oddities beyond maxOddities
}

func (p *releaseParser) value(name string) string {
	value, ok := p.section[name]
	p.known = p.known || ok
	return string(value)
}

func (p *releaseParser) fields() error {
	r := p.release
	r.Origin, r.Label, r.Version = p.value("origin"), p.value("label"), p.value("version")
	r.Suite, r.Codename = p.value("suite"), p.value("codename")
	r.Architectures = strings.Fields(p.value("architectures"))
	r.Components = strings.Fields(p.value("components"))
	r.AcquireByHash = isYes(p.value("acquire-by-hash"))
	r.NoSupportForAll = strings.Contains(p.value("no-support-for-architecture-all"), "Packages")
	date := p.value("date")
	switch t, ok := parseDate([]byte(date)); {
	case ok && t.Unix() > 0:
		r.Date = t
	case date == "":
		p.odd("it has no Date")
	default:
		p.odd("the Date %.60q cannot be read; apt reads dates such as \"Sat, 02 Jan 2021 15:04:05 UTC\"", date)
	}
	if until := p.value("valid-until"); until != "" {
		t, ok := parseDate([]byte(until))
		if !ok {
			return fmt.Errorf("its Valid-Until %.60q is not a date such as \"Sat, 02 Jan 2021 15:04:05 UTC\"", until)
		}
		if t.Unix() > 0 { // apt takes anything else for "no end"
			r.ValidUntil = t
		}
	}
	return nil
}

// isYes reads a boolean as apt does (StringToBool, apt-pkg/contrib/strutl.cc).
func isYes(value string) bool {
	if n, err := strconv.ParseInt(value, 0, 32); err == nil {
		return n == 1
	}
	switch strings.ToLower(value) {
	case "yes", "true", "on", "with", "enable":
		return true
	}
	return false
}

// lists reads the lists of sums: first all entries with a tidy path, then the others.
func (p *releaseParser) lists() {
	fields := [...]struct {
		name string
		list HashType
	}{{"sha512", SHA512}, {"sha256", SHA256}, {"sha1", SHA1}, {"md5sum", MD5Sum}}
	var untidy [len(fields)][]byte
	for i, f := range fields {
		value, ok := p.section[f.name]
		p.known = p.known || ok
		for len(value) > 0 {
			var line []byte
			line, value = cutLine(value)
			if !p.entry(f.list, line, false) {
				untidy[i] = append(append(untidy[i], line...), '\n')
			}
		}
	}
	for i, f := range fields {
		for rest := untidy[i]; len(rest) > 0; {
			var line []byte
			line, rest = cutLine(rest)
			p.entry(f.list, line, true)
		}
	}
}

// entry reads "<hash> <size> <path>". It returns false, and has done nothing, where the path is
// not canonical and untidy paths are not wanted yet.
func (p *releaseParser) entry(list HashType, line []byte, untidy bool) bool {
	line = bytes.Trim(line, aptSpace)
	if len(line) == 0 {
		return true
	}
	digits, rest, ok1 := cutSpace(line)
	sizeText, name, ok2 := cutSpace(rest)
	if !ok1 || !ok2 {
		p.odd("%s: %.100q is not a sum, a size and a path", list, line)
		return true
	}
	if clean, err := proto.IsCleanPath(name); err == nil && !clean && !untidy {
		return false
	}
	path, err := memberPath(string(name))
	if err != nil {
		p.odd("%s: path %.100q: %w", list, name, err)
		return true
	}
	size, ok := parseSize(sizeText)
	if !ok {
		p.odd("%s: %.40q is not the size of %.100q", list, sizeText, name)
		return true
	}
	var sum [64]byte
	n := list.Size()
	if !decodeHex(sum[:n], digits) {
		p.odd("%s: the sum of %.100q is not %d hexadecimal digits", list, path, 2*n)
		return true
	}
	p.add(list, path, size, sum[:n], untidy)
	return true
}

func (p *releaseParser) add(list HashType, path string, size int64, sum []byte, untidy bool) {
	m, known := p.release.Members[path]
	switch {
	case !known && len(p.release.Members) >= MaxMembers:
		p.odd("it lists more than %d files", MaxMembers)
		return
	case known && untidy && !p.untidy[path]:
		if m.Size != size || m.Has(list) && !bytes.Equal(m.Sum(list), sum) {
			p.odd("%s: another spelling of %.100q says something else", list, path)
		}
		return
	case known && m.Size != size:
		p.odd("%s: %.100q is listed with %d and with %d bytes", list, path, m.Size, size)
		return
	case m.Has(list):
		if !bytes.Equal(m.Sum(list), sum) {
			p.odd("%s: %.100q is listed with two different sums", list, path)
		}
		return
	}
	if untidy {
		if p.untidy == nil {
			p.untidy = make(map[string]bool)
		}
		p.untidy[path] = true
	}
	m.Path, m.Size = path, size
	m.listed |= 1 << list
	copy(m.Sum(list), sum)
	p.release.Members[path] = m
}

func (p *releaseParser) odd(format string, values ...any) {
	if len(p.release.Oddities) == maxOddities-1 {
		p.more++
		return
	}
	text := fmt.Errorf(format, values...).Error()
	p.release.Oddities = append(p.release.Oddities, strings.ToValidUTF8(text[:min(len(text), maxOddity)], ""))
}

func (p *releaseParser) finish() {
	r := p.release
	r.Weak = true
	for _, m := range r.Members {
		if m.Has(SHA256) || m.Has(SHA512) {
			r.Weak = false
			break
		}
	}
	switch {
	case len(r.Members) == 0:
		p.odd("it lists no files")
	case r.Weak:
		p.odd("it lists no file with SHA-256 or SHA-512")
	}
	if p.more > 0 {
		r.Oddities = append(r.Oddities, fmt.Sprintf("and %d more", p.more))
	}
}

// memberPath canonicalises a path that is relative to the suite's directory.
func memberPath(name string) (string, error) {
	switch {
	case strings.HasPrefix(name, "/"):
		return "", errors.New("it is absolute")
	case strings.HasSuffix(name, "/"):
		return "", errors.New("it names a directory")
	}
	path, err := proto.CleanPath(name)
	if err == nil && path == "" {
		err = errors.New("it names no file")
	}
	return path, err
}

// cutSpace splits at the first run of spaces and tabs.
func cutSpace(b []byte) (before, after []byte, ok bool) {
	i := 0
	for i < len(b) && b[i] != ' ' && b[i] != '\t' {
		i++
	}
	before = b[:i]
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return before, b[i:], len(before) > 0 && i < len(b)
}

// parseSize reads a size in bytes: digits only, and fewer than 19 of them, so that
// it cannot overflow.
func parseSize(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
