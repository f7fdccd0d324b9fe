// Command aptsuite runs apt's own integration tests with an aptmesh node between apt and the web
// server of the tests.
//
// It gets the source of the apt that this machine has installed, through that apt, builds it in a
// directory of its own outside the tree, and runs the tests that use a web server in several modes:
//
//	direct           the tests as they are, without a node: what apt itself passes here
//	proxy            apt comes with Acquire::http::Proxy, the lines that a node prints for hosts
//	mapped           apt's sources name the node's address
//	proxy-unsigned   as proxy; the archive is configured with `unsigned: true`
//	mapped-unsigned  as mapped; the archive is configured with `unsigned: true`
//
// Nothing of apt is part of this tree. The tests run from a copy in the cache directory in which
// framework.go makes two small edits: the start of the web server starts a node as well, and each
// `apt update` and each `apt-helper download-file` first gets an empty node. The tests need that
// because they turn back the archive's clock all the time: they publish an older Release, or other
// bytes under the same name and date, which a cache must not follow (a mode ending in "-warm" keeps
// the node, to see just that). The relay between apt and the node is described in relay.go.
//
// A check that fails with a node is a fault of aptmesh unless exceptions.txt names the test, the
// number of its checks that may fail, and the reason. The command exits 1 if a test fails more
// checks than that, if apt hangs, or if a test ends early without leave.
//
//	make aptsuite                                 all tests in all modes, and docs/apt-tests.md
//	make aptsuite TESTS='test-apt-update-ims'     one test; the page is left alone
//
// It needs Debian or Ubuntu, root for the build dependencies only, about 1 GB of disk, and an hour.
package main
