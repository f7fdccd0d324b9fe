package proto

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrNotFound is an authoritative "not found": upstream answered 404 or 410. It is never made
// from any other failure, because apt takes it as final.
var ErrNotFound = errors.New("not found upstream")

// ErrOtherForm is an ErrNotFound for a file of a root whose suite upstream has: the archive signs it in
// another way, or not at all.
var ErrOtherForm = fmt.Errorf("%w, which has the suite without this file", ErrNotFound)

// ErrCorrupt means that bytes arrived that are not those in the signed metadata: wrong
// length, wrong hash, or an HTML page in place of a package.
var ErrCorrupt = errors.New("upstream's content is not what the signed metadata lists")

// ErrNoSpace means that the store cannot keep an object now. Clients still get
// their bytes; nothing is committed.
var ErrNoSpace = errors.New("no space in the store")

// ErrSlowUpstream is why a node is left that says that it waits for upstream: nothing
// is wrong with it, but another source may be quicker. It comes inside a PeerFailed.
var ErrSlowUpstream = errors.New("upstream gives it next to nothing")

// Unavailable is a temporary failure: timeouts, broken connections, and the statuses after
// which apt repeats a request (408, 429, 500, 502, 503, 504, 599).
type Unavailable struct {
	Reason string // one sentence for the operator and for apt's output
	// RetryAfter is how long upstream asked us to wait; zero where it did not say.
	RetryAfter time.Duration
	// Answered says that upstream did answer (a 429, a 503): another node would get the
	// same answer now.
	Answered bool
	// Wrong says that the bytes that were sent of the object before are not right. A repeated
	// request may get right ones.
	Wrong bool
	// Cause is a word for a cause that lies in this node; "" where it lies upstream, as it mostly does.
	Cause UnavailableCause
	Err   error // what brought it about; may be nil
}

// UnavailableCause says what of a node keeps it from answering. The text is a word for logs and hosts.
type UnavailableCause string

// The causes of an Unavailable that lie in a node.
const (
	// CauseUnread is a file of which the node cannot tell yet whether signed metadata lists it: it still
	// reads the indexes that would.
	CauseUnread UnavailableCause = "index-unread"
	// CauseClassFull is an archive for which its class has no room.
	CauseClassFull UnavailableCause = "class-full"
)

func (u *Unavailable) Error() string {
	if u.Err != nil {
		return u.Reason + ": " + u.Err.Error()
	}
	return u.Reason
}

func (u *Unavailable) Unwrap() error { return u.Err }

// Refused is an upstream's final answer other than success and "not found":
// 401, 403, 451, 505, 511, a redirect that may not be followed. apt does not repeat such a
// request, and to repeat it would not change the answer.
type Refused struct {
	Status int
	Reason string
}

func (r *Refused) Error() string { return fmt.Sprintf("%s (HTTP %d)", r.Reason, r.Status) }

// RejectKind says why bytes that upstream gave are refused. The text of a kind is a
// word for logs, metrics and the wire: it never changes once released.
type RejectKind string

// The kinds of a Rejected.
const (
	// RejectUntrusted is a root without a signature where the archive must have one, or
	// with a signature that is bad, expired, weak, or made by a key that the archive's
	// signed_by does not name.
	RejectUntrusted RejectKind = "untrusted"
	// RejectMalformed is a root in a form that the client refuses as well: text around
	// the signed message, a login page, more bytes than any root has.
	RejectMalformed RejectKind = "malformed"
	// RejectFuture is a root dated further ahead of this node's clock than a client
	// accepts (apt: Acquire::Max-FutureTime).
	RejectFuture RejectKind = "future"
	// RejectForeign is a root with a good signature that belongs to another suite or to
	// another archive than the location it stands at.
	RejectForeign RejectKind = "foreign"
	// RejectCorrupt is an object whose bytes differ, at every mirror, from the bytes
	// that the signed metadata lists.
	RejectCorrupt RejectKind = "corrupt"
	// RejectLoop is a request that came back to the cluster that sent it.
	RejectLoop RejectKind = "loop"
	// RejectExpired is a root that this node stores and withholds: its Valid-Until is
	// over for longer than the configuration allows while no upstream answers.
	RejectExpired RejectKind = "expired"
)

// rejectKinds are all kinds. ParseRejectKind and the tests walk them.
var rejectKinds = []RejectKind{
	RejectUntrusted, RejectMalformed, RejectFuture, RejectForeign,
	RejectCorrupt, RejectLoop, RejectExpired,
}

// RejectKinds returns all kinds.
func RejectKinds() []RejectKind { return slices.Clone(rejectKinds) }

// ParseRejectKind reads the text of a kind; false for any other text.
func ParseRejectKind(s string) (RejectKind, bool) {
	kind := RejectKind(s)
	return kind, slices.Contains(rejectKinds, kind)
}

// Rejected is a verdict of our own that a repetition within seconds does not change. A
// client gets it as a final answer: apt before 3.0.3 may wait for ever after a "try again"
// (LP #2003851), and later versions turn repeated failures into a warning. A temporary
// failure is an Unavailable instead.
//
// An Unavailable may wrap it, or be wrapped by it. That says how long other nodes should
// wait before they ask again; for clients it stays a verdict.
//
// All kinds except RejectLoop and RejectExpired are about bytes; errors of these kinds are
// also an ErrCorrupt.
type Rejected struct {
	Kind RejectKind
	// Reason is one sentence for the operator and for the client's screen: what is wrong
	// with what, and what to do. It begins with the fault, because a client may cut it.
	Reason string
	Err    error // the cause; may be nil. Reason says all that a reader needs of it.
}

func (r *Rejected) Error() string { return r.Reason }

// Unwrap implements errors.Unwrap.
func (r *Rejected) Unwrap() error { return r.Err }

// Is makes a verdict about bytes an ErrCorrupt.
func (r *Rejected) Is(target error) bool {
	return target == ErrCorrupt && r.Kind != RejectLoop && r.Kind != RejectExpired
}
