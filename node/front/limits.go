package front

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// clients are those that have an open connection, and those whose rate is still limited. The
// list follows http.Server.ConnState. It does not wrap connections, because net/http uses
// sendfile only for a *net.TCPConn.
type clients struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*client // by address, IPv6 by its /64; guarded by mu
	// refused are the connections over the bound while they get their answer, with
	// what ends those that never ask for it; guarded by mu.
	refused  map[net.Conn]*time.Timer
	patience time.Duration // refuseWithin, but in tests
	idle     int           // how many of byAddr have no connection; guarded by mu
	swept    time.Time     // guarded by mu
}

// client is one address.
type client struct {
	conns, refused int // open connections within the bound, and over it; guarded by clients.mu
	bucket         atomic.Pointer[rate.Limiter]
	waiting        atomic.Int64 // answers that wait for the bucket
}

const (
	// refuseWithin is how long a connection over the bound may take to ask for its
	// refusal.
	refuseWithin = 10 * time.Second
	// maxRefused bounds the refused connections of one address. Further ones are closed
	// without an answer.
	maxRefused = 256
	// maxIdle bounds the clients that are remembered for what they took only.
	maxIdle    = 16 << 10
	sweepEvery = 10 * time.Second
)

// clientKey is what a bound counts as one client.
func clientKey(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// clientName is how a message calls it.
func clientName(a netip.Addr) string {
	if a.Is6() {
		return netip.PrefixFrom(clientKey(a), 64).String()
	}
	return a.String()
}

// enter counts a connection, which leave ends. full says that its client has most
// connections already (0: there is no bound), so that it is to be refused. A
// connection without an address, as of a Unix socket, is not counted.
func (cs *clients) enter(conn net.Conn, peer netip.Addr, most int) (c *client, full bool) {
	if !peer.IsValid() {
		return nil, false
	}
	key := clientKey(peer)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c = cs.byAddr[key]
	switch {
	case c == nil:
		c = new(client)
		cs.byAddr[key] = c
	case c.conns+c.refused == 0:
		cs.idle--
	}
	if most <= 0 || c.conns < most {
		c.conns++
		return c, false
	}
	c.refused++
	if c.refused > maxRefused {
		cs.refused[conn] = nil
		_ = conn.Close() // net/http notices, and connState calls leave
	} else {
		cs.refused[conn] = time.AfterFunc(cs.patience, func() { _ = conn.Close() })
	}
	return c, true
}

// leave ends what enter began.
func (cs *clients) leave(conn net.Conn) {
	key := clientKey(peerOf(conn))
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.byAddr[key]
	if c == nil {
		return
	}
	if timer, ok := cs.refused[conn]; ok {
		if timer != nil {
			timer.Stop()
		}
		delete(cs.refused, conn)
		c.refused--
	} else {
		c.conns--
	}
	if c.conns+c.refused > 0 {
		return
	}
	// One that has something to pay back is remembered, lest a new connection be
	// all it takes to be forgiven.
	now := time.Now()
	if c.rested(now) || cs.idle >= maxIdle {
		delete(cs.byAddr, key)
	} else {
		cs.idle++
	}
	if now.Sub(cs.swept) >= sweepEvery {
		cs.sweep(now)
	}
}

// sweep forgets the idle clients that have rested.
func (cs *clients) sweep(now time.Time) {
	cs.swept = now
	for key, c := range cs.byAddr {
		if c.conns+c.refused == 0 && c.rested(now) {
			delete(cs.byAddr, key)
			cs.idle--
		}
	}
}

// gauge returns how many clients are known.
func (cs *clients) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aptmesh_front_clients",
		Help: "Client addresses with an open connection, or not yet rested from what they took."}, func() float64 {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		return float64(len(cs.byAddr))
	})
}

// refuseConnection answers on a connection over the bound. It ends with the answer.
func (x *exchange) refuseConnection() {
	x.refuse(&refusal{status: http.StatusServiceUnavailable, reason: reasonConnections, retryAfter: retryDefault, closing: true,
		text: fmt.Sprintf("clients.connections: %s has as many connections open here as one client address may have, %d; ask again in %d seconds",
			clientName(x.conn.peer), x.rules.limits.Connections, retryDefault)})
}
