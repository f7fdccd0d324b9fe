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
# HELP aptmesh_prefetch_bytes_total Bytes fetched ahead of clients.
# TYPE aptmesh_prefetch_bytes_total counter
aptmesh_prefetch_bytes_total 20
# HELP aptmesh_prefetch_jobs_running New generations that objects are being fetched ahead for.
# TYPE aptmesh_prefetch_jobs_running gauge
aptmesh_prefetch_jobs_running 0
# HELP aptmesh_prefetch_known_packages Packages that clients are known to have used.
# TYPE aptmesh_prefetch_known_packages gauge
aptmesh_prefetch_known_packages 3
# HELP aptmesh_prefetch_objects_total Objects planned to be fetched ahead of clients, by outcome: fetched, held, failed, over_limit, dropped.
# TYPE aptmesh_prefetch_objects_total counter
aptmesh_prefetch_objects_total{outcome="dropped"} 0
aptmesh_prefetch_objects_total{outcome="failed"} 0
aptmesh_prefetch_objects_total{outcome="fetched"} 2
aptmesh_prefetch_objects_total{outcome="held"} 0
aptmesh_prefetch_objects_total{outcome="over_limit"} 1
# HELP aptmesh_prefetch_used_bytes_total Bytes of the objects fetched ahead that a client asked for later.
# TYPE aptmesh_prefetch_used_bytes_total counter
aptmesh_prefetch_used_bytes_total 10
# HELP aptmesh_prefetch_used_total Objects fetched ahead that a client asked for later, counted once each.
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
	if _, err := New(Config{Open: w.Open, Held: w.Held, State: w}); err == nil {
		t.Error("no logger is accepted")
	}
	s := w.prefetcher().Status()
	if !s.Enabled || s.MaxBytes != 2<<30 || s.UsedWithin.Hours() != 14*24 {
		t.Errorf("%+v", s)
	}
}
