package proto

import (
	"fmt"
	"strings"
	"time"
)

// PeerRequest is what one node asks of another: the bytes of one object. The node asked
// answers from what it has or, if it may, from upstream; it never asks a third
// node (promise P4).
type PeerRequest struct {
	Object ObjectRequest
	Offset int64 // the body from this byte on
	// Fill lets the node asked go upstream. Without it, it answers from its store
	// or from a fetch from upstream that it has under way.
	Fill bool
	// Have is the version that the requester stores of an object that nothing signed
	// names; the answer may be that it is still the one (Transfer.NotModified).
	Have Digest
}

// Announcement is what one node says to the others about a suite. It is a hint: a node that
// receives a newer generation opens its root by digest and verifies it.
type Announcement struct {
	// Generation is what the sender serves; its Root is zero where it holds none (then Suite alone
	// counts).
	Generation Generation
	// Checked is when upstream was last known to have nothing newer; zero for never. It is by the
	// clock of the node that has the Announcement: nodes send ages, not times.
	Checked time.Time
	// Slots are the members of the suite, and the companions of its root, that clients asked for
	// lately, on any node that the sender knows of. See Member.Slot.
	Slots []string
	// FirstHand says that the sender got it from upstream, and announces it to all nodes itself.
	FirstHand bool
}

// NotStored is a peer's answer to a PeerRequest without Fill, or to any PeerRequest at a moment
// when it has the object from another peer itself.
type NotStored struct {
	Peer string
	// Try names nodes that the peer believes to hold it; with Busy the one node
	// it is fetching it from, or none where it waits for upstream.
	Try  []string
	Busy bool
}

func (n *NotStored) Error() string {
	switch {
	case n.Busy && len(n.Try) == 0:
		return fmt.Sprintf("node %s has nothing of it yet", n.Peer)
	case n.Busy:
		return fmt.Sprintf("node %s is fetching it from %s", n.Peer, strings.Join(n.Try, ", "))
	case len(n.Try) > 0:
		return fmt.Sprintf("node %s does not hold it; %s may", n.Peer, strings.Join(n.Try, ", "))
	}
	return fmt.Sprintf("node %s does not hold it", n.Peer)
}

// PeerFailed means that a peer could not be asked, or that its answer broke off: it says
// nothing about the object. A failure of upstream that a peer reports is not a PeerFailed,
// but the error of upstream.
type PeerFailed struct {
	Peer string
	Err  error
}

func (p *PeerFailed) Error() string { return fmt.Sprintf("node %s: %v", p.Peer, p.Err) }
func (p *PeerFailed) Unwrap() error { return p.Err }
