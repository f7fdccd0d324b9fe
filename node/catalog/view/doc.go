// Package view is what a node answers requests from: for a set of generations, what each path of an
// archive must be. Everything in it is built aside, never changed afterwards, and safe for
// concurrent use; its owner replaces a view as a whole.
//
// The set is an Archive: suites with their generations, and the Files that the indexes of these
// generations list. The live view of an archive and a snapshot of it are two sets, and one Resolve
// answers for both. Resolve has no effect: what was asked for comes back as a Demand, which the
// caller records.
//
// The package takes no lock, starts no goroutine, reads no clock and opens no file: it reads and
// writes lists through readers and writers of the caller.
//
// What indexes list has four forms:
//
//	ListBuilder  takes the files of one index, and bounds what they cost
//	List         what one index lists, in the order of path hashes; kept on disk
//	Table        the lists of a set, joined in memory: 49 bytes for each file
//	Frozen       the same in a file, for sets that are not asked often: no memory
//
// Paths are kept as 64-bit hashes under a secret Seed. A publisher cannot foresee which names
// collide, and so cannot make one file take the place of another.
package view
