package catalog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// A suite that a client asked for and did not get is failing until it works, or until no client has
// asked for a day. Nobody asks upstream for it meanwhile.
func TestAskedForInVain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
		w.publish()
		down := errors.New("no route to host")
		w.up.setFault(func(context.Context, string) error { return down })
		w.open()
		failing := func() error {
			for _, st := range w.Stats() {
				if st.Suite == noble() {
					return st.Err
				}
			}
			return nil
		}
		served := func() (value float64, there bool) { return gaugeOf(t, w.Catalog, "aptmesh_archive_served") }
		if _, err := w.get(nobleIn); err == nil {
			t.Fatal("upstream is down, and the root is there")
		}
		since := time.Now()
		for _, passed := range []time.Duration{0, time.Minute, 6 * time.Hour, 23 * time.Hour} {
			time.Sleep(time.Until(since.Add(passed)))
			w.rest()
			if err := failing(); !errors.Is(err, down) {
				t.Errorf("after %v the suite is failing with: %v", passed, err)
			}
			if err := w.Objection(w.loc(nobleIn)); err == nil {
				t.Errorf("after %v nothing is known to be wrong", passed)
			}
			if v, there := served(); v != 0 || !there {
				t.Errorf("after %v aptmesh_archive_served is %v, %v", passed, v, there)
			}
		}
		time.Sleep(2 * time.Hour)
		if err := failing(); err != nil {
			t.Errorf("nobody has asked for a day: %v", err)
		}

		if _, err := w.get(nobleIn); err == nil {
			t.Fatal("upstream is down, and the root is there")
		}
		time.Sleep(time.Hour)
		w.up.setFault(nil)
		w.must(nobleIn)
		if err := failing(); err != nil {
			t.Errorf("it works: %v", err)
		}
		if v, there := served(); v != 1 || !there {
			t.Errorf("aptmesh_archive_served is %v, %v", v, there)
		}
	})
}

// What the catalog guesses for a file that lies anywhere is nothing that a client asked for.
func TestGuessesDoNotFail(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		if e, err := w.get("tools/x_1_amd64.deb"); err != nil || e.Listed {
			t.Fatalf("%+v, %v", e, err)
		}
		time.Sleep(5 * time.Second)
		if all := w.Stats(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
}

// An operator can have a failure forgotten, and there are never many.
func TestFailuresAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
		w.publish()
		w.open()
		name := func(i int) string { return "dists/made" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }
		for i := range 2 * maxFailing {
			_, _ = w.get(name(i) + "/InRelease")
			time.Sleep(2 * time.Second)
		}
		if n := len(w.Stats()); n > maxFailing {
			t.Errorf("%d suites", n)
		}
		last := proto.Suite{Archive: "a", Dir: name(2*maxFailing - 1)}
		if err := w.Drop(last); err != nil {
			t.Error(err)
		}
		for _, st := range w.Stats() {
			if st.Suite == last {
				t.Errorf("it was dropped: %v", st.Err)
			}
		}
	})
}

// gaugeOf is the value of a metric of one series.
func gaugeOf(t *testing.T, c *Catalog, name string) (value float64, there bool) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(suiteCollector{c})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue(), true
		}
	}
	return 0, false
}
