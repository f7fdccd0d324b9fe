package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

var errNobodyElse = errors.New("no other node can be asked")

func isPeerFailed(err error) bool {
	var failed *proto.PeerFailed
	return errors.As(err, &failed)
}

// tellTimeout bounds one announcement to all nodes: a node that does not answer receives
// it by gossip, or in the next full exchange.
const tellTimeout = 5 * time.Second

// announce sends the latest announcement of a suite to the other nodes. It does not
// block. An announcement of the same generation that takes its place keeps FirstHand.
func (c *Cluster) announce(n proto.Announcement) {
	c.outgoing.put(n.Generation.Suite, n, func(before, n proto.Announcement) proto.Announcement {
		if before.FirstHand && before.Generation.Compare(n.Generation) == proto.Same {
			n.FirstHand = true
		}
		return n
	})
}

// spreadAnnouncements returns the function that sends one round of announcements.
func (c *Cluster) spreadAnnouncements() func([]proto.Announcement) {
	told := make(map[proto.Suite]proto.Generation) // the generations that gossip knows of
	return func(news []proto.Announcement) {
		var direct []proto.Announcement
		for _, n := range news {
			if n.FirstHand {
				direct = append(direct, n)
			}
			if id := n.Generation.Suite; told[id].Compare(n.Generation) != proto.Same && !n.Generation.Root.IsZero() {
				told[id] = n.Generation
				c.gossip(n)
			}
		}
		if len(direct) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
		defer cancel()
		if err := c.mesh.Announce(ctx, direct...); err != nil {
			c.log.Debug("an announcement of a suite did not reach every node directly; gossip carries it to the others", "error", err)
		}
	}
}

// gossip spreads the hint that there is a new generation, without what clients use
// of it: it must fit into a packet.
func (c *Cluster) gossip(n proto.Announcement) {
	n.Slots, n.Generation.Companions = nil, n.Generation.Proving()
	message := func() []byte {
		return peers.MarshalState(peers.State{From: c.name, Announcements: []proto.Announcement{n}})
	}
	packet := message()
	if len(packet) > ring.MaxMessage {
		n.Generation.Base = "" // the direct announcement has it
		packet = message()
	}
	if err := c.members().Broadcast(packet); err != nil {
		c.log.Warn("a suite's news could not be gossiped", "suite", n.Generation.Suite.String(), "error", err)
	}
}

func (c *Cluster) receiveGossip(msg []byte) { c.receiveState(msg, "gossip") }

// localState is what a full exchange of state carries: the announcements of all suites.
func (c *Cluster) localState() []byte {
	state, whole := peers.FitState(peers.State{From: c.name, Announcements: c.rooms.Catalog.Announcements()}, ring.MaxState)
	if was := c.curtailed.Swap(!whole); !was && !whole {
		c.log.Info("there is more to tell of suites than an exchange of state carries; each tells a part", "limit", ring.MaxState)
	}
	return state
}

func (c *Cluster) mergeState(msg []byte) { c.receiveState(msg, "state exchange") }

func (c *Cluster) receiveState(msg []byte, way string) {
	heard, err := peers.UnmarshalState(msg)
	if err != nil {
		c.log.Warn("a message about suites and mirrors could not be read and is ignored", "by", way, "error", err)
		return
	}
	if len(heard.Announcements) > 0 && !c.early.keep(heard.From, heard.Announcements) {
		c.rooms.Catalog.ReceiveHearsay(heard.From, heard.Announcements...)
	}
}

// earlyAnnouncements are those that arrive before this node can ask their announcers: the first
// full exchange is part of joining the gossip.
type earlyAnnouncements struct {
	mu     sync.Mutex
	ended  bool                            // it is over; guarded by mu
	byNode map[string][]proto.Announcement // the last message of each; guarded by mu
}

// keep takes a message in; false when that time is over.
func (e *earlyAnnouncements) keep(from string, news []proto.Announcement) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return false
	}
	if e.byNode == nil {
		e.byNode = make(map[string][]proto.Announcement)
	}
	e.byNode[from] = news
	return true
}

func (e *earlyAnnouncements) end() map[string][]proto.Announcement {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	all := e.byNode
	e.byNode = nil
	return all
}

const (
	// A joining node waits meetWait for the others to answer, and catchUpWait to adopt
	// what they announce. Then it serves in any case.
	meetWait    = 3 * time.Second
	catchUpWait = 10 * time.Second
	askEvery    = 10 * time.Millisecond
)

// catchUp adopts what the other nodes announce before the first host is served: a node that
// is behind would have to ask upstream for what they store.
func (c *Cluster) catchUp(ctx context.Context) {
	c.until(ctx, meetWait, func() bool {
		peers := c.mesh.Peers()
		if len(peers) < len(c.members().View().Nodes)-1 {
			return false // the mesh does not know all of them yet
		}
		for _, p := range peers {
			if !p.Healthy {
				return false
			}
		}
		return true
	})
	close(c.met)
	for from, news := range c.early.end() {
		c.rooms.Catalog.ReceiveHearsay(from, news...)
	}
	c.until(ctx, catchUpWait, func() bool { return !c.rooms.Catalog.Following() })
}

// until waits for ok, for a bounded time.
func (c *Cluster) until(ctx context.Context, wait time.Duration, ok func() bool) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return
		}
	}
}
