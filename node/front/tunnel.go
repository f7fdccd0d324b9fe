package front

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// tunnels are the open CONNECT tunnels.
type tunnels struct {
	mu     sync.Mutex
	places int                  // taken, from before the dial; guarded by mu
	open   map[*tunnel]struct{} // guarded by mu
	closed bool                 // guarded by mu
}

// tunnel joins a client's connection with one to a host that it may reach.
type tunnel struct {
	client, server net.Conn
	idle           time.Duration
	last           atomic.Int64 // when bytes passed last, either way; Unix nanoseconds
}

// enter takes one of at most most places; leave gives it back.
func (ts *tunnels) enter(most int) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed || ts.places >= most {
		return false
	}
	ts.places++
	return true
}

func (ts *tunnels) leave() {
	ts.mu.Lock()
	ts.places--
	ts.mu.Unlock()
}

// add registers a tunnel to be cut by close; false when that has been.
func (ts *tunnels) add(t *tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return false
	}
	ts.open[t] = struct{}{}
	return true
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	delete(ts.open, t)
	ts.mu.Unlock()
}

func (ts *tunnels) close() {
	ts.mu.Lock()
	ts.closed = true
	open := make([]*tunnel, 0, len(ts.open))
	for t := range ts.open {
		open = append(open, t)
	}
	ts.mu.Unlock()
	for _, t := range open {
		t.cut()
	}
}

// connect answers CONNECT. Only what the list allows is reached.
func (x *exchange) connect() {
	f := x.f
	target := strings.ToLower(x.r.RequestURI)
	named, r := x.rules.routes.tunnel(target)
	if r != nil {
		f.metrics.tunnels.WithLabelValues("refused").Inc()
		x.refuse(r)
		return
	}
	if !f.tunnels.enter(f.cfg.MaxTunnels) {
		f.metrics.tunnels.WithLabelValues("too-many").Inc()
		x.refuse(tooManyTunnels())
		return
	}
	defer f.tunnels.leave()
	server, err := f.cfg.Dial(proto.WithVia(x.r.Context(), x.via), target, named)
	if err != nil {
		f.metrics.tunnels.WithLabelValues("failed").Inc()
		x.failure = err
		x.refuse(unconnected(target, err))
		return
	}
	defer server.Close()
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.fail(err)
		return
	}
	defer f.clients.leave(client)
	defer client.Close()
	t := &tunnel{client: client, server: server, idle: f.cfg.TunnelIdle}
	if !f.tunnels.add(t) {
		x.status, x.note.result, x.note.reason, x.aborted = http.StatusServiceUnavailable, resultError, reasonDrain, true
		return
	}
	defer f.tunnels.remove(t)
	f.metrics.tunnels.WithLabelValues("opened").Inc()
	f.metrics.openTunnels.Add(1)
	defer f.metrics.openTunnels.Add(-1)
	x.status, x.note = http.StatusOK, note{result: resultTunnel, age: -1}
	x.firstByte, x.begun = time.Since(x.began), true
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	head := append([]byte("HTTP/1.1 200 Connection established\r\nServer: aptmesh\r\nX-Aptmesh: "), x.note.append(nil, f.cfg.Node)...)
	up, down := t.run(append(head, "\r\n\r\n"...), io.MultiReader(bytes.NewReader(early), client))
	f.metrics.tunneled.Add(float64(up + down))
	x.sent = down
}

func tooManyTunnels() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonTunnels, retryAfter: retryDefault,
		text: "CONNECT: too many tunnels are open on this node; ask again later"}
}

// tunnel is the refusal of a tunnel, nil where it may be opened; named is as of connectList.allows. The reason phrase is for the
// host's screen: what to write there.
func (t *routes) tunnel(target string) (named bool, no *refusal) {
	target = strings.ToLower(target)
	named, allowed := t.connect.allows(target)
	if allowed {
		return named, nil
	}
	return false, &refusal{
		status: http.StatusForbidden, reason: reasonConnect,
		phrase: `set Acquire::https::Proxy "DIRECT" on this host: the node opens no tunnel to ` + quote(target),
		text: `CONNECT to "` + quote(target) + `" is not allowed: set Acquire::https::Proxy "DIRECT" on the host, or add it under the config key connect_allow:, or configure the ` +
			`https archive under archives: and ask for it as http, so that it is cached`,
	}
}

// unconnected is the answer where no tunnel could be made. What a parent proxy refuses is final.
func unconnected(target string, err error) *refusal {
	var verdict *proto.Rejected
	var refused *proto.Refused
	no := &refusal{status: http.StatusServiceUnavailable, reason: reasonUnavailable, retryAfter: retryDefault,
		text: quote(target) + " cannot be reached: " + quote(err.Error())}
	switch {
	case errors.As(err, &verdict) && verdict.Kind == proto.RejectLoop:
		no.status, no.reason, no.retryAfter = loopStatus, string(verdict.Kind), 0
	case errors.As(err, &refused):
		no.status, no.reason, no.retryAfter = statusFinal, reasonRefused, 0
	}
	return no
}

// run sends the head of the answer to the client and passes bytes both ways until
// both sides have ended, one has failed, or nothing has passed for too long.
// fromClient begins with what net/http has read already.
func (t *tunnel) run(head []byte, fromClient io.Reader) (up, down int64) {
	_ = t.client.SetDeadline(time.Time{})
	t.last.Store(time.Now().UnixNano())
	if _, err := t.client.Write(head); err != nil {
		return 0, 0
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		up = t.pass(t.server, t.client, fromClient)
	}()
	down = t.pass(t.client, t.server, t.server)
	<-done
	return up, down
}

// pass copies one direction. The end of one side is passed on as a half-close, so
// that the other may finish; an error ends both.
func (t *tunnel) pass(dst, src net.Conn, from io.Reader) (n int64) {
	buf := make([]byte, 32<<10)
	for {
		_ = src.SetReadDeadline(time.Now().Add(t.idle))
		got, err := from.Read(buf)
		if got > 0 {
			t.last.Store(time.Now().UnixNano())
			_ = dst.SetWriteDeadline(time.Now().Add(t.idle))
			sent, err := dst.Write(buf[:got])
			n += int64(sent)
			if err != nil {
				t.cut()
				return n
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && t.busy():
			// Only this direction is quiet: a long download has nothing to say.
		case errors.Is(err, io.EOF):
			if half, ok := dst.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return n
			}
			t.cut()
			return n
		default:
			t.cut()
			return n
		}
	}
}

// busy reports whether bytes have passed lately, in either direction.
func (t *tunnel) busy() bool {
	return time.Since(time.Unix(0, t.last.Load())) < t.idle
}

func (t *tunnel) cut() {
	_ = t.client.Close()
	_ = t.server.Close()
}
