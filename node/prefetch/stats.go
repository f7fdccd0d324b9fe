package prefetch

import (
	"fmt"
	"maps"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

// Stats is what a Prefetcher has done since it was made, and does.
type Stats struct {
	Enabled    bool
	MaxBytes   int64 // for one switch
	UsedWithin time.Duration
	// Known is how many packages clients are known to have used, at any time.
	Known int
	// Objects counts by outcome; Bytes are those fetched ahead.
	Objects map[Outcome]int64
	Bytes   int64
	// Used counts the objects that a client asked for after they had been fetched
	// ahead, once each; UsedBytes are theirs.
	Used, UsedBytes int64
	// Switches are the last ones, oldest first.
	Switches []SwitchStats
}

// SwitchStats is what one switch led to.
type SwitchStats struct {
	Suite      proto.Suite
	Generation time.Time
	Began      time.Time
	Ended      time.Time // zero while it runs
	Objects    map[Outcome]int
	// Bytes were fetched so far, of Planned.
	Bytes, Planned int64
}

// Stats returns the present figures.
func (p *Prefetcher) Stats() Stats {
	known := p.usage.len()
	used, usedBytes := p.ready.totals()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{
		Enabled: p.settings.Enabled, MaxBytes: p.settings.MaxBytes, UsedWithin: p.settings.UsedWithin, Known: known,
		Objects: maps.Clone(p.totals), Bytes: p.bytes, Used: used, UsedBytes: usedBytes,
	}
	for _, j := range p.recent {
		s.Switches = append(s.Switches, SwitchStats{
			Suite: j.next.Suite, Generation: j.next.Date, Began: j.began, Ended: j.ended,
			Objects: maps.Clone(j.counts), Bytes: j.bytes, Planned: j.budgeted,
		})
	}
	return s
}

// Why says in one sentence what became of an object ahead of clients; "" where there
// is nothing to say.
func (p *Prefetcher) Why(loc proto.Location) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it, ok := p.reasons.Get(loc, p.cfg.Now()); ok {
		return it.why(p.cfg.Now())
	}
	if _, ok := p.identity(loc); ok && !p.settings.Enabled {
		return "Not fetched ahead: prefetch.enabled is false."
	}
	return ""
}

// why is the sentence. The caller holds Prefetcher.mu.
func (it *item) why(now time.Time) string {
	at := clock(it.at, now)
	switch it.outcome {
	case Fetched:
		return fmt.Sprintf("Fetched ahead at %s because %s.", at, it.because())
	case Stored:
		return fmt.Sprintf("Not fetched ahead: the store had it at %s already.", at)
	case Failed:
		return fmt.Sprintf("Fetching it ahead failed at %s (%v); the first client that asks fetches it.", at, it.err)
	case Over:
		return fmt.Sprintf("Not fetched ahead: over prefetch.max_bytes (%s for a new generation).", humanize.IBytes(uint64(it.maxBytes)))
	case Dropped:
		return fmt.Sprintf("Not fetched ahead: %v.", it.err)
	}
	return fmt.Sprintf("To be fetched ahead since %s because %s.", at, it.because())
}

// because says which package it is fetched for.
func (it *item) because() string {
	if it.by == nil {
		return fmt.Sprintf("clients used %s within the last %s", it.label, days(it.usedWithin))
	}
	root := it.by
	for root.by != nil {
		root = root.by
	}
	sentence := fmt.Sprintf("%s, which clients use, depends on it", root.name)
	if root != it.by {
		sentence += " by way of " + it.by.name
	}
	return sentence
}

// clock is a time of today, or with its date.
func clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04 UTC")
	}
	return t.Format("2006-01-02 15:04 UTC")
}

func days(d time.Duration) string {
	switch {
	case d == 24*time.Hour:
		return "day"
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

var (
	descObjects = prometheus.NewDesc("aptmesh_prefetch_objects_total",
		"Objects planned for prefetch, by outcome: fetched, stored, failed, over_limit, dropped.", []string{"outcome"}, nil)
	descBytes = prometheus.NewDesc("aptmesh_prefetch_bytes_total", "Bytes prefetched.", nil, nil)
	descUsed  = prometheus.NewDesc("aptmesh_prefetch_used_total",
		"Prefetched objects that a client requested later, each counted once.", nil, nil)
	descUsedBytes = prometheus.NewDesc("aptmesh_prefetch_used_bytes_total",
		"Bytes of prefetched objects that a client requested later.", nil, nil)
	descKnown = prometheus.NewDesc("aptmesh_prefetch_known_packages", "Packages known to be in use by clients.", nil, nil)
	descJobs  = prometheus.NewDesc("aptmesh_prefetch_jobs_running", "New generations for which objects are being prefetched.", nil, nil)
)

// Collectors returns the metrics, for the caller to register.
func (p *Prefetcher) Collectors() []prometheus.Collector {
	return []prometheus.Collector{collector{p}}
}

// collector shows Stats as metrics.
type collector struct{ p *Prefetcher }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descObjects, descBytes, descUsed, descUsedBytes, descKnown, descJobs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.p.Stats()
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, outcome := range outcomes {
		counter(descObjects, s.Objects[outcome], string(outcome))
	}
	counter(descBytes, s.Bytes)
	counter(descUsed, s.Used)
	counter(descUsedBytes, s.UsedBytes)
	running := 0
	for _, f := range s.Switches {
		if f.Ended.IsZero() {
			running++
		}
	}
	ch <- prometheus.MustNewConstMetric(descKnown, prometheus.GaugeValue, float64(s.Known))
	ch <- prometheus.MustNewConstMetric(descJobs, prometheus.GaugeValue, float64(running))
}
