package ring

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are the figures of Members.
type Stats struct {
	States  map[State]int        // how many nodes are in each state, self included
	Beacons map[string]time.Time // the last beacon of each other node; zero: none yet
	Silent  []string             // members whose beacons do not arrive, sorted: UDP is blocked
	Missing []Missing            // nodes that disappeared without leaving, by name

	// Alone says why no seed and no node known before could be reached, one sentence
	// for each; empty while there are other members.
	Alone []string
	// Vacated are the addresses that seeds name of nodes that left or were removed, where nobody
	// answers; empty while there are other members.
	Vacated []string
	// Strangers were kept out lately: their gossip cannot be read here.
	Strangers []Stranger
	// Claims are the names that two nodes used lately.
	Claims []Claim

	BytesIn, BytesOut uint64 // of packets and streams, as memberlist counts them
	Received          uint64 // messages handed to Received
	Dropped           uint64 // messages and states dropped because a queue was full
	Refused           uint64 // packets and streams from outside the allowed networks
	Conflicts         uint64 // times that a node claimed the name of another node
	Unreached         uint64 // look-ups of seeds, and contacts of seeds and missing nodes, that failed
	Changes           uint64 // rings built since Start
	BuildTime         time.Duration
}

// Stats returns the present figures.
func (m *Members) Stats() Stats {
	s := Stats{
		States:  make(map[State]int),
		Missing: m.roster.lookedFor(),
		BytesIn: m.wire.in.Load(), BytesOut: m.wire.out.Load(),
		Received: m.received.Load(), Dropped: m.messages.dropped.Load() + m.states.dropped.Load(),
		Refused: m.wire.refused.Load(), Conflicts: m.conflicts.Load(), Unreached: m.unreached.Load(),
		Changes: m.changes.Load(), BuildTime: time.Duration(m.built.Load()),
	}
	nodes := m.View().Nodes
	for _, n := range nodes {
		s.States[n.State]++
	}
	if len(nodes) < 2 {
		m.noteAlone(&s)
	}
	s.Strangers, s.Claims = m.logs.recentStrangers(), m.recentClaims()
	s.Beacons, s.Silent = m.roster.beacons(m.patience())
	return s
}

// whyAlone says of each address that was tried why no node answers there.
func (m *Members) whyAlone() []string {
	var s Stats
	m.noteAlone(&s)
	return slices.Concat(s.Alone, s.Vacated)
}

// noteAlone fills in why no other node is there.
func (m *Members) noteAlone(s *Stats) {
	if lookups := m.lookups.Load(); lookups != nil {
		s.Alone = slices.Clone(*lookups)
	}
	if failures := m.failures.Load(); failures != nil {
		vacated := m.roster.vacated()
		for _, f := range *failures {
			if vacated[f.address] {
				s.Vacated = append(s.Vacated, f.address)
			} else {
				s.Alone = append(s.Alone, f.address+": "+f.why)
			}
		}
	}
	slices.Sort(s.Alone)
	slices.Sort(s.Vacated)
}

// Collectors returns the metrics, for the caller to register.
func (m *Members) Collectors() []prometheus.Collector { return []prometheus.Collector{collector{m}} }

// collector shows Stats as metrics.
type collector struct{ m *Members }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("aptmesh_"+name, help, labels, nil)
}

var (
	descMembers   = describe("gossip_members", "Members of the gossip, this node included, by state.", "state")
	descSilent    = describe("gossip_silent_nodes", "Members whose gossip packets do not arrive (UDP is blocked).")
	descMissing   = describe("gossip_missing_nodes", "Nodes that disappeared without leaving the cluster.")
	descBytes     = describe("gossip_bytes_total", "Bytes of gossip packets and streams.", "direction")
	descMessages  = describe("gossip_messages_total", "Gossip messages and states that arrived, by result.", "result")
	descRefused   = describe("gossip_refused_total", "Packets and streams from outside the allowed networks.")
	descConflicts = describe("gossip_name_conflicts_total", "Times that a node claimed the name of another node.")
	descUnreached = describe("gossip_contacts_failed_total", "Failed look-ups of, and connections to, seeds and missing nodes.")
	descNodes     = describe("ring_nodes", "Nodes that own keys, in this node's view.")
	descShare     = describe("ring_share_ratio", "Share of all keys that this node owns.")
	descChanges   = describe("ring_changes_total", "Rings built because nodes joined, left or changed.")
	descBuild     = describe("ring_build_seconds", "Time to build the last ring.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descMembers, descSilent, descMissing, descBytes, descMessages, descRefused, descConflicts,
		descUnreached, descNodes, descShare, descChanges, descBuild,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	s, r := c.m.Stats(), c.m.View().Ring
	for _, state := range []State{Joining, Active, Leaving} {
		gauge(descMembers, float64(s.States[state]), state.String())
	}
	gauge(descSilent, float64(len(s.Silent)))
	gauge(descMissing, float64(len(s.Missing)))
	count(descBytes, s.BytesIn, "in")
	count(descBytes, s.BytesOut, "out")
	count(descMessages, s.Received, "received")
	count(descMessages, s.Dropped, "dropped")
	count(descRefused, s.Refused)
	count(descConflicts, s.Conflicts)
	count(descUnreached, s.Unreached)
	gauge(descNodes, float64(r.Len()))
	gauge(descShare, r.Share(c.m.cfg.Name))
	count(descChanges, s.Changes)
	gauge(descBuild, s.BuildTime.Seconds())
}
