package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// idleTimeout is how long a connection is kept for the next request.
const idleTimeout = 30 * time.Second

// trust is whom a mirror's host is believed to be, and whom we show ourselves as.
type trust struct {
	roots       *x509.CertPool
	certificate *tls.Certificate
}

func (t trust) config() *tls.Config {
	cfg := &tls.Config{RootCAs: t.roots, MinVersion: tls.VersionTLS12}
	if t.certificate != nil {
		cfg.Certificates = []tls.Certificate{*t.certificate}
	}
	return cfg
}

// equip gives each mirror a transport: one for all that trust and show the same.
func (s *settings) equip() {
	s.transports = make(map[trust]*http.Transport)
	with := func(t trust) *http.Transport {
		if s.transports[t] == nil {
			s.transports[t] = newTransport(s.cfg, s.proxyOf, t)
		}
		return s.transports[t]
	}
	s.transport = with(trust{roots: s.cfg.TLSRoots})
	s.mixed = make(map[string]bool)
	first := make(map[string]*http.Transport)
	for _, a := range s.archives {
		for _, m := range a.mirrors {
			own := trust{m.Roots, m.Certificate}
			if own.roots == nil {
				own.roots = s.cfg.TLSRoots
			}
			m.transport = with(own)
			host := hostName(m.URL)
			if first[host] == nil {
				first[host] = m.transport
			}
			s.mixed[host] = s.mixed[host] || first[host] != m.transport
		}
		if a.snapshot != nil {
			a.snapshot.transport = s.transport
		}
	}
}

// transportTo returns the transport for a URL that a mirror led to. What a mirror
// trusts, and the certificate shown to it, are for its own scheme, host and port.
func (s *settings) transportTo(m *mirror, u *url.URL) *http.Transport {
	if hostName(u) == hostName(m.URL) {
		return m.transport
	}
	return s.transport
}

// closeIdle closes the connections that no request uses.
func (s *settings) closeIdle() {
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
}

// newTransport makes the transport of a configuration.
//
// It speaks HTTP/1.1 only. The cap of an upstream is a cap on connections: what
// archives limit and ban by, and what our places count. Over HTTP/2 all transfers
// of a host would share one connection, where one lost packet stalls them all and
// one window caps them all, and closing a stalled transfer would not free
// anything at the other end. Archives gain nothing from HTTP/2's cheap requests:
// a place is busy with a body nearly all the time.
func newTransport(cfg Config, proxyOf func(*url.URL) *url.URL, trust trust) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols: protocols,
		// Else it would ask for gzip on its own account and inflate what comes.
		DisableCompression: true,
		TLSClientConfig:    trust.config(),
		// Who ends a request ends its handshake, but only while the request still
		// waits for it; this bounds what is left.
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		MaxIdleConnsPerHost:    cfg.ConnectionsPerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         32 << 10,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			// The transport hands the values of the request's context on, not its end.
			x := ctx.Value(exchangeKey{}).(*exchange)
			return x.dial.run(ctx, func(ctx context.Context) (net.Conn, error) { return cfg.Dial(ctx, network, address) })
		},
		Proxy: func(req *http.Request) (*url.URL, error) { return proxyOf(req.URL), nil },
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, connect *http.Request, res *http.Response) error {
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err := statusError(fmt.Sprintf("the proxy %s, asked for %s,", bareURL(proxy), connect.Host), res)
			var busy *proto.Unavailable
			if errors.As(err, &busy) {
				busy.Answered = false // the archive was not asked
			}
			return err
		},
	}
}

// statusError is the error for a status that is neither success nor a redirect
// nor "not found"; who names the server at the start of a sentence.
func statusError(who string, res *http.Response) error {
	status := res.StatusCode
	reason := fmt.Sprintf("%s answered %d %s", who, status, http.StatusText(status))
	switch {
	case status == http.StatusTooManyRequests, status >= 500,
		status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusMisdirectedRequest:
		return &proto.Unavailable{Reason: reason, RetryAfter: parseRetryAfter(res.Header.Get("Retry-After"), time.Now()), Answered: true}
	case status >= 400:
		hint := ""
		switch status {
		case http.StatusUnauthorized:
			hint = "; check the credentials of the archive"
		case http.StatusProxyAuthRequired:
			hint = "; check the user and password of upstream.proxy"
		}
		return &proto.Refused{Status: status, Reason: reason + hint}
	}
	return &proto.Unavailable{Reason: reason + ", which is no answer to this request", Answered: true}
}
