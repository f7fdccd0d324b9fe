package front

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		allow, deny []string
		client      string
		closedBy    string
	}{
		{nil, nil, "10.1.2.3", ""},
		{nil, nil, "", ""},
		{[]string{"10.0.0.0/8"}, nil, "10.1.2.3", ""},
		{[]string{"10.0.0.0/8"}, nil, "10.0.0.0", ""},
		{[]string{"10.0.0.0/8"}, nil, "10.255.255.255", ""},
		{[]string{"10.0.0.0/8"}, nil, "11.0.0.0", "clients.allow"},
		{[]string{"10.0.0.0/8"}, nil, "9.255.255.255", "clients.allow"},
		{[]string{"10.0.0.0/8"}, nil, "::ffff:10.1.2.3", ""},
		{[]string{"10.0.0.0/8"}, nil, "2001:db8::1", "clients.allow"},
		{[]string{"10.0.0.0/8"}, nil, "127.0.0.1", "clients.allow"}, // loopback is not special
		{[]string{"10.0.0.0/8"}, nil, "", "clients.allow"},
		{[]string{"10.1.2.3/8"}, nil, "10.9.9.9", ""}, // host bits do not count
		{[]string{"::ffff:10.0.0.0/104"}, nil, "10.1.2.3", ""},
		{[]string{"::ffff:10.0.0.0/104"}, nil, "::ffff:10.1.2.3", ""},
		{[]string{"::ffff:10.0.0.0/104"}, nil, "11.1.2.3", "clients.allow"},
		{[]string{"::/0"}, nil, "10.1.2.3", "clients.allow"},
		{[]string{"0.0.0.0/0"}, nil, "2001:db8::1", "clients.allow"},
		{[]string{"0.0.0.0/0", "::/0"}, nil, "2001:db8::1", ""},
		{[]string{"2001:db8::/32"}, nil, "2001:db8:ffff::1", ""},
		{[]string{"fe80::/10"}, nil, "fe80::1%eth0", ""},
		{[]string{"192.0.2.7/32"}, nil, "192.0.2.7", ""},
		{[]string{"192.0.2.7/32"}, nil, "192.0.2.8", "clients.allow"},
		{nil, []string{"10.0.0.0/8"}, "10.1.2.3", "clients.deny"},
		{nil, []string{"10.0.0.0/8"}, "::ffff:10.1.2.3", "clients.deny"},
		{nil, []string{"10.0.0.0/8"}, "11.1.2.3", ""},
		{nil, []string{"fe80::/10"}, "fe80::1%eth0", "clients.deny"},
		{nil, []string{"10.0.0.0/8"}, "", "clients.deny"},
		// deny wins, whichever is the narrower
		{[]string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}, "10.1.2.3", "clients.deny"},
		{[]string{"10.1.0.0/16"}, []string{"10.0.0.0/8"}, "10.1.2.3", "clients.deny"},
		{[]string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}, "10.2.2.3", ""},
		{[]string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}, "11.2.2.3", "clients.allow"},
		// one within another, and one beside another
		{[]string{"10.1.2.0/24", "10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/24"}, nil, "10.200.0.1", ""},
		{[]string{"10.0.0.0/9", "10.128.0.0/9"}, nil, "10.200.0.1", ""},
	} {
		g, err := newGuard("clients", prefixes(tt.allow...), prefixes(tt.deny...))
		if err != nil {
			t.Fatal(err)
		}
		var client netip.Addr
		if tt.client != "" {
			client = plainAddr(netip.MustParseAddr(tt.client))
		}
		if got := g.closedBy(client); got != tt.closedBy {
			t.Errorf("%s, allow %v, deny %v: closed by %q, want %q", tt.client, tt.allow, tt.deny, got, tt.closedBy)
		}
	}
}

// TestNetworksAgainstPlainSearch compares with what asks every prefix.
func TestNetworksAgainstPlainSearch(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 20))
	held := 0
	for range 2000 {
		var list []netip.Prefix
		address := func() netip.Addr {
			a := netip.AddrFrom4([4]byte{10, byte(random.IntN(4)), byte(random.IntN(256)), byte(random.IntN(256))})
			if random.IntN(3) == 0 {
				b := a.As16()
				b[0], b[10], b[11] = 0x20, 0, 0
				a = netip.AddrFrom16(b)
			}
			return a
		}
		for range random.IntN(9) {
			a := address()
			list = append(list, netip.PrefixFrom(a, a.BitLen()-random.IntN(a.BitLen()/2)).Masked())
		}
		n, err := newNetworks(list)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			a, want := address(), false
			for _, p := range list {
				want = want || p.Contains(a)
			}
			if want {
				held++
			}
			if n.contain(a) != want {
				t.Fatalf("%v holds %s: %v, want %v (made to %v)", list, a, !want, want, n)
			}
		}
	}
	if held < 1000 {
		t.Errorf("only %d addresses lay in a network: the test tries too little", held)
	}
}

// from sends bytes from an address of the loopback network, as raw does.
func (d *testFront) from(client, request string) string {
	d.t.Helper()
	conn := d.dialFrom(client)
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		d.t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(all)
}

func (d *testFront) dialFrom(client string) *net.TCPConn {
	d.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}, Timeout: time.Minute}
	conn, err := dialer.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.TCPConn)
}

// restrict gives the archive ubuntu, and the mirror elsewhere, its lists.
func restrict(allow, deny []netip.Prefix) func(*Config) {
	return func(c *Config) {
		for i := range c.Archives {
			if c.Archives[i].Name == "ubuntu" {
				c.Archives[i].Allow, c.Archives[i].Deny = allow, deny
			}
		}
	}
}

// everyForm are all ways to ask for one file, {own} standing for the node's address.
var everyForm = []string{
	helloURL,
	"//ubuntu//./" + helloPath,
	"/%75buntu/" + helloPath,
	"http://archive.ubuntu.com" + helloURL,
	"http://ARCHIVE.ubuntu.com.:80" + helloURL,
	"https://archive.ubuntu.com" + helloURL,
	"http://de.archive.ubuntu.com" + helloURL,
	"http://ports.example.org:8080" + helloURL,
	"http://mirror.example.org/pub/mirrors/ubuntu/" + helloPath,
	"/archive.ubuntu.com" + helloURL,
	"/mirror.example.org/pub/mirrors/ubuntu/" + helloPath,
	"http://HTTPS///archive.ubuntu.com" + helloURL,
	"/HTTPS///archive.ubuntu.com" + helloURL,
	"/HTTPS///mirror.example.org/pub/mirrors/ubuntu/" + helloPath,
	"http://{own}" + helloURL,
	"http://{own}/archive.ubuntu.com" + helloURL,
	"http://{own}/HTTPS///archive.ubuntu.com" + helloURL,
	"http://apt-cache.example.org" + helloURL,
}

func withMirror(t *testing.T) func(*Config) {
	return func(c *Config) {
		c.Archives[0].Mirrors = []*url.URL{c.Archives[0].Upstream, mustURL(t, "https://mirror.example.org/pub/mirrors/ubuntu/")}
	}
}

// TestArchiveNetworks: the lists of an archive hold whatever the file is called, and
// whatever the client says of itself; no catalog and no fetcher is troubled.
func TestArchiveNetworks(t *testing.T) {
	for _, tt := range []struct {
		name        string
		allow, deny []string
		key         string
	}{
		{"allow", []string{"127.0.0.2/32"}, nil, "archives.ubuntu.allow"},
		{"deny", nil, []string{"127.0.0.3/32", "127.0.0.0/32"}, "archives.ubuntu.deny"},
		{"deny wins", []string{"127.0.0.0/8"}, []string{"127.0.0.3/32"}, "archives.ubuntu.deny"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := startFront(t, withMirror(t), restrict(prefixes(tt.allow...), prefixes(tt.deny...)))
			d.has(helloPath, helloBytes[:99], "bytes")
			opened := 0
			open := d.fetcher.open
			d.fetcher.open = func(ctx context.Context, w proto.ObjectRequest) (*proto.Blob, error) { opened++; return open(ctx, w) }
			for _, form := range everyForm {
				target := strings.ReplaceAll(form, "{own}", d.addr)
				for _, method := range []string{"GET", "HEAD"} {
					request := method + " " + target + " HTTP/1.1\nHost: n\nX-Forwarded-For: 127.0.0.2\nX-Real-IP: 127.0.0.2\nForwarded: for=127.0.0.2\nConnection: close\n\n"
					before := opened
					got := d.from("127.0.0.3", request)
					checkError(t, got, method, 403)
					if method == "GET" && (!strings.Contains(got, tt.key+" ") || !strings.Contains(got, " 127.0.0.3 ")) {
						t.Errorf("%s: names not %s and the client: %s", target, tt.key, got)
					}
					if opened != before {
						t.Errorf("%s: opened for a client that may not have it", target)
					}
					if got := d.from("127.0.0.2", request); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, "\r\nCache-Control: private, max-age=86400\r\n") {
						t.Errorf("%s %s: %.300s", method, target, got)
					}
				}
			}
			// Missing files and conditions tell no more than files that are there.
			for _, request := range []string{
				"GET /ubuntu/missing HTTP/1.1\nHost: n\nConnection: close\n\n",
				"GET " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\nIf-Modified-Since: " + testTime.Format(http.TimeFormat) + "\n\n",
				"GET " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\nRange: bytes=0-1\n\n",
			} {
				checkError(t, d.from("127.0.0.3", request), "GET", 403)
			}
			if n := len(d.catalog.asked); n != 0 {
				t.Errorf("the catalog was asked %d times for a client that may have nothing", n)
			}
			// The rest of the house is open to both.
			for _, client := range []string{"127.0.0.2", "127.0.0.3"} {
				checkError(t, d.from(client, "GET /vendor/missing HTTP/1.1\nHost: n\nConnection: close\n\n"), "GET", 404)
			}
			page := "GET / HTTP/1.1\nHost: n\nAccept: text/plain\nConnection: close\n\n"
			if got := d.from("127.0.0.2", page); !strings.Contains(got, "/n/ubuntu") {
				t.Error("the page hides an archive from one who may have it:", got)
			}
			if got := d.from("127.0.0.3", page); strings.Contains(got, "/n/ubuntu") || !strings.Contains(got, "/n/vendor") {
				t.Error("the page shows an archive to one who may not have it:", got)
			}
			if n := gathered(t, d.Front, "aptmesh_front_refused_clients_total", tt.key); n != float64(2*len(everyForm)+3) {
				t.Errorf("%v refusals counted under %s", n, tt.key)
			}
			d.Close()
			if log := d.logged.String(); !strings.Contains(log, "reason=client-network") || !strings.Contains(log, "client=127.0.0.3:") {
				t.Error(log)
			}
		})
	}
}

// TestClientNetworks: the global lists stand before everything, tunnels and the page
// included.
func TestClientNetworks(t *testing.T) {
	host := echoHost(t, func(conn net.Conn) { io.Copy(conn, conn); conn.Close() })
	d := startFront(t, func(c *Config) {
		c.Connect = []string{host}
		c.Clients.Allow, c.Clients.Deny = prefixes("127.0.0.0/30"), prefixes("127.0.0.3/32")
	})
	d.has(helloPath, helloBytes[:99], "bytes")
	const end = " HTTP/1.1\nHost: n\nX-Forwarded-For: 127.0.0.2\nConnection: close\n\n"
	for _, request := range []string{
		"GET /", "HEAD /", "GET " + helloURL, "GET http://archive.ubuntu.com" + helloURL, "GET /nothing/x", "GET /ubuntu/../x",
		"POST /ubuntu/x", "OPTIONS *", "CONNECT " + host, "CONNECT evil.example:443",
	} {
		method, _, _ := strings.Cut(request, " ")
		for client, key := range map[string]string{"127.0.0.3": "clients.deny", "127.0.0.4": "clients.allow", "127.1.2.3": "clients.allow"} {
			got := d.from(client, request+end)
			checkError(t, got, method, 403)
			if method != "HEAD" && (!strings.Contains(got, key+" ") || !strings.Contains(got, " "+client+" ")) {
				t.Errorf("%s from %s: %s", request, client, got)
			}
		}
	}
	if got := d.from("127.0.0.2", "GET "+helloURL+end); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, "\r\nCache-Control: public, max-age=86400\r\n") {
		t.Error(got)
	}
	if got := d.from("127.0.0.1", "GET /"+end); !strings.HasPrefix(got, "HTTP/1.1 406 ") {
		t.Error(got)
	}
	dialTunnel(t, d, host, "")
}

func TestClientNetworksIPv6(t *testing.T) {
	d := startFront(t, func(c *Config) { c.Clients.Deny = prefixes("::1/128") })
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	s := d.Server(nil)
	go s.Serve(l)
	defer s.Close()
	d.addr = l.Addr().String()
	got := d.raw("GET / HTTP/1.1\nHost: n\nConnection: close\n\n")
	checkError(t, got, "GET", 403)
	if !strings.Contains(got, "clients.deny keeps ::1 out") {
		t.Error(got)
	}
	if err := d.Apply(Rules{Archives: testArchives(t), Clients: ClientLimits{Allow: prefixes("::/64")}}); err != nil {
		t.Fatal(err)
	}
	if got := d.raw("GET / HTTP/1.1\nHost: n\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 406 ") {
		t.Error(got)
	}
}

// TestPeer: whichever way an address comes, it is compared in one form.
func TestPeer(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3:99": "10.1.2.3", "[::ffff:10.1.2.3]:99": "10.1.2.3", "[fe80::1%eth0]:99": "fe80::1", "[2001:db8::1]:99": "2001:db8::1", "@": "invalid IP", "": "invalid IP",
	} {
		x := exchange{r: &http.Request{RemoteAddr: in}}
		if got := x.peer().String(); got != want {
			t.Errorf("of a foreign server %s: %s, want %s", in, got, want)
		}
		var addr net.Addr = &net.UnixAddr{Name: in, Net: "unix"}
		if at, err := netip.ParseAddrPort(in); err == nil {
			addr = net.TCPAddrFromAddrPort(at)
		}
		if got := peerOf(&fakeConn{remote: addr}).String(); got != want {
			t.Errorf("of a connection %s: %s, want %s", in, got, want)
		}
	}
}

// fakeConn is an address that can be closed.
type fakeConn struct {
	net.Conn
	remote net.Addr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.remote }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

// TestApply: new rules reach connections that are open, and wrong ones change nothing.
func TestApply(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes[:9], "bytes")
	conn := d.dialFrom("127.0.0.2")
	in := bufio.NewReader(conn)
	ask := func(want int) {
		t.Helper()
		io.WriteString(conn, "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r.Body); err != nil || r.StatusCode != want {
			t.Fatalf("%d, want %d: %v", r.StatusCode, want, err)
		}
	}
	rules := func() Rules { return Rules{Archives: testArchives(t)} }
	ask(200)
	denied := rules()
	denied.Clients.Deny = prefixes("127.0.0.2/32")
	if err := d.Apply(denied); err != nil {
		t.Fatal(err)
	}
	ask(403)
	for want, wrong := range map[string]func(*Rules){
		"clients.allow: ":         func(r *Rules) { r.Clients.Allow = make([]netip.Prefix, 1) },
		"clients.deny: ":          func(r *Rules) { r.Clients.Deny = make([]netip.Prefix, 1) },
		"archives.ubuntu.allow: ": func(r *Rules) { r.Archives[0].Allow = make([]netip.Prefix, 1) },
		"archives.ubuntu.deny: ":  func(r *Rules) { r.Archives[0].Deny = make([]netip.Prefix, 1) },
		"clients.connections: ":   func(r *Rules) { r.Clients.Connections = -1 },
		"clients.rate: ":          func(r *Rules) { r.Clients.Rate = -1 },
		"archives: ubuntu: upstreams: ": func(r *Rules) {
			r.Archives[0].Mirrors = []*url.URL{mustURL(t, "ftp://mirror.example.org/ubuntu")}
		},
	} {
		r := rules()
		wrong(&r)
		if err := d.Apply(r); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ask(403)
	other := rules()
	other.Archives[0].Deny = prefixes("127.0.0.3/32")
	if err := d.Apply(other); err != nil {
		t.Fatal(err)
	}
	ask(200)
	if _, err := New(Config{Archives: testArchives(t), Clients: ClientLimits{Connections: -1}}, nil, nil); err == nil {
		t.Error("New takes any bound")
	}
	if err := d.Apply(denied); err != nil {
		t.Fatal(err)
	}
	if would := d.Explain(helloURL).Would; would != nil {
		t.Error("Explain is asked by the operator, whom no list keeps out:", would)
	}
}
