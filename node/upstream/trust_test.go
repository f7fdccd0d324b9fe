package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// askingForCertificates starts an upstream that asks for a client certificate and takes any.
func askingForCertificates(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// Each mirror has authorities, a client certificate and credentials of its own, and
// none of it reaches another server, be it by a redirect.
func TestTrustIsPerMirror(t *testing.T) {
	type visit struct{ user, certificate bool }
	var mu sync.Mutex
	visits := map[string]visit{}
	seen := func(name string, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _, user := req.BasicAuth()
		visits[name] = visit{user, len(req.TLS.PeerCertificates) > 0}
	}
	plain := askingForCertificates(t, func(w http.ResponseWriter, req *http.Request) { seen("plain", req); honest(w, req) })
	private := askingForCertificates(t, func(w http.ResponseWriter, req *http.Request) {
		seen("private", req)
		if req.URL.Path == "/p/away.deb" {
			http.Redirect(w, req, plain.URL+"/o/away.deb", http.StatusFound)
			return
		}
		honest(w, req)
	})
	pool := x509.NewCertPool()
	pool.AddCert(private.Certificate()) // httptest has one for all servers; it stands in for two here
	at := func(base string) *url.URL {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	own := private.TLS.Certificates[0]
	mirrors := []Mirror{
		{URL: at(plain.URL + "/o"), Roots: pool},
		{URL: at(private.URL + "/p"), Roots: pool, Certificate: &own, Credentials: Credentials{User: "me", Password: NewSecret("s3cret")}},
		{URL: at(private.URL + "/untrusted")},
	}
	fetch := func(c *Client, m Mirror, path string) error {
		req := get(path)
		req.Mirror = m.String()
		_, _, err := fetchAll(t.Context(), c, req)
		return err
	}
	c := client(t, "http://replaced.example.org", func(cfg *Config) { cfg.Archives[0].Mirrors = mirrors })
	for _, m := range mirrors[:2] {
		if err := fetch(c, m, "x.deb"); err != nil {
			t.Fatal(err)
		}
	}
	if visits["plain"] != (visit{}) || visits["private"] != (visit{true, true}) {
		t.Errorf("%v", visits)
	}
	if err := unavailable(t, fetch(c, mirrors[2], "x.deb")); err == nil {
		t.Error("a server was trusted by another mirror's authorities")
	}
	// Nor does a redirect's target get the trust of the mirror that leads there.
	unavailable(t, fetch(c, mirrors[1], "away.deb"))

	// Where the target is trusted, it sees neither certificate nor password.
	c = client(t, "http://replaced.example.org", func(cfg *Config) { cfg.Archives[0].Mirrors, cfg.TLSRoots = mirrors, pool })
	delete(visits, "plain")
	if err := fetch(c, mirrors[1], "away.deb"); err != nil {
		t.Fatal(err)
	}
	if visits["plain"] != (visit{}) || len(visits) != 2 {
		t.Errorf("%v", visits)
	}
}

// Two ways to show oneself to one host do not add up to more connections than its cap.
func TestCapHoldsOverTransports(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1, func(cfg *Config) {
			cfg.ConnectionsPerHost = 2
			for i := range 2 {
				u := *cfg.Archives[0].Mirrors[0].URL
				u.Path = fmt.Sprintf("/other%d", i)
				cfg.Archives[0].Mirrors = append(cfg.Archives[0].Mirrors, Mirror{URL: &u, Roots: x509.NewCertPool()})
			}
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for i := range 20 {
					r.from(fmt.Sprintf("%d.deb", i))
				}
			})
		}
		wg.Wait()
		if gets, _ := r.requests(); len(gets) != 3 {
			t.Errorf("asked %v", gets)
		}
		if r.peak["m0.example.org"] > 2 {
			t.Errorf("%v connections at once", r.peak)
		}
	})
}

func TestMirrorMetrics(t *testing.T) {
	srv := serve(t, answers(503, "Retry-After", "60"))
	c := client(t, srv.URL+"/root")
	unavailable(t, second(c.Fetch(t.Context(), get("x.deb"))))
	c.Blame(get("x.deb").Loc, []string{srv.URL + "/root"}, proto.ErrCorrupt)

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				switch *l.Name {
				case "archive":
					if *l.Value != "a" {
						t.Errorf("%s of archive %s", *f.Name, *l.Value)
					}
				case "mirror":
					if *l.Value != srv.URL+"/root" {
						t.Errorf("%s of mirror %s", *f.Name, *l.Value)
					}
				case "state", "reason":
					labels += " " + *l.Value
				}
			}
			got[*f.Name+labels] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"aptmesh_upstream_mirror_state open":                    1,
		"aptmesh_upstream_mirror_state closed":                  0,
		"aptmesh_upstream_mirror_state half_open":               0,
		"aptmesh_upstream_mirror_penalties":                     1,
		"aptmesh_upstream_mirror_bytes_per_second":              0,
		"aptmesh_upstream_mirror_failovers_total asked_to_wait": 1,
		"aptmesh_upstream_mirror_failovers_total wrong_content": 1,
		"aptmesh_upstream_mirror_header_seconds":                0,
	} {
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("%s is %v, %v; want %v", name, n, ok, want)
		}
	}
}
