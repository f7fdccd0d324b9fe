package cluster

import (
	"context"

	"github.com/aptmesh/aptmesh/proto"
)

// A finding about a mirror spares the other nodes the same experience: a mirror that asks
// one node to wait means all nodes, and a dead mirror costs each node a timeout. The finder
// sends an alert directly to all nodes, and later to nodes that begin to answer. Gossip
// carries no alerts, because it proves neither the sender nor the time. No node passes on an
// alert. So an alert ends when its finder says so, or when its time is over.

// SendAlert sends a finding of this node to the other nodes. It does not block. Of several
// alerts about a mirror in quick succession, they receive the last one.
func (c *Cluster) SendAlert(t proto.MirrorAlert) {
	if t.Node != "" && t.Node != c.name {
		return // received, not found here
	}
	t.Node = c.name
	c.alerts.put(t.Mirror, t, nil)
}

// spreadAlerts is one round of telling.
func (c *Cluster) spreadAlerts(alerts []proto.MirrorAlert) {
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	if err := c.mesh.SendAlerts(ctx, alerts...); err != nil {
		c.log.Debug("an announcement of a mirror did not reach every node; those who miss it find out themselves", "error", err)
	}
}

// receiveAlerts accepts alerts of other nodes.
func (c *Cluster) receiveAlerts(alerts []proto.MirrorAlert) {
	for _, t := range alerts {
		if t.Node != c.name { // its own gossip, come back
			c.rooms.Upstream.ReceiveAlert(t)
		}
	}
}
