package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"

	"github.com/aptmesh/aptmesh/proto"
)

// Tunnel connects to "host:port" for a client, through the same parent proxy as a request for
// https://host:port would use. It sends that proxy the names of the proxies that proto.Via has in
// ctx, and of this node. A target that only a pattern of connect_allow allows must have a public
// address, like the target of a redirect. Errors are those of Fetch.
func (c *Client) Tunnel(ctx context.Context, target string, named bool) (net.Conn, error) {
	const network = "tcp"
	s := c.settings.Load()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout+s.cfg.HeaderTimeout)
	defer cancel()
	via := s.proxyOf(&url.URL{Scheme: "https", Host: target})
	if !named {
		hop := &hopTarget{redirectHop: redirectHop{by: "a pattern of connect_allow"}, reach: s.reach, url: &url.URL{Scheme: "https", Host: target}}
		if err := s.reach.checkName(hop.redirectHop, hop.url, via != nil); err != nil {
			return nil, err
		}
		if via == nil {
			ctx = context.WithValue(ctx, hopKey{}, hop)
		}
	}
	if via == nil {
		return s.cfg.Dial(ctx, network, target)
	}
	if via.Scheme != "http" && via.Scheme != "https" {
		return s.socks(ctx, network, target, via)
	}
	conn, err := s.cfg.Dial(ctx, network, proxyAddress(via))
	if err != nil {
		return nil, fmt.Errorf("the proxy %s: %w", bareURL(via), err)
	}
	// The end of ctx ends what blocks.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := s.connect(ctx, conn, target, via)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// connect asks an HTTP proxy for a tunnel.
func (s *settings) connect(ctx context.Context, conn net.Conn, target string, via *url.URL) (net.Conn, error) {
	failed := func(err error) error { return fmt.Errorf("the proxy %s, asked for %s: %w", bareURL(via), target, err) }
	if via.Scheme == "https" {
		cfg := trust{roots: s.cfg.TLSRoots}.config()
		cfg.ServerName = via.Hostname()
		secure := tls.Client(conn, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, failed(err)
		}
		conn = secure
	}
	h := viaHeader(viaField(proto.Via(ctx), s.cfg.Pseudonym))
	if h == nil {
		h = make(http.Header)
	}
	h.Set("User-Agent", s.cfg.UserAgent)
	if via.User != nil {
		password, _ := via.User.Password()
		h.Set("Proxy-Authorization", Credentials{User: via.User.Username(), Password: NewSecret(password)}.header())
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: h}
	if err := req.Write(conn); err != nil {
		return nil, failed(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, failed(err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, statusError(fmt.Sprintf("the proxy %s, asked for %s,", bareURL(via), target), res)
	}
	return &bufferedConn{Conn: conn, in: in}, nil
}

// socks asks a SOCKS proxy for a tunnel. The proxy looks the name up.
func (s *settings) socks(ctx context.Context, network, target string, via *url.URL) (net.Conn, error) {
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5(network, proxyAddress(via), auth, dialer(s.cfg.Dial))
	if err != nil {
		return nil, err
	}
	with, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	conn, err := with.DialContext(ctx, network, target)
	if err != nil {
		return nil, fmt.Errorf("the proxy %s, asked for %s: %w", bareURL(via), target, err)
	}
	return conn, nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// proxyAddress is where a proxy listens.
func proxyAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// bufferedConn is a connection of which something has been read ahead.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// CloseWrite ends one direction, where that is possible.
func (c *bufferedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
