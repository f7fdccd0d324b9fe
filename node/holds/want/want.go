// Package want says which files of a set of generations are wanted: which indexes of a root, and which of the files
// that those list. It is pure: whoever asks reads roots and indexes, and fetches.
//
// A filter changes no index: hosts get all of the archive, and what is not held is fetched when they ask for it. So a
// closure of dependencies is an attempt to have ahead what they will ask for, and what it does not find is told.
package want

import (
	"io"
	"path"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// Format is what this room must know of an archive's repository format. It is pure and safe for concurrent use.
type Format interface {
	// Place says where a member stands in its suite.
	Place(m *proto.Manifest, member *proto.Member) proto.Place
	// Listed reads an index as it is stored (compressed) and calls emit for each file that it lists, with the same
	// *proto.Package every time. It stops with an error of emit. Memory is bounded whatever the bytes are.
	Listed(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error
	// HostArch is the architecture of the hosts that use an index; "" if the index does not say it.
	HostArch(m *proto.Member) string
	// Needs reads proto.Package.Needs, Provides and Wishes: what a package needs, in order, each as alternatives.
	Needs(needs string) [][]proto.Need
	// Meets reports whether a version of the package that a need names will do.
	Meets(need proto.Need, version string) bool
	// Newer reports whether version a comes after b.
	Newer(a, b string) bool
}

// Match is patterns (path.Match) of packages. A package fits that fits any of them.
type Match struct{ Package, Source, Section, Priority []string }

// IsZero reports whether there is no pattern.
func (m Match) IsZero() bool { return len(m.Package)+len(m.Source)+len(m.Section)+len(m.Priority) == 0 }

func (m Match) fits(p *proto.Package) bool {
	source := p.Source
	if len(source) == 0 { // it has the name of the package
		source = p.Name
	}
	return anyFits(m.Package, p.Name) || anyFits(m.Source, source) || anyFits(m.Priority, p.Priority) ||
		anyFits(m.Section, p.Section) || anyFits(m.Section, p.Section[strings.LastIndexByte(string(p.Section), '/')+1:])
}

func anyFits(patterns []string, text []byte) bool {
	return len(patterns) > 0 && len(text) > 0 && slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, string(text))
		return ok
	})
}

// Filter is which files are wanted. The zero Filter wants all binary packages.
type Filter struct {
	// Components and Architectures; none means all. Source packages are wanted where Architectures names
	// proto.ArchSource.
	Components, Architectures []string
	// Only, if not zero, wants only packages that fit. Exclude wants none that fits.
	Only, Exclude Match
	// Seed, if not nil, wants only packages of an archive for which it is true.
	Seed func(archive string, p *proto.Package) bool
	// Closure adds what packages that are wanted need, and Wishes what clients install with them where they can.
	Closure, Wishes bool
	// Installer adds the files of installers.
	Installer bool
}

// selective reports whether not all packages are wanted.
func (f *Filter) selective() bool { return !f.Only.IsZero() || f.Seed != nil }

// Indexes are the members that are wanted, in the order of the manifest. Of an index that is published in several
// compressions all are wanted except the plain form, which archives list and do not carry: see Spared.
func (f *Filter) Indexes(format Format, m *proto.Manifest) (wanted []*proto.Member) {
	packed := make(map[string]bool)
	for i := range m.Members {
		if member := &m.Members[i]; member.Path != member.Plain && member.Provable() {
			packed[member.Plain] = true
		}
	}
	for i := range m.Members {
		member := &m.Members[i]
		if member.Provable() && !(member.Path == member.Plain && packed[member.Plain]) && f.place(format.Place(m, member)) {
			wanted = append(wanted, member)
		}
	}
	return wanted
}

func (f *Filter) place(p proto.Place) bool {
	switch {
	case p.Spare, p.Installer && !f.Installer:
		return false
	case p.Component != "" && len(f.Components) > 0 && !slices.ContainsFunc(f.Components, func(c string) bool { return c == p.Component || strings.HasSuffix(c, "/"+p.Component) }):
		return false
	case p.Arch == "":
		return true
	case p.Arch == proto.ArchSource || len(f.Architectures) > 0:
		return slices.Contains(f.Architectures, p.Arch)
	}
	return true
}

// Lists are those of indexes whose files are wanted, one group for each: its compressions, of which any will do.
func (f *Filter) Lists(format Format, m *proto.Manifest, indexes []*proto.Member) (groups [][]*proto.Member) {
	at := make(map[string]int)
	for _, member := range indexes {
		if !member.Lists() || format.Place(m, member).Delta {
			continue
		}
		i, known := at[member.Plain]
		if !known {
			i = len(groups)
			at[member.Plain], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], member)
	}
	return groups
}

// wants reports whether a listed file is one of those to choose from.
func (f *Filter) wants(p *proto.Package) bool {
	switch {
	case len(p.Name) == 0:
		return !f.selective() // of an installer: there is nothing to choose it by
	case f.Exclude.fits(p):
		return false
	case string(p.Arch) == proto.ArchSource || !p.Universal && len(f.Architectures) > 0:
		return slices.Contains(f.Architectures, string(p.Arch))
	}
	return true
}

// seeds reports whether a file that is to be chosen from is wanted for itself.
func (f *Filter) seeds(archive string, p *proto.Package) bool {
	return (f.Only.IsZero() || f.Only.fits(p)) && (f.Seed == nil || f.Seed(archive, p))
}

// File is a file that is wanted.
type File struct {
	// Ref has a zero Digest where only SHA512 is known.
	Ref    proto.Ref
	SHA512 proto.SHA512
	// Locations are where it lies, in order, at least one.
	Locations []proto.Location
}

// Object is the request for it, at the lowest class.
func (f *File) Object() proto.ObjectRequest {
	return proto.ObjectRequest{Ref: f.Ref, SHA512: f.SHA512, Where: proto.WhereOf(f.Locations), Class: proto.ClassPrefetch}
}

// Key places the file on the ring, as peers do for its request.
func (f *File) Key() []byte {
	if !f.Ref.Digest.IsZero() {
		return f.Ref.Digest[:]
	}
	return f.SHA512[:]
}

// Unresolved is a dependency that nothing in the suites meets.
type Unresolved struct {
	// Package needs it, in this Version, on hosts of Arch.
	Package, Version, Arch string
	// Need is its alternatives as text.
	Need string
}

// Result is what is wanted.
type Result struct {
	// Files by digest in ascending order, each once.
	Files []File
	// Unresolved are dependencies that nothing meets, at most MaxUnresolved of UnresolvedCount.
	Unresolved      []Unresolved
	UnresolvedCount int
	// Unsized counts files whose size no index lists.
	Unsized int
	// Unprovable counts files that no strong sum is listed for: they cannot be held.
	Unprovable int
}

// MaxUnresolved bounds Result.Unresolved.
const MaxUnresolved = 1000

// Bytes is what the files come to; a file whose size is not listed counts nothing.
func (r *Result) Bytes() (sum int64) {
	for i := range r.Files {
		sum += max(r.Files[i].Ref.Size, 0)
	}
	return sum
}
