// Package testrepo is a pacman repository as a value, for tests: databases as repo-add writes them, and
// packages that clients accept. It shares no code with what reads them.
//
// The same value gives the same bytes in every process.
package testrepo

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Repo is a repository: a directory with a database and packages.
type Repo struct {
	// Dir is the directory below the archive's root, Name that of the database.
	Dir, Name string
	// Compression of the databases: "gz" (default), "xz", "zst" or "none".
	Compression string
	Packages    []Package
	// Built is when the database was written.
	Built time.Time
	// Key signs the databases; nil: nobody does. PackageKey signs the packages; nil: nobody does.
	Key, PackageKey *testarchive.Key
	// IncludeSigs puts the signatures of packages into the database, as repo-add before 6.1 did.
	IncludeSigs bool
	// Files adds NAME.files, LongNames NAME.db.tar.gz and NAME.files.tar.gz, which the short names are
	// links to.
	Files, LongNames bool
	// Depends writes what a package needs into a file of its own, as repo-add before 4.1 did.
	Depends bool
	// Flat leaves out the entries for directories, as bsdtar does that is given files.
	Flat bool
}

// Package is one package. Zero fields have values of their own.
type Package struct {
	Name, Version string // Version with the release: "1:2.0-3"
	Arch          string // default "x86_64"
	// Compression of the file: "zst" (default), "xz" or "gz".
	Compression string
	// Size is that of random content, in bytes.
	Size              int
	Depends, Provides []string
	// Filename takes the place of NAME-VERSION-ARCH.pkg.tar.zst in the database.
	Filename string
	// NoSHA256 leaves the sum out.
	NoSHA256 bool
}

// File is the name of the package's file.
func (p Package) File() string {
	return fmt.Sprintf("%s-%s-%s.pkg.tar.%s", p.Name, p.Version, or(p.Arch, "x86_64"), or(p.Compression, "zst"))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Render writes the repository into files, by path below the archive's root.
func (r Repo) Render(into map[string][]byte) {
	var db, files []entry
	for _, p := range r.Packages {
		data := p.render(r.Built)
		into[r.at(p.File())] = data
		var signature []byte
		if r.PackageKey != nil {
			signature = testarchive.BinarySign(data, r.Built, r.PackageKey)
			into[r.at(p.File()+".sig")] = signature
		}
		if !r.IncludeSigs {
			signature = nil
		}
		dir := p.Name + "-" + p.Version
		desc, depends := p.describe(data, signature, r.Built)
		described := []entry{{dir + "/", nil}, {dir + "/desc", desc + depends}}
		if r.Depends {
			described = []entry{{dir + "/", nil}, {dir + "/desc", desc}, {dir + "/depends", depends}}
		}
		if r.Flat {
			described = described[1:]
		}
		db = append(db, described...)
		files = append(append(files, described...), entry{dir + "/files", fmt.Sprintf("%%FILES%%\nusr/\nusr/share/\nusr/share/%s\n\n", p.Name)})
	}
	r.database(into, r.Name+".db", db)
	if r.Files {
		r.database(into, r.Name+".files", files)
	}
}

func (r Repo) at(name string) string {
	if r.Dir == "" {
		return name
	}
	return r.Dir + "/" + name
}

func (r Repo) database(into map[string][]byte, name string, entries []entry) {
	data := compress(or(r.Compression, "gz"), pack(entries, r.Built))
	names := []string{name}
	if r.LongNames {
		names = append(names, name+".tar."+or(r.Compression, "gz"))
	}
	for _, name := range names {
		into[r.at(name)] = data
		if r.Key != nil {
			into[r.at(name)+".sig"] = testarchive.BinarySign(data, r.Built, r.Key)
		}
	}
}

// describe is a package's entry in a database, in the order in which repo-add writes the fields.
func (p Package) describe(data, signature []byte, built time.Time) (desc, depends string) {
	var b strings.Builder
	field := func(name string, values ...string) {
		if len(values) > 0 {
			fmt.Fprintf(&b, "%%%s%%\n%s\n\n", name, strings.Join(values, "\n"))
		}
	}
	sum := sha256.Sum256(data)
	weak := md5.Sum(data)
	field("FILENAME", or(p.Filename, p.File()))
	field("NAME", p.Name)
	field("BASE", p.Name)
	field("VERSION", p.Version)
	field("DESC", "A package for tests")
	field("CSIZE", fmt.Sprint(len(data)))
	field("ISIZE", fmt.Sprint(p.Size))
	field("MD5SUM", hex.EncodeToString(weak[:]))
	if !p.NoSHA256 {
		field("SHA256SUM", hex.EncodeToString(sum[:]))
	}
	if signature != nil {
		field("PGPSIG", base64.StdEncoding.EncodeToString(signature))
	}
	field("URL", "https://example.org")
	field("LICENSE", "MIT")
	field("ARCH", or(p.Arch, "x86_64"))
	field("BUILDDATE", fmt.Sprint(built.Unix()))
	field("PACKAGER", "Nobody <nobody@example.org>")
	desc = b.String()
	b.Reset()
	field("DEPENDS", p.Depends...)
	field("PROVIDES", p.Provides...)
	return desc, b.String()
}

// render is the package's file, as makepkg writes it.
func (p Package) render(built time.Time) []byte {
	info := fmt.Sprintf("pkgname = %s\npkgbase = %s\npkgver = %s\npkgdesc = A package for tests\nurl = https://example.org\nbuilddate = %d\npackager = Nobody <nobody@example.org>\nsize = %d\narch = %s\nlicense = MIT\n",
		p.Name, p.Name, p.Version, built.Unix(), p.Size, or(p.Arch, "x86_64"))
	if len(p.Depends) > 0 {
		info += "depend = " + strings.Join(p.Depends, "\ndepend = ") + "\n"
	}
	if len(p.Provides) > 0 {
		info += "provides = " + strings.Join(p.Provides, "\nprovides = ") + "\n"
	}
	content := make([]byte, p.Size)
	rand.NewChaCha8(sha256.Sum256([]byte(p.File()))).Read(content)
	return compress(or(p.Compression, "zst"), pack([]entry{
		{".PKGINFO", info}, {"usr/", nil}, {"usr/share/", nil}, {"usr/share/" + p.Name, string(content)},
	}, built))
}

// entry is a file of a tar; content nil for a directory.
type entry struct {
	name    string
	content any
}

func pack(entries []entry, built time.Time) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, ModTime: built, Typeflag: tar.TypeDir}
		text, isFile := e.content.(string)
		if isFile {
			h.Mode, h.Typeflag, h.Size = 0o644, tar.TypeReg, int64(len(text))
		}
		must(w.WriteHeader(h))
		_, err := w.Write([]byte(text))
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

func compress(how string, data []byte) []byte {
	if how == "none" {
		return data
	}
	return testarchive.Compress("."+how, data)
}

func must(err error) {
	if err != nil {
		panic("testrepo: " + err.Error())
	}
}
