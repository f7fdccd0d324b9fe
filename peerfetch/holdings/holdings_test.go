package holdings

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

func TestSetAgainstAMap(t *testing.T) {
	rng := random(t)
	var s set
	model := map[uint64]bool{}
	// Few parts and few prefixes, so that they meet often, and the edges.
	pick := func() uint64 {
		return []uint64{0, 1, 7, 1<<63 - 1}[rng.IntN(4)]<<(rng.IntN(2)*52) + rng.Uint64N(300)
	}
	for range 20_000 {
		p := pick()
		if rng.IntN(2) == 0 {
			if s.add(p) == model[p] {
				t.Fatalf("add(%x): was there: %v", p, model[p])
			}
			model[p] = true
		} else {
			if s.remove(p) != model[p] {
				t.Fatalf("remove(%x): was there: %v", p, model[p])
			}
			delete(model, p)
		}
		if q := pick(); s.has(q) != model[q] {
			t.Fatalf("has(%x) is %v", q, !model[q])
		}
		if s.count != len(model) {
			t.Fatalf("count %d, want %d", s.count, len(model))
		}
	}
}

func TestFilterOdds(t *testing.T) {
	const asked = 300_000
	for _, n := range []int{1000, 30_000, 100_000} {
		rng := rand.New(rand.NewPCG(uint64(n), 2))
		f := newFilter(n)
		in := make([]uint64, n)
		for i := range in {
			in[i] = rng.Uint64()
			f.add(in[i])
		}
		for _, p := range in {
			if !f.has(p) {
				t.Fatalf("%d entries: %x was added and is not there", n, p)
			}
		}
		wrong := 0
		for range asked {
			if f.has(rng.Uint64()) {
				wrong++
			}
		}
		t.Logf("%d entries in %d bytes: %.3f %% of others are taken for one", n, len(f.bytes), 100*float64(wrong)/asked)
		if wrong > asked/1000 {
			t.Errorf("%d entries: %d of %d others are taken for one", n, wrong, asked)
		}
	}
	if f := newFilter(1 << 40); len(f.bytes) != maxFilterBytes {
		t.Errorf("a filter of %d bytes", len(f.bytes))
	}
}

// TestAnyChangesAnyFollowers adds and removes while followers of every pace come
// and go, and holds the sentence that matters: who has heard everything misses
// nothing.
func TestAnyChangesAnyFollowers(t *testing.T) {
	rng := random(t)
	bubble.Test(t, func(t *testing.T) {
		const digests = 12_000
		l := NewLocal()
		var followers []*follower
		begins := 0
		for round := range 60 {
			if len(followers) < 5 && rng.IntN(4) == 0 {
				followers = append(followers, newFollower(l))
			}
			// Now and then so much at once that everybody begins anew.
			changes := []int{0, 1, 50, 3000, 9000}[rng.IntN(5)]
			for range changes {
				if d := digest(rng.IntN(digests)); rng.IntN(3) > 0 {
					l.Add(d)
				} else {
					l.Remove(d)
				}
			}
			for i, f := range followers {
				for range rng.IntN(4) {
					ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
					f.step(ctx, t)
					cancel()
				}
				if rng.IntN(10) == 0 {
					begins += f.begins
					f.Close()
					followers[i] = newFollower(l)
				}
			}
			if round%10 == 9 {
				for _, f := range followers {
					f.catchUp(t)
					f.mustAgree(t, l, digests)
				}
			}
		}
		for _, f := range followers {
			begins += f.begins
			f.Close()
		}
		t.Logf("%d filters were begun", begins)
	})
}

func TestConcurrentUse(t *testing.T) {
	const digests = 20_000
	l := NewLocal()
	var changing, following sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	var followers []*follower
	for range 3 {
		f := newFollower(l)
		defer f.Close()
		followers = append(followers, f)
		following.Go(func() {
			for f.step(ctx, t) {
				f.Has(digest(1))
			}
		})
		following.Go(func() {
			for ctx.Err() == nil {
				f.Has(digest(2))
				f.Bytes()
			}
		})
	}
	for w := range 4 {
		changing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for i := w; i < digests; i += 4 {
				l.Add(digest(i))
				if rng.IntN(3) == 0 {
					l.Remove(digest(i - rng.IntN(10)*4))
				}
			}
		})
	}
	changing.Wait()
	cancel()
	following.Wait()
	for _, f := range followers {
		f.catchUp(t)
		f.mustAgree(t, l, digests)
	}
}

func TestChangesAreGathered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := localOf(10)
		f := newFollower(l)
		defer f.Close()
		f.catchUp(t)
		start := time.Now()
		go func() {
			l.Add(digest(10))
			l.Add(digest(10))
			time.Sleep(batchFor / 2)
			l.Add(digest(11))
			l.Remove(digest(3))
			l.Add(digest(12))
			l.Remove(digest(12))
			l.Remove(digest(99))
			time.Sleep(batchFor)
			l.Add(digest(13))
		}()
		u, err := f.Next(context.Background())
		if err != nil || time.Since(start) != batchFor {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		added := []uint64{prefixOf(digest(10)), prefixOf(digest(11))}
		removed := []uint64{prefixOf(digest(3)), prefixOf(digest(12))}
		slices.Sort(added)
		slices.Sort(removed)
		if !slices.Equal(u.Added, added) || !slices.Equal(u.Removed, removed) || u.Blobs != 11 || u.Begin {
			t.Errorf("got %+v", u)
		}
		if err := f.Apply(u); err != nil {
			t.Error(err)
		}
		time.Sleep(batchFor)
		f.catchUp(t)
		f.mustAgree(t, l, 20)
	})
}

func TestTooManyChangesBeginANewFilter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := localOf(90_000)
		f := newFollower(l)
		defer f.Close()
		f.catchUp(t)
		if want := (90_000*filterBitsPerEntry/8-1)/maxPiece + 1; f.begins != 1 || f.updates != want {
			t.Errorf("%d filters in %d updates, want 1 in %d", f.begins, f.updates, want)
		}
		// So much at once takes two updates, but no new filter yet.
		before := f.updates
		for i := range maxBatch + 500 {
			l.Add(digest(90_000 + i))
		}
		f.catchUp(t)
		if f.begins != 1 || f.updates != before+2 {
			t.Errorf("nearly a tenth more: %d filters, %d updates", f.begins, f.updates-before)
		}
		f.mustAgree(t, l, 100_000)
		for i := range 2000 {
			l.Add(digest(200_000 + i))
		}
		f.catchUp(t)
		if f.begins != 2 {
			t.Errorf("more than a tenth more: %d filters", f.begins)
		}
		for i := range 2 * maxLog {
			l.Add(digest(300_000 + i))
		}
		f.catchUp(t)
		if f.begins != 3 {
			t.Errorf("far behind: %d filters", f.begins)
		}
		for i := range maxChanges + 1 {
			l.Remove(digest(i))
		}
		f.catchUp(t)
		if f.begins != 4 {
			t.Errorf("many removals: %d filters", f.begins)
		}
		f.mustAgree(t, l, 100_000)
		if len(f.Remote.changes) != 0 {
			t.Errorf("%d changes are remembered beside a new filter", len(f.Remote.changes))
		}
	})
}

// TestChangesWhileAFilterIsSent are told behind it.
func TestChangesWhileAFilterIsSent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := localOf(150_000) // two pieces
		f := newFollower(l)
		defer f.Close()
		for f.step(t.Context(), t) && len(f.unsent) > 0 {
			if f.Has(digest(0)) {
				t.Error("a filter is believed before it is complete")
			}
			l.Remove(digest(0))
			l.Add(digest(150_000))
		}
		f.catchUp(t)
		f.mustAgree(t, l, 150_100)
		if f.begins != 1 || f.Has(digest(0)) || !f.Has(digest(150_000)) {
			t.Errorf("%d filters; what changed meanwhile was not told", f.begins)
		}
	})
}

// TestFilterBuiltWhileThingsChange may know some of the changes and not others;
// with the log from its number on nothing is missing.
func TestFilterBuiltWhileThingsChange(t *testing.T) {
	const digests = 10_000
	l := NewLocal()
	defer l.Follow().Close() // keeps the log
	type built struct {
		f     *filter
		since uint64
	}
	var filters []built
	var changing sync.WaitGroup
	var done atomic.Bool
	changing.Go(func() {
		defer done.Store(true)
		for i := range digests {
			l.Add(digest(i))
		}
	})
	for !done.Load() {
		f, since := l.whole()
		filters = append(filters, built{f, since})
		l.builder.last = nil
	}
	changing.Wait()
	for n, b := range filters[:min(len(filters), 25)] {
		later := map[uint64]bool{}
		for _, p := range l.log[b.since-l.logStart:] {
			later[p] = true
		}
		for i := range digests {
			if p := prefixOf(digest(i)); !b.f.has(p) && !later[p] {
				t.Fatalf("filter %d of %d, from change %d on: digest %d is missing", n, len(filters), b.since, i)
			}
		}
	}
	t.Logf("%d filters", len(filters))
}

func TestLogIsCutShort(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := NewLocal()
		f := newFollower(l)
		defer f.Close()
		for i := range 5 * maxLog {
			if d := digest(i / 2 % 500); i%2 == 0 {
				l.Add(d)
			} else if i/2%7 > 0 {
				l.Remove(d)
			}
			if i%2000 == 0 {
				f.catchUp(t)
			}
		}
		f.catchUp(t)
		f.mustAgree(t, l, 1000)
		if l.logStart == 0 || len(l.log) > 2*maxLog {
			t.Errorf("the log has %d entries, from %d on", len(l.log), l.logStart)
		}
	})
}

func TestFollowersShareAFilter(t *testing.T) {
	l := localOf(1000)
	a, b := l.Follow(), l.Follow()
	ua, _ := a.Next(t.Context())
	l.Add(digest(1000))
	ub, _ := b.Next(t.Context())
	if &ua.Filter[0] != &ub.Filter[0] {
		t.Error("two filters were built")
	}
	a.Close()
	a.Close()
	if b.l.followers != 1 {
		t.Errorf("%d followers", b.l.followers)
	}
	b.Close()
	for i := range 100 {
		l.Add(digest(2000 + i))
	}
	if len(l.log) != 0 {
		t.Error("a log is kept for nobody")
	}
	late := newFollower(l)
	defer late.Close()
	late.step(t.Context(), t)
	late.mustAgree(t, l, 3000)
}

func TestCursorEnds(t *testing.T) {
	l := NewLocal()
	f := newFollower(l)
	ctx, cancel := context.WithCancel(t.Context())
	f.step(ctx, t)
	ended := make(chan error)
	go func() {
		_, err := f.Next(ctx)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a cursor that waited: %v", err)
	}
	f.Close()
	if _, err := f.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed cursor: %v", err)
	}
}
