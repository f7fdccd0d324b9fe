package prefetch

import (
	"sync"
	"sync/atomic"

	"github.com/aptmesh/aptmesh/proto"
)

// ready knows what was fetched ahead and not asked for yet, so that the benefit can
// be counted. Safe for concurrent use.
type ready struct {
	waiting atomic.Int64 // len(sizes.items): most of the time 0, and asked is quick

	mu    sync.Mutex
	sizes *recent[uint64, int64]
	used  int64 // objects asked for after they had been fetched ahead
	bytes int64 // of these
}

func newReady() *ready { return &ready{sizes: newRecent[uint64, int64](maxReady)} }

func readyKey(loc proto.Location) uint64 { return keyOf(loc.Archive, loc.Path, "") }

func (r *ready) add(loc proto.Location, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes.put(readyKey(loc), size)
	r.waiting.Store(int64(len(r.sizes.items)))
}

// asked counts the first time that a client is served what was ready.
func (r *ready) asked(loc proto.Location) {
	if r.waiting.Load() == 0 {
		return
	}
	key := readyKey(loc)
	r.mu.Lock()
	defer r.mu.Unlock()
	size, ok := r.sizes.items[key]
	if !ok {
		return
	}
	delete(r.sizes.items, key)
	r.waiting.Store(int64(len(r.sizes.items)))
	r.used++
	r.bytes += size
}

func (r *ready) totals() (used, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, r.bytes
}
