package suite

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Config configures a Machine. All durations are positive, unless a field says otherwise.
type Config struct {
	ID proto.Suite
	// Interval is how often upstream is asked.
	Interval time.Duration
	// Configured suites are watched whether or not anybody asks for them.
	Configured bool
	// Offline never asks upstream.
	Offline bool
	// Immutable says that upstream never changes, see Config.settled.
	Immutable bool
	// Clustered says that there are other nodes.
	Clustered bool
	// Unsigned says that no signature vouches for roots of the archive: another node's word is not
	// enough then, except the leader's where LeaderVouches.
	Unsigned bool
	// LeaderVouches says that what the leader itself answers counts as much as a signature would:
	// the connection proves that it is the leader. Otherwise each node asks upstream about a root that
	// no key vouches for.
	LeaderVouches bool
	// CheckWait is how long a host waits for a check while there is something to give it.
	CheckWait time.Duration
	// Patience is how long a new generation waits for an optional file that cannot be fetched.
	Patience time.Duration
	// AcceptOlder is how long all mirrors must show a root that is older than the current one until it
	// is taken: the publisher has gone back to it then. 0 is never.
	AcceptOlder time.Duration
	// MaxFuture is how far the date of a root may lie ahead of our clock.
	MaxFuture time.Duration
	// IdleAfter is how long the suite is watched after anybody asked for it.
	IdleAfter time.Duration
	// RenewEvery is how often the node reports to the leader that its clients want the suite.
	RenewEvery time.Duration
	// WarnBefore is how long before Valid-Until a root that nobody renews is warned of; negative:
	// when that has passed.
	WarnBefore   time.Duration
	ServeExpired ServeExpired
	Judge        Judge
	// Rand draws from [0,1).
	Rand func() float64
}

// ServeExpired is how long an expired root is served while upstream is silent. Negative: not at
// all.
type ServeExpired struct {
	Period, SecurityPeriod time.Duration
	Key, SecurityKey       string // of the configuration
}

// periodFor is stricter for security updates: hosts that go on with old ones without knowing are in
// danger.
func (s ServeExpired) periodFor(r *Root) (time.Duration, string) {
	if r.Manifest.Security {
		return s.SecurityPeriod, s.SecurityKey
	}
	return s.Period, s.Key
}

// settled reports whether upstream need not be asked any more: it never changes, and what it has is adopted
// with everything beside the root.
func (c *Config) settled(current *Root) bool {
	return c.Immutable && current != nil && current.Gen.Unknown() == 0
}

// CheckPause is the least time between two questions to upstream that somebody asks for.
const CheckPause = time.Second

// Record is what a Machine must remember over a restart. Times on the monotonic clock are saved as
// dates, because the monotonic clock does not survive a restart. Restore clamps dates in the future.
type Record struct {
	// Floor is the newest signed date that was ever adopted: an older root is refused even where
	// the bytes of the newer one are lost. Zero for none.
	Floor time.Time `json:"floor,omitzero"`
	// TakenBack is the date of the root that an operator went back from; zero where nobody did.
	TakenBack time.Time `json:"taken_back,omitzero"`
	// Checked is when upstream last had nothing newer; zero for never.
	Checked time.Time `json:"checked,omitzero"`
	// Primary is the mirror that is asked first, Mirrors what each gave last.
	Primary string                  `json:"primary,omitempty"`
	Mirrors map[string]MirrorRecord `json:"mirrors,omitempty"`
}

// MirrorRecord is what one mirror gave last.
type MirrorRecord struct {
	Validators
	Date time.Time `json:"date,omitzero"`
	Seen time.Time `json:"seen,omitzero"`
}
