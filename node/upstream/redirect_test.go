package upstream

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestRedirectsAreFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.RequestURI() {
			case "/a/x.deb":
				w.Header().Set("Location", "../b/x%2b~.deb?sig=1#part")
				w.WriteHeader(status)
			case "/b/x%2b~.deb?sig=1":
				if got := r.Header.Get("Range"); got != "bytes=4-" {
					t.Errorf("Range is %q after a redirect", got)
				}
				http.ServeContent(w, r, "", zeroTime, strings.NewReader(content))
			default:
				t.Errorf("asked for %s", r.URL.RequestURI())
			}
		})
		c := client(t, srv.URL+"/a")
		req := get("x.deb")
		req.Offset = 4
		if tr, got := mustFetch(t, c, req); got != "456789" || tr.Offset != 4 {
			t.Errorf("%d: %q from %d", status, got, tr.Offset)
		}
		if h := c.Stats().Hosts[0].Requests; h[outcomeRedirected] != 1 || h[outcomeOK] != 1 {
			t.Errorf("outcomes: %v", h)
		}
	}
}

func TestRedirectsThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		location func(hop string) string
		want     string
	}{
		"loop":     {func(string) string { return "/a/x.deb" }, "loop"},
		"too many": {func(hop string) string { return hop + "x" }, "more than 10 times"},
		"file":     {func(string) string { return "file:///etc/passwd" }, `"file:", which is not http or https`},
		"ftp":      {func(string) string { return "ftp://example.org/x" }, `"ftp:"`},
		"nowhere":  {func(string) string { return "" }, "without saying where to"},
		"no URL":   {func(string) string { return "http://user:s3cret@[/" }, "not a URL"},
		"no host":  {func(string) string { return "http:///x" }, "without a host"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if to := tc.location(r.URL.Path); to != "" {
					w.Header().Set("Location", to)
				}
				w.WriteHeader(http.StatusFound)
			})
			_, err := client(t, srv.URL+"/a").Fetch(t.Context(), get("x.deb"))
			if got := refused(t, err); !strings.Contains(got.Reason, tc.want) || strings.Contains(got.Reason, "s3cret") || got.Status != http.StatusFound {
				t.Errorf("%d, the reason is %q", got.Status, got.Reason)
			}
		})
	}
}

func secure(t *testing.T, h http.HandlerFunc) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true // which the client does not want
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv, roots
}

func TestHTTPS(t *testing.T) {
	srv, roots := secure(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("spoke %s", r.Proto)
		}
		io.WriteString(w, content)
	})
	c := client(t, srv.URL, func(cfg *Config) { cfg.TLSRoots = roots })
	if _, got := mustFetch(t, c, get("x.deb")); got != content {
		t.Errorf("%q", got)
	}
	srv.Config.ErrorLog = nil
	_, err := client(t, srv.URL, func(cfg *Config) { cfg.TLSRoots = x509.NewCertPool() }).Fetch(t.Context(), get("x.deb"))
	if busy := unavailable(t, err); !strings.Contains(busy.Reason, "a certificate that is not trusted") {
		t.Errorf("the reason is %q", busy.Reason)
	}
	if strings.Contains(err.Error(), "x509") || !strings.Contains(err.Error(), "tls.ca of the upstream") {
		t.Errorf("the cause is not in words: %v", err)
	}
}

func TestRedirectBetweenSchemes(t *testing.T) {
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) })
	srv, roots := secure(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down/x.deb" {
			http.Redirect(w, r, plain.URL+"/x.deb", http.StatusFound)
			return
		}
		io.WriteString(w, "secure")
	})
	trust := func(cfg *Config) { cfg.TLSRoots = roots }
	_, err := client(t, srv.URL+"/down", trust).Fetch(t.Context(), get("x.deb"))
	if got := refused(t, err); !strings.Contains(got.Reason, "from https to http") {
		t.Errorf("the reason is %q", got.Reason)
	}
	up := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, srv.URL+"/x.deb", http.StatusFound)
	})
	if _, got := mustFetch(t, client(t, up.URL, trust), get("x.deb")); got != "secure" {
		t.Errorf("%q", got)
	}
}

// What one server is told of us must not reach another one.
func TestCredentialsDoNotLeakThroughRedirects(t *testing.T) {
	var seen []string
	var other *httptest.Server
	record := func(name string, r *http.Request) {
		user, password, _ := r.BasicAuth()
		seen = append(seen, fmt.Sprintf("%s%s %s:%s", name, r.URL.Path, user, password))
	}
	home := serve(t, func(w http.ResponseWriter, r *http.Request) {
		record("home", r)
		switch r.URL.Path {
		case "/away/x.deb":
			// the target's user and password are the upstream's idea, not ours
			http.Redirect(w, r, strings.Replace(other.URL, "//", "//evil:idea@", 1)+"/x.deb", http.StatusFound)
		case "/inside/x.deb":
			http.Redirect(w, r, "/final/x.deb", http.StatusFound)
		}
	})
	other = serve(t, func(w http.ResponseWriter, r *http.Request) {
		record("other", r)
		if len(r.Cookies()) > 0 || r.Referer() != "" {
			t.Errorf("the other server was told %v", r.Header)
		}
	})
	u, _ := url.Parse(home.URL)
	away, inside := *u, *u
	away.Path, inside.Path = "/away", "/inside"
	away.User = url.UserPassword("me", "s3cret")
	own := Credentials{User: "me", Password: NewSecret("s3cret")}
	host, _ := url.Parse(other.URL)
	for _, tc := range []struct {
		mirror Mirror
		auth   []AuthEntry
		want   string
	}{
		{Mirror{URL: &away}, nil, "home/away/x.deb me:s3cret, other/x.deb :"},
		{Mirror{URL: &inside, Credentials: own}, nil, "home/inside/x.deb me:s3cret, home/final/x.deb me:s3cret"},
		// auth.conf may know the target of a redirect: the server does not choose where it is used.
		{Mirror{URL: &away}, []AuthEntry{{Scheme: "http", Host: host.Hostname(), Port: host.Port(), Credentials: Credentials{User: "cdn", Password: NewSecret("key")}}},
			"home/away/x.deb me:s3cret, other/x.deb :"},
	} {
		seen = nil
		c := client(t, "http://replaced.example.org", func(cfg *Config) {
			cfg.Archives, cfg.Auth = []Archive{{Name: "a", Mirrors: []Mirror{tc.mirror}}}, tc.auth
		})
		mustFetch(t, c, get("x.deb"))
		if got := strings.Join(seen, ", "); got != tc.want {
			t.Errorf("sent %q, want %q", got, tc.want)
		}
	}
}

// The query of credentials stands in the URL of each file of the mirror, beside a user or alone. No other server gets it,
// and the target of a redirect keeps the query that it has.
func TestQueryOfCredentials(t *testing.T) {
	var seen []string
	var other *httptest.Server
	record := func(name string, r *http.Request) {
		user, _, _ := r.BasicAuth()
		seen = append(seen, name+r.URL.RequestURI()+" "+user)
	}
	home := serve(t, func(w http.ResponseWriter, r *http.Request) {
		record("home", r)
		switch r.URL.Path {
		case "/suse/away.rpm":
			http.Redirect(w, r, other.URL+"/suse/away.rpm", http.StatusFound)
		case "/suse/signed.rpm":
			http.Redirect(w, r, "/suse/final.rpm?own", http.StatusFound)
		case "/suse/outside.rpm":
			http.Redirect(w, r, "/public/outside.rpm", http.StatusFound)
		case "/suse/denied.rpm":
			w.WriteHeader(http.StatusForbidden)
		}
	})
	other = serve(t, func(w http.ResponseWriter, r *http.Request) { record("other", r) })
	u, _ := url.Parse(home.URL)
	u.Path = "/suse"
	var log bytes.Buffer
	with := func(c Credentials) *Client {
		return client(t, "http://replaced.example.org", func(cfg *Config) {
			cfg.Archives = []Archive{{Name: "a", Mirrors: []Mirror{{URL: u, Credentials: c}}}}
			cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
	}
	query := NewSecret("?t0ken=a%2Fb")
	for _, tt := range []struct {
		c          Credentials
		path, want string
	}{
		{Credentials{Query: query}, "x.rpm", "home/suse/x.rpm?t0ken=a%2Fb "},
		{Credentials{Query: query, User: "me", Password: NewSecret("p")}, "x.rpm", "home/suse/x.rpm?t0ken=a%2Fb me"},
		{Credentials{Query: query}, "away.rpm", "home/suse/away.rpm?t0ken=a%2Fb , other/suse/away.rpm "},
		{Credentials{Query: query}, "signed.rpm", "home/suse/signed.rpm?t0ken=a%2Fb , home/suse/final.rpm?own "},
		{Credentials{Query: query}, "outside.rpm", "home/suse/outside.rpm?t0ken=a%2Fb , home/public/outside.rpm "},
	} {
		seen = nil
		mustFetch(t, with(tt.c), get(tt.path))
		if got := strings.Join(seen, ", "); got != tt.want {
			t.Errorf("%s: sent %q, want %q", tt.path, got, tt.want)
		}
	}
	_, err := with(Credentials{Query: query}).Fetch(t.Context(), get("denied.rpm"))
	if refused(t, err); strings.Contains(fmt.Sprintf("%v %+v %s", err, err, log.String()), "t0ken") {
		t.Errorf("the query is in an error or a log: %v\n%s", err, log.String())
	}
	for _, bad := range []string{"a b", "a#b", "a\nb", "\u00e9", `x"y`} {
		if _, err := (Mirror{URL: u, Credentials: Credentials{Query: NewSecret(bad)}}).checked("a"); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestBearer(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	with := func(c Credentials) func(*Config) {
		return func(cfg *Config) { cfg.Archives[0].Mirrors[0].Credentials = c }
	}
	mustFetch(t, client(t, srv.URL, with(Credentials{Bearer: NewSecret("t0ken")})), get("x"))
	_, err := client(t, srv.URL, with(Credentials{Bearer: NewSecret("wr0ng")})).Fetch(t.Context(), get("x"))
	if got := refused(t, err); got.Status != 401 || !strings.Contains(got.Reason, "check the credentials") || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("error is %v", err)
	}
}

func TestHostsOfRedirectsAreNotRememberedForEver(t *testing.T) {
	n := 0
	c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "archive.example.org" {
			n++
			http.Redirect(w, r, fmt.Sprintf("http://mirror%d.example.org/", n), http.StatusFound)
		}
	})
	for range 3 * maxStrayHosts {
		mustFetch(t, c, get("x"))
	}
	hosts := c.Stats().Hosts
	if len(hosts) > maxStrayHosts+1 || hosts[0].Host != "http://archive.example.org" || hosts[0].Requests[outcomeRedirected] != 3*int64(maxStrayHosts) {
		t.Errorf("%d hosts are remembered, the first being %+v", len(hosts), hosts[0])
	}
}

var zeroTime time.Time
