// Package holdings tells nodes what the others hold, in little space: each
// publishes a Bloom filter of the digests it holds, and then every change to it
// exactly, as the first eight bytes of the digest.
//
// Local is what this node holds. A Cursor reads it for one follower as a
// sequence of Updates; whoever carries them to another node must keep their
// order and lose none, or start over with a new Cursor. Remote is what the
// follower has put together from them. Once all Updates are applied, a Remote
// says yes to everything that the node holds. To what it does not hold it says
// yes about once in 1,700 times (see filterHashes), until it has been told of a
// removal, and then no.
//
// Nothing here does I/O. An Update may come from a node that means harm: Apply
// bounds what it makes of it.
//
// Locks: builder.mu is taken before Local.mu. Neither is held while a caller
// waits for a change.
package holdings
