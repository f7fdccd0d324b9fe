package cluster

import (
	"context"

	"github.com/aptmesh/aptmesh/proto"
)

// What one node finds out about a mirror, the others need not find out again: a
// mirror that asks one of them to wait means all, and one that is dead costs each
// of them a timeout. Who finds out tells all others directly, and later whoever begins
// to answer. Gossip carries none of it: it does not prove who speaks, nor when. Nobody
// passes on what others found out: so a trouble ends when its finder says so, or when
// its time is over.

// SendAlert has the other nodes told what this one has found out. It does not
// block; of several troubles of a mirror in quick succession they receive the last.
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

// receiveAlerts takes in what other nodes have found out.
func (c *Cluster) receiveAlerts(alerts []proto.MirrorAlert) {
	for _, t := range alerts {
		if t.Node != c.name { // its own gossip, come back
			c.rooms.Upstream.ReceiveAlert(t)
		}
	}
}
