package aptmeta

import (
	"bytes"
	"io"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// maxListed bounds the files of one stanza of Sources or of one diff Index that are merged
	// over its lists. Debian's largest source packages have some tens, its diff indices some
	// hundreds.
	maxListed = 1 << 16
	// maxNames bounds the names of those files in bytes.
	maxNames = 8 << 20
	// fewListed is up to how many files a name is searched for one by one.
	fewListed = 32
)

// listField is a field whose continuation lines are "<hash> <size> <name>".
type listField struct {
	name string // lower case
	hash HashType
}

// sourcesFields are those of Sources. Files has been MD5's alone from the start;
// newer archives leave it out.
var sourcesFields = []listField{
	{"files", MD5Sum},
	{"checksums-sha1", SHA1},
	{"checksums-sha256", SHA256},
	{"checksums-sha512", SHA512},
}

// diffFields are those of a diff Index that list the patches as they are on the
// server. The X-Unmerged ones are dak's, for clients that merge by themselves.
var diffFields = []listField{
	{"sha1-download", SHA1},
	{"sha256-download", SHA256},
	{"sha512-download", SHA512},
	{"x-unmerged-sha1-download", SHA1},
	{"x-unmerged-sha256-download", SHA256},
	{"x-unmerged-sha512-download", SHA512},
}

// parseLists reads stanzas with lists of files, as in Sources and diff indices.
func parseLists(lines *lineReader, fields *[]listField, dir string, emit func(File) error) error {
	s := listStanza{fields: *fields, dir: []byte(dir), fixed: dir != "", emit: emit}
	s.reset()
	for {
		line, err := lines.next()
		if err == io.EOF {
			return s.flush()
		}
		if err != nil {
			return err
		}
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			err = s.flush()
		} else {
			err = s.line(line)
		}
		if err != nil {
			return err
		}
	}
}

// listStanza collects the files of one stanza. Its slices are used again for the
// next one.
type listStanza struct {
	fields []listField
	dir    []byte // of an index that has no Directory field
	fixed  bool   // dir is the directory, whatever the stanza says
	emit   func(File) error

	directory []byte // of the Directory field
	located   bool   // the Directory field has come
	current   int    // index in fields of the list being read, or -1
	position  int    // in that list
	files     []listedFile
	index     map[string]int // place in files by name, where there are many
	names     []byte         // backing of all names
	path      []byte         // scratch
}

type listedFile struct {
	start, end int // of the name in listStanza.names
	file       File
}

func (s *listStanza) reset() {
	s.directory = append(s.directory[:0], s.dir...)
	s.located = s.fixed
	s.current = -1
	s.files = s.files[:0]
	s.names = s.names[:0]
	s.index = nil
}

func (s *listStanza) line(line []byte) error {
	if isSpace(line[0]) {
		if s.current < 0 {
			return nil
		}
		return s.listed(line)
	}
	s.current, s.position = -1, 0
	switch line[0] | 0x20 {
	case 'c', 'd', 'f', 's', 'x':
	default:
		return nil
	}
	if value, ok := fieldValue(line, "directory"); ok {
		s.directory = append(s.directory[:0], value...)
		s.located = true
		return nil
	}
	for i := range s.fields {
		if value, ok := fieldValue(line, s.fields[i].name); ok {
			s.current = i
			if len(value) > 0 {
				return s.listed(value) // the first entry may stand behind the colon
			}
			return nil
		}
	}
	return nil
}

func (s *listStanza) listed(line []byte) error {
	digits, rest, ok := cutSpace(trimSpace(line))
	if !ok {
		return nil
	}
	sizeText, name, ok := cutSpace(rest)
	if !ok {
		return nil
	}
	f := s.find(name)
	alone := File{Size: proto.UnknownSize}
	merged := f != nil
	if !merged {
		f = &alone
	}
	if n, ok := parseSize(sizeText); ok {
		f.Size = n
	}
	switch s.fields[s.current].hash {
	case SHA256:
		setSum(f.SHA256[:], digits)
	case SHA512:
		setSum(f.SHA512[:], digits)
	default:
		return nil
	}
	if merged || !s.located {
		return nil // without a Directory so far, nobody knows where the file is
	}
	return s.emitFile(name, f)
}

// find returns the entry of a name, a new one where there is none, nil where there are too many.
// The lists of one stanza name the same files in the same order, so the place is a good guess.
func (s *listStanza) find(name []byte) *File {
	at := s.position
	s.position++
	if at < len(s.files) && s.named(at, name) {
		return &s.files[at].file
	}
	if s.index != nil {
		if i, ok := s.index[string(name)]; ok {
			return &s.files[i].file
		}
	} else {
		for i := range s.files {
			if s.named(i, name) {
				return &s.files[i].file
			}
		}
	}
	if len(s.files) >= maxListed || len(s.names)+len(name) > maxNames {
		return nil
	}
	start := len(s.names)
	s.names = append(s.names, name...)
	s.files = append(s.files, listedFile{start, len(s.names), File{Size: proto.UnknownSize}})
	s.remember()
	return &s.files[len(s.files)-1].file
}

// remember makes the last file findable by its name where there are many.
func (s *listStanza) remember() {
	if s.index == nil && len(s.files) <= fewListed {
		return
	}
	first := len(s.files) - 1
	if s.index == nil {
		s.index, first = make(map[string]int), 0
	}
	for i := first; i < len(s.files); i++ {
		s.index[string(s.names[s.files[i].start:s.files[i].end])] = i
	}
}

func (s *listStanza) named(i int, name []byte) bool {
	return bytes.Equal(s.names[s.files[i].start:s.files[i].end], name)
}

func (s *listStanza) flush() error {
	for i := range s.files {
		f := &s.files[i]
		if err := s.emitFile(s.names[f.start:f.end], &f.file); err != nil {
			return err
		}
	}
	s.reset()
	return nil
}

// emitFile emits a file unless its path has no canonical form.
func (s *listStanza) emitFile(name []byte, f *File) error {
	s.path = joinPath(s.path[:0], s.directory, name)
	path, ok := cleanBytes(s.path)
	if !ok {
		return nil
	}
	f.Path = path
	return s.emit(*f)
}

func joinPath(dst, dir, name []byte) []byte {
	if len(dir) > 0 {
		dst = append(append(dst, dir...), '/')
	}
	return append(dst, name...)
}

// parseSums reads the output of sha256sum: "<hex>  <name>" or "<hex> *<name>".
func parseSums(lines *lineReader, dir string, emit func(File) error) error {
	var path []byte
	for {
		line, err := lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		digits, name, ok := cutSpace(trimSpace(line))
		if !ok {
			continue
		}
		if name[0] == '*' {
			name = name[1:]
		}
		f := File{Size: proto.UnknownSize}
		if !decodeHex(f.SHA256[:], digits) {
			continue
		}
		path = joinPath(path[:0], []byte(dir), name)
		if f.Path, ok = cleanBytes(path); !ok {
			continue
		}
		if err := emit(f); err != nil {
			return err
		}
	}
}
