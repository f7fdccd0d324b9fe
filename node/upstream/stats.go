package upstream

import "time"

// Stats is what a client has done since it was made, by upstream host.
type Stats struct {
	Hosts []HostStats `json:"hosts"` // in the order of their names
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
