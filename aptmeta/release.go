package aptmeta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// MaxRelease bounds the text of a Release in bytes. apt itself stops reading an
// InRelease at 10 MB (apt-pkg/acquire-item.cc).
const MaxRelease = 10 << 20

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
	return hex.EncodeToString(m.sum(t))
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

func (m *Member) sum(t HashType) []byte {
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
	// Date and ValidUntil are UTC, whole seconds; zero where the field is missing.
	Date, ValidUntil time.Time
	Architectures    []string
	Components       []string
	// AcquireByHash says that the archive keeps by-hash names.
	AcquireByHash bool
	// NoSupportForAll says that packages of architecture "all" are listed in each
	// architecture's Packages, so that clients do not ask for binary-all.
	NoSupportForAll bool
	// Members are the files listed, by path.
	Members map[string]Member
}

// ParseRelease reads the text of a Release file: what a signature was checked
// for, not an InRelease with its armour. The lists of the four sums are merged by
// path. Like apt it reads the first stanza only.
//
// It fails on a text above MaxRelease, on a malformed line, date, sum or size, on
// a path that is absolute or leaves the suite's directory, and where two entries
// of one path contradict one another.
func ParseRelease(text []byte) (*Release, error) {
	if len(text) > MaxRelease {
		return nil, fmt.Errorf("release file of %d bytes: larger than %d", len(text), MaxRelease)
	}
	p := releaseParser{release: &Release{Members: make(map[string]Member)}, list: noList}
	number := 0
	for len(text) > 0 {
		var line []byte
		line, text = cutLine(text)
		number++
		line = bytes.TrimRight(line, " \t\r")
		if len(line) == 0 {
			if p.fields > 0 {
				break
			}
			continue
		}
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("release file, line %d: %w", number, err)
		}
	}
	if p.fields == 0 {
		return nil, errors.New("release file: it is empty")
	}
	return p.release, nil
}

// cutLine splits off the first line, without its newline.
func cutLine(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

// noList means that continuation lines belong to no list of sums.
const noList = HashType(255)

type releaseParser struct {
	release *Release
	list    HashType // of the list that continuation lines belong to
	fields  int
}

func (p *releaseParser) line(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		if p.fields == 0 {
			return errors.New("it begins with a continuation line")
		}
		if p.list == noList {
			return nil
		}
		return p.member(line)
	}
	name, value, ok := strings.Cut(string(line), ":")
	if !ok {
		return fmt.Errorf("%.60q is not a field", line)
	}
	p.fields++
	return p.field(name, strings.TrimSpace(value))
}

func (p *releaseParser) field(name, value string) (err error) {
	r := p.release
	p.list = noList
	switch strings.ToLower(name) {
	case "origin":
		r.Origin = value
	case "label":
		r.Label = value
	case "suite":
		r.Suite = value
	case "codename":
		r.Codename = value
	case "version":
		r.Version = value
	case "date":
		r.Date, err = parseDate(name, value)
	case "valid-until":
		r.ValidUntil, err = parseDate(name, value)
	case "architectures":
		r.Architectures = strings.Fields(value)
	case "components":
		r.Components = strings.Fields(value)
	case "acquire-by-hash":
		r.AcquireByHash = isYes(value)
	case "no-support-for-architecture-all":
		r.NoSupportForAll = strings.Contains(value, "Packages")
	case "md5sum":
		p.list = MD5Sum
	case "sha1":
		p.list = SHA1
	case "sha256":
		p.list = SHA256
	case "sha512":
		p.list = SHA512
	}
	return err
}

// isYes reads a boolean as apt does (StringToBool).
func isYes(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "on", "with", "enable", "1":
		return true
	}
	return false
}

// parseDate reads the date of RFC 1123 in UTC, under the names of it that apt
// accepts (RFC1123StrToTime), and numeric zones.
func parseDate(field, value string) (time.Time, error) {
	plain := value
	for _, zone := range []string{" UTC", " GMT", " Z"} {
		if cut, ok := strings.CutSuffix(value, zone); ok {
			plain = cut + " +0000"
		}
	}
	t, err := time.Parse("Mon, _2 Jan 2006 15:04:05 -0700", plain)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %.60q is not a date such as \"Sat, 02 Jan 2021 15:04:05 UTC\"", field, value)
	}
	return t.UTC(), nil
}

// member reads "<hash> <size> <path>".
func (p *releaseParser) member(line []byte) error {
	digits, rest, ok1 := cutSpace(bytes.TrimLeft(line, " \t"))
	sizeText, name, ok2 := cutSpace(rest)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: %.100q is not a sum, a size and a path", p.list, line)
	}
	size, ok := parseSize(sizeText)
	if !ok {
		return fmt.Errorf("%s: %.40q is not the size of %.100q", p.list, sizeText, name)
	}
	path, err := memberPath(string(name))
	if err != nil {
		return fmt.Errorf("%s: path %.100q: %w", p.list, name, err)
	}
	var sum [64]byte
	n := p.list.Size()
	if !decodeHex(sum[:n], digits) {
		return fmt.Errorf("%s: the sum of %q is not %d hexadecimal digits", p.list, path, 2*n)
	}
	return p.add(path, size, sum[:n])
}

func (p *releaseParser) add(path string, size int64, sum []byte) error {
	m, known := p.release.Members[path]
	if known && m.Size != size {
		return fmt.Errorf("%s: %q is listed with %d and with %d bytes", p.list, path, m.Size, size)
	}
	if m.Has(p.list) && !bytes.Equal(m.sum(p.list), sum) {
		return fmt.Errorf("%s: %q is listed with two different sums", p.list, path)
	}
	m.Path, m.Size = path, size
	m.listed |= 1 << p.list
	copy(m.sum(p.list), sum)
	p.release.Members[path] = m
	return nil
}

// memberPath canonicalises a path that is relative to the suite's directory.
func memberPath(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return "", errors.New("it is absolute")
	}
	path, err := cleanPath(name)
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
