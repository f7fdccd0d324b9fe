package peers

import (
	"fmt"
	"sync"
	"time"
)

// quarantine is who sent what cannot be true, and is not asked for bytes for a
// while. It goes by name: a node does not get out of it by changing its address.
// The zero value is ready for use.
type quarantine struct {
	mu      sync.Mutex
	entries map[string]*quarantined // guarded by mu
}

// quarantined is why a node is not asked, and for how long. It is an error, and
// is not changed after it was made.
type quarantined struct {
	until time.Time
	cause error
}

func (q *quarantined) Error() string {
	return fmt.Sprintf("it is in quarantine until %s: %v", q.until.UTC().Format(time.RFC3339), q.cause)
}

func (q *quarantined) Unwrap() error { return q.cause }

// Distrust keeps a peer from being asked for bytes for a while, and logs it as an
// error: it sent something that cannot be true, by a fault or by intent.
func (m *Mesh) Distrust(peer string, err error) {
	until := time.Now().Add(m.cfg.Timing.Quarantine)
	m.quarantine.add(peer, &quarantined{until: until, cause: err})
	m.metrics.distrusted.WithLabelValues(peer).Inc()
	m.log.Error("a node sent wrong bytes and is not asked for any for a while; look at its disk and memory",
		"node", peer, "until", until.UTC().Format(time.RFC3339), "error", err)
}

// distrusted tells why a node is in quarantine; nil if it is not.
func (m *Mesh) distrusted(name string) *quarantined { return m.quarantine.of(name, time.Now()) }

func (q *quarantine) add(name string, entry *quarantined) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.entries == nil {
		q.entries = make(map[string]*quarantined)
	}
	q.entries[name] = entry
}

// of returns the entry of a node, and forgets it when its time is over.
func (q *quarantine) of(name string, now time.Time) *quarantined {
	q.mu.Lock()
	defer q.mu.Unlock()
	entry := q.entries[name]
	if entry != nil && !now.Before(entry.until) {
		delete(q.entries, name)
		return nil
	}
	return entry
}

// count returns how many nodes are in quarantine.
func (q *quarantine) count(now time.Time) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for name, entry := range q.entries {
		if now.Before(entry.until) {
			n++
		} else {
			delete(q.entries, name)
		}
	}
	return n
}
