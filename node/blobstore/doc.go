// Package blobstore is this node's disk and memory: blobs by SHA-256 digest,
// written once, never changed, evicted by last use under a hard byte limit. What
// another node holds as well goes earlier than what only this one has; who holds
// what, the store is told (Config.Replicated) and tells (Config.Observer).
//
// It is not a database and keeps no journal: the file system is the database.
//
//	<dir>/lock                  flock of the one process that may write here; holds its pid
//	<dir>/blobs/ab/ab…(64 hex)  one blob; mtime is upstream's Last-Modified (Unix 0: none),
//	                            atime is the last use, kept by us and coarse on purpose
//	<dir>/only/ab…(64 hex)      through which names alone that blob may be given out, one a line
//	<dir>/partial/…             unfinished blobs of known digest, to be continued; see partial.go
//	<dir>/tmp/…                 other bytes on their way in; whatever is left there is deleted at Open
//	<dir>/usage, <dir>/scrub    the store's notes about itself, which may be lost
//
// It knows no archive, no URL and no peer, and vouches only for this: what is
// stored under a digest had that digest when it was committed. It does not say
// that signed metadata lists it; proto.Blob.Verified is left to the caller.
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
//	memory.gates   keep the closing of the memory tier apart from its use
package blobstore
