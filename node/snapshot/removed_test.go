package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A snapshot that was removed can be had back for a day, under its name or another one, on any node.
func TestRestore(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	w, other := n.all["n1"], n.all["n2"]
	w.create("w48", "ubuntu")
	w.publish("ubuntu")
	if _, err := w.Remove(t.Context(), "w48", "root"); err != nil {
		t.Fatal(err)
	}
	if r := other.Removed(); len(r) != 1 || r[0].Name != "w48" || r[0].Until.Sub(r[0].At) != graceFor || r[0].Orphaned {
		t.Errorf("removed: %+v", r)
	}
	other.restart()
	s, missing, err := other.Restore(t.Context(), "w48", "", "ann")
	if err != nil || len(missing) > 0 || s.Name != "w48" || s.By != "ann" {
		t.Fatalf("%+v, %v, %v", s, missing, err)
	}
	n.agree()
	w.gives("w48", "ubuntu", 1)
	if r := w.Removed(); len(r) != 0 {
		t.Errorf("it is back, and still called removed: %+v", r)
	}
	if _, _, err := w.Restore(t.Context(), "w48", "", "ann"); !errors.Is(err, ErrUnknown) {
		t.Errorf("restored twice: %v", err)
	}
	// The name has been given again meanwhile.
	if _, err := w.Remove(t.Context(), "w48", "root"); err != nil {
		t.Fatal(err)
	}
	w.create("w48", "ubuntu")
	if _, _, err := w.Restore(t.Context(), "w48", "", "ann"); !errors.Is(err, ErrExists) {
		t.Errorf("the name is taken: %v", err)
	}
	if _, _, err := w.Restore(t.Context(), "w48", "w48-again", "ann"); err != nil {
		t.Error(err)
	}
	w.gives("w48", "ubuntu", 2)
	w.gives("w48-again", "ubuntu", 1)
	if _, err := w.Remove(t.Context(), "w48-again", "root"); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(graceFor + time.Minute) // the hybrid clock is ahead of this one
	w.Tend()
	if _, _, err := w.Restore(t.Context(), "w48-again", "", "ann"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a day later: %v", err)
	}
}

// One of two snapshots of one name is restored by its mark.
func TestRestoreMarked(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	n.partition("n1")
	n.all["n1"].create("w48", "ubuntu")
	n.all["n2"].publish("ubuntu")
	n.all["n2"].create("w48", "ubuntu")
	n.partition()
	n.agree()
	w := n.all["n1"]
	older := w.List()[1].Name
	if !strings.HasPrefix(older, "w48~") {
		t.Fatal(older)
	}
	for _, name := range []string{older, "w48"} {
		if _, err := w.Remove(t.Context(), name, "root"); err != nil {
			t.Fatal(err)
		}
	}
	n.agree()
	if _, _, err := n.all["n2"].Restore(t.Context(), older, "older", "ann"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.all["n2"].Restore(t.Context(), "w48", "", "ann"); err != nil {
		t.Fatal(err)
	}
	for _, w := range n.all {
		w.gives("older", "ubuntu", 1)
		w.gives("w48", "ubuntu", 2)
	}
}

// A snapshot ends by itself, on one node's word, unless a channel stands for it.
func TestExpires(t *testing.T) {
	n := newNodes(t, "n1", "n2", "n3")
	create := func(name string) {
		t.Helper()
		s, _, err := n.all["n2"].Create(context.Background(), name, Plan{Archives: []string{"ubuntu"}, Note: name, Expires: 120 * 24 * time.Hour})
		if err != nil || s.Record.Expires.Sub(s.Record.Taken) != 120*24*time.Hour {
			t.Fatal(s, err)
		}
	}
	create("w48")
	create("w49")
	n.all["n1"].create("kept", "ubuntu")
	if _, err := n.all["n3"].SetChannel(t.Context(), "stable", "w48", Order{}); err != nil {
		t.Fatal(err)
	}
	names := func(w *world) (all []string) {
		for _, s := range w.List() {
			all = append(all, s.Name)
		}
		return all
	}
	later := func(d time.Duration) {
		for range d / (24 * time.Hour) { // nobody is away
			for _, w := range n.all {
				w.now = w.now.Add(24 * time.Hour)
			}
			n.agree()
		}
	}
	later(119 * 24 * time.Hour)
	for _, w := range n.all {
		w.Tend()
	}
	if got := names(n.all["n1"]); len(got) != 3 {
		t.Fatalf("a day before: %q", got)
	}
	later(2 * 24 * time.Hour)
	for _, w := range []string{"n2", "n3"} {
		if n.all[w].Tend(); len(n.all[w].List()) != 3 {
			t.Errorf("%s removes it, and is not the first", w)
		}
	}
	n.all["n1"].Tend()
	for name, w := range n.all {
		if got := names(w); !slices.Equal(got, []string{"kept", "w48"}) {
			t.Errorf("%s has %q", name, got)
		}
		if e := w.expired(); len(e) != 1 || e[0].Name != "w48" || e[0].Channel != "stable" {
			t.Errorf("%s: expired %+v", name, e)
		}
	}
	if _, err := n.all["n2"].SetChannel(t.Context(), "stable", "live", Order{}); err != nil {
		t.Fatal(err)
	}
	n.all["n1"].Tend()
	if got := names(n.all["n3"]); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("no channel stands for it: %q", got)
	}
	if r := n.all["n3"].Removed(); len(r) != 2 {
		t.Errorf("it cannot be restored: %+v", r)
	}
}

// While nodes do not see each other, one removes a snapshot and another one moves a channel to it. Hosts of the channel go on
// getting it.
func TestRemovalCrossesMove(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	n.all["n1"].create("w48", "ubuntu")
	n.all["n1"].publish("ubuntu")
	n.partition("n1")
	if _, err := n.all["n1"].Remove(t.Context(), "w48", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.all["n2"].SetChannel(t.Context(), "stable", "w48", Order{}); err != nil {
		t.Fatal(err)
	}
	n.partition()
	n.agree()
	for range 3 {
		for name, w := range n.all {
			w.knowsNot("w48", "ubuntu")
			if generation, _ := w.gets("stable", "dists/noble/InRelease"); generation != 0 && generation != 1 {
				t.Errorf("%s: stable is of %d", name, generation)
			}
			w.gives("stable", "ubuntu", 1)
			if len(w.pins) != 1 {
				t.Errorf("%s pins %v", name, w.pins)
			}
			w.now = w.now.Add(graceFor)
			w.Tend()
			w.restart()
		}
		n.agree()
	}
	if _, err := n.all["n1"].SetChannel(t.Context(), "canary", "w48", Order{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("another channel is moved to what was removed: %v", err)
	}
	for _, w := range n.all {
		if told := w.Stats().Troubles; len(told) != 1 || !strings.HasPrefix(told[0], "the channel stable leads to w48, which was removed: it is served") {
			t.Errorf("it is said: %q", told)
		}
	}
}

// A name that a node gives up, because it was away for so long, is shown and can be had back.
func TestOrphansAreKept(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	w, other := n.all["n1"], n.all["n2"]
	w.create("old", "ubuntu")
	if _, err := w.SetChannel(t.Context(), "stable", "old", Order{}); err != nil {
		t.Fatal(err)
	}
	n.partition("n1")
	if _, err := other.RemoveChannel(t.Context(), "stable", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Remove(t.Context(), "old", "root"); err != nil {
		t.Fatal(err)
	}
	for range 80 {
		for _, w := range n.all {
			w.now = w.now.Add(12 * time.Hour)
		}
		other.met = other.now // it hears of others
		other.Tend()
	}
	other.publish("ubuntu")
	other.create("new", "ubuntu") // so that it has a reason to write, and forgets
	w.restart()
	n.partition()
	n.agree()
	n.agree()
	for range 2 {
		r := w.Removed()
		if len(r) != 2 || !r[0].Orphaned || r[0].Name != "old" || r[1].Kind != "channel" || r[1].Name != "stable" || r[1].Target != "old" {
			t.Fatalf("orphans %+v", r)
		}
		w.knowsNot("old", "ubuntu")
		w.Tend()
		w.restart()
	}
	if len(other.Removed()) != 0 {
		t.Errorf("the other node has %+v", other.Removed())
	}
	if _, _, err := w.Restore(t.Context(), "old", "", "ann"); err != nil {
		t.Fatal(err)
	}
	n.agree()
	other.gives("old", "ubuntu", 1)
	if r := w.Removed(); len(r) != 1 || r[0].Kind != "channel" {
		t.Errorf("after it was restored: %+v", r)
	}
	w.now = w.now.Add(RemovedFor + time.Hour)
	w.met = w.now
	w.create("something", "debian")
	if r := w.Removed(); len(r) != 0 {
		t.Errorf("after its time: %+v", r)
	}
}

// A node that has heard of nobody for long removes nothing by itself: it cannot know what others have moved.
func TestAwayDoesNothing(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	if _, _, err := n.all["n1"].Create(t.Context(), "w48", Plan{Archives: []string{"ubuntu"}, Expires: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	n.partition("n1")
	for _, w := range n.all {
		w.now = w.now.Add(awayFor + time.Hour)
	}
	n.all["n1"].Tend()
	if !n.all["n1"].Known("w48", "ubuntu") {
		t.Error("it removed a snapshot")
	}
	n.partition()
	n.agree()
	n.all["n1"].Tend()
	if n.all["n1"].Known("w48", "ubuntu") || n.all["n2"].Known("w48", "ubuntu") {
		t.Error("it is still there when the nodes have met")
	}
}
