package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

// Only what upstream itself said is what another node would hear, too.
func TestUnavailableSaysWhetherUpstreamAnswered(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	leave := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "some")
	}
	proxied := func(cfg *Config) {
		cfg.Proxy = Proxy{url: &url.URL{Scheme: "http", Host: "proxy.example.org:3128"}}
	}
	secure := func(cfg *Config) {
		proxied(cfg)
		cfg.Archives[0].Mirrors[0].URL = &url.URL{Scheme: "https", Host: "archive.example.org"}
	}
	refuse := func(cfg *Config) {
		cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}
	}
	for _, tc := range []struct {
		name string
		edit func(*Config)
		h    http.HandlerFunc
		want bool
	}{
		{"429", nil, status(429), true},
		{"500", nil, status(500), true},
		{"502", nil, status(502), true},
		{"503", nil, status(503), true},
		{"408", nil, status(408), true},
		{"599", nil, status(599), true},
		{"no header in time", nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false},
		{"closed without an answer", nil, leave, false},
		{"no connection", refuse, leave, false},
		{"a body cut short", nil, cut, false},
		{"a body that stalls", nil, func(w http.ResponseWriter, r *http.Request) { hang(w, r, 100, "some") }, false},
		{"500 through a proxy", proxied, status(500), true},
		{"429 through a proxy", proxied, status(429), true},
		{"502, perhaps the proxy's own", proxied, status(502), false},
		{"503, perhaps the proxy's own", proxied, status(503), false},
		{"504, perhaps the proxy's own", proxied, status(504), false},
		{"the proxy cannot connect", secure, status(503), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				edit := tc.edit
				if edit == nil {
					edit = func(*Config) {}
				}
				c, _ := inMemory(t, tc.h, edit)
				_, _, err := fetchAll(t.Context(), c, get("pool/x.deb"))
				if busy := unavailable(t, err); busy.Answered != tc.want {
					t.Errorf("answered is %v, want %v: %v", busy.Answered, tc.want, err)
				}
			})
		})
	}
	t.Run("after the end", func(t *testing.T) {
		c := client(t, "http://archive.example.org/")
		c.Close()
		_, err := c.Fetch(t.Context(), get("x"))
		if busy := unavailable(t, err); busy.Answered || !strings.Contains(busy.Reason, "no longer asked") {
			t.Error(busy)
		}
	})
}
