package peerfetch

import (
	"time"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

// excludeFor is how long a peer is not asked for an object after it sent wrong bytes of it, or
// after a transfer broke that cannot be resumed.
const excludeFor = 10 * time.Minute

// A peer that passed on wrong bytes of its upstream and said so is asked again, because by then it
// knows the corrupt mirror. After maxLapses times within lapseFor another peer is asked.
const (
	maxLapses = 3
	lapseFor  = time.Minute
)

// maxRecent bounds each set of what happened recently; what is forgotten early costs
// one more request.
const maxRecent = 4096

// recentSet remembers for some time that something happened between a peer and this
// node over one object. Safe for concurrent use.
type recentSet struct {
	ttl time.Duration
	set *expiring.Map[peerObject, struct{}]
}

type peerObject struct {
	peer string
	key  key
}

func newRecentSet(ttl time.Duration) recentSet {
	return recentSet{ttl, expiring.New[peerObject, struct{}](maxRecent)}
}

func (r recentSet) note(peer string, k key, now time.Time) {
	r.set.Set(peerObject{peer, k}, struct{}{}, now, now.Add(r.ttl))
}

func (r recentSet) recently(peer string, k key, now time.Time) bool {
	_, ok := r.set.Get(peerObject{peer, k}, now)
	return ok
}

// lapseSet counts what happened lately between a peer and this node over one object. Safe for
// concurrent use.
type lapseSet struct {
	m *expiring.Map[peerObject, int]
}

func newLapseSet() lapseSet { return lapseSet{expiring.New[peerObject, int](maxRecent)} }

func (d lapseSet) note(peer string, k key, now time.Time) {
	d.m.Update(peerObject{peer, k}, now, func(n int, _ bool) (int, time.Time) { return n + 1, now.Add(lapseFor) })
}

func (d lapseSet) many(peer string, k key, now time.Time) bool {
	n, _ := d.m.Get(peerObject{peer, k}, now)
	return n >= maxLapses
}
