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
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// idleTimeout is how long a connection is kept for the next request.
const idleTimeout = 30 * time.Second

// trust is how a mirror's host proves its identity, and the certificate that this node shows.
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
		if a.history != nil {
			a.history.transport = s.transport
		}
	}
}

// transportTo returns the transport for a URL that a mirror hop to. What a mirror
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
// archives limit and ban by, and what our slots count. Over HTTP/2 all transfers
// of a host would share one connection, where one lost packet stalls them all and
// one window caps them all, and closing a stalled transfer would not free
// anything at the other end. Archives gain nothing from HTTP/2's cheap requests:
// a slot is busy with a body nearly all the time.
func newTransport(cfg Config, proxyOf func(*url.URL) *url.URL, trust trust) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols: protocols,
		// Else it would ask for gzip on its own account and inflate what comes.
		DisableCompression: true,
		TLSClientConfig:    trust.config(),
		// The end of a request ends its handshake, but only while the request still waits
		// for it. This bounds the other handshakes.
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
		ProxyConnectHeader: viaHeader(viaField(nil, cfg.Pseudonym)),
		Proxy:              func(req *http.Request) (*url.URL, error) { return proxyOf(req.URL), nil },
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

// repeated are the statuses that apt asks again for: TransientCodes in methods/basehttp.cc, the
// same in 2.2 and 3.3. Every other one is final for a client that asks the archive itself, so it is
// final through a node as well: a 503 in its slot would make apt wait, and hang before 3.0.3.
var repeated = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	599, // Network Connect Timeout Error; not registered
}

// statusError is the error for a status that is neither success nor a redirect nor "not
// found". server names the server, as the subject of a sentence.
func statusError(server string, res *http.Response) error {
	status := res.StatusCode
	reason := strings.TrimSpace(fmt.Sprintf("%s answered %d %s", server, status, http.StatusText(status)))
	switch {
	case status == http.StatusLoopDetected:
		return loopError(reason)
	case slices.Contains(repeated, status):
		return &proto.Unavailable{Reason: reason, RetryAfter: parseRetryAfter(res.Header.Get("Retry-After"), time.Now()), Answered: true}
	case status == http.StatusUnauthorized:
		reason += "; check the credentials of the archive"
	case status == http.StatusProxyAuthRequired:
		reason += "; check the user and password of upstream_client.proxy"
	case status < http.StatusBadRequest:
		reason += ", which is no answer to this request"
	}
	return &proto.Refused{Status: status, Reason: reason}
}
