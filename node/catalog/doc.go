// Package catalog is what this node believes: the current generation of every suite, and for every
// path of an archive what its content must be.
//
// It is the only room that adopts a generation, and there is one way to do so, whoever brought the
// root: verify it, judge it, stage what clients use, make the pointer durable, and only then swap
// one view for the next (promise P3). A request sees the old view or the new one, never a mix.
// Superseded generations stay readable for a retention period.
//
// Its inner rooms are pure: catalog/view answers what a location means in a set of generations,
// catalog/suite decides what to do next about one suite. This room is what drives them: one
// goroutine per suite (driver) owns the suite's machine and its generations, carries out the
// machine's actions, and publishes the result. What hosts ask for goes into a demand, which is all
// that a request writes.
//
// It is not a store (bytes go to and come from interfaces it declares), it does not talk HTTP to
// anybody, and it knows no URL: a Location is all it is asked about. It knows no word of any
// repository format: a Format reads roots and indexes. It trusts neither upstream nor the store: a
// root that is read back at the start is verified like one that has just arrived.
//
// Locks, in the order in which they may be taken; none is held over I/O except composing:
//
//	Catalog.composing  one next view at a time, over the reading of tables
//	Catalog.mu         which archives and suites there are, and the tables that are claimed
//	demand.mu          what clients use of one suite; also mailbox.mu, Catalog.life: leaves
package catalog
