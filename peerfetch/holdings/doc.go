// Package holdings is the set of digests that a node stores, and its compact summary for
// other nodes. A node publishes a Bloom filter of its digests, and then every change
// exactly, as the first eight bytes of the digest.
//
// Local is the set of this node. A Cursor reads it for one follower as a sequence of
// Updates. They must reach the follower in order and without a gap, or start over with a
// new Cursor. Remote is what the follower builds from them. Once all Updates are applied,
// a Remote says yes to everything that the node stores. For a digest that the node does
// not store, it says yes about once in 1,700 times (see filterHashes), and always no after
// an Update that removes the digest.
//
// The package does no I/O and does not know what a digest names. An Update may come from a
// hostile node: Apply bounds the memory that it takes.
//
// Locks: builder.mu is taken before Local.mu. Neither is held while a caller
// waits for a change.
package holdings
