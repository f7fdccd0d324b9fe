// Package prefetch has things ready before clients ask: when an archive publishes a
// new generation, the new versions of packages that clients of this node really use
// are fetched ahead, and with them the new packages that they depend on.
//
// Three parts. The usage table learns from every package served which packages are
// used here; that is the hot path, and it survives a restart. A switch starts a job: it
// reads the new generation's indices of packages, keeps nothing of them but what is new,
// and plans what to fetch, most used first, within a budget of bytes. Then the job
// opens what it planned like any client would, a few at a time and in the class that
// makes way for waiting clients, and reads it to its end, so that the store keeps it.
//
// It only ever reads ahead. Whatever it leaves out or fails to get, a client that
// asks gets in the usual way; so nothing is retried here, and nothing here can do
// harm beyond the bytes of its budget. It does not know where bytes come from, which
// generation is current, or what other nodes use: the node tells it.
//
// Lock order: Prefetcher.mu before those of the usage table and of the list of what
// is ready; both of these are leaves, and Used takes only them.
package prefetch
