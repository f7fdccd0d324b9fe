package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// An archive that never worked is failing, in status and in the metrics, until it
// works.
func TestArchiveThatNeverWorked(t *testing.T) {
	t.Parallel()
	var there string
	w := newWorld(t, newArchive(), func(cfg *config.Config) {
		there = cfg.Archives[0].Upstream
		cfg.Archives[0].Upstream = "http://127.0.0.1:1/ubuntu"
		cfg.Archives[0].Suites = []string{"noble"}
	})
	never := func() bool {
		for _, n := range w.node.Status().Notes {
			if n.Level == admin.LevelFailing && strings.HasPrefix(n.Text, "ubuntu has never worked: ") {
				return true
			}
		}
		return false
	}
	wait := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited for %s; status says %+v", what, w.node.Status().Notes)
			}
		}
	}
	served := func() float64 {
		v, there := w.node.Gauge("aptmesh_archive_served", "archive", "ubuntu")
		if !there {
			return -1
		}
		return v
	}
	wait("the note", never)
	if served() != 0 {
		t.Errorf("aptmesh_archive_served is %v", served())
	}
	if v, there := w.node.Gauge("aptmesh_suite_checked_timestamp_seconds", "archive", "ubuntu"); !there || v != 0 {
		t.Errorf("aptmesh_suite_checked_timestamp_seconds: %v, %v", v, there)
	}
	mended := *w.cfg
	mended.Archives = append([]config.Archive(nil), w.cfg.Archives...)
	mended.Archives[0].Upstream = there
	if _, _, err := w.node.Reload(&mended); err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.Refresh(t.Context(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	wait("the end of it", func() bool { return !never() && served() == 1 })
}

// The admin interface says the states of a mirror in the words of the client that
// watches it.
func TestMirrorStates(t *testing.T) {
	for said, is := range map[string]string{
		admin.MirrorClosed: upstream.BreakerClosed, admin.MirrorOpen: upstream.BreakerOpen, admin.MirrorHalfOpen: upstream.BreakerHalfOpen,
	} {
		if said != is {
			t.Errorf("%q is called %q", is, said)
		}
	}
}
