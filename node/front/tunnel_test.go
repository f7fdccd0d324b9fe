package front

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// echoHost accepts connections and hands each to serve.
func echoHost(t *testing.T, serve func(net.Conn)) string {
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
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

// dialTunnel asks for a tunnel, with early bytes in the same packet.
func dialTunnel(t *testing.T, d *testFront, target, early string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n"+early)
	in := bufio.NewReader(conn)
	r, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"})
	if err != nil || r.StatusCode != 200 {
		t.Fatal(r, err)
	}
	return conn.(*net.TCPConn), in
}

func TestTunnel(t *testing.T) {
	// The host reads to the end first, and answers only then: it needs the half-close.
	host := echoHost(t, func(conn net.Conn) {
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		conn.Write(append([]byte("got "), all...))
	})
	d := startFront(t, func(c *Config) { c.Connect = []string{host} })
	conn, in := dialTunnel(t, d, host, "early ")
	io.WriteString(conn, "and late")
	conn.CloseWrite()
	if got, err := io.ReadAll(in); err != nil || string(got) != "got early and late" {
		t.Errorf("%q %v", got, err)
	}
}

func TestTunnelRefused(t *testing.T) {
	host := echoHost(t, func(conn net.Conn) { conn.Close() })
	_, port, _ := net.SplitHostPort(host)
	dialed := false
	for _, list := range [][]string{nil, {"127.0.0.1:1"}, {"localhost:" + port}, {"127.0.0.1:443"}} {
		d := startFront(t, func(c *Config) {
			c.Connect = list
			c.Dial = func(context.Context, string, bool) (net.Conn, error) { dialed = true; return nil, errors.New("no") }
		})
		for _, target := range []string{host, "127.0.0.1", "127.0.0.1:0", "[::1]:443"} {
			got := d.raw("CONNECT " + target + " HTTP/1.1\nHost: x\nConnection: close\n\n")
			checkError(t, got, "CONNECT", 403)
			if !strings.Contains(got, "connect_allow:") {
				t.Errorf("does not name the key: %s", got)
			}
		}
	}
	if dialed {
		t.Error("dialled what is not allowed")
	}
}

// What a parent proxy refuses is final, what may pass is asked again, and a loop is named.
func TestTunnelThatCannotBeMade(t *testing.T) {
	for err, want := range map[error]string{
		errors.New("no route"):                                                    "503 unavailable",
		&proto.Unavailable{Reason: "the proxy answered 502"}:                      "503 unavailable",
		&proto.Refused{Status: 407, Reason: "the proxy answered 407"}:             "403 refused",
		&proto.Rejected{Kind: proto.RejectLoop, Reason: "the proxy is this node"}: "508 loop",
	} {
		d := startFront(t, func(c *Config) {
			c.Connect = []string{"a.example.org:443"}
			c.Dial = func(ctx context.Context, _ string, _ bool) (net.Conn, error) {
				if via := proto.Via(ctx); len(via) != 1 || via[0] != "before" {
					t.Errorf("Via is %q", via)
				}
				return nil, err
			}
		})
		conn, dialErr := net.Dial("tcp", d.addr)
		if dialErr != nil {
			t.Fatal(dialErr)
		}
		defer conn.Close()
		io.WriteString(conn, "CONNECT a.example.org:443 HTTP/1.1\r\nHost: a.example.org:443\r\nVia: 1.1 before\r\n\r\n")
		r, readErr := http.ReadResponse(bufio.NewReader(conn), nil)
		if readErr != nil {
			t.Fatal(readErr)
		}
		body, _ := io.ReadAll(r.Body)
		if got := strconv.Itoa(r.StatusCode); !strings.HasPrefix(want, got+" ") || !strings.Contains(r.Header.Get("X-Aptmesh"), "reason="+want[4:]) ||
			!strings.Contains(string(body), err.Error()) || (r.Header.Get("Retry-After") != "") != (r.StatusCode == 503) {
			t.Errorf("%v: %d %v %s", err, r.StatusCode, r.Header, body)
		}
	}
}

func TestTunnelAllowList(t *testing.T) {
	asked := make(chan string, 1)
	d := startFront(t, func(c *Config) {
		c.Connect = []string{"ChangeLogs.example.org:443", "[2001:db8::1]:443"}
		c.Dial = func(_ context.Context, address string, _ bool) (net.Conn, error) {
			asked <- address
			return nil, errors.New("unreachable today")
		}
	})
	for _, target := range []string{"changelogs.example.org:443", "CHANGELOGS.example.org:443", "[2001:DB8::1]:443"} {
		got := d.raw("CONNECT " + target + " HTTP/1.1\nHost: x\nConnection: close\n\n")
		checkError(t, got, "CONNECT", 503)
		if address := <-asked; address != strings.ToLower(target) || !strings.Contains(got, "unreachable today") || !strings.Contains(got, "Retry-After: 5") {
			t.Errorf("%s: dialled %s: %s", target, address, got)
		}
	}
}

func TestTunnelLimitAndClose(t *testing.T) {
	host := echoHost(t, func(conn net.Conn) { io.Copy(conn, conn) })
	d := startFront(t, func(c *Config) { c.Connect, c.MaxTunnels = []string{host}, 1 })
	conn, in := dialTunnel(t, d, host, "")
	io.WriteString(conn, "x")
	if b, err := in.ReadByte(); err != nil || b != 'x' {
		t.Fatal(b, err)
	}
	if n := d.metrics.openTunnels.Load(); n != 1 {
		t.Errorf("%d tunnels", n)
	}
	checkError(t, d.raw("CONNECT "+host+" HTTP/1.1\nHost: x\nConnection: close\n\n"), "CONNECT", 503)
	d.Close()
	if _, err := in.ReadByte(); err == nil {
		t.Error("the tunnel outlived Close")
	}
	checkError(t, d.raw("CONNECT "+host+" HTTP/1.1\nHost: x\nConnection: close\n\n"), "CONNECT", 503)
}

func TestTunnelIdle(t *testing.T) {
	const idle = 150 * time.Millisecond
	// The host talks for longer than the idle time, while the client is silent.
	host := echoHost(t, func(conn net.Conn) {
		tick := time.NewTicker(idle / 5)
		defer tick.Stop()
		for range 15 {
			<-tick.C
			conn.Write([]byte("x"))
		}
		io.Copy(io.Discard, conn)
		conn.Close()
	})
	d := startFront(t, func(c *Config) { c.Connect, c.TunnelIdle = []string{host}, idle })
	_, in := dialTunnel(t, d, host, "")
	got, err := io.ReadAll(in)
	if string(got) != strings.Repeat("x", 15) || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%q %v", got, err)
	}
}
