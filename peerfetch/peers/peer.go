package peers

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/proto"
)

// maxDownloads is how many transfers from one peer run at the same time. It is
// less than maxStreams: the peer may not have noticed yet that some have ended.
const maxDownloads = maxStreams * 3 / 4

// peer is one other node at one address. When a node comes back at another
// address it is a new peer: nothing that was measured of the old one holds.
type peer struct {
	name, addr string
	// data carries transfers, control everything else.
	data, control *grpc.ClientConn
	// ctx ends when the node has left the view or changed its address, and when
	// the mesh is closed. Running transfers do not end with it.
	ctx    context.Context
	cancel context.CancelFunc

	health  health           // see health.go
	stored  *holdings.Remote // see follow.go
	leaving atomic.Bool      // as the view has it
	pulse   pulse            // of data

	// places are taken by running transfers. A transfer without a place waits here. If it
	// waited for the peer instead, the peer would seem silent.
	places chan struct{}

	mu      sync.Mutex
	running int  // transfers on data; guarded by mu
	retired bool // close data when running falls to 0; guarded by mu
}

func (m *Mesh) newPeer(name, addr string) (*peer, error) {
	p := &peer{name: name, addr: addr, stored: holdings.NewRemote(), places: make(chan struct{}, maxDownloads)}
	p.pulse.began = time.Now()
	var err error
	if p.data, err = m.dial(name, addr, &p.pulse); err != nil {
		return nil, err
	}
	if p.control, err = m.dial(name, addr, nil); err != nil {
		p.data.Close()
		return nil, err
	}
	p.health.nudged = make(chan struct{}, 1)
	p.ctx, p.cancel = context.WithCancel(m.ctx)
	return p, nil
}

// begin waits for a place and counts a transfer in; it must be ended with end. The
// error is *proto.PeerFailed if the node is gone, or the cause of ctx.
func (p *peer) begin(ctx context.Context) error {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired {
		<-p.places
		return &proto.PeerFailed{Peer: p.name, Err: fmt.Errorf("it is no longer at %s", p.addr)}
	}
	p.running++
	return nil
}

// crowd is how many times crowdOf transfers run, a part of that counted whole.
func (p *peer) crowd() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(1, (p.running+crowdOf-1)/crowdOf)
}

// end counts a transfer out.
func (p *peer) end() {
	<-p.places
	p.mu.Lock()
	p.running--
	idle := p.retired && p.running == 0
	p.mu.Unlock()
	if idle {
		p.data.Close()
	}
}

// retire lets go of the node; running transfers go on.
func (p *peer) retire() {
	p.cancel()
	p.control.Close()
	p.mu.Lock()
	idle := !p.retired && p.running == 0
	p.retired = true
	p.mu.Unlock()
	if idle {
		p.data.Close()
	}
}

// abandon lets go of the node and ends its transfers.
func (p *peer) abandon() {
	p.retire()
	p.data.Close()
}
