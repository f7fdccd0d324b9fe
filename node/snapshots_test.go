package node_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
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
	for _, plan := range []admin.DiffPlan{{Before: "before", After: "after"}, {Before: "stable", After: "live"}, {Before: "stable", After: "live", Archives: []string{"ubuntu"}, Suites: []string{"nob*"}}} {
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
	for _, plan := range []admin.DiffPlan{{Before: "none", After: "after"}, {Before: "before", After: "after", Archives: []string{"none"}}, {Before: "before", After: "after", Suites: []string{"["}}} {
		if _, err := w.node.DiffSnapshots(t.Context(), plan); err == nil {
			t.Errorf("%+v is answered", plan)
		}
	}
}
