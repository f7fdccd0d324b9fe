package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// says404 is an archive that has nothing.
func says404(int, proto.Request) answer { return answer{err: proto.ErrNotFound} }

func (w *world) expectNotFound(t *testing.T, object proto.ObjectRequest) {
	t.Helper()
	if _, err := w.read(object); !errors.Is(err, proto.ErrNotFound) {
		t.Errorf("%s ended with %v", object.Where.First, err)
	}
}

func TestNotFoundIsRememberedForAWhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, says404)
		object := unlistedWant("u")
		for range 299 {
			w.expectNotFound(t, object)
			if _, err := w.Head(context.Background(), object); !errors.Is(err, proto.ErrNotFound) {
				t.Errorf("its head: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.up.count(); n != 1 {
			t.Errorf("%d requests in 30 s", n)
		}
		if n := testutil.ToFloat64(w.metrics.notFoundAgain); n != 2*299-1 {
			t.Errorf("%g answers from memory", n)
		}
		if n := w.absent.len(); n != 1 {
			t.Errorf("%d names", n)
		}
		w.expectNotFound(t, unlistedWant("v"))
		if n := w.up.count(); n != 2 {
			t.Errorf("%d requests for another name", n-1)
		}
		time.Sleep(100 * time.Millisecond)
		w.up.heal(serve([]byte("here it is")))
		if got := w.mustRead(t, object); string(got) != "here it is" {
			t.Errorf("got %q", got)
		}
		w.Close()
	})
}

func TestNotFoundEndsWithTheGeneration(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			archive string
			asked   int
		}{{"a", 2}, {"b", 1}} {
			w := newWorld(t, says404)
			w.expectNotFound(t, unlistedWant("u"))
			w.ArchiveChanged(tt.archive)
			w.expectNotFound(t, unlistedWant("u"))
			if n := w.up.count(); n != tt.asked {
				t.Errorf("archive %s has a new generation: %d requests to a", tt.archive, n)
			}
			w.Close()
		}
	})
}

// An answer that was on its way when the archive changed is not remembered.
func TestNotFoundFromBeforeTheGeneration(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		published := make(chan struct{})
		for _, ask := range []func(*world) error{
			func(w *world) error { _, err := w.read(unlistedWant("u")); return err },
			func(w *world) error { _, err := w.Head(context.Background(), unlistedWant("u")); return err },
		} {
			w := newWorld(t, func(i int, _ proto.Request) answer {
				if i == 0 {
					<-published
				}
				return answer{err: proto.ErrNotFound}
			})
			go func() {
				synctest.Wait()
				w.ArchiveChanged("a")
				published <- struct{}{}
			}()
			if err := ask(w); !errors.Is(err, proto.ErrNotFound) {
				t.Error(err)
			}
			w.settled(t)
			if w.absent.len() != 0 {
				t.Error("what was said before the change is remembered after it")
			}
			w.Close()
		}
	})
}

// Metadata that lists a file is proof that there is one, whatever was said of the name
// before; and what is listed is asked for again soon, for a mirror may be behind.
func TestListedFileIsNotAbsent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(1000, 80)
		w := newWorld(t, says404)
		w.expectNotFound(t, unlistedWant("pool/x.deb"))
		w.up.heal(serve(content))
		w.expectNotFound(t, unlistedWant("pool/x.deb"))
		w.mustRead(t, wantOf(content))

		w.up.heal(says404)
		other := wantOf(randomBytes(1000, 81), "pool/y.deb")
		for range 10 {
			w.expectNotFound(t, other)
		}
		if w.absent.len() != 1 {
			t.Error("what is listed is remembered as absent")
		}
		synctest.Wait()
		w.ArchiveChanged("a")
		if n := w.budget.penalties.Len(); n != 0 {
			t.Errorf("%d penalties outlive the generation", n)
		}
		w.Close()
	})
}

func TestHeadOfWhatIsListedHasTheSameBudget(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, says404)
		object := wantOf(randomBytes(1000, 82), "by-hash/x", "Packages")
		object.Ref.Size = proto.UnknownSize
		for range 20 {
			if _, err := w.Head(context.Background(), object); !errors.Is(err, proto.ErrNotFound) {
				t.Error(err)
			}
		}
		if n := w.up.count(); n != 2*notFoundAllowance.free {
			t.Errorf("%d requests", n)
		}
		w.Close()
	})
}

// "Not found" is the answer only if it is everywhere.
func TestHeadSaysNotFoundOnlyIfItIsEverywhere(t *testing.T) {
	for _, first := range []string{"u", "v"} {
		w := newWorld(t, func(_ int, r proto.Request) answer {
			if r.Loc.Path == first {
				return answer{err: proto.ErrNotFound}
			}
			return answer{err: errAnswered}
		})
		object := unlistedWant("u")
		object.Where = proto.At(object.Where.First, proto.Location{Archive: "a", Path: "v"})
		if _, err := w.Head(context.Background(), object); errors.Is(err, proto.ErrNotFound) {
			t.Errorf("404 at %s alone: %v", first, err)
		}
		if w.absent.len() != 0 {
			t.Error("it is remembered as absent")
		}
	}
}

// The whole cluster asks once per period, whoever is asked by clients.
func TestClusterRemembersNotFoundTogether(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, five, says404)
		c.latency = far(10 * time.Millisecond)
		object := unlistedWant("u")
		askAll := func() {
			var all sync.WaitGroup
			for _, n := range c.nodes {
				for range 3 {
					all.Go(func() { n.expectNotFound(t, object) })
				}
			}
			all.Wait()
		}
		for range 28 {
			askAll()
			time.Sleep(time.Second)
		}
		if n := c.up.count(); n != 1 {
			t.Errorf("%d requests to upstream", n)
		}
		if n := len(c.asksOf("e")); n < 5 || n > 12 { // about every three seconds
			t.Errorf("the owner was asked %d times by one node: %s", n, c.asked("e"))
		}
		time.Sleep(5 * time.Second)
		askAll()
		if n := c.up.count(); n != 2 {
			t.Errorf("%d requests to upstream in the second period", n-1)
		}
		for _, n := range c.nodes {
			n.ArchiveChanged("a") // as each does when it adopts a generation
		}
		c.up.heal(serve([]byte("new")))
		for _, n := range c.nodes {
			if got, err := n.read(object); err != nil || string(got) != "new" {
				t.Errorf("%s after the flip: %q, %v", n.name, got, err)
			}
		}
		c.check(t)
		c.close()
	})
}

// What another node said does not bind for long, nor does it shorten what upstream said.
func TestNotFoundByHearsay(t *testing.T) {
	table, now := newAbsentTable(), time.Now()
	loc := proto.Location{Archive: "a", Path: "u"}
	table.note(loc, 0, now, 30*time.Second)
	table.note(loc, 0, now.Add(time.Second), hearsayFor)
	if a, ok := table.get(loc, now.Add(10*time.Second)); !ok || !a.until.Equal(now.Add(30*time.Second)) {
		t.Errorf("%+v, %v", a, ok)
	}
	if _, ok := table.get(loc, now.Add(30*time.Second)); ok || table.len() != 0 {
		t.Error("remembered for too long")
	}
}

func TestAbsentTableIsBounded(t *testing.T) {
	table, now := newAbsentTable(), time.Now()
	for i := range 3 * maxAbsent {
		loc := proto.Location{Archive: "a", Path: fmt.Sprint(i)}
		table.note(loc, 0, now, time.Minute)
		if _, ok := table.get(loc, now); !ok {
			t.Fatalf("entry %d", i)
		}
	}
	if n := table.len(); n > maxAbsent {
		t.Errorf("%d entries", n)
	}
	long := proto.Location{Archive: "a", Path: strings.Repeat("x", maxAbsentPath+1)}
	if table.note(long, 0, now, time.Minute); table.len() > maxAbsent {
		t.Error("too many")
	}
	if _, ok := table.get(long, now); ok {
		t.Error("a name of any length is kept")
	}
	table.forget("a")
	if n := table.len(); n != 0 {
		t.Errorf("%d entries after the generation", n)
	}
}

func TestNotFoundForCanBeSwitchedOff(t *testing.T) {
	w := newWorld(t, says404, func(c *Config) { c.NotFoundFor = -1 })
	for range 3 { // the budget's
		w.expectNotFound(t, unlistedWant("u"))
	}
	if n := w.up.count(); n != 3 || w.absent.len() != 0 {
		t.Errorf("%d requests, %d names remembered", n, w.absent.len())
	}
}

func TestPlanShowsARememberedAbsence(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, says404)
		w.expectNotFound(t, unlistedWant("u"))
		said := time.Now().UTC()
		time.Sleep(10 * time.Second)
		want := fmt.Sprintf("Upstream said at %s that it has no such file. Nobody is asked again before %s, unless the archive publishes something earlier.",
			said.Format("15:04:05 MST"), said.Add(30*time.Second).Format("15:04:05 MST"))
		if got := w.Plan(unlistedWant("u")); !slices.Equal(got, []string{want}) {
			t.Errorf("%q, want %q", got, want)
		}
		if n := testutil.ToFloat64(w.metrics.notFoundAgain); n != 0 {
			t.Error("an explanation counts as a request")
		}
		time.Sleep(20 * time.Second)
		if got := w.Plan(unlistedWant("u")); !slices.Equal(got, []string{"It would be fetched from upstream."}) {
			t.Errorf("when it is over: %q", got)
		}
		w.Close()
	})
}
