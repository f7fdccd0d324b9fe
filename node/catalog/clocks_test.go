package catalog

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// wallClock is a node's clock, off from the true one by so much.
type wallClock struct{ off atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

func (c *wallClock) step(d time.Duration) { c.off.Add(int64(d)) }

// clockedWorld is usedWorld with a clock of its own.
func clockedWorld(t *testing.T) (*world, *wallClock) {
	t.Helper()
	w, clock := nobleWorld(t), new(wallClock)
	w.cfg.Now = clock.now
	w.publish()
	w.open()
	w.must(nobleIn)
	w.use(noblePkgs, nobleTrans)
	time.Sleep(2 * time.Second)
	return w, clock
}

// A clock that steps while the node runs stops no check and forgets nothing: what is published is adopted within an
// interval, refresh does not hang, and what hosts are told of freshness stays true.
func TestClockSteps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, step := range map[string]time.Duration{
		"two hours back": -2 * time.Hour, "a day back": -24 * time.Hour, "two hours forward": 2 * time.Hour, "a year forward": year,
	} {
		inNamedBubble(t, name, func(t *testing.T) {
			w, clock := clockedWorld(t)
			w.upgrade()
			w.switches()
			if st := w.Stats()[0]; st.Retained != 1 {
				t.Fatalf("%d retained", st.Retained)
			}
			time.Sleep(10 * time.Minute)
			w.must(nobleIn)
			clock.step(step)
			time.Sleep(10 * time.Minute)
			w.must(nobleIn)
			if st := w.Stats()[0]; st.Retained != 1 || st.Stale != "" || st.Err != nil || !st.Watched || len(st.Staged) != 2 {
				t.Errorf("after the step: %d retained, stale %q, error %v, watched %v, staged %v", st.Retained, st.Stale, st.Err, st.Watched, st.Staged)
			}
			w.must(hello1) // of the superseded generation
			if step > -time.Hour {
				w.upgradeAgain()
				start := time.Now()
				if _, err := w.refresh(); err != nil || time.Since(start) > 10*time.Second {
					t.Errorf("refresh: %v after %v", err, time.Since(start))
				}
				w.listedAs(nobleIn, w.file(nobleIn))
				time.Sleep(time.Minute)
			}
			// And without anybody who asks.
			w.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
			w.a.Publish(time.Now().Add(-time.Second))
			clock.step(-step) // it is set right again
			time.Sleep(2 * time.Minute)
			w.listedAs(nobleIn, w.file(nobleIn))
			if st := w.Stats()[0]; st.Stale != "" || st.Err != nil {
				t.Errorf("stale %q, error %v", st.Stale, st.Err)
			}
		})
	}
}

// A node whose clock is behind takes what is published now for dated ahead. It says so, with both times, and goes on with
// what is held; when the clock is right again, that is adopted.
func TestClockBehindWhilePublishing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, clock := clockedWorld(t)
		current := w.file(nobleIn)
		clock.step(-2 * time.Hour)
		w.upgrade()
		for range 5 {
			time.Sleep(time.Minute)
			w.listedAs(nobleIn, current)
		}
		st := w.Stats()[0]
		if st.Err == nil || !strings.Contains(st.Err.Error(), "ahead of this node's clock") || !strings.Contains(st.Err.Error(), clock.now().UTC().Format("2006-01-02T15")) {
			t.Errorf("the status does not say what is wrong with which clock: %v", st.Err)
		}
		clock.step(2 * time.Hour)
		time.Sleep(2 * time.Minute)
		w.listedAs(nobleIn, w.file(nobleIn))
		w.must(hello2)
	})
}

// A start with a clock that is years off forgets nothing: what was held is served again once the clock is right, with
// upstream down; until then no older root is let in.
func TestStartWithAWrongClock(t *testing.T) {
	for name, wrong := range map[string]time.Duration{
		"1970":                 -time.Duration(day.Unix()) * time.Second,
		"ten years behind":     -10 * 365 * 24 * time.Hour,
		"an hour behind":       -time.Hour,
		"ten years ahead":      10 * 365 * 24 * time.Hour,
		"a century ahead":      100 * 365 * 24 * time.Hour,
		"right, as comparison": 0,
	} {
		for _, down := range []bool{true, false} {
			inNamedBubble(t, name, func(t *testing.T) {
				w, clock := clockedWorld(t)
				first := w.file(nobleIn)
				time.Sleep(2 * time.Second)
				w.upgrade()
				w.switches()
				current := w.file(nobleIn)
				w.must(hello2)
				clock.step(wrong)
				switch {
				case down:
					w.up.failing("", &proto.Unavailable{Reason: "down"})
				default:
					w.a.Show("noble", testarchive.At(0)) // a mirror that plays back what is old
				}
				w = w.crash()
				time.Sleep(5 * time.Minute)
				if e, err := w.get(nobleIn); err == nil && e.Object.Ref == refOfBytes(first) {
					t.Fatal("it went back")
				}
				w.keeper.evict() // the store is short of space meanwhile
				w.Close()        // and it stops in good order, and writes down what it knows
				w = w.crash()
				time.Sleep(time.Minute)
				w.get(nobleIn)

				clock.step(-wrong) // NTP sets it right
				time.Sleep(time.Second)
				w.listedAs(nobleIn, current)
				if time.Sleep(tidyEvery); !down {
					w.a.Show("noble", testarchive.At(1))
					time.Sleep(2 * time.Minute)
				}
				w.listedAs(nobleIn, current)
				w.must(hello2)
				if e, ok := w.Resolve(w.loc(noblePkgs)); !ok || e.Object.Ref != refOfBytes(w.file(noblePkgs)) && !down {
					t.Errorf("the index: %+v, %v", e, ok)
				}
				if st := w.Stats()[0]; st.Retained != 1 || len(st.Staged) != 2 || st.Notice != "" {
					t.Errorf("%d retained, staged %v, notice %q", st.Retained, st.Staged, st.Notice)
				}
			})
		}
	}
}

// While the clock is wrong, the status says that this is what is wrong.
func TestWrongClockIsNamed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, clock := clockedWorld(t)
		clock.step(-time.Duration(day.Unix()) * time.Second)
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w = w.crash()
		w.rest()
		found := false
		for _, st := range w.Stats() {
			found = found || strings.Contains(st.Notice, "clock")
		}
		if !found {
			t.Errorf("%+v", w.Stats())
		}
	})
}

// The bytes of what was newest are lost, wholly or in part: the date is not, and an older root is refused until an operator
// lets it in; a newer one is welcome.
func TestRollbackProtectionOutlivesTheBytes(t *testing.T) {
	for name, lose := range map[string]func(w *world){
		"the root": func(w *world) { delete(w.keeper.blobs, proto.DigestOf(w.file(nobleIn))) },
		"all":      func(w *world) { clear(w.keeper.blobs) },
		"the root, damaged": func(w *world) {
			w.keeper.blobs[proto.DigestOf(w.file(nobleIn))] = []byte("not what it was")
		},
	} {
		inNamedBubble(t, name, func(t *testing.T) {
			w := usedWorld(t)
			time.Sleep(time.Minute)
			w.upgrade()
			w.switches()
			newest := w.file(nobleIn)
			lose(w)
			w.a.Show("noble", testarchive.At(0))
			w = w.crash()
			for range 3 {
				if e, err := w.get(nobleIn); err == nil {
					t.Fatalf("an older root is served: of %v", e.Generation)
				} else if !strings.Contains(err.Error(), "older than ours") {
					t.Errorf("it does not say why: %v", err)
				}
				time.Sleep(10 * time.Minute) // and the suite may be reaped meanwhile
				w.Close()
				w = w.crash()
			}
			w.a.Show("noble", testarchive.At(1))
			time.Sleep(2 * time.Second)
			w.listedAs(nobleIn, newest)
			w.use(noblePkgs)
			w.must(hello2)
		})
		inNamedBubble(t, name+", and the operator", func(t *testing.T) {
			w := usedWorld(t)
			time.Sleep(time.Minute)
			w.upgrade()
			w.switches()
			lose(w)
			w.a.Show("noble", testarchive.At(0))
			w = w.crash()
			w.get(nobleIn)
			time.Sleep(2 * time.Second)
			if _, err := w.Refresh(t.Context(), noble(), true); err != nil {
				t.Fatal(err)
			}
			w.listedAs(nobleIn, w.file(nobleIn))
		})
	}
}
