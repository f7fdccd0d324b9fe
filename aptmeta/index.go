package aptmeta

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// File is a file that an index lists.
type File struct {
	// Path is canonical and relative to what ParseIndex says of the kind. It is
	// valid until emit returns: copy what must stay.
	Path []byte
	// Size is in bytes, proto.UnknownSize if the index does not say it.
	Size int64
	// SHA256 and SHA512 are zero where the index does not list them.
	SHA256 proto.Digest
	SHA512 proto.SHA512
}

// IndexKind is a format of an index that lists other files.
type IndexKind uint8

// The formats of indices.
const (
	NotAnIndex IndexKind = iota
	Packages
	Sources
	DiffIndex  // <index>.diff/Index, which lists the patches of an index
	SHA256Sums // SHA256SUMS of the installer
)

func (k IndexKind) String() string {
	if int(k) < len(indexNames) {
		return indexNames[k]
	}
	return fmt.Sprintf("index kind %d", uint8(k))
}

var indexNames = [...]string{"no index", "Packages", "Sources", "diff Index", "SHA256SUMS"}

// IndexKindOf returns the format of a member of a suite, by its path with or without the
// suffix of a compression.
func IndexKindOf(memberPath string) IndexKind {
	base, _ := plain.TrimCompression(memberPath)
	dir, name := splitDir(base)
	switch {
	case name == "Packages":
		return Packages
	case name == "Sources":
		return Sources
	case name == "Index" && strings.HasSuffix(dir, ".diff"):
		return DiffIndex
	case name == "SHA256SUMS":
		return SHA256Sums
	}
	return NotAnIndex
}

// Limits bound what is read of one index. A field that is 0 stands for DefaultLimits'.
type Limits struct {
	Rows  int64 // files that the index lists, duplicates included
	Bytes int64 // plain bytes
}

// DefaultLimits are far above what archives publish (Debian's main has 70,000 rows and 60 MB for
// an architecture), and low enough for a row that takes a hundred bytes of a caller's memory.
var DefaultLimits = Limits{Rows: 5_000_000, Bytes: 2 << 30}

// ErrTooManyRows means that an index lists more files than Limits allow. The index itself is not
// wrong: a caller may go on, and take for unlisted what the index lists.
var ErrTooManyRows = errors.New("the index lists more files than allowed")

func (l Limits) withDefaults() Limits {
	if l.Rows == 0 {
		l.Rows = DefaultLimits.Rows
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	return l
}

// ParseIndex is ParseIndexWithin with the default limits.
func ParseIndex(kind IndexKind, memberPath string, r io.Reader, emit func(File) error) error {
	return ParseIndexWithin(Limits{}, kind, memberPath, r, emit)
}

// ParseIndexWithin reads an index, already decompressed, and calls emit for each file that it
// lists. The memberPath is the index's own path relative to its suite.
//
// Paths come relative to the archive's base (proto.Suite.Base) from Packages and Sources, and
// relative to the suite's directory from DiffIndex and SHA256Sums. Of a DiffIndex the compressed
// patches are emitted, from its -Download fields, both those that apt merges and dak's unmerged
// ones.
//
// A file that is listed several times is emitted several times. Files listed with nothing but
// MD5 or SHA-1 are emitted with zero sums: they are listed, but nothing can prove them. The same
// goes for a sum that is malformed. A file whose path has no canonical form (see
// proto.CanonicalPath) is skipped: no client's request could be matched with it.
//
// Memory is bounded, whatever the index holds: at most 1 MiB of a line is kept, and what does
// not fit costs only the field that it belongs to. At most 65,536 files of one stanza are merged
// over its lists; of those beyond, each entry with SHA-256 or SHA-512 is emitted by itself.
// Beyond the limits it fails with ErrTooManyRows or plain.ErrTooLarge. Errors of r and of emit end the
// parse and come back wrapped. What was emitted before an error stays emitted.
func ParseIndexWithin(limits Limits, kind IndexKind, memberPath string, r io.Reader, emit func(File) error) error {
	limits = limits.withDefaults()
	lines := newLineReader(r, limits.Bytes)
	dir, _ := splitDir(memberPath)
	rows := limits.Rows
	counted := func(f File) error {
		if rows--; rows < 0 {
			return fmt.Errorf("%w (%d)", ErrTooManyRows, limits.Rows)
		}
		return emit(f)
	}
	var err error
	switch kind {
	case Packages:
		err = parsePackages(lines, counted)
	case Sources:
		err = parseLists(lines, &sourcesFields, "", counted)
	case DiffIndex:
		err = parseLists(lines, &diffFields, dir, counted)
	case SHA256Sums:
		err = parseSums(lines, dir, counted)
	default:
		err = errors.New("it is not an index that lists files")
	}
	if err != nil {
		return fmt.Errorf("index %s: %w", memberPath, err)
	}
	return nil
}

// parsePackages is the hot loop: a suite's Packages has a million lines, of which
// three or four per stanza matter. It looks at the first byte of each line and
// copies nothing but the file name.
func parsePackages(lines *lineReader, emit func(File) error) error {
	s := packagesStanza{}
	s.reset()
	for {
		line, err := lines.next()
		if err == io.EOF {
			return s.flush(emit)
		}
		if err != nil {
			return err
		}
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			if err := s.flush(emit); err != nil {
				return err
			}
			continue
		}
		// Every other field begins with another letter, and a continuation line
		// with a space.
		if c := line[0] | 0x20; c == 'f' || c == 's' {
			s.field(line)
		}
	}
}

// packagesStanza collects what one stanza of Packages says of its file.
type packagesStanza struct {
	file File
	path []byte // backing of file.Path: the line is gone when the stanza ends
}

func (s *packagesStanza) reset() {
	s.path = s.path[:0]
	s.file = File{Size: proto.UnknownSize}
}

func (s *packagesStanza) field(line []byte) {
	if value, ok := fieldValue(line, "size"); ok {
		if n, ok := parseSize(value); ok {
			s.file.Size = n
		}
	} else if value, ok := fieldValue(line, "sha256"); ok {
		setSum(s.file.SHA256[:], value)
	} else if value, ok := fieldValue(line, "filename"); ok {
		s.path = append(s.path[:0], value...)
	} else if value, ok := fieldValue(line, "sha512"); ok {
		setSum(s.file.SHA512[:], value)
	}
}

func (s *packagesStanza) flush(emit func(File) error) error {
	if len(s.path) == 0 {
		s.reset() // a stanza without Filename lists nothing
		return nil
	}
	var err error
	if path, ok := cleanBytes(s.path); ok {
		s.file.Path = path
		err = emit(s.file)
	}
	s.reset()
	return err
}

// cleanBytes is proto.CleanPath for a name from an index, copying only where the name is
// not canonical already.
func cleanBytes(name []byte) ([]byte, bool) {
	clean, err := proto.IsCleanPath(name)
	if err != nil {
		return nil, false
	}
	if clean {
		return name, len(name) > 0
	}
	path, err := proto.CleanPath(string(name))
	return []byte(path), err == nil && path != ""
}

// setSum sets a sum from its digits, or to "not known" where they are malformed.
func setSum(sum, digits []byte) {
	if !decodeHex(sum, digits) {
		clear(sum)
	}
}

// fieldValue returns what stands behind "name:", without spaces around it. The
// name is given in lower case; field names are compared without regard to case
// (Debian Policy 5.1).
func fieldValue(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' {
		return nil, false
	}
	for i := range len(name) {
		c := line[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return nil, false
		}
	}
	return trimSpace(line[len(name)+1:]), true
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }
