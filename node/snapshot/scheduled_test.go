package snapshot

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

var weekly = snapshotconf.Settings{
	Auto:    []snapshotconf.Auto{{Name: "w{isoyear}-{isoweek}", At: "Mon 04:00 UTC", Archives: []string{"ubuntu"}, Keep: 3, Into: "canary"}},
	Promote: []snapshotconf.Promote{{From: "canary", To: "stable", After: 72 * time.Hour}},
}

// scheduled are nodes that act by themselves, with the clock of a bubble. It begins on a Saturday: the first of January 2000.
type scheduled struct {
	*nodes
	failing atomic.Bool // n1
}

func newScheduled(t *testing.T, names ...string) *scheduled {
	s := &scheduled{nodes: newNodes(t, names...)}
	every := tendEvery
	t.Cleanup(func() { tendEvery = every })
	for _, w := range s.all {
		w.Close()
	}
	tendEvery = 10 * time.Minute
	for name, w := range s.all {
		w.cfg.Now = time.Now
		w.cfg.Schedule = Schedule{
			Rules: func() snapshotconf.Settings { return weekly },
			Take: func(ctx context.Context, name string, rule snapshotconf.Auto, as Plan) error {
				as.Archives, as.Hold = rule.Archives, rule.Hold
				_, _, err := w.Create(ctx, name, as)
				return err
			},
			Failing: func() bool { return name == "n1" && s.failing.Load() },
		}
		w.start()
		t.Cleanup(func() { w.Close() })
	}
	s.agree() // as before a node is ready
	return s
}

func (s *scheduled) at(name string) (all string) {
	for _, c := range s.all[name].Channels() {
		all += c.Name + "=" + c.Target + " "
	}
	return all
}

func (s *scheduled) names(name string) (all []string) {
	for _, snapshot := range s.all[name].List() {
		all = append(all, snapshot.Name)
	}
	return all
}

// The first node takes a snapshot each week and moves channels; the others follow, and take over when it is gone.
func TestSchedule(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newScheduled(t, "n1", "n2", "n3")
		is := func(when string, snapshots []string, channels string) {
			t.Helper()
			for name := range s.all {
				if got := s.names(name); !slices.Equal(got, snapshots) || s.at(name) != channels {
					t.Fatalf("%s, %s has %q and %s, want %q and %s", when, name, got, s.at(name), snapshots, channels)
				}
			}
		}
		time.Sleep(12 * time.Minute)
		is("at once", []string{"w1999-52"}, "canary=w1999-52 ")
		if by := s.all["n3"].List()[0]; by.Node != "n1" || by.By != "schedule" || by.Record.Rule == "" {
			t.Errorf("taken by %+v", by)
		}
		time.Sleep(3*24*time.Hour - 13*time.Minute) // it is Monday night
		is("before its time", []string{"w1999-52", "w2000-01"}, "canary=w2000-01 ")
		time.Sleep(72 * time.Hour)
		is("three days later", []string{"w1999-52", "w2000-01"}, "canary=w2000-01 stable=w2000-01 ")
		s.partition("n1")
		time.Sleep(3*24*time.Hour + 6*time.Hour)
		s.partition()
		s.agree()
		is("both sides took it", []string{"w1999-52", "w2000-01", "w2000-02"}, "canary=w2000-02 stable=w2000-01 ")
		if _, err := s.all["n2"].HoldChannel(t.Context(), "stable", true, "ann"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(14 * 24 * time.Hour)
		is("stable is held", []string{"w2000-01", "w2000-02", "w2000-03", "w2000-04"}, "canary=w2000-04 stable=w2000-01 ")
		if _, err := s.all["n3"].HoldChannel(t.Context(), "stable", false, "ann"); err != nil {
			t.Fatal(err)
		}
		s.failing.Store(true)
		time.Sleep(7 * 24 * time.Hour)
		is("the node fails", []string{"w2000-01", "w2000-03", "w2000-04", "w2000-05"}, "canary=w2000-04 stable=w2000-01 ")
		s.failing.Store(false)
		time.Sleep(12 * time.Minute)
		is("it is well", []string{"w2000-01", "w2000-03", "w2000-04", "w2000-05"}, "canary=w2000-05 stable=w2000-01 ")
		s.partition("n1") // for good
		time.Sleep(7 * 24 * time.Hour)
		s.partition()
		s.agree()
		is("another node has taken over", []string{"w2000-04", "w2000-05", "w2000-06"}, "canary=w2000-06 stable=w2000-05 ")
	})
}

// A snapshot that was made by hand, or taken away by one, is left to the operator.
func TestScheduleMinds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newScheduled(t, "n1", "n2")
		time.Sleep(12 * time.Minute)
		if _, err := s.all["n2"].RemoveChannel(t.Context(), "canary", "ann"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.all["n2"].Remove(t.Context(), "w1999-52", "ann"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if got := s.names("n1"); len(got) != 0 {
			t.Errorf("what an operator removed is taken again: %q", got)
		}
		// What cannot be had whole moves no channel.
		for _, w := range s.all {
			w.mu.Lock()
			w.lacks = []proto.Missing{{Location: proto.Location{Archive: "ubuntu", Path: "x"}, Err: errors.New("gone")}}
			w.mu.Unlock()
		}
		time.Sleep(7 * 24 * time.Hour)
		if got := s.names("n1"); !slices.Equal(got, []string{"w2000-01"}) || s.at("n1") != "" {
			t.Errorf("%q, %s", got, s.at("n1"))
		}
		if failed := s.all["n1"].failedBefore("move the channel canary to w2000-01"); failed == "" {
			t.Error("nothing says why the channel is not moved")
		}
		for _, w := range s.all {
			w.mu.Lock()
			w.lacks = nil
			w.mu.Unlock()
		}
		time.Sleep(12 * time.Minute)
		if got := s.at("n2"); got != "canary=w2000-01 " {
			t.Error(got)
		}
		if failed := s.all["n1"].failedBefore("move the channel canary to w2000-01"); failed != "" {
			t.Error(failed)
		}
		// Rolled back is rolled back.
		if _, err := s.all["n1"].SetChannel(t.Context(), "canary", "live", Order{By: "ann"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if got := s.at("n2"); got != "canary=live " {
			t.Error(got)
		}
	})
}
