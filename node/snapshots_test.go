package node_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
)

// A diff of two snapshots, of a channel and of the archive as it is now names what hosts will get, and what they use of it.
func TestDiffSnapshots(t *testing.T) {
	w := newWorld(t, newArchive())
	w.update()
	w.mustGet(smallDeb)
	w.create("before")
	w.archive.AddPackage("noble", testarchive.Package{Name: "small", Version: "2", Size: 3000})
	w.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: "1", Size: 100})
	w.archive.Publish(epoch.Add(time.Minute))
	if _, err := w.node.Refresh(t.Context(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	w.create("after")
	if _, err := w.node.SetChannel(t.Context(), "stable", "before", admin.ChannelOrder{By: "test"}); err != nil {
		t.Fatal(err)
	}
	diff := func(plan admin.DiffPlan) (changes []string, d *admin.Diff) {
		t.Helper()
		d, err := w.node.DiffSnapshots(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range d.Suites {
			for _, p := range s.Packages {
				changes = append(changes, p.Change+" "+p.Name)
			}
		}
		return changes, d
	}
	for _, plan := range []admin.DiffPlan{{Before: "before", After: "after"}, {Before: "stable", After: "live"}, {Before: epoch.Add(time.Second).Format("20060102T150405Z"), After: "after"}, {Before: "stable", After: "live", Archives: []string{"ubuntu"}, Suites: []string{"nob*"}}} {
		changes, d := diff(plan)
		if !slices.Equal(changes, []string{"added new", "upgraded small"}) || d.Bytes == 0 || d.Gone == 0 || d.Bytes <= d.Gone {
			t.Errorf("%+v: %q, %d and %d bytes", plan, changes, d.Bytes, d.Gone)
		}
		if used := d.Suites[0].Packages[1].Used; time.Since(used) > 20*time.Minute {
			t.Errorf("a host took it at %v", used)
		}
	}
	if changes, _ := diff(admin.DiffPlan{Before: "before", After: "after", Used: true}); !slices.Equal(changes, []string{"upgraded small"}) {
		t.Errorf("used: %q", changes)
	}
	if changes, _ := diff(admin.DiffPlan{Before: "after", After: "before"}); !slices.Equal(changes, []string{"removed new", "downgraded small"}) {
		t.Errorf("backwards: %q", changes)
	}
	if changes, d := diff(admin.DiffPlan{Before: "after", After: "live"}); len(changes) > 0 || len(d.Suites) != 1 {
		t.Errorf("the same: %q", changes)
	}
	if changes, d := diff(admin.DiffPlan{Before: "before", After: "after", Suites: []string{"other"}}); len(changes) > 0 || len(d.Suites) > 0 {
		t.Errorf("another suite: %q", changes)
	}
	for _, plan := range []admin.DiffPlan{{Before: "20200101T000000Z", After: "after"}, {Before: "none", After: "after"}, {Before: "before", After: "after", Archives: []string{"none"}}, {Before: "before", After: "after", Suites: []string{"["}}} {
		if _, err := w.node.DiffSnapshots(t.Context(), plan); err == nil {
			t.Errorf("%+v is answered", plan)
		}
	}
}

// What will become of a snapshot is said when it is taken, and when it is shown.
func TestSnapshotPredictions(t *testing.T) {
	ends := time.Now().Add(30 * 24 * time.Hour).Truncate(time.Second).UTC()
	key := testarchive.NewKey("ending", testarchive.KeyOptions{Expires: ends})
	a := newArchive(func(s *testarchive.Suite) { s.Keys = []*testarchive.Key{key} })
	for _, name := range []string{"noble-security", "noble-updates", "noble-proposed"} {
		s := testarchive.Suite{Name: name, Compressions: []string{".xz"}}
		if name == "noble-updates" {
			s.ValidFor = 7 * 24 * time.Hour
		}
		a.AddSuite(s)
	}
	for name, percent := range map[string]string{"halted": "0", "slow": "20"} {
		a.AddPackage("noble-updates", testarchive.Package{Name: name, Version: "1", Fields: []string{"Phased-Update-Percentage: " + percent}})
	}
	a.Publish(epoch)
	w := newWorld(t, a)
	w.update()
	for _, suite := range []string{"noble-security", "noble-updates", "noble-proposed"} {
		w.mustGet("dists/" + suite + "/InRelease")
		w.mustGet("dists/" + suite + "/main/binary-amd64/Packages.xz")
	}
	w.mustGet(smallDeb)
	s, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "w48", Suites: []string{"noble", "noble-updates", "noble-proposed"}})
	if err != nil {
		t.Fatal(err)
	}
	said := func(s []string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if n := len(slices.DeleteFunc(slices.Clone(s), func(w string) bool { return !strings.Contains(w, part) })); n != 1 {
				t.Errorf("%q is said %d times: %q", part, n, s)
			}
		}
		if len(s) != len(parts) {
			t.Errorf("%d sentences, want %d: %q", len(s), len(parts), s)
		}
	}
	parts := []string{
		"hosts refuse ubuntu/dists/noble from " + ends.Format(time.DateTime) + " on",
		"apt refuses ubuntu/dists/noble-updates from " + epoch.Add(7*24*time.Hour).Format(time.DateTime) + " on",
		"withdrawn, and that no host installs (unless it includes all phased updates): halted",
		"(Phased-Update-Percentage): slow",
		"ubuntu/dists/noble-proposed has packages that nobody has tested",
		"ubuntu/dists/noble-security is not in it",
	}
	said(s.Warnings, parts...)
	shown, err := w.node.ShowSnapshot(t.Context(), "w48")
	if err != nil {
		t.Fatal(err)
	}
	said(shown.Warnings, parts...)
	for _, suite := range shown.Suites {
		want := map[string]time.Time{"ubuntu/dists/noble": ends, "ubuntu/dists/noble-updates": epoch.Add(7 * 24 * time.Hour)}[suite.Suite]
		if !suite.AcceptedUntil.Equal(want) || suite.Signer == "" {
			t.Errorf("%+v, want %v", suite, want)
		}
	}
	if shown.Own != 0 || shown.Bytes == 0 {
		t.Errorf("all of it is current: own %d of %d", shown.Own, shown.Bytes)
	}
	// The archive moves on, and another snapshot needs the rest.
	w.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: "1", Size: 100})
	w.archive.Publish(epoch.Add(time.Minute), "noble")
	if _, err := w.node.Refresh(t.Context(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	if shown, err = w.node.ShowSnapshot(t.Context(), "w48"); err != nil || shown.Own == 0 || shown.Own == shown.Bytes {
		t.Errorf("own %d of %d, %v", shown.Own, shown.Bytes, err)
	}
	if _, err := w.node.ShowSnapshot(t.Context(), "none"); err == nil {
		t.Error("an unknown name is shown")
	}
}

// By the rules of the configuration a node takes snapshots and moves channels by itself, also after a reload.
func TestScheduledSnapshots(t *testing.T) {
	rule := keys.New[snapshotconf.Auto]()
	rule.Name, rule.At, rule.Into = "d{year}{month}{day}", "00:00 UTC", "canary"
	w := newWorld(t, newArchive(), func(cfg *config.Config) { cfg.Snapshots.Schedule.Auto = []snapshotconf.Auto{rule} })
	w.update()
	w.node.TendSnapshots()
	list, err := w.node.Snapshots("")
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Name, "d20") || list[0].By != "schedule" {
		t.Fatalf("%+v, %v", list, err)
	}
	if c := w.node.Channels(); len(c) != 1 || c[0].Name != "canary" || c[0].Target != list[0].Name {
		t.Fatalf("%+v", c)
	}
	if r := w.getFrom("canary", inRelease); r.status != 200 || string(r.body) != string(w.file(inRelease)) {
		t.Errorf("canary: %d", r.status)
	}
	next := *w.cfg
	next.Snapshots.Schedule.Promote = []snapshotconf.Promote{{From: "canary", To: "stable"}}
	applied, _, err := w.node.Reload(&next)
	if err != nil || !slices.Contains(applied, "snapshots.promote") {
		t.Fatal(applied, err)
	}
	w.eventually("stable follows", func() bool { // the clock of acts is a second ahead
		w.node.TendSnapshots()
		c := w.node.Channels()
		return len(c) == 2 && c[1].Name == "stable" && c[1].Target == list[0].Name
	})
}

// getFrom asks for a file of a snapshot.
func (w *world) getFrom(id, path string) result {
	r, err := w.client.Get("http://" + w.node.Addrs()[0] + "/snapshot/ubuntu/" + id + "/" + path)
	if err != nil {
		return result{err: err}
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return result{r.StatusCode, r.Header, body, err}
}
