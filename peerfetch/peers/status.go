package peers

import "time"

// PeerStatus is another node as this one sees it at one moment.
type PeerStatus struct {
	Name       string `json:"name"`
	Datacenter string `json:"datacenter"`
	State      string `json:"state"` // as gossip has it
	Version    string `json:"version"`
	Addr       string `json:"addr"` // of its gRPC

	// Healthy says that the node is asked for bytes; RTT is the round trip to it, 0
	// while not known.
	Healthy bool          `json:"healthy"`
	RTT     time.Duration `json:"rtt"`
	// LastError is the latest failure, even if it is over; "" for none.
	LastError string `json:"last_error,omitempty"`
	// Stalled says that it answers, and gives no bytes: it is not asked for a while.
	// Lags says that upstream was slow for it: others are asked before it.
	Stalled bool `json:"stalled,omitempty"`
	Lags    bool `json:"lags,omitempty"`
	// RingAgrees says that it sees the same ring; false while not known.
	RingAgrees bool `json:"ring_agrees"`
	// Blobs is how many blobs it says it holds; 0 while not known.
	Blobs uint64 `json:"blobs"`

	// QuarantinedUntil is zero unless it sent wrong bytes; Quarantined says which.
	QuarantinedUntil time.Time `json:"quarantined_until,omitzero"`
	Quarantined      string    `json:"quarantined,omitempty"`

	// BytesIn came from it, BytesOut went to it: bodies only, since the start.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}

// Peers returns the other nodes of the view, sorted by name.
func (m *Mesh) Peers() []PeerStatus {
	view := m.View()
	all := make([]PeerStatus, 0, len(view.Nodes))
	for _, node := range view.Nodes {
		if node.Name == m.cfg.Name {
			continue
		}
		s := PeerStatus{
			Name: node.Name, Datacenter: node.Datacenter, State: node.State.String(),
			Version: node.Version, Addr: node.PeerAddr,
		}
		if p := m.peer(node.Name); p != nil {
			m.describe(p, &s)
		}
		if q := m.distrusted(node.Name); q != nil {
			s.QuarantinedUntil, s.Quarantined = q.until, q.cause.Error()
		}
		t := m.traffic.with(node.Name)
		s.BytesIn, s.BytesOut = t.in.Load(), t.out.Load()
		all = append(all, s)
	}
	return all
}
