package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/durable/durabletest"
	"github.com/aptmesh/aptmesh/proto"
)

// faultFS is a durabletest.FS that also knows the calls only this room makes.
type faultFS struct {
	durabletest.FS
	free atomic.Int64 // what Free answers; 0: the truth
}

func (f *faultFS) SetTimes(step string, file *os.File, used, modified time.Time) error {
	if err := f.Note(step); err != nil {
		return err
	}
	return osFS{}.SetTimes(step, file, used, modified)
}

func (f *faultFS) Free(dir string) (int64, error) {
	if free := f.free.Load(); free != 0 {
		return free, nil
	}
	return osFS{}.Free(dir)
}

// TestOneCallFails fails each call on a blob's way to the disk, once. Each time:
// the caller learns that there is no space, the store says why and for how long,
// nothing is stored, nothing leaks, and it recovers by itself.
func TestOneCallFails(t *testing.T) {
	for _, step := range []string{"blob.create", "blob.write", "blob.times", "blob.sync", "blob.rename", "blob.syncdir"} {
		for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EACCES} {
			t.Run(fmt.Sprintf("%s/%v", step, errno), func(t *testing.T) { oneCallFails(t, step, errno) })
		}
	}
}

func oneCallFails(t *testing.T, step string, errno error) {
	disk := &faultFS{}
	var log bytes.Buffer
	s := open(t, Config{fs: disk, MemoryBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return someDay }})
	waitScanned(s)
	kept := mustPut(t, s, []byte("kept"))

	disk.Break(step, errno)
	content := randomBytes(1, 10_000)
	for range 3 {
		_, err := s.Put(content, someDay)
		if !errors.Is(err, proto.ErrNoSpace) || !errors.Is(err, errno) {
			t.Fatalf("Put = %v; want it to wrap ErrNoSpace and %v", err, errno)
		}
	}
	wantMiss(t, s, proto.DigestOf(content))
	st := s.Stats()
	if st.DegradedSince != someDay || !strings.Contains(st.Degraded, s.dirs.root) || !strings.Contains(st.Degraded, errno.Error()) {
		t.Errorf("degraded since %v: %q", st.DegradedSince, st.Degraded)
	}
	body(t, s, kept)
	wantWhole(t, s)

	disk.Heal()
	if d := mustPut(t, s, content); d != proto.DigestOf(content) {
		t.Fatal(d)
	}
	if st := s.Stats(); !st.DegradedSince.IsZero() || st.Degraded != "" {
		t.Errorf("still degraded after a good write: %+v", st)
	}
	wantWhole(t, s)
	if a, b := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "level=INFO"); a != 1 || b != 1 {
		t.Errorf("want one line when it begins and one when it ends:\n%s", log.String())
	}
}

// TestShortWrite: what Write reports as written is what is hashed and readable.
func TestShortWrite(t *testing.T) {
	disk := &faultFS{}
	s := open(t, Config{fs: disk})
	w, err := s.Create(1000)
	if err != nil {
		t.Fatal(err)
	}
	content := randomBytes(1, 1000)
	_, _ = w.Write(content[:500])
	disk.Break("blob.write", unix.ENOSPC)
	n, first := w.Write(content[500:])
	if n != 250 || !errors.Is(first, proto.ErrNoSpace) {
		t.Fatalf("Write = %d, %v", n, first)
	}
	if got, want := w.Sum(), (proto.Ref{Digest: proto.DigestOf(content[:750]), Size: 750}); got != want {
		t.Errorf("Sum = %v, want %v", got, want)
	}
	r, err := w.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, _ := io.ReadAll(r); !bytes.Equal(got, content[:750]) {
		t.Errorf("%d bytes are readable, want the 750 reported", len(got))
	}
	disk.Heal()
	if n, again := w.Write(content[750:]); n != 0 || again != first {
		t.Errorf("the first error must stick: %d, %v", n, again)
	}
	if _, again := w.Commit(someDay); again != first {
		t.Errorf("Commit after a failed Write = %v", again)
	}
	wantMiss(t, s, proto.DigestOf(content[:750]))
	wantWhole(t, s)
}

// TestCommitOrder: the bytes are synced before they get their name, and the name
// before Commit returns.
func TestCommitOrder(t *testing.T) {
	disk := &faultFS{}
	s := open(t, Config{fs: disk})
	waitScanned(s)
	mustPut(t, s, []byte("x")) // raises the ledger
	disk.Steps()
	mustPut(t, s, []byte("y"))
	want := []string{"blob.create", "blob.write", "blob.times", "blob.sync", "blob.rename", "blob.syncdir"}
	if steps := disk.Steps(); !slices.Equal(steps, want) {
		t.Errorf("blob: %v\nwant  %v", steps, want)
	}
}

// TestReplaceFails: a blob that was committed stays when committing it once more
// fails, at whatever call.
func TestReplaceFails(t *testing.T) {
	for _, step := range []string{"blob.write", "blob.times", "blob.sync", "blob.rename", "blob.syncdir"} {
		t.Run(step, func(t *testing.T) {
			disk := &faultFS{}
			s := open(t, Config{fs: disk})
			d := mustPut(t, s, []byte("x"))
			disk.Break(step, unix.EIO)
			if _, err := s.Put([]byte("x"), someDay); err == nil {
				t.Fatal("Put succeeded")
			}
			if _, got := body(t, s, d); string(got) != "x" {
				t.Fatalf("got %q", got)
			}
			wantWhole(t, s)
		})
	}
}

// TestLedgerFails: bytes that could not be noted are not reserved.
func TestLedgerFails(t *testing.T) {
	for _, step := range []string{"ledger.create", "ledger.write", "ledger.sync", "ledger.rename", "ledger.syncdir"} {
		t.Run(step, func(t *testing.T) {
			disk := &faultFS{}
			s := open(t, Config{fs: disk, MaxBytes: 256_000})
			waitScanned(s)
			disk.Break(step, unix.EIO)
			if _, err := s.Put(randomBytes(1, 10_000), someDay); !errors.Is(err, proto.ErrNoSpace) {
				t.Fatalf("Put = %v", err)
			}
			disk.Heal()
			mustPut(t, s, randomBytes(1, 10_000))
			wantWhole(t, s)
		})
	}
}

// TestEvictionFails: a blob that cannot be unlinked still counts.
func TestEvictionFails(t *testing.T) {
	disk := &faultFS{}
	s := open(t, Config{fs: disk, MaxBytes: 1000})
	waitScanned(s)
	mustPut(t, s, randomBytes(1, 800))
	disk.Break("blob.remove", unix.EROFS)
	if _, err := s.Put(randomBytes(2, 500), someDay); !errors.Is(err, proto.ErrNoSpace) {
		t.Fatalf("Put = %v", err)
	}
	if st := s.Stats(); st.Used != 800 || st.Evictions != 0 || st.Degraded == "" {
		t.Fatalf("%+v", st)
	}
	disk.Heal()
	mustPut(t, s, randomBytes(2, 500))
	wantWhole(t, s)
}

// TestReserveFree: the store leaves ReserveFree to others, and exchanges old
// blobs for new ones where they have taken it.
func TestReserveFree(t *testing.T) {
	disk := &faultFS{}
	s := open(t, Config{fs: disk, ReserveFree: 1000})
	waitScanned(s)
	disk.free.Store(1500)
	w, err := s.Create(400)
	if err != nil {
		t.Fatal(err)
	}
	content := randomBytes(1, 400)
	_, _ = w.Write(content[:1]) // 399 bytes are on their way
	if _, err := s.Put(randomBytes(3, 200), someDay); !errors.Is(err, proto.ErrNoSpace) {
		t.Fatalf("the bytes reserved by another were forgotten: %v", err)
	}
	if st := s.Stats(); !strings.Contains(st.Degraded, "free 99 B on it, or lower cache.max_size") {
		t.Errorf("Degraded = %q", st.Degraded)
	}
	_, _ = w.Write(content[1:])
	if _, err := w.Commit(someDay); err != nil {
		t.Fatal(err)
	}
	disk.free.Store(800) // somebody else grew
	d := mustPut(t, s, randomBytes(2, 300))
	if st := s.Stats(); st.Evictions != 1 || st.Blobs != 1 {
		t.Fatalf("want the old blob exchanged for the new one: %+v", st)
	}
	body(t, s, d)
	wantWhole(t, s)
}

// TestRoomAgain: the store is well as soon as there is room, although nobody writes.
func TestRoomAgain(t *testing.T) {
	degraded := func(t *testing.T, s *Store, want bool) {
		t.Helper()
		if st := s.Stats(); (st.Degraded != "") != want || st.DegradedSince.IsZero() == want {
			t.Errorf("degraded since %v: %q; want %v", st.DegradedSince, st.Degraded, want)
		}
	}
	refused := func(t *testing.T, s *Store, content []byte) {
		t.Helper()
		if _, err := s.Put(content, someDay); !errors.Is(err, proto.ErrNoSpace) {
			t.Fatalf("Put = %v", err)
		}
	}
	t.Run("on the file system", func(t *testing.T) {
		disk := &faultFS{}
		s := open(t, Config{fs: disk, ReserveFree: 1000})
		waitScanned(s)
		disk.free.Store(1100)
		refused(t, s, randomBytes(1, 200))
		degraded(t, s, true)
		disk.free.Store(1199)
		degraded(t, s, true)
		disk.free.Store(1200)
		degraded(t, s, false)
	})
	t.Run("below the limit", func(t *testing.T) {
		s := open(t, Config{MaxBytes: 1000})
		waitScanned(s)
		s.Pin("test", []proto.Digest{mustPut(t, s, randomBytes(1, 900))})
		refused(t, s, randomBytes(2, 200))
		degraded(t, s, true)
		s.Pin("test", nil)
		degraded(t, s, false)
	})
}

// TestRealDiskFull fills a small file system.
func TestRealDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("cannot mount a small tmpfs (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := open(t, Config{Dir: dir, MaxBytes: 1 << 30})
	waitScanned(s)
	kept := mustPut(t, s, randomBytes(0, 1<<20))

	w, err := s.Create(2 << 20)
	if err != nil {
		t.Fatal(err)
	}
	content := randomBytes(1, 2<<20)
	if _, err := w.Write(content[:1000]); err != nil { // reserves a step
		t.Fatal(err)
	}
	ballast := dir + "/ballast"
	if err := os.WriteFile(ballast, make([]byte, 5<<19), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := w.Write(content[1000 : 1<<20])
	n += 1000
	if n == 1000 || n == 1<<20 || !errors.Is(err, proto.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("Write on a full disk = %d, %v", n, err)
	}
	if got, want := w.Sum(), (proto.Ref{Digest: proto.DigestOf(content[:n]), Size: int64(n)}); got != want {
		t.Errorf("Sum = %v, want %v", got, want)
	}
	w.Abort()
	if st := s.Stats(); !strings.Contains(st.Degraded, "is full") {
		t.Errorf("Degraded = %q", st.Degraded)
	}
	body(t, s, kept)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, content)
	if st := s.Stats(); st.Degraded != "" {
		t.Errorf("still degraded: %q", st.Degraded)
	}
	wantWhole(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What does not fit into the store fits into a greater one, as far as the disk has room for that.
func TestRemedy(t *testing.T) {
	disk := &faultFS{}
	disk.free.Store(5000)
	s := open(t, Config{fs: disk, MaxBytes: 2000, ReserveFree: 1000})
	for size, want := range map[int64]string{3999: "raise cache.max_size", 4001: "its file system has room for 3.9 KiB in all"} {
		if _, err := s.Create(size); !errors.Is(err, proto.ErrNoSpace) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "raise") != strings.HasPrefix(want, "raise") {
			t.Errorf("%d bytes: %v, want %q", size, err, want)
		}
	}
}
