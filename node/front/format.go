package front

import "github.com/aptmesh/aptmesh/proto"

// Format is what the frontend must know of an archive's repository format. Safe for concurrent use.
type Format interface {
	// PathInfo is what the path alone says. It is called once for each request, and allocates nothing.
	PathInfo(path string) proto.PathInfo
}
