package deb

import (
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// Names of root files.
const (
	inRelease = "InRelease"
	release   = "Release"
	signature = "Release.gpg"
)

// Config says how the roots of an archive are trusted.
type Config struct {
	// Keyring holds the keys that may sign. nil: no root is trusted, unless Unsigned is set.
	Keyring *pgp.Keyring
	// KeyPlace is where an operator should put a key that is missing in Keyring, such as
	// "a file in /etc/apt/keyrings/"; "" for nothing.
	KeyPlace string
	// Unsigned takes roots without a good signature too, as apt does with [trusted=yes];
	// UnsignedSuites does so for these alone.
	Unsigned       bool
	UnsignedSuites []proto.Suite
}

// Format is Debian's repository format for one archive. It never changes; safe for concurrent use.
type Format struct{ cfg Config }

// New returns the format of an archive.
func New(cfg Config) *Format { return &Format{cfg} }

// unsigned reports whether roots of the suite need no signature.
func (f *Format) Unsigned(suite proto.Suite) bool {
	return f.cfg.Unsigned || slices.ContainsFunc(f.cfg.UnsignedSuites, func(s proto.Suite) bool { return s.Dir == suite.Dir })
}

// Forms are InRelease, and Release with Release.gpg beside it: the order in which apt asks for them
// (apt-pkg/acquire-item.cc, pkgAcqMetaClearSig).
func (f *Format) Forms(proto.Suite) []proto.Form {
	return []proto.Form{
		{Files: []proto.RootFile{{Name: inRelease, MaxBytes: aptmeta.MaxRelease}}},
		{Files: []proto.RootFile{
			{Name: release, MaxBytes: aptmeta.MaxRelease},
			{Name: signature, MaxBytes: aptmeta.MaxRelease, Optional: f.cfg.Unsigned || len(f.cfg.UnsignedSuites) > 0},
		}},
	}
}

// RootOf splits the path of an InRelease, Release or Release.gpg. A Release beside the indexes of a
// component is a member like any index, and no root.
func (f *Format) RootOf(path string) (suite proto.Suite, name string, ok bool) {
	dir, name, ok := aptmeta.SplitRoot(path)
	return proto.Suite{Dir: dir}, name, ok
}

// Heads are the directories at the top of every archive that is not a flat one.
func (f *Format) Heads() []string { return []string{"dists", "pool"} }

// SuiteNamed turns a suite as sources.list names it into its directory: "noble" is dists/noble, "./"
// the archive's own directory, "x/" the flat repository x.
func (f *Format) SuiteNamed(name string) proto.Suite {
	if dir, flat := strings.CutSuffix(name, "/"); flat {
		return proto.Suite{Dir: strings.TrimPrefix(strings.TrimPrefix(dir, "."), "/")}
	}
	if strings.HasPrefix(name, "dists/") {
		return proto.Suite{Dir: name}
	}
	return proto.Suite{Dir: "dists/" + name}
}

// afterDists returns what stands below each "dists/" of a directory, the whole directory's tail
// first; none where it has no such part. For apt the rest is the name of the suite: it puts "dists/"
// between the URL and the name (apt-pkg/deb/debmetaindex.cc, constructMetaIndexURI).
func afterDists(dir string) []string {
	var names []string
	for rest, at := dir, 0; ; {
		switch i := strings.Index("/"+rest, "/dists/"); {
		case i < 0:
			return names
		default:
			at += i + len("dists/")
			rest = dir[at:]
			names = append(names, rest)
		}
	}
}

// splitDir splits a path into its directory, "" for none, and the last name.
func splitDir(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// join puts a name below a directory.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
