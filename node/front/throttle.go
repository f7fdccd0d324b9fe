package front

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// The size of the pieces in which a throttled body goes out, in bytes. Large pieces cost
	// fewer system calls. Small pieces let many answers to one address all make progress,
	// because apt gives up an answer that is silent for 30 seconds.
	leastPiece = 512
	mostPiece  = 64 << 10
	// freeMetadata is how much of one body of metadata is counted but not throttled, because
	// everything else on the host waits for a Release or a small index.
	freeMetadata = 1 << 20
)

// turn waits until the next piece of a body may go out, and returns its length, at most n.
// It fails if the client leaves in the meantime. Without a rate it does not wait, and the
// pieces are as large as the write deadline allows. It looks up the rate for each piece, so
// that a change of the rate reaches bodies under way.
func (x *exchange) turn(n int64) (int64, error) {
	limit := x.f.rules.Load().limits.Rate
	if limit <= 0 || x.conn == nil || x.conn.client == nil {
		return min(n, pace), nil
	}
	return x.turnOf(x.conn.client, n, limit)
}

func (x *exchange) turnOf(c *client, n, limit int64) (int64, error) {
	bucket := c.limitedTo(limit)
	if x.entry.Object.Class == proto.ClassMetadata && x.sent < freeMetadata {
		n = min(n, freeMetadata-x.sent)
		charge(bucket, n)
		return n, nil
	}
	// Of those that wait each gets a piece in turn; a round of all of them is to
	// take about a quarter of a second.
	waiting := c.waiting.Add(1)
	defer c.waiting.Add(-1)
	n = min(n, max(leastPiece, min(mostPiece, limit/4/waiting)))
	place := bucket.ReserveN(time.Now(), int(n))
	wait := place.Delay()
	if wait <= 0 {
		return n, nil
	}
	if x.begun {
		// What net/http has gathered so far is the client's already.
		_ = http.NewResponseController(x.w).Flush()
	}
	x.f.metrics.throttled.Add(wait.Seconds())
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return n, nil
	case <-x.r.Context().Done():
		place.Cancel()
		return 0, context.Cause(x.r.Context())
	}
}

// limitedTo returns the client's token bucket. It fills at the given rate and holds the
// tokens of one second, so that a slow client never waits.
func (c *client) limitedTo(limit int64) *rate.Limiter {
	bucket := c.bucket.Load()
	if bucket == nil {
		c.bucket.CompareAndSwap(nil, rate.NewLimiter(rate.Limit(limit), burst(limit)))
		bucket = c.bucket.Load()
	}
	if bucket.Limit() != rate.Limit(limit) {
		bucket.SetBurst(burst(limit))
		bucket.SetLimit(rate.Limit(limit))
	}
	return bucket
}

// burst is never less than a piece, because a piece must fit in the bucket.
func burst(limit int64) int { return int(max(limit, mostPiece)) }

// charge takes n bytes out of a bucket without waiting for them, down to one second's
// worth below nothing: what metadata owes must never hold a package back for as long
// as apt's patience lasts.
func charge(bucket *rate.Limiter, n int64) {
	now := time.Now()
	full := bucket.Burst()
	if n = min(n, int64(full), int64(bucket.TokensAt(now))+int64(full)); n > 0 {
		bucket.ReserveN(now, int(n))
	}
}

// rested reports whether the client has paid back all that it took.
func (c *client) rested(now time.Time) bool {
	bucket := c.bucket.Load()
	return bucket == nil || bucket.TokensAt(now) >= float64(bucket.Burst())
}
