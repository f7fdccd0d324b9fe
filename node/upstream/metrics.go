package upstream

import "github.com/prometheus/client_golang/prometheus"

// metrics are the figures that Stats does not have.
type metrics struct {
	header *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{header: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "aptmesh_upstream_header_seconds",
		Help:    "Time from the start of a request to an upstream host to the header of the response.",
		Buckets: []float64{.005, .02, .05, .1, .25, .5, 1, 2, 4, 8},
	}, []string{"host"})}
}

// forget drops the figures of a host.
func (m *metrics) forget(host string) { m.header.DeleteLabelValues(host) }

var (
	connectionsDesc = prometheus.NewDesc("aptmesh_upstream_connections",
		"Connection slots of an upstream host, by state: in_use, waiting (requests without a slot), stalled (in use without progress), limit (slots that exist).", []string{"host", "state"}, nil)
	bytesDesc = prometheus.NewDesc("aptmesh_upstream_received_bytes_total",
		"Bytes of bodies received from an upstream host.", []string{"host"}, nil)
	mirrorStateDesc = prometheus.NewDesc("aptmesh_upstream_mirror_state",
		"1 for the present state of a mirror's circuit breaker: closed (requests go to it), open (no requests), half_open (the next request is a probe).",
		[]string{"archive", "mirror", "state"}, nil)
	mirrorRateDesc = prometheus.NewDesc("aptmesh_upstream_mirror_bytes_per_second",
		"Bytes per second of one transfer from a mirror, measured in the last minutes; 0 without a measurement.", []string{"archive", "mirror"}, nil)
	mirrorWaitDesc = prometheus.NewDesc("aptmesh_upstream_mirror_header_seconds",
		"Average time to the header of a mirror's response, measured in the last minutes; 0 without a measurement.", []string{"archive", "mirror"}, nil)
	mirrorPenaltiesDesc = prometheus.NewDesc("aptmesh_upstream_mirror_penalties",
		"Objects for which a mirror has a penalty now: other mirrors are asked first.", []string{"archive", "mirror"}, nil)
	mirrorFailoversDesc = prometheus.NewDesc("aptmesh_upstream_mirror_failovers_total",
		"Requests that a mirror failed, by reason. The next mirror is asked, if there is one.", []string{"archive", "mirror", "reason"}, nil)
	requestsDesc = prometheus.NewDesc("aptmesh_upstream_requests_total",
		"Finished requests to an upstream host, by outcome.", []string{"host", "outcome"}, nil)
)

// statsCollector shows Stats as metrics.
type statsCollector struct{ client *Client }

func (c statsCollector) Describe(out chan<- *prometheus.Desc) {
	out <- connectionsDesc
	out <- bytesDesc
	out <- requestsDesc
	out <- mirrorStateDesc
	out <- mirrorRateDesc
	out <- mirrorWaitDesc
	out <- mirrorPenaltiesDesc
	out <- mirrorFailoversDesc
}

func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(h, state string, n int) {
		out <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(n), h, state)
	}
	stats := c.client.Stats()
	for _, m := range stats.Mirrors {
		collectMirror(out, m)
	}
	for _, h := range stats.Hosts {
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

func collectMirror(out chan<- prometheus.Metric, m MirrorStats) {
	gauge := func(desc *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, n, append([]string{m.Archive, m.URL}, labels...)...)
	}
	for _, state := range []string{BreakerClosed, BreakerHalfOpen, BreakerOpen} {
		n := 0.0
		if state == m.State {
			n = 1
		}
		gauge(mirrorStateDesc, n, state)
	}
	gauge(mirrorRateDesc, m.BytesPerSecond)
	gauge(mirrorWaitDesc, m.HeaderSeconds)
	gauge(mirrorPenaltiesDesc, float64(m.Penalties))
	for reason, n := range m.Failovers {
		out <- prometheus.MustNewConstMetric(mirrorFailoversDesc, prometheus.CounterValue, float64(n), m.Archive, m.URL, reason)
	}
}
