package peers

import (
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

// maxQuarantined is more than a cluster has nodes.
const maxQuarantined = 4096

// quarantine is which nodes sent what cannot be true and are not asked for bytes for a
// while. It goes by name: a node does not get out of it by changing its address.
type quarantine = expiring.Map[string, *quarantined]

// quarantined is why a node is not asked, and for how long. It is an error, and
// is not changed after it was made.
type quarantined struct {
	until time.Time
	cause error
}

func (q *quarantined) Error() string {
	return fmt.Sprintf("it is in quarantine until %s: %v", q.until.UTC().Format(time.RFC3339), q.cause)
}

func (q *quarantined) Unwrap() error { return q.cause }

// Distrust keeps a peer from being asked for bytes for a while, and logs it as an
// error: it sent something that cannot be true, by a fault or by intent.
func (m *Mesh) Distrust(peer string, err error) {
	until := time.Now().Add(m.cfg.Timing.Quarantine)
	m.quarantine.Set(peer, &quarantined{until: until, cause: err}, time.Now(), until)
	m.metrics.quarantines.WithLabelValues(peer).Inc()
	m.log.Error("a node sent wrong bytes and is not asked for any for a while; look at its disk and memory",
		"node", peer, "until", until.UTC().Format(time.RFC3339), "error", err)
}

// distrusted returns why a node is in quarantine; nil if it is not.
func (m *Mesh) distrusted(name string) *quarantined {
	entry, _ := m.quarantine.Get(name, time.Now())
	return entry
}
