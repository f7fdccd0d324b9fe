package blobstore

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/aptmesh/aptmesh/proto"
)

// metrics are the counters of the store; gauges are read from the store at each scrape.
type metrics struct {
	s *Store

	hitMemory, hitDisk, misses                 prometheus.Counter
	evictions, evictedBytes, damaged, scrubbed prometheus.Counter
	commitSeconds                              prometheus.Histogram
}

func newMetrics(s *Store) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aptmesh_store_" + name, Help: help})
	}
	hit := func(t proto.Tier) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "aptmesh_store_hits_total",
			Help:        "Blobs found, by tier.",
			ConstLabels: prometheus.Labels{"tier": string(t)},
		})
	}
	return &metrics{
		s:            s,
		hitMemory:    hit(proto.TierMemory),
		hitDisk:      hit(proto.TierDisk),
		misses:       counter("misses_total", "Blobs requested that were not in the store."),
		evictions:    counter("evictions_total", "Blobs evicted to make room."),
		evictedBytes: counter("evicted_bytes_total", "Bytes evicted to make room."),
		damaged:      counter("damaged_total", "Blobs found damaged and removed."),
		scrubbed:     counter("scrubbed_bytes_total", "Bytes re-hashed in the background."),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "aptmesh_store_commit_seconds",
			Help:    "Time to make a blob durable: fsync, rename, fsync of the directory.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // 0.5 ms to 4 s
		}),
	}
}

var gauges = []struct {
	desc *prometheus.Desc
	of   func(Stats) float64
}{
	{gauge("used_bytes", "Bytes of the stored blobs; an upper bound until the scan at the start is done."), func(s Stats) float64 { return float64(s.Used) }},
	{gauge("reserved_bytes", "Bytes reserved for blobs that are being written."), func(s Stats) float64 { return float64(s.Reserved) }},
	{gauge("partial_bytes", "Bytes of interrupted blobs that a later fetch can resume."), func(s Stats) float64 { return float64(s.Partial) }},
	{gauge("overflow_bytes", "Bytes of blobs held in memory because the disk is full."), func(s Stats) float64 { return float64(s.Overflow) }},
	{gauge("max_bytes", "The size limit."), func(s Stats) float64 { return float64(s.Max) }},
	{gauge("pinned_bytes", "Bytes that may not be evicted."), func(s Stats) float64 { return float64(s.Pinned) }},
	{gauge("blobs", "Blobs stored."), func(s Stats) float64 { return float64(s.Blobs) }},
	{gauge("scanned", "1 once the scan at the start is done."), func(s Stats) float64 { return truth(s.Scanned) }},
	{gauge("degraded", "1 while nothing new is stored, for example because the disk is full."), func(s Stats) float64 { return truth(!s.DegradedSince.IsZero()) }},
}

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("aptmesh_store_"+name, help, nil, nil)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collectors returns the store's metrics, for the caller to register.
func (s *Store) Collectors() []prometheus.Collector {
	m := s.metrics
	return []prometheus.Collector{
		m, m.hitMemory, m.hitDisk, m.misses,
		m.evictions, m.evictedBytes, m.damaged, m.scrubbed, m.commitSeconds, s.watch.collector(),
	}
}

// Describe implements prometheus.Collector for the gauges.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector for the gauges.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.s.Stats()
	for _, g := range gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.of(st))
	}
}

// counted reads a counter back, so that Stats and the metrics cannot disagree.
func counted(c prometheus.Counter) int64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return 0
	}
	return int64(m.GetCounter().GetValue())
}
