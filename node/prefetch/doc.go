// Package prefetch fetches packages before clients request them: when an archive publishes a new
// generation, it fetches the new versions of the packages that clients of this node use, and the
// new packages that these depend on.
//
// It has three parts. The usage table counts the packages that are served here. It is on the hot
// path and survives a restart. A generation switch starts a job: the job reads the package indexes
// of the new generation, drops everything that is not new, and plans the fetches, most used first,
// within a budget of bytes. Then the job opens the planned objects as a client would, a few at a
// time, in the class that waiting clients preempt. It reads each object to the end, so that the
// store commits it.
//
// It does nothing else. A client that requests an object which was left out or failed gets it in
// the usual way. So nothing is retried here, and no fault here costs more than the bytes of the
// budget. It does not know where bytes come from, which generation is current, or what other nodes
// use: the node passes that in.
//
// Lock order: Prefetcher.mu before the locks of the usage table and of the ready list. Both of
// these are leaves, and Used takes only them.
package prefetch
