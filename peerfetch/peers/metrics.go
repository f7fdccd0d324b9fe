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
	fetches     *prometheus.CounterVec
	serves      *prometheus.CounterVec
	firstByte   prometheus.Histogram
	quarantines *prometheus.CounterVec
	stalls      *prometheus.CounterVec
}

// What a transfer that was too slow waited for.
const (
	stalledPeer     = "peer"
	stalledUpstream = "upstream"
)

func newMetrics() *metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aptmesh_peer_" + name, Help: help}, []string{label})
	}
	return &metrics{
		fetches: vec("fetches_total", "Objects that this node requested from other nodes, by outcome.", "outcome"),
		serves:  vec("serves_total", "Objects that other nodes requested from this node, by outcome.", "outcome"),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "aptmesh_peer_first_byte_seconds",
			Help:    "Time from a request to another node to the first byte of the response.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		stalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_peer_stalls_total",
			Help: "Transfers from another node that were cancelled because they were too slow, by what they waited for: the node itself (peer), or upstream, as the node reported.",
		}, []string{"peer", "waited_for"}),
		quarantines: vec("quarantines_total", "Times that a node was put in quarantine because it sent corrupt bytes.", "peer"),
	}
}

// Collectors returns the Mesh's metrics, for the caller to register.
func (m *Mesh) Collectors() []prometheus.Collector {
	own := m.metrics
	inQuarantine := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_peer_quarantined", Help: "Nodes in quarantine: they sent corrupt bytes, so no bytes are requested from them.",
	}, func() float64 { return float64(m.quarantine.Each(time.Now(), nil)) })
	return append(m.healthCollectors(),
		own.fetches, own.serves, own.firstByte, own.quarantines, own.stalls, inQuarantine, trafficCollector{&m.traffic})
}

// abandoned is the outcome of a transfer whose requester went away.
const abandoned = "abandoned"

// outcomeOf names the outcome of any other transfer; nil is a success.
func outcomeOf(err error) string {
	var (
		notStored *proto.NotStored
		busy      *proto.Unavailable
		refused   *proto.Refused
	)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, new(*proto.PeerFailed)): // whatever caused it
		return "failed"
	case errors.As(err, &notStored) && notStored.Busy:
		return "busy"
	case errors.As(err, &notStored):
		return "not_stored"
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

// traffic counts the body bytes received from a node and sent to it.
type traffic struct{ in, out atomic.Int64 }

// trafficTable counts the traffic of each node by name, also while the node is away. The zero value
// is ready for use.
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

// trafficFrom returns the entry of a caller. All callers outside the view share one entry, because
// their number has no bound.
func (m *Mesh) trafficFrom(caller string) *traffic {
	if m.peer(caller) == nil {
		caller = "other"
	}
	return m.traffic.with(caller)
}

var trafficDesc = prometheus.NewDesc("aptmesh_peer_bytes_total",
	"Body bytes received from another node (in) and sent to it (out).", []string{"peer", "direction"}, nil)

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
