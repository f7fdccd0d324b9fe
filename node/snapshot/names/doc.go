// Package names is what the names of snapshots and channels stand for, so that all nodes of a
// cluster agree without a vote: a map that two nodes merge in any order, as often as they like, with
// the same outcome.
//
// An operator's act gives a name a target, or takes it away. An act replaces those that its node
// knew of. What two nodes did without knowing of each other stands side by side, the newer one first:
// nothing is lost silently. "Newer" is by a hybrid logical clock: the node's own clock, but always
// after everything it has seen. So whoever acts later and knows of what was before is right, however
// wrong the clocks are; clocks only order acts that did not know of each other.
//
// It is pure: it reads no clock and no file, and sends nothing. It does not know what a target is. A
// Map is not safe for concurrent use.
package names
