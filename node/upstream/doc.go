// Package upstream is the HTTP client of the archives: it obtains the bytes of a
// proto.Location from a mirror of its archive, under this node's limits, and tells
// every kind of trouble apart in the words of proto's errors.
//
// What it does: one mirror asked after the other until one answers with a body, by
// health, priority, measured speed and weight; resume (Range and If-Range),
// conditional requests, redirects followed inside, credentials and trust for each
// mirror, a parent proxy, a cap on connections per upstream host in which urgent work
// goes first, a byte-rate limit, and a watch that ends stalled transfers, and slow
// ones where another mirror may do better. What every mirror says is gone is looked
// for at the archive's snapshot service.
//
// What it is not: it keeps nothing, asks no mirror twice in a Fetch (but for the whole
// where nobody can resume), does not go on with a body that broke (who asked asks again
// for the rest, and is given another mirror), and verifies no content (who asked
// compares the digest, and tells with Blame). It does not know what a Release is. It
// never inflates a body.
//
// # Words
//
// A host is an upstream server: scheme, name and port. A slot is the right to
// have one connection to a host; a request holds its slot from before the dial
// until the end of its body. The scheduler of a host hands out its slots. In a cluster
// the caps on slots and bytes are those of all nodes together, and each has a share
// of them (SetShare).
//
// A mirror is the root of an archive on a host; several may share a host, and then its
// slots. Its name is the URL of that root. A penalty is what is held against a mirror
// for one object, for some minutes: it broke a transfer off, or was too slow, or what
// it gave was wrong. It is then asked for that object after the others. The breaker of
// a mirror keeps requests from it altogether: it opens when the mirror fails again and
// again, has wrong content for several objects, or asks us to wait. A breaker that is
// half-open lets a request through, to find out: a probe in the background where there
// are other mirrors, else a client's. Breakers are told to other nodes (Config.Tell,
// Client.Troubles) and heard of from them (Heard).
//
// # Lock order
//
// Client.mu, then scheduler.mu, then slot.mu. Client.mu, then healths.mu. host.mu,
// dialing.mu, health.mu, the lock of penalties and Client.turns are taken alone.
// No lock is held during I/O. None is while a caller's code runs, but for the
// function given to SetShare, which runs under Client.mu.
package upstream
