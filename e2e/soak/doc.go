// Command soak lets three nodes of one cluster, as processes, serve hundreds of hosts
// for a long time, while the archive publishes, its three mirrors fail in ways drawn
// by a printed seed, and nodes are stopped and killed.
//
// A host loops as apt does: InRelease with the date it has, the index by hash if it is
// a new one, and packages from the index, some of them from where they broke off
// before. It knows what is right from what it was told: the bytes of each InRelease
// are compared with those that were ever published, those of an index with the digest
// in the InRelease, those of a package with the digest in the index. Hosts reach the
// cluster as by anycast: while a node is away, its hosts come to another. A real apt
// loops beside them where there is one.
//
// It ends with exit status 1 if a host got a complete wrong body, if what a host was
// told did not fit together, if a node went back to an older generation, if a host
// could not be served once all was well again, or if a node that ran all the time has
// more goroutines, open files or memory at the end than after its warm-up.
package main
