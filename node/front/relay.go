package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A host may ask for plain http URLs of what connect_allow names, as it may open a tunnel there: apt's
// changelogs and Ubuntu's meta-release lie on no archive. Such an answer is passed on as it comes, and
// nothing of it is checked or stored.

// relayed reports whether a request target that is refused for this is passed on so: it is in no archive.
// It is passed on with its query.
func (t *routes) relayed(target string, refused *refusal) bool {
	scheme, host, _, ok := splitURL(target)
	if refused.reason != reasonHost || !ok || !strings.EqualFold(scheme, "http") {
		return false
	}
	_, allowed := t.connect.allows(withPort(host, "80"))
	return allowed
}

// withPort adds the port that a scheme implies where a host has none.
func withPort(host, port string) string {
	if _, given, err := net.SplitHostPort(host); err == nil && given != "" {
		return host
	}
	return net.JoinHostPort(strings.Trim(strings.TrimSuffix(host, ":"), "[]"), port)
}

// newRelay makes what passes requests on. Each has a connection of its own, as a tunnel has.
func newRelay(f *Front) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Body, r.Out.ContentLength, r.Out.URL.User = nil, 0, nil
			if f.cfg.Pseudonym != "" {
				r.Out.Header.Add("Via", "1.1 "+f.cfg.Pseudonym)
			}
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				address = strings.ToLower(address)
				named, allowed := f.rules.Load().routes.connect.allows(address)
				if !allowed { // by a reload, meanwhile
					return nil, errors.New("connect_allow does not name it any more")
				}
				conn, err := f.cfg.Dial(ctx, address, named)
				if err != nil {
					return nil, err
				}
				return idleConn{conn, f.cfg.TunnelIdle}, nil
			},
			DisableKeepAlives: true, DisableCompression: true,
		},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			x := w.(*relayWriter).x
			if x.r.Context().Err() != nil {
				x.fail(err)
				return
			}
			x.failure = err
			f.metrics.tunnels.WithLabelValues("failed").Inc()
			x.refuse(unconnected(r.URL.Host, err))
		},
	}
}

// idleConn ends a connection that brings nothing for too long.
type idleConn struct {
	net.Conn
	idle time.Duration
}

func (c idleConn) Read(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(c.idle))
	return c.Conn.Read(b)
}

// relay passes the request on, and its answer back. It counts as a tunnel.
func (x *exchange) relay() {
	f := x.f
	if !f.tunnels.enter(f.cfg.MaxTunnels) {
		f.metrics.tunnels.WithLabelValues("too-many").Inc()
		x.refuse(tooManyTunnels())
		return
	}
	defer f.tunnels.leave()
	defer func() {
		switch p := recover(); {
		case p == nil:
		case p == http.ErrAbortHandler && !x.aborted: // the proxy's own, as the body has no end
			x.abort(reasonStream, errors.New("the body of the answer broke off"))
		default:
			panic(p)
		}
	}()
	w := &relayWriter{x: x}
	w.out = streamWriter{x: x, a: &answer{verdict: verdict{part: part{length: -1}}}, left: -1}
	f.relay.ServeHTTP(w, x.r.WithContext(proto.WithVia(x.r.Context(), x.via)))
}

// relayWriter takes an answer that is passed on.
type relayWriter struct {
	x   *exchange
	out streamWriter
}

func (w *relayWriter) Header() http.Header { return w.x.w.Header() }

func (w *relayWriter) WriteHeader(status int) {
	x := w.x
	if status < http.StatusOK {
		return // apt has no use for it
	}
	x.f.metrics.tunnels.WithLabelValues("opened").Inc()
	x.begun, x.status, x.note = true, status, note{result: resultTunnel, age: -1}
	x.w.Header()["X-Aptmesh"] = []string{string(x.note.append(nil, x.f.cfg.Node))}
	x.w.WriteHeader(status)
	x.firstByte = time.Since(x.began)
	x.arm(x.began)
}

// Write paces the body as any other.
func (w *relayWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	w.x.f.metrics.tunneled.Add(float64(n))
	return n, err
}
