// Package ring says which nodes there are, and which of them owns a key.
//
// Ring is a pure value: the same names give the same owners on every node, independent of history.
// It is built on github.com/buraksezer/consistent and never changed. Members takes part in the
// gossip (memberlist): it finds the other nodes, announces this node, and publishes a new View with
// a new Ring whenever nodes join, leave or change their state.
//
// What it is not: it knows nothing of objects or suites, talks to other nodes only by gossip, and
// does not know which nodes are healthy. Membership is slow on purpose (a dead node is dropped
// after about 40 s), so that keys do not move back and forth. If an owner does not answer, the
// caller asks the next owner. A gossip message is a hint: every holder of the cluster's key can
// send it, and it can be lost, duplicated or late.
//
// There is no quorum. A partitioned cluster is two rings, and both work. They become one ring again
// about RejoinEvery after the partition ends.
//
// # Locks
//
// memberlist calls us with its own locks held, and takes them when we call it. So no callback calls
// memberlist, and roster.mu, which callbacks take, is a leaf. Members.updating and Members.rekeying
// are held while memberlist is called; Members.mu, Ring's and wire's are leaves, too. Members.life
// is read-held while LocalState runs. No lock is held while Received, MergeState or a function
// given to OnChange runs.
package ring
