// Command bench measures the aptmesh binary beside the caches that people use
// for the same job today: nginx with proxy_cache, Varnish and apt-cacher-ng, as Debian
// packages them, and Go's plain static file server as a reference.
//
//	go run ./e2e/bench            # everything, twenty minutes
//	go run ./e2e/bench --quick    # about five minutes
//	go run ./e2e/bench --only A,C --peers nginx,aptmesh
//
// Everything runs on this machine over loopback in one go: the server on one
// core; the clients and the archive that the caches fetch from on the others.
// What comes out is Markdown. The absolute figures are this machine's; the
// ratios to nginx are what travels. Nothing here passes or fails by the clock.
//
// The cold scenarios C and D have ratios to Varnish as well: of the time until all
// clients have everything, and of the server's CPU seconds per gigabyte that it sent.
// C is a herd: many clients, one package. D is a mix of small and large packages; in D
// itself each client asks for all of them, in D2 each package is asked for once, so that
// every answer is a miss. Varnish keeps everything in memory and checks nothing, which
// is the least that a cache can do. It is left out where a cache must outlive a restart.
//
// Scenarios from N on are those of a cluster: nodes are processes on loopback
// addresses of their own (127.x.y.z), beside as many nginx that fetch from each other
// or know nothing of each other. R and S are of one node again: several mirrors, and
// what is fetched ahead.
//
// Every byte of every answer is compared with what the archive holds. The archive
// is a signed one (aptmeta/testarchive), so that aptmesh does all its checking.
//
// It is no load generator for a network: see package load for what it cannot do.
package main
