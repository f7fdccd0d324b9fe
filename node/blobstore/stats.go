package blobstore

import (
	"time"
)

// Stats is a store at one moment, in bytes unless said otherwise.
type Stats struct {
	// Used are the blobs stored; an upper bound while Scanned is false.
	Used int64
	// Reserved are blobs on their way in. Used+Reserved+Partial ≤ Max.
	Reserved int64
	// Partial are unfinished blobs that can be continued and that nobody writes now.
	Partial int64
	Max     int64
	// Overflow is the memory that stands in for a disk without room: blobs there, and on their
	// way there.
	Overflow int64
	// Free is what the file system has left; -1 where it does not say.
	Free int64
	// Blobs is the number of blobs known; all of them once Scanned is true.
	Blobs   int
	Scanned bool
	// Pinned are the bytes of known blobs that may not be evicted, PinnedBlobs
	// their number.
	Pinned      int64
	PinnedBlobs int

	MemoryHits, DiskHits, Misses int64 // answers of Get, since Open

	Evictions    int64 // blobs, since Open
	EvictedBytes int64
	Damaged      int64 // blobs found damaged and removed, since Open
	Scrubbed     int64 // bytes re-hashed in the background, since Open

	// DegradedSince is when the store stopped keeping new blobs; zero when it
	// does keep them. Degraded says why, to an operator.
	DegradedSince time.Time
	Degraded      string
}

// Limit is how many bytes all blobs may have together.
func (s *Store) Limit() int64 { return s.space.max }

// Stats looks at each shard of the index and at each pin: for status pages and
// scrapes, not for each request.
func (s *Store) Stats() Stats {
	st := Stats{
		Max:          s.space.max,
		Free:         -1,
		Blobs:        s.index.len(),
		Scanned:      s.scan.done(),
		MemoryHits:   counted(s.metrics.hitMemory),
		DiskHits:     counted(s.metrics.hitDisk),
		Misses:       counted(s.metrics.misses),
		Evictions:    counted(s.metrics.evictions),
		EvictedBytes: counted(s.metrics.evictedBytes),
		Damaged:      counted(s.metrics.damaged),
		Scrubbed:     counted(s.metrics.scrubbed),
	}
	st.Used, st.Reserved, st.Partial = s.space.totals()
	s.overflow.mu.Lock()
	st.Overflow = s.overflow.used
	s.overflow.mu.Unlock()
	st.DegradedSince, st.Degraded = s.health.state(s.log)
	if free, err := s.fs.Free(s.dirs.root); err == nil {
		st.Free = free
	}
	st.Pinned, st.PinnedBlobs = s.pinnedBytes()
	return st
}
