package ring

import (
	"bytes"
	"errors"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// delegate has the callbacks of memberlist. Most calls come under memberlist's lock on the
// list of nodes, or in the loop that reads packets. So they note the event and return. None
// of them calls memberlist, which would deadlock, or waits.
type delegate struct{ m *Members }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta implements memberlist.Delegate. What is longer than the limit panics
// there; Start has seen to it that nothing is.
func (d delegate) NodeMeta(int) []byte { return d.m.roster.meta() }

// NotifyMsg implements memberlist.Delegate. The bytes are memberlist's.
func (d delegate) NotifyMsg(frame []byte) {
	if len(frame) == 0 {
		return
	}
	switch frame[0] {
	case frameBeacon:
		if b, err := decodeBeacon(frame[1:]); err == nil {
			d.m.roster.receiveBeacon(b)
		}
	case frameLeft, frameClaim:
		d.m.notes.put(frame)
	case frameMessage:
		if d.m.cfg.Received != nil {
			d.m.messages.put(frame[1:])
		}
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.broadcasts.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate. It comes without memberlist's locks.
func (d delegate) LocalState(bool) []byte {
	m := d.m
	m.life.RLock()
	defer m.life.RUnlock()
	if m.ctx.Err() != nil {
		return nil
	}
	goneNodes := encodeLeft(m.roster.goneNodes())
	if m.cfg.LocalState == nil {
		return joinState(goneNodes, nil)
	}
	state := m.cfg.LocalState()
	if len(state) > MaxState {
		// Sent, it would make the other side refuse the whole exchange.
		m.cfg.Logger.Error("the state to exchange with other nodes is too long, and not sent", "bytes", len(state), "limit", MaxState)
		state = nil
	}
	return joinState(goneNodes, state)
}

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	goneNodes, state, err := splitState(b)
	if err != nil {
		return
	}
	d.m.notes.put(append([]byte{frameLeft}, goneNodes...))
	if d.m.cfg.MergeState != nil && len(state) > 0 && len(state) <= MaxState {
		d.m.states.put(state)
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.changed(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.changed(n) }

func (d delegate) changed(n *memberlist.Node) {
	if err := d.m.roster.put(n); err != nil {
		d.m.warn("what a node says of itself cannot be understood; it owns nothing and is not asked", "node", n.Name, "error", err)
	}
	d.m.logs.admit(n.Address()) // it reads the gossip now
	d.m.changed()
}

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.m.roster.remove(n.Name)
	d.m.changed()
}

// NotifyAlive implements memberlist.AliveDelegate: an error keeps the node out.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if !validName(n.Name) || len(n.Meta) > memberlist.MetaMaxSize {
		return errors.New("not a node of ours: its name or metadata is not valid")
	}
	return nil
}

// NotifyConflict implements memberlist.ConflictDelegate: somebody else uses the
// name of a node that is believed to be there.
func (d delegate) NotifyConflict(known, claims *memberlist.Node) {
	d.m.conflicts.Add(1)
	d.m.notes.put(encodeClaim(Claim{Name: known.Name, Known: known.Address(), Other: claims.Address()}))
	if known.Name == d.m.cfg.Name {
		d.m.warn("another node has this node's name, or this one had it at a former address; the cluster takes one of the two in until that one is gone, and `aptmesh status` says which",
			"name", known.Name, "here", known.Address(), "other", claims.Address())
		return
	}
	d.m.warn("two nodes have one name: one is in the cluster, and the other is kept out until the first is gone; give each a name of its own",
		"node", known.Name, "member", known.Address(), "kept_out", claims.Address())
}

// inbox is a bounded queue of what arrived, in order. Where nobody takes things
// out fast enough, the newest are dropped and counted.
type inbox struct {
	queue   chan []byte
	dropped atomic.Uint64
}

func newInbox(size int) *inbox { return &inbox{queue: make(chan []byte, size)} }

// put keeps a copy. It does not block.
func (i *inbox) put(b []byte) {
	select {
	case i.queue <- bytes.Clone(b):
	default:
		i.dropped.Add(1)
	}
}
