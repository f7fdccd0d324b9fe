package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// Every request names who waits for it and this node; what has no name to give sends no field.
func TestRequestsNameTheirProxies(t *testing.T) {
	var got []string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header["Via"] })
	for name, tt := range map[string]struct {
		pseudonym string
		waiting   []string
		want      string
	}{
		"nobody":         {"", nil, ""},
		"this node":      {"aptmesh-1", nil, "1.1 aptmesh-1"},
		"others, too":    {"aptmesh-1", []string{"a", "b"}, "1.1 a, 1.1 b, 1.1 aptmesh-1"},
		"others without": {"", []string{"a"}, "1.1 a"},
	} {
		c := client(t, srv.URL, func(cfg *Config) {
			cfg.Pseudonym = tt.pseudonym
			cfg.Via = func(loc proto.Location) []string {
				if loc != get("x").Loc {
					t.Errorf("asked who waits for %s", loc)
				}
				return tt.waiting
			}
		})
		mustFetch(t, c, get("x"))
		if strings.Join(got, "|") != tt.want {
			t.Errorf("%s: Via: %q, want %q", name, got, tt.want)
		}
	}
}

// HTTP 508 is a verdict, whoever says it: the archive's server or a proxy that is asked for a tunnel.
func TestLoopIsAVerdict(t *testing.T) {
	var tunnels []string
	loop := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			tunnels = append(tunnels, r.Header.Get("Via"))
		}
		w.WriteHeader(http.StatusLoopDetected)
	}
	srv := httptest.NewServer(http.HandlerFunc(loop))
	defer srv.Close()
	proxy, err := ParseProxy(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, base := range map[string]string{"the server": srv.URL, "a proxy": "http://archive.example.org/x", "a tunnel": "https://archive.example.org/x"} {
		c := client(t, base, func(cfg *Config) {
			cfg.Pseudonym = "aptmesh-1"
			if base != srv.URL {
				cfg.Proxy = proxy
			}
		})
		_, err := c.Fetch(t.Context(), get("x"))
		var verdict *proto.Rejected
		if !errors.As(err, &verdict) || verdict.Kind != proto.RejectLoop || !strings.Contains(err.Error(), "this node itself") {
			t.Errorf("%s: %v (%T)", name, err, err)
		}
	}
	if len(tunnels) != 1 || tunnels[0] != "1.1 aptmesh-1" {
		t.Errorf("tunnels were asked for by %q", tunnels)
	}
}

// What caches in between may answer with: what they have checked, or nothing of their own.
func TestNoCachePassesCaches(t *testing.T) {
	var got string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header.Get("Cache-Control") })
	c := client(t, srv.URL)
	for name, tt := range map[string]struct {
		req  proto.Request
		want string
	}{
		"a package":               {proto.Request{Class: proto.ClassPackage}, ""},
		"a root":                  {proto.Request{Class: proto.ClassMetadata}, "max-age=0"},
		"a root, unconditionally": {proto.Request{Class: proto.ClassMetadata, NoCache: true}, "no-cache"},
		"a package, no-cache":     {proto.Request{Class: proto.ClassPackage, NoCache: true}, "no-cache"},
	} {
		tt.req.Loc = get("dists/noble/InRelease").Loc
		mustFetch(t, c, tt.req)
		if got != tt.want {
			t.Errorf("%s: Cache-Control: %q, want %q", name, got, tt.want)
		}
	}
}
