package cluster

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/ring"
)

// limits are the cluster's caps on upstream, as configured.
type limits struct {
	connections    int                 // per upstream host
	bytesPerSecond int64               // 0: none
	hosts          map[string][]string // hosts of its mirrors by archive, the first mirror's first
}

// limit notes the caps of a configuration.
func (c *Cluster) limit(cfg *config.Config) {
	l := &limits{
		connections: cfg.UpstreamClient.ConnectionsPerHost, bytesPerSecond: cfg.UpstreamClient.Rate,
		hosts: make(map[string][]string, len(cfg.Archives)),
	}
	for _, a := range cfg.Archives {
		if hosts := c.rooms.Upstream.HostsOf(a.Name); len(hosts) > 0 {
			l.hosts[a.Name] = hosts
		}
	}
	c.limits.Store(l)
}

// Relimit puts the caps of a new configuration in force.
func (c *Cluster) Relimit(cfg *config.Config) {
	if m := c.members(); m != nil { // before that, upstream is not known
		c.limit(cfg)
		c.shareUpstream(m.View())
	}
}

// share is this node's part of the cluster's caps.
type share struct {
	connections map[string]int // by upstream host
	others      int            // to a host that is not configured: a redirect led there
	rate        int64          // bytes per second; 0: no cap
}

// shareOf divides the caps among the nodes that own. A node that is not among them,
// which joins or leaves, has next to nothing; where nobody owns, all is its own.
func (l *limits) shareOf(name string, v *ring.View) share {
	owners := v.Ring.Names()
	s := share{connections: make(map[string]int), others: l.connections, rate: l.bytesPerSecond}
	mine, all := 0, 0
	for _, hosts := range l.hosts {
		for _, host := range hosts {
			if _, done := s.connections[host]; done {
				continue
			}
			n := l.connections
			if len(owners) > 0 {
				n = ring.Slots(host, l.connections, owners)[name]
			}
			s.connections[host] = n
			mine, all = mine+n, all+l.connections
		}
	}
	if len(owners) > 0 && all > 0 {
		s.others = max(1, l.connections/len(owners))
		s.rate = max(s.rate*int64(mine)/int64(all), min(s.rate, minRate))
	}
	return s
}

// minRate is what a node without a part of the caps may still fetch, in bytes per
// second, where the rate is capped at all: it goes upstream only if no other can.
const minRate = 16 << 10

// lower is the smaller of two shares in every respect; a host that before does not
// know counts as it is.
func (s share) lower(before share) share {
	low := share{connections: make(map[string]int, len(s.connections)), others: min(s.others, before.others), rate: s.rate}
	for host, n := range s.connections {
		if was, known := before.connections[host]; known {
			n = min(n, was)
		}
		low.connections[host] = n
	}
	if before.rate > 0 && (s.rate == 0 || before.rate < s.rate) {
		low.rate = before.rate
	}
	return low
}

// sharing puts shares in force: a smaller one at once, a larger one only after a while, when
// the node that had the difference before has noticed, too.
type sharing struct {
	mu    sync.Mutex
	timer *time.Timer
	now   *share // nil before the first
}

// raiseAfter is how long a larger share waits, and up to as long again by chance:
// the death of an owner must not send all others upstream in one moment.
const raiseAfter = time.Second

// shareUpstream follows the membership with this node's part of the caps.
func (c *Cluster) shareUpstream(v *ring.View) {
	next := c.limits.Load().shareOf(c.name, v)
	r := &c.shares
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.now == nil {
		c.put(next)
		return
	}
	c.put(next.lower(*r.now))
	r.timer = time.AfterFunc(raiseAfter+rand.N(raiseAfter), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.put(next)
	})
}

// put puts a share in force. The caller holds sharing.mu.
func (c *Cluster) put(s share) {
	c.shares.now = &s
	c.rooms.Upstream.SetShare(func(host string) int {
		if n, ok := s.connections[host]; ok {
			return n
		}
		return s.others
	}, s.rate)
}

func (r *sharing) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
}
