package peerfetch

import (
	"context"
	"errors"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// verdict says what one attempt at one source came to. It is all that the route, the targets and
// the budget go by.
type verdict uint8

const (
	onward       verdict = iota // the flight goes on with its next step
	complete                    // all bytes are here, and proven
	known                       // the store holds it: it came by another way, or it has not changed
	lacking                     // a node does not have it to give (proto.NotStored)
	failed                      // the node or the connection to it failed, which says nothing of the object
	unreachable                 // upstream could not be asked: another node may have more luck
	unavailable                 // a temporary failure of upstream, or of a transfer from it
	absent                      // upstream does not have the file
	refused                     // upstream's final answer other than that
	corrupt                     // what it gave cannot be right
	otherContent                // it gives another right content than the one that has begun to arrive
	discarded                   // all that had arrived is thrown away, and the sources are asked anew
	slow                        // left because it, or upstream behind it, brings nothing, and another way may be quicker
	untried                     // not asked: the budget forbids it
	hopeless                    // no source can help: the store failed, or readers got bytes that cannot be right
)

func (v verdict) String() string {
	return [...]string{"onward", "complete", "known", "lacking", "failed", "unreachable", "unavailable", "absent", "refused",
		"corrupt", "other content", "discarded", "slow", "untried", "hopeless"}[v]
}

// judged is an error that carries its verdict. Errors of sources carry none: verdictOf derives it.
type judged struct {
	verdict  verdict
	err      error
	culprits []string // with corrupt: the mirrors that may have caused it
}

func (j *judged) Error() string { return j.err.Error() }
func (j *judged) Unwrap() error { return j.err }

// verdictOf is what err means. Of several errors in a chain the outermost that says something
// counts.
func verdictOf(err error) verdict {
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch e := e.(type) {
		case *judged:
			return e.verdict
		case *proto.NotStored:
			return lacking
		case *proto.PeerFailed:
			if errors.Is(e, proto.ErrSlowUpstream) {
				return slow
			}
			return failed
		case *proto.Refused:
			return refused
		case *proto.Rejected:
			if e.Kind == proto.RejectLoop {
				return unreachable // another node's way may lead out where ours leads in a circle
			}
			return corrupt
		case *proto.Unavailable:
			// A loop stays one below the time to wait.
			switch {
			case e.Wrong:
				return corrupt
			case !e.Answered || isLoop(e):
				return unreachable
			}
			return unavailable
		}
		switch e {
		case proto.ErrNotFound:
			return absent
		case proto.ErrCorrupt:
			return corrupt
		}
	}
	if err == nil {
		return complete
	}
	return failed
}

func isLoop(err error) bool {
	var rejected *proto.Rejected
	return errors.As(err, &rejected) && rejected.Kind == proto.RejectLoop
}

// final reports whether a flight ends with v, whatever other sources there are.
func (v verdict) final() bool { return v == complete || v == known || v == hopeless }

// ofUpstream reports whether v is something that upstream said or did, even if a node reports it.
func (v verdict) ofUpstream() bool {
	return v == unreachable || v == unavailable || v == absent || v == refused || v == corrupt
}

// outcome is how one attempt ended.
type outcome struct {
	verdict  verdict
	err      error      // nil where complete
	by       byteSource // the source that was asked, or that answered
	culprits []string   // with corrupt: the mirrors that may have caused it
}

func outcomeOf(err error) outcome {
	o := outcome{verdict: verdictOf(err), err: err}
	var f *judged
	if errors.As(err, &f) {
		o.culprits = f.culprits
	}
	return o
}

// errSlow is why an attempt is cut off that another target may do better.
var errSlow = errors.New("another place of the same object may be quicker")

// endOf is outcomeOf for an attempt whose context may have ended.
func endOf(ctx context.Context, err error) outcome {
	if err != nil && context.Cause(ctx) == errSlow && !verdictOf(err).final() {
		return outcome{verdict: slow, err: errSlow}
	}
	return outcomeOf(err)
}

// retryAfter is how long err asks to wait; zero where it does not say.
func retryAfter(err error) time.Duration {
	var busy *proto.Unavailable
	if errors.As(err, &busy) {
		return busy.RetryAfter
	}
	return 0
}

// isWrong reports whether err says that bytes were given which are not right.
func isWrong(err error) bool {
	var busy *proto.Unavailable
	return errors.Is(err, proto.ErrCorrupt) || errors.As(err, &busy) && busy.Wrong
}

// worst picks the error for a client from those of several sources: the last one. "Not found" is
// final for a client, so it is picked only if all sources say it.
func worst(said []error) error {
	var all error
	for _, err := range said {
		if err != nil && (all == nil || !errors.Is(err, proto.ErrNotFound)) {
			all = err
		}
	}
	return all
}
