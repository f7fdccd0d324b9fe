package upstream

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// healths is the health of all mirrors, by name. Two archives with the same root
// share it.
type healths struct {
	mu sync.Mutex
	of map[string]*health // guarded by mu
}

// adopt gives the mirrors of a new configuration their known health, and forgets the health of
// removed mirrors.
func (hs *healths) adopt(s *settings) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	before := hs.of
	hs.of = make(map[string]*health)
	for _, a := range s.archives {
		for _, m := range a.sources() {
			h := cmp.Or(hs.of[m.name], before[m.name])
			if h == nil {
				h = newHealth(m.name)
			}
			hs.of[m.name], m.health = h, h
		}
	}
}

func (hs *healths) all() []*health {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return slices.SortedFunc(maps.Values(hs.of), func(a, b *health) int { return cmp.Compare(a.name, b.name) })
}

// healthOf returns the health of a mirror by its name, or of the site that a root was redirected
// to; nil if there is neither.
func (c *Client) healthOf(name string) *health {
	c.healths.mu.Lock()
	h := c.healths.of[name]
	c.healths.mu.Unlock()
	if h == nil {
		h, _ = c.sites.of.Get(name, time.Now())
	}
	return h
}

// ReceiveAlert accepts a finding of another node about a mirror. It ignores a mirror that no
// archive has. The alert has the same effect as a finding of this node, with one exception:
// "unreachable" only makes the mirror the last to be asked, because this node may have another path
// to it. A finding of this node overrides the alert.
func (c *Client) ReceiveAlert(t proto.MirrorAlert) {
	h := c.healthOf(t.Mirror)
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.breaker.receive(t, time.Now())
	h.wake()
}

// Alerts returns the present findings of this node about mirrors, in the order of the mirrors'
// names. A node that joins receives them.
func (c *Client) Alerts() []proto.MirrorAlert {
	now := time.Now()
	var all []proto.MirrorAlert
	for _, h := range c.healths.all() {
		h.mu.Lock()
		if h.breaker.state(now) == BreakerOpen && !h.breaker.remote {
			all = append(all, h.alert())
		}
		h.mu.Unlock()
	}
	return all
}
