package prefetch

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestKeyOf(t *testing.T) {
	keys := map[uint64]bool{}
	for _, k := range [][3]string{{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"", "ab", "c"}, {"b", "a", "c"}, {"a", "b", "all"}} {
		keys[keyOf(k[0], proto.PackageID{Name: k[1], Arch: k[2]})] = true
	}
	if len(keys) != 6 {
		t.Errorf("%d keys of 6", len(keys))
	}
}

func TestHeat(t *testing.T) {
	u := newUsage()
	week := uint32(heatHalf)
	if u.heat(1, 1000, week) != 0 {
		t.Error("an unknown package is warm")
	}
	u.note(1, 1000)
	u.note(1, 1000)
	if h := u.heat(1, 1000, week); h != 1 {
		t.Errorf("used twice in one slot: %v", h)
	}
	u.changed.Store(false)
	u.note(1, 1000)
	u.note(1, 999) // a clock that was set back
	if u.changed.Load() {
		t.Error("a repeated use is written down")
	}
	u.note(1, 1001)
	if h := u.heat(1, 1001, week); h < 1.99 || h > 2 || !u.changed.Load() {
		t.Errorf("used in two slots: %v", h)
	}
	if h := u.heat(1, 1001+week, week); h < 0.99 || h > 1 {
		t.Errorf("a week later: %v", h)
	}
	if h := u.heat(1, 1002+week, week); h != 0 {
		t.Errorf("longer ago than asked for: %v", h)
	}
	if h := u.heat(1, 5, week); h < 1.99 {
		t.Errorf("seen by a clock that was set back: %v", h)
	}
}

// TestUsageIsBounded: the oldest uses go, whatever comes.
func TestUsageIsBounded(t *testing.T) {
	u := newUsage()
	key := func(i int) uint64 { return keyOf("a", proto.PackageID{Name: fmt.Sprint("package", i), Arch: "amd64"}) }
	const n = 2 * maxUsed
	for i := range n {
		u.note(key(i), uint32(1000+i))
		if i%5000 == 0 && u.len() > maxUsed {
			t.Fatalf("%d of at most %d", u.len(), maxUsed)
		}
	}
	if got := u.len(); got > maxUsed || got < maxUsed*3/4 {
		t.Errorf("%d of at most %d", got, maxUsed)
	}
	for i := range n {
		known := u.heat(key(i), 1000+n, math.MaxUint32) > 0
		if i < n/4 && known || i > n*3/4 && !known {
			t.Fatalf("of %d, number %d: known is %v", n, i, known)
		}
	}
	// In a storm of new packages within one slot there is no oldest; the bound holds.
	for i := range n {
		u.note(key(n+i), 1000+n)
	}
	if got := u.len(); got > maxUsed || got < maxUsed*3/4 {
		t.Errorf("%d of at most %d", got, maxUsed)
	}
}

func TestUsedAllocatesNothing(t *testing.T) {
	p := newWorld(t).prefetcher()
	known, other := loc("pool/main/h/hello/hello_2.10-3_amd64.deb"), loc("dists/noble/main/binary-amd64/Packages.xz")
	p.Used(known)
	p.ready.add(loc("pool/x_1_amd64.deb"), 1) // so that the list is looked at
	if n := testing.AllocsPerRun(1000, func() { p.Used(known); p.Used(other) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if p.usage.len() != 1 {
		t.Errorf("%d packages known", p.usage.len())
	}
}

// TestUsesSurvive restarts, and a state file that was damaged is a table that is
// learnt anew.
func TestUsesSurvive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hello := loc(pool("hello", "1", "amd64"))
		p := w.prefetcher()
		p.Used(hello)
		if err := p.Close(); err != nil || len(w.files) != 1 {
			t.Fatalf("%v, %d files", err, len(w.files))
		}
		saved := bytes.Clone(w.files[stateFile])
		clear(w.files)
		if err := p.Close(); err != nil || len(w.files) != 0 {
			t.Fatalf("closed again: %v, %d files", err, len(w.files))
		}

		next := w.switched(stanza("hello", "2", "amd64", "", 5), all)
		for name, damaged := range map[string][]byte{
			"cut short": saved[:len(saved)-1], "empty": {}, "too long": append(bytes.Clone(saved), 0), "one bit": bytes.Replace(saved, saved[20:22], []byte{1, 2}, 1),
			"another format": append([]byte("aptmesh uses 2\n"), saved[len(stateMagic):]...),
		} {
			w.files[stateFile] = damaged
			p := w.prefetcher()
			p.Switched(next)
			if s := settled(t, p); s.Known != 0 || len(counts(s)) != 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
		w.files[stateFile] = saved
		p = w.prefetcher()
		p.Switched(next)
		if s := settled(t, p); s.Known != 1 || !maps.Equal(counts(s), map[Outcome]int64{Fetched: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// TestUsesAreSaved every few minutes if there is something new, and again where it
// failed.
func TestUsesAreSaved(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := w.prefetcher()
		after := func(d time.Duration) int {
			time.Sleep(d)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			n := len(w.files[stateFile])
			delete(w.files, stateFile)
			return n
		}
		if n := after(time.Hour); n != 0 {
			t.Errorf("%d bytes of nothing", n)
		}
		p.Used(loc(pool("hello", "1", "amd64")))
		if n := after(saveEvery + time.Second); n == 0 {
			t.Error("nothing was saved")
		}
		if n := after(time.Hour); n != 0 {
			t.Errorf("%d bytes of nothing new", n)
		}
		w.mu.Lock()
		w.failing = errBoom
		w.mu.Unlock()
		p.Used(loc(pool("hello", "1", "amd64")))
		if n := after(time.Hour); n != 0 {
			t.Errorf("%d bytes on a full disk", n)
		}
		if err := p.save(); !errors.Is(err, errBoom) {
			t.Error(err)
		}
		w.mu.Lock()
		w.failing = nil
		w.mu.Unlock()
		if n := after(saveEvery + time.Second); n == 0 {
			t.Error("nothing was saved after the trouble")
		}
	})
}

// FuzzUnmarshal holds that no file makes more of a table than there may be, and that
// what was read can be written down and read again.
func FuzzUnmarshal(f *testing.F) {
	u := newUsage()
	f.Add(u.marshal(), false)
	for i := range 40 {
		u.note(keyOf("a", proto.PackageID{Name: fmt.Sprint(i), Arch: "amd64"}), uint32(i))
	}
	f.Add(u.marshal(), false)
	f.Add([]byte("0123456789abcdef"), true)
	f.Add(bytes.Repeat([]byte{0xff}, 160), true)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap { // entries, to be given the right frame
			b = b[:len(b)/useBytes*useBytes]
			b = sealed(append([]byte(stateMagic), b...))
		}
		const now = 1 << 22
		u := newUsage()
		if u.unmarshal(b, now) != nil {
			if wrap {
				t.Fatal("a whole file is refused")
			}
			return
		}
		again := newUsage()
		if err := again.unmarshal(u.marshal(), now); err != nil {
			t.Fatal(err)
		}
		for i := range u.shards {
			if !maps.Equal(u.shards[i].uses, again.shards[i].uses) || len(u.shards[i].uses) > shardUses {
				t.Fatalf("%v becomes %v", u.shards[i].uses, again.shards[i].uses)
			}
			for _, use := range u.shards[i].uses {
				if use.slot > now || !(use.heatAt(now) >= 0) {
					t.Fatalf("%+v", use)
				}
			}
		}
	})
}
