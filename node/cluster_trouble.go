package node

import (
	"context"

	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
)

// What one node finds out about a mirror, the others need not find out again: a
// mirror that asks one of them to wait means all, and one that is dead costs each
// of them a timeout. Who finds out tells all others directly, gossips it for those
// who miss that, and goes on to hold it in the state that nodes exchange and for
// whoever begins to answer. Nobody passes on what others found out: so a trouble
// ends when its finder says so, or when its time is over.

// tellTrouble has the other nodes told what this one has found out. It does not
// block; of several troubles of a mirror in quick succession they hear the last.
func (c *cluster) tellTrouble(t proto.Trouble) {
	if t.Node != "" && t.Node != c.name {
		return // heard, not found
	}
	t.Node = c.name
	c.troubles.put(t.Mirror, t, nil)
}

// spreadTroubles is one round of telling.
func (c *cluster) spreadTroubles(troubles []proto.Trouble) {
	c.gossipTroubles(troubles)
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if err := c.mesh.TellTroubles(ctx, troubles...); err != nil {
		c.log.Debug("not every node could be told of a mirror; they hear of it by gossip", "error", err)
	}
}

// gossipReason is how much of a trouble's reason is gossiped, in bytes: with the
// longest names of mirrors that occur it must fit into a packet.
const gossipReason = 100

// gossipTroubles sends troubles to those who may miss that they are told. A node
// that is cut off from all others keeps them to itself: its gossip would wait for
// them, and tell them as news what has long passed.
func (c *cluster) gossipTroubles(troubles []proto.Trouble) {
	if !c.inTouch() {
		return
	}
	for _, t := range troubles {
		t.Reason = t.Reason[:min(len(t.Reason), gossipReason)]
		msg := peers.MarshalNews(peers.Gossip{From: c.name, Troubles: []proto.Trouble{t}})
		if err := c.members.Broadcast(msg); err != nil {
			c.log.Debug("trouble with a mirror is not gossiped: its name is too long", "mirror", t.Mirror, "error", err)
		}
	}
}

// inTouch reports whether any other node answers.
func (c *cluster) inTouch() bool {
	for _, p := range c.mesh.Peers() {
		if p.Healthy {
			return true
		}
	}
	return false
}

// ownTroubles is what this node has found out and still holds.
func (c *cluster) ownTroubles() []proto.Trouble { return c.upstream.Troubles() }

// hearTroubles takes in what other nodes have found out.
func (c *cluster) hearTroubles(troubles []proto.Trouble) {
	for _, t := range troubles {
		if t.Node != c.name { // its own gossip, come back
			c.upstream.Heard(t)
		}
	}
}
