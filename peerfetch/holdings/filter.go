package holdings

// The filter takes 16 bits per entry and 8 positions for each. For n entries in m
// bits with k positions, (1 - e^(-kn/m))^k of all other digests are taken for
// entries: 0.057 %, one in 1,700. With the customary 10 bits it would be 0.8 %, and
// among 20 nodes every seventh object that is new to all of them would cost a round
// trip to a node that only seems to hold it; so it is one in ninety.
const (
	filterBitsPerEntry = 16
	filterHashes       = 8
	// maxFilterBytes is 32 million entries; beyond that the filter gets worse,
	// not larger.
	maxFilterBytes = 64 << 20
)

// filter is a Bloom filter over prefixes. Position i is bit i%8 of byte i/8. It
// is not changed once it is complete.
type filter struct {
	bits   uint64 // a multiple of 8; 0 holds nothing
	hashes uint32
	bytes  []byte
}

// newFilter is empty and made for n entries.
func newFilter(n int) *filter {
	size := min(max((n*filterBitsPerEntry+7)/8, 64), maxFilterBytes)
	return &filter{bits: uint64(size) * 8, hashes: filterHashes, bytes: make([]byte, size)}
}

// The positions of a prefix are spread over the filter by double hashing (Kirsch
// and Mitzenmacher), with the two halves of the prefix as the two hashes: digests
// are as good as random already. A 32-bit hash is scaled to the filter's bits, of
// which there are at most 2^29.

func (f *filter) add(p uint64) {
	h, step := uint32(p), uint32(p>>32)
	for range f.hashes {
		at := uint64(h) * f.bits >> 32
		f.bytes[at/8] |= 1 << (at % 8)
		h += step
	}
}

func (f *filter) has(p uint64) bool {
	if f.bits == 0 {
		return false
	}
	h, step := uint32(p), uint32(p>>32)
	for range f.hashes {
		at := uint64(h) * f.bits >> 32
		if f.bytes[at/8]&(1<<(at%8)) == 0 {
			return false
		}
		h += step
	}
	return true
}
