package proto

import "time"

// TroubleKind says why a mirror is left alone.
type TroubleKind string

// The kinds of trouble with a mirror.
const (
	TroubleWait        TroubleKind = "asked_to_wait" // it answered 429 or 503 and said for how long
	TroubleUnreachable TroubleKind = "unreachable"   // no connection, or no answer on it
	TroubleErrors      TroubleKind = "errors"        // it answered with 5xx, or broke transfers off
	TroubleContent     TroubleKind = "wrong_content" // pages in place of packages, wrong lengths, wrong hashes
)

// Trouble is what one node has found out about a mirror and tells the others. It is
// advice: a node that hears of it asks other mirrors first, and finds out for itself
// before long whether it still holds.
type Trouble struct {
	// Mirror is the URL of the mirror's root, as Transfer.From names it.
	Mirror string
	Kind   TroubleKind
	Reason string // one sentence for the operator
	// Until is when the mirror may be tried again, by the clock of whoever holds the
	// Trouble: durations travel, not times. A zero Until says that it is over.
	Until time.Time
	// Node is who found out.
	Node string
}
