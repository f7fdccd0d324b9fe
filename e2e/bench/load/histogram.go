package load

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets 1.6 % wide. The zero value is empty.
type Histogram struct {
	buckets  [40 << subBits]uint32
	count    uint64
	sum      time.Duration
	min, max time.Duration
}

const subBits = 6

// bucketOf maps nanoseconds to a bucket: the position of the highest bit, then
// the next six bits.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-subBits-1, 0)
	return min(shift<<subBits+int(v>>shift), len(Histogram{}.buckets)-1)
}

// lowerBound is the smallest duration of a bucket.
func lowerBound(bucket int) time.Duration {
	if bucket < 2<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	return time.Duration((bucket - shift<<subBits)) << shift
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(d)]++
	if h.count == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.count++
	h.sum += d
}

// Mean is the mean of all; 0 when nothing was counted.
func (h *Histogram) Mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.sum / time.Duration(h.count)
}

// Max is the longest duration counted.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that the fraction q of all did not exceed; 0
// when nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.count))
	var seen uint64
	for i, n := range h.buckets {
		seen += uint64(n)
		if seen > rank {
			return min(max(lowerBound(i), h.min), h.max)
		}
	}
	return h.max
}
