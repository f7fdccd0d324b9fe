package rpm

import (
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// Names of root files, below the directory of the repository.
const (
	metadataDir = "repodata"
	repomd      = metadataDir + "/repomd.xml"
	signature   = repomd + ".asc"
	publicKey   = repomd + ".key"
)

// Bounds of the root files in bytes. The longest repomd.xml seen, with SQLite and zchunk variants of
// everything, has 10 kB; no client has a limit.
const (
	maxRepomd    = 4 << 20
	maxSignature = 1 << 20
	maxPublicKey = 1 << 20
)

// Config says how the roots of an archive are trusted.
type Config struct {
	// Keyring holds the keys that may sign repomd.xml. nil: no root is trusted, unless Unsigned is set.
	Keyring *pgp.Keyring
	// KeyPlace tells people where a key that is missing in Keyring is to be put, such as
	// "a file in /etc/pki/rpm-gpg/"; "" for nothing.
	KeyPlace string
	// Unsigned takes a repomd.xml without a good signature too, as dnf does with repo_gpgcheck=0,
	// which is its default: packages carry signatures of their own, which hosts check.
	// UnsignedSuites does so for these alone.
	Unsigned       bool
	UnsignedSuites []proto.Suite
	// URLs are those that mean the archive: a package may be listed with one of them (xml:base).
	URLs []string
	// Metalink is the URL of the metalink that names the repomd.xml of a suite, "" for none. nil:
	// there are none.
	Metalink func(proto.Suite) string
}

// Format is the RPM repository format for one archive. It never changes; safe for concurrent use.
type Format struct {
	cfg   Config
	roots roots
}

// New returns the format of an archive.
func New(cfg Config) *Format { return &Format{cfg, newRoots(cfg.URLs)} }

// metalink is the URL of the metalink of a suite; "" for none.
func (f *Format) metalink(suite proto.Suite) string {
	if f.cfg.Metalink == nil {
		return ""
	}
	return f.cfg.Metalink(suite)
}

// Unsigned reports whether roots of the suite need no signature.
func (f *Format) Unsigned(suite proto.Suite) bool {
	return isTree(suite) || f.cfg.Unsigned || f.metalink(suite) != "" || slices.ContainsFunc(f.cfg.UnsignedSuites, func(s proto.Suite) bool { return s.Dir == suite.Dir })
}

// Forms is one: repomd.xml with what lies beside it. librepo and libzypp take the signature from the
// very mirror that gave them repomd.xml (lr_check_repomd_xml_asc_availability in librepo/yum.c;
// zypp/ng/repo/workflows/repodownloaderwf.cc). zypper asks for the key as well, where it does not
// have the one that signed.
func (f *Format) Forms(suite proto.Suite) []proto.Form {
	if isTree(suite) {
		return []proto.Form{{Files: []proto.RootFile{{Name: suite.Name, MaxBytes: maxTreeinfo}}}}
	}
	return []proto.Form{{Witness: f.metalink(suite), Files: []proto.RootFile{
		{Name: repomd, MaxBytes: maxRepomd},
		{Name: signature, MaxBytes: maxSignature, Optional: f.Unsigned(suite)},
		{Name: publicKey, MaxBytes: maxPublicKey, Optional: true},
	}}}
}

// RootOf splits the path of a repomd.xml or of what lies beside it, and that of a .treeinfo.
func (f *Format) RootOf(path string) (suite proto.Suite, name string, ok bool) {
	if suite, ok := treeRoot(path); ok {
		return suite, suite.Name, true
	}
	for _, name := range []string{repomd, signature, publicKey} {
		if path == name {
			return proto.Suite{}, name, true
		}
		if dir, ok := strings.CutSuffix(path, "/"+name); ok {
			return proto.Suite{Dir: dir}, name, true
		}
	}
	return proto.Suite{}, "", false
}

// Heads are the directory at the top of every repository.
func (f *Format) Heads() []string { return []string{"repodata"} }

// SuiteNamed turns a repository as the configuration names it into its directory: that of the
// archive's root is "./" or "". An installation tree has the name of its .treeinfo.
func (f *Format) SuiteNamed(name string) proto.Suite {
	if suite, ok := treeRoot(strings.TrimPrefix(strings.Trim(name, "/"), "./")); ok {
		return suite
	}
	name = strings.TrimSuffix(strings.Trim(name, "/"), repomd)
	name = strings.TrimSuffix(strings.Trim(name, "/"), metadataDir)
	name = strings.Trim(name, "/")
	if name == "." {
		name = ""
	}
	return proto.Suite{Dir: strings.TrimPrefix(name, "./")}
}

// maxSuites bounds the directories in which the repository of a path is looked for.
const maxSuites = 3

// Suites guesses the repositories that may list a path. Of a package nothing but convention tells:
// it lies beside repodata/, or a directory or two below (Packages/f/).
func (f *Format) Suites(path string) []proto.Suite {
	if dir, _, ok := cutMetadata(path); ok {
		return []proto.Suite{{Dir: dir}}
	}
	if !isPackage(path) {
		return treesOf(path)
	}
	var suites []proto.Suite
	for dir, _ := splitDir(path); len(suites) < maxSuites; dir, _ = splitDir(dir) {
		suites = append(suites, proto.Suite{Dir: dir})
		if dir == "" {
			break
		}
	}
	return suites
}

// cutMetadata splits the path of a file in a repodata directory.
func cutMetadata(path string) (dir, name string, ok bool) {
	if name, ok = strings.CutPrefix(path, metadataDir+"/"); ok {
		return "", name, !strings.Contains(name, "/")
	}
	i := strings.LastIndex(path, "/"+metadataDir+"/")
	if i < 0 {
		return "", "", false
	}
	name = path[i+len(metadataDir)+2:]
	return path[:i], name, !strings.Contains(name, "/")
}

// Belongs judges whether a trusted root is one of the suite. repomd.xml need not say what it is a
// root of, and most do not; no client compares what it says. So only a change of the repository's
// identifier, which the build service of openSUSE writes, leaves a doubt: then one source is not
// enough. The distribution's identifier may hold its version and change with every publication.
func (f *Format) Belongs(_ proto.Suite, current *proto.Names, offered *proto.Manifest) proto.Belonging {
	if current == nil {
		return proto.BelongsYes
	}
	if from, to := current.Suite, offered.Names.Suite; from != to && from != "" && to != "" {
		return proto.BelongsUnsure
	}
	return proto.BelongsYes
}

// splitDir splits a path into its directory, "" for none, and the last name.
func splitDir(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// isPackage reports whether a path is that of a package, or of the difference between two.
func isPackage(path string) bool {
	return strings.HasSuffix(path, ".rpm") || strings.HasSuffix(path, ".drpm")
}
