package upstream

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// probe finds out in the background whether a mirror has recovered, so that no client has to
// wait for it. It asks for the first byte of the object at hand. There is one probe at a time,
// and no more of them than clients without another mirror would make.
func (c *Client) probe(s *settings, a *archive, m *mirror, req proto.Request) {
	if !m.health.startProbe() {
		return
	}
	e := c.newAttempt(a, m, proto.Request{Loc: req.Loc, Class: proto.ClassPrefetch, Size: req.Size, Head: true}, nil)
	e.probe, e.anyHost, e.madeUp = true, true, req.Class == proto.ClassUnlisted
	go func() {
		defer m.health.endProbe()
		if t, err := c.follow(c.running, s, e); err == nil && t.Body != nil {
			t.Body.Close()
		}
	}()
}

func (h *health) startProbe() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.probing || h.breaker.state(now) == BreakerClosed || h.breaker.mustWait(now) || h.breaker.admit(now) > 0 {
		return false
	}
	h.probing = true
	return true
}

func (h *health) endProbe() {
	h.mu.Lock()
	h.probing = false
	h.mu.Unlock()
}
