package aptmeta

import (
	"fmt"
	"io"
)

// Stanza is what a Packages index says of one package: what a client goes by when
// it decides what to ask for. All slices are valid until emit returns: copy what
// must stay.
type Stanza struct {
	// File is the package's file; its Path is relative to the archive's base.
	File
	// Package, Version and Architecture are as written; empty where they are
	// missing.
	Package, Version, Architecture []byte
	// PreDepends and Depends are for Dependencies to read. A folded field has come
	// back as one line.
	PreDepends, Depends []byte
	// Source names the source package, with its version behind it where that is another one (Debian
	// Policy 5.6.1). Phased is the percentage of hosts that may install the package, where its
	// publisher restricts that (Phased-Update-Percentage, of Ubuntu's updates).
	Source, Phased []byte
	// Provides and Recommends are for Dependencies to read as well. Section and Priority are as written.
	Provides, Recommends, Section, Priority []byte
}

// ParseStanzas reads a Packages index, already decompressed, and calls emit for each
// stanza that lists a file, with the same *Stanza every time. What it skips and how
// it is bounded is as ParseIndex says; it takes about twice as long, because it
// looks at more lines. Of a field of more than 1 MiB the beginning is kept.
func ParseStanzas(memberPath string, r io.Reader, emit func(*Stanza) error) error {
	return ParseStanzasWithin(Limits{}, memberPath, r, emit)
}

// ParseStanzasWithin is ParseStanzas with other limits than the default ones.
func ParseStanzasWithin(limits Limits, memberPath string, r io.Reader, emit func(*Stanza) error) error {
	if err := parseStanzas(limits.withDefaults(), r, emit); err != nil {
		return fmt.Errorf("index %s: %w", memberPath, err)
	}
	return nil
}

func parseStanzas(limits Limits, r io.Reader, emit func(*Stanza) error) error {
	lines, rows := newLineReader(r, limits.Bytes), limits.Rows
	s := stanzaReader{}
	s.file.reset()
	s.emit = func(f File) error {
		if rows--; rows < 0 {
			return fmt.Errorf("%w (%d)", ErrTooManyRows, limits.Rows)
		}
		s.stanza.File = f
		return emit(&s.stanza)
	}
	for {
		line, err := lines.next()
		if err == io.EOF {
			return s.flush()
		}
		if err != nil {
			return err
		}
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			if err := s.flush(); err != nil {
				return err
			}
			continue
		}
		s.line(line)
	}
}

// stanzaReader collects one stanza. Its slices are used again for the next one.
type stanzaReader struct {
	file   packagesStanza
	stanza Stanza
	folded *[]byte // the field that a continuation line belongs to; nil: none of ours
	emit   func(File) error
}

func (s *stanzaReader) line(line []byte) {
	if isSpace(line[0]) {
		if s.folded != nil && len(*s.folded)+len(line) < maxLine {
			*s.folded = append(append(*s.folded, ' '), trimSpace(line)...)
		}
		return
	}
	s.folded = nil
	switch line[0] | 0x20 {
	case 'f', 's':
		s.file.field(line)
		s.take(line, "source", &s.stanza.Source)
		s.take(line, "section", &s.stanza.Section)
	case 'p':
		s.take(line, "phased-update-percentage", &s.stanza.Phased)
		s.take(line, "package", &s.stanza.Package)
		s.take(line, "priority", &s.stanza.Priority)
		s.fold(line, "pre-depends", &s.stanza.PreDepends)
		s.fold(line, "provides", &s.stanza.Provides)
	case 'r':
		s.fold(line, "recommends", &s.stanza.Recommends)
	case 'd':
		s.fold(line, "depends", &s.stanza.Depends)
	case 'v':
		s.take(line, "version", &s.stanza.Version)
	case 'a':
		s.take(line, "architecture", &s.stanza.Architecture)
	}
}

// take keeps a value that is one line long. The line itself is gone when the stanza
// ends.
func (s *stanzaReader) take(line []byte, name string, field *[]byte) (ok bool) {
	value, ok := fieldValue(line, name)
	if ok {
		*field = append((*field)[:0], value...)
	}
	return ok
}

// fold keeps a value that may go on in the next lines (Debian Policy 5.1).
func (s *stanzaReader) fold(line []byte, name string, field *[]byte) {
	if s.take(line, name, field) {
		s.folded = field
	}
}

func (s *stanzaReader) flush() error {
	err := s.file.flush(s.emit)
	t := &s.stanza
	for _, field := range []*[]byte{&t.Package, &t.Version, &t.Architecture, &t.PreDepends, &t.Depends, &t.Source, &t.Phased, &t.Provides, &t.Recommends, &t.Section, &t.Priority} {
		*field = (*field)[:0]
	}
	s.folded = nil
	return err
}
