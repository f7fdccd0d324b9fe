package peers

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// The pauses between attempts to follow a peer that can be reached but does not answer
// Follow, or answers what makes no sense.
const (
	refollowFirst = 200 * time.Millisecond
	refollowMax   = 10 * time.Second
)

// follow keeps p.held up to date as long as p is known. When the stream breaks, the set
// stays, so that it counts again as soon as p answers. It is not used while p is not
// healthy. If p has lost an object in the meantime, it says so when asked for it.
func (m *Mesh) follow(p *peer) {
	pause := refollowFirst
	for p.ctx.Err() == nil {
		began := time.Now()
		err := m.followOnce(p)
		if p.ctx.Err() != nil {
			return
		}
		m.log.Debug("the stream of what another node holds ended", "node", p.name, "error", err)
		p.nudge() // the connection may have broken, and a ping finds out soonest
		if time.Since(began) > refollowMax {
			pause = refollowFirst
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-p.ctx.Done():
		}
		pause = min(2*pause, refollowMax)
	}
}

// followOnce follows p until the stream ends. It waits while p cannot be reached:
// pings see to the connection.
func (m *Mesh) followOnce(p *peer) error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	stream, err := peerpb.NewControlClient(p.control).Follow(ctx, &peerpb.FollowRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return errorOf(p.name, err)
	}
	for {
		update, err := stream.Recv()
		if err != nil {
			return errorOf(p.name, err)
		}
		if err := p.stored.Apply(holdingsIn(update)); err != nil {
			m.limitedLog.warn(m.log, "holdings "+p.name, "what another node says it holds makes no sense", "node", p.name, "error", err)
			return err
		}
	}
}
