package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// report is what a node tells the others of itself, for their status pages.
// Fields are added, never renamed.
type report struct {
	Stored        int64               `json:"stored"`
	StoredBytes   int64               `json:"stored_bytes"`
	UpstreamBytes int64               `json:"upstream_bytes"`
	PeerBytes     int64               `json:"peer_bytes"`
	Suites        []admin.MemberSuite `json:"suites"`
	Configuration map[string]string   `json:"configuration"`
}

// report gathers what only this node knows.
func (n *Node) report() report {
	st := n.store.Stats()
	r := report{Stored: int64(st.Blobs), StoredBytes: st.Used, Suites: []admin.MemberSuite{}, Configuration: *n.shared.Load()}
	for _, h := range n.upstream.Stats().Hosts {
		r.UpstreamBytes += h.Bytes
	}
	for _, p := range n.cluster.mesh.Peers() {
		r.PeerBytes += p.BytesIn
	}
	for _, s := range n.catalog.Status() {
		status := suiteStatus(s)
		r.Suites = append(r.Suites, admin.MemberSuite{Suite: s.Suite.String(), Generation: s.Date, Root: s.Root.Digest, State: status.State})
	}
	return r
}

func (n *Node) localStatus() []byte {
	b, err := json.Marshal(n.report())
	if err != nil {
		n.log.Error("this node's status could not be written", "error", err)
	}
	return b
}

// statusWait bounds the wait for the other nodes' reports.
const statusWait = time.Second

// clusterStatus asks all members; nil where the node stands alone.
func (n *Node) clusterStatus(cfg *config.Config) *admin.ClusterStatus {
	c := n.cluster
	if c == nil || c.members == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusWait)
	defer cancel()
	reports := c.mesh.Statuses(ctx)
	view, stats := c.members.View(), c.members.Stats()
	s := &admin.ClusterStatus{
		Name: c.cfg.Name, Datacenter: cfg.Datacenter(), Self: c.name,
		RingHash: fmt.Sprintf("%016x", view.Ring.Hash()), RingVersion: ring.Version,
		Secured: cfg.Cluster.Secured(), Members: make([]admin.MemberStatus, 0, len(view.Nodes)),
	}
	if c.creds != nil {
		s.CertificateExpires = c.creds.Expires()
	}
	seen := make(map[string]peers.PeerStatus)
	for _, p := range c.mesh.Peers() {
		seen[p.Name] = p
	}
	for _, node := range view.Nodes {
		m := admin.MemberStatus{
			Name: node.Name, Datacenter: node.Datacenter, Address: node.PeerAddr, Version: node.Version, State: node.State.String(),
			Health: admin.HealthOK, RingAgrees: true, RingShare: view.Ring.Share(node.Name), GossipSilent: slices.Contains(stats.Silent, node.Name),
			Suites: []admin.MemberSuite{},
		}
		if p, ok := seen[node.Name]; ok {
			seenAs(&m, p)
		}
		var r report
		if node.Self {
			r, m.Reported = n.report(), true
		} else if b, ok := reports[node.Name]; ok {
			m.Reported = json.Unmarshal(b, &r) == nil
		}
		if m.Reported {
			m.Stored, m.StoredBytes, m.UpstreamBytes, m.PeerBytes, m.Suites = r.Stored, r.StoredBytes, r.UpstreamBytes, r.PeerBytes, r.Suites
			m.Configuration = r.Configuration
			s.UpstreamBytes += r.UpstreamBytes
			s.UpstreamBytesSaved += r.PeerBytes
		}
		s.Members = append(s.Members, m)
	}
	for _, m := range view.Missing {
		s.Members = append(s.Members, admin.MemberStatus{
			Name: m.Name, Datacenter: m.Datacenter, Address: m.Address, State: admin.MemberMissing, Health: admin.HealthUnreachable,
			MissingSince: m.Since, RingAgrees: true, Suites: []admin.MemberSuite{},
		})
	}
	slices.SortFunc(s.Members, func(a, b admin.MemberStatus) int { return strings.Compare(a.Name, b.Name) })
	if s.Alone = stats.Alone; len(view.Nodes) < 2 && len(s.Alone) == 0 && len(c.cfg.Seeds) > 0 {
		s.Alone = []string{"no other node is known yet"}
	}
	for _, stranger := range stats.Strangers {
		s.Strangers = append(s.Strangers, admin.Stranger(stranger))
	}
	for _, claim := range stats.Claims {
		s.Claims = append(s.Claims, admin.Claim(claim))
	}
	return s
}

// seenAs fills in what this node's own dealings with a member show.
func seenAs(m *admin.MemberStatus, p peers.PeerStatus) {
	m.RTTMillis = float64(p.RTT.Microseconds()) / 1000
	m.RingAgrees = p.RingAgrees || !p.Healthy // not known, rather than otherwise
	m.BytesFrom, m.BytesTo = p.BytesIn, p.BytesOut
	switch {
	case p.Quarantined != "":
		m.Health, m.Why = admin.HealthQuarantined, p.Quarantined
	case p.Stalled:
		m.Health, m.Why = admin.HealthStalled, p.LastError
	case !p.Healthy:
		m.Health, m.Why = admin.HealthUnreachable, p.LastError
	}
}

// explainPlan adds where it would be had from, and what the other nodes have to do
// with that.
func (n *Node) explainPlan(w *admin.Why, want proto.ObjectRequest) {
	if n.cluster != nil {
		route := n.cluster.mesh.Route(want)
		w.Owners, w.Holders = route.Owners, route.Holders
	}
	if w.Stored == "" {
		w.Plan = n.fetcher.Plan(want)
	}
}
