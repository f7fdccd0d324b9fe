// Package catalog is what this node believes: the current generation of every suite, and for every
// path of an archive what its content must be.
//
// It is the only package that adopts a generation, and there is one way to adopt one, from whatever
// source: verify the root, judge it, stage what clients use, make the pointer durable, and only then
// replace the view (promise P3). A request sees the old view or the new one, never a mix.
// Superseded generations stay readable for a retention period.
//
// Its inner packages are pure: catalog/view answers what a location means in a set of generations,
// catalog/suite decides what to do next about one suite. This package drives them. One goroutine per
// suite (driver) owns the suite's machine and its generations, carries out the machine's actions,
// and publishes the result. A request writes only one thing: the demand.
//
// It is not a store: bytes come and go through interfaces that it declares. It does not speak HTTP,
// and it knows no URL, only Locations. It knows no repository format: a Format reads roots and
// indexes. It trusts neither upstream nor the store: a root that is read back at the start is
// verified like one that has just arrived.
//
// Locks, in the order in which they may be taken. Only composing is held during I/O:
//
//	Catalog.composing  one next view at a time, also while tables are read
//	Catalog.mu         which archives and suites there are, and the tables that are claimed
//	demand.mu          what clients use of one suite; also mailbox.mu, Catalog.life: leaves
package catalog
