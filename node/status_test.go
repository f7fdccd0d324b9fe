package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// An archive that never worked is failing, in status and in the metrics, until it
// works.
func TestArchiveThatNeverWorked(t *testing.T) {
	t.Parallel()
	var there string
	w := newWorld(t, newArchive(), func(cfg *config.Config) {
		there = cfg.Archives[0].Upstream
		cfg.Archives[0].Upstream = "http://127.0.0.1:1/ubuntu"
		cfg.Archives[0].Suites = []string{"noble"}
	})
	never := func() bool {
		for _, n := range w.node.Status().Notes {
			if n.Level == admin.LevelFailing && strings.HasPrefix(n.Text, "ubuntu has never worked: ") {
				return true
			}
		}
		return false
	}
	wait := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited for %s; status says %+v", what, w.node.Status().Notes)
			}
		}
	}
	served := func() float64 {
		v, there := w.node.Gauge("aptmesh_archive_served", "archive", "ubuntu")
		if !there {
			return -1
		}
		return v
	}
	wait("the note", never)
	if served() != 0 {
		t.Errorf("aptmesh_archive_served is %v", served())
	}
	if v, there := w.node.Gauge("aptmesh_suite_checked_timestamp_seconds", "archive", "ubuntu"); !there || v != 0 {
		t.Errorf("aptmesh_suite_checked_timestamp_seconds: %v, %v", v, there)
	}
	mended := *w.cfg
	mended.Archives = append([]archiveconf.Archive(nil), w.cfg.Archives...)
	mended.Archives[0].Upstream = there
	if _, _, err := w.node.Reload(&mended); err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.Refresh(t.Context(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	wait("the end of it", func() bool { return !never() && served() == 1 })
}

// The admin interface says the states of a mirror in the words of the client that
// watches it.
func TestMirrorStates(t *testing.T) {
	for said, is := range map[string]string{
		admin.MirrorClosed: upstream.BreakerClosed, admin.MirrorOpen: upstream.BreakerOpen, admin.MirrorHalfOpen: upstream.BreakerHalfOpen,
	} {
		if said != is {
			t.Errorf("%q is called %q", is, said)
		}
	}
}

// What hosts get errors for is failing in status, although the suite itself is well, or nobody has
// watched it.
func TestErrorsOfHosts(t *testing.T) {
	t.Parallel()
	notes := func(w *world) string {
		var all []string
		for _, n := range w.node.Status().Notes {
			all = append(all, string(n.Level)+": "+n.Text)
		}
		return strings.Join(all, "\n")
	}
	t.Run("a mirror flips bits", func(t *testing.T) {
		w := newWorld(t, newArchive())
		w.update()
		w.up.Inject("pool/*", 0, testarchive.WrongBytes(100))
		if s := w.node.Status(); s.Level != admin.LevelGood {
			t.Fatalf("before: %+v", s.Notes)
		}
		w.get(smallDeb)
		w.get("pool/main/n/none_1_amd64.deb") // the host's own mistake
		w.eventually("the note", func() bool {
			return strings.Contains(notes(w), "failing: hosts got 1 answer of ubuntu with the error corrupt in the last ") && strings.Contains(notes(w), "/ubuntu/"+smallDeb+": ")
		})
		if strings.Contains(notes(w), "not-found") {
			t.Error(notes(w))
		}
		w.get(smallDeb)
		w.eventually("both are counted", func() bool { return strings.Contains(notes(w), "2 answers of ubuntu with the error corrupt") })
	})
	t.Run("an archive of a class that is not there", func(t *testing.T) {
		w := newWorld(t, newArchive(), func(c *config.Config) { c.Archives[0].Upstream = "http://127.0.0.1:1/*/ubuntu" })
		if resp, _ := w.raw("GET", "/ubuntu/deadsnakes/dists/noble/InRelease"); resp.StatusCode != 503 {
			t.Fatal(resp.Status)
		}
		w.eventually("the note", func() bool {
			return strings.Contains(notes(w), "attention: hosts got 1 answer of ubuntu/deadsnakes with the error unavailable in the last ")
		})
	})
}

// A list of the status is [] and not null where it is empty: jq '.archives[].suites[]' reads it.
func TestStatusHasNoNull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newArchive())
	m := newMesh(t, newArchive(), 2)
	for _, n := range []*node.Node{w.node, m.sites[0].node} {
		text, err := json.Marshal(n.Status())
		if err != nil {
			t.Fatal(err)
		}
		if i := strings.Index(string(text), ":null"); i >= 0 {
			t.Errorf("…%s", text[max(0, i-40):i+5])
		}
	}
}

// Every series that an alarm of docs/operating.md watches is there before its first event: increase()
// misses an event that begins the series.
func TestAlarmsHaveSeries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| alarm | expression |")
	table, _, _ = strings.Cut(table, "\n\n")
	series := regexp.MustCompile(`(aptmesh_\w+)(?:\{(\w+)="(\w+)"\})?`).FindAllStringSubmatch(table, -1)
	if len(series) < 10 {
		t.Fatalf("the table has %d series", len(series))
	}
	m := newMesh(t, newArchive(), 2, func(c *config.Config) {
		c.Archives[0].Suites = []string{"noble"}
		c.Archives[0].Deny = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		class := archiveconf.New("ppa")
		class.Upstream, class.Unsigned = "http://ppa.example.org/*/ubuntu", true
		c.Archives = append(c.Archives, class)
		mirrorOf(manual)(c)
	})
	if _, err := m.sites[0].node.SetChannel(context.Background(), "stable", "live", admin.ChannelOrder{Now: true}); err != nil {
		t.Fatal(err)
	}
	has := func(name, label, value string) bool {
		var words []string
		if label != "" && label != "state" { // a state is a value of the series itself
			words = []string{label, value}
		}
		_, there := m.sites[0].node.Gauge(name, words...)
		return there
	}
	for deadline := time.Now().Add(20 * time.Second); len(series) > 0; time.Sleep(50 * time.Millisecond) {
		series = slices.DeleteFunc(series, func(s []string) bool { return has(s[1], s[2], s[3]) })
		if time.Now().After(deadline) {
			t.Fatalf("not there: %q", series)
		}
	}
	for _, key := range []string{"clients.allow", "archives.ubuntu.deny"} {
		if !has("aptmesh_front_refused_clients_total", "key", key) {
			t.Errorf("no series for the clients that %s keeps out", key)
		}
	}
}

// A reload that failed is seen in status and in the metrics until one succeeds.
func TestFailedReloadIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newArchive())
	metric := func() float64 {
		v, there := w.node.Gauge("aptmesh_config_reload_failed")
		if !there {
			t.Fatal("no metric")
		}
		return v
	}
	if metric() != 0 {
		t.Error("it failed before the first one")
	}
	w.node.ReloadFailed(errors.New("line 3: no such key"))
	if s := w.node.Status(); metric() != 1 || s.Level != admin.LevelAttention || !strings.Contains(s.Notes[0].Text, "line 3: no such key") {
		t.Errorf("metric %v, %+v", metric(), s.Notes)
	}
	if _, _, err := w.node.Reload(w.cfg); err != nil {
		t.Fatal(err)
	}
	if s := w.node.Status(); metric() != 0 || s.Level != admin.LevelGood {
		t.Errorf("metric %v, %+v", metric(), s.Notes)
	}
}
