// Package holds keeps files of generations in the store, whether or not hosts ask for them: mirrors, which follow what
// suites publish, and the packages of snapshots.
//
// A hold is a set of digests with an owner. It is written down before anything is fetched, and the store evicts nothing
// of it from then on. What is missing is fetched at the lowest class, as prefetch does, through flights like any other,
// so that the cluster fetches each file from upstream once. Whatever ends in between (kill -9, a full disk, an upstream
// that fails) leaves files that are stored and need not be fetched again.
//
// In a cluster each node holds all indexes, and of the packages its share: those that the ring places on it for the
// number of copies of the hold. When the ring changes, so do the shares.
//
// It does not know what a generation lists, where bytes come from, or who is in the cluster: that is given to it. What
// is wanted of a generation is said by the room want; how sets lie on the disk, by rows.
//
// Lock order: Keeper.changing and worker.counting before Keeper.mu, that before worker.mu, that before progress.mu. None is
// held during I/O of the network.
package holds
