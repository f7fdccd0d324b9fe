package blobstore

import "github.com/aptmesh/aptmesh/proto"

// Observer is told what the store holds, as it changes: of each blob that the
// index learns of (found by the scan after the start, or by a hit before that;
// committed) and of each one it loses (evicted, removed, damaged, gone from the
// disk), once per change. A commit that replaces a blob is no change.
//
// The calls for one digest come one at a time and in the order of the changes, so
// whoever only follows them has the store's own picture. Those for different
// digests may come at the same time, and the first ones before Open has returned.
//
// An Observer is called under a lock that commits and evictions of other blobs
// wait for: it must be quick, and must not call the Store.
type Observer interface {
	Added(proto.Digest)
	Removed(proto.Digest)
}
