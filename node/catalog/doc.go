// Package catalog is what this node believes: the current Generation of every
// suite, and for every path of an archive what its content must be.
//
// It is the only room that adopts a generation, and there is one way to do so,
// whoever brought the news: read the root, check its signature, compare its date
// with what is held, stage the indices that clients use, make the pointer
// durable, and only then swap one view for the next (promise P3). A request sees
// the old view or the new one, never a mix. Superseded generations stay readable
// for a retention period.
//
// It is not a store (bytes go to and come from interfaces it declares), it does
// not talk HTTP to anybody, and it knows no URL: a Location is all it is asked
// about. It trusts neither upstream nor the store: a root that is read back at
// start-up is verified like one that has just arrived.
//
// Where several mirrors keep an archive, a suite's root is read from one of them, the
// mirror that leads, and in the same look from others where that one gives nothing that
// is trusted and new enough: four at most. About every fifth look, one other mirror is
// glanced at, each in its turn, so that a lead that has fallen behind is noticed. That
// is one more conditional question in five, whatever the number of mirrors, nodes and
// clients. A mirror that is behind is not asked for roots while a better one answers; of
// everything else it is as good as any, for that is fetched by digest.
//
// While upstream cannot be reached, what is held is served and said to be old: past
// Valid-Until for a bounded time. An offline archive is never asked for.
//
// In a cluster one node asks upstream for all: the one of rank 0 for the suite. The
// others have it look in their place (Cluster.Ask), are told what it finds
// (Catalog.Hear), and take over when they have heard of no good look for too long.
// What they are told is a hint: the root is opened by its digest and adopted like any
// other. What no signature proves is not taken on another node's word: neither what
// an archive without signatures says, nor that a Release belongs to this suite where
// it calls itself otherwise than before, nor for ever that there is nothing newer. An
// operator's going back to an older Release holds on the node that he tells it to;
// what the others still hold does not bring it forward again there.
//
// Locks, in the order in which they may be taken:
//
//	Catalog.reconfiguring  one change of the configuration at a time, over its I/O
//	suite.pairing          one fetch of Release and Release.gpg at a time, over its I/O
//	suite.following        whoever goes after what other nodes tell; over its I/O
//	suite.adopting         whoever adopts a generation, over its staging
//	suite.writing          whoever changes what a suite holds; over the writing of its
//	                       state file and the pinning of its blobs
//	Catalog.cleaning       the removal of package tables, over its I/O; read-held to
//	                       claim one
//	Catalog.composing      the building of the next view; over the reading of tables
//	Catalog.mu             the set of suites and what is held of each; never over I/O
//	suite.mu               the state of one suite's checks; never over I/O
//	Catalog.life           the end; a leaf
//
// Answering from a view takes none of them, but for the first request for a member
// (Catalog.mu).
package catalog
