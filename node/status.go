package node

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

// Status gathers the state of the node.
func (n *Node) Status() *admin.Status {
	n.mu.Lock()
	cfg := n.cfg
	n.mu.Unlock()
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
	s.Cluster = n.clusterStatus(cfg)
	suites := make(map[string][]admin.SuiteStatus)
	for _, st := range n.catalog.Status() {
		suites[st.Suite.Archive] = append(suites[st.Suite.Archive], suiteStatus(st))
	}
	stats := n.upstream.Stats()
	mirrors := mirrorStatus(stats.Mirrors)
	for _, a := range cfg.Archives {
		s.Archives = append(s.Archives, admin.ArchiveStatus{Offline: a.Offline || cfg.Offline, Mirrors: mirrors[a.Name], Name: a.Name, Upstream: a.MainURL(), Suites: suites[a.Name]})
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
	s.Notes = s.Judge(time.Now())
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
		Dir: st.Suite.Dir, Generation: st.Date, Root: st.Root.Digest, LastCheck: st.Checked, LastChange: st.Changed,
		ValidUntil: st.ValidUntil, Expired: st.Expired, Used: st.Staged, Retained: st.Retained, Members: st.Members,
		ServedUntil: st.ServedUntil, Withheld: st.Withheld, Alarm: st.Alarm, Behind: behind(st.Mirrors),
		Notice: st.Notice, Unreadable: st.Unreadable, State: admin.SuiteFresh, Watched: st.Watched,
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

// traffic sums up the frontend's metrics.
func (n *Node) traffic() admin.TrafficStatus {
	t := admin.TrafficStatus{Tiers: make(map[string]admin.TierTraffic)}
	families, err := n.metrics.Gather()
	if err != nil && len(families) == 0 {
		return t
	}
	for _, family := range families {
		switch family.GetName() {
		case "aptmesh_front_requests_total":
			for _, m := range family.GetMetric() {
				addRequests(&t, m)
			}
		case "aptmesh_front_sent_bytes_total":
			for _, m := range family.GetMetric() {
				bytes, tier := int64(m.GetCounter().GetValue()), labelOf(m, "tier")
				t.Bytes += bytes
				if tier != "" && tier != "none" {
					sum := t.Tiers[tier]
					sum.Bytes += bytes
					t.Tiers[tier] = sum
				}
			}
		}
	}
	return t
}

func addRequests(t *admin.TrafficStatus, m *dto.Metric) {
	count := int64(m.GetCounter().GetValue())
	t.Requests += count
	if code := labelOf(m, "code"); code >= "400" {
		t.Errors += count
	}
	if tier := labelOf(m, "tier"); tier != "" && tier != "none" {
		sum := t.Tiers[tier]
		sum.Requests += count
		t.Tiers[tier] = sum
	}
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
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
	n.mu.Lock()
	defer n.mu.Unlock()
	var best string
	found := false
	for _, a := range n.cfg.Archives {
		if (name == a.Name || strings.HasPrefix(name, a.Name+"/")) && len(a.Name) >= len(best) {
			best, found = a.Name, true
		}
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(name, best), "/")
	if !found || rest == "" && !strings.HasSuffix(name, "/") {
		names := make([]string, len(n.cfg.Archives))
		for i, a := range n.cfg.Archives {
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
	id.Dir = formatOf(best).SuiteNamed(dir).Dir
	return id, nil
}
