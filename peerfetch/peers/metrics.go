package peers

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

type metrics struct {
	fetches    *prometheus.CounterVec
	serves     *prometheus.CounterVec
	firstByte  prometheus.Histogram
	distrusted *prometheus.CounterVec
	stalls     *prometheus.CounterVec
}

func newMetrics() *metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aptmesh_peer_" + name, Help: help}, []string{label})
	}
	return &metrics{
		fetches: vec("fetches_total", "Objects that this node asked others for, by outcome.", "outcome"),
		serves:  vec("serves_total", "Objects that others asked this node for, by outcome.", "outcome"),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "aptmesh_peer_first_byte_seconds",
			Help:    "Time from asking another node to the first byte of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		stalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_peer_stalls_total",
			Help: "Transfers from another node that were given up because next to nothing came, by what was waited for: the node (peer), or upstream as it said.",
		}, []string{"peer", "waited_for"}),
		distrusted: vec("distrusted_total", "Times that a node was put in quarantine because it sent wrong bytes.", "peer"),
	}
}

// Collectors returns the Mesh's metrics, for whoever registers them.
func (m *Mesh) Collectors() []prometheus.Collector {
	own := m.metrics
	inQuarantine := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_peer_quarantined", Help: "Nodes that are not asked for bytes because they sent wrong ones.",
	}, func() float64 { return float64(m.quarantine.Each(time.Now(), nil)) })
	return append(m.healthCollectors(),
		own.fetches, own.serves, own.firstByte, own.distrusted, own.stalls, inQuarantine, trafficCollector{&m.traffic})
}

// abandoned is the outcome of a transfer whose asker has lost interest.
const abandoned = "abandoned"

// outcomeOf names how any other transfer ended; nil is a success.
func outcomeOf(err error) string {
	var (
		notHeld *proto.NotHeld
		busy    *proto.Unavailable
		refused *proto.Refused
	)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, new(*proto.PeerFailed)): // whatever is behind it
		return "failed"
	case errors.As(err, &notHeld) && notHeld.Busy:
		return "busy"
	case errors.As(err, &notHeld):
		return "not_held"
	case errors.Is(err, proto.ErrNotFound):
		return "not_found"
	case errors.Is(err, proto.ErrCorrupt):
		return "corrupt"
	case errors.As(err, &refused):
		return "refused"
	case errors.As(err, &busy):
		return "unavailable"
	case errors.Is(err, errDraining):
		return "draining"
	}
	return "failed"
}

// traffic is how many bytes of bodies came from a node and went to it.
type traffic struct{ in, out atomic.Int64 }

// trafficTable keeps the traffic of each node by name, also while it is away. The
// zero value is ready for use.
type trafficTable struct {
	mu     sync.Mutex
	byName map[string]*traffic // guarded by mu; entries are never removed
}

// with returns the entry of a node.
func (t *trafficTable) with(name string) *traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry := t.byName[name]
	if entry == nil {
		if t.byName == nil {
			t.byName = make(map[string]*traffic)
		}
		entry = new(traffic)
		t.byName[name] = entry
	}
	return entry
}

// trafficFrom is the entry for a caller. Callers that are not in the view share
// one, for they are not bounded in number.
func (m *Mesh) trafficFrom(caller string) *traffic {
	if m.peer(caller) == nil {
		caller = "other"
	}
	return m.traffic.with(caller)
}

var trafficDesc = prometheus.NewDesc("aptmesh_peer_bytes_total",
	"Bytes of bodies that came in from another node and went out to it.", []string{"peer", "direction"}, nil)

// trafficCollector shows a trafficTable as metrics.
type trafficCollector struct{ table *trafficTable }

func (c trafficCollector) Describe(out chan<- *prometheus.Desc) { out <- trafficDesc }

func (c trafficCollector) Collect(out chan<- prometheus.Metric) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	for name, t := range c.table.byName {
		out <- prometheus.MustNewConstMetric(trafficDesc, prometheus.CounterValue, float64(t.in.Load()), name, "in")
		out <- prometheus.MustNewConstMetric(trafficDesc, prometheus.CounterValue, float64(t.out.Load()), name, "out")
	}
}
