package suite

import (
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Refusal is why a root is not taken although its signature is good.
type Refusal struct {
	Kind string // for metrics: older, incomplete, torn, future, other_suite, renamed
	Err  error
}

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Is says that upstream's content is at fault: asking it from another node would bring the same.
func (r *Refusal) Is(target error) bool { return target == proto.ErrCorrupt }

// The kinds of Refusal.
const (
	KindOlder      = "older"
	KindIncomplete = "incomplete"
	KindTorn       = "torn"
	KindFuture     = "future"
	KindOtherSuite = "other_suite"
	KindRenamed    = "renamed"
)

func refuse(kind, format string, args ...any) error {
	return &Refusal{kind, fmt.Errorf(format, args...)}
}

// reject is a refusal that time alone does not change: hosts get it as a verdict.
func reject(kind string, verdict proto.RejectKind, format string, args ...any) error {
	return &Refusal{kind, &proto.Rejected{Kind: verdict, Reason: fmt.Sprintf(format, args...)}}
}

func isKind(err error, kind string) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Kind == kind
}

// incomplete reports whether a root waits because what it lists cannot be fetched.
func incomplete(err error) bool { return isKind(err, KindIncomplete) }

// Fault is why an announcement is not believed; its senders are to blame.
type Fault struct {
	Kind string // for metrics: refused, unreachable
	Err  error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// WrongContent is that a mirror gave bytes as a root that nobody can have signed.
type WrongContent struct{ error }

func (l *WrongContent) Unwrap() error { return l.error }

// NewWrongContent wraps err.
func NewWrongContent(err error) error { return &WrongContent{err} }

// localFailure is a failure of this node, not of a mirror.
type localFailure struct{ error }

func (o *localFailure) Unwrap() error { return o.error }

// ErrAsking is the answer to a node that asks this one while it waits for another: two nodes that
// take each other for the leader must not wait for each other.
var ErrAsking = errors.New("this node is asking another one itself")

// errNoBetter is that a mirror has nothing newer than a root that cannot be staged.
var errNoBetter = errors.New("it has nothing newer")

// olderThan is the refusal of a root that is older than the current root.
func (m *Machine) olderThan(source string, offered, current time.Time) error {
	lasting := ""
	if m.cfg.AcceptOlder > 0 {
		lasting = fmt.Sprintf("; it is adopted once all mirrors have shown older ones for %s, or", m.cfg.AcceptOlder)
	}
	return refuse(KindOlder, "%s offers the root of %s, older than ours of %s (a mirror that lags? if it was taken back on purpose%s: aptmesh refresh --allow-older %s)",
		source, stamp(offered), stamp(current), lasting, m.cfg.ID)
}

// Reason is the word for an outcome in metrics.
func Reason(err error) string {
	var r *Refusal
	var rejected *proto.Rejected
	var busy *proto.Unavailable
	switch {
	case err == nil:
		return "good"
	case errors.As(err, &r):
		return r.Kind
	case errors.As(err, &rejected):
		return string(rejected.Kind)
	case errors.Is(err, proto.ErrNotFound):
		return "not_found"
	case errors.Is(err, proto.ErrCorrupt):
		return "corrupt"
	case errors.As(err, &busy):
		return "unavailable"
	}
	return "other"
}

// Upstreams reports whether an error of the leader is upstream's own answer: asking from here would
// bring the same.
func Upstreams(err error) bool {
	var busy *proto.Unavailable
	var final *proto.Refused
	return errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrCorrupt) || errors.As(err, &final) ||
		errors.As(err, &busy) && busy.Answered
}
