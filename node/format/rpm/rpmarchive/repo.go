package rpmarchive

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"html"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Repo is an RPM repository. The zero value of a field is what createrepo_c does.
type Repo struct {
	// Date is the revision, the timestamp of all records, and when it is signed.
	Date time.Time
	// Revision is written in place of the Date.
	Revision string
	// Tags stand behind the revision, as they are.
	Tags string
	// Key signs repomd.xml; nil: nobody does.
	Key *testarchive.Key
	// NoKeyFile leaves out repomd.xml.key.
	NoKeyFile bool
	Packages  []Package
	// Records are the metadata files, in their order; none: primary, filelists and other, as .gz.
	Records []Record
	// PlainNames calls them primary.xml.gz, without their sums.
	PlainNames bool
	// Sum is the kind of all sums: sha256, sha512, sha or md5; "" for sha256.
	Sum string
	// Edit changes the text of a metadata file before it is compressed; it is given the type of the
	// record, "repomd" for repomd.xml. nil: none is changed.
	Edit func(kind, text string) string
}

// Record is a metadata file.
type Record struct {
	// Type is that in repomd.xml. The contents of primary, filelists, other and prestodelta, and of
	// their variants (primary_zck), are made of the packages.
	Type string
	// Ext is how the file is compressed: .gz, .xz, .zst, .zck, or "".
	Ext string
	// Text is the content of any other type.
	Text string
	// Absent lists the file and leaves it out.
	Absent bool
	// Bare writes no sizes and no timestamp, as the first createrepo did.
	Bare bool
}

// Package is a package of the repository.
type Package struct {
	Name, Version, Release, Arch string // "1", "1" and "x86_64" where empty
	Epoch                        string
	// Href is its location; "" for Packages/<letter>/<name>-<version>-<release>.<arch>.rpm.
	Href string
	// At is the path of its file below the repository, where the Href is written in another way.
	At string
	// Base is its xml:base; then it has a file here only if At says where.
	Base string
	Size int // of its file; 0: 2,000 bytes
	// Requires are lines of rpm:entry attributes, such as `name="libx" flags="GE" ver="2"`.
	Requires []string
	// Provides are such lines, beside the package's own; Files are paths that primary.xml has of it, beside
	// its program.
	Provides, Files []string
	// Delta is the path of a file that makes it of an older one; "" for none.
	Delta string
}

func (p Package) withDefaults() Package {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&p.Version, "1")
	set(&p.Release, "1")
	set(&p.Arch, "x86_64")
	set(&p.Epoch, "0")
	set(&p.Href, fmt.Sprintf("Packages/%c/%s-%s-%s.%s.rpm", p.Name[0], p.Name, p.Version, p.Release, p.Arch))
	if p.Base == "" {
		set(&p.At, p.Href)
	}
	if p.Size == 0 {
		p.Size = 2000
	}
	return p
}

// content is the file of a package: the same for the same package.
func content(name string, size int) []byte {
	h := fnv.New64a()
	h.Write([]byte(name))
	var seed [32]byte
	copy(seed[:], h.Sum(nil))
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(data)
	return data
}

func (p Package) content() []byte {
	return content(strings.Join([]string{p.Name, p.Epoch, p.Version, p.Release, p.Arch, p.Href}, "\x00"), p.Size)
}

// Render makes the files of the repository, by path; prefix is the repository's directory with a
// slash behind it, or "".
func (r Repo) Render(prefix string) map[string][]byte {
	if r.Sum == "" {
		r.Sum = "sha256"
	}
	if r.Records == nil {
		r.Records = []Record{{Type: "primary", Ext: ".gz"}, {Type: "filelists", Ext: ".gz"}, {Type: "other", Ext: ".gz"}}
	}
	files := make(map[string][]byte)
	for _, p := range r.Packages {
		p = p.withDefaults()
		if p.At != "" {
			files[prefix+p.At] = p.content()
		}
		if p.Delta != "" {
			files[prefix+p.Delta] = content(p.Delta, 300)
		}
	}
	var data strings.Builder
	for _, rec := range r.Records {
		data.WriteString(r.record(rec, prefix, files))
	}
	revision := r.Revision
	if revision == "" {
		revision = fmt.Sprint(r.Date.Unix())
	}
	root := []byte(r.edit("repomd", `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>`+revision+`</revision>
`+r.Tags+data.String()+"</repomd>\n"))
	files[prefix+"repodata/repomd.xml"] = root
	if r.Key != nil {
		files[prefix+"repodata/repomd.xml.asc"] = testarchive.DetachSign(root, r.Date, r.Key)
		if !r.NoKeyFile {
			files[prefix+"repodata/repomd.xml.key"] = r.Key.Armored()
		}
	}
	return files
}

func (r Repo) edit(kind, text string) string {
	if r.Edit == nil {
		return text
	}
	return r.Edit(kind, text)
}

// record puts a metadata file among the others and returns what repomd.xml says of it.
func (r Repo) record(rec Record, prefix string, files map[string][]byte) string {
	kind := strings.TrimSuffix(rec.Type, "_zck")
	text := []byte(r.edit(kind, r.text(kind, rec)))
	stored := compress(rec.Ext, text)
	name := kind
	if !strings.Contains(name, ".") {
		name += ".xml"
	}
	name += rec.Ext
	if !r.PlainNames {
		name = r.sum(stored) + "-" + name
	}
	if !rec.Absent {
		files[prefix+"repodata/"+name] = stored
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  <data type=%q>\n    <checksum type=%q>%s</checksum>\n", rec.Type, r.Sum, r.sum(stored))
	if rec.Ext != "" {
		fmt.Fprintf(&b, "    <open-checksum type=%q>%s</open-checksum>\n", r.Sum, r.sum(text))
	}
	fmt.Fprintf(&b, "    <location href=\"repodata/%s\"/>\n", name)
	if !rec.Bare {
		fmt.Fprintf(&b, "    <timestamp>%d</timestamp>\n    <size>%d</size>\n    <open-size>%d</open-size>\n", r.Date.Unix(), len(stored), len(text))
	}
	b.WriteString("  </data>\n")
	return b.String()
}

func (r Repo) sum(b []byte) string {
	switch r.Sum {
	case "sha512":
		return testarchive.Sum(testarchive.SHA512, b)
	case "sha", "sha1":
		return testarchive.Sum(testarchive.SHA1, b)
	case "md5":
		return testarchive.Sum(testarchive.MD5Sum, b)
	case "sha384":
		s := sha512.Sum384(b)
		return hex.EncodeToString(s[:])
	case "sha224":
		s := sha256.Sum224(b)
		return hex.EncodeToString(s[:])
	}
	return testarchive.Sum(testarchive.SHA256, b)
}

func compress(ext string, text []byte) []byte {
	if ext == ".zck" {
		return Zchunk(text, []byte("<package type=\"rpm\">"))
	}
	return testarchive.Compress(ext, text)
}

// text makes the content of a metadata file.
func (r Repo) text(kind string, rec Record) string {
	switch kind {
	case "primary":
		return r.primary()
	case "prestodelta":
		return r.prestodelta()
	case "filelists", "other":
		return fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%s packages=\"%d\"/>\n", kind, len(r.Packages))
	}
	return rec.Text
}

func (r Repo) primary() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata xmlns=\"http://linux.duke.edu/metadata/common\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"%d\">\n", len(r.Packages))
	for _, p := range r.Packages {
		p = p.withDefaults()
		data := p.content()
		base := ""
		if p.Base != "" {
			base = fmt.Sprintf(" xml:base=%q", html.EscapeString(p.Base))
		}
		fmt.Fprintf(&b, `<package type="rpm">
  <name>%s</name>
  <arch>%s</arch>
  <version epoch="%s" ver="%s" rel="%s"/>
  <checksum type="%s" pkgid="YES">%s</checksum>
  <summary>It is called %s</summary>
  <description>A &lt;package&gt; &amp; its description.</description>
  <packager></packager>
  <url>https://example.org/</url>
  <time file="%d" build="%d"/>
  <size package="%d" installed="%d" archive="%d"/>
  <location%s href="%s"/>
  <format>
    <rpm:license>MIT</rpm:license>
    <rpm:sourcerpm>%s-%s-%s.src.rpm</rpm:sourcerpm>
    <rpm:header-range start="100" end="200"/>
    <rpm:provides>
      <rpm:entry name="%s" flags="EQ" epoch="%s" ver="%s" rel="%s"/>
`, p.Name, p.Arch, p.Epoch, p.Version, p.Release, r.Sum, r.sum(data), p.Name, r.Date.Unix(), r.Date.Unix(),
			len(data), 3*len(data), 3*len(data), base, html.EscapeString(p.Href), p.Name, p.Version, p.Release, p.Name, p.Epoch, p.Version, p.Release)
		for _, entry := range p.Provides {
			fmt.Fprintf(&b, "      <rpm:entry %s/>\n", entry)
		}
		b.WriteString("    </rpm:provides>\n    <rpm:requires>\n")
		for _, entry := range append([]string{`name="rpmlib(CompressedFileNames)" flags="LE" epoch="0" ver="3.0.4" rel="1" pre="1"`, `name="libc.so.6()(64bit)"`}, p.Requires...) {
			fmt.Fprintf(&b, "      <rpm:entry %s/>\n", entry)
		}
		b.WriteString("    </rpm:requires>\n")
		for _, path := range append([]string{"/usr/bin/" + p.Name}, p.Files...) {
			fmt.Fprintf(&b, "    <file>%s</file>\n", html.EscapeString(path))
		}
		b.WriteString("  </format>\n</package>\n")
	}
	b.WriteString("</metadata>\n")
	return b.String()
}

func (r Repo) prestodelta() string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<prestodelta>\n")
	for _, p := range r.Packages {
		if p = p.withDefaults(); p.Delta == "" {
			continue
		}
		data := content(p.Delta, 300)
		fmt.Fprintf(&b, "  <newpackage name=%q epoch=\"0\" version=%q release=%q arch=%q>\n    <delta oldepoch=\"0\" oldversion=\"0\" oldrelease=\"1\">\n      <filename>%s</filename>\n      <sequence>%s-0-1-abc</sequence>\n      <size>%d</size>\n      <checksum type=%q>%s</checksum>\n    </delta>\n  </newpackage>\n",
			p.Name, p.Version, p.Release, p.Arch, p.Delta, p.Name, len(data), r.Sum, r.sum(data))
	}
	b.WriteString("</prestodelta>\n")
	return b.String()
}
