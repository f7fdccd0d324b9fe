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
	mirrorStateDesc = prometheus.NewDesc("aptmesh_upstream_mirror_state",
		"1 for the state that a mirror's breaker is in: closed (it is asked), open (left alone), half_open (the next request finds out).",
		[]string{"archive", "mirror", "state"}, nil)
	mirrorRateDesc = prometheus.NewDesc("aptmesh_upstream_mirror_bytes_per_second",
		"Bytes per second of one transfer from a mirror, as measured in the last minutes; 0 where it was not.", []string{"archive", "mirror"}, nil)
	mirrorWaitDesc = prometheus.NewDesc("aptmesh_upstream_mirror_header_seconds",
		"Average time that a mirror takes to the header of an answer, as measured in the last minutes; 0 where it was not.", []string{"archive", "mirror"}, nil)
	mirrorStrikesDesc = prometheus.NewDesc("aptmesh_upstream_mirror_strikes",
		"Objects that are held against a mirror now, so that others are asked for them first.", []string{"archive", "mirror"}, nil)
	mirrorLeftDesc = prometheus.NewDesc("aptmesh_upstream_mirror_left_total",
		"Requests for which a mirror was of no use, so that another one was asked if there was one, by reason.", []string{"archive", "mirror", "reason"}, nil)
	requestsDesc = prometheus.NewDesc("aptmesh_upstream_requests_total",
		"Ended requests to an upstream host by outcome.", []string{"host", "outcome"}, nil)
)

// statsCollector shows Stats as metrics.
type statsCollector struct{ client *Client }

func (c statsCollector) Describe(out chan<- *prometheus.Desc) {
	out <- placesDesc
	out <- bytesDesc
	out <- requestsDesc
	out <- mirrorStateDesc
	out <- mirrorRateDesc
	out <- mirrorWaitDesc
	out <- mirrorStrikesDesc
	out <- mirrorLeftDesc
}

func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(h, state string, n int) {
		out <- prometheus.MustNewConstMetric(placesDesc, prometheus.GaugeValue, float64(n), h, state)
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
	gauge(mirrorStrikesDesc, float64(m.Strikes))
	for why, n := range m.Left {
		out <- prometheus.MustNewConstMetric(mirrorLeftDesc, prometheus.CounterValue, float64(n), m.Archive, m.URL, why)
	}
}
