package prefetch

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// gathering registers the metrics and returns what a scrape does.
func gathering(t *testing.T, p *Prefetcher) func() {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p.Collectors()...)
	return func() {
		if _, err := registry.Gather(); err != nil {
			t.Error(err)
		}
	}
}

func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(func(c *Config) { c.MaxBytes = 25 })
		useMany(p, 3)
		p.Switched(w.switched(many(3, "2"), all))
		settled(t, p)
		p.Used(loc(pool("p001", "2", "amd64")))
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(p.Collectors()...)
		const want = `
# HELP aptmesh_prefetch_bytes_total Bytes prefetched.
# TYPE aptmesh_prefetch_bytes_total counter
aptmesh_prefetch_bytes_total 20
# HELP aptmesh_prefetch_jobs_running New generations for which objects are being prefetched.
# TYPE aptmesh_prefetch_jobs_running gauge
aptmesh_prefetch_jobs_running 0
# HELP aptmesh_prefetch_known_packages Packages known to be in use by clients.
# TYPE aptmesh_prefetch_known_packages gauge
aptmesh_prefetch_known_packages 3
# HELP aptmesh_prefetch_objects_total Objects planned for prefetch, by outcome: fetched, stored, failed, over_limit, dropped.
# TYPE aptmesh_prefetch_objects_total counter
aptmesh_prefetch_objects_total{outcome="dropped"} 0
aptmesh_prefetch_objects_total{outcome="failed"} 0
aptmesh_prefetch_objects_total{outcome="fetched"} 2
aptmesh_prefetch_objects_total{outcome="stored"} 0
aptmesh_prefetch_objects_total{outcome="over_limit"} 1
# HELP aptmesh_prefetch_used_bytes_total Bytes of prefetched objects that a client requested later.
# TYPE aptmesh_prefetch_used_bytes_total counter
aptmesh_prefetch_used_bytes_total 10
# HELP aptmesh_prefetch_used_total Prefetched objects that a client requested later, each counted once.
# TYPE aptmesh_prefetch_used_total counter
aptmesh_prefetch_used_total 1
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	})
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	if _, err := New(Config{Open: w.Open, Stored: w.Stored, State: w}); err == nil {
		t.Error("no logger is accepted")
	}
	s := w.prefetcher().Stats()
	if !s.Enabled || s.MaxBytes != 2<<30 || s.UsedWithin.Hours() != 14*24 {
		t.Errorf("%+v", s)
	}
}
