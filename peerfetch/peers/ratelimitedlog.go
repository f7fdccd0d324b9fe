package peers

import (
	"log/slog"
	"time"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

const (
	// quietFor is how long the same failure is not logged again.
	quietFor = time.Minute
	// maxRemembered bounds what is remembered: some of it comes from strangers.
	maxRemembered = 256
)

// rateLimitedLog logs what may happen many times a second once a minute. Safe for
// concurrent use.
type rateLimitedLog struct {
	last *expiring.Map[string, time.Time]
}

func newRateLimitedLog() rateLimitedLog {
	return rateLimitedLog{expiring.New[string, time.Time](maxRemembered)}
}

// warn logs, unless it did so for the same key within the last minute.
func (r rateLimitedLog) warn(log *slog.Logger, key, msg string, args ...any) {
	if r.due(key, time.Now()) {
		log.Warn(msg, args...)
	}
}

func (r rateLimitedLog) due(key string, now time.Time) bool {
	due := false
	r.last.Update(key, now, func(last time.Time, quiet bool) (time.Time, time.Time) {
		if due = !quiet; due {
			last = now
		}
		return last, last.Add(quietFor)
	})
	return due
}
