package peers

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// quietFor is how long the same trouble is not logged again.
	quietFor = time.Minute
	// maxTroubles bounds what is remembered: some of it comes from strangers.
	maxTroubles = 256
)

// rarely logs what may happen many times a second once a minute. The zero value
// is ready for use.
type rarely struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// warn logs, unless it did so for the same key within the last minute.
func (r *rarely) warn(log *slog.Logger, key, msg string, args ...any) {
	if r.due(key, time.Now()) {
		log.Warn(msg, args...)
	}
}

func (r *rarely) due(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[key]; ok && now.Sub(last) < quietFor {
		return false
	}
	if len(r.last) >= maxTroubles || r.last == nil {
		r.last = make(map[string]time.Time)
	}
	r.last[key] = now
	return true
}
