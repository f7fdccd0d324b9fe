// Package offline carries snapshots to sites without a link. A Lister says which files a snapshot consists of: its roots,
// its indexes, and packages that they list. An Intake takes such files in at another node, whoever brings them: it verifies
// the roots with the keys of this node's archives before anything is stored, and takes no byte that the roots, or indexes
// which they list, do not vouch for. How files travel is not known there.
package offline
