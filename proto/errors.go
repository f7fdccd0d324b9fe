package proto

import (
	"errors"
	"fmt"
	"time"
)

// ErrNotFound is an authoritative "there is no such object": upstream answered
// 404 or 410. It is never made from any other trouble, for apt takes it as final.
var ErrNotFound = errors.New("not found upstream")

// ErrCorrupt means that bytes were had, but not the ones that signed metadata
// names: wrong length, wrong hash, or an HTML page in place of a package.
var ErrCorrupt = errors.New("upstream's content is not what the signed metadata lists")

// ErrNoSpace means that the store cannot keep an object now. Clients still get
// their bytes; nothing is committed.
var ErrNoSpace = errors.New("no space in the store")

// Unavailable is trouble that may pass: timeouts, broken connections, 429, 5xx.
type Unavailable struct {
	Reason string // one sentence for the operator and for apt's output
	// RetryAfter is how long upstream asked us to wait; zero where it did not say.
	RetryAfter time.Duration
	// Answered says that upstream did answer (a 429, a 5xx): whoever else asked it
	// now would hear the same.
	Answered bool
	Err      error // the cause; may be nil
}

func (u *Unavailable) Error() string {
	if u.Err != nil {
		return u.Reason + ": " + u.Err.Error()
	}
	return u.Reason
}

func (u *Unavailable) Unwrap() error { return u.Err }

// Refused is an upstream's final answer other than success and "not found":
// 401, 403, 451 and the like. Repeating the request would not change it.
type Refused struct {
	Status int
	Reason string
}

func (r *Refused) Error() string { return fmt.Sprintf("%s (HTTP %d)", r.Reason, r.Status) }
