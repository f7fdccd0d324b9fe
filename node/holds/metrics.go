package holds

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector tells the numbers of holds. Counting them looks at every file of each, so that it is not done for each
// scrape.
type collector struct {
	k              *Keeper
	bytes, missing *prometheus.Desc

	mu    sync.Mutex
	until time.Time // guarded by mu, as is told
	told  []prometheus.Metric
}

const scrapedFor = 30 * time.Second

// Collectors returns the metrics of this room, for the caller to register.
func (k *Keeper) Collectors() []prometheus.Collector {
	return []prometheus.Collector{&collector{
		k: k,
		bytes: prometheus.NewDesc("aptmesh_hold_bytes",
			"Bytes of a mirror or snapshot: listed in the cluster, share of this node, held here, own (held here by nothing else).", []string{"hold", "kind"}, nil),
		missing: prometheus.NewDesc("aptmesh_hold_missing_files",
			"Files of this node's share of a mirror or snapshot that are not stored.", []string{"hold"}, nil),
	}}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	to <- c.bytes
	to <- c.missing
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().After(c.until) {
		c.told = c.count()
		c.until = time.Now().Add(scrapedFor)
	}
	for _, m := range c.told {
		to <- m
	}
}

func (c *collector) count() (all []prometheus.Metric) {
	c.k.mu.Lock()
	workers := slices.Collect(maps.Values(c.k.workers))
	c.k.mu.Unlock()
	for _, w := range workers {
		s, name := c.k.count(w), label(w.owner)
		for kind, n := range map[string]int64{"listed": s.Listed.Bytes, "share": s.Share.Bytes, "held": s.Held.Bytes, "own": s.Own.Bytes} {
			all = append(all, prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(n), name, kind))
		}
		all = append(all, prometheus.MustNewConstMetric(c.missing, prometheus.GaugeValue, float64(s.Missing.Files), name))
	}
	return all
}
