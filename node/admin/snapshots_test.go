package admin

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// What a client asks of snapshots and channels reaches the node as it was said, and so does the answer.
func TestSnapshotRequests(t *testing.T) {
	s, f := listenAt(t, func(*Config) {})
	c, err := NewClient("unix:"+s.Socket(), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	created, err := c.CreateSnapshot(ctx, SnapshotPlan{Name: "w48", At: time.Unix(1e9, 0).UTC(), Archives: []string{"ubuntu", "debian"}, Suites: []string{"noble*", "b&=c"}, Note: "why?", By: "ann", Expires: 36 * time.Hour})
	want := &SnapshotResult{Snapshot: Snapshot{Name: "w48", Note: "why? by ann for 36h0m0s", Taken: time.Unix(1e9, 0).UTC(), Suites: []SnapshotSuite{{Suite: "ubuntu,debian/noble*,b&=c"}}}}
	if err != nil || !reflect.DeepEqual(created, want) {
		t.Errorf("created %+v, %v", created, err)
	}
	if list, err := c.Snapshots(ctx, ""); err != nil || len(list) != 1 || list[0].Name != "w48" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := c.Snapshots(ctx, "other"); err == nil || err.Error() != "there is no such snapshot" {
		t.Error(err)
	}
	if list, err := c.RemovedSnapshots(ctx); err != nil || len(list) != 1 || list[0].Name != "w47" {
		t.Errorf("%v, %v", list, err)
	}
	if s, err := c.ShowSnapshot(ctx, "w&48"); err != nil || s.Name != "w&48" || len(s.Warnings) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	d, err := c.DiffSnapshots(ctx, DiffPlan{Before: "w48", After: "live", Archives: []string{"a", "b"}, Suites: []string{"x&y"}, Used: true})
	if wanted := (&Diff{Before: "w48", After: "live", Suites: []SuiteDiff{{Suite: "[a b] [x&y] true"}}}); err != nil || !reflect.DeepEqual(d, wanted) {
		t.Errorf("differs %+v, %v", d, err)
	}
	query := HostQuery{ID: "stable", Archives: []string{"a&b"}, Suites: []string{"noble*", "x"}}
	if list, err := c.HostArchives(ctx, query); err != nil || len(list) != 1 || list[0].Name != fmt.Sprintf("%#v", query) {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := c.Channels(ctx); err != nil || len(list) != 1 || list[0].Name != "stable" {
		t.Errorf("%v, %v", list, err)
	}
	live, none, kept := ChannelOrder{By: "ann", Live: []string{"*-security", "a&b"}, Now: true}, ChannelOrder{By: "ann", Live: []string{}}, ChannelOrder{By: "ann"}
	text := func(o ChannelOrder) string { return fmt.Sprintf("%#v", o) }
	for what, act := range map[string]func() (any, error){
		"set":      func() (any, error) { return c.SetChannel(ctx, "stable", "w48", live) },
		"promote":  func() (any, error) { return c.Promote(ctx, "canary", "stable", none) },
		"rollback": func() (any, error) { return c.Rollback(ctx, "stable", kept) },
		"remove":   func() (any, error) { return c.RemoveChannel(ctx, "stable", "ann") },
		"restore":  func() (any, error) { return c.RestoreSnapshot(ctx, "w47", "w47-again", "ann") },
		"hold":     func() (any, error) { return c.HoldChannel(ctx, "stable", true, "ann") },
		"release":  func() (any, error) { return c.HoldChannel(ctx, "stable", false, "ann") },
		"rm":       func() (any, error) { return c.RemoveSnapshot(ctx, "w48", "ann") },
	} {
		want := map[string]any{
			"set": &ChannelMove{From: "stable", To: "w48", By: text(live)}, "promote": &ChannelMove{From: "stable", To: "of canary", By: text(none)},
			"rollback": &ChannelMove{From: "stable", To: "back", By: text(kept)}, "remove": &Done{Message: "stable by ann"}, "hold": &Done{Message: "stabletrueann"}, "release": &Done{Message: "stablefalseann"},
			"restore": &SnapshotResult{Snapshot: Snapshot{Name: "w47-again", Note: "w47 by ann"}}, "rm": &Done{Message: "w48 by ann"},
		}[what]
		before := f.changes
		if got, err := act(); err != nil || !reflect.DeepEqual(got, want) || f.changes != before+1 {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}
