package holdings

import (
	"slices"
	"sync"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// A follower gets a new filter when a tenth of the digests have changed since the
	// last filter: never after fewer than minChanges, always after maxChanges, because
	// then the exact changes take more space than the filter.
	minChanges = 4096
	maxChanges = 50_000
	// maxLog is how many changes at least are remembered while there are followers. It
	// is more than maxChanges, so that a follower finds all changes since its filter.
	maxLog = 1 << 16
)

// Local is what this node holds. Safe for concurrent use.
type Local struct {
	builder builder

	mu     sync.Mutex
	stored set // guarded by mu
	// log lists the digests that were added or removed, oldest first; whether a digest
	// is there now, the set says. Its first entry is change number logStart. It is kept
	// only while there are followers.
	log       []uint64      // guarded by mu
	logStart  uint64        // guarded by mu
	followers int           // guarded by mu
	changed   chan struct{} // guarded by mu; closed at the next change, nil while nobody waits for it
}

// NewLocal holds nothing yet.
func NewLocal() *Local { return new(Local) }

// Add says that the node holds d. Saying it again changes nothing.
func (l *Local) Add(d proto.Digest) {
	p := prefixOf(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored.add(p) {
		l.noteLocked(p)
	}
}

// Remove says that the node does not hold d, or no longer.
func (l *Local) Remove(d proto.Digest) {
	p := prefixOf(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored.remove(p) {
		l.noteLocked(p)
	}
}

// Has reports whether the node holds d.
func (l *Local) Has(d proto.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored.has(prefixOf(d))
}

// Len is how many digests the node holds.
func (l *Local) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored.count
}

// noteLocked writes a change to the log and wakes the followers that wait for one.
func (l *Local) noteLocked(p uint64) {
	if l.followers == 0 {
		l.logStart++
		return
	}
	if len(l.log) == 2*maxLog {
		l.log = append(l.log[:0], l.log[maxLog:]...)
		l.logStart += maxLog
	}
	l.log = append(l.log, p)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// nowLocked is the number of the next change.
func (l *Local) nowLocked() uint64 { return l.logStart + uint64(len(l.log)) }

// staleLocked reports whether a filter that does not know the changes from number
// since on is to be replaced.
func (l *Local) staleLocked(since uint64) bool {
	limit := min(max(l.stored.count/10, minChanges), maxChanges)
	return l.nowLocked()-since > uint64(limit)
}

// sinceLocked sorts at most max changes from number since on into digests that are
// there now and digests that are not, and returns how many changes that was.
func (l *Local) sinceLocked(since uint64, max int) (added, removed []uint64, n int) {
	changes := l.log[since-l.logStart:]
	changes = slices.Clone(changes[:min(len(changes), max)])
	n = len(changes)
	slices.Sort(changes)
	for _, p := range slices.Compact(changes) {
		if l.stored.has(p) {
			added = append(added, p)
		} else {
			removed = append(removed, p)
		}
	}
	return added, removed, n
}

// builder makes the filter that followers begin with. Followers that begin at about the
// same time share one.
type builder struct {
	mu    sync.Mutex
	last  *filter // guarded by mu
	since uint64  // guarded by mu: the first change that last may not know
}

// whole returns a filter of all digests, and the number of the first change that it may
// lack.
func (l *Local) whole() (*filter, uint64) {
	b := &l.builder
	b.mu.Lock()
	defer b.mu.Unlock()
	l.mu.Lock()
	now, count := l.nowLocked(), l.stored.count
	fresh := b.last != nil && b.since >= l.logStart && now-b.since <= minChanges/2
	l.mu.Unlock()
	if fresh {
		return b.last, b.since
	}
	// The lock is released between the parts, so the filter may know some of the
	// changes from now on and lack others. The follower receives all of them.
	f := newFilter(count)
	for i := range l.stored.parts {
		l.mu.Lock()
		for _, p := range l.stored.parts[i] {
			f.add(p)
		}
		l.mu.Unlock()
	}
	b.last, b.since = f, now
	return f, now
}
