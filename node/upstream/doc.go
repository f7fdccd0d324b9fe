// Package upstream is the HTTP client of the archives. It obtains the bytes of a proto.Location
// from a mirror of its archive, within this node's limits, and reports every failure as one of
// proto's errors.
//
// What it does: it asks the mirrors of an archive one at a time until one answers with a body.
// Health, priority, measured speed and weight decide the order. It resumes bodies (Range and
// If-Range), makes conditional requests, follows redirects itself, keeps credentials and trust
// apart for each mirror, and uses a parent proxy. It caps the connections to each host and serves
// urgent requests first. It limits the byte rate. It ends transfers that stall, and slow transfers
// if another mirror may be faster. It looks for a file at the archive's history service if every
// mirror says that the file is gone.
//
// What it is not: it stores nothing. A Fetch asks each mirror once; if no mirror can resume, it
// asks again for the whole body. It does not resume a broken body itself: the caller requests the
// rest, and gets another mirror. It does not verify content: the caller compares the digest and
// reports a mismatch with Blame. It does not know what a Release is. It never decompresses a body.
//
// # Words
//
// A host is an upstream server: scheme, name and port. A slot is the right to one connection to a
// host. A request holds its slot from before the dial until the end of its body. Each host has a
// scheduler, which grants its slots. In a cluster the caps on slots and bytes hold for all nodes
// together, and each node has a share of them (SetShare).
//
// A mirror is the root of an archive on a host. Mirrors on one host share the slots of the host.
// The name of a mirror is the URL of its root. A penalty belongs to one mirror and one object, and
// lasts some minutes: the mirror broke the transfer, was too slow, or sent wrong content. For that
// object the other mirrors are asked first. The circuit breaker of a mirror stops all requests to
// it. It opens when the mirror fails repeatedly, has wrong content for several objects, or asks us
// to wait. A half-open breaker lets one request through as a probe: in the background if there are
// other mirrors, otherwise a client's. An open breaker is an alert, which nodes exchange
// (Config.OnAlert, Client.Alerts, Client.ReceiveAlert).
//
// # Lock order
//
// Client.mu, then scheduler.mu, then slot.mu. Client.mu, then healths.mu. host.mu, dialing.mu,
// health.mu, the lock of penalties and Client.creditsMu are taken alone. No lock is held during
// I/O. No lock is held while a caller's code runs, except Client.mu during the function given to
// SetShare.
package upstream
