package node

import (
	"cmp"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/front"
)

// overview is what the page for browsers tells, from Status.
func (n *Node) overview() front.Overview {
	s := n.Status()
	o := front.Overview{Since: n.began, Requests: s.Traffic.Requests}
	for _, tier := range s.Traffic.Tiers { // without errors and pages
		o.ToHosts += tier.Bytes
	}
	for _, u := range s.Upstreams {
		o.FromUpstream += u.Bytes
	}
	for _, a := range s.Archives {
		for _, suite := range a.Suites {
			o.Suites = append(o.Suites, front.OverviewSuite{
				Archive: a.Name, Name: a.Name + "/" + suite.Dir, State: suite.State, Generation: suite.Generation, Checked: suite.LastCheck,
				Note: cmp.Or(suite.Error, suite.Alarm, suite.Notice), Bad: suite.State == admin.SuiteFailing || suite.Withheld || suite.Alarm != "",
			})
		}
	}
	if s.Cluster == nil {
		return o
	}
	for _, m := range s.Cluster.Members {
		o.FromPeers += m.BytesFrom
		node := front.OverviewNode{Name: m.Name, Datacenter: m.Datacenter, State: m.State, Note: m.Why}
		if m.Health != admin.HealthOK {
			node.State, node.Bad = m.Health, true
		}
		o.Nodes = append(o.Nodes, node)
	}
	return o
}
