package proto

import "time"

// Resolution is what a node believes of one location: the answer of the catalog to the
// frontend.
type Resolution struct {
	Object ObjectRequest
	// Listed says that signed metadata names this object (or its name, made of a sum,
	// proves it). An entry that is not listed is streamed but never vouched for.
	Listed bool
	// Mutable says that the name may mean other bytes tomorrow: roots and
	// canonical index names.
	Mutable bool
	// Generation is the signed date of the generation that the answer was taken
	// from; zero for what belongs to none.
	Generation time.Time
	// Snapshot is the snapshot that answers for a channel, or "live"; "" where no channel was asked.
	Snapshot string
	// Modified, where not zero, is the Last-Modified every node gives for this
	// object, whatever the store keeps.
	Modified time.Time
	// Stale says in one sentence why the answer may be older than upstream's; "" if it is
	// not.
	Stale string
}
