package peerfetch

import (
	"context"

	"github.com/aptmesh/aptmesh/proto"
)

// Cluster is the other nodes, as sources of bytes. Nobody trusts them: what they
// yield is hashed here like any other. Safe for concurrent use; Route is called
// for every miss and must not block.
type Cluster interface {
	// Route says where to look for an object at this moment.
	Route(object proto.ObjectRequest) proto.Route
	// Fetch asks one node. It returns when that node has bytes to give, or with an
	// error: *proto.PeerFailed if the node could not be asked, *proto.NotStored if it
	// has nothing to give, else the error that the node got from upstream. The reads of
	// the Transfer's Body fail with the same errors, and end with ctx. Modified may
	// be filled in as late as the Body's io.EOF.
	Fetch(ctx context.Context, peer string, req proto.PeerRequest) (*proto.Transfer, error)
	// Distrust reports a node that sent what cannot be true.
	Distrust(peer string, err error)
}
