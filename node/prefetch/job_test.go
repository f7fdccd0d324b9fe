package prefetch

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// many is the index of n packages of one version, useMany has clients use them.
func many(n int, version string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(stanza(fmt.Sprintf("p%03d", i), version, "amd64", "", 10))
	}
	return b.String()
}

func useMany(p *Prefetcher, n int) {
	for i := range n {
		p.Used(loc(pool(fmt.Sprintf("p%03d", i), "1", "amd64")))
	}
}

// gate lets an object be opened when it is told to.
func gate(w *world) (pass chan struct{}) {
	pass = make(chan struct{})
	w.open = func(ctx context.Context, object proto.ObjectRequest) error {
		if object.Class != proto.ClassPrefetch {
			return nil
		}
		select {
		case <-pass:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return pass
}

// TestInParallel, no more than it may, over all switches.
func TestInParallel(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pass := gate(w)
		p := w.prefetcher(func(c *Config) { c.Parallel = 3 })
		useMany(p, 20)
		p.Switched(w.switched(many(20, "2"), all))
		other := w.switched(many(20, "3"), all)
		other.Suite.Dir = "dists/noble-security"
		p.Switched(other)
		synctest.Wait()
		if got := w.order(); len(got) != 3 {
			t.Errorf("asked for %q at one time", got)
		}
		if s := p.Stats(); len(s.Switches) != 2 || s.Switches[0].Objects[Waiting] != 20 || !s.Switches[1].Ended.IsZero() {
			t.Errorf("%+v", s.Switches)
		}
		close(pass)
		if s := settled(t, p); s.Objects[Fetched] != 40 {
			t.Errorf("%v", s.Objects)
		}
		if w.most > 3 || w.running != 0 {
			t.Errorf("%d bodies at one time, %d not closed", w.most, w.running)
		}
	})
}

// TestSuperseded: what the older job left is taken over, where it is still listed.
func TestSuperseded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pass := gate(w)
		p := w.prefetcher(func(c *Config) { c.Parallel = 2 })
		useMany(p, 6)
		first := many(6, "2")
		p.Switched(w.switched(first, all))
		for range 2 { // the first two are fetched, the next two under way
			pass <- struct{}{}
			synctest.Wait()
		}
		// The next generation has p005 anew, and p004 no more.
		second := many(4, "2") + stanza("p005", "3", "amd64", "", 10)
		p.Switched(w.switched(second, onlyNew(pool("p005", "3", "amd64"))))
		close(pass)
		s := settled(t, p)
		if got := w.order(); len(got) != 7 {
			t.Errorf("asked for %q", got)
		}
		if got := s.Switches[0].Objects; got[Fetched] != 2 || got[Dropped] != 4 {
			t.Errorf("the older switch: %v", got)
		}
		if got := s.Switches[1].Objects; got[Fetched] != 3 || len(counts(s)) != 2 {
			t.Errorf("the newer switch: %v, %v", got, s.Objects)
		}
		for path, want := range map[string]string{
			pool("p003", "2", "amd64"): "Fetched ahead at 00:00 UTC because clients used p003 (amd64) within the last 14 days.",
			pool("p005", "3", "amd64"): "Fetched ahead at 00:00 UTC because clients used p005 (amd64) within the last 14 days.",
			pool("p004", "2", "amd64"): "Not fetched ahead: a newer generation came first.",
		} {
			if got := p.Why(loc(path)); got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
	})
}

// TestSupersededUnread: a job whose indices were not read yet leaves all that is new
// in its generation.
func TestSupersededUnread(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(one)
		useMany(p, 3)
		text := many(3, "2")
		p.reading <- struct{}{} // somebody else reads
		p.Switched(w.switched(text, onlyNew(pool("p000", "2", "amd64"), pool("p001", "2", "amd64"))))
		synctest.Wait()
		p.Switched(w.switched(text, onlyNew(pool("p002", "2", "amd64"))))
		synctest.Wait()
		<-p.reading
		s := settled(t, p)
		if got := names(w.order()); !slices.Equal(got, []string{"p000 2 amd64", "p001 2 amd64", "p002 2 amd64"}) {
			t.Errorf("fetched %q", got)
		}
		if len(s.Switches) != 2 || len(s.Switches[0].Objects) != 0 {
			t.Errorf("%+v", s.Switches)
		}
	})
}

// TestOnceForTwoSuites: the same package is published in two suites at one time.
func TestOnceForTwoSuites(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pass := gate(w)
		p := w.prefetcher()
		useMany(p, 1)
		text := many(1, "2")
		for _, dir := range []string{"dists/noble-security", "dists/noble-updates"} {
			f := w.switched(text, all)
			f.Suite.Dir = dir
			p.Switched(f)
		}
		synctest.Wait()
		if got := w.order(); len(got) != 1 {
			t.Errorf("asked for %q", got)
		}
		close(pass)
		s := settled(t, p)
		if got := counts(s); !maps.Equal(got, map[Outcome]int64{Fetched: 1, Stored: 1}) || s.Bytes != 10 || len(w.order()) != 1 {
			t.Errorf("%v, %d bytes, asked for %q", got, s.Bytes, w.order())
		}
		// A third suite brings it a day later.
		time.Sleep(24 * time.Hour)
		f := w.switched(text, all)
		f.Suite.Dir = "dists/noble-proposed"
		p.Switched(f)
		settled(t, p)
		if got := p.Why(loc(pool("p000", "2", "amd64"))); got != "Fetched ahead at 2000-01-01 00:00 UTC because clients used p000 (amd64) within the last 14 days." {
			t.Errorf("%q", got)
		}
	})
}

// TestFailures are counted and not repeated, whether before the body or in it; a row
// of them ends the job, for its upstream is in trouble.
func TestFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(one)
		useMany(p, 40)
		w.open = func(_ context.Context, object proto.ObjectRequest) error {
			switch object.Where.First.Path {
			case pool("p001", "2", "amd64"):
				return proto.ErrNotFound
			case pool("p003", "2", "amd64"):
				return &proto.Unavailable{Reason: "upstream is down"}
			}
			return nil
		}
		w.body = func(object proto.ObjectRequest, body io.Reader) io.Reader {
			if object.Where.First.Path == pool("p002", "2", "amd64") {
				return io.MultiReader(io.LimitReader(body, 4), iotest.ErrReader(proto.ErrCorrupt))
			}
			return body
		}
		p.Switched(w.switched(many(40, "2"), all))
		s := settled(t, p)
		if got := counts(s); !maps.Equal(got, map[Outcome]int64{Fetched: 37, Failed: 3}) || len(w.order()) != 40 || w.running != 0 {
			t.Errorf("%v, %d asked for, %d not closed", got, len(w.order()), w.running)
		}
		if s.Bytes != 37*10+4 {
			t.Errorf("%d bytes", s.Bytes)
		}
		if got := p.Why(loc(pool("p003", "2", "amd64"))); got != "Fetching it ahead failed at 00:00 UTC (upstream is down); the first client that asks fetches it." {
			t.Errorf("%q", got)
		}

		w.open = func(_ context.Context, object proto.ObjectRequest) error {
			if object.Class == proto.ClassPrefetch {
				return errBoom
			}
			return nil
		}
		p.Switched(w.switched(many(40, "3"), all))
		s = settled(t, p)
		if got := s.Switches[1].Objects; got[Failed] != giveUpAfter || got[Dropped] != 40-giveUpAfter || len(w.order()) != 40+giveUpAfter {
			t.Errorf("%v, %d asked for", got, len(w.order()))
		}
		if got := p.Why(loc(pool("p039", "3", "amd64"))); got != "Not fetched ahead: too many failures in a row, the last one: boom." {
			t.Errorf("%q", got)
		}
	})
}

// TestFailuresInARow are what ends a job; as many with successes between do not.
func TestFailuresInARow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(one)
		useMany(p, 10*giveUpAfter)
		n := 0
		w.open = func(_ context.Context, object proto.ObjectRequest) error {
			if n++; object.Class == proto.ClassPrefetch && n%5 != 0 {
				return errBoom
			}
			return nil
		}
		p.Switched(w.switched(many(10*giveUpAfter, "2"), all))
		if got := settled(t, p).Switches[0].Objects; got[Failed] < 5*giveUpAfter || got[Failed]+got[Fetched] != 10*giveUpAfter {
			t.Errorf("%v", got)
		}
	})
}

// TestTurnedOff in the middle, and on again.
func TestTurnedOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pass := gate(w)
		p := w.prefetcher(one)
		useMany(p, 5)
		p.Switched(w.switched(many(5, "2"), all))
		pass <- struct{}{}
		synctest.Wait()
		p.Reconfigure(Settings{false, 1000, time.Hour})
		s := settled(t, p)
		if got := counts(s); !maps.Equal(got, map[Outcome]int64{Fetched: 1, Dropped: 4}) || s.Enabled {
			t.Errorf("%v", got)
		}
		p.Switched(w.switched(many(5, "3"), all))
		if s := settled(t, p); len(s.Switches) != 1 {
			t.Errorf("%+v", s.Switches)
		}
		for path, want := range map[string]string{
			pool("p000", "3", "amd64"): "Not fetched ahead: prefetch.enabled is false.", "dists/noble/InRelease": "",
			pool("p004", "2", "amd64"): "Not fetched ahead: prefetch.enabled was turned off.",
		} {
			if got := p.Why(loc(path)); got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
		close(pass)
		time.Sleep(2 * time.Hour) // used_within is an hour now
		p.Reconfigure(Settings{true, 25, time.Hour})
		p.Used(loc(pool("p003", "2", "amd64")))
		p.Used(loc(pool("p001", "2", "amd64")))
		p.Used(loc(pool("p002", "2", "amd64")))
		p.Switched(w.switched(many(5, "4"), all))
		s = settled(t, p)
		if got := s.Switches[1]; got.Objects[Fetched] != 2 || got.Objects[Over] != 1 || got.Bytes != 20 {
			t.Errorf("%+v", got)
		}
		if got := p.Why(loc(pool("p003", "4", "amd64"))); got != "Not fetched ahead: over prefetch.max_bytes (25 B for a new generation)." {
			t.Errorf("%q", got)
		}
	})
}

// TestClose ends what is under way: a job before its indices, one at an object, and
// a body that does not move.
func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(one)
		stuck := make(chan struct{})
		w.body = func(_ proto.ObjectRequest, body io.Reader) io.Reader {
			return io.MultiReader(io.LimitReader(body, 3), readerFunc(func([]byte) (int, error) {
				<-stuck
				return 0, errBoom
			}))
		}
		useMany(p, 5)
		text := many(5, "2")
		p.Switched(w.switched(text, all))
		synctest.Wait()
		p.reading <- struct{}{}
		other := w.switched(text, all)
		other.Suite.Dir = "dists/noble"
		p.Switched(other)
		synctest.Wait()

		closed := make(chan error)
		go func() { closed <- p.Close() }()
		synctest.Wait()
		close(stuck)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		<-p.reading
		s := settled(t, p)
		if got := counts(s); !maps.Equal(got, map[Outcome]int64{Dropped: 5}) || len(w.order()) != 1 {
			t.Errorf("%v, asked for %q", got, w.order())
		}
		p.Switched(w.switched(text, all))
		if s := settled(t, p); len(s.Switches) != 2 {
			t.Errorf("%+v", s.Switches)
		}
		p.Used(loc(pool("hello", "1", "amd64"))) // harms nobody
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestIndicesThatFail: what can be read counts.
func TestIndicesThatFail(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(one)
		p.Used(loc(pool("a", "1", "amd64")))
		p.Used(loc(pool("b", "1", "amd64")))
		p.Used(loc(pool("c", "1", "amd64")))
		good := w.index(amd64, stanza("a", "2", "amd64", "", 1))
		torn := w.index("universe/binary-amd64/Packages", stanza("b", "2", "amd64", "", 1)+strings.Repeat("Package: x\n\n", 100_000))
		data := w.indices[torn.Object.Ref.Digest]
		torn = w.rawIndex("universe/binary-amd64/Packages.gz", data[:len(data)-50])
		evicted := w.index("restricted/binary-amd64/Packages", stanza("c", "2", "amd64", "", 1))
		w.held[evicted.Object.Ref.Digest] = false // it comes from elsewhere, and is held then
		absent := w.index("multiverse/binary-amd64/Packages", stanza("c", "3", "amd64", "", 1))
		w.open = func(_ context.Context, object proto.ObjectRequest) error {
			if object.Ref.Digest == absent.Object.Ref.Digest {
				return proto.ErrNotFound
			}
			return nil
		}
		unknown := w.rawIndex("x/binary-amd64/Packages.lz4", []byte("?"))
		p.Switched(proto.Switch{Suite: updates, Indexes: []proto.PackageIndex{absent, unknown, torn, evicted, good}, New: all})
		settled(t, p)
		if got := names(w.order()); !slices.Equal(got, []string{"a 2 amd64", "b 2 amd64", "c 2 amd64"}) {
			t.Errorf("fetched %q", got)
		}
	})
	// A store that keeps nothing: the index is not read while it arrives.
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(one)
		useMany(p, 1)
		f := w.switched(many(1, "2"), all)
		clear(w.held)
		w.keepsNothing = true
		opened := 0
		w.open = func(context.Context, proto.ObjectRequest) error { opened++; return nil }
		p.Switched(f)
		settled(t, p)
		if opened != 2 || len(w.order()) != 0 {
			t.Errorf("the index was opened %d times; fetched %q", opened, w.order())
		}
	})
}

// TestBenefit counts the objects that clients asked for after they were fetched
// ahead.
func TestBenefit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher()
		useMany(p, 3)
		p.Switched(w.switched(many(3, "2"), all))
		if s := settled(t, p); s.Used != 0 {
			t.Errorf("%+v", s)
		}
		for range 3 {
			p.Used(loc(pool("p001", "2", "amd64")))
			p.Used(loc(pool("p001", "1", "amd64"))) // was not
			p.Used(proto.Location{Archive: "debian", Path: pool("p002", "2", "amd64")})
		}
		p.Used(loc(pool("p002", "2", "amd64")))
		if s := settled(t, p); s.Used != 2 || s.UsedBytes != 20 {
			t.Errorf("%+v", s)
		}
	})
}

// TestReasonsAreBounded, and so is what Stats tells.
func TestReasonsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher(func(c *Config) { c.MaxBytes = 1 })
		useMany(p, 600)
		for i := range maxSwitches + 5 {
			p.Switched(w.switched(many(600, fmt.Sprint(i+2)), all))
			settled(t, p)
		}
		s := p.Stats()
		if len(s.Switches) != maxSwitches || p.reasons.Len() != maxReasons || s.Objects[Over] != 600*(maxSwitches+5) {
			t.Errorf("%d switches, %d reasons, %v", len(s.Switches), p.reasons.Len(), s.Objects)
		}
		last, first := loc(pool("p000", fmt.Sprint(maxSwitches+6), "amd64")), loc(pool("p000", "2", "amd64"))
		if p.Why(last) == "" || p.Why(first) != "" {
			t.Errorf("%q, %q", p.Why(last), p.Why(first))
		}
	})
}

// TestWhyDepends names whose dependency it is.
func TestWhyDepends(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pass := gate(w)
		p := w.prefetcher(one)
		p.Used(loc(pool("linux-generic", "6.8.0-50.51", "amd64")))
		p.Switched(w.switched(kernel("6.8.0-51"), kernelIsNew))
		synctest.Wait()
		image := loc(pool("linux-image-6.8.0-51-generic", "6.8.0-51.1", "amd64"))
		if got := p.Why(image); got != "To be fetched ahead since 00:00 UTC because linux-generic, which clients use, depends on it by way of linux-image-generic." {
			t.Errorf("%q", got)
		}
		close(pass)
		settled(t, p)
		for path, want := range map[string]string{
			image.Path: "Fetched ahead at 00:00 UTC because linux-generic, which clients use, depends on it by way of linux-image-generic.",
			pool("linux-image-generic", "6.8.0-51.1", "amd64"): "Fetched ahead at 00:00 UTC because linux-generic, which clients use, depends on it.",
			pool("linux-generic", "6.8.0-51.1", "amd64"):       "Fetched ahead at 00:00 UTC because clients used linux-generic (amd64) within the last 14 days.",
			pool("hello", "2.10-4", "amd64"):                   "",
		} {
			if got := p.Why(loc(path)); got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
		// What is used itself says so, whatever depends on it.
		p.Used(loc(pool("linux-image-generic", "6.8.0-51.1", "amd64")))
		p.Switched(w.switched(kernel("6.8.0-52"), kernelIsNew))
		settled(t, p)
		if got := p.Why(loc(pool("linux-image-generic", "6.8.0-52.1", "amd64"))); got != "Fetched ahead at 00:00 UTC because clients used linux-image-generic (amd64) within the last 14 days." {
			t.Errorf("%q", got)
		}
	})
}

// TestAtOnce has everything happen at one time; the race detector judges.
func TestAtOnce(t *testing.T) {
	w := newWorld(t)
	w.open = func(_ context.Context, object proto.ObjectRequest) error {
		if object.Class == proto.ClassPrefetch && rand.IntN(4) == 0 {
			return errBoom
		}
		return nil
	}
	p := w.prefetcher()
	var published []proto.Switch
	useMany(p, 50)
	for i := range 8 {
		f := w.switched(many(50, fmt.Sprint(i+2)), all)
		f.Suite.Dir = fmt.Sprintf("dists/suite%d", i%3)
		published = append(published, f)
	}
	registry := gathering(t, p)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 200 {
				path := loc(pool(fmt.Sprintf("p%03d", i%60), fmt.Sprint(g+i%8), "amd64"))
				p.Used(path)
				p.Why(path)
				switch i % 20 {
				case g:
					p.Switched(published[rand.IntN(len(published))])
				case 5 + g:
					p.Stats()
					registry()
				case 10 + g:
					p.Reconfigure(Settings{i%3 != 0, int64(rand.IntN(1000)), time.Hour})
				case 15:
					if err := p.save(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	s := p.Stats()
	for _, f := range s.Switches {
		if f.Ended.IsZero() || f.Objects[Waiting] != 0 {
			t.Errorf("left behind: %+v", f)
		}
	}
	if w.running != 0 || len(p.jobs) != 0 || len(p.underWay) != 0 {
		t.Errorf("left behind: %d bodies, %d jobs, %d objects", w.running, len(p.jobs), len(p.underWay))
	}
}
