package prefetch

import (
	"io"

	"github.com/aptmesh/aptmesh/proto"
)

// Format is what this room must know of an archive's repository format. It is pure and safe for
// concurrent use.
type Format interface {
	// Packages reads an index of packages as it is stored (compressed) and calls emit for each
	// package that it lists, once for each place that it may lie at. It stops with an error of
	// emit. Memory is bounded whatever the bytes are.
	Packages(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error
	// HostArch is the architecture of the hosts that use an index; "" if the index does not say it.
	HostArch(m *proto.Member) string
	// Identity names the package that a file is a version of; false if the name of the file does
	// not say it. It is called for each file served, and allocates nothing.
	Identity(path string) (proto.PackageID, bool)
	// Needs reads proto.Package.Needs: what a package needs, in order, each as alternatives of
	// which the first one that there is will be installed.
	Needs(needs string) [][]proto.Need
	// Meets reports whether a version of the package that a need names will do.
	Meets(need proto.Need, version string) bool
	// Newer reports whether version a comes after b.
	Newer(a, b string) bool
}
