package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

func parsed(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestReach(t *testing.T) {
	configured := []*url.URL{
		parsed(t, "http://archive.example.org/ubuntu"), parsed(t, "http://mirror.corp.example:8080/ubuntu"), parsed(t, "http://10.1.1.1/debian"),
	}
	listens := func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort("[::]:3142"), netip.MustParseAddrPort("127.0.0.1:3144")}
	}
	r := NewReach(configured, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("127.0.0.0/8")}, listens)
	const public, corp = "203.0.113.5", "10.1.1.2"
	for _, tc := range []struct {
		to, at string // a URL, and what its name means
		from   string // what redirects there; "" for a list
		fromAt string
		want   string // part of the refusal; "" for none
	}{
		{"http://cdn.example.net/x", public, "http://archive.example.org/x", public, ""},
		{"http://cdn.example.net/x", "2001:db8::1", "http://archive.example.org/x", public, ""},
		{"http://cdn.example.net/x", "127.0.1.1:80", "http://archive.example.org/x", public, ""}, // allowed
		{"http://cdn.example.net/x", "::1", "http://archive.example.org/x", public, "loopback"},
		{"http://cdn.example.net/x", "169.254.169.254", "http://archive.example.org/x", public, "link-local"},
		{"http://cdn.example.net/x", "fe80::1%eth0", "http://archive.example.org/x", public, "link-local"},
		{"http://cdn.example.net/x", "192.168.1.1", "http://archive.example.org/x", public, "private"},
		{"http://cdn.example.net/x", "172.31.0.1", "http://archive.example.org/x", public, "private"},
		{"http://cdn.example.net/x", "::ffff:192.168.1.1", "http://archive.example.org/x", public, "192.168.1.1 (private)"},
		{"http://cdn.example.net/x", "64:ff9b::c0a8:101", "http://archive.example.org/x", public, "192.168.1.1 (private)"},
		{"http://cdn.example.net/x", "::10.0.0.1", "http://archive.example.org/x", public, "10.0.0.1 (private)"},
		{"http://cdn.example.net/x", "fd00::1", "http://archive.example.org/x", public, "private"},
		{"http://cdn.example.net/x", "100.64.0.1", "http://archive.example.org/x", public, "carrier-grade NAT"},
		{"http://cdn.example.net/x", "0.0.0.0", "http://archive.example.org/x", public, "unspecified"},
		{"http://cdn.example.net/x", "::", "http://archive.example.org/x", public, "unspecified"},
		{"http://cdn.example.net/x", "224.0.0.1", "http://archive.example.org/x", public, "multicast"},
		{"http://cdn.example.net/x", "255.255.255.255", "http://archive.example.org/x", public, "broadcast"},
		// What the configuration names.
		{"http://10.1.1.1/elsewhere", "10.1.1.1", "http://archive.example.org/x", public, ""},
		{"http://10.1.1.1:8443/x", "10.1.1.1", "http://archive.example.org/x", public, ""},
		{"http://store.example.net/x", "10.1.1.1", "http://archive.example.org/x", public, ""},
		{"http://store.example.net/x", "10.9.1.1", "http://archive.example.org/x", public, ""},
		{"http://mirror.corp.example:8080/x", corp, "http://archive.example.org/x", public, ""},
		{"http://MIRROR.corp.example.:8081/x", corp, "http://mirror.corp.example:8080/x", corp, ""},
		{"http://mirror.corp.example:8081/x", corp, "http://archive.example.org/x", public, "upstream_client.internal_allow"},
		{"http://store.corp.example/x", "10.1.1.3", "http://mirror.corp.example:8080/x", corp, "add 10.1.1.3 there"},
		// A public mirror whose own name means something else now.
		{"http://archive.example.org/v1/status", "10.1.1.4", "http://archive.example.org/x", public, "private"},
		// Never this node itself, allowed or not.
		{"http://cdn.example.net:3144/v1/status", "127.0.0.1", "http://archive.example.org/x", public, "this node itself"},
		{"http://cdn.example.net:3142/x", "127.0.0.1", "http://archive.example.org/x", public, "this node itself"},
		{"http://cdn.example.net:3142/x", "0.0.0.0", "http://archive.example.org/x", public, "this node itself"},
		// Lists.
		{"http://b.example.net/ubuntu/x", public, "", "", ""},
		{"http://b.example.net/ubuntu/x", "10.2.2.2", "", "", "a list of mirrors leads to http://b.example.net/ubuntu/x"},
		{"http://mirror.corp.example:8080/ubuntu/x", corp, "", "", ""},
	} {
		u := parsed(t, tc.to)
		var l redirectHop
		if tc.from != "" {
			l = redirectHop{from: parsed(t, tc.from), at: netip.MustParseAddr(tc.fromAt), status: 302}
		}
		addr, err := netip.ParseAddrPort(tc.at)
		if err != nil {
			addr = netip.AddrPortFrom(netip.MustParseAddr(tc.at), portOf(u))
		}
		err = r.check(l, u, addr)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s at %s from %q: %v, want %q", tc.to, tc.at, tc.from, err, tc.want)
		}
	}
}

// Before a name is looked up, and where a proxy looks it up.
func TestReachByName(t *testing.T) {
	r := NewReach([]*url.URL{parsed(t, "http://archive.example.org/ubuntu")}, nil, nil)
	for _, tc := range []struct {
		to      string
		proxied bool
		refused bool
	}{
		{"http://cdn.example.net/x", false, false},
		{"http://cdn.example.net/x", true, false},
		{"http://203.0.113.5/x", true, false},
		{"http://127.0.0.1/x", true, true},
		{"http://127.0.0.1:3144/x", false, true},
		{"http://[::ffff:10.0.0.1]/x", false, true},
		{"http://[fe80::1%25eth0]/x", true, true},
		{"http://localhost/x", true, true},
		{"http://a.LOCALHOST./x", true, true},
		{"http://127.1/x", true, true},
		{"http://127.1/x", false, false}, // decided by what it means
		{"http://0x7f000001/x", true, true},
		{"http://2130706433/x", true, true},
	} {
		err := r.checkName(redirectHop{from: parsed(t, "http://archive.example.org/x"), status: 302}, parsed(t, tc.to), tc.proxied)
		if (err != nil) != tc.refused {
			t.Errorf("%s, through a proxy %v: %v", tc.to, tc.proxied, err)
		}
	}
}

// byName dials servers of this machine under names that mean nothing outside of it.
type byName map[string]string

func (n byName) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, ok := n[address]
	if !ok {
		return nil, fmt.Errorf("%s is not known here", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// A name that turns out to mean an address inside gets no request, by whatever way it was hop to.
func TestRedirectsAndListsDoNotLeadInside(t *testing.T) {
	var asked atomic.Int64
	inside := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		io.WriteString(w, "secret")
	})
	at := strings.TrimPrefix(inside.URL, "http://")
	mirror := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://inside.example.net/v1/status", http.StatusFound)
	})
	names := byName{"inside.example.net:80": at, "mirror.example.org:80": strings.TrimPrefix(mirror.URL, "http://")}
	ask := func(mirror string, edit ...func(*Config)) error {
		c := client(t, mirror, append(edit, func(cfg *Config) {
			if cfg.Dial == nil {
				cfg.Dial = names.dial
			}
		})...)
		_, body, err := fetchAll(t.Context(), c, get("x"))
		if err == nil && string(body) != "secret" {
			t.Errorf("%q", body)
		}
		return err
	}
	listed := func(cfg *Config) { cfg.Archives[0].Mirrors[0].Listed = true }
	allow := func(cfg *Config) { cfg.InternalAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	resolved := func(cfg *Config) { cfg.Dial = (&net.Dialer{ControlContext: control}).DialContext }

	for what, err := range map[string]error{
		"a redirect":                ask("http://mirror.example.org"),
		"a listed mirror":           ask("http://inside.example.net", listed),
		"a listed address":          ask(inside.URL, listed),
		"a name known to this host": ask(strings.Replace(inside.URL, "127.0.0.1", "localhost", 1), listed, resolved),
	} {
		if got := refused(t, err); !strings.Contains(got.Reason, "upstream_client.internal_allow") || !strings.Contains(got.Reason, "loopback") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the server inside was asked %d times", n)
	}
	for what, err := range map[string]error{
		"a redirect":      ask("http://mirror.example.org", allow),
		"a listed mirror": ask("http://inside.example.net", listed, allow),
		"the mirror":      ask("http://inside.example.net"),
	} {
		if err != nil {
			t.Errorf("%s that is allowed: %v", what, err)
		}
	}
}

// A connection that one request may use is not used by another that was hop to the same server.
func TestKeptConnectionsDoNotLeadInside(t *testing.T) {
	var asked atomic.Int64
	inside := serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); io.WriteString(w, "secret") })
	u := parsed(t, strings.Replace(inside.URL, "127.0.0.1", "inside.example.net", 1))
	names := byName{u.Host: strings.TrimPrefix(inside.URL, "http://")}
	listed := *u
	listed.Path = "/other"
	c := client(t, u.String(), func(cfg *Config) {
		cfg.Dial = names.dial
		cfg.Archives = append(cfg.Archives, Archive{Name: "b", Mirrors: []Mirror{{URL: &listed, Listed: true}}})
	})
	mustFetch(t, c, get("x")) // leaves a connection behind
	// The operator named this server, and then no more.
	s := *c.settings.Load()
	s.reach = NewReach(nil, nil, nil)
	c.settings.Store(&s)
	req := get("x")
	req.Loc.Archive = "b"
	_, err := c.Fetch(t.Context(), req)
	if got := refused(t, err); !strings.Contains(got.Reason, "loopback") {
		t.Error(err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the server inside was asked %d times", n)
	}
}

// auth.conf holds for what the operator configured, not for where a server leads.
func TestAuthConfStaysBelowConfiguredRoots(t *testing.T) {
	secret := Credentials{User: "u", Password: NewSecret("p")}
	var got atomic.Pointer[string]
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		if strings.HasPrefix(r.URL.Path, "/open/to/") {
			http.Redirect(w, r, strings.TrimPrefix(r.URL.Path, "/open/to"), http.StatusFound)
			return
		}
		got.Store(&user)
	})
	for what, tc := range map[string]struct {
		archive, path string
		listed        bool
		machine, want string
	}{
		"the configured root":          {"a", "x", false, "/pro", "u"},
		"a deeper entry":               {"a", "deep/x", false, "/pro/deep/", "u"},
		"a redirect to another root":   {"b", "to/pro/x", false, "/pro", ""},
		"a redirect to its own root":   {"b", "to/open/x", false, "/open", "u"},
		"through the root above":       {"c", "pro/x", false, "/pro", ""},
		"the root above, other things": {"c", "other/x", false, "/other", "u"},
		"an entry of a list":           {"a", "x", true, "/pro", ""},
	} {
		u := parsed(t, srv.URL)
		at := func(path string) []Mirror { m := *u; m.Path = path; return []Mirror{{URL: &m}} }
		c := client(t, srv.URL, func(cfg *Config) {
			cfg.Archives = []Archive{{Name: "a", Mirrors: at("/pro")}, {Name: "b", Mirrors: at("/open")}, {Name: "c", Mirrors: at("")}}
			cfg.Archives[0].Mirrors[0].Listed = tc.listed
			cfg.Auth = []AuthEntry{{Scheme: "http", Host: u.Hostname(), Port: u.Port(), Path: tc.machine, Credentials: secret}}
		})
		req := get(tc.path)
		req.Loc.Archive = tc.archive
		got.Store(nil)
		mustFetch(t, c, req)
		if user := got.Load(); user == nil || *user != tc.want {
			t.Errorf("%s: the user is %v, want %q", what, user, tc.want)
		}
	}
}
