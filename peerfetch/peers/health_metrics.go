package peers

import "github.com/prometheus/client_golang/prometheus"

var (
	upDesc     = prometheus.NewDesc("aptmesh_peer_up", "1 while another node is used: it answers, and its transfers do not fail.", []string{"peer"}, nil)
	rttDesc    = prometheus.NewDesc("aptmesh_peer_rtt_seconds", "Round-trip time to another node, smoothed.", []string{"peer"}, nil)
	bestDesc   = prometheus.NewDesc("aptmesh_peer_rtt_min_seconds", "Shortest round-trip time to another node.", []string{"peer"}, nil)
	ringDesc   = prometheus.NewDesc("aptmesh_ring_disagreement", "Nodes whose ring has differed from this node's ring for several pings.", nil, nil)
	storedDesc = prometheus.NewDesc("aptmesh_peer_stored_blobs", "Blobs that another node stores, as it reports.", []string{"peer"}, nil)
	sizeDesc   = prometheus.NewDesc("aptmesh_peer_holdings_bytes", "Memory used to know which blobs other nodes store.", nil, nil)
)

// healthCollectors are the metrics of the peers' health and holdings.
func (m *Mesh) healthCollectors() []prometheus.Collector {
	return []prometheus.Collector{healthCollector{m}}
}

// healthCollector shows the present state of all peers.
type healthCollector struct{ m *Mesh }

// Describe implements prometheus.Collector.
func (healthCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{upDesc, rttDesc, bestDesc, ringDesc, storedDesc, sizeDesc} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (c healthCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	disagree, size := 0, 0
	for _, p := range c.m.all() {
		up := 0.0
		if p.healthy() {
			up = 1
		}
		gauge(upDesc, up, p.name)
		gauge(storedDesc, float64(p.stored.Len()), p.name)
		if rtt := p.rtt(); rtt > 0 {
			gauge(rttDesc, rtt.Seconds(), p.name)
			gauge(bestDesc, p.health.shortest().Seconds(), p.name)
		}
		if p.health.disagrees.Load() {
			disagree++
		}
		size += p.stored.Bytes()
	}
	for _, missing := range c.m.missing() {
		gauge(upDesc, 0, missing) // the series, and an alarm on it, stays until an operator removes the node
	}
	gauge(ringDesc, float64(disagree))
	gauge(sizeDesc, float64(size))
}
