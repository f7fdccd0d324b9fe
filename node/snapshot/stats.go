package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// Stats is how the snapshots and channels of this node do.
type Stats struct {
	Snapshots, Channels int
	// Open is how many archives of snapshots are open, each with a table on the disk.
	Open int
	// Missing is how many roots and indexes of snapshots this node has not stored.
	Missing int
	// Troubles say what is not as it should be, a sentence each.
	Troubles []string
}

// Stats returns the present figures.
func (k *Keeper) Stats() Stats {
	t := k.table.Load()
	s := Stats{Snapshots: len(t.names.List(names.Snapshot)), Channels: len(t.names.List(names.Channel)), Missing: len(k.missingOf(slices.Collect(maps.Values(t.records))...))}
	k.opening.Lock()
	s.Open = len(k.opened)
	failed := maps.Clone(k.failed)
	k.opening.Unlock()
	for _, c := range t.names.List(names.Channel) {
		if trouble := k.channelTrouble(t, c.Name); trouble != "" {
			s.Troubles = append(s.Troubles, trouble)
		}
	}
	for _, e := range k.expired() {
		if e.Channel != "" {
			s.Troubles = append(s.Troubles, fmt.Sprintf("the snapshot %s has expired on %s, and stays because the channel %s stands for it", e.Name, e.At.Format(time.DateOnly), e.Channel))
		}
	}
	for _, n := range t.names.List(names.Snapshot) {
		if name, _, twice := strings.Cut(n.Name, "~"); twice {
			s.Troubles = append(s.Troubles, fmt.Sprintf("two operators have given the name %s to different snapshots while nodes did not see each other: the older one is %s; remove one of them", name, n.Name))
		}
	}
	for _, what := range slices.Sorted(maps.Keys(failed)) {
		s.Troubles = append(s.Troubles, fmt.Sprintf("the schedule could not %s: %s", what, failed[what]))
	}
	return s
}

// channelTrouble says why hosts may not get all of what a channel leads to; "" if they do.
func (k *Keeper) channelTrouble(t *table, name string) string {
	at, ok := lead(t.names, name)
	_, known := follow(t.names, name)
	r := t.records[at.digest]
	switch {
	case ok && at.digest == names.Live:
		return ""
	case !ok:
		return fmt.Sprintf("the channel %s leads nowhere: hosts that use it get 404; move it (aptmesh channel set)", name)
	case r == nil:
		return fmt.Sprintf("the channel %s leads to %s, of which this node has no record: hosts that use it here get 404", name, at.snapshot)
	case !known:
		return fmt.Sprintf("the channel %s leads to %s, which was removed: it is served; restore it (aptmesh snapshot restore %s), or move the channel", name, at.snapshot, at.snapshot)
	}
	if missing := k.missingOf(r); len(missing) > 0 {
		return fmt.Sprintf("the channel %s leads to %s, of which %d roots or indexes are not stored on this node: they come from other nodes or upstream, as long as those have them", name, at.snapshot, len(missing))
	}
	return ""
}

// missingOf are the roots and indexes of records that are not stored here.
func (k *Keeper) missingOf(records ...*Record) []proto.Ref {
	seen := make(map[proto.Digest]bool)
	var missing []proto.Ref
	for _, r := range records {
		for _, ref := range r.Blobs() {
			if !seen[ref.Digest] && !k.cfg.Store.Has(ref.Digest) {
				missing = append(missing, ref)
			}
			seen[ref.Digest] = true
		}
	}
	return missing
}

// metrics are those that are counted when somebody asks.
type metrics struct {
	k *Keeper

	snapshots, channels, open, missing, age *prometheus.Desc
}

func newMetrics(k *Keeper) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("aptmesh_"+name, help, labels, nil)
	}
	return &metrics{
		k:         k,
		snapshots: desc("snapshots", "Snapshots that there are."),
		channels:  desc("channels", "Channels that there are."),
		open:      desc("snapshot_tables_open", "Archives of snapshots that are open, each with a table on the disk."),
		missing:   desc("snapshot_missing_blobs", "Roots and indexes of snapshots that are not stored on this node."),
		age:       desc("channel_age_seconds", "How long ago the snapshot was taken that a channel leads to; 0 for one that leads to the archive as it is now.", "channel"),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.snapshots, m.channels, m.open, m.missing, m.age} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s, t, now := m.k.Stats(), m.k.table.Load(), m.k.cfg.Now()
	gauge(m.snapshots, float64(s.Snapshots))
	gauge(m.channels, float64(s.Channels))
	gauge(m.open, float64(s.Open))
	gauge(m.missing, float64(s.Missing))
	for _, c := range t.names.List(names.Channel) {
		at, _ := lead(t.names, c.Name)
		switch r := t.records[at.digest]; {
		case at.digest == names.Live:
			gauge(m.age, 0, c.Name)
		case r != nil:
			gauge(m.age, now.Sub(r.Taken).Seconds(), c.Name)
		}
	}
}
