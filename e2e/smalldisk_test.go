package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Hosts get everything from a node whose disk has 8 MiB, new publications among it, and upstream is asked
// for each object about once.
func TestSmallDisk(t *testing.T) {
	const packages = 120
	var all []testarchive.Package
	for i := range packages {
		all = append(all, testarchive.Package{Name: fmt.Sprintf("pkg%03d", i), Version: "1", Size: int64(400_000 + 10_000*i)})
	}
	// An index that is larger than the disk.
	words := rand.NewChaCha8([32]byte{1})
	for i := range 200 {
		text := make([]byte, 50_000)
		words.Read(text)
		all = append(all, testarchive.Package{Name: fmt.Sprintf("long%03d", i), Version: "1", Missing: true, Description: hex.EncodeToString(text)})
	}
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{archiveConfig: "check_every: 1s"}, all...)
	w.node.stop()
	if err := os.RemoveAll(w.node.DataDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.node.DataDir(), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", w.node.DataDir(), "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("cannot mount a small tmpfs (needs root): %v", err)
	}
	t.Cleanup(func() {
		w.node.Kill()
		if err := unix.Unmount(w.node.DataDir(), 0); err != nil {
			t.Error(err)
		}
	})
	w.node.start()
	w.server.ResetCounters()

	began := time.Now()
	update := func() {
		t.Helper()
		_, want := w.find("dists/noble/InRelease")
		eventually(t, 20*time.Second, "the node serves the newest Release", func() bool {
			resp, got := w.node.get("/debian/dists/noble/InRelease")
			return resp.StatusCode == http.StatusOK && bytes.Equal(got, want)
		})
		_, index := w.find("noble/main/binary-amd64/Packages.xz")
		for range 5 {
			if resp, got := w.node.get(indexURL(want)); resp.StatusCode != http.StatusOK || !bytes.Equal(got, index) {
				t.Errorf("the index: %s, %d bytes", resp.Status, len(got))
			}
		}
	}
	update()
	paths := make(chan string)
	var hosts sync.WaitGroup
	files := w.archive.Files()
	for range 4 {
		hosts.Go(func() {
			for path := range paths {
				if resp, got := w.node.get("/debian/" + path); resp.StatusCode != http.StatusOK || !bytes.Equal(got, files[path]) {
					t.Errorf("%s: %s, %d bytes", path, resp.Status, len(got))
				}
			}
		})
	}
	for path := range files {
		if strings.HasSuffix(path, ".deb") {
			paths <- path
		}
	}
	close(paths)
	hosts.Wait()
	w.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: "1", Size: 5000})
	w.archive.Publish(w.began.Add(time.Minute))
	update()

	var sent, unique int64
	for _, path := range w.server.Paths() {
		sent += w.server.Bytes(path)
		if w.server.Requests(path) > 0 {
			unique += int64(len(w.archive.Files()[path]))
		}
	}
	t.Logf("%d bytes upstream for %d bytes of content (%.3f) in %s", sent, unique, float64(sent)/float64(unique), time.Since(began).Round(time.Millisecond))
	if float64(sent) > 1.1*float64(unique) {
		t.Error("upstream was asked again for what hosts had just had")
	}
}
