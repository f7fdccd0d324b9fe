// Package proto holds the nouns every room of aptmesh speaks: Digest, Ref,
// Location, Suite, Generation, ObjectRequest, Blob, Transfer, and the few errors that
// cross rooms.
//
// It is types and their arithmetic, with no I/O of its own, no clock and no
// configuration; it imports nothing of ours, so that every room may import it.
// It knows no Debian field name: what the files of an archive say is
// aptmeta's business.
package proto
