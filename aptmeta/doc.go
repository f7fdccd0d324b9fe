// Package aptmeta reads what an APT archive publishes: it classifies paths, splits signed
// files as apt does, and parses Release files and the indices that a Release lists.
//
// It is pure: it has no clock (callers pass the time), opens no file and no
// connection, and starts no goroutine. Everything it reads may come from a
// hostile archive, so each parser is bounded in memory and time by limits named
// in its documentation, and refuses what it does not understand. It does not
// decide what to believe or to fetch; that is the catalog's business, and it is
// the only room that knows Debian's field names.
//
// Nothing here holds a lock. Every function is safe for concurrent use, and so
// is a Release once it has been made.
package aptmeta
