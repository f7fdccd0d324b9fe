package testarchive

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Suite describes one directory that holds a Release. The zero value of every
// field but Name is usable.
type Suite struct {
	// Name is what stands after "dists/" and may contain '/'. For a flat
	// repository it is the directory itself, "" being the archive's root.
	Name string
	Flat bool
	// FlatFromRoot makes the Filename fields of a flat repository relative to
	// the archive's root, as for "deb URL Name/"; otherwise they are relative to
	// the suite's directory, as for "deb URL/Name ./".
	FlatFromRoot bool

	Origin, Label, Codename, Version string   // defaults made from Name
	Components                       []string // default: main
	Architectures                    []string // default: amd64
	// ListedComponents and ListedArchitectures are in the Release, with their
	// indices, but this server does not carry them: a partial mirror.
	ListedComponents, ListedArchitectures []string
	// ComponentPrefix stands before each name in the Components field, as the
	// "updates/" of older Debian security suites.
	ComponentPrefix string

	// Hashes are the blocks of the Release, and the sums in the indices unless
	// IndexHashes is set. Of MD5Sum, SHA1, SHA256, SHA512; default: the first three.
	Hashes, IndexHashes []string
	// ByHash serves by-hash names, one per entry of Hashes, and says so.
	ByHash bool
	// Retain is how many generations of by-hash names stay on the server,
	// counting the current one; 0 means all.
	Retain int

	// Compressions are the forms in which indices are served, of "", ".gz",
	// ".xz", ".zst", ".lzma"; default: .gz and .xz. The uncompressed form is
	// listed in the Release in any case, as real archives do.
	Compressions []string
	// OmitPlain takes the uncompressed forms out of the Release too.
	OmitPlain bool

	ValidFor    time.Duration // writes Valid-Until; 0: none
	NoDate      bool          // a Release without Date
	NoInRelease bool          // only Release and Release.gpg
	NoRelease   bool          // only InRelease

	// Keys sign; default: DefaultKey.
	Keys []*Key
	// Unsigned serves a plain Release, and neither InRelease nor Release.gpg.
	Unsigned bool
	// Forged alters one letter of the text after it was signed.
	Forged bool

	Translations     bool   // i18n/Translation-en
	Contents         bool   // <component>/Contents-<arch>.gz
	ContentsRoot     bool   // Contents-<arch>.gz beside the Release, as Ubuntu does
	DEP11            bool   // dep11/Components-<arch>.yml and icons
	Commands         bool   // cnf/Commands-<arch>
	Installer        string // version of installer-<arch>/<version>/images; "": none
	ComponentRelease bool   // a Release file beside each Packages
	// PDiffs publishes <index>.diff/ for Packages and Sources; MergedPDiffs
	// makes each patch lead to the current index at once, as dak does today.
	PDiffs, MergedPDiffs bool

	// Fields are further lines of the Release, each "Name: value".
	Fields []string

	// Edit changes the text of the Release before it is signed, and EditIndex the
	// text of a Packages or Sources, named as the Release lists it, before it is
	// compressed. They are for what a tidy archive would never write.
	Edit      func(text string) string
	EditIndex func(path, text string) string
	// Pack compresses an index in place of Compress, which knows fewer formats and
	// always writes them in the same way; nil from it leaves the work to Compress.
	Pack func(ext string, text []byte) []byte
}

// Dir is the directory of the Release, relative to the archive's root.
func (s Suite) Dir() string {
	if s.Flat {
		return s.Name
	}
	return "dists/" + s.Name
}

// At returns the path, relative to the archive's root, of a file given relative
// to the suite's directory.
func (s Suite) At(rel string) string {
	if s.Dir() == "" {
		return rel
	}
	return s.Dir() + "/" + rel
}

// allApart reports whether packages for all architectures are in binary-all
// alone. Debian has them in both places and says so (repository format,
// No-Support-for-Architecture-all).
func (s Suite) allApart() bool {
	return slices.Contains(s.Architectures, "all") && !slices.Contains(s.Fields, "No-Support-for-Architecture-all: Packages")
}

func (s Suite) withDefaults() Suite {
	last := s.Name[strings.LastIndexByte(s.Name, '/')+1:]
	setDefault(&s.Origin, "Testarchive")
	setDefault(&s.Label, "Testarchive")
	setDefault(&s.Codename, s.Name)
	if s.Flat {
		s.Codename = last
	}
	setDefaults(&s.Components, "main")
	setDefaults(&s.Architectures, "amd64")
	setDefaults(&s.Hashes, MD5Sum, SHA1, SHA256)
	setDefaults(&s.IndexHashes, s.Hashes...)
	setDefaults(&s.Compressions, ".gz", ".xz")
	if len(s.Keys) == 0 {
		s.Keys = []*Key{DefaultKey()}
	}
	return s
}

func setDefault(p *string, v string) {
	if *p == "" {
		*p = v
	}
}

func setDefaults(p *[]string, v ...string) {
	if len(*p) == 0 {
		*p = v
	}
}

// Package describes one binary or source package.
type Package struct {
	Name, Version string
	Component     string // default: the suite's first
	// Arch is the architecture, or "all"; default: the suite's first. Ignored
	// for a source package.
	Arch string
	// Size is how many incompressible bytes the package installs; the .deb is
	// about 1 KiB larger.
	Size int64
	// Salt makes other content under the same name and version, as third
	// parties do who rebuild in place.
	Salt string

	Depends, Description string
	Section              string // default: misc
	// Source makes a source package: .dsc, .orig.tar.xz and .debian.tar.xz, or
	// .dsc and .tar.xz where the version has no '-'.
	Source bool
	// Udeb makes a .udeb, listed in <component>/debian-installer/binary-<arch>.
	Udeb bool
	// Missing lists the package without putting its file on the server, which
	// also makes it cheap: thousands of them fill an index.
	Missing bool
	// Fields are further lines of its stanza, each "Name: value".
	Fields []string

	// Path is where the .deb is, relative to the archive's root, or the directory of
	// a source package; default: a place in the pool.
	Path string
	// Listed is what the index says in place of that: Filename or Directory.
	Listed string
}

func (p Package) withDefaults(s Suite) Package {
	if p.Name == "" || p.Version == "" {
		panic(fmt.Sprintf("testarchive: package %+v needs a name and a version", p))
	}
	setDefault(&p.Component, s.Components[0])
	setDefault(&p.Section, "misc")
	setDefault(&p.Description, "test package "+p.Name)
	setDefault(&p.Arch, s.Architectures[0])
	if p.Source {
		p.Arch = "source"
	}
	if !s.Flat && !slices.Contains(s.Components, p.Component) {
		panic(fmt.Sprintf("testarchive: suite %q has no component %q for package %s", s.Name, p.Component, p.Name))
	}
	if p.Arch != "all" && p.Arch != "source" && !slices.Contains(s.Architectures, p.Arch) {
		panic(fmt.Sprintf("testarchive: suite %q has no architecture %q for package %s", s.Name, p.Arch, p.Name))
	}
	return p
}

// fileVersion is the version as file names carry it: without the epoch.
func (p Package) fileVersion() string {
	_, after, found := strings.Cut(p.Version, ":")
	if found {
		return after
	}
	return p.Version
}

// native reports whether a source package has no upstream tarball of its own.
func (p Package) native() bool { return !strings.Contains(p.Version, "-") }

// dir is the pool directory of the package, relative to the archive's root.
func (p Package) dir(s Suite) string {
	if p.Source && p.Path != "" {
		return p.Path
	}
	if s.Flat {
		return s.Dir()
	}
	prefix := p.Name[:1]
	if strings.HasPrefix(p.Name, "lib") && len(p.Name) > 3 {
		prefix = p.Name[:4]
	}
	return "pool/" + p.Component + "/" + prefix + "/" + p.Name
}

// file is the path of the package's main file: the .deb or the .dsc.
func (p Package) file(s Suite) string {
	if !p.Source && p.Path != "" {
		return p.Path
	}
	name := p.Name + "_" + p.fileVersion()
	if p.Source {
		return join(p.dir(s), name+".dsc")
	}
	if p.Udeb {
		return join(p.dir(s), name+"_"+p.Arch+".udeb")
	}
	return join(p.dir(s), name+"_"+p.Arch+".deb")
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
