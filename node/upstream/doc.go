// Package upstream is the HTTP client of the archives: it obtains the bytes of a
// proto.Location from the archive that keeps it, under this node's limits, and
// tells every kind of trouble apart in the words of proto's errors.
//
// What it does: one request per Fetch, with resume (Range and If-Range),
// conditional requests, redirects followed inside, credentials, a parent proxy,
// a cap on connections per upstream host in which urgent work goes first, a
// byte-rate limit, and a watch that ends stalled transfers and gives their
// connections to healthy ones.
//
// What it is not: it keeps nothing, retries nothing and verifies no content (who
// asked compares the digest). It does not know what a Release is. It never
// inflates a body.
//
// # Words
//
// A host is an upstream server: scheme, name and port. A place is the right to
// have one connection to a host; a request holds its place from before the dial
// until the end of its body. The gate of a host hands out its places. In a cluster
// the caps on places and bytes are those of all nodes together, and each has a share
// of them (SetShare).
//
// # Lock order
//
// Client.mu, then gate.mu, then place.mu. host.mu and dialing.mu are taken alone.
// No lock is held during I/O. None is while a caller's code runs, but for the
// function given to SetShare, which runs under Client.mu.
package upstream
