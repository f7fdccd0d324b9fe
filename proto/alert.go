package proto

import "time"

// AlertKind says why a mirror is left alone.
type AlertKind string

// The kinds of MirrorAlert.
const (
	AlertWait        AlertKind = "asked_to_wait" // it answered 429 or 503 and said for how long
	AlertUnreachable AlertKind = "unreachable"   // no connection, or no answer on it
	AlertErrors      AlertKind = "errors"        // it answered with 5xx, or broke transfers off
	AlertContent     AlertKind = "wrong_content" // pages in place of packages, wrong lengths, wrong hashes
)

// MirrorAlert is what one node has found out about a mirror, for the other nodes. It is
// advice: a node that receives it asks other mirrors first, and soon finds out for itself
// whether the alert is still true.
type MirrorAlert struct {
	// Mirror is the URL of the mirror's root, as Transfer.From names it.
	Mirror string
	Kind   AlertKind
	Reason string // one sentence for the operator
	// Until is when the mirror may be tried again, by the clock of the node that has the
	// alert: nodes send durations, not times. A zero Until says that it is over.
	Until time.Time
	// Node is the node that found it.
	Node string
}
