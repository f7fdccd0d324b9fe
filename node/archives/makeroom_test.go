package archives

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
)

// The class of these tests has 20 archives at most.
func TestMakeRoom(t *testing.T) {
	now := time.Now()
	// some are members that a client asked for. The first was asked for that long ago, the others a millisecond later each.
	some := func(client string, n int, ago time.Duration, proven bool) func(members) {
		return func(all members) {
			for i := range n {
				m := newMember("ppa", client)
				m.made = now.Add(-ago + time.Duration(i)*time.Millisecond)
				m.used.Store(m.made.Unix())
				m.proven.Store(proven)
				all[fmt.Sprintf("ppa/%s%02d", client, i)] = m
			}
		}
	}
	junk := func(client string, n int, ago time.Duration) func(members) { return some(client, n, ago, false) }
	good := func(client string, n int, ago time.Duration) func(members) { return some(client, n, ago, true) }
	for name, tt := range map[string]struct {
		client string
		there  []func(members)
		gone   string
		full   bool
	}{
		"an empty class":                      {client: "a"},
		"room":                                {"a", []func(members){good("b", 10, 0), junk("c", 9, time.Hour)}, "", false},
		"room beside another client's junk":   {"a", []func(members){junk("c", 19, 0)}, "", false},
		"ten of its own, just now, with room": {"a", []func(members){junk("a", 10, triedFor-time.Second)}, "", false},
		"ten of its own, with room":           {"a", []func(members){junk("a", 10, triedFor+time.Second)}, "ppa/a00", false},
		"nine of its own, with room":          {"a", []func(members){junk("a", 9, triedFor+time.Second)}, "", false},
		"ten of its own, just now, full":      {"a", []func(members){junk("a", 10, 0), junk("b", 10, time.Hour)}, "ppa/a00", false},
		"ten of its own, and proven ones at rest": {"a", []func(members){junk("a", 10, 0), good("b", 10, 2*time.Hour)},
			"ppa/a00", false},
		"another client's junk, just now":    {"a", []func(members){good("b", 10, 0), junk("c", 10, 0)}, "ppa/c00", false},
		"the client with the most":           {"a", []func(members){junk("b", 5, time.Second), junk("c", 8, 0), junk("d", 7, time.Minute)}, "ppa/d00", false},
		"the client with the most, just now": {"a", []func(members){junk("b", 5, time.Second), junk("c", 8, 0), junk("d", 7, 2*time.Second)}, "ppa/c00", false},
		"junk goes before what is at rest":   {"a", []func(members){good("b", 19, 3*time.Hour), junk("c", 1, time.Minute)}, "ppa/c00", false},
		"junk of whichever client": {"a", []func(members){good("b", 17, 3*time.Hour), junk("c", 2, time.Second), junk("d", 1, time.Minute)},
			"ppa/d00", false},
		"at rest goes before what is tried": {"a", []func(members){good("b", 19, 3*time.Hour), junk("c", 1, time.Second)}, "ppa/b00", false},
		"at rest":                           {"a", []func(members){good("b", 10, 0), good("c", 10, 61*time.Minute)}, "ppa/c00", false},
		"all in use":                        {"a", []func(members){good("b", 20, 59*time.Minute)}, "", true},
		"all in use but one of its own":     {"a", []func(members){good("b", 19, 0), junk("a", 1, 0)}, "ppa/a00", false},
		"more than there may be":            {"a", []func(members){good("b", 25, 59*time.Minute)}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			class := archiveconf.New("ppa")
			class.MaxArchives = 20
			all := make(members)
			for i := range 30 { // of another class
				all[fmt.Sprintf("obs/%02d", i)] = newMember("obs", "a")
			}
			for _, add := range tt.there {
				add(all)
			}
			gone, err := makeRoom(&config.Config{Classes: []archiveconf.Archive{class}}, "ppa", tt.client, all, now)
			if gone != tt.gone || (err != nil) != tt.full {
				t.Errorf("%q goes, %v; want %q, full %v", gone, err, tt.gone, tt.full)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "raise archives.ppa.max_archives, which is 20: ") {
				t.Errorf("the sentence does not begin with what to do: %v", err)
			}
		})
	}
}

// An address stands for one client, and so does a network of IPv6 that one host has to itself.
func TestNetworkOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1:2:3": "2001:db8::/64", "2001:db8:0:1::1": "2001:db8:0:1::/64",
	} {
		if got := networkOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := networkOf(netip.Addr{}); got != "invalid IP" {
		t.Errorf("no address is %q", got)
	}
}

// What leads nowhere and nobody asks for any more ends; a member with a Release, or one that hosts ask for, stays.
func TestDropUnproven(t *testing.T) {
	class := archiveconf.New("ppa")
	class.Upstream, class.Unsigned = "http://ppa.example.org/*/*/ubuntu", true
	cfg := config.Default()
	cfg.UpstreamClient.AuthConf = nil
	cfg.Archives = []archiveconf.Archive{class}
	log := slog.New(slog.DiscardHandler)
	r := &rooms{}
	a, err := New(Config{
		Configured: cfg, Table: NewTable(cfg, keptLists{}, log), Lists: mirrorlist.New(mirrorlist.Config{State: keptLists{}, Logger: log}),
		Upstream: upstreamRoom{}, Catalog: r, Front: r, State: keptLists{}, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ppa/a/junk", "ppa/a/tools", "ppa/a/asked"} {
		if err := a.Ensure(name, "10.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	a.table.Proven("ppa/a/tools")
	later := time.Now().Add(askedInVainFor + time.Minute)
	a.table.made()["ppa/a/asked"].used.Store(later.Unix())
	a.dropUnproven(later)
	if got := strings.Join(r.front, " "); got != "ppa/a/asked ppa/a/tools" {
		t.Errorf("hosts reach %s", got)
	}
	if a.table.Has("ppa/a/junk") {
		t.Error("the table has what was dropped")
	}
}
