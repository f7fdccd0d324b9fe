package peers

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// maxRoute is how many holders a Route names at most, and how many owners that are
// not this node.
const maxRoute = 4

// Route says which nodes to ask for an object at this moment. It does no I/O.
//
// Holders are the nodes that want names, and then those whose summaries say that they store
// the object, nearest first; at most maxRoute. A leaving node is a holder like any other.
//
// Owners are in the order of failover on the ring, without nodes that cannot be asked for
// bytes now; at most maxRoute. This node is among them if the ring lets it fetch the object
// at all: at its place, or last if its place is farther back. If no owner can be asked, the
// owners are those of the ring: trying is better than giving up. They are nil if the ring is
// empty.
func (m *Mesh) Route(object proto.ObjectRequest) proto.Route {
	archive := ""
	if !object.Where.IsZero() {
		archive = object.Where.First.Archive
	}
	return proto.Route{
		Self:    m.cfg.Name,
		Holders: m.holdersOf(object),
		Owners:  m.ownersOf(m.cfg.RingFor(m.View(), archive), keyOf(object)),
	}
}

// keyOf is what places an object on the ring: the digest if it is known, else the SHA-512,
// else the location. Of several right contents it is the lowest digest, so that nodes agree
// even if they prefer different contents.
func keyOf(object proto.ObjectRequest) []byte {
	switch {
	case !object.Ref.IsZero():
		lowest := object.Ref.Digest
		for _, other := range object.Others {
			if bytes.Compare(other.Digest[:], lowest[:]) < 0 {
				lowest = other.Digest
			}
		}
		return lowest[:]
	case object.Provable():
		return object.SHA512[:]
	case !object.Where.IsZero():
		return []byte(object.Where.First.String())
	}
	return nil
}

// usable reports whether p can be asked for bytes.
func (m *Mesh) usable(p *peer) bool { return p.healthy() && m.distrusted(p.name) == nil }

// usableName is usable for a name, which may be this node's: that one always is.
func (m *Mesh) usableName(name string) bool {
	if name == m.cfg.Name {
		return true
	}
	p := m.peer(name)
	return p != nil && m.usable(p)
}

// reachableName reports whether a node answers pings.
func (m *Mesh) reachableName(name string) bool {
	if name == m.cfg.Name {
		return true
	}
	p := m.peer(name)
	return p != nil && p.reachable()
}

func (m *Mesh) holdersOf(object proto.ObjectRequest) []string {
	var holders []string
	for _, name := range object.Holders {
		if name != m.cfg.Name && m.usableName(name) && !slices.Contains(holders, name) {
			holders = append(holders, name)
		}
	}
	for ref := range object.Contents() {
		for _, name := range m.Holders(ref.Digest) {
			if !slices.Contains(holders, name) {
				holders = append(holders, name)
			}
		}
	}
	return holders[:min(len(holders), maxRoute)]
}

// Holders returns the other nodes that are believed to hold d and can be asked for
// it now, nearest first.
func (m *Mesh) Holders(d proto.Digest) []string {
	var found []*peer
	for _, p := range m.all() {
		if p.stored.Has(d) && m.usable(p) {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b *peer) int { return cmp.Compare(distance(a), distance(b)) })
	var names []string
	for _, p := range found {
		names = append(names, p.name)
	}
	return names
}

// distance is the round-trip time to p; one that is not known yet is the longest.
func distance(p *peer) time.Duration {
	if rtt := p.rtt(); rtt > 0 {
		return rtt
	}
	return math.MaxInt64
}

// Replicated reports whether another node is believed to hold d, and will go on
// doing so: one that leaves does not count. It is made for being asked of each
// object that might be evicted.
func (m *Mesh) Replicated(d proto.Digest) bool {
	for _, p := range m.all() {
		if p.healthy() && !p.leaving.Load() && p.stored.Has(d) && m.distrusted(p.name) == nil {
			return true
		}
	}
	return false
}

// ownersOf returns the owners of a key for Route.
func (m *Mesh) ownersOf(r *ring.Ring, key []byte) []string {
	size := r.Len()
	for n := maxRoute; ; n *= 2 {
		all := r.Owners(key, n)
		owners := m.lagsLast(keep(all, m.usableName))
		// Two are enough for a failover. The order is worked out further only
		// where that many do not answer.
		if len(owners) < 2 && n < size {
			continue
		}
		if len(owners) == 0 {
			owners = all
		}
		owners = owners[:min(len(owners), maxRoute)]
		if r.Contains(m.cfg.Name) && !slices.Contains(owners, m.cfg.Name) {
			owners = append(owners, m.cfg.Name)
		}
		return owners
	}
}

// Owners returns the first n nodes that would own key, in the order of failover, and that
// answer pings, this node included. If none answers, they are those of the ring.
func (m *Mesh) Owners(key []byte, n int) []string {
	r := m.View().Ring
	for deep := n; ; deep *= 2 {
		all := r.Owners(key, deep)
		owners := keep(all, m.reachableName)
		if len(owners) < n && deep > 0 && deep < r.Len() {
			continue
		}
		if len(owners) == 0 {
			owners = all
		}
		return owners[:min(len(owners), max(n, 0))]
	}
}

// lagsLast moves the nodes for which upstream was slow lately behind the others. Where
// it is slow for all, the order stays.
func (m *Mesh) lagsLast(names []string) []string {
	now := time.Now()
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(m.lagOf(a, now), m.lagOf(b, now)) })
	return names
}

// lagOf is 1 for a node for which upstream was slow lately, else 0.
func (m *Mesh) lagOf(name string, now time.Time) int {
	if p := m.peer(name); p != nil && p.lags(now) {
		return 1
	}
	return 0
}

// keep returns the names for which good holds.
func keep(names []string, good func(string) bool) []string {
	var stored []string
	for _, name := range names {
		if good(name) {
			stored = append(stored, name)
		}
	}
	return stored
}
