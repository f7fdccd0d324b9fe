// Package peerfetch obtains objects: from this node's store, or by a flight. A flight is one fetch
// in progress that any number of readers follow.
//
// A flight writes what arrives into a writer of the store. Every reader follows the growing file at
// its own pace. The last byte is held back until the content is proven to be what signed metadata
// names. A flight that cannot prove it fails, so no reader ever sees a complete wrong body (promise
// P1). There is one flight per object for all readers (P2). It outlives the reader that started it,
// and ends when the last reader leaves. A transfer that breaks or stalls is resumed at the byte
// where it stopped, from the next source (P5).
//
// A flight is one loop (flight.go). Its route names the next source to ask: the nodes that are
// believed to store the object, then its owners, which fetch it from upstream for the cluster, then
// upstream itself (route.go). Each attempt at a source (source.go, attempt.go) ends with a verdict
// (verdict.go). The route and the targets decide by the verdict alone. The ledger records which
// source gave which bytes, and so which source is to blame for wrong bytes (ledger.go, blame.go).
// Other nodes are served from the store, and from flights that no other node feeds (peer_serve.go):
// one hop, even if the rings of two nodes differ (P4).
//
// A fault of one archive stays with that archive (P12). A flight serves all names by which its
// readers know the object, in any archive. A reader fails only because of its own names
// (targets.go). Failures are counted by object and name (budget.go). A reader has a flight of its
// own if it knows the object only by a name that no signed metadata lists, or in another length. No
// archive can delay or spoil an object for clients of another archive more than once (pace.go,
// apart.go). If a node contradicts the signed metadata of an object, a second node is asked.
//
// This package does not know what a name means or whether it is signed: the catalog does. It stores
// nothing: the store does. It does not know where nodes are or how to reach them: the Cluster does.
//
// Locks: Fetcher.mu guards the table of flights. It is taken before flight.mu, never after it.
// Neither is held during I/O.
package peerfetch
