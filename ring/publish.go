package ring

import (
	"fmt"
	"slices"
	"time"
)

// Changes are gathered for batch before a ring is built, and there is at least spacing
// between two rings: in a cluster that starts, nodes appear one by one.
const (
	batch   = 50 * time.Millisecond
	spacing = 250 * time.Millisecond
)

// follower is a function that is called with each view.
type follower struct {
	call func(*View)
	last *View // what it was called with; of the publishing goroutine
}

// OnChange has f called with the present view soon, and then with each later one,
// in order, by one goroutine, which builds no further view meanwhile. Views that
// follow each other closely may be left out.
func (m *Members) OnChange(f func(*View)) {
	m.mu.Lock()
	m.followers = append(m.followers, &follower{call: f})
	m.mu.Unlock()
	poke(m.following)
}

// changed says that the roster has. It does not block.
func (m *Members) changed() { poke(m.dirty) }

// changedNow is changed, and waits until the followers know the view. It must not be called by a follower.
func (m *Members) changedNow() {
	published := make(chan struct{})
	select {
	case m.urgent <- published:
	case <-m.ctx.Done():
		return
	}
	select {
	case <-published:
	case <-m.ctx.Done():
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// publish builds views aside and publishes them, until the end.
func (m *Members) publish() {
	var last time.Time
	for {
		select {
		case <-m.following:
		case <-m.dirty:
			select {
			case <-time.After(max(batch, spacing-time.Since(last))):
			case <-m.ctx.Done():
				return
			}
			m.build()
			last = time.Now()
		case published := <-m.urgent:
			m.build()
			last = time.Now()
			m.notifyFollowers()
			close(published)
		case <-m.ctx.Done():
			return
		}
		m.notifyFollowers()
	}
}

func (m *Members) notifyFollowers() {
	m.mu.Lock()
	followers := slices.Clone(m.followers)
	m.mu.Unlock()
	v := m.View()
	for _, f := range followers {
		if f.last != v {
			f.last = v
			f.call(v)
		}
	}
}

// build makes and publishes the view of the roster as it is now. Only Start and
// the publishing goroutine call it.
func (m *Members) build() {
	// What changes from here on is built next time.
	select {
	case <-m.dirty:
	default:
	}
	before := m.View()
	if before == nil {
		before = &View{}
	}
	began := time.Now()
	v, err := newView(m.roster.nodes(), before.Ring)
	if err != nil {
		m.cfg.Logger.Error("no ring can be built of the nodes there are; the one before stays", "error", err)
	}
	v.Missing = m.roster.lookedFor()
	if slices.Equal(v.Nodes, before.Nodes) && slices.Equal(v.Missing, before.Missing) {
		return
	}
	m.view.Store(v)
	m.logChanges(before, v)
	m.logLeft(before, v)
	if v.Ring == before.Ring {
		return
	}
	took := time.Since(began)
	m.changes.Add(1)
	m.built.Store(int64(took))
	m.cfg.Logger.Info("the ring changed", "nodes", v.Ring.Len(), "hash", fmt.Sprintf("%016x", v.Ring.Hash()), "took", took)
}

// logLeft logs when there are more nodes than a ring has room for.
func (m *Members) logLeft(before, after *View) {
	was, selfWas := 0, false
	if before.Ring != nil {
		was, selfWas = before.left()
	}
	n, self := after.left()
	switch {
	case self && !selfWas:
		m.cfg.Logger.Error("this node serves hosts and owns nothing: the cluster has more nodes than can own, and others come first",
			"limit", MaxNodes, "too_many", n)
	case n > 0 && was == 0:
		m.cfg.Logger.Error("the cluster has more nodes than can own; some serve hosts and own nothing", "limit", MaxNodes, "too_many", n)
	case n == 0 && was > 0:
		m.cfg.Logger.Info("every node of the cluster owns its share again")
	}
}

// logChanges logs which nodes joined, left and changed, except this node.
func (m *Members) logChanges(before, after *View) {
	for _, n := range after.Nodes {
		old, known := before.Node(n.Name)
		switch {
		case n.Self:
		case !known:
			m.cfg.Logger.Info("a node joined", "node", n.Name, "datacenter", n.Datacenter, "address", n.GossipAddr, "state", n.State.String())
		case old.State != n.State || old.GossipAddr != n.GossipAddr:
			m.cfg.Logger.Info("a node changed", "node", n.Name, "address", n.GossipAddr, "state", n.State.String())
		}
		if (!known || old.RingVersion != n.RingVersion) && n.RingVersion != Version {
			m.cfg.Logger.Warn("a node places keys in another way; it owns nothing here", "node", n.Name, "its", n.RingVersion, "ours", Version)
		}
	}
	for _, n := range before.Nodes {
		if _, there := after.Node(n.Name); there {
			continue
		}
		if slices.ContainsFunc(after.Missing, func(m Missing) bool { return m.Name == n.Name }) {
			m.cfg.Logger.Warn("a node is missing; it is looked for until it comes back or is removed", "node", n.Name)
		} else {
			m.cfg.Logger.Info("a node has left", "node", n.Name)
		}
	}
}
