package upstream

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// serve starts an upstream on loopback.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// What the tests use where they do not say otherwise.
const (
	connectionsPerHost = 8
	connectTimeout     = 5 * time.Second
	headerTimeout      = 8 * time.Second
	stallTimeout       = 5 * time.Second
)

// filled is a configuration with what the tests use in its blanks.
func filled(cfg Config) Config {
	cfg.ConnectionsPerHost = cmp.Or(cfg.ConnectionsPerHost, connectionsPerHost)
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	cfg.HeaderTimeout = cmp.Or(cfg.HeaderTimeout, headerTimeout)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, stallTimeout)
	return cfg
}

// client makes a client of one archive, "a", at base; edit may change the rest.
func client(t *testing.T, base string, edit ...func(*Config)) *Client {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	cfg := filled(Config{Archives: []Archive{{Name: "a", Mirrors: []Mirror{{URL: u}}}}, Settings: Settings{Proxy: Direct}})
	for _, f := range edit {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func get(path string) proto.Request {
	return proto.Request{Loc: proto.Location{Archive: "a", Path: path}, Class: proto.ClassPackage}
}

// fetchAll fetches and reads a whole body.
func fetchAll(ctx context.Context, c *Client, req proto.Request) (*proto.Transfer, []byte, error) {
	tr, err := c.Fetch(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	if tr.Body == nil {
		return tr, nil, nil
	}
	defer tr.Body.Close()
	b, err := io.ReadAll(tr.Body)
	return tr, b, err
}

func mustFetch(t *testing.T, c *Client, req proto.Request) (*proto.Transfer, string) {
	t.Helper()
	tr, b, err := fetchAll(t.Context(), c, req)
	if err != nil {
		t.Fatal(err)
	}
	return tr, string(b)
}

func unavailable(t *testing.T, err error) *proto.Unavailable {
	t.Helper()
	var busy *proto.Unavailable
	if !errors.As(err, &busy) {
		t.Fatalf("error is %v (%T), want *proto.Unavailable", err, err)
	}
	return busy
}

func refused(t *testing.T, err error) *proto.Refused {
	t.Helper()
	var final *proto.Refused
	if !errors.As(err, &final) {
		t.Fatalf("error is %v (%T), want *proto.Refused", err, err)
	}
	return final
}

// network is a network in memory, for tests under a synthetic clock: whatever
// address is dialled, its one server answers.
type network struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu         sync.Mutex
	open, peak int
}

func newNetwork() *network {
	return &network{incoming: make(chan net.Conn), closed: make(chan struct{})}
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	mine, theirs := net.Pipe()
	select {
	case n.incoming <- theirs:
		n.count(1)
		return &countedConn{Conn: mine, network: n}, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) count(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open += by
	n.peak = max(n.peak, n.open)
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.incoming:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { n.once.Do(func() { close(n.closed) }); return nil }
func (n *network) Addr() net.Addr { return &net.TCPAddr{} }

type countedConn struct {
	net.Conn
	network *network
	once    sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.network.count(-1) })
	return c.Conn.Close()
}

// inMemory starts an upstream in memory, and a client of it as the archive "a".
func inMemory(t *testing.T, h http.HandlerFunc, edit ...func(*Config)) (*Client, *network) {
	t.Helper()
	n := newNetwork()
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(n) }()
	t.Cleanup(func() { srv.Close(); <-done })
	c := client(t, "http://archive.example.org/debian", append([]func(*Config){func(cfg *Config) { cfg.Dial = n.dial }}, edit...)...)
	return c, n
}

// redirecting dials one address, whatever is asked for.
type redirecting struct{ to string }

func (r *redirecting) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, r.to)
}
