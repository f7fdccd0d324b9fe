package catalog

import (
	"io"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Format is what the catalog must know of a repository format, for one archive with its keys. It is
// pure: no clock, no I/O, no state. Safe for concurrent use. node/format/formattest is the
// conformance suite that every format passes.
type Format interface {
	// Forms are the ways in which the root of a suite is published, the preferred one first. A form
	// whose first file is missing upstream is passed over. The files of a root are no other suite's.
	Forms(suite proto.Suite) []proto.Form
	// Unsigned reports whether no signature vouches for the roots of a suite (without Archive).
	Unsigned(suite proto.Suite) bool
	// RootOf splits the path of a root file into its suite (without Archive) and the file's name.
	RootOf(path string) (suite proto.Suite, name string, ok bool)
	// Open verifies the files of one form and reads what they say. Files that the form calls
	// optional may be missing, and so may its witness: a root from another node or from the disk is
	// not proven then. It fails with *proto.Rejected where a client would refuse them.
	// What it can not make sense of inside a trusted root is an oddity, never an error.
	Open(suite proto.Suite, files map[string][]byte, now time.Time) (*proto.Manifest, error)
	// Belongs judges whether a trusted root is of this suite. current are the names in the suite's
	// root until now, nil at first contact.
	Belongs(suite proto.Suite, current *proto.Names, offered *proto.Manifest) proto.Belonging
	// Suites names the suites (without Archive) whose root may govern a path, the likeliest first;
	// none if the path alone does not show it.
	Suites(path string) []proto.Suite
	// Listers names the members that may list a path, in three levels. The groups are to be read in
	// order, until one lists the path. All members of a group are to be read. Of a member's
	// alternatives (compressions), one is to be read. The layout of archives decides; none if no
	// member can list the path.
	Listers(suite proto.Suite, m *proto.Manifest, path string) [][][]*proto.Member
	// Parse reads an index as it is stored (compressed) and emits what it lists; a file that may
	// lie at several paths once for each. It stops with an error of emit. Memory is bounded
	// whatever the bytes are. What it emitted before an error stays emitted.
	Parse(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(proto.File) error) error
	// PathInfo is what the path alone says.
	PathInfo(path string) proto.PathInfo
}
