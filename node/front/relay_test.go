package front

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// changelogs is a front that lets hosts reach changelogs.example.org by plain http, and what that host was asked.
func changelogs(t *testing.T, serve http.HandlerFunc, change ...func(*Config)) (*testFront, func() []*http.Request) {
	t.Helper()
	asked := make(chan *http.Request, 100)
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		serve(w, r)
	}))
	t.Cleanup(host.Close)
	d := startFront(t, append([]func(*Config){func(c *Config) {
		c.Pseudonym = "aptmesh-me"
		c.Connect = []string{"changelogs.example.org:80", "*.example.net:8080"}
		c.Dial = func(_ context.Context, address string, named bool) (net.Conn, error) {
			if want := map[string]bool{"changelogs.example.org:80": true, "a.example.net:8080": false}; want[address] != named || address == "" {
				t.Errorf("dialled %s, named %v", address, named)
			}
			return net.Dial("tcp", host.Listener.Addr().String())
		}
	}}, change...)...)
	return d, func() (all []*http.Request) {
		for {
			select {
			case r := <-asked:
				all = append(all, r)
			default:
				return all
			}
		}
	}
}

// A plain http URL of what connect_allow names is passed on as it is, and so is the answer.
func TestRelay(t *testing.T) {
	d, asked := changelogs(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/x-changelog")
		w.Header().Set("Etag", `"1"`)
		switch {
		case r.URL.Path == "/none":
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == `"1"`:
			w.WriteHeader(http.StatusNotModified)
		default:
			io.WriteString(w, "hello (2.10) noble")
		}
	})
	for _, tt := range []struct {
		method, url, header string
		status              int
		body                string
	}{
		{"GET", "http://user:pw@Changelogs.example.org/meta-release-lts?x=y", "", 200, "hello (2.10) noble"},
		{"HEAD", "http://changelogs.example.org:80/meta-release", "", 200, ""},
		{"GET", "http://changelogs.example.org/none", "", 404, "404 page not found\n"},
		{"GET", "http://a.example.net:8080/x", `If-None-Match: "1"`, 304, ""},
	} {
		headers := []string{"Via: 1.0 before", "Proxy-Authorization: secret"}
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		r, body := d.ask(tt.method, tt.url, headers...)
		if r.StatusCode != tt.status || body != tt.body || !strings.HasPrefix(r.Header.Get("X-Aptmesh"), "tunnel; node=") || r.Header.Get("Etag") == "" && tt.status != 404 {
			t.Errorf("%s %s: %s %v %q", tt.method, tt.url, r.Status, r.Header, body)
		}
		got := asked()
		if len(got) != 1 {
			t.Fatalf("the host was asked %d times", len(got))
		}
		if h := got[0].Header; got[0].Method != tt.method || got[0].Host == "" || h.Get("Proxy-Authorization") != "" || h.Get("Authorization") != "" ||
			!slices.Equal(h["Via"], []string{"1.0 before", "1.1 aptmesh-me"}) || h.Get("X-Forwarded-For") != "" {
			t.Errorf("the host was asked %s %s %v", got[0].Method, got[0].Host, h)
		}
	}
	for _, url := range []string{"http://changelogs.example.org:443/", "http://example.net:8080/x", "https://changelogs.example.org/x", "http://changelogs.example.org.evil.org/", "http://a.example.net/", "ftp://changelogs.example.org/"} {
		if r, _ := d.ask("GET", url); r.StatusCode != 403 && r.StatusCode != 400 || len(asked()) > 0 {
			t.Errorf("%s: %s", url, r.Status)
		}
	}
	if e := d.Explain("http://changelogs.example.org/meta-release"); !e.Relayed || e.Would != nil {
		t.Errorf("explained as %+v", e)
	}
}

// What goes wrong is told as of a tunnel, and an answer without an end has none for the client either.
func TestRelayFails(t *testing.T) {
	const url = "http://changelogs.example.org/x"
	d, _ := changelogs(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "begun")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if got := d.raw("GET " + url + " HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, "begun") {
		t.Errorf("%q", got)
	}
	if e := d.Explain(url); e.Latest == nil || e.Latest.Reason != "broken-stream" {
		t.Errorf("explained as %+v", e.Latest)
	}

	silent := make(chan struct{})
	defer close(silent)
	d, _ = changelogs(t, func(http.ResponseWriter, *http.Request) { <-silent }, func(c *Config) { c.TunnelIdle = 100 * time.Millisecond })
	if got := d.raw("GET " + url + " HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.Contains(got, "reason=unavailable") {
		t.Errorf("a host that says nothing: %s", got)
	}

	d, asked := changelogs(t, nil, func(c *Config) { c.MaxTunnels = -1 })
	got := d.raw("GET " + url + " HTTP/1.1\nHost: x\nConnection: close\n\n")
	if checkError(t, got, "GET", 503); !strings.Contains(got, "reason=too-many-tunnels") || len(asked()) > 0 {
		t.Errorf("%s", got)
	}

	for err, want := range map[error]string{errors.New("no route"): "unavailable", &proto.Refused{Status: 403, Reason: "the proxy says no"}: "refused"} {
		d, _ := changelogs(t, nil, func(c *Config) {
			c.Dial = func(context.Context, string, bool) (net.Conn, error) { return nil, err }
		})
		if got := d.raw("GET " + url + " HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.Contains(got, "reason="+want) || !strings.Contains(got, err.Error()) {
			t.Errorf("%v: %s", err, got)
		}
	}
}

// A client that goes away ends the request to the host.
func TestRelayOfNobody(t *testing.T) {
	gone := make(chan struct{})
	begun := make(chan struct{})
	d, _ := changelogs(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "x")
		http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
		close(gone)
	})
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET http://changelogs.example.org/x HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	if r, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || r.StatusCode != 200 {
		t.Error(err)
	}
	conn.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the host still sends")
	}
}
