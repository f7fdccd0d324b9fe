package blobstore

import (
	"cmp"
	"iter"
	"math"
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// lastCopyPage is how many blobs LastCopies collects at a time. A page costs a pass over all blobs
// and up to 10 MiB of memory.
const lastCopyPage = 1 << 16

// LastCopies yields the blobs that no other node stores, the most recently used first: a node that
// leaves hands them off. A blob that is used or stored during the loop comes at the end, perhaps
// for the second time. Blobs that the scan at the start has not found yet are left out.
//
// replicated reports whether another node stores a blob. It is called under a lock, like
// Config.Replicated, and again without a lock just before a blob is yielded. Nothing counts as a
// use.
func (s *Store) LastCopies(replicated func(proto.Digest) bool) iter.Seq[proto.Ref] {
	return s.lastCopyPages(replicated, lastCopyPage)
}

// lastCopyPages is LastCopies with pages of a given size.
func (s *Store) lastCopyPages(replicated func(proto.Digest) bool, size int) iter.Seq[proto.Ref] {
	return func(yield func(proto.Ref) bool) {
		began := s.cfg.Now().UnixNano()
		give := func(page []usedBlob) bool {
			for _, b := range page {
				if s.index.shard(b.digest).get(b.digest) == nil || replicated(b.digest) {
					continue
				}
				if !yield(proto.Ref{Digest: b.digest, Size: b.size}) {
					return false
				}
			}
			return true
		}
		last := usedBlob{used: began - 1}
		for {
			page := s.lastCopies(size, func(b usedBlob) bool { return compareUse(b, last) > 0 && !replicated(b.digest) })
			if !give(page) {
				return
			}
			if len(page) < size {
				break
			}
			last = page[len(page)-1]
		}
		// A blob that was used during the loop, before its page, is above all pages now.
		give(s.lastCopies(math.MaxInt, func(b usedBlob) bool { return b.used >= began && !replicated(b.digest) }))
	}
}

// usedBlob is a blob and when it was last used.
type usedBlob struct {
	digest proto.Digest
	size   int64
	used   int64
}

// compareUse orders blobs by last use, the latest first.
func compareUse(a, b usedBlob) int {
	return cmp.Or(cmp.Compare(b.used, a.used), compare(a.digest, b.digest))
}

// lastCopies returns the n most recently used blobs that wanted accepts, in that order. It holds at
// most twice as many at a time, and those of one shard.
func (s *Store) lastCopies(n int, wanted func(usedBlob) bool) []usedBlob {
	var page []usedBlob
	var last usedBlob // of a full page: what comes behind it is out
	full := false
	settle := func() {
		slices.SortFunc(page, compareUse)
		if full = len(page) >= n; full {
			page = page[:n]
			last = page[n-1]
		}
	}
	for i := range s.index {
		sh := &s.index[i]
		sh.mu.RLock()
		for d, e := range sh.blob {
			b := usedBlob{d, e.size, e.used.Load()}
			if (!full || compareUse(b, last) < 0) && wanted(b) {
				page = append(page, b)
			}
		}
		sh.mu.RUnlock()
		if len(page)/2 > n {
			settle()
		}
	}
	settle()
	return page
}
