package rpm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// maxRecords bounds the records of a repomd.xml, maxOddities what is said of those passed over. The
// most seen is some thirty records.
const (
	maxRecords  = 1000
	maxOddities = 20
)

// record is a <data> element of a repomd.xml.
type record struct {
	kind      string
	href      string
	base      string
	sum       sums
	size      int64
	openSize  int64
	timestamp int64
}

// document is what a repomd.xml says.
type document struct {
	revision string
	records  []record
	// repoID, distro and content are what publishers may write about the repository as a whole.
	repoID, distro, content string
}

// parseRepomd reads a repomd.xml. Elements in any order, and unknown ones, are fine: librepo and
// libzypp pass over them (librepo/repomd.c; createrepo_c/src/xml_parser_repomd.c).
func parseRepomd(text []byte) (*document, error) {
	s := newScanner(bytes.NewReader(text), maxRepomd)
	doc := &document{}
	var r *record // the current one
	whole := false
	for {
		name, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch string(name) {
		case "/repomd":
			whole = true
		case "data":
			if len(doc.records) >= maxRecords {
				return nil, fmt.Errorf("it has more than %d records", maxRecords)
			}
			doc.records = append(doc.records, record{size: proto.UnknownSize, openSize: proto.UnknownSize})
			r = &doc.records[len(doc.records)-1]
			err = s.attributes(func(name, value []byte) {
				if string(name) == "type" {
					r.kind = string(unescape(nil, value))
				}
			})
		case "/data":
			r = nil
		default:
			if r != nil {
				err = r.read(s, string(name))
			} else {
				err = doc.read(s, string(name))
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if !whole {
		return nil, errors.New("it has no end (is it a repomd.xml? is it cut short?)")
	}
	return doc, nil
}

// read takes in an element outside of records.
func (d *document) read(s *scanner, name string) (err error) {
	var text []byte
	switch name {
	case "revision":
		text, err = s.text()
		d.revision = string(unescape(nil, text))
	case "repoid":
		text, err = s.text()
		d.repoID = string(unescape(nil, text))
	case "content":
		text, err = s.text()
		d.content = string(unescape(nil, text))
	case "distro":
		err = s.attributes(func(name, value []byte) {
			if string(name) == "cpeid" {
				d.distro = string(unescape(nil, value))
			}
		})
	}
	return err
}

// read takes in an element of the record.
func (r *record) read(s *scanner, name string) error {
	switch name {
	case "location":
		return s.attributes(func(name, value []byte) {
			switch string(name) {
			case "href":
				r.href = string(unescape(nil, value))
			case "xml:base":
				r.base = string(unescape(nil, value))
			}
		})
	case "checksum":
		return readChecksum(s, &r.sum)
	case "size", "open-size", "timestamp":
		text, err := s.text()
		n, ok := readNumber(text)
		switch {
		case err != nil || !ok:
		case name == "size":
			r.size = n
		case name == "open-size":
			r.openSize = n
		default:
			r.timestamp = n
		}
		return err
	}
	return nil
}

// readNumber reads a whole number; of one with a fraction, as the first createrepo wrote timestamps,
// what stands before the point.
func readNumber(text []byte) (int64, bool) {
	whole, _, _ := bytes.Cut(text, []byte{'.'})
	n, err := strconv.ParseInt(string(whole), 10, 64)
	return n, err == nil && n >= 0
}

// date orders publications: it is the larger of the revision, where that is a time as createrepo_c
// writes it by default, and the newest timestamp of a record. A publisher may set the revision to a
// word or to the same number for ever. What cannot be a time of the past is left out, because a
// client does not look at either. Zero where nothing is left.
func (d *document) date(now time.Time) time.Time {
	newest := int64(0)
	take := func(seconds int64) {
		if seconds >= firstDate && seconds <= now.Unix() {
			newest = max(newest, seconds)
		}
	}
	if n, err := strconv.ParseInt(d.revision, 10, 64); err == nil {
		if n > 100*firstDate { // milliseconds, as some servers write
			n /= 1000
		}
		take(n)
	}
	for _, r := range d.records {
		take(r.timestamp)
	}
	if newest == 0 {
		return time.Time{}
	}
	return time.Unix(newest, 0).UTC()
}

// firstDate is before the first RPM repository of this format: the year 2000.
const firstDate = 946684800

// members are the records as the catalog sees them, and what was passed over. librepo takes the
// record of a type that comes last where there are several, so all are listed. A record may have a
// base of its own; then librepo fetches it from there.
func (f *Format) members(d *document, suite proto.Suite) (list []proto.Member, oddities []string) {
	odd := func(format string, args ...any) {
		if len(oddities) < maxOddities {
			oddities = append(oddities, fmt.Sprintf(format, args...))
		}
	}
	paths, slots := make(map[string]bool), make(map[string]bool)
	for i := range d.records {
		r := &d.records[i]
		base, href := splitURL(r.base, r.href)
		path, err := proto.CleanPath(href)
		known := true
		if base != "" && err == nil {
			path, known = f.roots.within(suite, base, path)
		}
		switch {
		case !known:
			odd("the record %q has a base of its own, %.200q, outside of the repository: hosts fetch it there", r.kind, base)
			continue
		case r.href == "" || err != nil || path == "" || len(r.kind) > maxKind:
			odd("the record %.40q has no location that can be asked for: %.200q", r.kind, r.href)
			continue
		case path == repomd || path == signature || path == publicKey || paths[path]:
			odd("the record %q names %q, which is listed already", r.kind, path)
			continue
		}
		paths[path] = true
		m := f.newMember(suite, r, path)
		for n := 2; slots[m.Slot]; n++ {
			m.Slot = fmt.Sprintf("%s:%d", r.kind, n)
		}
		slots[m.Slot] = true
		if !m.Provable() {
			odd("the record %q has no SHA-256 or SHA-512, so nothing can be verified by it", r.kind)
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b proto.Member) int { return strings.Compare(a.Path, b.Path) })
	return list, oddities
}

// maxKind bounds the name of a record's type.
const maxKind = 100

// newMember makes a member of a record. Its Slot is the type, because file names carry the sum of
// the file and change with every publication.
func (f *Format) newMember(suite proto.Suite, r *record, path string) proto.Member {
	m := proto.Member{
		Path: path, Slot: r.kind, Upstream: []string{path},
		Ref: proto.Ref{Digest: r.sum.sha256, Size: r.size}, SHA512: r.sum.sha512,
		Plain: metadataDir + "/" + plainKind(r.kind), PlainSize: r.openSize, Needed: needed(r.kind),
	}
	if m.Slot == "" {
		m.Slot = path
	}
	for _, k := range []proto.HashKey{
		r.sum.weak,
		{Kind: proto.HashSHA256, Sum: [16]byte(r.sum.sha256[:16])},
		{Kind: proto.HashSHA512, Sum: [16]byte(r.sum.sha512[:16])},
	} {
		if k.Kind != 0 && k.Sum != [16]byte{} {
			m.Keys = append(m.Keys, k)
		}
	}
	if m.Provable() {
		m.Table, m.Packages = f.tableOf(suite, &m)
	}
	return m
}

// plainKind is the type of a record whatever its compression: "primary" of primary_zck.
func plainKind(kind string) string {
	for _, suffix := range []string{"_zck", "_gz", "_xz"} {
		if base, ok := strings.CutSuffix(kind, suffix); ok {
			return base
		}
	}
	return kind
}

// needed says that clients refuse the repository where they want the record and cannot have it.
// librepo fails as a whole where one file is missing, whichever it is; of databases and differences
// publishers are known to list what they do not have, and zypper and dnf go on without them.
func needed(kind string) bool {
	switch plainKind(kind) {
	case "prestodelta", "deltainfo":
		return false
	}
	return !strings.HasSuffix(kind, "_db")
}
