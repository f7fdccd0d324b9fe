package blobstore

import (
	"sync"
	"sync/atomic"

	"github.com/aptmesh/aptmesh/proto"
)

// entry is what the index remembers of one blob: 28 bytes, apart from its key.
type entry struct {
	size int64
	// used is the last use, Unix nanoseconds.
	used atomic.Int64
	// rewrites is the last use the file's atime shows, Unix seconds.
	rewrites atomic.Uint32
	// reads counts the hits that had to go to disk; it wraps harmlessly.
	reads atomic.Uint32
	// version counts commits and the removal: a copy in memory of another version is not the
	// blob as it is now, though its bytes are.
	version atomic.Uint32
}

// shard is a 256th of the index: the blobs of one directory below blobs/.
type shard struct {
	// change makes a rename or unlink in the directory and the change of the
	// index that goes with it one step.
	change sync.Mutex

	mu   sync.RWMutex
	blob map[proto.Digest]*entry // guarded by mu
}

type index [256]shard

func (x *index) shard(d proto.Digest) *shard { return &x[d[0]] }

func (sh *shard) get(d proto.Digest) *entry {
	sh.mu.RLock()
	e := sh.blob[d]
	sh.mu.RUnlock()
	return e
}

// put registers a blob, and reports whether it was new. The caller holds change.
func (sh *shard) put(d proto.Digest, fresh *entry) (e *entry, added bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.blob[d]; e != nil {
		return e, false
	}
	if sh.blob == nil {
		sh.blob = make(map[proto.Digest]*entry)
	}
	sh.blob[d] = fresh
	return fresh, true
}

// drop forgets a blob and returns what was known of it, or nil. The caller holds
// change.
func (sh *shard) drop(d proto.Digest) *entry {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.blob[d]
	delete(sh.blob, d)
	return e
}

// newEntry describes a blob last used at the given Unix nanosecond, which is
// also what its atime says.
func newEntry(size, used int64) *entry {
	e := &entry{size: size}
	e.used.Store(used)
	e.rewrites.Store(uint32(used / 1e9))
	return e
}

// len counts the blobs known so far.
func (x *index) len() int {
	n := 0
	for i := range x {
		sh := &x[i]
		sh.mu.RLock()
		n += len(sh.blob)
		sh.mu.RUnlock()
	}
	return n
}
