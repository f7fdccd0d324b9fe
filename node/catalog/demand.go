package catalog

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
)

// demand is what clients use of one suite: it is staged before each generation switch, on every
// node. It is all that a request writes. Safe for concurrent use.
//
// An entry is the slot of a member, or the name of a companion of the root. It is sent over two hops
// at most, so that no two nodes keep it alive between them: a node sends the demand of its own
// clients to the leader, and the leader sends it to all nodes. A node never announces the demand of
// a third node's clients.
type demand struct {
	asked atomic.Int64 // suite.Mono of the last request for the root

	mu     sync.RWMutex
	local  map[string]*use       // by clients of this node, by slot
	remote map[string]*remoteUse // by clients of other nodes
}

// use is that clients of this node ask for a slot.
type use struct {
	last atomic.Int64 // suite.Mono
	// fetched says that the slot could be fetched once. One that never could is waited for with
	// patience only: it may be broken upstream for good. Guarded by demand.mu.
	fetched bool
}

// remoteUse is a slot that clients of other nodes use.
type remoteUse struct {
	received suite.Mono // when a node last announced it
	asked    suite.Mono // when another node last sent it as its own clients' demand; Never for never
}

// How many uses a node announces, and how many of other nodes it keeps, of a suite; and how long a
// slot may be.
const (
	maxAnnounced  = 1024
	maxLocal      = 4096
	maxRemote     = 4096
	maxSlotLength = 512
)

// coarse is how exactly the time of a use is kept: enough for a period of days, and it spares the
// cache line.
const coarse = suite.Mono(60e9)

func newDemand() *demand {
	d := &demand{local: make(map[string]*use), remote: make(map[string]*remoteUse)}
	d.asked.Store(int64(suite.Never))
	return d
}

// root notes a request for the root, and reports whether it is the first one for a second.
func (d *demand) root(now suite.Mono) bool {
	last := suite.Mono(d.asked.Load())
	if now.Sub(last) < 1e9 { // spares the cache line under load
		return false
	}
	return d.asked.CompareAndSwap(int64(last), int64(now))
}

// touch notes a request for a slot; false where the slot was not in use before.
func (d *demand) touch(slot string, now suite.Mono) bool {
	d.mu.RLock()
	u, ok := d.local[slot]
	d.mu.RUnlock()
	if !ok {
		return false
	}
	if now-suite.Mono(u.last.Load()) > coarse {
		u.last.Store(int64(now))
	}
	return true
}

// add notes that clients of this node use a slot. fetched says that it could be fetched. It reports
// whether that is new for the leader.
func (d *demand) add(slot string, now suite.Mono, fetched bool) (grew bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, ok := d.local[slot]
	if !ok {
		if len(d.local) >= maxLocal {
			return false
		}
		u = &use{}
		d.local[strings.Clone(slot)] = u
	}
	u.last.Store(int64(now))
	grew = fetched && !u.fetched
	u.fetched = u.fetched || fetched
	return grew
}

// wasFetched reports whether a slot that clients of this node use could be fetched once.
func (d *demand) wasFetched(slot string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u, ok := d.local[slot]
	return ok && u.fetched
}

// staged notes that slots could be fetched.
func (d *demand) staged(slots []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, slot := range slots {
		if u, ok := d.local[slot]; ok {
			u.fetched = true
		}
	}
}

// receive accepts the demand that another node announces. asked says that it is of the node's own
// clients. known reports whether a slot can be used at all.
func (d *demand) receive(slots []string, now suite.Mono, asked bool, lasts suite.Mono, known func(string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, slot := range slots[:min(len(slots), maxAnnounced)] {
		if len(slot) > maxSlotLength || !known(slot) {
			continue
		}
		u, ok := d.remote[slot]
		if !ok {
			if len(d.remote) >= maxRemote {
				d.expireRemote(now, lasts)
			}
			if len(d.remote) >= maxRemote {
				return
			}
			u = &remoteUse{asked: suite.Never}
			d.remote[strings.Clone(slot)] = u
		}
		u.received = now
		if asked {
			u.asked = now
		}
	}
}

func (d *demand) expireRemote(now, lasts suite.Mono) {
	maps.DeleteFunc(d.remote, func(_ string, u *remoteUse) bool { return now-u.received > lasts })
}

// expire forgets what nobody has asked for lately.
func (d *demand) expire(now, local, remote suite.Mono) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.local, func(_ string, u *use) bool { return now-suite.Mono(u.last.Load()) > local })
	d.expireRemote(now, remote)
}

// own lists the slots that clients of this node use and that could be fetched; only the newest if
// they are too many for a message.
func (d *demand) own(now, lasts suite.Mono) []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var slots []string
	for slot, u := range d.local {
		if u.fetched && now-suite.Mono(u.last.Load()) <= lasts {
			slots = append(slots, slot)
		}
	}
	if len(slots) > maxAnnounced {
		slices.SortFunc(slots, func(x, y string) int {
			return int(d.local[y].last.Load()/1e9 - d.local[x].last.Load()/1e9)
		})
		slots = slots[:maxAnnounced]
	}
	slices.Sort(slots)
	return slots
}

// announced lists the demand that this node announces to all others: of its own clients, and of the
// clients of nodes that sent it to this node.
func (d *demand) announced(now, own, lasts suite.Mono) []string {
	slots := d.own(now, own)
	d.mu.RLock()
	defer d.mu.RUnlock()
	for slot, u := range d.remote {
		if len(slots) < maxAnnounced && now-u.asked <= lasts {
			slots = append(slots, slot)
		}
	}
	slices.Sort(slots)
	return slices.Compact(slots)
}

// locals and remotes are the slots in use, sorted.
func (d *demand) locals() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Sorted(maps.Keys(d.local))
}

func (d *demand) remotes() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Sorted(maps.Keys(d.remote))
}

// wants reports whether clients of any node use a slot.
func (d *demand) wants(slot string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, local := d.local[slot]
	_, remote := d.remote[slot]
	return local || remote
}

// record is the demand for the disk: seconds since the last request, by slot. Ages are kept and not
// dates, so that a clock that was wrong forgets nothing.
func (d *demand) record(now suite.Mono) map[string]int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r := make(map[string]int64)
	for slot, u := range d.local {
		if u.fetched {
			r[slot] = int64(now.Sub(suite.Mono(u.last.Load())) / 1e9)
		}
	}
	return r
}

// restore is the reverse of record.
func (d *demand) restore(r map[string]int64, now suite.Mono) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot, ago := range r {
		u := &use{fetched: true}
		u.last.Store(int64(now) - max(ago, 0)*1e9)
		d.local[slot] = u
	}
}
