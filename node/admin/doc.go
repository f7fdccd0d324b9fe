// Package admin is the admin interface of a node: the types that cross it as
// JSON, the client that aptmesh's commands use, and the server.
//
// Who may do what:
//
//   - A unix socket takes everything. The file system says who reaches it.
//   - TCP on a loopback address shows everything and changes nothing, except with
//     the token. Every user of the machine reaches it.
//   - TCP on any other address needs the token for all but /health and /ready.
//
// A web page that a browser on the machine shows must not reach the interface,
// neither by a cross-origin request nor through a name of its own that means this
// machine (DNS rebinding). So every request is checked for Origin, Sec-Fetch-Site
// and, without a token, Host.
//
// The package knows no node: the server asks for one through [Node], so that a
// command needs nothing else of aptmesh. It decides nothing about the cache.
package admin
