package front

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Timeouts and sizes of a server for thousands of connections that mostly wait. apt
// keeps a connection for one run; two minutes outlast the pauses in it.
const (
	headerTimeout  = 20 * time.Second
	bodyTimeout    = 20 * time.Second // for what no request here needs
	idleTimeout    = 150 * time.Second
	maxHeaderBytes = 32 << 10 // a Range of maxParts parts has up to 24 KiB
)

// Server returns an http.Server for this Front: HTTP/1 only (apt speaks nothing else,
// and HTTP/2 has no sendfile), without a timeout for whole answers, so that a slow
// client may take its time as long as it takes something. The caller sets Addr and
// runs it on as many listeners as it likes, each wrapped by Listener.
//
// overview, where not nil, tells the page for browsers about the node. It may take a second.
func (f *Front) Server(overview func() Overview) *http.Server {
	f.gather = overview
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      f,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		ConnContext:                  f.connContext,
		ConnState:                    f.connState,
	}
}

// connKey is the context key of a connection's connState.
type connKey struct{}

// connState is what is remembered of a connection. It belongs to the goroutine that
// serves it, which has one request at a time.
type connState struct {
	armed  time.Time   // when the write deadline was set last
	peer   netip.Addr  // as exchange.peer
	name   string      // of peer as a client; "" where the other end has no address
	client *client     // nil where the other end has no address
	full   bool        // over the bound of its client: every request is refused
	secure bool        // the connection is TLS
	line   *statusLine // nil where Listener did not wrap the connection
}

// connContext is called once for each connection, before it is served; leave is what
// comes after, in connState or where the connection was taken over.
func (f *Front) connContext(ctx context.Context, conn net.Conn) context.Context {
	state := &connState{peer: peerOf(conn), line: statusLineOf(conn)}
	_, state.secure = conn.(*secureConn)
	if state.peer.IsValid() {
		state.name = clientName(state.peer)
	}
	state.client, state.full = f.clients.enter(conn, state.peer, f.rules.Load().limits.Connections)
	if state.full {
		f.metrics.refusedConns.Inc()
	}
	return context.WithValue(ctx, connKey{}, state)
}

// arm makes sure, for an answer that is written at once, that the connection has a
// write deadline of nearly WriteStall from now. Setting it anew for each request
// would cost more than the rest of the writing; so it is left alone while fresh.
func (x *exchange) arm(now time.Time) {
	if x.conn == nil || now.Sub(x.conn.armed) < x.f.cfg.WriteStall/8 {
		return
	}
	x.conn.armed = now
	x.setWriteDeadline(now)
}

// armNow sets the write deadline for the next piece of a long body.
func (x *exchange) armNow() {
	now := time.Now()
	if x.conn != nil {
		x.conn.armed = now
	}
	x.setWriteDeadline(now)
}

// setWriteDeadline is best effort: a writer that knows no deadlines goes without.
func (x *exchange) setWriteDeadline(now time.Time) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(now.Add(x.f.cfg.WriteStall))
}

// connState counts connections. Code that hijacks a connection from net/http must call
// clients.leave at its end.
func (f *Front) connState(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		f.metrics.conns.Add(1)
	case http.StateClosed:
		f.metrics.conns.Add(-1)
		f.clients.leave(conn)
	case http.StateHijacked:
		f.metrics.conns.Add(-1)
	}
}
