package peers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	maxReason     = 1 << 10 // bytes of a reason that travel
	maxTry        = 16      // names in NotStored.Try
	maxRetryAfter = time.Hour
)

// statusOf makes the status that sends err to another node. The order of the cases is that
// of front's answers, so that every node answers alike if an error says several things: a
// temporary failure never becomes final. A verdict is sent beside it.
func statusOf(err error) error {
	var (
		failed  *proto.PeerFailed
		notHeld *proto.NotStored
		busy    *proto.Unavailable
		refused *proto.Refused
		verdict *proto.Rejected
	)
	f := &peerpb.Failure{Reason: cleanReason(err.Error())}
	code := codes.Unknown
	switch {
	case errors.As(err, &failed): // of a third node: none of the requester's business
	case errors.As(err, &notHeld):
		code, f.Kind = codes.NotFound, peerpb.Failure_NOT_STORED
		if notHeld.Busy {
			code, f.Kind = codes.Aborted, peerpb.Failure_BUSY
		}
		f.Try = notHeld.Try[:min(len(notHeld.Try), maxTry)]
	case errors.As(err, &busy):
		code, f.Kind = codes.Unavailable, peerpb.Failure_UNAVAILABLE
		f.RetryAfterMs = busy.RetryAfter.Milliseconds()
		f.Answered, f.Wrong = busy.Answered, busy.Wrong
	case errors.Is(err, proto.ErrNotFound):
		code, f.Kind = codes.NotFound, peerpb.Failure_NOT_FOUND
	case errors.Is(err, proto.ErrCorrupt), errors.As(err, &verdict):
		code, f.Kind = codes.DataLoss, peerpb.Failure_CORRUPT
	case errors.As(err, &refused):
		code, f.Kind = codes.FailedPrecondition, peerpb.Failure_REFUSED
		f.Status = int32(refused.Status)
		f.Reason = cleanReason(refused.Reason)
	case errors.Is(err, errDraining):
		code, f.Kind = codes.Unavailable, peerpb.Failure_DRAINING
	case errors.Is(err, errStuck):
		code, f.Kind = codes.Unavailable, peerpb.Failure_STUCK
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = codes.Canceled
	}
	if code != codes.Unknown && errors.As(err, &verdict) {
		f.Rejected, f.Reason = string(verdict.Kind), cleanReason(verdict.Reason)
	}
	st, detailErr := status.New(code, f.Reason).WithDetails(f)
	if detailErr != nil { // a name in Try is not UTF-8
		return status.Error(codes.Internal, "the answer cannot be written down")
	}
	return st.Err()
}

// errDraining is the answer of a node that is leaving.
var errDraining = errors.New("this node is leaving")

// errorOf turns the error of a call to peer into an error of package proto: the answer that
// the peer got from upstream, that the peer does not store the object, or else that the peer
// could not be asked.
func errorOf(peer string, err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return &proto.PeerFailed{Peer: peer, Err: inPlainWords{err}}
	}
	for _, detail := range st.Details() {
		if f, ok := detail.(*peerpb.Failure); ok {
			return failureOf(peer, f)
		}
	}
	if st.Code() == codes.InvalidArgument {
		return &proto.PeerFailed{Peer: peer, Err: &answered{errors.New(cleanReason(st.Message()))}}
	}
	return &proto.PeerFailed{Peer: peer, Err: errors.New(plain(cleanReason(st.Message())))}
}

// inPlainWords is an error that says itself in our words.
type inPlainWords struct{ error }

func (e inPlainWords) Error() string { return plain(e.error.Error()) }
func (e inPlainWords) Unwrap() error { return e.error }

// answered is a failure that the peer itself reported: the peer is alive, and its connection
// works. So no request of a client, and no difference between two configurations, makes a
// peer count as unhealthy.
type answered struct{ error }

func (a *answered) Unwrap() error { return a.error }

// failureOf reads the failure that a peer reported.
func failureOf(peer string, f *peerpb.Failure) error {
	reason := cleanReason(f.GetReason())
	if reason == "" {
		reason = "no reason given"
	}
	if kind, known := proto.ParseRejectKind(f.GetRejected()); known {
		// Without the peer's name: clients of all nodes get the same sentence.
		verdict := &proto.Rejected{Kind: kind, Reason: reason}
		if f.GetKind() == peerpb.Failure_UNAVAILABLE {
			verdict.Err = unavailableOf(peer, reason, f)
		}
		return verdict
	}
	switch f.GetKind() {
	case peerpb.Failure_NOT_FOUND:
		return &relayed{peer: peer, reason: reason, kind: proto.ErrNotFound}
	case peerpb.Failure_CORRUPT:
		return &relayed{peer: peer, reason: reason, kind: proto.ErrCorrupt}
	case peerpb.Failure_UNAVAILABLE:
		return unavailableOf(peer, reason, f)
	case peerpb.Failure_REFUSED:
		if s := int(f.GetStatus()); s > http.StatusOK && s <= 599 { // below 400: a redirect that may not be followed
			return &proto.Refused{Status: s, Reason: "node " + peer + ": " + reason}
		}
		return &proto.PeerFailed{Peer: peer, Err: fmt.Errorf("it tells of a refusal with status %d: %s", f.GetStatus(), reason)}
	case peerpb.Failure_NOT_STORED, peerpb.Failure_BUSY:
		return &proto.NotStored{Peer: peer, Try: namesIn(f.GetTry()), Busy: f.GetKind() == peerpb.Failure_BUSY}
	}
	if f.GetKind() == peerpb.Failure_STUCK {
		return &proto.PeerFailed{Peer: peer, Err: errStuck}
	}
	failed := &proto.PeerFailed{Peer: peer, Err: errors.New(reason)}
	if f.GetKind() != peerpb.Failure_DRAINING {
		failed.Err = &answered{failed.Err}
	}
	return failed
}

// unavailableOf reads a temporary failure.
func unavailableOf(peer, reason string, f *peerpb.Failure) *proto.Unavailable {
	return &proto.Unavailable{
		Reason:     "node " + peer + ": " + reason,
		RetryAfter: time.Duration(min(max(0, f.GetRetryAfterMs()), maxRetryAfter.Milliseconds())) * time.Millisecond,
		Answered:   f.GetAnswered(),
		Wrong:      f.GetWrong(),
	}
}

// relayed is one of proto's plain errors, in the words of the peer that met it.
type relayed struct {
	peer, reason string
	kind         error
}

func (r *relayed) Error() string { return "node " + r.peer + ": " + r.reason }
func (r *relayed) Unwrap() error { return r.kind }

// namesIn keeps what can be names of nodes.
func namesIn(names []string) []string {
	var stored []string
	for _, name := range names[:min(len(names), maxTry)] {
		if validNodeName(name) {
			stored = append(stored, name)
		}
	}
	return stored
}

// cleanReason makes a sentence of another node safe for a log line and for a client's
// screen.
func cleanReason(s string) string { return cut(s, maxReason) }

// cut is cleanReason for another bound, in bytes.
func cut(s string, max int) string {
	s = strings.ToValidUTF8(s[:min(len(s), max)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
