package upstream

import (
	"math"
	"time"
)

const (
	// stale is how long a measurement counts. After that the mirror is as good as
	// untested, and so gets another chance.
	stale = 10 * time.Minute
	// latencyWeight is the part of the newest answer in the average latency.
	latencyWeight = 0.3
	// New samples of the rate outweigh the older ones after this time spent reading, or
	// after this number of bytes. With time alone, a mirror that has become fast would look
	// slow for minutes. With bytes alone, a mirror that has become slow would look fast.
	rateTime  = 3 * time.Second
	rateBytes = 1 << 20
	// enough is the weight of the samples from which on a rate counts as measured:
	// what came along with the header says nothing of the rate.
	enough = 0.05
)

// speed is what a mirror has been measured at. It is not safe for concurrent use.
type speed struct {
	latency   time.Duration // average wait for the header of an answer, with a slot in hand
	latencyAt time.Time
	perByte   float64 // average seconds that a byte takes, not its inverse: times add up, rates do not
	known     float64 // how much of perByte was measured, 0 to 1
	perByteAt time.Time
}

// answered records how long an answer's header took.
func (s *speed) answered(after time.Duration, now time.Time) {
	if s.latencyAt.IsZero() || now.Sub(s.latencyAt) >= stale {
		s.latency = after
	} else {
		s.latency += time.Duration(latencyWeight * float64(after-s.latency))
	}
	s.latencyAt = now
}

// received records how long n bytes of one body took to read.
func (s *speed) received(n int64, spent time.Duration, now time.Time) {
	if n <= 0 {
		return
	}
	if now.Sub(s.perByteAt) >= stale {
		s.known, s.perByte = 0, 0
	}
	old := math.Exp(-spent.Seconds()/rateTime.Seconds() - float64(n)/rateBytes)
	// Of the average so far, only what was measured counts.
	sum := old*s.known*s.perByte + (1-old)*spent.Seconds()/float64(n)
	s.known = old*s.known + (1 - old)
	s.perByte, s.perByteAt = sum/s.known, now
}

// rate returns the bytes per second that one transfer gets; false if that is unknown.
func (s *speed) rate(now time.Time) (float64, bool) {
	if s.known < enough || now.Sub(s.perByteAt) >= stale {
		return 0, false
	}
	return 1 / max(s.perByte, 1e-12), true
}

// wait returns how long the header of an answer takes; false where that is not known.
func (s *speed) wait(now time.Time) (time.Duration, bool) {
	if s.latencyAt.IsZero() || now.Sub(s.latencyAt) >= stale {
		return 0, false
	}
	return s.latency, true
}

// expect returns how long an object of a size should take; false for an untested
// mirror. A rate that is not known counts as endless, so that it will be.
func (s *speed) expect(size int64, now time.Time) (time.Duration, bool) {
	expected, ok := s.wait(now)
	if !ok {
		return 0, false
	}
	if rate, ok := s.rate(now); ok {
		expected += time.Duration(float64(size) / rate * float64(time.Second))
	}
	return expected, true
}
