package prefetch

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/proto"
)

// What is remembered of a package's use is coarse on purpose: the ten minutes in
// which it was last used. So the second and every later use in that time writes
// nothing.
const (
	slotLength = 10 * time.Minute
	// heatHalf is after how many slots without use half of the heat is left: a week.
	heatHalf = float64(7 * 24 * time.Hour / slotLength)
	// maxUsed bounds the table: a full one takes about 2 MiB of memory and 800 KB of
	// state. All of Debian has some 70,000 packages for one architecture.
	maxUsed   = 50_000
	shards    = 16 // so that the locks are rarely asked for by two at once
	shardUses = maxUsed / shards
)

// keyOf is how uses are found: a hash, so that an entry is 16 bytes without a
// pointer. Only paths that signed metadata lists come here; two that collide would
// share their popularity.
func keyOf(archive string, id proto.PackageID) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(archive)
	_, _ = d.WriteString("\x00")
	_, _ = d.WriteString(id.Name)
	_, _ = d.WriteString("\x00")
	_, _ = d.WriteString(id.Arch)
	return d.Sum64()
}

func slotOf(t time.Time) uint32 { return uint32(t.Unix() / int64(slotLength/time.Second)) }

// use is what is known of one package. Its heat is the number of slots in which it
// was used, each counting half after heatHalf slots: one number that orders by both
// how lately and how often.
type use struct {
	slot uint32 // of the last use
	heat float32
}

// heatAt is the heat as it has cooled by a later slot.
func (u use) heatAt(slot uint32) float32 {
	if slot <= u.slot { // the same slot, or a clock that was set back
		return u.heat
	}
	return u.heat * float32(math.Exp2(-float64(slot-u.slot)/heatHalf))
}

// usage is the table of uses. Safe for concurrent use.
type usage struct {
	shards  [shards]usageShard
	changed atomic.Bool // since it was last saved
}

type usageShard struct {
	mu   sync.Mutex
	uses map[uint64]use
	_    [48]byte // a cache line each
}

func newUsage() *usage {
	u := &usage{}
	for i := range u.shards {
		u.shards[i].uses = make(map[uint64]use)
	}
	return u
}

func (u *usage) shard(key uint64) *usageShard { return &u.shards[key%shards] }

// note records a use.
func (u *usage) note(key uint64, slot uint32) {
	s := u.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.uses[key]
	if known && slot <= old.slot {
		return
	}
	if !known && len(s.uses) >= shardUses {
		s.dropOldest()
	}
	s.uses[key] = use{slot: slot, heat: old.heatAt(slot) + 1}
	u.changed.Store(true)
}

// dropOldest forgets the eighth of a full shard that was not used for longest: dropping one at
// a time would search the whole shard for each new package. The caller holds s.mu.
func (s *usageShard) dropOldest() {
	slots := make([]uint32, 0, len(s.uses))
	for _, u := range s.uses {
		slots = append(slots, u.slot)
	}
	slices.Sort(slots)
	drop := len(slots)/8 + 1
	limit := slots[drop-1]
	for key, u := range s.uses {
		if drop > 0 && u.slot <= limit {
			delete(s.uses, key)
			drop--
		}
	}
}

// heat returns how much a package was used within the given number of slots before now; 0 if
// not at all.
func (u *usage) heat(key uint64, now, within uint32) float32 {
	s := u.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.uses[key]
	if !ok || known.slot < now && now-known.slot > within {
		return 0
	}
	return known.heatAt(now)
}

// last is the beginning of the slot in which a package was last used; zero for none.
func (u *usage) last(key uint64) time.Time {
	s := u.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.uses[key]
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(known.slot)*int64(slotLength/time.Second), 0).UTC()
}

// len counts the packages known.
func (u *usage) len() int {
	n := 0
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		n += len(s.uses)
		s.mu.Unlock()
	}
	return n
}
