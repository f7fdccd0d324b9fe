// Package peerfetch obtains objects: from this node's store, or else by a
// flight, one fetch in progress that any number of readers follow.
//
// A flight writes what arrives into the store's writer and lets every reader
// follow the growing file at its own pace. The last byte is held back until the
// content is proven to be what signed metadata names; a flight that cannot prove
// it fails, and no reader ever sees a complete wrong body (promise P1). There is
// one flight per object, whoever asks (P2); it outlives the reader that started
// it and ends when the last one leaves. A transfer that breaks or stalls goes on
// at the byte where it stopped, from the next source (P5).
//
// The sources are the archive upstream and, where the node belongs to a Cluster,
// the other nodes: first those that hold the object, then its owners, which get it
// from upstream for all, and upstream itself when they fail (search.go). Other
// nodes are served from the store, and from flights that no other node feeds
// (peer_serve.go): one hop, whatever the rings say (P4).
//
// What a name means, and whether it is signed, is not known here: that is the
// catalog's business. Nor is anything kept here: that is the store's. Nor is it
// known here where nodes are and how to reach them: that is the Cluster's.
//
// Locks: Fetcher.mu guards the table of flights and is taken before flight.mu,
// never after it. Neither is held over I/O.
package peerfetch
