package peers

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// Between two attempts to follow a peer that can be reached but does not tell, or
// tells what makes no sense.
const (
	refollowFirst = 200 * time.Millisecond
	refollowMax   = 10 * time.Second
)

// follow keeps p.held up to date for as long as p is known. What p held when the
// stream broke is kept, so that it counts again as soon as p answers; while p is
// not healthy nobody looks at it. It may have lost something meanwhile: then it
// says so when asked.
func (m *Mesh) follow(p *peer) {
	pause := refollowFirst
	for p.ctx.Err() == nil {
		began := time.Now()
		err := m.followOnce(p)
		if p.ctx.Err() != nil {
			return
		}
		m.log.Debug("the stream of what another node holds ended", "node", p.name, "error", err)
		p.nudge() // the connection may have broken, and nothing tells of that sooner
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
