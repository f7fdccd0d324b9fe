package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A moment is served from the generations that were the newest then: those that are retained, and those of snapshots up to when
// they were taken. Between them nobody knows.
func TestMoments(t *testing.T) {
	w := newWorld(t) // generation 1 is of 12:00
	w.now = w.now.Add(10 * time.Minute)
	w.create("w1", "ubuntu") // at 12:10
	for range 4 {            // at 13:10, 14:10, …
		w.publish("ubuntu")
	}
	root := proto.Location{Archive: "ubuntu", Path: "dists/noble/InRelease"}
	ask := func(hour, minute int) (string, proto.Resolution, error) {
		id := time.Date(2026, 3, 1, hour, minute, 0, 0, time.UTC).Format(momentForm)
		if !w.Known(id, "ubuntu") {
			_, err := w.Keeper.Discover(t.Context(), id, root, false)
			if !errors.Is(err, proto.ErrNotFound) {
				t.Errorf("%s is not known, and answers with %v", id, err)
			}
			return id, proto.Resolution{}, err
		}
		e, ok := w.Keeper.Resolve(id, root)
		if !ok {
			var err error
			if e, err = w.Keeper.Discover(t.Context(), id, root, false); err != nil {
				return id, e, err
			}
		}
		return id, e, nil
	}
	is := func(want map[string]int) {
		t.Helper()
		for at, n := range want {
			var hour, minute int
			fmt.Sscanf(at, "%d:%d", &hour, &minute)
			id, e, err := ask(hour, minute)
			if held, _ := w.heldAt(id, "ubuntu"); n > 0 && held.record.Taken.Before(w.dates["ubuntu"][n-1]) {
				t.Errorf("at %s: it is to be verified as of %v", at, held.record.Taken)
			}
			if (err != nil) != (n == 0) || n > 0 && e.Object.Ref != rootOf("ubuntu", n) || w.Whole(id, "ubuntu") != (n > 0) {
				t.Errorf("at %s: %v, %v, whole %v; want the generation %d", at, e.Object.Ref, err, w.Whole(id, "ubuntu"), n)
			}
		}
	}
	held := map[string]int{"11:59": 0, "12:00": 1, "12:10": 1, "12:11": 0, "15:09": 0, "15:10": 4, "16:09": 4, "16:10": 5, "16:11": 0} // 16:11 lies ahead
	is(held)
	w.restart()
	is(held)
	if _, e, _ := ask(15, 30); !e.Mutable || e.Snapshot != "" {
		t.Errorf("what was published lately: %+v", e)
	}
	// What is not held any more is not answered for, though it is open.
	w.publish("ubuntu")
	is(map[string]int{"15:30": 0, "16:30": 5})
	w.now = w.now.Add(48 * time.Hour)
	is(map[string]int{"12:05": 1})
	if _, e, _ := ask(12, 5); e.Mutable {
		t.Error("what was published long ago may change")
	}
	for _, id := range []string{"20260301", "20260301T120000", "20261301T120000Z", "20260301T120000Z~"} {
		if w.Known(id, "ubuntu") || !w.Whole(id, "ubuntu") {
			t.Errorf("%s is a moment", id)
		}
	}
	if w.Known("20260301T120000Z", "other") {
		t.Error("of an archive that there is not")
	}
	// Clients may ask for any moment.
	for i := range 3 * maxMoments {
		w.Known(w.now.Add(-time.Duration(i)*time.Second).Format(momentForm), "ubuntu")
	}
	if n := len(w.moments); n > maxMoments {
		t.Errorf("%d moments are remembered", n)
	}
}

// A suite of which nothing is held does not keep the others from being served.
func TestMomentOfSomeSuites(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.Add(time.Minute)
	if _, _, err := w.Create(t.Context(), "w1", Plan{Archives: []string{"ubuntu"}, Suites: []string{"noble"}}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		w.publish("ubuntu")
	}
	// A snapshot may be taken of a moment later, as far as all of it is held.
	at := w.dates["ubuntu"][3].Add(time.Second)
	for range 2 {
		if _, _, err := w.Create(t.Context(), "then", Plan{Archives: []string{"ubuntu"}, At: at}); err != nil && !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
		w.gives("then", "ubuntu", 4)
		w.publish("ubuntu")
	}
	for _, s := range w.List() {
		if s.Name == "then" && !s.Record.Taken.Equal(at) {
			t.Errorf("it is of %v", s.Record.Taken)
		}
	}
	early := w.dates["ubuntu"][0].Add(30 * time.Second)
	for want, plan := range map[string]Plan{
		"does not hold ubuntu/dists/noble-security as of 20260301T120030Z": {Archives: []string{"ubuntu"}, At: early},
		"lies ahead":        {Archives: []string{"ubuntu"}, At: w.now.Add(time.Hour)},
		"has no suite here": {Archives: []string{"ubuntu"}, At: early, Suites: []string{"other"}},
	} {
		if _, _, err := w.Create(t.Context(), "x", plan); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, _, err := w.Create(t.Context(), "early", Plan{Archives: []string{"ubuntu"}, At: early, Suites: []string{"noble"}}); err != nil {
		t.Fatal(err)
	}
	w.gives("early", "ubuntu", 1)
	if id := "20260301T120030Z"; !w.Known(id, "ubuntu") || w.Whole(id, "ubuntu") {
		t.Errorf("known %v, whole %v", w.Known(id, "ubuntu"), w.Whole(id, "ubuntu"))
	}
}
