// Package listen is the addresses at which a node listens: what is an address, which two cannot be bound
// together, which URL leads to one, and by which URL hosts reach the node. It binds those that hosts
// connect to, plain and TLS, remembers which ones they are, and says why one cannot be bound.
//
// It serves nothing: it does not know which room accepts the connections, and for what.
package listen
