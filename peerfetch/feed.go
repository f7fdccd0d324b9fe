package peerfetch

import (
	"context"

	"github.com/aptmesh/aptmesh/proto"
)

// feed says where a flight has its bytes from at this moment. Other nodes may
// follow only a flight that no other node feeds, and one that they have followed
// is never fed by a node again. So bytes take one hop (P4), and nodes cannot wait
// for each other in a circle: a node waits only for what waits for upstream.
type feed uint8

const (
	feedUndecided feed = iota // soon to be decided, with nothing on the network to wait for
	feedAsking                // other nodes are being asked, or will be after a pause
	feedPeer
	feedUpstream
)

// feeding is where the bytes of a flight come from now.
type feeding struct {
	feed   feed
	peer   string // the node that feeds it, or is being asked
	mirror string // that feeds it, with feedUpstream
	alone  bool   // no other node is ever asked
	lent   bool   // other nodes follow, or did: no peer may feed it any more
}

// wishes are what the readers of a flight want together.
type wishes struct {
	class     proto.Class   // of the most urgent one
	urgent    chan struct{} // closed when class becomes that of a package or more urgent; nil where it was from the start
	peersOnly bool          // nobody wants it from upstream
	raised    chan struct{} // closed and replaced when they come to want more: a target, or more urgently
}

// setFeed notes the source of the flight; peer is the node that feeds it or is being
// asked, "" for none.
func (fl *flight) setFeed(to feed, peer string) {
	fl.mu.Lock()
	fl.feed, fl.peer, fl.mirror = to, peer, ""
	fl.wakeLocked() // admit may wait for the decision
	fl.mu.Unlock()
}

// switchToPeers changes over to asking peers; false if other nodes follow the flight.
func (fl *flight) switchToPeers() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.lent {
		return false
	}
	if fl.feed == feedUpstream {
		fl.feed, fl.peer, fl.mirror = feedAsking, "", ""
		fl.wakeLocked()
	}
	return true
}

// admit lets another node follow the flight from byte offset on. It returns a
// *proto.NotStored if another node feeds the flight. If the source is not decided yet,
// it returns a channel that is closed when more is known. It returns nothing if the
// flight is over.
func (fl *flight) admit(ctx context.Context, self string, object *proto.ObjectRequest, offset int64) (*reader, <-chan struct{}, error) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended {
		return nil, nil, nil
	}
	if size := fl.size; size != proto.UnknownSize && offset > size {
		return nil, nil, errBeyondEnd
	}
	switch fl.feed {
	case feedUndecided:
		return nil, fl.changed, nil
	case feedAsking, feedPeer:
		busy := &proto.NotStored{Peer: self, Busy: true}
		if fl.peer != "" {
			busy.Try = []string{fl.peer}
		}
		return nil, nil, busy
	}
	r, ok := fl.addReaderLocked(ctx, object, offset)
	if !ok {
		return nil, nil, nil
	}
	r.peer, fl.lent = true, true
	return r, nil, nil
}

// wantedByLocked adds what one more reader wants, except its names. The caller holds mu.
func (fl *flight) wantedByLocked(object *proto.ObjectRequest) {
	if !object.PeersOnly {
		fl.peersOnly = false
	}
	before := fl.class
	fl.class = min(before, object.Class)
	if before > proto.ClassPackage && fl.class <= proto.ClassPackage {
		// One waits for what is fetched ahead of clients, or has what nothing listed listed.
		close(fl.urgent)
		fl.raiseLocked()
	}
}

// raiseLocked signals that readers want more than before. The caller holds mu.
func (fl *flight) raiseLocked() {
	close(fl.raised)
	fl.raised = make(chan struct{})
}

// raises returns a channel that is closed when readers want more than now; nil if they never can.
func (fl *flight) raises() <-chan struct{} {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if !fl.object.Provable() && fl.class <= proto.ClassPackage {
		return nil
	}
	return fl.raised
}

func (fl *flight) isPeersOnly() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.peersOnly
}

// sourceLocked names the source of the bytes. The caller holds mu.
func (fl *flight) sourceLocked() string {
	if fl.feed == feedUpstream {
		return "upstream"
	}
	return fl.peer
}

// announce reports that this node begins to fetch the object from upstream, so that
// other nodes ask it.
func (fl *flight) announce() {
	if fl.f.cfg.Started == nil || fl.object.Ref.IsZero() || len(fl.object.Others) > 0 || fl.announced {
		return
	}
	fl.announced = true
	fl.f.cfg.Started(fl.object.Ref.Digest, true)
}

// retract takes an announcement back, unless the store holds the object.
func (fl *flight) retract() {
	if !fl.announced {
		return
	}
	fl.announced = false
	if blob, err := fl.f.cfg.Store.Get(fl.object.Ref.Digest); err == nil {
		blob.Close()
		return
	}
	fl.f.cfg.Started(fl.object.Ref.Digest, false)
}

// over reports whether it is too late to join the flight at byte offset.
func (fl *flight) over(offset int64) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.ended || fl.body.gone(offset)
}
