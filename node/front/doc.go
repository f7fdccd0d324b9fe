// Package front is the frontend that APT clients connect to: it turns an HTTP request
// into a Location, asks the Catalog what the location means, has a Fetcher open
// the bytes, and answers.
//
// It is not an HTTP client (a Fetcher is), knows no generation and no file format
// (a Catalog does), keeps no bytes, and never redirects or negotiates. What is
// said to clients follows what apt does with it: an error always has a body, an
// upstream failure is never a 404, and a body that turns out wrong is cut off
// before its end (apt methods/basehttp.cc, methods/http.cc of apt 3.1).
//
// A request goes through three steps that know nothing of one another:
//
//	where   routes.go              request target -> Location, or a refusal
//	what    decide.go, answer.go   pure: request facts, entry, object -> answer
//	how     write.go               answer -> bytes on the connection
//
// so that a writer leaner than net/http can take the place of the third. Who asks is
// looked at beside them: before the first step and right after it (clients.go: may this
// address have it?), once for each connection (limits.go: has it too many?), and
// between the pieces of a body (throttle.go: has it taken too much?).
//
// Locks: the access log, the tunnels and the clients have one each, which are never
// held together nor while anything else of this package is called. All that can be
// reconfigured is replaced as a whole, by one pointer.
package front
