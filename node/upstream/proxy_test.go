package upstream

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// testProxy is a forward proxy that asks for a user and leads every name to one
// server.
type testProxy struct {
	*httptest.Server
	target string // host:port

	mu  sync.Mutex
	log []string
}

func newTestProxy(t *testing.T, target string) *testProxy {
	p := &testProxy{target: target}
	p.Server = serve(t, p.serve)
	return p
}

func (p *testProxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.log = append(p.log, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:s3cret"))
	if r.Header.Get("Proxy-Authorization") != want {
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	if r.Method == http.MethodConnect {
		p.tunnel(w)
		return
	}
	res, err := http.Get("http://" + p.target + r.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	io.Copy(w, res.Body)
}

func (p *testProxy) tunnel(w http.ResponseWriter) {
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		return
	}
	io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { io.Copy(far, near); far.Close() }()
	io.Copy(near, far)
	near.Close()
}

func (p *testProxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

func (p *testProxy) as(user string) string {
	return strings.Replace(p.URL, "//", "//"+user, 1)
}

func TestProxy(t *testing.T) {
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "plain"+r.URL.Path) })
	tls, roots := secure(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secure"+r.URL.Path) })
	_, tlsPort, _ := net.SplitHostPort(tls.Listener.Addr().String())

	for _, tc := range []struct {
		name   string
		target string
		base   string
		want   string
		seen   string
	}{
		// example.com is the name in httptest's certificate; only the proxy leads there.
		{"http", plain.Listener.Addr().String(), "http://example.com/debian", "plain/debian/x", "GET http://example.com/debian/x"},
		{"https", tls.Listener.Addr().String(), "https://example.com:" + tlsPort + "/debian", "secure/debian/x", "CONNECT example.com:" + tlsPort},
	} {
		for _, way := range []string{"configured", "environment", "auth.conf"} {
			t.Run(tc.name+" "+way, func(t *testing.T) {
				p := newTestProxy(t, tc.target)
				var proxy Proxy
				var auth []AuthEntry
				var err error
				switch way {
				case "configured":
					proxy, err = ParseProxy(p.as("me:s3cret@"))
				case "environment":
					t.Setenv("http_proxy", p.as("me:s3cret@"))
					t.Setenv("https_proxy", p.as("me:s3cret@"))
				case "auth.conf":
					proxy, err = ParseProxy(p.URL)
					u, _ := url.Parse(p.URL)
					auth, _ = ParseAuthConf("f", []byte("machine http://"+u.Host+" login me password s3cret"))
				}
				if err != nil {
					t.Fatal(err)
				}
				c := client(t, tc.base, func(cfg *Config) { cfg.Proxy, cfg.Auth, cfg.TLSRoots = proxy, auth, roots })
				if _, got := mustFetch(t, c, get("x")); got != tc.want {
					t.Errorf("got %q", got)
				}
				if got := p.seen(); len(got) != 1 || got[0] != tc.seen {
					t.Errorf("the proxy was asked %v", got)
				}
			})
		}
		t.Run(tc.name+" refused", func(t *testing.T) {
			p := newTestProxy(t, tc.target)
			proxy, err := ParseProxy(p.as("me:wr0ng@"))
			if err != nil {
				t.Fatal(err)
			}
			c := client(t, tc.base, func(cfg *Config) { cfg.Proxy, cfg.TLSRoots = proxy, roots })
			_, err = c.Fetch(t.Context(), get("x"))
			got := refused(t, err)
			if got.Status != 407 || !strings.Contains(got.Reason, "check the user and password of upstream_client.proxy") || strings.Contains(fmt.Sprintf("%#v %v", got, err), "wr0ng") {
				t.Errorf("error is %v", err)
			}
		})
		t.Run(tc.name+" gone", func(t *testing.T) {
			p := newTestProxy(t, tc.target)
			proxy, err := ParseProxy(p.as("me:s3cret@"))
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			_, err = client(t, tc.base, func(cfg *Config) { cfg.Proxy = proxy }).Fetch(t.Context(), get("x"))
			if busy := unavailable(t, err); !strings.Contains(busy.Reason, "(through the proxy "+p.URL+")") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error is %v", err)
			}
		})
	}
	t.Run("no_proxy", func(t *testing.T) {
		p := newTestProxy(t, plain.Listener.Addr().String())
		t.Setenv("http_proxy", p.as("me:s3cret@"))
		t.Setenv("no_proxy", "example.com")
		c := client(t, "http://example.com", func(cfg *Config) {
			cfg.Proxy = Proxy{}
			cfg.Dial = (&redirecting{to: plain.Listener.Addr().String()}).dial
		})
		if _, got := mustFetch(t, c, get("x")); got != "plain/x" || len(p.seen()) > 0 {
			t.Errorf("got %q, the proxy was asked %v", got, p.seen())
		}
	})
}

func TestParseProxy(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "environment",
		"direct":                                 "direct",
		"http://u:s3cret@proxy.example.org:3128": "http://proxy.example.org:3128",
		"socks5://proxy.example.org":             "socks5://proxy.example.org",
	} {
		if got, err := ParseProxy(in); err != nil || got.String() != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"ftp://u:s3cret@proxy.example.org", "http://u:s3cret@[", "proxy.example.org:3128", "http://"} {
		if got, err := ParseProxy(in); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
	t.Setenv("https_proxy", "ftp://u:s3cret@proxy.example.org")
	if _, err := New(filled(Config{})); err == nil || !strings.Contains(err.Error(), "https_proxy") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a wrong proxy in the environment: %v", err)
	}
}

func TestCollectors(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) })
	c := client(t, srv.URL)
	mustFetch(t, c, get("x"))
	registry := prometheus.NewPedanticRegistry()
	for _, collector := range c.Collectors() {
		registry.MustRegister(collector)
	}
	want := strings.ReplaceAll(`
# HELP aptmesh_upstream_received_bytes_total Bytes of bodies received from an upstream host.
# TYPE aptmesh_upstream_received_bytes_total counter
aptmesh_upstream_received_bytes_total{host="URL"} 10
# HELP aptmesh_upstream_requests_total Finished requests to an upstream host, by outcome.
# TYPE aptmesh_upstream_requests_total counter
aptmesh_upstream_requests_total{host="URL",outcome="ok"} 1
`, "URL", srv.URL)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "aptmesh_upstream_received_bytes_total", "aptmesh_upstream_requests_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "aptmesh_upstream_connections", "aptmesh_upstream_header_seconds"); err != nil || n != 5 {
		t.Errorf("%d metrics, %v", n, err)
	}
}
