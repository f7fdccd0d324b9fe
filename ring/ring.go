package ring

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Version is the version of the placement: of the library's algorithm and of the constants
// in place.go. Nodes with another version are served, but own nothing. A change of what New
// computes must increase it.
const Version = 1

// MaxNodes is how many names New takes. In a larger cluster only that many nodes own keys,
// see newView.
const MaxNodes = 256

// Ring is a set of nodes and which of them owns which key: a pure function of
// the names. It is immutable and safe for concurrent use.
type Ring struct {
	names  []string // sorted, distinct
	hash   uint64
	shares []float64 // part of the keys, by index in names
	placement
	// orders are the failover orders that were asked for, by partition, each as
	// deep as it was asked for. They are computed lazily: of 50 nodes there are
	// more orders than anybody will ask for. What is kept is bounded by partitions
	// times names times two bytes, and depends on nothing but the names.
	orders [partitions]atomic.Pointer[[]uint16]
	some   limitedRings
}

// New builds the ring of names; their order and duplicates do not matter. No
// names make an empty ring. It takes about 1 ms for 5 nodes and 4 ms for 50, so
// it is not for the path of a request.
func New(names []string) (r *Ring, err error) {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > MaxNodes {
		return nil, fmt.Errorf("ring of %d nodes; at most %d", len(names), MaxNodes)
	}
	r = &Ring{names: names, hash: hashOf(names), shares: make([]float64, len(names))}
	if len(names) == 0 {
		return r, nil
	}
	if r.placement, err = place(names); err != nil {
		return nil, fmt.Errorf("ring of %d nodes: %w", len(names), err)
	}
	for _, node := range r.owners {
		r.shares[node] += 1.0 / partitions
	}
	return r, nil
}

// hashOf is a hash of a set of names. Lengths are hashed, too: "ab","c" is not "a","bc".
func hashOf(names []string) uint64 {
	d := xxhash.New()
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], Version)
	d.Write(n[:])
	for _, name := range names {
		binary.LittleEndian.PutUint64(n[:], uint64(len(name)))
		d.Write(n[:])
		d.WriteString(name)
	}
	return d.Sum64()
}

// Owners returns up to n nodes for a key in failover order: first its owner, then
// the owner in the ring without the first, then the owner in the ring without the
// first two, and so on; nil on an empty ring. The slice is the caller's.
//
// What was asked for before takes some 40 ns. The first question for a partition
// takes up to 50 µs for each step down.
func (r *Ring) Owners(key []byte, n int) []string {
	n = min(n, len(r.names))
	if n <= 0 {
		return nil
	}
	owners := make([]string, n)
	for i, node := range r.order(partitionOf(key), n) {
		owners[i] = r.names[node]
	}
	return owners
}

// order returns the first n nodes, at most all there are, in the failover order
// of a partition.
func (r *Ring) order(partition, n int) []uint16 {
	known := r.orders[partition].Load()
	if known != nil && len(*known) >= n {
		return (*known)[:n]
	}
	order := make([]uint16, 0, n)
	if known == nil {
		order = append(order, r.owners[partition])
	} else {
		order = append(order, *known...)
	}
	gone := make([]bool, len(r.names))
	for _, node := range order {
		gone[node] = true
	}
	for len(order) < n {
		next := r.walk(gone, partition+1)[partition]
		order = append(order, next)
		gone[next] = true
	}
	// Two that compute this at once find the same. The shorter may win; then the
	// rest is computed once more.
	r.orders[partition].Store(&order)
	return order
}

// Names returns the nodes, sorted. The slice is the caller's.
func (r *Ring) Names() []string { return slices.Clone(r.names) }

// Len returns how many nodes there are.
func (r *Ring) Len() int { return len(r.names) }

// Hash identifies a ring: it depends on Version and the names. Nodes compare it to find out
// whether they see the same cluster.
func (r *Ring) Hash() uint64 { return r.hash }

// Contains reports whether name is in the ring.
func (r *Ring) Contains(name string) bool {
	_, ok := slices.BinarySearch(r.names, name)
	return ok
}

// Share returns the part of all keys that name owns, 0..1. It is at most 1.25
// times an equal share, rounded up to whole partitions.
func (r *Ring) Share(name string) float64 {
	i, ok := slices.BinarySearch(r.names, name)
	if !ok {
		return 0
	}
	return r.shares[i]
}
