package proto

import "time"

// AlertKind says why a mirror is left alone.
type AlertKind string

// The kinds of trouble with a mirror.
const (
	AlertWait        AlertKind = "asked_to_wait" // it answered 429 or 503 and said for how long
	AlertUnreachable AlertKind = "unreachable"   // no connection, or no answer on it
	AlertErrors      AlertKind = "errors"        // it answered with 5xx, or broke transfers off
	AlertContent     AlertKind = "wrong_content" // pages in place of packages, wrong lengths, wrong hashes
)

// MirrorAlert is what one node has found out about a mirror and tells the others. It is
// advice: a node that hears of it asks other mirrors first, and finds out for itself
// before long whether it still holds.
type MirrorAlert struct {
	// Mirror is the URL of the mirror's root, as Transfer.From names it.
	Mirror string
	Kind   AlertKind
	Reason string // one sentence for the operator
	// Until is when the mirror may be tried again, by the clock of whoever holds the
	// Trouble: durations travel, not times. A zero Until says that it is over.
	Until time.Time
	// Node is who found out.
	Node string
}
