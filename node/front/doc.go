// Package front is the frontend that package managers connect to: it turns an HTTP request
// into a Location, asks the Catalog what the location means, has a Fetcher open the bytes,
// and answers.
//
// It is not an HTTP client (a Fetcher is), knows no generation and no file format (a Catalog
// does), stores no bytes, and never redirects or negotiates. Its answers follow what clients
// do with them: an error always has a body, an upstream failure is never a 404, and a body
// that turns out wrong is cut off before its end (apt methods/basehttp.cc, methods/http.cc of
// apt 3.1).
//
// A request goes through three independent steps:
//
//	where   routes.go, locate.go   request target -> Location, or a refusal
//	what    decide.go, answer.go   pure: request facts, entry, object -> answer
//	how     write.go               answer -> bytes on the connection
//
// so that a writer leaner than net/http can replace the third. The client's limits are
// checked beside these steps: before the first step and right after it (clients.go: may this
// address read the archive?), once for each connection (limits.go: does it have too many?),
// and between the pieces of a body (throttle.go: is it too fast?).
//
// Locks: the access log, the tunnels and the clients have one each. They are never held
// together, nor while anything else of this package is called. Everything that a reload can
// change is replaced as a whole, by one pointer.
package front
