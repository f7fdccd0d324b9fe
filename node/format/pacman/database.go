package pacman

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// maxLine is the longest line of a description that the client reads (sync_db_read in be_sync.c).
const maxLine = 512 << 10

// Bounds of what is read from a database, far above what there is: Arch's largest repository has some
// 15,000 packages and 30 MB without compression, the files of its packages take 400 MB.
const (
	maxPlain    = 4 << 30
	maxPackages = 2_000_000
)

var (
	errCut      = errors.New("it is cut short")
	errLongLine = fmt.Errorf("a line has more than %d bytes", maxLine)
	errMany     = fmt.Errorf("it lists more than %d packages", maxPackages)
)

// compressions by the bytes that they begin with. Clients go by them alone, whatever the name is:
// libarchive does.
var compressions = []struct{ magic, ext string }{
	{"\x1f\x8b", ".gz"}, {"\xfd7zXZ\x00", ".xz"}, {"\x28\xb5\x2f\xfd", ".zst"}, {"BZh", ".bz2"}, {"\x04\x22\x4d\x18", ".lz4"},
}

// openTar begins to read a database. The caller closes it.
func openTar(stored io.Reader) (*tar.Reader, io.ReadCloser, error) {
	r := bufio.NewReader(stored)
	begin, err := r.Peek(8)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	ext := ""
	for _, c := range compressions {
		if strings.HasPrefix(string(begin), c.magic) {
			ext = c.ext
		}
	}
	content, err := plain.Decompress("it"+ext, r, maxPlain)
	if err != nil {
		return nil, nil, err
	}
	return tar.NewReader(content), content, nil
}

// checkDatabase reports whether a database is one at all, and whole: a page in its place, or one that
// was cut short, would leave hosts with a file that they cannot read. Of a list of files only the
// beginning is read, because it is ten times as long and nothing depends on it.
func checkDatabase(suite proto.Suite, data []byte) error {
	if len(data) == 0 {
		return errCut // even a repository without packages has the end of a tar
	}
	if listsPackages(suite) {
		return eachPackage(bytes.NewReader(data), func(*description) error { return nil })
	}
	r, content, err := openTar(bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer content.Close()
	if _, err = r.Next(); err == io.EOF {
		return nil // a repository without packages
	}
	return err
}

// description is what a database says of one package. The slices are valid until the next one.
type description struct {
	entry                                         string // the directory, NAME-VERSION-RELEASE
	filename, name, version, arch, sha256, pgpsig []byte
	base                                          []byte // what it was built from
	size                                          int64
	depends, provides                             []byte // a line each
}

func (d *description) reset(entry string) {
	*d = description{
		entry: entry, size: proto.UnknownSize,
		filename: d.filename[:0], name: d.name[:0], version: d.version[:0], arch: d.arch[:0], sha256: d.sha256[:0], pgpsig: d.pgpsig[:0], base: d.base[:0],
		depends: d.depends[:0], provides: d.provides[:0],
	}
}

// eachPackage reads a database to its end and calls emit for each package. It stops with an error of
// emit. Memory is bounded whatever the bytes are.
func eachPackage(stored io.Reader, emit func(*description) error) error {
	r, content, err := openTar(stored)
	if err != nil {
		return err
	}
	defer content.Close()
	var d description
	d.reset("")
	lines := bufio.NewReaderSize(nil, 64<<10)
	var scratch []byte
	packages := 0
	for {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return readError(err)
		}
		// The client takes the directory for the name of the package, and what follows the last slash
		// for the kind of its file (load_pkg_for_entry in be_sync.c).
		entry, _, _ := strings.Cut(header.Name, "/")
		_, file := splitDir(header.Name)
		if header.Typeflag != tar.TypeReg || file != "desc" && file != "depends" {
			continue
		}
		if entry != d.entry {
			if d.entry != "" {
				if err := emit(&d); err != nil {
					return err
				}
			}
			if packages++; packages > maxPackages {
				return errMany
			}
			d.reset(entry)
		}
		lines.Reset(r)
		if scratch, err = d.read(lines, scratch); err != nil {
			return readError(err)
		}
	}
	if d.entry != "" {
		if err := emit(&d); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, content) // the checksum of the compression comes last
	return err
}

// readError says of a tar that ends too soon what it is.
func readError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// read reads one file of a description: the name of a field between percent signs, then its lines, then
// an empty line. Fields that nobody here needs are passed over.
func (d *description) read(r *bufio.Reader, scratch []byte) ([]byte, error) {
	var into *[]byte // where the lines of the field go; nil for nowhere
	var number, list bool
	for {
		line, err := readLine(r, &scratch)
		if err == io.EOF {
			return scratch, nil
		}
		if err != nil {
			return scratch, err
		}
		switch {
		case len(line) == 0:
			into, number, list = nil, false, false
		case line[0] == '%':
			into, number, list = nil, false, false
			switch string(line) {
			case "%FILENAME%":
				into = &d.filename
			case "%NAME%":
				into = &d.name
			case "%VERSION%":
				into = &d.version
			case "%ARCH%":
				into = &d.arch
			case "%BASE%":
				into = &d.base
			case "%SHA256SUM%":
				into = &d.sha256
			case "%PGPSIG%":
				into = &d.pgpsig
			case "%CSIZE%":
				number = true
			case "%DEPENDS%":
				into, list = &d.depends, true
			case "%PROVIDES%":
				into, list = &d.provides, true
			}
			if into != nil && !list {
				*into = (*into)[:0] // the last one counts
			}
		case number:
			if n, err := strconv.ParseInt(string(line), 10, 64); err == nil && n >= 0 {
				d.size = n
			}
			number = false
		case list:
			if len(*into)+len(line) < maxLine {
				*into = append(append(*into, line...), '\n')
			}
		case into != nil:
			*into = append(*into, line...)
			into = nil
		}
	}
}

// readLine reads a line without what ends it. It is valid until the next call.
func readLine(r *bufio.Reader, scratch *[]byte) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		*scratch = append((*scratch)[:0], line...)
		for err == bufio.ErrBufferFull {
			line, err = r.ReadSlice('\n')
			if *scratch = append(*scratch, line...); len(*scratch) > maxLine {
				return nil, errLongLine
			}
		}
		line = *scratch
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// file is the package's file; false where the client would not take its name (_alpm_validate_filename
// in util.c).
func (d *description) file(dir string) (f proto.File, ok bool) {
	name := d.filename
	if len(name) == 0 || name[0] == '.' || bytes.ContainsFunc(name, func(r rune) bool { return r == '/' || r == '\\' || r < ' ' || r == 0x7f }) {
		return f, false
	}
	f = proto.File{Path: []byte(join(dir, string(name))), Size: d.size}
	if len(d.sha256) == hex.EncodedLen(len(f.SHA256)) {
		if _, err := hex.Decode(f.SHA256[:], d.sha256); err != nil {
			f.SHA256 = proto.Digest{}
		}
	}
	return f, true
}

// signature is the file with the package's detached signature; false where the database does not have
// its bytes.
func (d *description) signature(pkg proto.File) (f proto.File, ok bool) {
	if len(d.pgpsig) == 0 {
		return f, false
	}
	decoded, err := base64.StdEncoding.AppendDecode(nil, d.pgpsig)
	if err != nil {
		return f, false
	}
	return proto.File{Path: append(pkg.Path, sig...), Size: int64(len(decoded)), SHA256: proto.DigestOf(decoded)}, true
}

// Parse reads a database and emits its packages, each with its signature where that is in the
// database.
func (f *Format) Parse(suite proto.Suite, _ *proto.Member, stored io.Reader, emit func(proto.File) error) error {
	return eachPackage(stored, func(d *description) error {
		file, ok := d.file(suite.Dir)
		if !ok {
			return nil
		}
		if err := emit(file); err != nil {
			return err
		}
		if s, ok := d.signature(file); ok {
			return emit(s)
		}
		return nil
	})
}
