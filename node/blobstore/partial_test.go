package blobstore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

func refOf(b []byte) proto.Ref { return proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))} }

// resume begins to write content and takes back what is there of it.
func resume(t *testing.T, s *Store, content []byte, only string) (*Writer, int64) {
	t.Helper()
	w, err := s.Resume(refOf(content), only)
	if err != nil {
		t.Fatal(err)
	}
	for {
		n, more := w.TakeBack()
		if got := w.Sum(); got != (proto.Ref{Digest: proto.DigestOf(content[:n]), Size: n}) {
			t.Fatalf("Sum = %v after %d bytes", got, n)
		}
		if !more {
			return w, n
		}
	}
}

// begin writes the first n bytes of content in pieces and parks them, or leaves them to a crash.
func begin(t *testing.T, s *Store, content []byte, n int, park bool) *Writer {
	t.Helper()
	w, have := resume(t, s, content, "")
	for rest := content[have:n]; len(rest) > 0; {
		size, err := w.Write(rest[:min(len(rest), 100_000)])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[size:]
	}
	if park {
		w.Park()
		if left := s.PartialSize(refOf(content), ""); left != int64(n) {
			t.Errorf("%d bytes are said to be left of %d", left, n)
		}
	}
	return w
}

// finish writes what is missing and checks what is stored.
func finishFrom(t *testing.T, s *Store, content []byte, wantLeast, wantMost int64) {
	t.Helper()
	w, n := resume(t, s, content, "")
	if n < wantLeast || n > wantMost {
		t.Errorf("%d bytes were left, want %d to %d", n, wantLeast, wantMost)
	}
	if _, err := w.Write(content[n:]); err != nil {
		t.Fatal(err)
	}
	if ref, err := w.Commit(someDay); err != nil || ref != refOf(content) {
		t.Fatalf("Commit = %v, %v", ref, err)
	}
	if _, got := body(t, s, refOf(content).Digest); !bytes.Equal(got, content) {
		t.Error("other bytes were stored")
	}
	if left := partialFiles(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	wantWhole(t, s)
}

func partialFiles(t *testing.T, s *Store) (names []string) {
	t.Helper()
	files, err := os.ReadDir(s.dirs.partial)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// TestParkedIsContinued: what was written is there for the next writer, to the byte, in this process
// and in the next one.
func TestParkedIsContinued(t *testing.T) {
	content := randomBytes(1, 3<<20)
	for _, restart := range []bool{false, true} {
		cfg := Config{Dir: fastDir(t), MemoryBytes: 1 << 20}
		s := open(t, cfg)
		begin(t, s, content, 1_800_001, true)
		if st := s.Stats(); st.Partial != 1_800_001 || st.Reserved != 0 {
			t.Errorf("%+v", st)
		}
		if restart {
			s.Close()
			s = open(t, cfg)
		}
		waitScanned(s)
		finishFrom(t, s, content, 1_800_001, 1_800_001)
		if st := s.Stats(); st.Partial != 0 || st.Used != 3<<20 || st.Reserved != 0 || s.space.pending.Load() != 0 {
			t.Errorf("restart %v: %+v, pending %d", restart, st, s.space.pending.Load())
		}
	}
}

// TestTornPartial: after a crash everything up to the last sum that fits the bytes is taken back, and
// nothing else, whatever has become of the two files.
func TestTornPartial(t *testing.T) {
	content := randomBytes(1, 4<<20)
	const written = 2_500_000
	patch := func(name string, at int64, b []byte) error {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt(b, at)
		return err
	}
	for name, c := range map[string]struct {
		harm        func(data, sums string) error
		least, most int64
	}{
		"killed":            {func(_, _ string) error { return nil }, written - sumEvery - 100_000, written},
		"tail lost":         {func(data, _ string) error { return os.Truncate(data, 1_000_000) }, 1_000_000 - sumEvery - 100_000, 1_000_000},
		"tail of zeros":     {func(data, _ string) error { return patch(data, 2_000_000, make([]byte, 1_500_000)) }, 2_000_000 - sumEvery - 100_000, 2_000_000},
		"a bit":             {func(data, _ string) error { return patch(data, 1_200_000, []byte{^content[1_200_000]}) }, 1_200_000 - sumEvery - 100_000, 1_200_000},
		"the first byte":    {func(data, _ string) error { return patch(data, 0, []byte{^content[0]}) }, 0, 0},
		"no sums":           {func(_, sums string) error { return os.Remove(sums) }, 0, 0},
		"half a sum":        {func(_, sums string) error { return os.Truncate(sums, int64(len(partialFormat)+3*sumLength+7)) }, 900_000, 900_000},
		"sums of zeros":     {func(_, sums string) error { return patch(sums, int64(len(partialFormat)), make([]byte, sumLength)) }, 0, 0},
		"another format":    {func(_, sums string) error { return patch(sums, 0, []byte("aptmesh partial 2\n")) }, 0, 0},
		"longer than it is": {func(data, _ string) error { return patch(data, written, make([]byte, 3<<20)) }, written - sumEvery - 100_000, written},
		"nothing":           {func(data, _ string) error { return os.Truncate(data, 0) }, 0, 0},
		"sums alone":        {func(data, _ string) error { return os.Remove(data) }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: fastDir(t)}
			s := open(t, cfg)
			w := begin(t, s, content, written, false)
			defer w.f.Close()
			s.Close() // as a crash would, but for the lock
			id := partialID{ref: refOf(content)}
			if err := c.harm(s.dirs.partialData(id), s.dirs.partialSums(id)); err != nil {
				t.Fatal(err)
			}
			s = open(t, cfg)
			waitScanned(s)
			finishFrom(t, s, content, c.least, c.most)
			if st := s.Stats(); st.Partial != 0 || st.Used != 4<<20 || st.Reserved != 0 || s.space.pending.Load() != 0 {
				t.Errorf("%+v, pending %d", st, s.space.pending.Load())
			}
		})
	}
}

// TestPartialIsExclusive: one writer has it; a second one of the same blob does without. Another archive's is
// another.
func TestPartialIsExclusive(t *testing.T) {
	content := randomBytes(1, 2<<20)
	s := open(t, Config{Dir: fastDir(t)})
	waitScanned(s)
	begin(t, s, content, 1<<20, true)
	if w, n := resume(t, s, content, "private/archive.x"); n != 0 {
		t.Errorf("a restricted archive goes on with %d bytes of another", n)
	} else {
		_, _ = w.Write(content[:1<<20])
		w.Park()
	}
	first, n := resume(t, s, content, "")
	if n != 1<<20 {
		t.Errorf("%d bytes were left", n)
	}
	finishFrom2 := func() {
		second, n := resume(t, s, content, "")
		if n != 0 {
			t.Errorf("two writers have one partial: %d", n)
		}
		if _, err := second.Write(content); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Commit(someDay); err != nil {
			t.Fatal(err)
		}
	}
	finishFrom2()
	first.Park()
	if _, n := resume(t, s, randomBytes(2, 2<<20), ""); n != 0 {
		t.Errorf("another blob goes on with %d bytes", n)
	}
}

// TestAbortedPartial: what was found to be wrong is no beginning.
func TestAbortedPartial(t *testing.T) {
	content := randomBytes(1, 2<<20)
	s := open(t, Config{Dir: fastDir(t)})
	waitScanned(s)
	begin(t, s, content, 1<<20, true)
	w, _ := resume(t, s, content, "")
	w.Abort()
	w.Park()
	if left := partialFiles(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if st := s.Stats(); st.Partial != 0 || st.Reserved != 0 || s.space.pending.Load() != 0 {
		t.Errorf("%+v", st)
	}
	finishFrom(t, s, content, 0, 0)
}

// TestAbortWhileTakingBack gives up in the middle of what was left, parked and not.
func TestAbortWhileTakingBack(t *testing.T) {
	content := randomBytes(1, 3<<20)
	s := open(t, Config{Dir: fastDir(t)})
	waitScanned(s)
	begin(t, s, content, 2<<20, true)
	w, err := s.Resume(refOf(content), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, more := w.TakeBack(); !more {
		t.Fatal("one piece was all")
	}
	w.Park()
	if st := s.Stats(); st.Partial != 2<<20 || st.Reserved != 0 || s.space.pending.Load() != 0 {
		t.Errorf("parked: %+v, pending %d", st, s.space.pending.Load())
	}
	w, _ = s.Resume(refOf(content), "")
	w.TakeBack()
	w.Abort()
	if st := s.Stats(); st.Partial != 0 || st.Reserved != 0 || s.space.pending.Load() != 0 {
		t.Errorf("aborted: %+v, pending %d", st, s.space.pending.Load())
	}
	wantWhole(t, s)
}

// TestPartialsAreBounded in number, bytes and age, and the oldest go first.
func TestPartialsAreBounded(t *testing.T) {
	c := newClock()
	cfg := Config{Dir: fastDir(t), MaxBytes: 10 << 20, Now: c.now}
	s := open(t, cfg)
	waitScanned(s)
	many := [][]byte{randomBytes(1, 3<<20), randomBytes(2, 3<<20), randomBytes(3, 3<<20)}
	for _, content := range many {
		begin(t, s, content, 2<<20, true)
		c.advance(time.Hour)
	}
	if st := s.Stats(); st.Partial != 4<<20 {
		t.Errorf("of half a store of 10 MiB %d bytes are used", st.Partial)
	}
	if w, n := resume(t, s, many[0], ""); n != 0 {
		t.Errorf("the oldest is still there: %d", n)
	} else {
		w.Abort()
	}
	for i := range maxPartials + 3 {
		content := randomBytes(uint64(100+i), minPartial)
		begin(t, s, content, 1000, true)
		c.advance(time.Second)
	}
	if files := partialFiles(t, s); len(files) != 2*maxPartials {
		t.Errorf("%d files", len(files))
	}
	s.Close()
	c.advance(maxPartialAge + time.Hour)
	for _, name := range partialFiles(t, s) { // the clock of the test is not that of the disk
		if err := setUsedAndModified(filepath.Join(s.dirs.partial, name), c.now().Add(-maxPartialAge-time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dirs.partial, "x"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if files := partialFiles(t, s); len(files) != 0 {
		t.Errorf("too old, or nobody's: %v", files)
	}
	wantWhole(t, s)
}

func setUsedAndModified(name string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	return setTimes(name, ts, ts)
}

// TestPartialsGoFirst: no blob is evicted as long as a partial can be dropped, by limit and by disk.
func TestPartialsGoFirst(t *testing.T) {
	for _, full := range []string{"limit", "disk"} {
		disk := &faultFS{}
		c := newClock()
		s := open(t, Config{Dir: fastDir(t), fs: disk, MaxBytes: 4 << 20, Now: c.now})
		waitScanned(s)
		old := mustPut(t, s, randomBytes(1, 1<<20))
		begin(t, s, randomBytes(2, 3<<20), 2<<20, true)
		size := 2 << 20
		if full == "disk" {
			disk.free.Store(1000)
			size = 100_000
			s.cfg.fs = disk
			// The file system has what the partial frees.
			disk.free.Store(1000)
		}
		content := randomBytes(3, size)
		w, err := s.Create(int64(size))
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(content)
		if full == "limit" && err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if st := s.Stats(); st.Partial != 0 {
			t.Errorf("%s: %d bytes of partials", full, st.Partial)
		}
		if full == "limit" && !s.Has(old) {
			t.Error("a blob went before a partial")
		}
	}
}

// TestPromiseTakesNothing: neither a size that is only told nor a size that can be continued evicts
// anything before bytes come.
func TestPromiseTakesNothing(t *testing.T) {
	c := newClock()
	s := open(t, Config{Dir: fastDir(t), MaxBytes: 10 << 20, Now: c.now})
	waitScanned(s)
	var digests []proto.Digest
	for i := range 9 {
		digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 1<<20)))
		c.advance(time.Hour)
	}
	content := randomBytes(100, 9<<20+1<<19)
	w, n := resume(t, s, content, "")
	if n != 0 {
		t.Fatal(n)
	}
	if _, err := s.Create(9 << 20); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Evictions != 0 || st.Reserved != 0 {
		t.Fatalf("a promise evicts: %+v", st)
	}
	if _, err := w.Write(content[:2<<20]); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Evictions < 1 || st.Evictions > 2 {
		t.Errorf("2 MiB came where 1 MiB was free, and %d blobs of 1 MiB went", st.Evictions)
	}
	if _, err := w.Write(content[2<<20:]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(someDay); err != nil {
		t.Fatal(err)
	}
	if got := held(s, digests); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestNothingGoesForWhatDoesNotFit: a blob that pins leave no room for evicts nothing on its way.
func TestNothingGoesForWhatDoesNotFit(t *testing.T) {
	s := open(t, Config{Dir: fastDir(t), MaxBytes: 10 << 20})
	waitScanned(s)
	var digests []proto.Digest
	for i := range 8 {
		digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 1<<20)))
	}
	w, err := s.Create(7 << 20) // before the pins
	if err != nil {
		t.Fatal(err)
	}
	s.Pin("x", digests[:4])
	content := randomBytes(100, 7<<20)
	n, err := w.Write(content[:4<<20])
	if !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), "still to come") {
		t.Errorf("%d, %v", n, err)
	}
	w.Abort()
	if st := s.Stats(); st.Evictions != 0 {
		t.Errorf("%d blobs went for nothing", st.Evictions)
	}
}

// TestPartialFails: a call that fails on the way of a partial costs its continuation at most.
func TestPartialFails(t *testing.T) {
	content := randomBytes(1, 2<<20)
	for _, step := range []string{"partial.create", "partial.sums", "partial.format", "partial.sum", "partial.drop", "blob.write", "blob.rename", "blob.sync"} {
		t.Run(step, func(t *testing.T) {
			disk := &faultFS{}
			s := open(t, Config{Dir: fastDir(t), fs: disk})
			waitScanned(s)
			disk.Break(step, unix.EIO)
			w, err := s.Resume(refOf(content), "")
			if err == nil {
				_, err = w.Write(content)
				if err == nil {
					_, err = w.Commit(someDay)
				}
				w.Park()
			}
			if err != nil && !errors.Is(err, proto.ErrNoSpace) {
				t.Errorf("%v", err)
			}
			if stored := s.Has(refOf(content).Digest); stored != (err == nil) {
				t.Errorf("stored: %v; %v", stored, err)
			}
			disk.Heal()
			if err != nil {
				finishFrom(t, s, content, 0, 2<<20)
			}
			if st := s.Stats(); st.Reserved != 0 || st.Partial != 0 || s.space.pending.Load() != 0 {
				t.Errorf("%+v, pending %d", st, s.space.pending.Load())
			}
			wantWhole(t, s)
		})
	}
}

// TestReaderOfAPartial follows what is taken back and what comes after it, through the commit.
func TestReaderOfAPartial(t *testing.T) {
	content := randomBytes(1, 2<<20)
	s := open(t, Config{Dir: fastDir(t)})
	waitScanned(s)
	begin(t, s, content, 1<<20, true)
	w, n := resume(t, s, content, "")
	r, err := w.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, n)
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, content[:n]) {
		t.Fatalf("%v", err)
	}
	_, _ = w.Write(content[n:])
	if _, err := w.Commit(someDay); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || !bytes.Equal(rest, content[n:]) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(s.dirs.partialData(partialID{ref: refOf(content)})); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
