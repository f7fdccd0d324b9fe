package front

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// A body that is held back goes out in pieces between these, in bytes: large
	// ones cost fewer system calls; small ones let many answers to one address all
	// move, for apt gives one up that is silent for 30 seconds.
	leastPiece = 512
	mostPiece  = 64 << 10
	// freeMetadata is how much of one body of metadata is counted but not held back:
	// a Release or a small index is what everything else on the host waits for.
	freeMetadata = 1 << 20
)

// turn waits until the next piece of a body may go out, and returns its length, at
// most n. The error is that of a client who left meanwhile. Without a rate there is
// no waiting, and the pieces are as large as the write deadline allows. The rate in
// force is looked up for each piece, so that a change reaches bodies under way.
func (x *exchange) turn(n int64) (int64, error) {
	limit := x.f.rules.Load().limits.BytesPerSecond
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

// limitedTo returns the client's bucket, which fills at the given rate and holds what
// comes in a second, so that whoever takes little never waits.
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

// burst is never less than a piece, which could not be had otherwise.
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
