// Package admin is the admin interface of a node: the types that cross it as
// JSON, the client that aptmesh's commands use, and the server.
//
// Access:
//
//   - A unix socket allows everything. File permissions decide who reaches it.
//   - TCP on a loopback address shows everything and changes nothing, except with
//     the token. Every user of the machine reaches it.
//   - TCP on any other address needs the token for everything except /health and /ready.
//
// A web page in a browser on the machine must not reach the interface, neither by a
// cross-origin request nor through a host name of its own that resolves to this machine
// (DNS rebinding). So every request is checked for Origin, Sec-Fetch-Site and, without a
// token, Host.
//
// The package does not know package node: the server calls it through [Node], so that a
// command needs nothing else of aptmesh. It decides nothing about the cache.
package admin
