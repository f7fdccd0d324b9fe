package rpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// Bounds of one index. The largest repository known lists some 80,000 packages in 250 MB.
const (
	maxPlain = 2 << 30
	maxRows  = 2_000_000
)

// tableOf identifies what an index lists: its bytes, and the directory that its paths begin at,
// because one content may serve two repositories; and the URLs of the archive, because a location may
// begin with one. Each compression has a table of its own: that two
// of them hold the same is said by the open-checksum, which nobody has checked. packages says that
// it lists what clients install.
func (f *Format) tableOf(suite proto.Suite, m *proto.Member) (table string, packages bool) {
	kind := plainKind(m.Slot)
	if kind != "primary" && kind != "prestodelta" {
		return "", false
	}
	sum := m.Ref.Digest[:]
	if m.Ref.IsZero() {
		sum = m.SHA512[:32]
	}
	where := sha256.Sum256([]byte(strings.Join(append([]string{suite.Dir, kind}, f.roots.names()...), "\x00")))
	return hex.EncodeToString(sum) + "-" + hex.EncodeToString(where[:8]), kind == "primary"
}

// Listers goes by what is asked for: a package stands in primary, the difference between two in
// prestodelta. It may lie outside of the repository: Amazon Linux lists ../../../../blobstore/….
func (f *Format) Listers(suite proto.Suite, m *proto.Manifest, path string) [][][]*proto.Member {
	kind := "primary"
	switch {
	case isTree(suite):
		if _, _, inMetadata := cutMetadata(path); inMetadata || isPackage(path) || suite.Dir != "" && !strings.HasPrefix(path, suite.Dir+"/") {
			return nil
		}
		return [][][]*proto.Member{{{&m.Members[0]}}}
	case strings.HasSuffix(path, ".drpm"):
		kind = "prestodelta"
	case !isPackage(path):
		return nil
	}
	var variants []*proto.Member
	for i := range m.Members {
		if member := &m.Members[i]; member.Lists() && plainKind(member.Slot) == kind {
			variants = append(variants, member)
		}
	}
	if len(variants) == 0 {
		return nil
	}
	// The variant without chunks first: what every archive has carries it.
	slices.SortStableFunc(variants, func(a, b *proto.Member) int { return len(a.Slot) - len(b.Slot) })
	return [][][]*proto.Member{{variants}}
}

// Parse reads a primary.xml or a prestodelta.xml as it is stored and emits what it lists. Memory is
// bounded by the buffer of one scanner, and as plain.Decompress says.
func (f *Format) Parse(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(proto.File) error) error {
	if isTree(suite) {
		return parseTree(suite, stored, emit)
	}
	text, err := open(m, stored)
	if err != nil {
		return err
	}
	defer text.Close()
	places := f.newPlaces(suite)
	if plainKind(m.Slot) == "prestodelta" {
		return readDeltas(text, func(d *delta) error {
			return places.each(d.path, func(path []byte) error {
				return emit(proto.File{Path: path, Size: d.size, SHA256: d.sum.sha256, SHA512: d.sum.sha512})
			})
		})
	}
	return readPrimary(text, false, func(e *entry) error {
		if !places.within(e) {
			return emit(proto.File{Outside: joinURL(places.last, e.path), Size: e.size, SHA256: e.sum.sha256, SHA512: e.sum.sha512})
		}
		return places.each(e.path, func(path []byte) error {
			return emit(proto.File{Path: path, Size: e.size, SHA256: e.sum.sha256, SHA512: e.sum.sha512})
		})
	})
}

// open decompresses an index.
func open(m *proto.Member, stored io.Reader) (io.ReadCloser, error) {
	limit := int64(maxPlain)
	if m.PlainSize >= 0 {
		limit = min(limit, m.PlainSize)
	}
	if strings.HasSuffix(m.Path, ".zck") {
		return newZchunk(stored, limit)
	}
	return plain.Decompress(m.Path, stored, limit)
}

// entry is a package as primary.xml lists it. Slices are valid until the next one.
type entry struct {
	path []byte
	base []byte // the URL that path is relative to; empty: that of the repository
	size int64
	sum  sums

	// Where they are asked for:
	name, arch, version []byte // the version with its epoch: E:V-R
	source              []byte // the file's name, NAME-VERSION-RELEASE.src.rpm
	needs, provides     []byte // see readMore
	wishes, group       []byte
	within              list
	provided            int // lines of provides
}

func (e *entry) reset() {
	*e = entry{path: e.path[:0], base: e.base[:0], size: proto.UnknownSize, name: e.name[:0], arch: e.arch[:0], version: e.version[:0], source: e.source[:0], needs: e.needs[:0], provides: e.provides[:0],
		wishes: e.wishes[:0], group: e.group[:0]}
}

var errTooMany = errors.New("it lists more than is allowed")

// readPrimary reads a primary.xml from package to package. Of the many elements of a package it
// looks at those that say what its file is, and with all at those that say what it is and needs.
func readPrimary(r io.Reader, all bool, emit func(*entry) error) error {
	s := newScanner(r, maxPlain)
	var e entry
	inside, whole, rows := false, false, 0
	for {
		name, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch string(name) {
		case "package":
			e.reset()
			inside = true
		case "/package":
			if !inside {
				continue
			}
			inside = false
			if rows++; rows > maxRows {
				return fmt.Errorf("%w: %d packages", errTooMany, maxRows)
			}
			if len(e.path) > 0 {
				err = emit(&e)
			}
		case "/metadata":
			whole = true
		default:
			if inside {
				err = e.read(s, name, all)
			}
		}
		if err != nil {
			return err
		}
	}
	if !whole {
		return fmt.Errorf("%w: it ends within the list", errXML)
	}
	return nil
}

// read takes in an element of a package.
func (e *entry) read(s *scanner, name []byte, all bool) error {
	switch string(name) {
	case "location":
		return s.attributes(func(name, value []byte) {
			switch string(name) {
			case "href":
				e.path = unescape(e.path[:0], value)
			case "xml:base":
				e.base = unescape(e.base[:0], value)
			}
		})
	case "checksum":
		return readChecksum(s, &e.sum)
	case "size":
		return s.attributes(func(name, value []byte) {
			if n, ok := readNumber(value); ok && string(name) == "package" {
				e.size = n
			}
		})
	}
	if !all {
		return nil
	}
	return e.readMore(s, name)
}

// readChecksum reads <checksum type="sha256">…</checksum>.
func readChecksum(s *scanner, into *sums) error {
	var kind [8]byte
	length := 0
	if err := s.attributes(func(name, value []byte) {
		if string(name) == "type" {
			length = copy(kind[:], value)
		}
	}); err != nil {
		return err
	}
	digits, err := s.text()
	into.readSum(kind[:length], digits)
	return err
}

// delta is a package that is made of another one, as prestodelta.xml lists it.
type delta struct {
	path []byte
	size int64
	sum  sums
}

// readDeltas reads a prestodelta.xml: <delta> with <filename>, <size> and <checksum>.
func readDeltas(r io.Reader, emit func(*delta) error) error {
	s := newScanner(r, maxPlain)
	var d delta
	for rows := 0; ; {
		name, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var text []byte
		switch string(name) {
		case "delta":
			d = delta{path: d.path[:0], size: proto.UnknownSize}
		case "filename":
			if text, err = s.text(); err == nil {
				d.path = unescape(d.path[:0], text)
			}
		case "size":
			if text, err = s.text(); err == nil {
				if n, ok := readNumber(text); ok {
					d.size = n
				}
			}
		case "checksum":
			err = readChecksum(s, &d.sum)
		case "/delta":
			if rows++; rows > maxRows {
				return fmt.Errorf("%w: %d deltas", errTooMany, maxRows)
			}
			if len(d.path) > 0 {
				err = emit(&d)
			}
		}
		if err != nil {
			return err
		}
	}
}

// places turns a location as an index gives it into the paths that clients ask for.
type places struct {
	roots roots
	suite []byte // the directory of the repository, with a slash
	base  []byte // the directory that the current location begins at, with a slash
	path  []byte

	// The xml:base that was last looked up: a repository has one, or few.
	last      []byte
	lastDir   []byte
	lastKnown bool
}

func (f *Format) newPlaces(suite proto.Suite) *places {
	p := &places{roots: f.roots, suite: withSlash(suite.Dir)}
	p.base = p.suite
	return p
}

func withSlash(dir string) []byte {
	if dir == "" {
		return nil
	}
	return []byte(dir + "/")
}

// within takes the location of the next package, and reports whether it lies within the archive. A
// location that is a URL has its base in itself (createrepo_c --location-prefix).
func (p *places) within(e *entry) bool {
	base, path := splitURL(e.base, e.path)
	e.path = path
	if len(base) == 0 {
		p.base = p.suite
		return true
	}
	if p.last == nil || !bytes.Equal(base, p.last) {
		dir, ok := p.roots.dir(string(base))
		p.last, p.lastDir, p.lastKnown = bytes.Clone(base), withSlash(dir), ok
	}
	p.base = p.lastDir
	return p.lastKnown
}

// each calls do for each path that a client may ask for; it is valid until do returns. A location
// that has no canonical path within the archive is passed over: nobody can ask for it here.
//
// dnf 4.14, dnf 5 (libdnf5/repo/package_downloader.cpp) and zypper 1.14 escape a location, "%2B" as
// "%252B", so the server sees it as it stands. yum sends what looks escaped as it stands (guess_should_quote
// in urlgrabber/grabber.py), so the server decodes it.
func (p *places) each(location []byte, do func(path []byte) error) error {
	if len(location) == 0 {
		return nil
	}
	if err := p.one(location, do); err != nil {
		return err
	}
	if bytes.IndexByte(location, '%') < 0 {
		return nil
	}
	decoded, err := proto.CanonicalPath(string(p.base) + string(location))
	if err != nil {
		return nil
	}
	return do([]byte(decoded))
}

func (p *places) one(location []byte, do func(path []byte) error) error {
	p.path = append(append(p.path[:0], p.base...), location...)
	clean, err := proto.IsCleanPath(p.path)
	switch {
	case err != nil:
		return nil
	case clean:
		return do(p.path)
	}
	path, err := proto.CleanPath(string(p.path))
	if err != nil || path == "" {
		return nil
	}
	return do([]byte(path))
}
