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
	notStored, continued, stale         prometheus.Counter
	peerFailures, servedToPeers         *prometheus.CounterVec
	hedged, unattributed                prometheus.Counter
	mirrorCorrupt, switched             prometheus.Counter
	notFoundAgain, refused              prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aptmesh_flight_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aptmesh_flight_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		started:   counter("started_total", "Fetches started because the object was not in the store."),
		joined:    counter("joined_total", "Requests that joined a fetch in progress."),
		resumed:   counter("resumed_total", "Transfers that broke or stalled and were resumed at the byte where they stopped."),
		abandoned: counter("abandoned_total", "Fetches cancelled because their last reader left."),
		failed:    vec("failed_total", "Fetches that failed, by reason.", "reason"),
		bytes:     vec("bytes_total", "Body bytes received, by tier.", "tier"),
		unlisted:  counter("unlisted_total", "Fetched files that no signed metadata lists."),
		notStored: counter("not_stored_total", "Bodies sent to clients but not stored, because the store had no space."),
		continued: counter("continued_bytes_total", "Body bytes of an interrupted fetch that the next fetch used again."),
		stale:     counter("stale_total", "Unlisted files served stale, because upstream did not answer."),

		peerFailures:  vec("peer_failures_total", "Requests to other nodes that failed, by reason.", "reason"),
		servedToPeers: vec("served_to_peers_total", "Responses to object requests of other nodes, by result.", "result"),
		hedged:        counter("hedged_total", "Small objects requested from a second node because the first was slow."),
		unattributed:  counter("unattributed_total", "Wrong bodies with bytes of several sources: none of them is known to be corrupt."),

		mirrorCorrupt: counter("mirror_corrupt_total", "Bodies with the wrong content or length that came from one mirror."),
		switched:      counter("mirror_switches_total", "Transfers resumed or restarted at another mirror."),
		refused:       counter("refused_total", "Requests refused because too many fetches were in progress."),
		notFoundAgain: counter("not_found_remembered_total", "Requests answered \"not found\" because upstream said so a moment ago."),
	}
	// increase() misses the first event of a series that begins with it.
	for _, reason := range []string{failedCorrupt, failedNotFound, failedUnavailable, failedRefused, failedOther} {
		m.failed.WithLabelValues(reason)
	}
	return m
}

// Collectors returns the Fetcher's metrics, for the caller to register.
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
		Name: "aptmesh_flight_not_found_names", Help: "Names remembered as not found upstream; upstream is not asked for them now.",
	}, func() float64 { return float64(f.absent.len()) })
	return []prometheus.Collector{m.started, m.joined, m.resumed, m.abandoned, m.failed, m.bytes, m.unlisted, m.notStored, m.continued, m.stale,
		m.peerFailures, m.servedToPeers, m.hedged, m.unattributed,
		m.mirrorCorrupt, m.switched, m.notFoundAgain, m.refused, inProgress, absent}
}

// The kinds of failures.
const (
	failedCorrupt     = "corrupt"
	failedNotFound    = "not_found"
	failedUnavailable = "unavailable"
	failedRefused     = "refused"
	failedOther       = "other"
)

// reasonOf names the kind of a failure for the metric.
func reasonOf(err error) string {
	var busy *proto.Unavailable
	var refused *proto.Refused
	switch {
	case errors.Is(err, proto.ErrCorrupt):
		return failedCorrupt
	case errors.Is(err, proto.ErrNotFound):
		return failedNotFound
	case errors.As(err, &busy):
		return failedUnavailable
	case errors.As(err, &refused):
		return failedRefused
	}
	return failedOther
}
