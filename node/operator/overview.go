package operator

import (
	"cmp"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/front"
)

// Overview is what the page for browsers shows, from Status.
func (o *Operator) Overview() front.Overview {
	s := o.Status()
	page := front.Overview{Since: o.began, Requests: s.Traffic.Requests}
	for _, tier := range s.Traffic.Tiers { // without errors and pages
		page.ToHosts += tier.Bytes
	}
	for _, u := range s.Upstreams {
		page.FromUpstream += u.Bytes
	}
	for _, a := range s.Archives {
		for _, suite := range a.Suites {
			page.Suites = append(page.Suites, front.OverviewSuite{
				Archive: a.Name, Name: a.Name + "/" + suite.Dir, State: suite.State, Generation: suite.Generation, Checked: suite.LastCheck,
				Note: cmp.Or(suite.Error, suite.Alarm, suite.Notice), Bad: suite.State == admin.SuiteFailing || suite.Withheld || suite.Alarm != "",
			})
		}
	}
	if s.Cluster == nil {
		return page
	}
	for _, m := range s.Cluster.Members {
		page.FromPeers += m.BytesFrom
		node := front.OverviewNode{Name: m.Name, Datacenter: m.Datacenter, State: m.State, Note: m.Why}
		switch {
		case m.Health != admin.HealthOK:
			node.State, node.Bad = m.Health, true
		case m.Level == admin.LevelFailing, m.Level == admin.LevelAttention:
			node.State, node.Note, node.Bad = string(m.Level), m.Note, true
		}
		page.Nodes = append(page.Nodes, node)
	}
	return page
}
