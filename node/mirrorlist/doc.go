// Package mirrorlist knows the lists of mirrors that archives name (mirror+http:,
// mirror+https:, mirror+file:, as apt has them). It reads them again and again, keeps
// the last good ones over restarts, and says which mirrors an archive has: those of the
// configuration and those of its lists, in one order.
// It also reads metalinks for the catalog, and looks at nothing in them.
//
// A list that cannot be read, or that makes no sense, leaves the last good one in force.
// The package asks no mirror for anything and does not know how each one does; that is
// the business of package upstream.
package mirrorlist
