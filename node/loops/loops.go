// Package loops recognises requests of this node that come back to it, and reports them to the request
// that caused them. It moves no bytes.
package loops

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/aptmesh/aptmesh/peerfetch"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
)

// Loops recognises requests of this node that come back to it: a proxy setting that names this
// node, a name in DNS that means it, a redirect to it, another cache that has this one as its
// upstream. Each request to upstream carries a Via field (RFC 9110, section 7.6.3) with a
// Pseudonym that only this process has. A request that arrives with it is refused at once.
//
// One fetch serves many requests, and a check of a suite is nobody's own. So a request to upstream
// names all proxies that wait for its location at this moment: two nodes that are each other's
// upstream see their own name in the second request already. What is not seen is that both sent
// their first one in the same instant; then the time limit of the header ends the first request,
// and the next one shows the loop.
type Loops struct {
	Pseudonym string

	mu      sync.Mutex
	waiting map[proto.Location]map[string]int // guarded by mu; by proxy: how many requests wait
}

func New() *Loops {
	var random [8]byte
	rand.Read(random[:]) // it never fails
	return &Loops{Pseudonym: "aptmesh-" + hex.EncodeToString(random[:]), waiting: make(map[proto.Location]map[string]int)}
}

// Wait notes that proxies wait for a location until done is called.
func (l *Loops) Wait(loc proto.Location, via []string) (done func()) {
	l.count(loc, via, 1)
	return func() { l.count(loc, via, -1) }
}

func (l *Loops) count(loc proto.Location, via []string, by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	proxies := l.waiting[loc]
	if proxies == nil {
		proxies = make(map[string]int)
		l.waiting[loc] = proxies
	}
	for _, name := range via {
		if proxies[name] += by; proxies[name] == 0 {
			delete(proxies, name)
		}
	}
	if len(proxies) == 0 {
		delete(l.waiting, loc)
	}
}

// Via returns the proxies that wait for a location, at most proto.MaxVia, sorted.
func (l *Loops) Via(loc proto.Location) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var via []string
	for name := range l.waiting[loc] {
		via = append(via, name)
	}
	slices.Sort(via)
	return via[:min(len(via), proto.MaxVia)]
}

// Objects is the fetcher for other nodes: it answers none that this node itself waits
// for.
type Objects struct {
	*peerfetch.Fetcher
	Loops *Loops
}

// ServePeer implements peers.Handler.
func (f Objects) ServePeer(ctx context.Context, from string, ask proto.PeerRequest) (*proto.Blob, error) {
	via := proto.Via(ctx)
	if len(via) == 0 {
		return f.Fetcher.ServePeer(ctx, from, ask)
	}
	if slices.Contains(via, f.Loops.Pseudonym) {
		return nil, &proto.Rejected{Kind: proto.RejectLoop, Reason: fmt.Sprintf(
			"a request of this node for %s came back to it as a loop, through %d other proxies and a node of its cluster", ask.Object.Where.First, len(via)-1)}
	}
	// It waits until the blob is there to be read. By then upstream has answered.
	defer f.Loops.Wait(ask.Object.Where.First, via)()
	return f.Fetcher.ServePeer(ctx, from, ask)
}

// Cluster is the other nodes as sources. It sends them the proxies of the requests that wait.
type Cluster struct {
	*peers.Mesh
	Loops *Loops
}

var _ peerfetch.Cluster = Cluster{}

// Fetch implements peerfetch.Cluster.
func (c Cluster) Fetch(ctx context.Context, peer string, ask proto.PeerRequest) (*proto.Transfer, error) {
	return c.Mesh.Fetch(proto.WithVia(ctx, c.Loops.Via(ask.Object.Where.First)), peer, ask)
}
