package snapshot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
)

// says demands that just these troubles are told, each by its beginning.
func (w *world) says(when string, begins ...string) {
	w.Helper()
	told := w.Stats().Troubles
	if len(told) != len(begins) || !slices.EqualFunc(told, begins, strings.HasPrefix) {
		w.Errorf("%s: %q, want %q", when, told, begins)
	}
}

// What hosts of a channel may miss is told, and what an operator should look at.
func TestTroubles(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	w.publish("ubuntu")
	if _, _, err := w.Create(t.Context(), "w49", Plan{Archives: []string{"ubuntu"}, Expires: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	set := func(name, to string) {
		t.Helper()
		if _, err := w.SetChannel(t.Context(), name, to, Order{}); err != nil {
			t.Fatal(err)
		}
	}
	set("edge", "live")
	set("stable", "w48")
	w.says("all is well")
	w.lost = map[proto.Digest]bool{rootOf("ubuntu", 2).Digest: true}
	w.says("a snapshot that no channel needs lacks something")
	set("canary", "w49")
	w.says("a channel needs it", "the channel canary leads to w49, of which 1 roots")
	if s := w.Stats(); s.Snapshots != 2 || s.Channels != 3 || s.Missing != 1 || s.Open != 2 {
		t.Errorf("%+v", s)
	}
	w.lost = nil
	w.now = w.now.Add(25 * time.Hour)
	w.says("it has expired", "the snapshot w49 has expired on 2026-03-0")
	// The record is lost.
	digest := w.List()[0].Digest
	w.files[recordDir+digest] = []byte("x")
	w.restart()
	w.says("after the record was damaged", "the channel stable leads to w48, of which this node has no record", "the snapshot w49 has expired")
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	w.now = w.now.Add(time.Hour)
	for name, to := range map[string]string{"edge": "live", "stable": "w48"} {
		if _, err := w.SetChannel(t.Context(), name, to, Order{}); err != nil {
			t.Fatal(err)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.Collectors()...)
	want := `# HELP aptmesh_channel_age_seconds How long ago the snapshot was taken that a channel leads to; 0 for one that leads to the archive as it is now.
# TYPE aptmesh_channel_age_seconds gauge
aptmesh_channel_age_seconds{channel="edge"} 0
aptmesh_channel_age_seconds{channel="stable"} 3600
# HELP aptmesh_channels Channels that there are.
# TYPE aptmesh_channels gauge
aptmesh_channels 2
# HELP aptmesh_snapshot_missing_blobs Roots and indexes of snapshots that are not stored on this node.
# TYPE aptmesh_snapshot_missing_blobs gauge
aptmesh_snapshot_missing_blobs 0
# HELP aptmesh_snapshot_tables_open Archives of snapshots that are open, each with a table on the disk.
# TYPE aptmesh_snapshot_tables_open gauge
aptmesh_snapshot_tables_open 1
# HELP aptmesh_snapshots Snapshots that there are.
# TYPE aptmesh_snapshots gauge
aptmesh_snapshots 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "aptmesh_channel_age_seconds", "aptmesh_channels", "aptmesh_snapshot_missing_blobs", "aptmesh_snapshot_tables_open", "aptmesh_snapshots"); err != nil {
		t.Error(err)
	}
}
