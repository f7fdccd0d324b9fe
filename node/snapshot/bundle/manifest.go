package bundle

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Head says which snapshot a bundle is of. Two bundles with one Head may be written into one directory, one after the other.
type Head struct {
	// Name is what the snapshot is called where it was exported.
	Name  string    `json:"name"`
	Taken time.Time `json:"taken"`
	// Record is the text of its record.
	Record []byte `json:"record"`
	// Since names what the receiver has already; "" for nothing.
	Since string `json:"since,omitempty"`
}

// File is a file that the snapshot has.
type File struct {
	Kind    string       `json:"kind"` // root, index or package; in this order
	Archive string       `json:"archive"`
	Path    string       `json:"path"` // below the archive's root
	SHA256  proto.Digest `json:"sha256,omitzero"`
	Size    int64        `json:"size"`
	// Omitted says that the receiver should have it already: it is not in the bundle.
	Omitted bool `json:"omitted,omitempty"`
	// Missing says why it could not be had when the bundle was written; then it is not required.
	Missing string `json:"missing,omitempty"`
}

// Ref is its content.
func (f *File) Ref() proto.Ref { return proto.Ref{Digest: f.SHA256, Size: f.Size} }

// Manifest is what a bundle consists of.
type Manifest struct {
	Head
	Files []File
}

// version is the version of the format of a bundle.
const version = 1

// first and last are the first and the last line of a manifest. Between them each line is a File.
type first struct {
	Version int `json:"aptmesh_bundle"`
	Head
}

type last struct {
	Files *int `json:"files"`
	// Sum is the SHA-256 of all lines before.
	Sum proto.Digest `json:"sha256_of_the_above"`
}

// Bounds of a manifest. A record has 2 MiB at most, a path on a disk 4 KiB.
const (
	maxLine  = 4 << 20
	maxFiles = 5_000_000
	maxSize  = 1 << 44 // of one file, in bytes
)

// write writes a manifest.
func (m *Manifest) write(w io.Writer) error {
	sum := sha256.New()
	both := json.NewEncoder(io.MultiWriter(w, sum))
	if err := both.Encode(first{version, m.Head}); err != nil {
		return err
	}
	for i := range m.Files {
		if err := both.Encode(&m.Files[i]); err != nil {
			return err
		}
	}
	n := len(m.Files)
	return json.NewEncoder(w).Encode(last{&n, proto.Digest(sum.Sum(nil))})
}

// readManifest reads a manifest, whoever wrote it. What it says makes sense then; nothing of it is proven.
func readManifest(r io.Reader) (*Manifest, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	sum := sha256.New()
	var m Manifest
	if !lines.Scan() {
		return nil, cmpErr(lines.Err(), "it is empty")
	}
	var head first
	if err := strictly(lines.Bytes(), &head); err != nil {
		return nil, fmt.Errorf("its first line is not that of a manifest: %w", err)
	}
	if head.Version != version {
		return nil, fmt.Errorf("it is of version %d, and this program reads version %d: use the version of aptmesh that wrote it", head.Version, version)
	}
	m.Head = head.Head
	hashLine(sum, lines.Bytes())
	kinds := map[string]int{"root": 1, "index": 2, "package": 3}
	now := 1
	for lines.Scan() {
		text := lines.Bytes()
		if bytes.HasPrefix(text, []byte(`{"files":`)) {
			return &m, ends(lines, &m, text, proto.Digest(sum.Sum(nil)))
		}
		hashLine(sum, text)
		var f File
		if err := strictly(text, &f); err != nil {
			return nil, fmt.Errorf("line %d cannot be read: %w", len(m.Files)+2, err)
		}
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(m.Files)+2, err)
		}
		if kinds[f.Kind] < now {
			return nil, fmt.Errorf("line %d: a file of the kind %.20q stands behind others that need it", len(m.Files)+2, f.Kind)
		}
		now = kinds[f.Kind]
		if m.Files = append(m.Files, f); len(m.Files) > maxFiles {
			return nil, fmt.Errorf("it names more than %d files", maxFiles)
		}
	}
	return nil, cmpErr(lines.Err(), "it ends early: copy it again")
}

func cmpErr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}

func hashLine(sum io.Writer, line []byte) {
	_, _ = sum.Write(line) // a hash takes everything
	_, _ = sum.Write([]byte("\n"))
}

// ends checks the last line.
func ends(lines *bufio.Scanner, m *Manifest, text []byte, sum proto.Digest) error {
	var end last
	if err := strictly(text, &end); err != nil || end.Files == nil {
		return errors.New("its last line cannot be read: copy it again")
	}
	switch {
	case *end.Files != len(m.Files) || end.Sum != sum:
		return errors.New("it was changed or is damaged: copy it again")
	case lines.Scan():
		return errors.New("something stands behind its end")
	}
	return lines.Err()
}

// strictly decodes one JSON value that has no unknown field.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}
	return nil
}

// check says why a file makes no sense.
func (f *File) check() error {
	clean, err := proto.CleanPath(f.Path)
	switch {
	case f.Archive == "" || strings.ContainsFunc(f.Archive, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("%.100q is no name of an archive", f.Archive)
	case err != nil || clean != f.Path || f.Path == "":
		return fmt.Errorf("%.200q is no path of a file in an archive", f.Path)
	case f.Kind != "root" && f.Kind != "index" && f.Kind != "package":
		return fmt.Errorf("%.20q is no kind of a file", f.Kind)
	case f.Missing != "":
		return nil
	case f.SHA256.IsZero():
		return fmt.Errorf("%s has no SHA-256", f.Path)
	case f.Size < 0 || f.Size > maxSize:
		return fmt.Errorf("%s cannot have %d bytes", f.Path, f.Size)
	}
	return nil
}
