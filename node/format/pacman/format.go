package pacman

import (
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
)

// Bounds of root files: what the client reads of them (alpm_db_update in be_sync.c, and
// _alpm_download in dload.c).
const (
	maxDatabase  = 128 << 20
	maxSignature = 16 << 10
)

// sig ends the name of a detached signature.
const sig = ".sig"

// Config says how the roots of an archive are trusted.
type Config struct {
	// Keyring holds the keys that may sign. nil: no root is trusted, unless Unsigned is set.
	Keyring *pgp.Keyring
	// KeyPlace tells people where a key that is missing in Keyring is to be put; "" for nothing.
	KeyPlace string
	// Unsigned takes databases without a good signature too, as pacman does with SigLevel =
	// DatabaseOptional where there is none; UnsignedSuites does so for these alone.
	Unsigned       bool
	UnsignedSuites []proto.Suite
}

// Format is pacman's repository format for one archive. It never changes; safe for concurrent use.
type Format struct{ cfg Config }

// New returns the format of an archive.
func New(cfg Config) *Format { return &Format{cfg} }

// Unsigned reports whether the database of a suite needs no signature.
func (f *Format) Unsigned(suite proto.Suite) bool {
	suite.Archive = ""
	return f.cfg.Unsigned || slices.Contains(f.cfg.UnsignedSuites, suite)
}

// A suite is named after its root file, with the directory apart: "core.db" in core/os/x86_64.

// Forms is the database, with its signature beside it.
func (f *Format) Forms(suite proto.Suite) []proto.Form {
	return []proto.Form{{Files: []proto.RootFile{
		{Name: suite.Name, MaxBytes: maxDatabase},
		{Name: suite.Name + sig, MaxBytes: maxSignature, Optional: f.Unsigned(suite)},
	}}}
}

// RootOf splits the path of a database or of its signature.
func (f *Format) RootOf(path string) (suite proto.Suite, name string, ok bool) {
	dir, name := splitDir(path)
	database := strings.TrimSuffix(name, sig)
	if !isDatabase(database) {
		return proto.Suite{}, "", false
	}
	return proto.Suite{Dir: dir, Name: database}, name, true
}

// isDatabase reports whether a file's name is that of a database: NAME.db and NAME.files, which
// clients ask for, and NAME.db.tar.gz and the like, which repo-add writes and the short names are
// links to.
func isDatabase(name string) bool {
	base, _ := database(name)
	return base != "" && base[0] != '.'
}

// database splits the name of a database into what stands before .db or .files, "" for none, and
// which of the two it is.
func database(name string) (base, kind string) {
	if i := strings.LastIndex(name, ".tar"); i > 0 && (i+4 == len(name) || name[i+4] == '.' && strings.IndexByte(name[i+5:], '.') < 0) {
		name = name[:i]
	}
	for _, kind := range [...]string{".db", ".files"} {
		if base, ok := strings.CutSuffix(name, kind); ok {
			return base, kind
		}
	}
	return "", ""
}

// listsPackages reports whether the packages of a suite count. Those that NAME.files lists are those
// of NAME.db.
func listsPackages(suite proto.Suite) bool {
	_, kind := database(suite.Name)
	return kind == ".db"
}

// Heads are none: a repository is one directory, and archives arrange them in their own ways.
func (f *Format) Heads() []string { return nil }

// SuiteNamed is the suite that an operator calls by the path of its database, "core/os/x86_64/core.db";
// ".db" may be left out.
func (f *Format) SuiteNamed(name string) proto.Suite {
	suite, _, ok := f.RootOf(strings.TrimSuffix(name, "/"))
	if !ok {
		dir, name := splitDir(strings.TrimSuffix(name, "/"))
		return proto.Suite{Dir: dir, Name: name + ".db"}
	}
	return suite
}

// Belongs is always so. A database does not say which one it is, and the client takes any.
func (f *Format) Belongs(proto.Suite, *proto.Names, *proto.Manifest) proto.Belonging {
	return proto.BelongsYes
}

// Listers is the database itself, for the packages beside it.
func (f *Format) Listers(suite proto.Suite, m *proto.Manifest, path string) [][][]*proto.Member {
	dir, name := splitDir(path)
	if dir != suite.Dir || !isPackage(strings.TrimSuffix(name, sig)) || len(m.Members) == 0 {
		return nil
	}
	return [][][]*proto.Member{{{&m.Members[0]}}}
}

// maxSuites bounds the databases that one path makes us look for.
const maxSuites = 3

// Suites guesses at the database beside a package. It is mostly called after one of the directories
// around it: core/os/x86_64/core.db (Arch), stable/core/x86_64/core.db (Manjaro), aarch64/core/core.db
// (Arch Linux ARM), mingw/ucrt64/ucrt64.db and msys/x86_64/msys.db (MSYS2). Directories that name the
// machine come last.
func (f *Format) Suites(path string) []proto.Suite {
	dir, name := splitDir(path)
	if !isPackage(strings.TrimSuffix(name, sig)) {
		return nil
	}
	var likely, unlikely []proto.Suite
	for rest := dir; rest != ""; {
		var last string
		rest, last = splitDir(rest)
		s := proto.Suite{Dir: dir, Name: last + ".db"}
		if isMachine(last) {
			unlikely = append(unlikely, s)
		} else {
			likely = append(likely, s)
		}
	}
	all := append(likely, unlikely...)
	return all[:min(len(all), maxSuites)]
}

// isMachine reports whether a directory is one of those that repositories of any name have.
func isMachine(dir string) bool {
	switch dir {
	case "os", "repo", "arch", "any", "x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4", "i686", "aarch64", "armv7h", "armv6h", "riscv64", "loong64":
		return true
	}
	return false
}

// splitDir splits a path into its directory, "" for none, and the last name.
func splitDir(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// join puts a name below a directory.
func join(dir, name string) string { return proto.Suite{Dir: dir}.At(name).Path }
