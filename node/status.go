package node

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

// Status gathers the state of the node.
func (n *Node) Status() *admin.Status {
	cfg := n.table.Config()
	s := &admin.Status{
		Version: n.opts.Version, Node: n.opts.Name, Ready: n.ready.Load(), Addresses: n.Addrs(),
		UptimeSeconds: int64(time.Since(n.began).Seconds()),
		Store:         n.storeStatus(cfg),
		Archives:      make([]admin.ArchiveStatus, 0, len(cfg.Archives)),
		Flights:       []admin.FlightStatus{},
		Upstreams:     []admin.UpstreamStatus{},
		Traffic:       n.traffic(),
		Prefetch:      n.prefetchStatus(),
		Offline:       cfg.Offline,
	}
	s.Degraded = cmp.Or(s.Store.Degraded, n.state.Degraded())
	if doing := n.doing.Load(); doing != nil {
		s.Stopping = *doing
	}
	if n.cluster != nil {
		s.Cluster = n.cluster.Status()
	}
	suites := make(map[string][]admin.SuiteStatus)
	for _, st := range n.catalog.Status() {
		suites[st.Suite.Archive] = append(suites[st.Suite.Archive], suiteStatus(st))
	}
	stats := n.upstream.Stats()
	mirrors := mirrorStatus(stats.Mirrors)
	failed := n.front.ArchiveErrors()
	for _, a := range cfg.Archives {
		archive := admin.ArchiveStatus{
			Offline: a.Offline || cfg.Offline, Name: a.Name, Upstream: a.MainURL(),
			// As JSON, an empty list is [] and not null.
			Mirrors: append([]admin.MirrorStatus{}, mirrors[a.Name]...), Suites: append([]admin.SuiteStatus{}, suites[a.Name]...),
			Errors: []admin.ArchiveErrors{},
		}
		for _, e := range failed[a.Name] {
			archive.Errors = append(archive.Errors, admin.ArchiveErrors(e))
		}
		s.Archives = append(s.Archives, archive)
	}
	for _, h := range stats.Hosts {
		s.Upstreams = append(s.Upstreams, admin.UpstreamStatus{Host: h.Host, InUse: h.InUse, Waiting: h.Waiting, Limit: h.Limit, Bytes: h.Bytes, LastError: h.LastError})
	}
	for _, f := range n.fetcher.Flights() {
		s.Flights = append(s.Flights, admin.FlightStatus{
			Location: f.Loc.String(), Digest: f.Ref.Digest, Size: f.Ref.Size, Received: f.Written,
			Readers: f.Readers, Source: string(f.Tier), From: cmp.Or(f.Mirror, f.Source), StartedAt: f.Started.UTC(),
		})
	}
	s.Notes = append([]admin.Note{}, s.Judge(time.Now())...)
	s.Level = admin.Worst(s.Notes)
	return s
}

func (n *Node) storeStatus(cfg *config.Config) admin.StoreStatus {
	st := n.store.Stats()
	return admin.StoreStatus{
		Dir: cfg.Data, Used: st.Used, Reserved: st.Reserved, Max: st.Max, Blobs: int64(st.Blobs), Pinned: st.Pinned,
		Evictions: st.Evictions, Damaged: st.Damaged,
		ScanPending: !st.Scanned, Degraded: st.Degraded,
	}
}

func suiteStatus(st catalog.SuiteStatus) admin.SuiteStatus {
	s := admin.SuiteStatus{
		Dir: st.Suite.Path(), Generation: st.Date, Root: st.Root.Digest, LastCheck: st.Checked, LastChange: st.Changed,
		ValidUntil: st.ValidUntil, Expired: st.Expired, Used: st.Staged, Retained: st.Retained, Members: st.Members,
		ServedUntil: st.ServedUntil, Withheld: st.Withheld, Alarm: st.Alarm, Behind: behind(st.Mirrors),
		Notice: st.Notice, Unreadable: st.Unreadable, State: admin.SuiteFresh, Watched: st.Watched, FailingSince: st.Failing,
	}
	switch {
	case st.Err != nil:
		s.State, s.Error = admin.SuiteFailing, st.Err.Error()
	case st.Stale != "":
		s.State, s.Error = admin.SuiteStale, st.Stale
	case !st.Watched:
		s.State = admin.SuiteStale
	}
	return s
}

func (n *Node) traffic() admin.TrafficStatus {
	st := n.front.Stats()
	t := admin.TrafficStatus{Requests: st.Requests, Errors: st.Errors, Bytes: st.Bytes, Tiers: make(map[string]admin.TierTraffic)}
	for tier, sum := range st.Tiers {
		t.Tiers[string(tier)] = admin.TierTraffic(sum)
	}
	return t
}

// Refresh asks upstream about a suite at once: "ubuntu/noble" or
// "ubuntu/dists/noble". With older an older Release than the one held is taken.
func (n *Node) Refresh(ctx context.Context, name string, older bool) (*admin.RefreshResult, error) {
	id, err := n.suiteNamed(name)
	if err != nil {
		return nil, err
	}
	r := &admin.RefreshResult{Suite: id.String(), From: n.dateOf(id)}
	r.Changed, err = n.catalog.Refresh(ctx, id, older)
	r.To = n.dateOf(id)
	switch {
	case catalog.Reason(err) == "not_found": // the Release itself, not a file that it lists
		return nil, fmt.Errorf("upstream has no Release for %s", id)
	case err != nil:
		return nil, err
	case r.Changed:
		r.Message = fmt.Sprintf("adopted the generation of %s", r.To.Format(time.RFC3339))
	default:
		r.Message = fmt.Sprintf("upstream has nothing newer than the generation of %s", r.To.Format(time.RFC3339))
	}
	return r, nil
}

// Drop forgets a suite, named as for Refresh.
func (n *Node) Drop(name string) (*admin.DropResult, error) {
	id, err := n.suiteNamed(name)
	if err != nil {
		return nil, err
	}
	if err := n.catalog.Drop(id); err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	n.log.Warn("an operator has had this node forget a suite", "suite", id.String())
	return &admin.DropResult{Suite: id.String(), Message: "forgotten; the next check or request reads it anew, whatever its date"}, nil
}

func (n *Node) dateOf(id proto.Suite) time.Time {
	for _, st := range n.catalog.Status() {
		if st.Suite == id {
			return st.Date
		}
	}
	return time.Time{}
}

// suiteNamed reads ARCHIVE/SUITE. The archive's name may have slashes; the
// longest that fits counts.
func (n *Node) suiteNamed(name string) (proto.Suite, error) {
	cfg := n.table.Config()
	var best string
	found := false
	for _, a := range cfg.Archives {
		if (name == a.Name || strings.HasPrefix(name, a.Name+"/")) && len(a.Name) >= len(best) {
			best, found = a.Name, true
		}
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(name, best), "/")
	if !found || rest == "" && !strings.HasSuffix(name, "/") {
		names := make([]string, len(cfg.Archives))
		for i, a := range cfg.Archives {
			names[i] = a.Name
		}
		return proto.Suite{}, fmt.Errorf("%q does not name a suite: write ARCHIVE/SUITE, such as ubuntu/noble; the archives here are %s", name, strings.Join(names, ", "))
	}
	if rest == "" {
		rest = "./"
	}
	dir, err := url.PathUnescape(rest)
	if err != nil {
		return proto.Suite{}, err
	}
	id := proto.Suite{Archive: best, Dir: strings.TrimSuffix(dir, "/")}
	if n.catalog.Knows(id) {
		return id, nil
	}
	id = n.table.FormatOf(best).SuiteNamed(dir)
	id.Archive = best
	return id, nil
}

// report is what this node tells the others of its cluster.
func (n *Node) report() cluster.Report {
	st := n.store.Stats()
	r := cluster.Report{Stored: int64(st.Blobs), StoredBytes: st.Used, Suites: []admin.MemberSuite{}}
	for _, h := range n.upstream.Stats().Hosts {
		r.UpstreamBytes += h.Bytes
	}
	for _, s := range n.catalog.Status() {
		r.Suites = append(r.Suites, admin.MemberSuite{Suite: s.Suite.String(), Generation: s.Date, Root: s.Root.Digest, State: suiteStatus(s).State})
	}
	return r
}
