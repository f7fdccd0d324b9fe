// Package blobstore is this node's disk and memory: blobs by SHA-256 digest, written once, never
// changed, evicted by last use under a hard byte limit. A blob that another node stores as well is
// evicted earlier than the last copy of a blob (Config.Replicated). The store reports its own
// changes to Config.Observer.
//
// It is not a database and keeps no journal: the file system is the database.
//
//	<dir>/lock                  flock of the one process that may write here; holds its pid
//	<dir>/blobs/ab/ab…(64 hex)  one blob; mtime is upstream's Last-Modified (Unix 0: none),
//	                            atime is the last use, set by us and coarse on purpose
//	<dir>/only/ab…(64 hex)      the only names through which that blob may be served, one a line
//	<dir>/partial/…             interrupted blobs of known digest, to be resumed; see partial.go
//	<dir>/tmp/…                 other blobs that are being written; leftovers are deleted at Open
//	<dir>/usage, <dir>/scrub    the store's notes about itself, which may be lost
//
// It knows no archive, no URL and no peer. It guarantees one thing: a blob stored under a digest
// had that digest when it was committed. It does not know whether signed metadata lists the blob;
// the caller sets proto.Blob.Verified.
//
// Everything a Store offers is safe for concurrent use, unless a method says
// otherwise.
//
// # Lock order
//
// A lock further down may be taken while one further up is held, never the
// other way round. The hit path takes only shard.mu, for reading, and never
// over I/O.
//
//	Writer.mu      one writer's own state, over its I/O
//	Store.life     Close against whatever changes the directory; over their I/O
//	Store.evicting one eviction at a time
//	pins.mu        who pins what; read-held over one victim's removal, so that
//	               what Pin returned for is not evicted any more
//	shard.change   one of 256: rename, unlink and the index entry that goes with
//	               it are one step; held over that I/O, and over the call of
//	               the Observer that goes with it
//	Writer.pathMu  where the writer's bytes lie; over the rename
//	partials.mu    which unfinished blobs there are; over their removal
//	overflow.mu    what lies in memory because the disk has no room
//	marks.mu       who may have what; never over I/O
//	shard.mu       the index map of the shard; never over I/O; read-held over
//	               the questions to Replicated
//	ledger.mu      the durable upper bound of the bytes in use, over its write
//	space.mu       used and reserved bytes; never over I/O
//	health.mu      why the store is degraded
//	memory.locks   keep the closing of the memory tier apart from its use
package blobstore
