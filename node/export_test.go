package node

import (
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/aptmesh/aptmesh/proto"
)

// GossipAddr is where other nodes of a test join.
func (n *Node) GossipAddr() string { return n.cluster.GossipAddr() }

// PeerAddr is where other nodes fetch from this one.
func (n *Node) PeerAddr() string { return n.cluster.PeerAddr() }

// Kill ends the node as if its process had been killed, as far as one can from
// inside: nobody is told, connections break off.
func (n *Node) Kill() {
	n.life.ready.Store(false)
	if n.server != nil {
		n.server.Close()
	}
	if c := n.cluster; c != nil {
		c.Close()
	}
	n.archives.Stop()
	n.fetcher.Close()
	n.holds.Close()
	n.catalog.Close()
	n.upstream.Close()
	n.store.Close()
	n.state.Close()
	n.tables.Close()
}

// Mirrors are an archive's, in the order in which this node would ask them now.
func (n *Node) Mirrors(archive string) []string { return n.upstream.Mirrors(archive) }

// Troubles is what this node has found out about mirrors itself.
func (n *Node) Troubles() []proto.MirrorAlert { return n.upstream.Alerts() }

// Metric is the sum of all values of a counter.
func (n *Node) Metric(name string) (sum float64) {
	families, err := n.metrics.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// Pseudonym is what this node calls itself in the Via field of its requests.
func (n *Node) Pseudonym() string { return n.loops.Pseudonym }

// Gauge is one series of a gauge, by one of its labels and its value, if any are given. there is
// right for any kind of metric.
func (n *Node) Gauge(name string, label ...string) (v float64, there bool) {
	families, err := n.metrics.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (len(label) == 0 || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label[0] && l.GetValue() == label[1] })) {
				return m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// ResolveIn is what a path means in a snapshot that is open.
func (n *Node) ResolveIn(id string, loc proto.Location) (proto.Resolution, bool) {
	return n.snapshots.Resolve(id, loc)
}

// TendSnapshots does at once what happens each minute.
func (n *Node) TendSnapshots() { n.snapshots.Tend() }
