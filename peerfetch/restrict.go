package peerfetch

import (
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// An object that came from a restricted archive is served through another archive only if that
// archive's own upstream has sent it, to any node. Otherwise an archive that merely lists the digest
// of a restricted object would give the object to clients that may not have it. An answer to HEAD
// does not count: an upstream that lists a digest can also claim to have the object.
//
// So a flight for a restricted archive is a flight of its own (key.scope), and the store notes the
// name of the archive with the object. For any other archive the stored object does not exist: a
// flight fetches it from that archive's upstream. Then the store notes this archive, too; or, if it
// is not restricted, that the object is open to all. Other nodes decide in the same way by the
// locations in a request.

// keyOf is keyOf for the archive that want is of.
func (f *Fetcher) keyOf(object proto.ObjectRequest) key {
	k := keyOf(object)
	if archive := object.Where.First.Archive; f.cfg.Restricted != nil && f.cfg.Restricted(archive) {
		k.scope = archive
	}
	if object.Provable() && f.apart.has(object.Where.First.Archive) {
		k.apart = object.Where.First.Archive
	}
	return k
}

// mayGive reports whether a stored object may be given through an archive.
func (f *Fetcher) mayGive(d proto.Digest, archive string) bool {
	only := f.cfg.Store.Only(d)
	return only == nil || slices.Contains(only, archive)
}
