package peerfetch

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

type metrics struct {
	started, joined, resumed, abandoned prometheus.Counter
	failed                              *prometheus.CounterVec
	bytes                               *prometheus.CounterVec
	unlisted                            prometheus.Counter
	unkept, continued, stale            prometheus.Counter
	peerFailures, servedToPeers         *prometheus.CounterVec
	hedged, unattributed                prometheus.Counter
	mirrorLies, switched                prometheus.Counter
	notFoundAgain, refused              prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aptmesh_flight_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aptmesh_flight_" + name, Help: help}, []string{label})
	}
	return &metrics{
		started:   counter("started_total", "Fetches begun because the store did not hold the object."),
		joined:    counter("joined_total", "Requests that followed a fetch already in progress."),
		resumed:   counter("resumed_total", "Transfers that broke or stalled and went on at the byte where they stopped."),
		abandoned: counter("abandoned_total", "Fetches given up because their last reader left."),
		failed:    vec("failed_total", "Fetches that ended in an error, by reason.", "reason"),
		bytes:     vec("bytes_total", "Body bytes received, by the tier they came from.", "tier"),
		unlisted:  counter("unlisted_total", "Files fetched that no signed metadata lists."),
		unkept:    counter("unkept_total", "Bodies passed on to clients but not kept, for want of space."),
		continued: counter("continued_bytes_total", "Body bytes that an earlier fetch had left and that were not fetched again."),
		stale:     counter("stale_total", "Unlisted files given out as they were, because upstream could not be asked."),

		peerFailures:  vec("peer_failures_total", "Other nodes asked in vain, by reason.", "reason"),
		servedToPeers: vec("served_to_peers_total", "Answers to other nodes that asked for an object, by result.", "result"),
		hedged:        counter("hedged_total", "Small objects for which a second node was asked because the first took its time."),
		unattributed:  counter("unattributed_total", "Bodies that were wrong when bytes of several sources had been put together, so that none can be blamed."),

		mirrorLies:    counter("mirror_lies_total", "Bodies or lengths that one mirror of an archive gave wrong."),
		switched:      counter("mirror_switches_total", "Transfers that went on, or began again, at another mirror at once."),
		refused:       counter("refused_total", "Requests refused because too many fetches were under way."),
		notFoundAgain: counter("not_found_remembered_total", "Requests answered with what upstream said a moment ago: that there is no such file."),
	}
}

// Collectors returns the Fetcher's metrics, for whoever registers them.
func (f *Fetcher) Collectors() []prometheus.Collector {
	m := f.metrics
	inProgress := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_flights", Help: "Fetches in progress.",
	}, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(f.underWay)
	})
	absent := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_flight_not_found_names", Help: "Names that upstream was found to have no file for, and is not asked for now.",
	}, func() float64 { return float64(f.absent.len()) })
	return []prometheus.Collector{m.started, m.joined, m.resumed, m.abandoned, m.failed, m.bytes, m.unlisted, m.unkept, m.continued, m.stale,
		m.peerFailures, m.servedToPeers, m.hedged, m.unattributed,
		m.mirrorLies, m.switched, m.notFoundAgain, m.refused, inProgress, absent}
}

// reasonOf names the kind of a failure for the metric.
func reasonOf(err error) string {
	var busy *proto.Unavailable
	var refused *proto.Refused
	switch {
	case errors.Is(err, proto.ErrCorrupt):
		return "corrupt"
	case errors.Is(err, proto.ErrNotFound):
		return "not_found"
	case errors.As(err, &busy):
		return "unavailable"
	case errors.As(err, &refused):
		return "refused"
	}
	return "other"
}
