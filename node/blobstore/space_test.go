package blobstore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// clock is a clock that a test sets.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(someDay.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// held lists which of the digests are in the store, by position.
func held(s *Store, digests []proto.Digest) string {
	var out []string
	for i, d := range digests {
		if _, ok := s.Stat(d); ok {
			out = append(out, strconv.Itoa(i))
		}
	}
	return strings.Join(out, " ")
}

// putHourly stores n blobs of 100 bytes, an hour apart.
func putHourly(t *testing.T, s *Store, c *clock, n int) (digests []proto.Digest) {
	for i := range n {
		digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 100)))
		c.advance(time.Hour)
	}
	return digests
}

func TestEvictsByLastUse(t *testing.T) {
	for _, memory := range []int64{0, 1 << 20} {
		c := newClock()
		s := open(t, Config{MaxBytes: 1000, MemoryBytes: memory, Now: c.now})
		waitScanned(s)
		digests := putHourly(t, s, c, 10)
		if memory > 0 {
			s.memory.cache.Wait()
		}
		body(t, s, digests[0])
		body(t, s, digests[2])
		mustPut(t, s, randomBytes(100, 101)) // needs two
		if got := held(s, digests); got != "0 2 4 5 6 7 8 9" {
			t.Errorf("memory=%d: left are %s", memory, got)
		}
		wantMiss(t, s, digests[1])
		if st := s.Stats(); st.Evictions != 2 || st.EvictedBytes != 200 {
			t.Errorf("%+v", st)
		}
		wantWhole(t, s)
	}
}

// TestRecencySurvivesRestart: the order of eviction is that of the uses before
// the restart, whatever the kernel thinks of atimes.
func TestRecencySurvivesRestart(t *testing.T) {
	c := newClock()
	cfg := Config{Dir: fastDir(t), MaxBytes: 1000, Now: c.now, ScrubBytesPerSecond: 1 << 30}
	s := open(t, cfg)
	waitScanned(s)
	digests := putHourly(t, s, c, 10)
	body(t, s, digests[1])
	body(t, s, digests[0])
	c.advance(time.Hour)
	body(t, s, digests[0])
	drainTouched(t, s, digests[0], c.now())
	s.Close()
	if _, err := Verify(t.Context(), cfg.Dir, nil); err != nil { // must not count as a use
		t.Fatal(err)
	}

	c.advance(time.Hour)
	s = open(t, cfg)
	waitScanned(s)
	for i, want := range []string{"0 1 3 4 5 6 7 8 9", "0 1 4 5 6 7 8 9"} {
		mustPut(t, s, randomBytes(uint64(100+i), 100))
		if got := held(s, digests); got != want {
			t.Fatalf("after %d new ones left are %s, want %s", i+1, got, want)
		}
	}
	for i, d := range []proto.Digest{digests[0], digests[1], digests[9]} {
		if b, _ := body(t, s, d); b.Modified != someDay {
			t.Errorf("blob %d: keeping the last use changed Last-Modified to %v", i, b.Modified)
		}
	}
	wantWhole(t, s)
}

// drainTouched returns when a blob's last use is on disk.
func drainTouched(t *testing.T, s *Store, d proto.Digest, want time.Time) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		f, st, err := s.openBlob(s.dirs.blob(d))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if st.Atim.Nano() == want.UnixNano() {
			return
		}
	}
	t.Fatal("the last use did not reach the disk")
}

// TestTouchIsCoarse: many hits, one inode write.
func TestTouchIsCoarse(t *testing.T) {
	c := newClock()
	s := open(t, Config{Now: c.now})
	d := mustPut(t, s, []byte("x"))
	e := s.index.shard(d).get(d)
	for _, step := range []struct {
		after time.Duration
		kept  time.Duration // since someDay
	}{{time.Second, 0}, {touchEvery - 2*time.Second, 0}, {time.Second, touchEvery}, {time.Minute, touchEvery}} {
		c.advance(step.after)
		body(t, s, d)
		if got, want := e.rewrites.Load(), uint32(someDay.Add(step.kept).Unix()); got != want {
			t.Errorf("%v later the disk is to say %d, want %d", step.after, got, want)
		}
		if e.used.Load() != c.now().UnixNano() {
			t.Error("the last use in memory is behind")
		}
	}
}

func TestPinnedIsNeverEvicted(t *testing.T) {
	c := newClock()
	cfg := Config{Dir: fastDir(t), MaxBytes: 1000, MemoryBytes: 1 << 20, Now: c.now}
	s := open(t, cfg)
	digests := putHourly(t, s, c, 10)
	pin := func() {
		s.Pin("a", digests[:3])
		s.Pin("b", append([]proto.Digest{proto.DigestOf([]byte("not here"))}, digests[2:4]...))
	}
	pin()
	s.Close()

	s = open(t, cfg) // pins come at any time, before the scan too
	pin()
	waitScanned(s)
	mustPut(t, s, randomBytes(100, 200))
	if got := held(s, digests); got != "0 1 2 3 6 7 8 9" {
		t.Errorf("left are %s", got)
	}
	if st := s.Stats(); st.Pinned != 400 || st.PinnedBlobs != 4 {
		t.Errorf("pinned: %+v", st)
	}
	// What cannot be had even so costs nobody anything.
	if _, err := s.Create(601); !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("Create beyond the pins: %v", err)
	}
	if w, err := s.Create(proto.UnknownSize); err != nil {
		t.Error(err)
	} else {
		if _, err := w.Write(randomBytes(102, 601)); !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), "pinned") {
			t.Errorf("Write beyond the pins: %v", err)
		}
		w.Abort()
	}
	if _, err := s.Create(1001); !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), "larger than the whole store") {
		t.Errorf("Create beyond the limit: %v", err)
	}
	if got := held(s, digests); got != "0 1 2 3 6 7 8 9" {
		t.Errorf("after the refusals left are %s", got)
	}
	s.Pin("a", nil)
	mustPut(t, s, randomBytes(101, 700))
	if got := held(s, digests); got != "2 3" {
		t.Errorf("after unpinning left are %s", got)
	}
	wantWhole(t, s)
}

// TestPinnedMeanwhile: a blob that was pinned or used after it was chosen to go
// stays.
func TestPinnedMeanwhile(t *testing.T) {
	c := newClock()
	s := open(t, Config{MaxBytes: 1000, Now: c.now})
	waitScanned(s)
	digests := putHourly(t, s, c, 3)
	chosen := s.oldest(300, 300)
	if len(chosen) != 3 {
		t.Fatalf("chose %v", chosen)
	}
	s.Pin("a", digests[:1])
	body(t, s, digests[1])
	for _, v := range chosen {
		s.evictOne(v)
	}
	if got := held(s, digests); got != "0 1" {
		t.Errorf("left are %s", got)
	}
	wantWhole(t, s)
}

// TestEstimateTooLow: blobs that somebody copied into the directory count as soon
// as they are found.
func TestEstimateTooLow(t *testing.T) {
	sp := space{max: 100, bound: 100}
	sp.found(90)
	if fits, _ := sp.take(20); fits {
		t.Error("the limit was given out twice")
	}
}

// TestLimitHolds lets many writers fight for little room.
func TestLimitHolds(t *testing.T) {
	const limit = 100_000
	disk := &meterFS{}
	s := open(t, Config{MaxBytes: limit, MemoryBytes: 1 << 20, fs: disk})
	var writers sync.WaitGroup
	var kept, refused atomic.Int64
	for g := range 8 {
		writers.Go(func() {
			for i := range 60 {
				n := (g*977+i*331)%30_000 + 1
				size := int64(n)
				if i%2 == 0 {
					size = proto.UnknownSize
				}
				w, err := s.Create(size)
				if used, reserved, _ := s.space.totals(); used < 0 || reserved < 0 || used+reserved > limit {
					t.Errorf("used %d, reserved %d", used, reserved)
				}
				if err == nil {
					content := randomBytes(uint64(g*1000+i), n)
					for len(content) > 0 && err == nil {
						part := content[:min(4096, len(content))]
						_, err = w.Write(part)
						content = content[len(part):]
					}
					if err == nil && i%5 != 0 {
						_, err = w.Commit(someDay)
					}
					w.Abort()
				}
				switch {
				case err == nil:
					kept.Add(1)
				case errors.Is(err, proto.ErrNoSpace):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if peak := disk.peak.Load(); peak > limit || peak < limit*9/10 {
		t.Errorf("at most %d bytes were on disk; the limit is %d, and it should have come near", peak, limit)
	}
	if kept.Load() < 100 {
		t.Errorf("only %d of 480 got room, %d were refused", kept.Load(), refused.Load())
	}
	wantWhole(t, s)
}

// meterFS counts the bytes of blobs that are on disk.
type meterFS struct {
	osFS
	now, peak atomic.Int64
}

func (m *meterFS) Write(step string, f *os.File, p []byte) (int, error) {
	if step == "blob.write" {
		now := m.now.Add(int64(len(p)))
		for peak := m.peak.Load(); now > peak && !m.peak.CompareAndSwap(peak, now); peak = m.peak.Load() {
		}
	}
	return m.osFS.Write(step, f, p)
}

func (m *meterFS) Remove(step, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	err = m.osFS.Remove(step, name)
	if err == nil {
		m.now.Add(-info.Size())
	}
	return err
}

// TestUnknownSizeAtTheLimit: a transfer of unknown size gets whatever is left,
// and then a clear no.
func TestUnknownSizeAtTheLimit(t *testing.T) {
	s := open(t, Config{MaxBytes: 3000})
	waitScanned(s)
	w, err := s.Create(proto.UnknownSize)
	if err != nil {
		t.Fatal(err)
	}
	var total int
	for err == nil {
		var n int
		n, err = w.Write(make([]byte, 700))
		total += n
	}
	if total != 2800 || !errors.Is(err, proto.ErrNoSpace) {
		t.Fatalf("wrote %d, %v", total, err)
	}
	w.Abort()
	wantWhole(t, s)

	// Growing in steps evicts for the bytes that came, not for the step.
	kept := mustPut(t, s, randomBytes(1, 1000))
	if w, err = s.Create(proto.UnknownSize); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	body(t, s, kept)
	if st := s.Stats(); st.Evictions != 0 {
		t.Errorf("%+v", st)
	}
}

func TestLoweredLimit(t *testing.T) {
	c := newClock()
	cfg := Config{Dir: fastDir(t), MaxBytes: 1000, Now: c.now}
	s := open(t, cfg)
	digests := putHourly(t, s, c, 10)
	s.Close()
	cfg.MaxBytes = 500
	s = open(t, cfg)
	waitScanned(s)
	if got := held(s, digests); got != "5 6 7 8 9" {
		t.Errorf("left are %s", got)
	}
	wantWhole(t, s)
}

// TestLedger: before the scan is done the store knows at least what is there,
// and after a crash not much more.
func TestLedger(t *testing.T) {
	const limit, blob = 256_000, 1000 // a step is a little more than a blob
	content := func(i int) []byte { return randomBytes(uint64(i), blob) }
	for _, c := range []struct {
		name     string
		crash    func(dirs)
		min, max int64
	}{
		{"closed", func(dirs) {}, 50 * blob, 50 * blob},
		{"ledger lost", func(d dirs) { os.Remove(d.root + "/" + ledgerName) }, limit, limit},
		{"ledger torn", func(d dirs) { os.WriteFile(d.root+"/"+ledgerName, []byte("-"), 0o600) }, limit, limit},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Dir: fastDir(t), MaxBytes: limit}
			s := open(t, cfg)
			for i := range 50 {
				mustPut(t, s, content(i))
				on, err := s.readNote(ledgerName)
				if err != nil {
					t.Fatal(err)
				}
				bound, _ := strconv.ParseInt(strings.TrimSpace(string(on)), 10, 64)
				if have := int64(i+1) * blob; bound < have || bound > have+2*s.ledgerStep() {
					t.Fatalf("with %d bytes the ledger says %d", have, bound)
				}
			}
			s.Close()
			c.crash(s.dirs)
			s = &Store{dirs: s.dirs, space: space{max: limit}}
			if err := s.openLedger(false); err != nil {
				t.Fatal(err)
			}
			if used, _, _ := s.space.totals(); used < c.min || used > c.max {
				t.Errorf("the estimate is %d, want %d to %d", used, c.min, c.max)
			}
		})
	}
}

// TestLedgerIsNeverBehind: at no moment may more be reserved than the file says.
func TestLedgerIsNeverBehind(t *testing.T) {
	disk := &ledgerFS{}
	s := open(t, Config{MaxBytes: 256_000, fs: disk})
	waitScanned(s)
	looks := 0
	disk.setLook(func() {
		looks++
		text, err := s.readNote(ledgerName)
		if err != nil {
			t.Error(err)
		}
		on, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		s.space.mu.Lock()
		defer s.space.mu.Unlock()
		if s.space.bound > on {
			t.Errorf("up to %d bytes may be reserved, the ledger says %d", s.space.bound, on)
		}
	})
	for i := range 20 {
		d := mustPut(t, s, randomBytes(uint64(i), 1000))
		if i%3 == 0 {
			if err := s.Remove(d); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.lowerLedger(s.ledgerStep() * int64(i%4)); err != nil {
			t.Fatal(err)
		}
	}
	disk.setLook(nil)
	if looks < 10 {
		t.Errorf("the ledger was written only %d times", looks)
	}
}

// ledgerFS looks each time before the ledger is replaced.
type ledgerFS struct {
	osFS
	look atomic.Pointer[func()]
}

func (l *ledgerFS) setLook(f func()) { l.look.Store(&f) }

func (l *ledgerFS) Rename(step, from, to string) error {
	if look := l.look.Load(); look != nil && *look != nil && step == "ledger.rename" {
		(*look)()
	}
	return l.osFS.Rename(step, from, to)
}

// TestFullStoreAfterRestart: the first reservation after the start of a full
// store finds room while the scan still runs.
func TestFullStoreAfterRestart(t *testing.T) {
	cfg := Config{Dir: fastDir(t), MaxBytes: 20_000}
	s := open(t, cfg)
	for i := range 20 {
		mustPut(t, s, randomBytes(uint64(i), 1000))
	}
	s.Close()
	s = open(t, cfg)
	for i := range 20 {
		mustPut(t, s, randomBytes(uint64(100+i), 1000))
	}
	wantWhole(t, s)
	if st := s.Stats(); st.Used > cfg.MaxBytes {
		t.Errorf("%+v", st)
	}
}

func TestScrub(t *testing.T) {
	dir := fastDir(t)
	bubble.Test(t, func(t *testing.T) {
		s := open(t, Config{Dir: dir, ScrubBytesPerSecond: 10_000})
		synctest.Wait()
		var digests []proto.Digest
		for i := range 20 {
			digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 10_000)))
		}
		used := usedTimes(t, s, digests)
		s.Close()
		flip(t, s.dirs.blob(digests[7]))

		s = open(t, Config{Dir: dir, ScrubBytesPerSecond: 10_000})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := s.Stats().Scrubbed; got < 100_000 || got > 100_000+scrubChunk+10_000 {
			t.Errorf("%d bytes in 10 s at 10000/s and a burst of %d", got, scrubChunk)
		}
		first := s.Stats().Scrubbed
		s.Close()

		s = open(t, Config{Dir: dir, ScrubBytesPerSecond: 10_000})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := first + s.Stats().Scrubbed; got < 200_000 || got > 220_000 {
			t.Errorf("two runs scrubbed %d of 200000 bytes: the second must go on where the first was", got)
		}
		wantMiss(t, s, digests[7])
		wantWhole(t, s)
		after := usedTimes(t, s, append(digests[:7:7], digests[8:]...))
		if want := append(used[:7:7], used[8:]...); fmt.Sprint(after) != fmt.Sprint(want) {
			t.Errorf("the scrub disturbed the last uses:\n%v\n%v", want, after)
		}
		s.Close()
	})
}

func usedTimes(t *testing.T, s *Store, digests []proto.Digest) (times []int64) {
	t.Helper()
	for _, d := range digests {
		f, st, err := s.openBlob(s.dirs.blob(d))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		times = append(times, st.Atim.Nano())
	}
	return times
}

// flip damages the middle of a file without changing its length or times.
func flip(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(name)
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setUsed(name, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// Two files of which only one fits at a time leave a store in good order. A file that what is pinned leaves no room for
// does not.
func TestTransfersInEachOthersWay(t *testing.T) {
	s := open(t, Config{MaxBytes: 1000})
	waitScanned(s)
	one, err := s.Create(900)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Write(randomBytes(1, 800)); err != nil {
		t.Fatal(err)
	}
	large := randomBytes(2, 500)
	if _, err := s.Put(large, someDay); !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), "reserved by transfers in progress") {
		t.Fatalf("both fit: %v", err)
	}
	if st := s.Stats(); st.Degraded != "" {
		t.Errorf("Degraded = %q", st.Degraded)
	}
	one.Abort()
	ref, err := s.Put(large, someDay)
	if err != nil {
		t.Fatal(err)
	}
	s.Pin("test", []proto.Digest{ref.Digest})
	two, err := s.Create(proto.UnknownSize)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Abort()
	for err == nil {
		_, err = two.Write(randomBytes(3, 100))
	}
	if st := s.Stats(); !errors.Is(err, proto.ErrNoSpace) || st.Degraded == "" {
		t.Errorf("of a file that does not fit: %v, Degraded = %q", err, st.Degraded)
	}
}
