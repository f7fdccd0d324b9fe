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

// HostStats describes one upstream host.
type HostStats struct {
	Host    string `json:"host"`  // "https://esm.example.org:8443"; the port only where it is not the scheme's own
	Limit   int    `json:"limit"` // slots
	InUse   int    `json:"in_use"`
	Waiting int    `json:"waiting"`
	Stalled int    `json:"stalled"` // in use, and beyond its patience: a waiting request may take the slot

	// Requests counts ended requests by outcome: "ok" (also a 304), "redirected",
	// "not_found", "refused", "unavailable", "corrupt", "preempted", "cancelled".
	Requests  map[string]int64 `json:"requests"`
	Bytes     int64            `json:"bytes"`            // of bodies, as received
	Rate      float64          `json:"bytes_per_second"` // average over the last seconds
	LastError string           `json:"last_error,omitempty"`
	LastFail  time.Time        `json:"last_error_at,omitzero"`
}

// MirrorStats describes one mirror of an archive. Operators see it as it is.
type MirrorStats struct {
	URL      string `json:"url"` // of its root, without credentials; as Transfer.From names it
	Archive  string `json:"-"`
	Priority int    `json:"priority"`
	Weight   int    `json:"weight"`
	// History says that it is the archive's history service: it is asked only for
	// what all mirrors have dropped.
	History bool   `json:"history,omitempty"`
	State   string `json:"state"` // BreakerClosed, BreakerOpen or BreakerHalfOpen
	// Alert is why no requests go to it now, as proto.AlertKind has it: "asked_to_wait",
	// "unreachable", "errors" or "wrong_content". Reason is a sentence about it. FoundBy
	// names the node that found it, if that is another node. Until is when the breaker
	// becomes half-open.
	Alert   string    `json:"alert,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	FoundBy string    `json:"found_by,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	// LastError is why the latest request failed, at LastFail, if none that began later was answered well.
	LastError string    `json:"last_error,omitempty"`
	LastFail  time.Time `json:"last_error_at,omitzero"`
	// BytesPerSecond is what one transfer gets while it reads, HeaderSeconds the wait
	// for the header of an answer; both averages, and 0 where nothing was measured
	// lately.
	BytesPerSecond float64 `json:"bytes_per_second"`
	HeaderSeconds  float64 `json:"header_seconds"`
	// Penalties is how many objects this mirror has a penalty for now: other mirrors are asked for
	// those first.
	Penalties int `json:"penalties"`
	// Failovers counts the requests that this mirror failed, by reason: "asked_to_wait",
	// "unreachable", "errors", "wrong_content", "not_found", "refused", "broke_off", "slow".
	Failovers map[string]int64 `json:"failovers,omitempty"`
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
	s, penalties, now := c.settings.Load(), c.penalties.count(), time.Now()
	all := []MirrorStats{}
	for _, name := range slices.Sorted(maps.Keys(s.archives)) {
		a := s.archives[name]
		for _, m := range a.sources() {
			one := m.health.stats(now)
			one.Archive, one.Priority, one.Weight = name, m.Priority, m.Weight
			one.History, one.Penalties = m == a.history, penalties[m.name]
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
		URL: h.name, State: b.state(now), Alert: string(b.kind), Reason: b.reason, Until: b.until, FoundBy: b.node,
		LastError: b.lastError, LastFail: b.lastFail,
		Failovers: maps.Clone(h.left),
	}
	one.BytesPerSecond, _ = h.speed.rate(now)
	wait, _ := h.speed.wait(now)
	one.HeaderSeconds = wait.Seconds()
	return one
}
