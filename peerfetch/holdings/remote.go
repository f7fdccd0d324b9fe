package holdings

import (
	"errors"
	"fmt"
	"sync"

	"github.com/aptmesh/aptmesh/proto"
)

// What a Remote takes from a node that may mean harm. A Local of ours stays below
// all of these.
const (
	maxHashes    = 32
	maxReported  = 64 << 10       // changes in one Update
	maxChangeSet = 4 * maxChanges // changes since the last filter
)

// Remote is the set of another node, as of its last Update. Safe for concurrent use. Has
// waits at most for one Update to be written.
type Remote struct {
	applying sync.Mutex // one Apply at a time
	arriving *filter    // guarded by applying: the filter of which pieces are arriving

	mu      sync.RWMutex
	filter  *filter         // guarded by mu; nil before the first is complete
	changes map[uint64]bool // guarded by mu: present or not, where the filter says otherwise
	blobs   uint64          // guarded by mu
}

// NewRemote knows nothing yet.
func NewRemote() *Remote { return new(Remote) }

// Has reports whether the node holds d, as far as is known here. It may be wrong
// either way: about what changed in the last moment, and by the odds of the filter.
func (r *Remote) Has(d proto.Digest) bool {
	p := prefixOf(d)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if stored, reported := r.changes[p]; reported {
		return stored
	}
	return r.filter != nil && r.filter.has(p)
}

// Len is how many blobs the node says it holds.
func (r *Remote) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return int(r.blobs)
}

// Bytes is about how much memory r takes.
func (r *Remote) Bytes() int {
	const perChange = 24
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := len(r.changes) * perChange
	if r.filter != nil {
		n += len(r.filter.bytes)
	}
	return n
}

// Apply takes the next Update. After an error the sequence is broken: what was
// known before stays, and the next Update must be a Begin.
func (r *Remote) Apply(u Update) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	err := r.apply(u)
	if err != nil {
		r.arriving = nil
	}
	return err
}

func (r *Remote) apply(u Update) error {
	if u.Begin {
		if err := checkBegin(u); err != nil {
			return err
		}
		r.arriving = &filter{bits: u.FilterBits, hashes: u.FilterHashes}
	}
	complete, err := r.take(u)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if complete != nil {
		r.filter, r.changes = complete, make(map[uint64]bool)
	}
	r.blobs = min(u.Blobs, 1<<40)
	if len(u.Added)+len(u.Removed) == 0 {
		return nil
	}
	return r.changeLocked(u.Added, u.Removed)
}

func checkBegin(u Update) error {
	switch {
	case u.FilterBits%8 != 0 || u.FilterBits > maxFilterBytes*8:
		return fmt.Errorf("a filter of %d bits: want a multiple of 8, at most %d", u.FilterBits, maxFilterBytes*8)
	case u.FilterBits > 0 && (u.FilterHashes == 0 || u.FilterHashes > maxHashes):
		return fmt.Errorf("a filter of %d hashes: want 1 to %d", u.FilterHashes, maxHashes)
	}
	return nil
}

// take adds a piece to the filter that is arriving, and returns it if that was the
// last one.
func (r *Remote) take(u Update) (*filter, error) {
	f := r.arriving
	if f == nil {
		if len(u.Filter) > 0 {
			return nil, errors.New("a piece of a filter that was not begun")
		}
		return nil, nil
	}
	missing := int(f.bits/8) - len(f.bytes)
	switch {
	case len(u.Filter) > missing:
		return nil, fmt.Errorf("%d bytes of a filter that lacks %d", len(u.Filter), missing)
	case len(u.Filter) == 0 && missing > 0 && !u.Begin:
		return nil, fmt.Errorf("an update without the next piece of a filter that lacks %d bytes", missing)
	}
	// The memory grows with what was sent, not with what was announced.
	f.bytes = append(f.bytes, u.Filter...)
	if len(u.Filter) < missing {
		if len(u.Added)+len(u.Removed) > 0 {
			return nil, errors.New("changes to a filter that is not complete")
		}
		return nil, nil
	}
	r.arriving = nil
	return f, nil
}

func (r *Remote) changeLocked(added, removed []uint64) error {
	switch {
	case r.filter == nil:
		return errors.New("changes to a filter that was not begun")
	case len(added)+len(removed) > maxReported:
		return fmt.Errorf("%d changes at once: want at most %d", len(added)+len(removed), maxReported)
	case len(r.changes)+len(added)+len(removed) > maxChangeSet:
		return fmt.Errorf("more than %d changes without a new filter", maxChangeSet)
	}
	for _, p := range removed {
		r.setLocked(p, false)
	}
	for _, p := range added {
		r.setLocked(p, true)
	}
	return nil
}

// setLocked remembers what became of p, unless the filter says the same.
func (r *Remote) setLocked(p uint64, stored bool) {
	if r.filter.has(p) == stored {
		delete(r.changes, p)
	} else {
		r.changes[p] = stored
	}
}
