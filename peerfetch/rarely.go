package peerfetch

import (
	"sync"
	"time"
)

// maxRare bounds each table of what rarely happens.
const maxRare = 4096

// rarely remembers for some time that something happened between a peer and this
// node over one object. It is bounded: what is forgotten early costs one more
// request. Safe for concurrent use.
type rarely struct {
	ttl time.Duration

	mu    sync.Mutex
	until map[rare]time.Time // guarded by mu
}

type rare struct {
	peer string
	key  key
}

func newRarely(ttl time.Duration) *rarely {
	return &rarely{ttl: ttl, until: make(map[rare]time.Time)}
}

func (r *rarely) note(peer string, k key, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.until) >= maxRare {
		r.makeRoom(now)
	}
	r.until[rare{peer, k}] = now.Add(r.ttl)
}

func (r *rarely) recently(peer string, k key, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.until[rare{peer, k}])
}

// makeRoom drops what is over, and whatever comes to hand until half is free, so
// that it need not be done often. mu is held.
func (r *rarely) makeRoom(now time.Time) {
	for k, until := range r.until {
		if !now.Before(until) {
			delete(r.until, k)
		}
	}
	for k := range r.until {
		if len(r.until) <= maxRare/2 {
			return
		}
		delete(r.until, k)
	}
}
