// Package ring says which nodes there are, and which of them owns a key.
//
// Ring is a pure value: the same names give the same owners on every node,
// whatever happened before. It is built, on github.com/buraksezer/consistent, and
// never changed. Members takes part in the gossip (memberlist): it finds the other
// nodes, says what this one is, and publishes a new View, and with it a new Ring,
// whenever nodes come, go or change their state.
//
// What it is not: it knows nothing of objects or suites, speaks to no node but in
// gossip, and does not say who is healthy. Membership is slow on purpose (a node
// that died is dropped after about 40 s), so that keys do not move to and fro;
// whoever asks an owner and gets no answer asks the next one. A gossip message is
// a hint: anybody who holds the key of the cluster can send it, and it can be lost,
// doubled or late.
//
// There is no quorum. A cluster that is cut in two is two rings, each of which
// works, and one again within RejoinEvery or so of the end of the cut.
//
// # Locks
//
// memberlist calls us with its own locks held, and takes them when it is called. So
// nothing that memberlist calls calls memberlist, and roster.mu, which callbacks
// take, is a leaf. Members.updating and Members.rekeying are held while memberlist
// is called; Members.mu, Ring's and wire's are leaves, too. Members.life is read-held
// while LocalState runs. No lock is held while Received, MergeState or a function
// given to OnChange runs.
package ring
