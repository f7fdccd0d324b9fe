package prefetch

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// ready knows what was fetched ahead and not asked for yet, so that the benefit can
// be counted. Safe for concurrent use.
type ready struct {
	waiting atomic.Int64 // sizes.Len(): most of the time 0, and asked is quick

	mu    sync.Mutex
	sizes *expiring.Map[uint64, int64] // without an end
	used  int64                        // objects asked for after they had been fetched ahead
	bytes int64                        // of these
}

func newReady() *ready { return &ready{sizes: expiring.New[uint64, int64](maxReady)} }

func readyKey(loc proto.Location) uint64 { return keyOf(loc.Archive, proto.PackageID{Name: loc.Path}) }

func (r *ready) add(loc proto.Location, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sizes.Set(readyKey(loc), size, time.Time{}, time.Time{})
	r.waiting.Store(int64(r.sizes.Len()))
}

// asked counts the first time that a client is served what was ready.
func (r *ready) asked(loc proto.Location) {
	if r.waiting.Load() == 0 {
		return
	}
	key := readyKey(loc)
	r.mu.Lock()
	defer r.mu.Unlock()
	size, ok := r.sizes.Get(key, time.Time{})
	if !ok {
		return
	}
	r.sizes.Delete(key)
	r.waiting.Store(int64(r.sizes.Len()))
	r.used++
	r.bytes += size
}

func (r *ready) totals() (used, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used, r.bytes
}
