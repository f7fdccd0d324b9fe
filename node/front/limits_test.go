package front

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// visit asks over a connection and keeps it open. It returns the status, 0 where the
// connection ended without an answer.
func visit(t *testing.T, conn net.Conn, target string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: n\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}

// setPatience sets refuseWithin for one front: never to end, or to end soon.
func (d *testFront) setPatience(p time.Duration) {
	d.clients.mu.Lock()
	d.clients.patience = p
	d.clients.mu.Unlock()
}

// eventually asks again until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestConnections(t *testing.T) {
	d := startFront(t, func(c *Config) { c.Clients.Connections = 3 })
	d.setPatience(time.Hour)
	d.has(helloPath, helloBytes[:99], "bytes")
	var open []*net.TCPConn
	for range 3 {
		conn := d.dialFrom("127.0.0.2")
		if r, _ := visit(t, conn, helloURL); r.StatusCode != 200 {
			t.Fatal(r.StatusCode)
		}
		open = append(open, conn)
	}
	over := d.dialFrom("127.0.0.2")
	io.WriteString(over, "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
	all, err := io.ReadAll(over) // ends although it did not ask for that
	got := string(all)
	checkError(t, got, "GET", 503)
	for _, want := range []string{"\r\nRetry-After: 5\r\n", "\r\nConnection: close\r\n", "reason=too-many-connections", "clients.connections: 127.0.0.2 has as many", "have, 3;"} {
		if !strings.Contains(got, want) || err != nil {
			t.Errorf("lacks %q: %s %v", want, got, err)
		}
	}
	if r, _ := visit(t, d.dialFrom("127.0.0.3"), helloURL); r.StatusCode != 200 {
		t.Error("another client is refused:", r.StatusCode)
	}
	if r, _ := visit(t, open[0], helloURL); r.StatusCode != 200 {
		t.Error("a connection within the bound is refused:", r.StatusCode)
	}
	open[1].Close()
	eventually(t, "a place is free again", func() bool {
		r, _ := visit(t, d.dialFrom("127.0.0.2"), helloURL)
		return r.StatusCode == 200
	})
	if n := gathered(t, d.Front, "aptmesh_front_refused_connections_total"); n < 1 {
		t.Error("no refused connection was counted")
	}
	// A new bound counts for new connections, and those open have their places.
	if err := d.Apply(Rules{Archives: testArchives(t), Clients: ClientLimits{Connections: 1}}); err != nil {
		t.Fatal(err)
	}
	if r, _ := visit(t, open[0], helloURL); r.StatusCode != 200 {
		t.Error("cut by a new bound:", r.StatusCode)
	}
	if r, _ := visit(t, d.dialFrom("127.0.0.2"), helloURL); r.StatusCode != 503 {
		t.Error("the new bound does not count:", r.StatusCode)
	}
	if err := d.Apply(Rules{Archives: testArchives(t)}); err != nil {
		t.Fatal(err)
	}
	if r, _ := visit(t, d.dialFrom("127.0.0.2"), helloURL); r.StatusCode != 200 {
		t.Error("there is no bound any more:", r.StatusCode)
	}
}

// TestConnectionsUnderRaces: whatever comes at once, exactly as many as may are served,
// and when all have gone nothing is left of them.
func TestConnectionsUnderRaces(t *testing.T) {
	const bound, herd = 7, 60
	d := startFront(t, func(c *Config) { c.Clients.Connections = bound })
	d.setPatience(time.Hour)
	d.has(helloPath, helloBytes[:99], "bytes")
	for round := range 3 {
		conns := make([]net.Conn, herd)
		statuses := make([]int, herd)
		var ready, all sync.WaitGroup
		ready.Add(herd)
		for i := range herd {
			all.Go(func() {
				conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", d.addr)
				ready.Done()
				if err != nil {
					return
				}
				conn.SetDeadline(time.Now().Add(time.Minute))
				conns[i] = conn
				ready.Wait()
				io.WriteString(conns[i], "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
				if r, err := http.ReadResponse(bufio.NewReader(conns[i]), nil); err == nil {
					statuses[i] = r.StatusCode
				}
			})
		}
		all.Wait()
		served := 0
		for _, s := range statuses {
			if s == 200 {
				served++
			} else if s != 503 {
				t.Error(s)
			}
		}
		if served != bound {
			t.Errorf("round %d: %d connections were served, and %d may be", round, served, bound)
		}
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
		eventually(t, "all have left", func() bool { return gathered(t, d.Front, "aptmesh_front_clients") == 0 })
	}
	if n := len(d.clients.refused); n != 0 {
		t.Errorf("%d refused connections are remembered", n)
	}
}

// TestSilentConnectionOverTheBound does not stay, and needs none of net/http's own
// deadlines for it.
func TestSilentConnectionOverTheBound(t *testing.T) {
	d := startFront(t, func(c *Config) { c.Clients.Connections = 1 })
	d.has(helloPath, helloBytes[:99], "bytes")
	d.setPatience(50 * time.Millisecond)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := d.Server(nil)
	s.ReadHeaderTimeout, s.IdleTimeout = 0, 0
	go s.Serve(l)
	defer s.Close()
	d.addr = l.Addr().String()
	visit(t, d.dialFrom("127.0.0.2"), helloURL)
	silent := d.dialFrom("127.0.0.2")
	if got, err := io.ReadAll(silent); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q %v", got, err)
	}
	eventually(t, "it is forgotten", func() bool {
		d.clients.mu.Lock()
		defer d.clients.mu.Unlock()
		return len(d.clients.refused) == 0
	})
}

// TestConnectionsTakenOver: a tunnel has a place as long as it lasts, and an answer
// that ends by a reset gives its place back.
func TestConnectionsTakenOver(t *testing.T) {
	host := echoHost(t, func(conn net.Conn) { io.Copy(conn, conn); conn.Close() })
	d := startFront(t, func(c *Config) { c.Connect, c.Clients.Connections = []string{host}, 1 })
	d.setPatience(time.Hour)
	d.has(helloPath, helloBytes[:99], "bytes")
	tunnel, in := dialTunnel(t, d, host, "x")
	if b, err := in.ReadByte(); err != nil || b != 'x' {
		t.Fatal(b, err)
	}
	if r, _ := visit(t, d.dialFrom("127.0.0.1"), helloURL); r.StatusCode != 503 {
		t.Error("a tunnel has no place:", r.StatusCode)
	}
	tunnel.Close()
	gone := func() bool { return gathered(t, d.Front, "aptmesh_front_clients") == 0 }
	eventually(t, "the tunnel gives its place back", gone)

	s := newScript(proto.ErrCorrupt)
	d.streams(proto.UnknownSize, s)
	s.parts <- "abc"
	close(s.parts)
	if got, err := d.rawErr("GET " + helloURL + " HTTP/1.0\n\n"); err == nil {
		t.Errorf("not reset: %s", got)
	}
	eventually(t, "the reset connection gives its place back", gone)
}

func TestConnectionsOverTLS(t *testing.T) {
	d := startFront(t, func(c *Config) { c.Clients.Connections = 1 })
	d.setPatience(time.Hour)
	d.has(helloPath, helloBytes[:99], "bytes")
	s := httptest.NewUnstartedServer(d.Front)
	s.Config = d.Server(nil)
	s.StartTLS()
	defer s.Close()
	first, second := s.Client().Transport.(*http.Transport).Clone(), s.Client().Transport.(*http.Transport).Clone()
	defer first.CloseIdleConnections()
	get := func(tr *http.Transport) (int, string) {
		r, err := (&http.Client{Transport: tr}).Get(s.URL + helloURL)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	if status, body := get(first); status != 200 {
		t.Error(status, body)
	}
	if status, body := get(second); status != 503 || !strings.Contains(body, "clients.connections") {
		t.Error(status, body)
	}
	eventually(t, "the place is free", func() bool {
		first.CloseIdleConnections() // again and again: it may be idle a moment later only
		status, _ := get(second)
		return status == 200
	})
	eventually(t, "all have left", func() bool {
		second.CloseIdleConnections()
		return gathered(t, d.Front, "aptmesh_front_clients") == 0
	})
}

func newClients() *clients {
	return &clients{byAddr: make(map[netip.Addr]*client), refused: make(map[net.Conn]*time.Timer), patience: time.Hour}
}

func connFrom(address string) *fakeConn {
	return &fakeConn{remote: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1))}
}

// TestWhoIsOneClient: an IPv4 address, or the /64 of an IPv6 one.
func TestWhoIsOneClient(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
		name string
	}{
		{"192.0.2.1", "192.0.2.1", true, "192.0.2.1"},
		{"192.0.2.1", "192.0.2.2", false, "192.0.2.1"},
		{"192.0.2.1", "::ffff:192.0.2.1", true, "192.0.2.1"},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false, "192.0.2.1"},
		{"2001:db8::1", "2001:db8::ffff:1", true, "2001:db8::/64"},
		{"2001:db8::1", "2001:db8:0:1::1", false, "2001:db8::/64"},
		{"fe80::1%eth0", "fe80::2%eth1", true, "fe80::/64"},
		{"::1", "127.0.0.1", false, "::/64"},
	} {
		cs := newClients()
		a, b := connFrom(tt.a), connFrom(tt.b)
		one, _ := cs.enter(a, peerOf(a), 1)
		two, full := cs.enter(b, peerOf(b), 1)
		if (one == two) != tt.same || full != tt.same {
			t.Errorf("%s and %s: the same %v, full %v", tt.a, tt.b, one == two, full)
		}
		if got := clientName(peerOf(a)); got != tt.name {
			t.Errorf("%s is called %s", tt.a, got)
		}
		f := startFront(t).Front
		if state := f.connContext(t.Context(), a).Value(connKey{}).(*connState); state.name != tt.name {
			t.Errorf("%s is told upstream as %s", tt.a, state.name)
		}
		f.clients.leave(a)
		cs.leave(a)
		cs.leave(b)
		if len(cs.byAddr)+len(cs.refused) != 0 {
			t.Errorf("%s and %s left, and %v %v stayed", tt.a, tt.b, cs.byAddr, cs.refused)
		}
	}
}

// TestFlood: one that opens connections without end is not even answered at last, and
// its own connections within the bound keep their places.
func TestFlood(t *testing.T) {
	cs := newClients()
	var conns []*fakeConn
	for i := range 2 + maxRefused + 5 {
		conn := connFrom("192.0.2.1")
		conns = append(conns, conn)
		_, full := cs.enter(conn, peerOf(conn), 2)
		if full != (i >= 2) || conn.closed != (i >= 2+maxRefused) {
			t.Fatalf("connection %d: full %v, closed %v", i, full, conn.closed)
		}
	}
	cs.leave(conns[0])
	next := connFrom("192.0.2.1")
	if _, full := cs.enter(next, peerOf(next), 2); full {
		t.Error("a place was free, and the flood kept it")
	}
	for _, conn := range append(conns[1:], next) {
		cs.leave(conn)
	}
	if len(cs.byAddr)+len(cs.refused) != 0 {
		t.Errorf("all left, and %d %d stayed", len(cs.byAddr), len(cs.refused))
	}
	cs.leave(next) // a server that is not ours may tell of what never came
	nameless := &fakeConn{remote: &net.UnixAddr{Net: "unix"}}
	if c, full := cs.enter(nameless, peerOf(nameless), 1); c != nil || full || len(cs.byAddr) != 0 {
		t.Error("a connection without an address is counted")
	}
	cs.leave(nameless)
}

// TestEnterAndLeaveAtOnce: at no moment more than the bound are in.
func TestEnterAndLeaveAtOnce(t *testing.T) {
	const bound = 3
	cs := newClients()
	var in, entered atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 500 {
				conn := connFrom("192.0.2.1")
				if _, full := cs.enter(conn, peerOf(conn), bound); !full {
					entered.Add(1)
					if n := in.Add(1); n > bound {
						t.Errorf("%d are in", n)
					}
					runtime.Gosched()
					in.Add(-1)
				}
				cs.leave(conn)
			}
		})
	}
	all.Wait()
	if entered.Load() < bound || len(cs.byAddr)+len(cs.refused) != 0 {
		t.Errorf("%d came in, %d %d stayed", entered.Load(), len(cs.byAddr), len(cs.refused))
	}
}
