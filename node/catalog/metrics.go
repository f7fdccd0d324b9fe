package catalog

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	checks, heard, asks, mirrors       *prometheus.CounterVec
	flips, forks, incomplete, unlisted prometheus.Counter
	recalled                           prometheus.Counter
	parsed                             prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aptmesh_catalog_" + name, Help: help})
	}
	return &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_catalog_checks_total", Help: "Looks at upstream's Release, by result.",
		}, []string{"result"}),
		heard: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_suite_news_heard_total",
			Help: "What other nodes told of a suite, by what it was to this one (same, newer, older, ...), and what came of the newer ones (adopted, refused, unreachable, failed, passed).",
		}, []string{"result"}),
		asks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_suite_asks_total", Help: "Questions to the node that leads a suite, by result: answered, upstream_error, no_answer.",
		}, []string{"result"}),
		mirrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_suite_mirror_answers_total", Help: "What single mirrors answered when asked for a suite's Release: good, older (it is behind), signature, not_found, unavailable, ...",
		}, []string{"archive", "mirror", "result"}),
		flips:      counter("flips_total", "Generations adopted."),
		forks:      counter("forks_total", "Pairs of different Releases signed with the same Date."),
		incomplete: counter("incomplete_total", "Checks that found upstream in the middle of publishing, or a mirror out of step."),
		unlisted:   counter("unlisted_total", "Requests for files that no signed metadata lists."),
		recalled:   counter("recalled_total", "Requests for packages that nothing held here lists, and another node knows of."),
		parsed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aptmesh_catalog_parse_seconds", Help: "Time to decompress and read one index.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
}

// asked counts a question to the node that leads a suite.
func (m *metrics) asked(err error) {
	result := "answered"
	switch {
	case isUpstreams(err):
		result = "upstream_error"
	case err != nil:
		result = "no_answer"
	}
	m.asks.WithLabelValues(result).Inc()
}

// Collectors returns the catalog's metrics, for whoever registers them.
func (c *Catalog) Collectors() []prometheus.Collector {
	m := c.metrics
	return []prometheus.Collector{m.checks, m.heard, m.asks, m.mirrors, m.flips, m.forks, m.incomplete, m.unlisted, m.recalled, m.parsed, suiteCollector{c}}
}

// suiteCollector reads the state of each suite when it is scraped.
type suiteCollector struct{ c *Catalog }

func suiteDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("aptmesh_suite_"+name, help, []string{"archive", "suite"}, nil)
}

var (
	descDate    = suiteDesc("release_timestamp_seconds", "Signed Date of the generation being served.")
	descChecked = suiteDesc("checked_timestamp_seconds", "When upstream last answered a check well.")
	descValid   = suiteDesc("valid_until_timestamp_seconds", "Valid-Until of the generation being served; absent where it has none.")
	descFailing = suiteDesc("failing", "1 while the last check of upstream failed.")
	descLeader  = suiteDesc("leader", "1 while this node asks upstream for the whole cluster.")
	descAlarm   = suiteDesc("expiry_alarm", "1 while Valid-Until is near, or past, and nobody has renewed the Release.")
	descServed  = suiteDesc("served_until_timestamp_seconds", "Until when the generation is served with upstream dead; absent where that is for ever.")
	descBehind  = prometheus.NewDesc("aptmesh_suite_mirror_behind_seconds", "By how much the Release that a mirror gave last is older than the newest one known.", []string{"archive", "suite", "mirror"}, nil)
	descFiles   = prometheus.NewDesc("aptmesh_archive_listed_files", "Files that the indices held list.", []string{"archive"}, nil)
)

// Describe implements prometheus.Collector.
func (s suiteCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDate, descChecked, descValid, descFailing, descLeader, descAlarm, descServed, descBehind, descFiles} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s suiteCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, st := range s.c.Status() {
		if st.Date.IsZero() && !st.Watched {
			continue // somebody asked for a name that may not exist
		}
		labels := []string{st.Suite.Archive, st.Suite.Dir}
		if !st.Date.IsZero() {
			gauge(descDate, float64(st.Date.Unix()), labels...)
		}
		if !st.Checked.IsZero() {
			gauge(descChecked, float64(st.Checked.Unix()), labels...)
		}
		if !st.ValidUntil.IsZero() {
			gauge(descValid, float64(st.ValidUntil.Unix()), labels...)
		}
		if !st.ServedUntil.IsZero() {
			gauge(descServed, float64(st.ServedUntil.Unix()), labels...)
		}
		gauge(descAlarm, oneIf(st.Alarm != ""), labels...)
		gauge(descFailing, oneIf(st.Err != nil), labels...)
		gauge(descLeader, oneIf(st.Leader), labels...)
		for _, m := range st.Mirrors {
			if m.Mirror != "" && !m.Date.IsZero() {
				gauge(descBehind, m.Behind.Seconds(), st.Suite.Archive, st.Suite.Dir, m.Mirror)
			}
		}
	}
	for name, a := range s.c.view.Load().archives {
		gauge(descFiles, float64(a.files.len()), name)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
