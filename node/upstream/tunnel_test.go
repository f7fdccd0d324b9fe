package upstream

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// talker accepts connections and answers "ping" with "pong" after "hello".
func talker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go talk(conn)
		}
	}()
	return l.Addr().String()
}

func talk(conn net.Conn) {
	defer conn.Close()
	io.WriteString(conn, "hello ")
	var ping [4]byte
	if _, err := io.ReadFull(conn, ping[:]); err == nil && string(ping[:]) == "ping" {
		io.WriteString(conn, "pong")
	}
}

// speak says "ping" and returns what was heard.
func speak(t *testing.T, conn net.Conn) string {
	t.Helper()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "ping")
	heard, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(heard)
}

// socksServer is a SOCKS5 server (RFC 1928) that leads every name to one server.
func socksServer(t *testing.T, target string, asked chan<- string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		head := make([]byte, 2)
		io.ReadFull(in, head)
		io.CopyN(io.Discard, in, int64(head[1]))
		conn.Write([]byte{5, 0})
		head = make([]byte, 5)
		io.ReadFull(in, head)
		name := make([]byte, int(head[4])+2)
		io.ReadFull(in, name)
		asked <- string(name[:len(name)-2])
		conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		far, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer far.Close()
		go io.Copy(far, in)
		io.Copy(conn, far)
	}()
	return l.Addr().String()
}

func TestTunnel(t *testing.T) {
	target := talker(t)
	through := func(proxy string, edit ...func(*Config)) *Client {
		p, err := ParseProxy(proxy)
		if err != nil {
			t.Fatal(err)
		}
		return client(t, "http://archive.example.org", append(edit, func(cfg *Config) { cfg.Proxy, cfg.Pseudonym = p, "aptmesh-me" })...)
	}
	hear := func(c *Client, to string) string {
		conn, err := c.Tunnel(proto.WithVia(t.Context(), []string{"before"}), to, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Errorf("%T cannot end one direction", conn)
		}
		return speak(t, conn)
	}
	if got := hear(through("direct"), target); got != "hello pong" {
		t.Errorf("without a proxy: %q", got)
	}

	plain := newTestProxy(t, target)
	if got := hear(through(strings.Replace(plain.URL, "//", "//me:s3cret@", 1)), "changelogs.example.org:443"); got != "hello pong" {
		t.Errorf("through a proxy: %q", got)
	}
	if got := plain.seen(); !slices.Equal(got, []string{"CONNECT changelogs.example.org:443"}) {
		t.Errorf("the proxy saw %q", got)
	}
	_, err := through(plain.URL).Tunnel(t.Context(), "changelogs.example.org:443", true)
	if got := refused(t, err); got.Status != http.StatusProxyAuthRequired || !strings.Contains(got.Reason, "check the user and password of upstream_client.proxy") {
		t.Error(err)
	}

	var via []string
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		via = r.Header["Via"]
		if r.Host == "loop.example.org:443" {
			w.WriteHeader(http.StatusLoopDetected)
			return
		}
		plain.tunnel(w)
	}))
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	c := through(secure.URL, func(cfg *Config) { cfg.TLSRoots = roots })
	if got := hear(c, "changelogs.example.org:443"); got != "hello pong" || !slices.Equal(via, []string{"1.1 before, 1.1 aptmesh-me"}) {
		t.Errorf("through a proxy with TLS: %q, Via %q", got, via)
	}
	var verdict *proto.Rejected
	if _, err := c.Tunnel(t.Context(), "loop.example.org:443", true); !errors.As(err, &verdict) || verdict.Kind != proto.RejectLoop {
		t.Errorf("a proxy that is this node: %v", err)
	}

	asked := make(chan string, 1)
	c = through("socks5://" + socksServer(t, target, asked))
	conn, err := c.Tunnel(t.Context(), "changelogs.example.org:443", true)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "ping")
	heard := make([]byte, len("hello pong"))
	if _, err := io.ReadFull(conn, heard); err != nil || string(heard) != "hello pong" || <-asked != "changelogs.example.org" {
		t.Errorf("through SOCKS: %q, %v", heard, err)
	}
	conn.Close()
}

// A proxy that says nothing does not hold a client for longer than an archive would.
func TestTunnelEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := Proxy{url: &url.URL{Scheme: "http", Host: l.Addr().String()}}
	c := client(t, "http://archive.example.org", func(cfg *Config) {
		cfg.Proxy, cfg.ConnectTimeout, cfg.HeaderTimeout = p, time.Millisecond, 50*time.Millisecond
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Tunnel(ctx, "changelogs.example.org:443", true); err == nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

// What only a pattern allows is not to lead inside, whatever its name means; what the operator named may.
func TestTunnelByPattern(t *testing.T) {
	c := client(t, "http://archive.example.org/debian")
	for target, inside := range map[string]bool{"localhost:1": true, "127.0.0.1:1": true, "10.0.0.1:1": true} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		var refused *proto.Refused
		_, err := c.Tunnel(ctx, target, false)
		if errors.As(err, &refused) != inside || inside && !strings.Contains(err.Error(), "connect_allow") {
			t.Errorf("%s by a pattern: %v", target, err)
		}
		if _, err := c.Tunnel(ctx, target, true); errors.As(err, &refused) {
			t.Errorf("%s, named: %v", target, err)
		}
		cancel()
	}
}

// A name is looked up when the connection is made, and then what it means is checked.
func TestTunnelByPatternToNameInside(t *testing.T) {
	hop := false
	c := client(t, "http://archive.example.org/debian", func(cfg *Config) {
		cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			err := control(ctx, network, "10.0.0.1:443", nil)
			hop = err != nil
			return nil, errors.Join(err, errors.New("no route"))
		}
	})
	if _, err := c.Tunnel(t.Context(), "rebound.example.org:443", false); err == nil || !hop {
		t.Errorf("a name that means an address inside is reached: %v", err)
	}
}
