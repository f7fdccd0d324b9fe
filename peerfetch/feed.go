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

// setFeed changes over to another source; peer is who feeds the flight or is being
// asked, if anybody.
func (fl *flight) setFeed(to feed, peer string) {
	fl.mu.Lock()
	fl.feed, fl.peer, fl.mirror = to, peer, ""
	fl.wakeLocked() // admit may wait for the decision
	fl.mu.Unlock()
}

// turnToPeers changes over to asking peers; false if other nodes follow the flight.
func (fl *flight) turnToPeers() bool {
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

// admit lets another node follow the flight, for work of that class, from byte offset on. It returns a
// *proto.NotHeld if another node feeds it, a channel that is closed when more is
// known if it is not decided who does, and nothing at all if the flight is over.
func (fl *flight) admit(ctx context.Context, self string, class proto.Class, offset int64) (*reader, <-chan struct{}, error) {
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
		busy := &proto.NotHeld{Peer: self, Busy: true}
		if fl.peer != "" {
			busy.Try = []string{fl.peer}
		}
		return nil, nil, busy
	}
	r, ok := fl.addReaderLocked(ctx, offset)
	if !ok {
		return nil, nil, nil
	}
	r.peer, fl.lent = true, true
	fl.hurryLocked(class)
	return r, nil, nil
}

func (fl *flight) isLent() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.lent
}

// wantedBy notes what one more reader wants.
func (fl *flight) wantedBy(want proto.Want) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if !want.PeersOnly {
		fl.peersOnly = false
	}
	fl.hurryLocked(want.Class)
}

// hurryLocked makes what is fetched ahead of clients urgent when one waits for it. mu
// is held.
func (fl *flight) hurryLocked(class proto.Class) {
	if class < proto.ClassPrefetch && fl.urgent != nil && !fl.hurried {
		fl.hurried = true
		close(fl.urgent)
	}
}

func (fl *flight) isPeersOnly() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.peersOnly
}

// sourceLocked names where the bytes come from. mu is held.
func (fl *flight) sourceLocked() string {
	if fl.feed == feedUpstream {
		return "upstream"
	}
	return fl.peer
}

// announce tells that this node begins to have the object from upstream, so that
// others look for it here.
func (fl *flight) announce() {
	if fl.f.cfg.Started == nil || fl.want.Ref.IsZero() || fl.announced {
		return
	}
	fl.announced = true
	fl.f.cfg.Started(fl.want.Ref.Digest, true)
}

// retract takes an announcement back, unless the store holds the object.
func (fl *flight) retract() {
	if !fl.announced {
		return
	}
	fl.announced = false
	if blob, err := fl.f.cfg.Store.Get(fl.want.Ref.Digest); err == nil {
		blob.Close()
		return
	}
	fl.f.cfg.Started(fl.want.Ref.Digest, false)
}

// over reports whether it is too late to join the flight at byte offset.
func (fl *flight) over(offset int64) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.ended || fl.body.gone(offset)
}
