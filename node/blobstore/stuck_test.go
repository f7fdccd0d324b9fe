package blobstore

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// The oldest operation is found among any number of short ones, and none is too old
// when it has ended.
func TestStuckWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log lockedBuffer
		w := newStuckWatch(slog.New(slog.NewTextHandler(&log, nil)))
		go w.run(t.Context())
		busy := func(d time.Duration) {
			for until := time.Now().Add(d); time.Now().Before(until); {
				op := w.begin()
				time.Sleep(10 * time.Millisecond)
				op.end()
			}
		}
		busy(time.Minute)
		if got := w.oldest(); got != 0 {
			t.Errorf("nothing runs, the oldest is of %v", got)
		}
		for range 3 { // more than once, and several at the same time
			var hanging sync.WaitGroup
			for i := range 2 * watchSlots {
				hanging.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					op := w.begin()
					time.Sleep(10*time.Second - time.Duration(i)*100*time.Millisecond)
					op.end()
				})
			}
			busy(8 * time.Second)
			if got := w.oldest(); got < 8*time.Second-watchEvery || got > 8*time.Second+2*watchEvery {
				t.Errorf("after 8 s the oldest is of %v", got)
			}
			hanging.Wait()
			busy(time.Second)
			if got := w.oldest(); got > 0 {
				t.Errorf("all have ended, the oldest is of %v", got)
			}
		}
		if said := log.String(); strings.Count(said, "does not answer") != 3 || strings.Count(said, "answers again") != 3 {
			t.Errorf("the log says:\n%s", said)
		}
	})
}

// What hangs in the kernel, in the store that flights use, is seen.
func TestStuckStoreIsSeen(t *testing.T) {
	store, err := Open(Config{Dir: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	body := strings.Repeat("x", 1<<20)
	writer, err := store.Create(int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	ref, err := writer.Commit(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := findBlob(t, store, ref.Digest)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if b, err := store.Get(ref.Digest); err == nil {
			b.Close()
		}
	}()
	deadline := time.After(time.Minute)
	for store.Stuck() < time.Second {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-done:
			t.Skip("the store does not wait for a FIFO")
		case <-deadline:
			t.Fatal("an open that hangs is not seen")
		}
	}
	end, err := os.OpenFile(path, os.O_RDWR, 0) // lets it go on
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	<-done
	if got := store.Stuck(); got != 0 {
		t.Errorf("it has ended, and the oldest is of %v", got)
	}
}

// findBlob is where a store keeps a blob.
func findBlob(t *testing.T, store *Store, d proto.Digest) string {
	t.Helper()
	b, err := store.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.File == nil {
		t.Fatal("it is in memory")
	}
	path, err := filepath.EvalSymlinks(b.File.Name())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lockedBuffer is a buffer for a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
