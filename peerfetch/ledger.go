package peerfetch

import (
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// byteSource is where bytes come from: a peer, a target at a mirror of the archive, or the part of
// the object that an earlier flight left on this node's disk. mirror is "" if the source does not
// name its mirrors.
type byteSource struct {
	peer    string
	mirror  string // as Transfer.From names it; "" with a peer
	loc     proto.Location
	partial bool // the bytes were on the disk before the flight began
}

func (o byteSource) String() string {
	switch {
	case o.partial:
		return "an earlier transfer"
	case o.peer != "":
		return "node " + o.peer
	case o.mirror != "":
		return o.loc.String() + " at " + o.mirror
	}
	return o.loc.String()
}

// sameSource reports whether two sources are one node, or one mirror.
func (o byteSource) sameSource(other byteSource) bool {
	return o.peer == other.peer && o.mirror == other.mirror && o.partial == other.partial
}

// upstream reports whether the bytes came from an archive, and not through another node or from
// an earlier flight.
func (o byteSource) upstream() bool { return o.peer == "" && !o.partial }

// ledger records which source gave which bytes, and what that says about which source is to
// blame when they turn out to be wrong. It belongs to flight.run, and decides; the flight acts.
type ledger struct {
	gave           []byteSource        // the sources of the bytes that are here
	sizeFrom       byteSource          // the source of the size, if no signed metadata has it
	tainted        bool                // what has arrived cannot be right
	corruptSources map[byteSource]bool // mirrors that gave this flight wrong content, by target
}

func newLedger() ledger { return ledger{corruptSources: make(map[byteSource]bool)} }

// credit notes a source of some of the bytes.
func (l *ledger) credit(from byteSource) {
	if !slices.Contains(l.gave, from) {
		l.gave = append(l.gave, from)
	}
}

// clear forgets the bytes. Corrupt sources stay known.
func (l *ledger) clear() { l.gave, l.sizeFrom, l.tainted = nil, byteSource{}, false }

// contradicts reports whether the known length of the object comes from a source that is no more
// reliable than this one. Of two nodes, of two mirrors, or of a node and upstream, one is wrong,
// and it is unknown which.
func (l *ledger) contradicts(from byteSource) bool {
	said := l.sizeFrom
	return said != (byteSource{}) && !said.sameSource(from) && (said.peer != "" || from.peer == "")
}

// finding names the sources that may have caused wrong content.
type finding struct {
	by []byteSource // one: it did it; several: one of them did, and nobody can say which
	// whole says that all bytes are from by, so that none of them can be kept.
	whole bool
}

// certain reports whether one source is to blame.
func (f finding) certain() bool { return len(f.by) == 1 }

// nodes are the peers among those that may have caused it.
func (f finding) nodes() []string {
	var nodes []string
	for _, o := range f.by {
		if o.peer != "" {
			nodes = append(nodes, o.peer)
		}
	}
	return nodes
}

// beyondUpstream reports whether a node may have caused it, and not the mirrors alone.
func (f finding) beyondUpstream() bool {
	return slices.ContainsFunc(f.by, func(o byteSource) bool { return !o.upstream() })
}

// archives are those that gave some of the bytes, directly.
func (l *ledger) archives() []string {
	var archives []string
	for _, o := range l.gave {
		if o.upstream() && !slices.Contains(archives, o.loc.Archive) {
			archives = append(archives, o.loc.Archive)
		}
	}
	return archives
}

// ofArchive reports whether no other archive gave any of the bytes directly.
func (l *ledger) ofArchive(archive string) bool {
	archives := l.archives()
	return len(archives) == 0 || len(archives) == 1 && archives[0] == archive
}

// ofBytes finds the possible causes of a wrong body: all sources that gave some of it.
func (l *ledger) ofBytes() finding { return finding{by: slices.Clone(l.gave), whole: true} }

// ofSize finds the source of a wrong length, if from gives another length than the known one.
// unlisted says that no right content has that length.
func (l *ledger) ofSize(from byteSource, unlisted bool) finding {
	if !unlisted && l.contradicts(from) {
		return finding{by: []byteSource{l.sizeFrom, from}, whole: true}
	}
	return finding{by: []byteSource{from}}
}
