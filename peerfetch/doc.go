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
// A flight is one loop (flight.go). Its route says whom to ask next: the nodes that
// are believed to hold the object, then its owners, which get it from upstream for
// all, and upstream itself (route.go). Each attempt at a source (source.go,
// attempt.go) ends with a verdict (verdict.go), by which the route and the targets
// decide; the ledger knows which source gave which bytes, and so who is to blame
// when they are wrong (ledger.go, blame.go). Other nodes are served from the store,
// and from flights that no other node feeds (peer_serve.go): one hop, whatever the
// rings say (P4).
//
// Evidence stays where it was given (P12). A flight serves all names by which its
// readers know the object, in whichever archives, and a reader fails only for what
// its own names came to (targets.go). Failures are counted by object and name
// (budget.go). Who knows the object only by a name that nothing signed lists, or in
// another length, has a flight of his own. No archive can hold up or spoil more than
// once what clients of another one wait for (pace.go, apart.go). What one
// node says of an object that signed metadata lists is checked at another one.
//
// What a name means, and whether it is signed, is not known here: that is the
// catalog's business. Nor is anything kept here: that is the store's. Nor is it
// known here where nodes are and how to reach them: that is the Cluster's.
//
// Locks: Fetcher.mu guards the table of flights and is taken before flight.mu,
// never after it. Neither is held over I/O.
package peerfetch
