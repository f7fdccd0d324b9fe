package blobstore

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/aptmesh/aptmesh/proto"
)

// memory holds small hot blobs. It may drop anything at any time, and nothing is
// ever wrong because of it: what is in it was hashed on the way in.
type memory struct {
	maxBlob int64
	cache   *ristretto.Cache[uint64, *resident] // nil: no memory tier

	// locks keep close apart from everything else: ristretto may panic when it is closed under a
	// Get or a Set; afterwards both do nothing. There are several, each on a cache line of its own,
	// so that hits on different blobs do not meet here.
	locks [16]paddedLock
}

type paddedLock struct {
	sync.RWMutex
	_ [40]byte
}

// resident is a blob in memory. Nothing in it changes once it is there, except
// through entry.
type resident struct {
	digest   proto.Digest
	modified time.Time
	bytes    []byte
	entry    *entry
	version  uint32 // of entry, when this copy was right
}

// current reports whether the blob is still what it was when the copy was made.
func (r *resident) current() bool { return r.entry == nil || r.version == r.entry.version.Load() }

// residentOverhead is what a resident costs beside its bytes: the struct, its
// share of ristretto's maps and policy, the slack of the allocator.
const residentOverhead = 256

// typicalResident sizes ristretto's frequency counters, of which it wants ten
// for each object it may come to hold: indices of a few hundred bytes
// to packages of MemoryMaxBlob average out near this.
const typicalResident = 16 << 10

func newMemory(bytes, maxBlob int64) (*memory, error) {
	m := &memory{maxBlob: maxBlob}
	if bytes <= 0 {
		return m, nil
	}
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *resident]{
		NumCounters: max(10_000, 10*bytes/typicalResident),
		MaxCost:     bytes,
		BufferItems: 64,
		// The key is the first eight bytes of a SHA-256 sum: it needs no hashing,
		// and get compares the whole digest.
		KeyToHash: func(key uint64) (uint64, uint64) { return key, 0 },
	})
	if err != nil {
		return nil, fmt.Errorf("memory tier of %d bytes: %w", bytes, err)
	}
	m.cache = cache
	return m, nil
}

func memoryKey(d proto.Digest) uint64 { return binary.LittleEndian.Uint64(d[:]) }

func (m *memory) lock(d proto.Digest) *paddedLock { return &m.locks[int(d[8])%len(m.locks)] }

// wants reports whether a blob of this size may live in memory at all.
func (m *memory) wants(size int64) bool { return m.cache != nil && size <= m.maxBlob }

func (m *memory) get(d proto.Digest) *resident {
	if m.cache == nil {
		return nil
	}
	g := m.lock(d)
	g.RLock()
	defer g.RUnlock()
	r, ok := m.cache.Get(memoryKey(d))
	// ristretto works a Set off behind us: one may show for a moment that a later Del
	// is about to undo.
	if !ok || r == nil || r.digest != d || !r.current() {
		return nil
	}
	return r
}

// set offers a blob, in place of another copy of it; ristretto may decline.
func (m *memory) set(r *resident) {
	if !m.wants(int64(len(r.bytes))) {
		return
	}
	g := m.lock(r.digest)
	g.RLock()
	defer g.RUnlock()
	// Another copy may have the date of an earlier commit. ristretto takes a Set for
	// an update only where the earlier Set has been worked off, and ignores it
	// otherwise; a Del between the two is obeyed in any case.
	m.cache.Del(memoryKey(r.digest))
	m.cache.Set(memoryKey(r.digest), r, int64(len(r.bytes))+residentOverhead)
}

func (m *memory) drop(d proto.Digest) {
	if m.cache == nil {
		return
	}
	g := m.lock(d)
	g.RLock()
	defer g.RUnlock()
	m.cache.Del(memoryKey(d))
}

func (m *memory) close() {
	if m.cache == nil {
		return
	}
	for i := range m.locks {
		g := &m.locks[i]
		g.Lock()
		defer g.Unlock()
	}
	m.cache.Close()
}
