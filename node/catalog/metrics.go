package catalog

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
)

type metrics struct {
	checks, announcements, leader, mirrors, outside    *prometheus.CounterVec
	switches, revisions, forks, incomplete, unreadable prometheus.Counter
	untaken                                            prometheus.Counter
	unlisted, listedByPeers                            prometheus.Counter
	parsed                                             prometheus.Histogram
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aptmesh_catalog_" + name, Help: help})
	}
	return &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_catalog_checks_total", Help: "Checks of upstream's root by this node, by result.",
		}, []string{"result"}),
		announcements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_suite_announcements_total",
			Help: "Announcements received from other nodes, by result: their age (same, newer, older, ...), and what happened to the newer ones (adopted, refused, unreachable, failed, passed).",
		}, []string{"result"}),
		leader: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_suite_leader_requests_total", Help: "Requests to the leader of a suite, by result: answered, upstream_error, no_answer.",
		}, []string{"result"}),
		mirrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_suite_mirror_answers_total", Help: "Answers of single mirrors to requests for a suite's root: good, older (the mirror is behind), untrusted, not_found, unavailable, ...",
		}, []string{"archive", "mirror", "result"}),
		switches:      counter("generation_switches_total", "Generations adopted."),
		revisions:     counter("revisions_total", "Adopted roots that differ from the current root only in signature or white space."),
		forks:         counter("forks_total", "Pairs of roots with the same date and different statements."),
		incomplete:    counter("incomplete_total", "Checks that found upstream half-published, or a mirror half-synchronised."),
		unreadable:    counter("unreadable_indexes_total", "Indexes with correct bytes that could not be parsed: the files that they list are not verified."),
		untaken:       counter("untaken_indexes_total", "Indexes that this node could not take in because of its own trouble, such as a full disk: requests that need them get 503."),
		unlisted:      counter("unlisted_total", "Requests for files that no signed metadata lists."),
		listedByPeers: counter("listed_by_peers_total", "Requests for packages that no index on this node lists, but an index on another node does."),
		outside: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aptmesh_catalog_listed_outside_total", Help: "Files that indexes, as they were read, list at URLs outside of their archive: hosts fetch them there.",
		}, []string{"archive"}),
		parsed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aptmesh_catalog_parse_seconds", Help: "Time to decompress and parse one index.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
}

// count counts an event of a suite's machine.
func (m *metrics) count(archive string, c suite.Count) {
	switch c.What {
	case suite.CountCheck:
		m.checks.WithLabelValues(c.Result).Inc()
	case suite.CountMirror:
		m.mirrors.WithLabelValues(archive, c.Mirror, c.Result).Inc()
	case suite.CountAnnouncement:
		m.announcements.WithLabelValues(c.Result).Inc()
	case suite.CountFork:
		m.forks.Inc()
	case suite.CountIncomplete:
		m.incomplete.Inc()
	case suite.CountRevision:
		m.revisions.Inc()
	}
}

// leaderAnswered counts a request to the leader.
func (m *metrics) leaderAnswered(err error) {
	result := "answered"
	switch {
	case suite.Upstreams(err):
		result = "upstream_error"
	case err != nil:
		result = "no_answer"
	}
	m.leader.WithLabelValues(result).Inc()
}

// Collectors returns the catalog's metrics, for the caller to register.
func (c *Catalog) Collectors() []prometheus.Collector {
	m := c.metrics
	return []prometheus.Collector{m.checks, m.announcements, m.leader, m.mirrors, m.switches, m.revisions, m.forks, m.incomplete, m.unreadable, m.untaken, m.unlisted, m.listedByPeers, m.outside, m.parsed, suiteCollector{c}}
}

// suiteCollector reads the state of each suite when it is scraped.
type suiteCollector struct{ c *Catalog }

func suiteDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("aptmesh_suite_"+name, help, []string{"archive", "suite"}, nil)
}

var (
	descDate    = suiteDesc("release_timestamp_seconds", "Signed date of the generation in service.")
	descChecked = suiteDesc("checked_timestamp_seconds", "When upstream was last known to have nothing newer; 0 for never. Absent where upstream never changes.")
	descValid   = suiteDesc("valid_until_timestamp_seconds", "Valid-Until of the generation in service; absent without one.")
	descFailing = suiteDesc("failing", "1 while the last check of upstream failed.")
	descLeader  = suiteDesc("leader", "1 while this node checks upstream for the whole cluster.")
	descAlarm   = suiteDesc("expiry_alarm", "1 while Valid-Until is near or past and upstream has not renewed the root.")
	descServed  = suiteDesc("served_until_timestamp_seconds", "Until when the generation is served while upstream does not answer; absent if without limit.")
	descBehind  = prometheus.NewDesc("aptmesh_suite_mirror_behind_seconds", "Age of a mirror's last root, relative to the newest root known.", []string{"archive", "suite", "mirror"}, nil)
	descArchive = prometheus.NewDesc("aptmesh_archive_served", "1 if a suite of the archive is served; 0 while none is served although a client asked for one, or one is configured.", []string{"archive"}, nil)
	descMemory  = prometheus.NewDesc("aptmesh_catalog_tables_in_memory_bytes", "Package tables that are in memory only because the disk does not take them.", nil, nil)
	descFiles   = prometheus.NewDesc("aptmesh_archive_listed_files", "Files that the stored indexes list.", []string{"archive"}, nil)
)

// Describe implements prometheus.Collector.
func (s suiteCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDate, descChecked, descValid, descFailing, descLeader, descAlarm, descServed, descBehind, descArchive, descMemory, descFiles} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s suiteCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descMemory, float64(s.c.inMemory.Load()))
	served := make(map[string]bool)
	for _, st := range s.c.Stats() {
		if st.Watched || !st.Date.IsZero() || st.Err != nil {
			served[st.Suite.Archive] = served[st.Suite.Archive] || !st.Date.IsZero()
		}
		if st.Date.IsZero() && !st.Watched {
			continue // a client asked for a name that may not exist
		}
		labels := []string{st.Suite.Archive, st.Suite.Path()}
		if !st.Date.IsZero() {
			gauge(descDate, float64(st.Date.Unix()), labels...)
		}
		checked := 0.0 // of a suite that has never been checked: an alarm on its age must go off
		if !st.Checked.IsZero() {
			checked = float64(st.Checked.Unix())
		}
		if !st.Settled { // what never changes is not checked, and has no age to watch
			gauge(descChecked, checked, labels...)
		}
		if !st.ValidUntil.IsZero() && !st.Settled {
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
				gauge(descBehind, m.Behind.Seconds(), st.Suite.Archive, st.Suite.Path(), m.Mirror)
			}
		}
	}
	for name, yes := range served {
		gauge(descArchive, oneIf(yes), name)
	}
	for name, a := range s.c.view.Load().archives {
		_, files := a.listed()
		gauge(descFiles, float64(files), name)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
