package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/ring"
)

// Report is a node's own part of the cluster's status.
type Report struct {
	Stored        int64               `json:"stored"`
	StoredBytes   int64               `json:"stored_bytes"`
	UpstreamBytes int64               `json:"upstream_bytes"`
	Suites        []admin.MemberSuite `json:"suites"`
	// Level is how the node judges itself, without its view of other nodes; Note is the first note.
	Level admin.Level `json:"level"`
	Note  string      `json:"note"`

	// What the cluster knows itself.
	PeerBytes     int64             `json:"peer_bytes"`
	Configuration map[string]string `json:"configuration"`
	// Addresses are where this node takes each member to be, by the member's name.
	Addresses map[string]string `json:"addresses"`
}

// report is this node's own.
func (c *Cluster) report() Report {
	r := c.rooms.Report()
	for _, p := range c.mesh.Peers() {
		r.PeerBytes += p.BytesIn
	}
	r.Configuration = *c.shared.Load()
	r.Note = brief(r.Note)
	r.Addresses = make(map[string]string)
	if members := c.members(); members != nil {
		for _, node := range members.View().Nodes {
			r.Addresses[node.Name] = node.GossipAddr
		}
	}
	return r
}

// maxNote bounds the note of a report, in bytes.
const maxNote = 240

// brief is a text of another node that may be printed: it is short, and on one line.
func brief(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= maxNote {
		return text
	}
	end := maxNote
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// verdict is what a member reports of itself; nothing where it says what no member can.
func verdict(r Report) (admin.Level, string) {
	switch r.Level {
	case admin.LevelGood, admin.LevelAttention, admin.LevelFailing:
		return r.Level, brief(r.Note)
	}
	return "", "" // an older program does not say it
}

// CertificateExpires is the end of this node's certificate; zero where it has none.
func (c *Cluster) CertificateExpires() time.Time {
	if c.creds == nil {
		return time.Time{}
	}
	return c.creds.Expires()
}

func (c *Cluster) localReport() []byte {
	b, err := json.Marshal(c.report())
	if err != nil {
		c.log.Error("this node's status could not be written", "error", err)
	}
	return b
}

// statusWait bounds the wait for the other nodes' reports.
const statusWait = time.Second

// Stats asks all members; nil before Start.
func (c *Cluster) Stats() *admin.ClusterStatus {
	members := c.members()
	if members == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusWait)
	defer cancel()
	reports := c.mesh.Statuses(ctx)
	view, stats := members.View(), members.Stats()
	s := &admin.ClusterStatus{
		Name: c.cfg.Name, Datacenter: c.datacenter, Self: c.name,
		RingHash: fmt.Sprintf("%016x", view.Ring.Hash()), RingVersion: ring.Version,
		Secured: c.cfg.Secured(), CertificateExpires: c.CertificateExpires(), Members: make([]admin.MemberStatus, 0, len(view.Nodes)),
	}
	seen := make(map[string]peers.PeerStatus)
	for _, p := range c.mesh.Peers() {
		seen[p.Name] = p
	}
	var others []Report
	for _, node := range view.Nodes {
		m := admin.MemberStatus{
			Name: node.Name, Datacenter: node.Datacenter, Address: node.PeerAddr, Version: node.Version, State: node.State.String(),
			Health: admin.HealthOK, RingAgrees: true, RingShare: view.Ring.Share(node.Name), GossipSilent: slices.Contains(stats.Silent, node.Name),
			Suites: []admin.MemberSuite{},
		}
		if p, ok := seen[node.Name]; ok {
			seenAs(&m, p)
		}
		var r Report
		if node.Self {
			r, m.Reported = c.report(), true
		} else if b, ok := reports[node.Name]; ok {
			m.Reported = json.Unmarshal(b, &r) == nil
			others = append(others, r)
		}
		if m.Reported {
			m.Stored, m.StoredBytes, m.UpstreamBytes, m.PeerBytes, m.Suites = r.Stored, r.StoredBytes, r.UpstreamBytes, r.PeerBytes, r.Suites
			m.Configuration = r.Configuration
			m.Level, m.Note = verdict(r)
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
	s.Vacated = stats.Vacated
	if s.Alone = stats.Alone; len(view.Nodes) < 2 && len(s.Alone)+len(s.Vacated) == 0 && len(c.cfg.Seeds) > 0 {
		s.Alone = []string{"no other node is known yet"}
	}
	for _, stranger := range stats.Strangers {
		s.Strangers = append(s.Strangers, admin.Stranger(stranger))
	}
	for _, claim := range stats.Claims {
		s.Claims = append(s.Claims, decideClaim(claim, c.name, others))
	}
	return s
}

// decideClaim says which of two nodes with one name is a member. This node knows that of other names. If the name is its
// own, only the other members can tell: to itself, it is the member.
func decideClaim(claim ring.Claim, self string, others []Report) admin.Claim {
	decided := admin.Claim{Name: claim.Name, Known: claim.Known, Other: claim.Other, At: claim.At}
	if claim.Name != self {
		return decided
	}
	votes := make(map[string]int)
	for _, r := range others {
		votes[r.Addresses[claim.Name]]++
	}
	known, other := votes[claim.Known], votes[claim.Other]
	if other > known {
		decided.Known, decided.Other = claim.Other, claim.Known
	}
	decided.Undecided = known == other
	return decided
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
