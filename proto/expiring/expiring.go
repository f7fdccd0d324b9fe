// Package expiring is a map of bounded size whose entries end at a time of their own:
// what a node remembers for a while about peers, mirrors, objects and strangers.
//
// It has no clock and no goroutine. The caller passes the time, always of the same clock. An
// entry that is over is not returned any more. It leaves the memory when new entries come, or
// at a Get of it.
//
// It is not a cache in front of something: a Get does not keep an entry longer.
package expiring

import (
	"container/list"
	"sync"
	"time"
)

// Map remembers at most a fixed number of entries. When it is full, the entry that was
// set longest ago makes room for a new one. Setting an entry again renews its age. So
// if all entries last equally long, the one that would end first goes. Safe for
// concurrent use.
type Map[K comparable, V any] struct {
	max int

	mu      sync.Mutex
	entries map[K]*list.Element // of *entry[K, V]; guarded by mu
	ages    *list.List          // the one set longest ago is in front; guarded by mu
}

type entry[K comparable, V any] struct {
	key   K
	value V
	until time.Time // zero: it does not end
}

// New returns an empty map of at most max entries, 1 or more.
func New[K comparable, V any](max int) *Map[K, V] {
	return &Map[K, V]{max: max, entries: make(map[K]*list.Element), ages: list.New()}
}

// Get returns an entry that is not over at now.
func (m *Map[K, V]) Get(k K, now time.Time) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(k, now)
}

// Set puts an entry that ends at until; the zero time means that it does not end.
func (m *Map[K, V]) Set(k K, v V, now, until time.Time) {
	m.Update(k, now, func(V, bool) (V, time.Time) { return v, until })
}

// Update replaces an entry in one step. change gets the entry that is not over at now,
// if there is one, and returns the new value and when that ends. It must not call the
// map.
func (m *Map[K, V]) Update(k K, now time.Time, change func(old V, ok bool) (v V, until time.Time)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, until := change(m.get(k, now))
	m.delete(k)
	// Where all entries last equally long, this finds every one that is over.
	for front := m.ages.Front(); front != nil && (len(m.entries) >= m.max || over[K, V](front, now)); front = m.ages.Front() {
		m.delete(front.Value.(*entry[K, V]).key)
	}
	m.entries[k] = m.ages.PushBack(&entry[K, V]{k, v, until})
}

// Delete forgets an entry.
func (m *Map[K, V]) Delete(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delete(k)
}

// DeleteFunc forgets the entries for which del returns true. del must not call the map.
func (m *Map[K, V]) DeleteFunc(del func(K, V) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, at := range m.entries {
		if del(k, at.Value.(*entry[K, V]).value) {
			m.delete(k)
		}
	}
}

// Each calls do for every entry that is not over at now, in no order, and returns their
// number. do may be nil and must not call the map.
func (m *Map[K, V]) Each(now time.Time, do func(K, V)) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, at := range m.entries {
		if over[K, V](at, now) {
			continue
		}
		n++
		if do != nil {
			do(k, at.Value.(*entry[K, V]).value)
		}
	}
	return n
}

// Len returns how many entries are in memory, those included that are over and not
// dropped yet.
func (m *Map[K, V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// get is Get, and drops an entry that is over. The caller holds mu.
func (m *Map[K, V]) get(k K, now time.Time) (v V, ok bool) {
	at := m.entries[k]
	switch {
	case at == nil:
		return v, false
	case over[K, V](at, now):
		m.delete(k)
		return v, false
	}
	return at.Value.(*entry[K, V]).value, true
}

// delete drops an entry. The caller holds mu.
func (m *Map[K, V]) delete(k K) {
	if at := m.entries[k]; at != nil {
		m.ages.Remove(at)
		delete(m.entries, k)
	}
}

func over[K comparable, V any](at *list.Element, now time.Time) bool {
	until := at.Value.(*entry[K, V]).until
	return !until.IsZero() && !now.Before(until)
}
