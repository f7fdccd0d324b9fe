package upstream

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	minChunk = 4 << 10
	maxChunk = 256 << 10
	// metadataDebt is how far metadata may run ahead of the limit. What is beyond
	// is given away: else one big index would hold up every package for minutes.
	metadataDebt = 5 * time.Second
)

// limiter holds all transfers together to a number of bytes per second. A
// transfer pays after each read; the host is slowed down by TCP itself.
type limiter struct {
	bucket atomic.Pointer[rate.Limiter]
}

func newLimiter() *limiter {
	l := &limiter{}
	l.bucket.Store(rate.NewLimiter(rate.Inf, maxChunk))
	return l
}

// set changes the limit; 0 = none. An eighth of a second's worth in one piece
// keeps the pauses between pieces short when eight transfers share the limit.
//
// A new limit begins with no debt: what metadata ran up in seconds under a high one
// would take minutes to pay off under a tenth of it. Calls come one at a time.
func (l *limiter) set(bytesPerSecond int64) {
	limit, chunk := rate.Inf, int64(maxChunk)
	if bytesPerSecond > 0 {
		limit, chunk = rate.Limit(bytesPerSecond), min(max(bytesPerSecond/8, minChunk), maxChunk)
	}
	if limit != l.bucket.Load().Limit() {
		l.bucket.Store(rate.NewLimiter(limit, int(chunk)))
	}
}

// chunk is the most bytes that one read may return.
func (l *limiter) chunk() int { return l.bucket.Load().Burst() }

// take pays for n bytes, and waits as the class has to: metadata never, packages
// for their turn, prefetch until nobody else wants what is left.
func (l *limiter) take(ctx context.Context, class proto.Class, n int) error {
	bucket := l.bucket.Load()
	n = min(n, bucket.Burst()) // the limit may have changed since the read
	switch class {
	case proto.ClassMetadata:
		now := time.Now()
		if debt := -bucket.TokensAt(now); debt < metadataDebt.Seconds()*float64(bucket.Limit()) {
			bucket.ReserveN(now, n)
		}
		return nil
	case proto.ClassPackage:
		credit := bucket.ReserveN(time.Now(), n)
		if err := pause(ctx, credit.Delay()); err != nil {
			credit.Cancel()
			return err
		}
		return nil
	}
	for !bucket.AllowN(time.Now(), n) {
		missing := (float64(n) - bucket.Tokens()) / float64(bucket.Limit())
		wait := min(max(time.Duration(missing*float64(time.Second)), time.Millisecond), time.Second)
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

// mayWait reports whether take could wait at all.
func (l *limiter) mayWait() bool { return l.bucket.Load().Limit() != rate.Inf }

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
