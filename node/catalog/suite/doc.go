// Package suite decides what to do next about one suite: when to ask a mirror or the leader for its
// root, which announcement to follow, which root to adopt, when to switch generations, how long to
// wait, and how to answer hosts while upstream cannot be reached.
//
// It is a state machine: Machine.Step takes an event and returns actions, and that is all. It has
// no lock, no goroutine, no clock, and does no I/O; it verifies nothing and parses nothing. The
// driver (node/catalog) owns one Machine per suite on one goroutine, carries out the actions, and
// reports each outcome as an event. Requests between two events read a Belief, an immutable copy of
// the state.
//
// Intervals are measured on the monotonic clock (Mono); wall time is used for dates only: the Date
// and Valid-Until of a root. A step of the wall clock therefore stops no check and forgets nothing.
//
// Work runs in lanes, each with one action outstanding at most:
//
//	check     asks upstream, mirror by mirror, or asks the leader to do so
//	probe     asks one mirror other than the primary now and then
//	follow    opens what other nodes announce
//	adoption  stages and commits one candidate; check and follow feed it
//	renew     reports to the leader what clients of this node use
package suite
