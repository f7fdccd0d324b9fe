package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/upstream"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "5MiB": 5 << 20, "5 MiB": 5 << 20, "50GiB": 50 << 30, "200GB": 200e9,
		"1.5KiB": 1536, "2TiB": 2 << 40, "64mb": 64e6, "7B": 7,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		again, err := parseSize(formatSize(got))
		if err != nil || again != got {
			t.Errorf("%q as %d, which is %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "lots", "-1", "5 parsecs", "99999999TiB", "1e9", "GiB", "5MiB/s"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d", text, got)
		}
	}
}

func TestSizeLimits(t *testing.T) {
	for _, tt := range []struct {
		text  string
		total int64
		want  int64
	}{
		{"80%", 1000, 800},
		{"80 %", 1001, 800},
		{"100%", 1 << 62, 1 << 62},
		{"1%", 99, 0},
		{"50GiB", 1000, 50 << 30},
	} {
		limit, err := parseLimit(tt.text)
		if err != nil || limit.Of(tt.total) != tt.want {
			t.Errorf("%q of %d is %d, %v; want %d", tt.text, tt.total, limit.Of(tt.total), err, tt.want)
		}
		if again, err := parseLimit(formatLimit(limit)); err != nil || again != limit {
			t.Errorf("%q is written %q", tt.text, formatLimit(limit))
		}
	}
	for _, text := range []string{"0", "0%", "101%", "-5%", "%", "1.5%", "all"} {
		if got, err := parseLimit(text); err == nil {
			t.Errorf("parseLimit(%q) = %v", text, got)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "60s": (time.Minute), "24h": (24 * time.Hour), "7d": (7 * 24 * time.Hour), "1h30m": (90 * time.Minute), "250ms": (250 * time.Millisecond),
	} {
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
		if again, err := parseDuration(formatDuration(got)); err != nil || again != got {
			t.Errorf("%q is written %q", text, formatDuration(got))
		}
	}
	for _, text := range []string{"", "60", "-1s", "1w", "d", "-1d", "1.5d", "99999d", "5 s"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("parseDuration(%q) = %v", text, got)
		}
	}
}

// A secret shows in nothing that is printed, however it is printed.
func TestSecretsDoNotPrint(t *testing.T) {
	cfg := Default()
	a := NewArchive("x")
	a.Credentials = Credentials{User: "me", Password: upstream.NewSecret("hunter2"), Bearer: upstream.NewSecret("hunter2")}
	b := NewArchive("y")
	b.Upstreams = []Mirror{{URL: "https://example.org/y", Credentials: Credentials{User: "me", Password: upstream.NewSecret("hunter2"), Bearer: upstream.NewSecret("hunter2")}}}
	cfg.Archives = []Archive{a, b}
	var err error
	if cfg.UpstreamClient.Proxy, err = upstream.ParseProxy("http://me:hunter2@proxy.example.org:3128"); err != nil {
		t.Fatal(err)
	}

	var printed []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, a), fmt.Sprintf(verb, b), fmt.Sprintf(verb, &a.Credentials), fmt.Sprintf(verb, a.Credentials.Password))
	}
	asJSON, err := json.Marshal(cfg.Archives)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(cfg.Archives)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := cfg.Show()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", a.Credentials.Password, "all", a, "mirrored", b)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", a.Credentials.Password, "all", a, "mirrored", b)
	for _, s := range append(printed, string(asJSON), string(asYAML), string(shown), log.String()) {
		if strings.Contains(s, "hunter2") || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("a secret shows in %s", s)
		}
	}
	if a.Credentials.Password.Reveal() != "hunter2" {
		t.Error("Reveal does not reveal")
	}
}

func TestCredentialsFromFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("  s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Credentials{User: "me", PasswordFile: file, BearerFile: file}.Resolve()
	if s3cret := upstream.NewSecret("s3cret"); err != nil || c != (Credentials{User: "me", Password: s3cret, Bearer: s3cret}) {
		t.Errorf("Resolve: %q %q %q %v", c.User, c.Password.Reveal(), c.Bearer.Reveal(), err)
	}
	given := Credentials{User: "me", Password: upstream.NewSecret("in place")}
	if c, err = given.Resolve(); err != nil || c != given {
		t.Errorf("Resolve: %q %v", c.Password.Reveal(), err)
	}
	for _, c := range []Credentials{{PasswordFile: file + "x"}, {BearerFile: file + "x"}} {
		if _, err := c.Resolve(); err == nil || !strings.Contains(err.Error(), "_file") {
			t.Errorf("Resolve: %v", err)
		}
	}
}

func TestReloadPlan(t *testing.T) {
	archive := func(name string, change func(*Archive)) Archive {
		a := NewArchive(name)
		a.Upstream = "http://example.org/" + name
		if change != nil {
			change(&a)
		}
		return a
	}
	base := func() *Config {
		c := Default()
		c.Archives = []Archive{archive("a", nil), archive("b.c", nil)}
		return c
	}
	secured := Default().Cluster
	secured.Name, secured.GossipKey, secured.CA, secured.Cert, secured.Key = "prod", "/g", "/ca", "/c", "/k"
	for _, tt := range []struct {
		name           string
		change         func(*Config)
		apply, restart []string
	}{
		{"nothing", func(*Config) {}, nil, nil},
		{"order alone", func(c *Config) { slices.Reverse(c.Archives) }, nil, nil},
		{
			"archives",
			func(c *Config) {
				c.Archives = []Archive{archive("new", nil), archive("b.c", func(a *Archive) {
					a.CheckEvery, a.SignedBy, a.Credentials.Password = (time.Hour), []string{"/k"}, upstream.NewSecret("x")
				})}
			},
			[]string{"archives.new (new)", `archives.'b.c'.signed_by`, `archives.'b.c'.check_every`, `archives.'b.c'.credentials.password`, "archives.a (removed)"}, nil,
		},
		{
			"some of each",
			func(c *Config) {
				c.Listen, c.Data, c.Cache.MaxSize = []string{":1"}, "/x", blobstore.Limit{Bytes: 1}
				c.Log.Level, c.Log.Format, c.UpstreamClient.Rate, c.ConnectAllow = "debug", "json", 1, []string{"a:1"}
			},
			[]string{"upstream_client.rate", "connect_allow", "log.level"},
			[]string{"listen", "data", "cache.max_size", "log.format"},
		},
		{
			"mirrors, networks and outages",
			func(c *Config) {
				a := &c.Archives[0]
				a.Upstreams, a.Upstream = []Mirror{{URL: a.Upstream, Priority: 1, Weight: 2}}, ""
				a.Snapshot, a.Allow, a.ServeExpired = "http://example.org/{timestamp}", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, new(time.Duration)
				c.Offline, c.UpstreamClient.RateFloor, c.Prefetch.Enabled, c.Clients.Deny = true, 0, false, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
				c.Stale.WarnBefore = (time.Hour)
			},
			[]string{"offline", "archives.a.upstream", "archives.a.upstreams", "archives.a.snapshot", "archives.a.allow", "archives.a.serve_expired", "upstream_client.rate_floor", "prefetch.enabled", "clients.deny"},
			[]string{"stale.warn_before"},
		},
		{
			"equal behind other pointers",
			func(c *Config) {
				c.Archives[0].Allow, c.Archives[0].Upstreams = []netip.Prefix{}, []Mirror{}
			},
			nil, nil,
		},
		{
			"a cluster comes into being",
			func(c *Config) { c.Name, c.Cluster = "a", secured },
			nil, []string{"name", "cluster.name", "cluster.gossip_key", "cluster.ca", "cluster.cert", "cluster.key"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			new := base()
			tt.change(new)
			apply, restart, _ := Change(base(), new)
			if !slices.Equal(apply, tt.apply) || !slices.Equal(restart, tt.restart) {
				t.Errorf("apply %q, restart %q; want %q and %q", apply, restart, tt.apply, tt.restart)
			}
		})
	}
}

// Text is what stands in the file, whatever YAML makes of it, and a count is a whole number.
func TestTextThatLooksLikeNumbers(t *testing.T) {
	d := decode("f", []byte("name: 0123\ncluster: {name: 1e3, datacenter: 1.10}\narchives: {7: {upstream: x, suites: [12.10, 0x1F], "+
		"credentials: {user: 0o17, password: 0123}}}\nretain: {generations: 1.5}\n"))
	a, c := d.cfg.Archives[0], d.cfg.Archives[0].Credentials
	got := fmt.Sprint(d.cfg.Name, d.cfg.Cluster.Name, d.cfg.Cluster.Datacenter, a.Name, a.Suites, c.User, c.Password.Reveal())
	if want := fmt.Sprint("0123", "1e3", "1.10", "7", []string{"12.10", "0x1F"}, "0o17", "0123"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(d.problems) != 1 || !strings.Contains(d.problems[0].Message, "retain.generations: expected a whole number, not `1.5`") {
		t.Errorf("problems: %v", d.problems)
	}
}

// A file of nothing but problems is given up after a while.
func TestManyProblems(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	if d := decode("f", []byte(text.String())); !d.broken || len(d.problems) != maxProblems {
		t.Errorf("broken %v, with %d problems", d.broken, len(d.problems))
	}
}

// What waits for a restart keeps its value; all else is in force at once.
func TestChangeInForce(t *testing.T) {
	running, next := sample(), sample()
	next.Listen, next.Cache.Memory, next.Stale.ServeExpired, next.Log.Format = []string{":1"}, 1, 0, "json"
	next.Log.Level, next.Offline, next.Prefetch.MaxBytes, next.Archives = "debug", true, 1, next.Archives[:1]
	_, restart, inForce := Change(running, next)
	if want := []string{"listen", "cache.memory", "stale.serve_expired", "log.format"}; !slices.Equal(restart, want) {
		t.Errorf("a restart applies %q, want %q", restart, want)
	}
	if diff := differences(running, inForce); !slices.Equal(diff, []string{
		"offline", "prefetch.max_bytes", "log.level",
		"archives.ubuntu-security (removed)", "archives.ppa (removed)", "archives.ubuntu-mirrored (removed)", "archives.private (removed)",
	}) {
		t.Errorf("in force: %q", diff)
	}
	if next.Listen[0] != ":1" {
		t.Error("the new configuration was changed")
	}
}

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "192.0.2.7": "192.0.2.7/32", "2001:db8::1": "2001:db8::1/128",
		"::ffff:192.0.2.7": "192.0.2.7/32", "::ffff:10.1.0.0/112": "10.1.0.0/16", "::/0": "::/0", "0.0.0.0/0": "0.0.0.0/0",
	} {
		got, err := parseNetwork(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v, want %s: %v", text, got, want, err)
		}
		if again, err := parseNetwork(formatNetwork(got)); err != nil || again != got {
			t.Errorf("%s is written %q", text, formatNetwork(got))
		}
	}
	for _, text := range []string{"", "10.0.0.0/33", "10.0.0", "everybody", "fe80::1%eth0", "fe80::%eth0/64", "10.0.0.0/-1"} {
		if p, err := parseNetwork(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
}

// While a cluster runs, its keys and certificates may be exchanged; whether there are
// any is settled at the start.
func TestReloadPlanOfACluster(t *testing.T) {
	running := Default()
	running.Cluster.Name = "prod"
	running.Cluster.GossipKey, running.Cluster.CA, running.Cluster.Cert, running.Cluster.Key = "/g", "/ca", "/c", "/k"
	new := *running
	new.Cluster.GossipKey, new.Cluster.CA, new.Cluster.Cert, new.Cluster.Key = "/g2", "/ca2", "/c2", "/k2"
	new.Cluster.Seeds, new.Cluster.Allow, new.Cluster.PeerListen = []string{"a"}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ":1"
	new.Drain.Handoff = (time.Minute)
	apply, restart, _ := Change(running, &new)
	if want := []string{"cluster.gossip_key", "cluster.ca", "cluster.cert", "cluster.key", "drain.handoff"}; !slices.Equal(apply, want) {
		t.Errorf("a reload applies %q, want %q", apply, want)
	}
	if want := []string{"cluster.peer_listen", "cluster.seeds", "cluster.allow"}; !slices.Equal(restart, want) {
		t.Errorf("a restart applies %q, want %q", restart, want)
	}
	open := *running
	open.Cluster.GossipKey, open.Cluster.CA, open.Cluster.Cert, open.Cluster.Key, open.Cluster.Insecure = "", "", "", "", true
	if apply, _, _ := Change(running, &open); len(apply) > 0 {
		t.Errorf("a running cluster drops its keys: %q", apply)
	}
	if apply, _, _ := Change(&open, running); len(apply) > 0 {
		t.Errorf("a running cluster takes up keys: %q", apply)
	}
}

func TestNodeName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	if c.NodeName() != strings.ToLower(host) || c.Datacenter() != c.NodeName() {
		t.Errorf("the node is %q in %q", c.NodeName(), c.Datacenter())
	}
	c.Name = "fra1"
	if c.NodeName() != "fra1" || c.Datacenter() != "fra1" {
		t.Errorf("the node is %q in %q", c.NodeName(), c.Datacenter())
	}
	c.Cluster.Datacenter = "fra"
	if c.Datacenter() != "fra" {
		t.Errorf("the node is in %q", c.Datacenter())
	}
}

func TestSlogLevel(t *testing.T) {
	for word, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "": slog.LevelInfo} {
		if got := (Log{Level: word}).SlogLevel(); got != want {
			t.Errorf("level %q is %v", word, got)
		}
	}
}

// This node's own doors, in every spelling that leads to them.
func TestIsSelf(t *testing.T) {
	everywhere := &Config{Listen: []string{":3142"}, TLS: TLS{Listen: []string{":443"}}}
	loopback := &Config{Listen: []string{"127.0.0.1:3142"}}
	elsewhere := &Config{Listen: []string{"192.0.2.1:80"}}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg  *Config
		url  string
		want bool
	}{
		{everywhere, "http://localhost:3142/x", true},
		{everywhere, "http://127.0.0.2:3142/x", true},
		{everywhere, "http://[::1]:3142/x", true},
		{everywhere, "http://" + name + ":3142/x", true},
		{everywhere, "https://localhost/x", true},
		{everywhere, "http://localhost/x", false},
		{everywhere, "http://localhost:8080/x", false},
		{everywhere, "http://192.0.2.77:3142/x", false},
		{everywhere, "http://cache.example.org:3142/x", false},
		{loopback, "http://localhost:3142/x", true},
		{loopback, "http://127.0.0.1:3142/x", true},
		{loopback, "http://127.0.0.2:3142/x", false},
		{elsewhere, "http://192.0.2.1/x", true},
		{elsewhere, "http://localhost/x", false},
	} {
		a := NewArchive("x")
		a.Upstream, a.Unsigned = tt.url, true
		tt.cfg.Archives = []Archive{a}
		c := lenientChecker(tt.cfg)
		c.allArchives()
		if got := len(c.problems) > 0; got != tt.want {
			t.Errorf("listening at %v, %s is this node: %v (%v)", tt.cfg.Listen, tt.url, got, c.problems)
		}
	}
}
