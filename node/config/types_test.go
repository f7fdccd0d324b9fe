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

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// A secret shows in nothing that is printed, however it is printed.
func TestSecretsDoNotPrint(t *testing.T) {
	cfg := Default()
	a := archiveconf.New("x")
	a.Credentials = upstream.Credentials{User: "me", Password: upstream.NewSecret("hunter2"), Bearer: upstream.NewSecret("hunter2")}
	b := archiveconf.New("y")
	b.Upstreams = []archiveconf.Mirror{{URL: "https://example.org/y", Credentials: upstream.Credentials{User: "me", Password: upstream.NewSecret("hunter2"), Bearer: upstream.NewSecret("hunter2")}}}
	cfg.Archives = archiveconf.Archives{a, b}
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
	c, err := upstream.Credentials{User: "me", PasswordFile: file, BearerFile: file}.Resolve()
	if s3cret := upstream.NewSecret("s3cret"); err != nil || c != (upstream.Credentials{User: "me", Password: s3cret, Bearer: s3cret}) {
		t.Errorf("Resolve: %q %q %q %v", c.User, c.Password.Reveal(), c.Bearer.Reveal(), err)
	}
	given := upstream.Credentials{User: "me", Password: upstream.NewSecret("in place")}
	if c, err = given.Resolve(); err != nil || c != given {
		t.Errorf("Resolve: %q %v", c.Password.Reveal(), err)
	}
	for _, c := range []upstream.Credentials{{PasswordFile: file + "x"}, {BearerFile: file + "x"}} {
		if _, err := c.Resolve(); err == nil || !strings.Contains(err.Error(), "_file") {
			t.Errorf("Resolve: %v", err)
		}
	}
}

func TestReloadPlan(t *testing.T) {
	archive := func(name string, change func(*archiveconf.Archive)) archiveconf.Archive {
		a := archiveconf.New(name)
		a.Upstream = "http://example.org/" + name
		if change != nil {
			change(&a)
		}
		return a
	}
	base := func() *Config {
		c := Default()
		c.Archives = archiveconf.Archives{archive("a", nil), archive("b.c", nil)}
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
				c.Archives = archiveconf.Archives{archive("new", nil), archive("b.c", func(a *archiveconf.Archive) {
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
				a.Upstreams, a.Upstream = []archiveconf.Mirror{{URL: a.Upstream, Priority: 1, Weight: 2}}, ""
				a.History, a.Allow, a.ServeExpired = "http://example.org/{yyyy}{mm}{dd}", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, new(time.Duration)
				c.Offline, c.UpstreamClient.RateFloor, c.Prefetch.Enabled, c.Clients.Deny = true, 0, false, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
				c.Stale.WarnBefore = (time.Hour)
			},
			[]string{"offline", "archives.a.upstream", "archives.a.upstreams", "archives.a.history", "archives.a.allow", "archives.a.serve_expired", "upstream_client.rate_floor", "prefetch.enabled", "clients.deny"},
			[]string{"stale.warn_before"},
		},
		{
			"equal behind other pointers",
			func(c *Config) {
				c.Archives[0].Allow, c.Archives[0].Upstreams = []netip.Prefix{}, []archiveconf.Mirror{}
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
	cfg, d := decode("f", []byte("name: 0123\ncluster: {name: 1e3, datacenter: 1.10}\narchives: {7: {upstream: x, suites: [12.10, 0x1F], "+
		"credentials: {user: 0o17, password: 0123}}}\nretain: {generations: 1.5}\n"))
	a, c := cfg.Archives[0], cfg.Archives[0].Credentials
	got := fmt.Sprint(cfg.Name, cfg.Cluster.Name, cfg.Cluster.Datacenter, a.Name, a.Suites, c.User, c.Password.Reveal())
	if want := fmt.Sprint("0123", "1e3", "1.10", "7", []string{"12.10", "0x1F"}, "0o17", "0123"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(d.Problems) != 1 || !strings.Contains(d.Problems[0].Message, "retain.generations: expected a whole number, not `1.5`") {
		t.Errorf("problems: %v", d.Problems)
	}
}

// A file of nothing but problems is given up after a while.
func TestManyProblems(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	if _, d := decode("f", []byte(text.String())); !d.Broken || len(d.Problems) != 100 {
		t.Errorf("broken %v, with %d problems", d.Broken, len(d.Problems))
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
		a := archiveconf.New("x")
		a.Upstream, a.Unsigned = tt.url, true
		tt.cfg.Archives = archiveconf.Archives{a}
		c := lenientChecker(tt.cfg)
		c.archives()
		if got := len(c.Problems) > 0; got != tt.want {
			t.Errorf("listening at %v, %s is this node: %v (%v)", tt.cfg.Listen, tt.url, got, c.Problems)
		}
	}
}
