package upstream

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Stats is what a client has done since it was made, by upstream host, and what it
// knows of each mirror.
type Stats struct {
	Hosts   []HostStats   `json:"hosts"`   // in the order of their names
	Mirrors []MirrorStats `json:"mirrors"` // by archive, in the order of the configuration
}

// HostStats tells of one upstream host.
type HostStats struct {
	Host    string `json:"host"`  // "https://esm.example.org:8443"; the port only where it is not the scheme's own
	Limit   int    `json:"limit"` // places
	InUse   int    `json:"in_use"`
	Waiting int    `json:"waiting"`
	Stalled int    `json:"stalled"` // in use, but without progress for so long that a waiting request may take the place

	// Requests counts ended requests by outcome: "ok" (also a 304), "redirected",
	// "not_found", "refused", "unavailable", "corrupt", "preempted", "cancelled".
	Requests  map[string]int64 `json:"requests"`
	Bytes     int64            `json:"bytes"`            // of bodies, as received
	Rate      float64          `json:"bytes_per_second"` // average over the last seconds
	LastError string           `json:"last_error,omitempty"`
	LastFail  time.Time        `json:"last_error_at,omitzero"`
}

// MirrorStats tells of one mirror of an archive.
type MirrorStats struct {
	Mirror   string `json:"mirror"` // as Transfer.From names it
	Archive  string `json:"archive"`
	Priority int    `json:"priority"`
	Weight   int    `json:"weight"`
	Snapshot bool   `json:"snapshot,omitempty"` // the archive's snapshot service, asked when all mirrors have failed

	State  string    `json:"state"`            // of its breaker: "closed", "open" or "half_open"
	Kind   string    `json:"kind,omitempty"`   // of the trouble, as proto.TroubleKind has it
	Reason string    `json:"reason,omitempty"` // one sentence
	Until  time.Time `json:"until,omitzero"`   // when it is half-open
	Node   string    `json:"node,omitempty"`   // who found out, if another node
	Rate   float64   `json:"bytes_per_second"` // of one transfer, while it reads; 0: not measured lately
	Wait   float64   `json:"header_seconds"`   // average wait for the header of an answer; 0: not measured lately
	// Strikes is how many objects are held against it now.
	Strikes int `json:"strikes"`
	// Left counts requests that it failed, by why it was left: "asked_to_wait",
	// "unreachable", "errors", "wrong_content", "not_found", "refused", "broke_off", "slow".
	Left map[string]int64 `json:"left"`
}

// Stats returns what was done since the client was made.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	hosts := slices.Collect(maps.Values(c.hosts))
	c.mu.Unlock()
	slices.SortFunc(hosts, func(a, b *host) int { return cmp.Compare(a.name, b.name) })
	stats := Stats{Hosts: make([]HostStats, 0, len(hosts)), Mirrors: c.mirrorStats()}
	for _, h := range hosts {
		stats.Hosts = append(stats.Hosts, h.stats())
	}
	return stats
}

func (c *Client) mirrorStats() []MirrorStats {
	s, strikes, now := c.settings.Load(), c.strikes.count(), time.Now()
	all := []MirrorStats{}
	for _, name := range slices.Sorted(maps.Keys(s.archives)) {
		a := s.archives[name]
		for _, m := range a.sources() {
			one := m.health.stats(now)
			one.Archive, one.Priority, one.Weight = name, m.Priority, m.Weight
			one.Snapshot, one.Strikes = m == a.snapshot, strikes[m.name]
			all = append(all, one)
		}
	}
	return all
}

func (h *health) stats(now time.Time) MirrorStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := &h.breaker
	one := MirrorStats{
		Mirror: h.name, State: b.state(now), Kind: string(b.kind), Reason: b.reason, Until: b.until, Node: b.node,
		Left: maps.Clone(h.left),
	}
	one.Rate, _ = h.speed.rate(now)
	wait, _ := h.speed.wait(now)
	one.Wait = wait.Seconds()
	return one
}
