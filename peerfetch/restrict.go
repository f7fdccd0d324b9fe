package peerfetch

import (
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// What a restricted archive brought is given through another archive only if that archive's own
// upstream has given it, to this node or to another one. Else an archive that merely lists the
// digest of a restricted object would give it to clients who may not have it. An answer to HEAD is
// no gift: whoever lists a digest can also claim to have the object.
//
// So a flight for a restricted archive is a flight of its own (key.scope), and what it brings
// carries the name of the archive in the store. For any other archive the stored object does not
// exist: a flight takes it from that archive's upstream, and then the store notes this archive as
// well, or, where it is not restricted, that the object is open to all. Other nodes judge the same
// by the locations in a request.

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
