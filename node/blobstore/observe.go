package blobstore

import "github.com/aptmesh/aptmesh/proto"

// Observer follows what the store contains. It is called for each blob that the index gains
// (found by the scan after the start, or by a hit before that; committed) and for each blob
// that it loses (evicted, removed, damaged, gone from the disk), once for each change. A
// commit that replaces a blob is no change.
//
// The calls for one digest come one at a time and in the order of the changes, so they give
// the store's own picture. Calls for different digests may come at the same time, and the
// first ones before Open has returned.
//
// An Observer is called under a lock that commits and evictions of other blobs
// wait for: it must be quick, and must not call the Store.
type Observer interface {
	Added(proto.Digest)
	Removed(proto.Digest)
}
