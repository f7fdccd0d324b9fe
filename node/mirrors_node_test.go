package node_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// listServer serves one list of mirrors, or 503 while it has none.
type listServer struct {
	*httptest.Server
	text  atomic.Pointer[string]
	asked atomic.Int64
}

func newListServer(t *testing.T) *listServer {
	s := &listServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		text := s.text.Load()
		if text == nil {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, *text)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *listServer) set(lines ...string) {
	text := strings.Join(lines, "\n") + "\n"
	s.text.Store(&text)
}

// listURL is the list as a configuration names it.
func (s *listServer) listURL() string { return "mirror+" + s.URL + "/mirrors.txt" }

// unhurried has a node wait as long as a slow machine needs.
func unhurried(cfg *config.Config) {
	const patience = 30 * time.Second
	cfg.UpstreamClient.HeaderTimeout, cfg.UpstreamClient.StallTimeout, cfg.UpstreamClient.ConnectTimeout = patience, patience, patience
}

// mirrorsAre waits until the node asks these mirrors, in any order.
func (w *world) mirrorsAre(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	w.eventually("the mirrors are "+strings.Join(want, ", "), func() bool {
		return slices.Equal(slices.Sorted(slices.Values(w.node.Mirrors("ubuntu"))), want)
	})
}

// An archive that has nothing but a list of mirrors is unavailable, in words, until
// the list comes; after a restart it is served without the list's server.
func TestArchiveOfAListAlone(t *testing.T) {
	lists := newListServer(t)
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) { cfg.Archives[0].Upstream = lists.listURL() })
	r := w.get(inRelease)
	if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(string(r.body), "list of mirrors") || !strings.Contains(string(r.body), "503 Service Unavailable") {
		t.Fatalf("without the list: %d %v %s", r.status, r.header, r.body)
	}

	lists.set("# one mirror, and what cannot be asked", "ftp://a.example.org/ubuntu", w.up.URL+"/")
	w.mirrorsAre(w.up.URL)
	w.eventually("the archive is served", func() bool { return w.get(inRelease).status == 200 })
	w.update()
	w.mustGet(smallDeb)

	lists.Close()
	w.stop()
	w.start()
	w.mustGet(largeDeb)
}

// What a list names takes the place of what it named before; the files that hosts
// have from the one are the same from the other.
func TestListChangesWhileTheNodeRuns(t *testing.T) {
	lists := newListServer(t)
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) { cfg.Archives[0].Upstream = lists.listURL() })
	second := testarchive.NewServer(w.archive)
	t.Cleanup(second.Close)
	lists.set(w.up.URL)
	w.mirrorsAre(w.up.URL)
	w.eventually("the archive is served", func() bool { return w.get(inRelease).status == 200 })
	w.update()

	lists.set(second.URL)
	if _, _, err := w.node.Reload(w.cfg); err != nil {
		t.Fatal(err)
	}
	w.mirrorsAre(second.URL)
	w.mustGet(largeDeb)
	if n := second.Requests(largeDeb); n != 1 {
		t.Errorf("the new mirror was asked %d times", n)
	}

	// A proxy request for a URL on a mirror that a list names means the archive, and one for the
	// list itself is answered with what the node goes by.
	proxy := &url.URL{Scheme: "http", Host: w.node.Addrs()[0]}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	asked := lists.asked.Load()
	for path, want := range map[string]string{"/mirrors.txt": second.URL + "\tpriority:", "/other.txt": "no open proxy"} {
		resp, err := client.Get(lists.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || (resp.StatusCode == 200) != (path == "/mirrors.txt") || !strings.Contains(string(body), want) {
			t.Errorf("%s through the proxy: %d %s, %v", path, resp.StatusCode, body, err)
		}
	}
	if n := lists.asked.Load(); n != asked {
		t.Errorf("the list's server was asked %d times for a host", n-asked)
	}
	resp, err := client.Get(second.URL + "/" + smallDeb)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != string(w.file(smallDeb)) || resp.Header.Get("X-Aptmesh") == "" {
		t.Errorf("through the proxy: %d, %d bytes, %v, %v", resp.StatusCode, len(body), resp.Header, err)
	}
}

// Lists and mirrors stand side by side: priorities of the configuration come first,
// those within a list after them, and the mirrors named twice are there once.
func TestListAmongMirrors(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "mirrors.txt")
	text := "http://b.example.org/u\tpriority:20\nhttp://a.example.org/u\tpriority:10\nhttp://named.example.org/u\nhttp://c.example.org/u\n"
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
		a := &cfg.Archives[0]
		a.Upstreams = []archiveconf.Mirror{
			{URL: "http://last.example.org/u", Priority: 2, Weight: 1},
			{URL: "mirror+file:" + list, Priority: 1, Weight: 1},
			{URL: "http://named.example.org/u", Priority: 1, Weight: 1},
			{URL: a.Upstream, Priority: 1, Weight: 1},
		}
		a.Upstream, a.Offline = "", true // nobody is asked: the order is the configured one
	})
	got := w.node.Mirrors("ubuntu")
	want := []string{w.up.URL, "http://a.example.org/u", "http://named.example.org/u", "http://b.example.org/u", "http://c.example.org/u", "http://last.example.org/u"}
	slices.Sort(got[:min(3, len(got))]) // equals are asked in turn
	if !slices.Equal(got, want) {
		t.Errorf("the mirrors are asked in the order %q", got)
	}
}

// offline: true asks nobody for anything, lists included, and says so; a reload ends
// it.
func TestOffline(t *testing.T) {
	lists := newListServer(t)
	w := newWorld(t, newArchive(), unhurried)
	w.update()
	w.mustGet(smallDeb)
	asked := w.up.TotalRequests()

	off := *w.cfg
	off.Offline = true
	off.Archives = slices.Clone(w.cfg.Archives)
	off.Archives[0].Upstreams = []archiveconf.Mirror{{URL: w.up.URL, Priority: 1, Weight: 1}, {URL: lists.listURL(), Priority: 1, Weight: 1}}
	off.Archives[0].Upstream = ""
	applied, restart, err := w.node.Reload(&off)
	if err != nil || !slices.Contains(applied, "offline") || !slices.Contains(applied, "archives.ubuntu.upstreams") || len(restart) > 0 {
		t.Fatalf("applied %q, for a restart %q, %v", applied, restart, err)
	}
	w.mustGet(smallDeb)
	w.mustGet(inRelease)
	if r := w.get(largeDeb); r.status != 503 || !strings.Contains(string(r.body), "offline: true") {
		t.Errorf("what is not held: %d %s", r.status, r.body)
	}
	if n := w.up.TotalRequests(); n != asked {
		t.Errorf("upstream was asked %d times while offline", n-asked)
	}
	if n := lists.asked.Load(); n != 0 {
		t.Errorf("the list was asked for %d times while offline", n)
	}

	on := off
	on.Offline = false
	lists.set("http://listed.example.org/ubuntu\tpriority:1")
	if _, _, err := w.node.Reload(&on); err != nil {
		t.Fatal(err)
	}
	w.mirrorsAre(w.up.URL, "http://listed.example.org/ubuntu")
	back := on
	back.Archives = w.cfg.Archives
	if _, _, err := w.node.Reload(&back); err != nil {
		t.Fatal(err)
	}
	w.mirrorsAre(w.up.URL)
	w.mustGet(largeDeb)
}

// Who may read an archive, and who may come in at all, changes with a reload.
func TestClientNetworksOfTheConfiguration(t *testing.T) {
	w := newWorld(t, newArchive(), unhurried)
	w.update()
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		status int
		says   string
	}{
		{"allowed by name", func(c *config.Config) {
			c.Archives[0].Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.1/32")}
		}, 200, ""},
		{"allowed elsewhere", func(c *config.Config) { c.Archives[0].Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, 403, "archives.ubuntu"},
		{"denied", func(c *config.Config) {
			c.Archives[0].Deny = []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.0/104")}
		}, 403, "archives.ubuntu"},
		{"denied at the door", func(c *config.Config) { c.Clients.Deny = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, 403, "clients"},
		{"all again", func(*config.Config) {}, 200, ""},
	} {
		cfg := *w.cfg
		cfg.Archives = slices.Clone(w.cfg.Archives)
		tt.change(&cfg)
		if _, restart, err := w.node.Reload(&cfg); err != nil || len(restart) > 0 {
			t.Fatalf("%s: for a restart %q, %v", tt.name, restart, err)
		}
		if r := w.get(smallDeb); r.status != tt.status || !strings.Contains(string(r.body), tt.says) {
			t.Errorf("%s: %d %.200s", tt.name, r.status, r.body)
		}
	}
}

// Each upstream has its own CA and credentials, also as a fallback of another one.
func TestUpstreamsOfTheirOwn(t *testing.T) {
	a := newArchive()
	private := testarchive.NewTLSServer(a)
	t.Cleanup(private.Close)
	private.RequireBearer("hunter2")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, private.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, a, unhurried, func(cfg *config.Config) {
		u := &cfg.Archives[0]
		u.Upstreams = []archiveconf.Mirror{
			{URL: u.Upstream, Priority: 1, Weight: 1},
			{URL: private.URL, Priority: 2, Weight: 1, Credentials: upstream.Credentials{Bearer: upstream.NewSecret("hunter2")}, TLS: upstream.TLSFiles{CA: ca}},
		}
		u.Upstream = ""
	})
	w.update()
	w.up.Close()
	w.mustGet(largeDeb)
	if n := private.Requests(largeDeb); n != 1 {
		t.Errorf("the fallback was asked %d times", n)
	}

	// A reload that cannot read its files changes nothing.
	bad := *w.cfg
	bad.Archives = slices.Clone(w.cfg.Archives)
	bad.Archives[0].Upstreams = slices.Clone(bad.Archives[0].Upstreams)
	bad.Archives[0].Upstreams[1].TLS.CA = ca + ".gone"
	if _, _, err := w.node.Reload(&bad); err == nil || !strings.Contains(err.Error(), "tls: ca") {
		t.Errorf("a reload without its CA: %v", err)
	}
	w.mustGet(smallDeb)
}

// Stop ends with a server of lists that says nothing.
func TestStopDoesNotWaitForAList(t *testing.T) {
	hold := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(hold) })
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
		cfg.Archives[0].Upstreams = []archiveconf.Mirror{{URL: cfg.Archives[0].Upstream, Priority: 1, Weight: 1}, {URL: "mirror+" + silent.URL + "/x", Priority: 1, Weight: 1}}
		cfg.Archives[0].Upstream = ""
	})
	w.update()
	if err := w.node.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	w.node = nil
}
