package blobstore

import (
	"container/heap"
	"iter"
	"sync"

	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/proto"
)

// evictBatch is the part of the limit that an eviction frees beyond what was
// asked for, when that takes whole blobs: choosing victims looks at every blob
// (0.15 s for a million), so it must not happen for each new one.
const evictBatch = 64

// pins are the blobs that must not be evicted, by owner. They need not be in the
// store, nor known to the index.
type pins struct {
	mu     sync.RWMutex
	owners map[string][]proto.Digest
	count  map[proto.Digest]int
	held   Held // nil: nothing
}

// Held is a set of digests. It is never changed.
type Held interface {
	// Has is called for up to all blobs while locks are held: it takes less than a microsecond and does not call
	// the Store.
	Has(proto.Digest) bool
	// All yields the digests, each once.
	All() iter.Seq[proto.Digest]
}

// Hold makes a set the blobs that are not evicted besides those that are pinned, in place of the set before; nil
// is none. It is for sets that are too large for Pin. The set holds from the moment Hold returns, until Close.
func (s *Store) Hold(set Held) {
	s.pins.mu.Lock()
	s.pins.held = set
	s.pins.mu.Unlock()
	s.heldBytes.forget()
}

// has reports whether a blob must not be evicted. The caller holds mu.
func (p *pins) has(d proto.Digest) bool {
	return p.count[d] > 0 || p.held != nil && p.held.Has(d)
}

// holding returns the set that is held.
func (p *pins) holding() Held {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.held
}

// Pin makes digests the set of blobs that owner needs, in place of the set it
// named before; none unpins. A blob pinned by anyone is never evicted, from the
// moment Pin returns. Pins last until Close: their owners know them.
//
// A caller that moves a durable pointer from one set of blobs to another pins both sets
// until the pointer is written: if the process dies before, the file names the first set.
func (s *Store) Pin(owner string, digests []proto.Digest) {
	p := &s.pins
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owners == nil {
		p.owners, p.count = make(map[string][]proto.Digest), make(map[proto.Digest]int)
	}
	for _, d := range p.owners[owner] {
		if p.count[d]--; p.count[d] == 0 {
			delete(p.count, d)
		}
	}
	delete(p.owners, owner)
	if len(digests) == 0 {
		return
	}
	p.owners[owner] = append([]proto.Digest(nil), digests...)
	for _, d := range digests {
		p.count[d]++
	}
}

// pinned returns the distinct pinned digests.
func (p *pins) pinned() []proto.Digest {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]proto.Digest, 0, len(p.count))
	for d := range p.count {
		all = append(all, d)
	}
	return all
}

// victim is a blob that may have to go.
type victim struct {
	digest     proto.Digest
	size       int64
	used       int64
	rank       int64 // used, less the last-copy bonus if another node stores it
	replicated bool
}

// victims is a heap with the blob of the highest rank on top.
type victims []victim

func (v victims) Len() int           { return len(v) }
func (v victims) Less(i, j int) bool { return v[i].rank > v[j].rank }
func (v victims) Swap(i, j int)      { v[i], v[j] = v[j], v[i] }
func (v *victims) Push(x any)        { *v = append(*v, x.(victim)) }
func (v *victims) Pop() any {
	last := (*v)[len(*v)-1]
	*v = (*v)[:len(*v)-1]
	return last
}

// makeRoom evicts what is needed for n more bytes to fit under the limit. It
// returns false where nothing could be done.
func (s *Store) makeRoom(n int64) bool {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	need := s.space.short(n)
	if need <= 0 {
		return true // an eviction before ours freed enough for both
	}
	if need -= s.freePartials(need); need <= 0 {
		return true
	}
	return s.evict(need, need+s.space.max/evictBatch) > 0
}

// evict removes the blobs of the lowest rank: need bytes of them or more, up to
// upTo. It returns what it freed: 0 where that would not do. The caller holds
// evicting.
func (s *Store) evict(need, upTo int64) (freed int64) {
	oldest := s.oldest(need, upTo)
	if s.scan.done() && sizeOf(oldest) < need {
		return 0 // all of it would not be enough: then none of it shall go
	}
	return s.evictAll(oldest, need)
}

// evictAll removes victims in their order and returns what it freed.
//
// Two nodes that store the same blobs tend to evict them in the same minute. So
// Replicated is asked again just before a replicated blob is evicted. A blob that is
// the last copy by now stays if need can be met without it. The caller holds evicting.
func (s *Store) evictAll(victims []victim, need int64) (freed int64) {
	var spared []victim
	for _, v := range victims {
		if v.replicated && !s.cfg.Replicated(v.digest) {
			spared = append(spared, v)
			continue
		}
		freed += s.evictOne(v)
	}
	for _, v := range spared {
		if freed >= need {
			break
		}
		freed += s.evictOne(v)
	}
	return freed
}

func sizeOf(blobs []victim) (sum int64) {
	for _, v := range blobs {
		sum += v.size
	}
	return sum
}

// oldest chooses the unpinned blobs that were not used for the longest time: at least
// need bytes of them, and more while they fit in upTo. A replicated blob counts as last
// used LastCopyBonus earlier than it was. The result is in the order of eviction.
//
// Replicated is asked only of a blob that would be chosen if it were replicated. If most
// blobs are replicated, those are few. If none is, they are all blobs that were used
// within LastCopyBonus after the last chosen one.
func (s *Store) oldest(need, upTo int64) []victim {
	// For all shards at once: pins.mu comes before shard.mu.
	s.pins.mu.RLock()
	defer s.pins.mu.RUnlock()
	replicated, bonus := s.cfg.Replicated, int64(s.cfg.LastCopyBonus)
	if replicated == nil {
		bonus = 0
	}
	var chosen victims
	var total int64
	for i := range s.index {
		sh := &s.index[i]
		sh.mu.RLock()
		for d, e := range sh.blob {
			used := e.used.Load()
			full := total >= upTo && len(chosen) > 0
			if full && used-bonus >= chosen[0].rank || s.pins.has(d) {
				continue
			}
			v := victim{digest: d, size: e.size, used: used, rank: used}
			if replicated != nil && replicated(d) {
				v.rank, v.replicated = used-bonus, true
			}
			if full && v.rank >= chosen[0].rank {
				continue // it would leave again at once
			}
			chosen = append(chosen, v)
			heap.Fix(&chosen, len(chosen)-1)
			total += e.size
			// Whatever is not needed to reach upTo leaves at the top.
			for len(chosen) > 1 && total-chosen[0].size >= upTo {
				total -= chosen[0].size
				heap.Pop(&chosen)
			}
		}
		sh.mu.RUnlock()
	}
	// The last one in may carry the total beyond upTo: it stays only if need be.
	if len(chosen) > 0 && total > upTo && total-chosen[0].size >= need {
		heap.Pop(&chosen)
	}
	sorted := make([]victim, len(chosen))
	for i := len(chosen) - 1; i >= 0; i-- {
		sorted[i] = chosen[0]
		heap.Pop(&chosen)
	}
	return sorted
}

// evictOne removes a victim unless it was pinned or used since it was chosen.
func (s *Store) evictOne(v victim) int64 {
	// Held until the blob is gone, so that no Pin returns in between.
	s.pins.mu.RLock()
	defer s.pins.mu.RUnlock()
	if s.pins.has(v.digest) {
		return 0
	}
	sh := s.index.shard(v.digest)
	sh.change.Lock()
	defer sh.change.Unlock()
	e := sh.get(v.digest)
	if e == nil || e.used.Load() != v.used {
		return 0
	}
	size, err := s.unlink(sh, v.digest)
	if err != nil {
		s.health.fail(s.log, s.cfg.Now(), durable.Explain(s.dirs.root, err), nil)
		return 0
	}
	s.metrics.evictions.Inc()
	s.metrics.evictedBytes.Add(float64(size))
	return size
}
