package operator

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// Status gathers the state of the node, and of its cluster.
func (o *Operator) Status() *admin.Status {
	s := o.own()
	if o.cfg.Cluster != nil {
		s.Cluster = o.cfg.Cluster.Stats()
	}
	s.Notes = append([]admin.Note{}, s.Judge(time.Now())...)
	s.Level = admin.Worst(s.Notes)
	return s
}

// Failing reports whether the node itself is failing, whatever the others do.
func (o *Operator) Failing() bool {
	return admin.Worst(o.own().Judge(time.Now())) == admin.LevelFailing
}

// own is the state of the node without its cluster.
func (o *Operator) own() *admin.Status {
	cfg := o.cfg.Archives.Config()
	s := &admin.Status{
		Version: o.cfg.Version, Node: o.cfg.Name, Ready: o.cfg.Node.Ready(), Addresses: o.cfg.Node.Addrs(), Stopping: o.cfg.Node.Stopping(),
		UptimeSeconds: int64(time.Since(o.began).Seconds()),
		Store:         o.storeStatus(cfg),
		Archives:      make([]admin.ArchiveStatus, 0, len(cfg.Archives)),
		Flights:       []admin.FlightStatus{},
		Upstreams:     []admin.UpstreamStatus{},
		Traffic:       o.traffic(),
		Prefetch:      o.prefetchStatus(),
		Offline:       cfg.Offline,
	}
	s.Snapshots = admin.SnapshotsStatus(o.cfg.Snapshots.Stats())
	for _, t := range o.cfg.Holds.Troubles() {
		s.Holds = append(s.Holds, admin.HoldTrouble{Hold: t.Hold, Phase: string(t.Phase), Failure: t.Failure})
	}
	s.ReloadFailed, s.NeedsRestart = o.cfg.Node.Reload()
	s.Degraded = cmp.Or(s.Store.Degraded, o.cfg.State.Degraded())
	suites := make(map[string][]admin.SuiteStatus)
	for _, st := range o.cfg.Catalog.Stats() {
		suites[st.Suite.Archive] = append(suites[st.Suite.Archive], suiteStatus(st))
	}
	stats := o.cfg.Upstream.Stats()
	mirrors := mirrorStatus(stats.Mirrors)
	failed := o.cfg.Front.ArchiveErrors()
	for _, a := range cfg.Archives {
		archive := admin.ArchiveStatus{
			Offline: a.Offline || cfg.Offline, Name: a.Name, Class: a.Class, Upstream: a.MainURL(),
			// As JSON, an empty list is [] and not null.
			Mirrors: append([]admin.MirrorStatus{}, mirrors[a.Name]...), Suites: append([]admin.SuiteStatus{}, suites[a.Name]...),
			Errors: []admin.ArchiveErrors{},
		}
		for _, e := range failed[a.Name] {
			archive.Errors = append(archive.Errors, admin.ArchiveErrors(e))
		}
		s.Archives = append(s.Archives, archive)
	}
	for _, class := range cfg.Classes {
		made := len(cfg.Archives) - len(slices.DeleteFunc(slices.Clone(cfg.Archives), func(a archiveconf.Archive) bool { return a.Class == class.Name }))
		s.Classes = append(s.Classes, admin.ClassStatus{Name: class.Name, Upstream: class.MainURL(), Archives: made})
	}
	for _, h := range stats.Hosts {
		s.Upstreams = append(s.Upstreams, admin.UpstreamStatus{Host: h.Host, InUse: h.InUse, Waiting: h.Waiting, Limit: h.Limit, Bytes: h.Bytes, LastError: h.LastError, LastFail: h.LastFail})
	}
	for _, f := range o.cfg.Fetcher.Flights() {
		s.Flights = append(s.Flights, admin.FlightStatus{
			Location: f.Loc.String(), Digest: f.Ref.Digest, Size: f.Ref.Size, Received: f.Written,
			Readers: f.Readers, Source: string(f.Tier), From: cmp.Or(f.Mirror, f.Source), StartedAt: f.Started.UTC(),
		})
	}
	return s
}

func (o *Operator) storeStatus(cfg *config.Config) admin.StoreStatus {
	st := o.cfg.Store.Stats()
	return admin.StoreStatus{
		Dir: cfg.Data, Used: st.Used, Reserved: st.Reserved, Max: st.Max, Blobs: int64(st.Blobs), Pinned: st.Pinned,
		Evictions: st.Evictions, Damaged: st.Damaged,
		ScanPending: !st.Scanned, Degraded: st.Degraded,
	}
}

func suiteStatus(st catalog.SuiteStats) admin.SuiteStatus {
	s := admin.SuiteStatus{
		Dir: st.Suite.Path(), Generation: st.Date, Root: st.Root.Digest, LastCheck: st.Checked, LastChange: st.Changed,
		ValidUntil: st.ValidUntil, Expired: st.Expired, Used: st.Staged, Retained: st.Retained, Members: st.Members,
		ServedUntil: st.ServedUntil, Withheld: st.Withheld, Alarm: st.Alarm, Behind: behind(st.Mirrors),
		Notice: st.Notice, Unverified: st.Unverified, Unreadable: st.Unreadable, State: admin.SuiteFresh, Watched: st.Watched, FailingSince: st.Failing,
	}
	switch {
	case st.Err != nil:
		s.State, s.Error, s.NoSuch = admin.SuiteFailing, st.Err.Error(), errors.Is(st.Err, proto.ErrNotFound)
	case st.Unverified:
		s.State, s.Error = admin.SuiteFailing, st.Notice
	case st.Stale != "":
		s.State, s.Error = admin.SuiteStale, st.Stale
	case st.Settled:
		s.State = admin.SuiteFrozen
	case !st.Watched:
		s.State = admin.SuiteStale
	}
	return s
}

func (o *Operator) traffic() admin.TrafficStatus {
	st := o.cfg.Front.Stats()
	t := admin.TrafficStatus{Requests: st.Requests, Errors: st.Errors, Bytes: st.Bytes, Tiers: make(map[string]admin.TierTraffic)}
	for tier, sum := range st.Tiers {
		t.Tiers[string(tier)] = admin.TierTraffic(sum)
	}
	return t
}

// mirrorStatus is what is known of the mirrors, by archive.
func mirrorStatus(stats []upstream.MirrorStats) map[string][]admin.MirrorStatus {
	all := make(map[string][]admin.MirrorStatus)
	for _, m := range stats {
		all[m.Archive] = append(all[m.Archive], admin.MirrorStatus(m))
	}
	return all
}

// behind lists the mirrors whose Release is older than that of another mirror.
func behind(mirrors []catalog.MirrorStats) []admin.MirrorBehind {
	var late []admin.MirrorBehind
	for _, m := range mirrors {
		if m.Behind > 0 {
			late = append(late, admin.MirrorBehind{URL: m.Mirror, Generation: m.Date, BehindSeconds: m.Behind.Seconds()})
		}
	}
	return late
}

func (o *Operator) prefetchStatus() admin.PrefetchStatus {
	p := o.cfg.Prefetch.Stats()
	s := admin.PrefetchStatus{
		Enabled: p.Enabled, Packages: p.Known, Bytes: p.Bytes, Used: p.Used, UsedBytes: p.UsedBytes,
		Objects: make(map[string]int64, len(p.Objects)),
	}
	for outcome, n := range p.Objects {
		s.Objects[string(outcome)] = n
	}
	return s
}

// Report is this node's own part of the cluster's status.
func (o *Operator) Report() cluster.Report {
	st := o.cfg.Store.Stats()
	r := cluster.Report{Stored: int64(st.Blobs), StoredBytes: st.Used, Suites: []admin.MemberSuite{}}
	for _, h := range o.cfg.Upstream.Stats().Hosts {
		r.UpstreamBytes += h.Bytes
	}
	for _, s := range o.cfg.Catalog.Stats() {
		r.Suites = append(r.Suites, admin.MemberSuite{Suite: s.Suite.String(), Generation: s.Date, Root: s.Root.Digest, State: suiteStatus(s).State})
	}
	r.Level, r.Note = o.verdict()
	return r
}

// verdict is how the node judges itself. What it sees of other nodes is theirs to say, so it does not ask them.
func (o *Operator) verdict() (admin.Level, string) {
	s := o.own()
	s.Cluster = &admin.ClusterStatus{Self: o.cfg.Name, CertificateExpires: o.cfg.Cluster.CertificateExpires()}
	notes := s.Judge(time.Now())
	switch {
	case len(notes) == 0:
		return admin.LevelGood, ""
	case !s.Ready: // it starts or stops, mostly on purpose, and hosts are with the others
		return admin.LevelAttention, notes[0].Text
	}
	return admin.Worst(notes), notes[0].Text
}
