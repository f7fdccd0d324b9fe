package suite

import (
	"math"
	"time"
)

// Mono is a moment on the process's monotonic clock.
type Mono time.Duration

// Never is before any other moment, by more than any interval.
const Never Mono = math.MinInt64 / 4

// Sub returns how long before m the moment o was.
func (m Mono) Sub(o Mono) time.Duration { return time.Duration(m - o) }

// Add returns the moment d after m.
func (m Mono) Add(d time.Duration) Mono { return m + Mono(d) }

// At is the circumstances in which an event is handled.
type At struct {
	Mono Mono
	// Wall is for dates only.
	Wall time.Time
	// Rank is how many healthy nodes come before this one for the suite. The node of rank 0 leads:
	// it asks upstream for all.
	Rank int
	// Mirrors are those of the archive, in the order in which upstream would ask them now.
	Mirrors []string
}

func (a At) isLeader() bool { return a.Rank == 0 }
