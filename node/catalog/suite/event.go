package suite

import "github.com/aptmesh/aptmesh/proto"

// Event is something that has happened. Results of actions carry the action that they answer: an
// answer to an action that is no longer outstanding is ignored.
type Event interface{ apply(*Machine) }

// Tick says that the moment of Machine.Next has come.
type Tick struct{}

// Asked says that a client of this node wants the suite.
type Asked struct{}

// AskedByPeer says that another node's clients want the suite.
type AskedByPeer struct{}

// DemandGrew says that clients of this node use slots that were not reported to the leader yet.
type DemandGrew struct{}

// Request asks for a check. The machine answers with a Reply of the same ID.
type Request struct {
	ID uint64
	// Fresh is not content with what another node saw a moment ago.
	Fresh bool
	// Since wants a check that begins after the request.
	Since bool
	// Unconditional wants the root whole, even where a mirror would say that nothing has changed.
	Unconditional bool
	// Older lets an older root in, and one that calls itself otherwise: an operator's word.
	Older bool
	// Peer says that another node waits for the outcome.
	Peer bool
}

// Abandoned says that nobody waits for a Request any more.
type Abandoned struct{ ID uint64 }

// Received says what another node announces.
type Received struct {
	From string
	// Hearsay says that it did not come from that node itself, but in its name.
	Hearsay bool
	Ann     proto.Announcement
	// Checked is Ann.Checked on this node's monotonic clock; Never for never.
	Checked Mono
}

// MirrorAnswered is the outcome of AskMirror. Candidate nil without Err: the mirror says that
// nothing has changed since the Condition.
type MirrorAnswered struct {
	Ask       *AskMirror
	Candidate *Candidate
	Err       error
}

// LeaderAnswered is the outcome of AskLeader. Err is *proto.PeerFailed where no node could be
// asked, else what the leader says of upstream.
type LeaderAnswered struct {
	Ask     *AskLeader
	From    string
	Ann     proto.Announcement
	Checked Mono
	Err     error
}

// Opened is the outcome of OpenOffer. Err is a *Fault where the announcers are to blame.
type Opened struct {
	Open      *OpenOffer
	Candidate *Candidate
	Err       error
}

// Staged is the outcome of Stage. Err is a failure of this node.
type Staged struct {
	Stage   *Stage
	Missing []Missing
	Err     error
}

// Missing is a file of a candidate that clients use and that cannot be fetched.
type Missing struct {
	Slot string
	// Required says that the generation must wait for it: clients need it, and it could be fetched
	// with an earlier generation.
	Required bool
	Err      error
}

// Committed is the outcome of Commit.
type Committed struct {
	Commit *Commit
	Err    error
}

// Configured replaces the configuration.
type Configured struct{ Config Config }
