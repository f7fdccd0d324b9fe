package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

const (
	meta     = proto.ClassMetadata
	pkg      = proto.ClassPackage
	prefetch = proto.ClassPrefetch
)

func testScheduler(limit int) *scheduler {
	return newScheduler("http://host", limit, patienceOf(mustDefaults()))
}

func mustDefaults() Config {
	cfg, err := filled(Config{}).withDefaults()
	if err != nil {
		panic(err)
	}
	return cfg
}

// take acquires a slot that must be free.
func take(t *testing.T, g *scheduler, class proto.Class) *slot {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan *slot, 1)
	go func() {
		if p, err := g.acquire(ctx, slotRequest{class: class}, cancel); err == nil {
			got <- p
		}
	}()
	synctest.Wait()
	select {
	case p := <-got:
		return p
	default:
		t.Fatalf("no place for %s", class)
		return nil
	}
}

// queue starts to wait for a slot, and reports name when it is had.
func queue(t *testing.T, g *scheduler, class proto.Class, name string, had chan<- string, slots chan<- *slot) {
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		p, err := g.acquire(ctx, slotRequest{class: class}, cancel)
		if err != nil {
			return
		}
		had <- name
		slots <- p
	}()
	synctest.Wait()
}

func TestSchedulerServesUrgentClassesFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		holder := take(t, g, pkg)
		holder.enter(throttled) // never stalled
		had, slots := make(chan string, 9), make(chan *slot, 9)
		for i := range 2 {
			queue(t, g, prefetch, fmt.Sprint("prefetch", i), had, slots)
			queue(t, g, pkg, fmt.Sprint("package", i), had, slots)
			queue(t, g, meta, fmt.Sprint("metadata", i), had, slots)
		}
		var order []string
		g.release(holder)
		for range 6 {
			order = append(order, <-had)
			g.release(<-slots)
		}
		want := []string{"metadata0", "metadata1", "package0", "package1", "prefetch0", "prefetch1"}
		if !slices.Equal(order, want) {
			t.Errorf("slots were granted in the order %v, want %v", order, want)
		}
	})
}

func TestSchedulerLeavesSlotsToMoreUrgentClasses(t *testing.T) {
	for _, tc := range []struct {
		limit int
		class proto.Class
		want  int
	}{
		{8, meta, 8}, {8, pkg, 7}, {8, prefetch, 6},
		{2, meta, 2}, {2, pkg, 1}, {2, prefetch, 1},
		{1, meta, 1}, {1, pkg, 1}, {1, prefetch, 1},
	} {
		bubble.Test(t, func(t *testing.T) {
			g := testScheduler(tc.limit)
			had, slots := make(chan string, 20), make(chan *slot, 20)
			for range 10 {
				queue(t, g, tc.class, "x", had, slots)
			}
			if got := len(slots); got != tc.want {
				t.Errorf("limit %d: %d slots for %s, want %d", tc.limit, got, tc.class, tc.want)
			}
			if tc.limit > 1 && tc.class != meta {
				take(t, g, meta)
			}
		})
	}
}

func TestSchedulerFullOfMixedClassesNeverExceedsItsLimit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(8)
		for range 3 {
			take(t, g, meta)
		}
		had, slots := make(chan string, 20), make(chan *slot, 20)
		for range 10 {
			queue(t, g, pkg, "p", had, slots)
		}
		if len(slots) != 5 {
			t.Errorf("%d packages beside 3 metadata in 8 slots, want 5", len(slots))
		}
	})
}

func TestSchedulerWaiterLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		holder := take(t, g, meta)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := g.acquire(ctx, slotRequest{class: meta}, func(error) {})
			failed <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("a waiter that left got %v", err)
		}
		g.release(holder)
		g.release(holder) // a second time does nothing
		take(t, g, meta)
		if _, held, _, waiting := g.count(); held != 1 || waiting != 0 {
			t.Errorf("%d held, %d waiting; want 1 and 0", held, waiting)
		}
	})
}

// A waiter may leave at the very moment in which it is given its slot.
func TestSchedulerTakesBackASlotThatNobodyWantsAnyMore(t *testing.T) {
	g := testScheduler(1)
	w := &waiter{slot: &slot{class: meta}, ready: make(chan struct{})}
	g.mu.Lock()
	g.enqueue(w)
	g.dispatch()
	g.mu.Unlock()
	<-w.ready
	g.abandon(w)
	if _, held, _, _ := g.count(); held != 0 {
		t.Errorf("%d slots are leaked", held)
	}
}

func TestSchedulerLimitCanBeChanged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		first := take(t, g, meta)
		had, slots := make(chan string, 9), make(chan *slot, 9)
		queue(t, g, meta, "second", had, slots)
		g.configure(2, g.rules)
		second := <-slots
		g.configure(1, g.rules)
		queue(t, g, meta, "third", had, slots)
		g.release(first)
		synctest.Wait()
		if len(slots) != 0 {
			t.Error("a lowered limit does not hold")
		}
		g.release(second)
		<-slots
	})
}

// holderIn takes a slot and brings it into a phase.
func holderIn(t *testing.T, g *scheduler, class proto.Class, ph phase) *slot {
	p := take(t, g, class)
	p.enter(ph)
	return p
}

func TestSchedulerPreemption(t *testing.T) {
	for _, tc := range []struct {
		name   string
		phase  phase
		waiter proto.Class
		holder proto.Class
		after  time.Duration // 0 = never within a minute
	}{
		{"body without a byte", reading, pkg, pkg, time.Second},
		{"no header", asking, pkg, pkg, 2 * time.Second},
		{"no connection", connecting, pkg, pkg, 2 * time.Second},
		{"caller does not read", resting, pkg, pkg, 5 * time.Second},
		{"rate limit is no stall", throttled, pkg, pkg, 0},
		{"prefetch does not push a package out", reading, prefetch, pkg, 0},
		{"prefetch pushes prefetch out", reading, prefetch, prefetch, time.Second},
		{"a package pushes metadata out", reading, pkg, meta, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := testScheduler(1)
				holder := holderIn(t, g, tc.holder, tc.phase)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := g.acquire(ctx, slotRequest{class: tc.waiter}, func(error) {})
				took := time.Since(began)
				switch {
				case tc.after == 0 && (err == nil || holder.wasEvicted()):
					t.Errorf("pre-empted after %v", took)
				case tc.after > 0 && (err != nil || !holder.wasEvicted() || took < tc.after || took > tc.after+watchEvery):
					t.Errorf("had the place after %v (%v), want %v", took, err, tc.after)
				}
			})
		})
	}
}

func TestSchedulerPreemptsTheMostStalledThatHelps(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(3)
		// Two packages are all that 3 slots admit, so that the metadata's slot,
		// though stalled for longest, would not help.
		m := holderIn(t, g, meta, reading)
		time.Sleep(time.Second)
		older := holderIn(t, g, pkg, reading)
		time.Sleep(500 * time.Millisecond)
		younger := holderIn(t, g, pkg, reading)
		if _, err := g.acquire(t.Context(), slotRequest{class: pkg}, func(error) {}); err != nil {
			t.Fatal(err)
		}
		if m.wasEvicted() || younger.wasEvicted() || !older.wasEvicted() {
			t.Errorf("evicted: metadata %v, older %v, younger %v; want the older package only",
				m.wasEvicted(), older.wasEvicted(), younger.wasEvicted())
		}
	})
}

func TestSchedulerDistinguishesProgressFromADrip(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		for _, tc := range []struct {
			bytes int // every 100 ms
			goes  bool
		}{{1, true}, {progressBytes, false}} {
			ctx, cancel := context.WithCancelCause(t.Context())
			holder, err := g.acquire(t.Context(), slotRequest{class: pkg}, cancel)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for range 30 {
					holder.enter(reading)
					time.Sleep(100 * time.Millisecond)
					holder.received(tc.bytes)
				}
				g.release(holder)
			}()
			next, err := g.acquire(t.Context(), slotRequest{class: pkg}, func(error) {})
			if err != nil {
				t.Fatal(err)
			}
			if holder.wasEvicted() != tc.goes || (ctx.Err() != nil) != tc.goes {
				t.Errorf("%d bytes every 100 ms: evicted is %v, want %v", tc.bytes, holder.wasEvicted(), tc.goes)
			}
			g.release(next)
			synctest.Wait()
			time.Sleep(5 * time.Second) // let the holder's goroutine end
		}
	})
}

// A host that answers everybody late must not have its requests killed one by one.
func TestSchedulerLearnsToWaitForASlowHost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const answerTime = 3 * time.Second
		g := testScheduler(4)
		answered, evicted := 0, 0
		results := make(chan bool)
		for range 40 {
			go func() {
				for {
					ctx, cancel := context.WithCancelCause(t.Context())
					p, err := g.acquire(ctx, slotRequest{class: meta}, cancel)
					if err != nil {
						return
					}
					p.enter(asking)
					select {
					case <-time.After(answerTime):
						g.answered(answerTime)
						g.release(p)
						results <- true
						return
					case <-ctx.Done():
						results <- false
					}
				}
			}()
		}
		for answered < 40 {
			if <-results {
				answered++
			} else {
				evicted++
			}
		}
		if evicted > 1 {
			t.Errorf("%d requests were cut short before the scheduler knew the host's pace, want 1 at most", evicted)
		}
	})
}

// What was asked for ahead of clients stands in their queue as soon as one waits for
// it, and keeps its slot among them once it has one.
func TestSchedulerRaisesWhatBecomesUrgent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		holder := take(t, g, pkg)
		holder.enter(throttled) // never stalled
		had, slots := make(chan string, 9), make(chan *slot, 9)
		queue(t, g, prefetch, "ahead", had, slots)
		urgent := make(chan struct{})
		go func() {
			p, err := g.acquire(t.Context(), slotRequest{class: prefetch, urgent: urgent}, func(error) {})
			if err != nil {
				t.Error(err)
				return
			}
			had <- "wanted"
			slots <- p
		}()
		synctest.Wait()
		queue(t, g, prefetch, "ahead too", had, slots)
		close(urgent)
		synctest.Wait()
		queue(t, g, pkg, "package", had, slots)
		var order []string
		g.release(holder)
		for range 4 {
			order = append(order, <-had)
			p := <-slots
			if order[len(order)-1] == "wanted" && p.class != pkg {
				t.Errorf("it has a place of class %s", p.class)
			}
			g.release(p)
			synctest.Wait()
		}
		if want := []string{"wanted", "package", "ahead", "ahead too"}; !slices.Equal(order, want) {
			t.Errorf("slots were granted to %q, want %q", order, want)
		}

		held := take(t, g, prefetch)
		g.raise(held)
		if held.class != pkg {
			t.Errorf("a place that is held stays of class %s", held.class)
		}
	})
}
