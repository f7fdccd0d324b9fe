package blobstore

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// TestStartWithManyBlobs: a store with 100,000 blobs serves at once, and knows
// them all soon after.
func TestStartWithManyBlobs(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100,000 files")
	}
	const blobs = 100_000
	cfg := Config{Dir: fastDir(t), MemoryBytes: 1 << 20, Observer: deaf{}}
	open(t, cfg).Close()
	d := dirsOf(cfg.Dir)
	content := func(i int) []byte { return fmt.Appendf(nil, "blob %d", i) }
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < blobs; i += 4 {
				if err := os.WriteFile(d.blob(proto.DigestOf(content(i))), content(i), fileMode); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()

	before := heapBytes()
	start := time.Now()
	s := open(t, cfg)
	opened := time.Since(start)
	_, got := body(t, s, proto.DigestOf(content(blobs-1)))
	served := time.Since(start)
	waitScanned(s)
	scanned := time.Since(start)
	perBlob := float64(heapBytes()-before) / blobs

	t.Logf("%d blobs: open %v, first blob %v, all counted %v, %.0f bytes of memory per blob", blobs, opened, served, scanned, perBlob)
	if string(got) != string(content(blobs-1)) {
		t.Errorf("got %q", got)
	}
	if st := s.Stats(); st.Blobs != blobs {
		t.Errorf("counted %d blobs", st.Blobs)
	}
	if served > 500*time.Millisecond {
		t.Errorf("the first blob took %v", served)
	}
	if perBlob > 150 {
		t.Errorf("%.0f bytes of memory per blob", perBlob)
	}
}

// heapBytes returns the bytes that are in use.
func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
