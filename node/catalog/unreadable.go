package catalog

import (
	"sync"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// unreadables are the indexes of a suite of which the bytes are the right ones and make no sense to
// us, with the reason: they are served, and what they list is not verified. It is not durable: a
// newer version may be able to read them. Safe for concurrent use.
type unreadables struct {
	mu     sync.Mutex
	reason map[string]string // by member path
	table  map[string]bool   // by Member.Table: of the content
}

func (d *driver) noteUnreadable(m *proto.Member, reason string) {
	u := &d.unreadable
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reason == nil || len(u.reason) >= maxLocal {
		u.reason, u.table = make(map[string]string), make(map[string]bool)
	}
	u.reason[m.Path], u.table[m.Table] = reason, true
}

func (d *driver) isUnreadable(m *proto.Member) bool {
	u := &d.unreadable
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.table[m.Table]
}

// of lists those of a generation, which may be nil, by member path; nil for none. A later
// generation may have other content under the same path, which can be read.
func (u *unreadables) of(g *view.Generation) map[string]string {
	if g == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var found map[string]string
	for path, reason := range u.reason {
		if m := g.Member(path); m != nil && u.table[m.Table] {
			if found == nil {
				found = make(map[string]string)
			}
			found[path] = reason
		}
	}
	return found
}
