package catalog

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

func TestFirstRequestDiscovers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		if _, ok := w.Resolve(w.loc(nobleIn)); ok {
			t.Fatal("a suite that nobody has read is resolved")
		}
		e := w.listedAs(nobleIn, w.file(nobleIn))
		if !e.Mutable || e.Stale != "" || !e.Modified.Equal(day.Add(-time.Minute)) || !e.Generation.Equal(day.Add(-time.Minute)) {
			t.Errorf("entry %+v", e)
		}
		if _, ok := w.Resolve(w.loc(nobleIn)); !ok {
			t.Error("it is not resolved after it was discovered")
		}
		if n := w.up.bodies(nobleIn); n != 1 {
			t.Errorf("upstream was read %d times", n)
		}
		if e := w.must(noblePkgs); !e.Mutable || e.Object.Class != proto.ClassMetadata || e.Object.Where.Nth(e.Object.Where.Len()-1).Path != noblePkgs ||
			!strings.Contains(e.Object.Where.First.Path, "/by-hash/SHA256/") {
			t.Errorf("index: %+v", e)
		}
		w.rest()
		if n := w.up.requests(nobleIn); n != 1 {
			t.Errorf("the watcher did not take the first check for its own: %d requests", n)
		}
		s, _ := w.known(noble())
		s.mail.post(s.reap) // as if it had been unknown
		synctest.Wait()
		if _, ok := w.known(noble()); !ok || s.ctx.Err() != nil {
			t.Error("a suite that is held was reaped")
		}
	})
}

func TestNoSuchSuite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		for _, name := range []string{"InRelease", "Release", "Release.gpg"} {
			if _, err := w.get("dists/none/" + name); !errors.Is(err, proto.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", name, err)
			}
		}
		if n := w.up.requests("dists/none/InRelease"); n != 1 {
			t.Errorf("a burst made %d requests upstream", n)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if len(w.suiteNames()) != 0 || len(w.keeper.pins) != 0 || len(w.state.files) != 0 {
			t.Errorf("left behind: suites %v, pins %v, files %d", w.suiteNames(), w.keeper.pins, len(w.state.files))
		}
		if _, err := w.Discover(t.Context(), proto.Location{Archive: "b", Path: nobleIn}, false); err == nil {
			t.Error("an archive that is not configured is answered for")
		}
	})
}

// A suite that does not exist must not stand before the one around it.
func TestBogusSuiteInside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		if _, err := w.get("dists/noble/main/InRelease"); !errors.Is(err, proto.ErrNotFound) {
			t.Fatal(err)
		}
		w.compose("a") // as a switch at that moment does
		if _, ok := w.Resolve(w.loc(noblePkgs)); !ok {
			t.Error("the index is hidden by a suite that does not exist")
		}
		w.rest()
	})
}

func TestUpstreamDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.up.failing("", &proto.Unavailable{Reason: "connection refused"})
		_, err := w.get(nobleIn)
		var busy *proto.Unavailable
		if !errors.As(err, &busy) || errors.Is(err, proto.ErrNotFound) {
			t.Fatalf("%v, want Unavailable", err)
		}
		// InRelease may be gone while the rest of upstream is in trouble.
		w.up.failing("/Release", &proto.Unavailable{Reason: "connection refused"})
		time.Sleep(2 * time.Second)
		if _, err = w.get("dists/other/InRelease"); !errors.As(err, &busy) || errors.Is(err, proto.ErrNotFound) {
			t.Fatalf("%v, want Unavailable", err)
		}
		w.up.setFault(nil)
		w.must(nobleIn)

		// Down again: what is held goes on, and says that it is old after a while.
		w.up.failing("", &proto.Unavailable{Reason: "connection refused"})
		w.use(noblePkgs)
		time.Sleep(5 * time.Minute)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "could not be checked") {
			t.Errorf("stale: %q", e.Stale)
		}
		st := w.Stats()[0]
		if st.Err == nil || st.Checked.IsZero() || !st.Watched {
			t.Errorf("status %+v", st)
		}
		w.up.setFault(nil)
		time.Sleep(2 * time.Minute)
		if e := w.must(nobleIn); e.Stale != "" {
			t.Errorf("stale after it healed: %q", e.Stale)
		}
	})
}

func TestSlowUpstreamIsNotWaitedForLong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.IdleAfter = time.Hour
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.stalling("InRelease")
		time.Sleep(150 * time.Second) // the watcher's check stalls since half of it
		start := time.Now()
		for range 10 {
			w.must(nobleIn)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("clients waited %v for a check that stalls", took)
		}
		// One that sleeps is woken by a client, who waits for a little while.
		w.up.setFault(nil)
		time.Sleep(3 * time.Hour)
		w.up.stalling("InRelease")
		start = time.Now()
		w.must(nobleIn)
		if took := time.Since(start); took != w.cfg.withDefaults().CheckWait {
			t.Errorf("the client that wakes a suite waited %v", took)
		}
		// A client that gives up gets its own error.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.up.stalling("")
		if _, err := w.Discover(ctx, w.loc("dists/x/InRelease"), false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// The staging of large indices is no reason for clients to wait.
func TestSlowStaging(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		w.upgrade()
		w.up.stalling("by-hash")
		time.Sleep(150 * time.Second)
		if _, ok := w.Resolve(w.loc(nobleIn)); !ok {
			t.Error("the root is looked for again while its successor is staged")
		}
	})
}

// Suites do not march in step.
func TestJitter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := usedWorld(t)
		var mu sync.Mutex
		var last time.Time
		seen := make(map[time.Duration]bool)
		w.up.setFault(func(_ context.Context, path string) error {
			mu.Lock()
			defer mu.Unlock()
			if path == nobleIn && !last.IsZero() {
				p := time.Since(last).Round(time.Millisecond)
				if p < 54*time.Second || p > 66*time.Second {
					t.Errorf("pause %v", p)
				}
				seen[p] = true
			}
			if path == nobleIn {
				last = time.Now()
			}
			return nil
		})
		time.Sleep(100 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(seen) < 50 {
			t.Error("pauses do not vary")
		}
	})
}

func TestDrippingRootEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.up.stalling("InRelease")
		start := time.Now()
		_, err := w.get(nobleIn)
		var busy *proto.Unavailable
		if !errors.As(err, &busy) || time.Since(start) != suite.LastTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestFreshAtMostOncePerSecond(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		time.Sleep(2 * time.Second)
		w.up.reset()
		w.upgrade()
		published := time.Now().Add(-time.Minute)
		for range 50 {
			go w.Discover(t.Context(), w.loc(nobleIn), true)
		}
		synctest.Wait()
		e, err := w.Discover(t.Context(), w.loc(nobleIn), true)
		if err != nil || !e.Generation.Equal(published) {
			t.Errorf("%v, %v: not the new one", e.Generation, err)
		}
		if n := w.up.requests(nobleIn); n != 1 {
			t.Errorf("%d requests upstream, want 1", n)
		}
		for range 10 {
			time.Sleep(500 * time.Millisecond)
			w.Discover(t.Context(), w.loc(nobleIn), true)
		}
		if n := w.up.requests(nobleIn); n > 6 {
			t.Errorf("%d requests upstream in 5 s", n)
		}
		// It means roots only: an index says what the generation says.
		w.use(noblePkgs)
		e, err = w.Discover(t.Context(), w.loc(noblePkgs), true)
		if err != nil || !e.Listed || e.Generation.IsZero() {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func TestRefreshSeesWhatWasPublishedBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		time.Sleep(2 * time.Second)
		// A check is under way that has read the old InRelease already.
		reached, goOn := make(chan bool, 10), make(chan bool)
		w.up.setFault(func(_ context.Context, path string) error {
			if path == nobleIn {
				reached <- true
				<-goOn
				w.up.setFault(nil)
				return &proto.Unavailable{Reason: "too old"}
			}
			return nil
		})
		go w.Discover(context.WithoutCancel(t.Context()), w.loc(nobleIn), true)
		<-reached
		time.Sleep(time.Millisecond)
		w.upgrade()
		done := make(chan bool)
		go func() {
			changed, err := w.refresh()
			if err != nil {
				t.Error(err)
			}
			done <- changed
		}()
		synctest.Wait()
		goOn <- true
		if !<-done {
			t.Error("refresh was content with a check that began before it")
		}
	})
}

func TestWatching(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble"}, testarchive.Suite{Name: "jammy"})
		w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/jammy"}}
		w.cfg.IdleAfter = time.Hour
		w.publish()
		w.open()
		w.rest()
		if n := w.up.requests("dists/jammy/InRelease"); n != 1 {
			t.Errorf("a configured suite was read %d times at the start", n)
		}
		w.must(nobleIn)
		w.up.reset()
		time.Sleep(30 * time.Minute)
		if n := w.up.requests(nobleIn); n < 25 || n > 34 {
			t.Errorf("%d checks in 30 minutes", n)
		}
		if n := w.up.bodies(nobleIn); n != 0 {
			t.Errorf("%d of them moved a body", n)
		}
		time.Sleep(2 * time.Hour)
		w.up.reset()
		time.Sleep(time.Hour)
		if n := w.up.requests(nobleIn); n != 0 {
			t.Errorf("an idle suite was checked %d times", n)
		}
		if n := w.up.requests("dists/jammy/InRelease"); n < 50 {
			t.Errorf("a configured suite fell asleep: %d checks", n)
		}
		for _, st := range w.Stats() {
			if want := st.Suite.Dir == "dists/jammy"; st.Watched != want {
				t.Errorf("%s: watched %v", st.Suite, st.Watched)
			}
		}
		// It wakes, and the first client gets what is new.
		w.publish("noble")
		published := time.Now().Add(-time.Minute)
		if got := w.date(); !got.Equal(published) {
			t.Errorf("the first client after the sleep got %v", got)
		}
		w.up.reset()
		time.Sleep(10 * time.Minute)
		if n := w.up.requests(nobleIn); n < 8 {
			t.Errorf("it is not watched again: %d checks", n)
		}
	})
}

func TestChecksBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.failing("InRelease", &proto.Unavailable{Reason: "down"})
		w.up.reset()
		time.Sleep(time.Hour)
		if n := w.up.requests(nobleIn); n < 50 || n > 75 {
			t.Errorf("%d checks of an upstream that is down for an hour", n)
		}
	})
}
