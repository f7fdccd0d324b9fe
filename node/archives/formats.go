package archives

import (
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/snapshot/diff"
	"github.com/aptmesh/aptmesh/node/snapshot/offline"
	"github.com/aptmesh/aptmesh/proto"
)

// Format is a repository format as all rooms together need it.
type Format interface {
	catalog.Format
	front.Format
	prefetch.Format
	diff.Format
	want.Format
	offline.Format
	// SuiteNamed is the suite (without Archive) that an operator calls by a name.
	SuiteNamed(name string) proto.Suite
	// Heads are the elements that paths of this format begin with, whatever the repository.
	Heads() []string
	// Pocket splits a suite into the release that it belongs to and what it adds to that; "" for nothing.
	Pocket(suite proto.Suite) (release proto.Suite, pocket string)
}

// trust is how the roots of an archive are trusted.
type trust struct {
	keyring        *pgp.Keyring
	keyPlace       string // where people put a missing key
	unsigned       bool
	unsignedSuites []proto.Suite
	metalinks      func(dir string) string // by the directory of a repository; nil for none
	urls           []string                // those that mean the archive
}

// newFormat makes the format that the configuration calls by a name.
func newFormat(name string, t trust) Format {
	switch name {
	case "rpm":
		cfg := rpm.Config{Keyring: t.keyring, KeyPlace: t.keyPlace, Unsigned: t.unsigned, UnsignedSuites: t.unsignedSuites, URLs: t.urls}
		if t.metalinks != nil {
			cfg.Metalink = func(s proto.Suite) string { return t.metalinks(s.Dir) }
		}
		return rpm.New(cfg)
	case "pacman":
		return pacman.New(pacman.Config{Keyring: t.keyring, KeyPlace: t.keyPlace, Unsigned: t.unsigned, UnsignedSuites: t.unsignedSuites})
	}
	return deb.New(deb.Config{Keyring: t.keyring, KeyPlace: t.keyPlace, Unsigned: t.unsigned, UnsignedSuites: t.unsignedSuites})
}

// hostLists are those of the format that the configuration calls by a name; nil for none.
func hostLists(name string) front.HostLists {
	if name == "rpm" {
		return rpm.HostLists{}
	}
	return nil
}

// keyless is the format of that name in the configuration, without keys. It answers questions about
// paths, which do not depend on the keys of the archive.
func keyless(name string) Format { return newFormat(name, trust{}) }

// formats are those of the archives, by the archive's name, for questions about names of files.
type formats map[string]Format

func formatsOf(cfg *config.Config) formats {
	made := make(map[string]Format) // by the format's name
	all := make(formats, len(cfg.Archives))
	for _, a := range cfg.Archives {
		if made[a.Format] == nil {
			made[a.Format] = keyless(a.Format)
		}
		all[a.Name] = made[a.Format]
	}
	return all
}

// of is the format of an archive. Of one that is not configured any more nobody needs to know, so
// that the default will do.
func (fs formats) of(archive string) Format {
	if f := fs[archive]; f != nil {
		return f
	}
	return unknownFormat
}

var unknownFormat = keyless("")

// DescribedURLs are the URLs that a line of a client's screen can mean: see deb.DescribedURLs. Other clients than apt
// print URLs.
func DescribedURLs(line string) ([]string, error) { return deb.DescribedURLs(line) }

// FormatOf is the format of an archive as it is configured now.
func (t *Table) FormatOf(archive string) Format { return t.now.Load().formats.of(archive) }
