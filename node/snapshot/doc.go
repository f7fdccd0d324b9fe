// Package snapshot gives names to what archives were at one moment, and serves that for as long as
// an operator wants it.
//
// A snapshot is a record: for each suite the generation that was current, with the indexes that
// clients used. Nothing is copied and nothing is signed again; what it names stays stored (pinned),
// and every root is verified again before anything of it is served. A channel is a name that hosts
// use and an operator moves from one snapshot to another. Both are state, not configuration.
//
// Which names there are is decided in package names. What a path means in a snapshot is answered by
// the catalog (Frozen). This package keeps the two together: records and names on disk, pins, and
// the few snapshots that are open. It does not speak HTTP, and fetches nothing itself.
package snapshot
