package suite

import (
	"log/slog"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Action is something for the driver to do.
type Action interface{ action() }

// AskMirror asks one mirror for the root, in whichever form it has. Answer: MirrorAnswered.
type AskMirror struct {
	Mirror string // "" for whichever there is
	// Condition makes the request conditional where not zero.
	Condition Validators
	// NoCache asks past caches on the way.
	NoCache bool
	Timeout time.Duration

	current *Root // when it was asked
	began   Mono
}

// AskLeader has the node that leads say what it serves, and with Fresh ask upstream first. Answer:
// LeaderAnswered.
type AskLeader struct{ Fresh bool }

// OpenOffer reads a root by digest from the nodes that announce it, and verifies it. Answer:
// Opened.
type OpenOffer struct {
	Gen  proto.Generation
	From []string
}

// Stage brings the root and what clients use of it into the store. Answer: Staged.
type Stage struct{ Candidate *Candidate }

// Commit makes a staged candidate the current generation, durably. Answer: Committed.
type Commit struct {
	Candidate *Candidate
	// Revision says that the current generation goes on, in other bytes.
	Revision bool
	// Record is what must become durable with it.
	Record Record
}

// Unpin lets go of what was staged for a candidate that came to nothing.
type Unpin struct{}

// Announce announces to the other nodes what this node serves.
type Announce struct{ FirstHand bool }

// Reply answers a Request.
type Reply struct {
	ID  uint64
	Err error
}

// Blame reports to upstream a mirror that gave a root which nobody signed.
type Blame struct {
	Mirror string
	Err    error
}

// Note is a line for the log.
type Note struct {
	Level slog.Level
	Text  string
	Attrs []any
}

// Count is an event for the metrics.
type Count struct {
	What   Metric
	Result string
	Mirror string
}

// Metric says what a Count counts.
type Metric uint8

// The metrics.
const (
	CountCheck Metric = iota // a check of upstream ended
	CountMirror
	CountAnnouncement
	CountFork
	CountIncomplete
	CountLeader
	CountRevision
)

func (*AskMirror) action() {}
func (*AskLeader) action() {}
func (*OpenOffer) action() {}
func (*Stage) action()     {}
func (*Commit) action()    {}
func (Unpin) action()      {}
func (Announce) action()   {}
func (Reply) action()      {}
func (Blame) action()      {}
func (Note) action()       {}
func (Count) action()      {}
