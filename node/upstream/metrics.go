package upstream

import "github.com/prometheus/client_golang/prometheus"

// metrics are those that Stats cannot give.
type metrics struct {
	header *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{header: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "aptmesh_upstream_header_seconds",
		Help:    "Time from having a place at an upstream host to the header of its answer.",
		Buckets: []float64{.005, .02, .05, .1, .25, .5, 1, 2, 4, 8},
	}, []string{"host"})}
}

// forget drops what is kept of a host.
func (m *metrics) forget(host string) { m.header.DeleteLabelValues(host) }

var (
	placesDesc = prometheus.NewDesc("aptmesh_upstream_places",
		"Requests at an upstream host by state; limit is how many may be in use.", []string{"host", "state"}, nil)
	bytesDesc = prometheus.NewDesc("aptmesh_upstream_received_bytes_total",
		"Bytes of bodies received from an upstream host.", []string{"host"}, nil)
	requestsDesc = prometheus.NewDesc("aptmesh_upstream_requests_total",
		"Ended requests to an upstream host by outcome.", []string{"host", "outcome"}, nil)
)

// statsCollector shows Stats as metrics.
type statsCollector struct{ client *Client }

func (c statsCollector) Describe(out chan<- *prometheus.Desc) {
	out <- placesDesc
	out <- bytesDesc
	out <- requestsDesc
}

func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(h, state string, n int) {
		out <- prometheus.MustNewConstMetric(placesDesc, prometheus.GaugeValue, float64(n), h, state)
	}
	for _, h := range c.client.Stats().Hosts {
		gauge(h.Host, "limit", h.Limit)
		gauge(h.Host, "in_use", h.InUse)
		gauge(h.Host, "waiting", h.Waiting)
		gauge(h.Host, "stalled", h.Stalled)
		out <- prometheus.MustNewConstMetric(bytesDesc, prometheus.CounterValue, float64(h.Bytes), h.Host)
		for outcome, n := range h.Requests {
			out <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(n), h.Host, outcome)
		}
	}
}
