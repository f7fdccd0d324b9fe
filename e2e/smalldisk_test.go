package e2e

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// onSmallDisk starts the node anew with a disk of that size.
func (w *world) onSmallDisk(size string) {
	w.t.Helper()
	w.node.stop()
	if err := os.RemoveAll(w.node.DataDir()); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Mkdir(w.node.DataDir(), 0o750); err != nil {
		w.t.Fatal(err)
	}
	if err := unix.Mount("none", w.node.DataDir(), "tmpfs", 0, "size="+size); err != nil {
		w.t.Skipf("cannot mount a small tmpfs (needs root): %v", err)
	}
	w.t.Cleanup(func() {
		w.node.Kill()
		if err := unix.Unmount(w.node.DataDir(), 0); err != nil {
			w.t.Error(err)
		}
	})
	w.node.start()
}

// A disk that is full makes no listed package an unlisted one: what a mirror gets wrong reaches no host.
func TestFullDiskAndLyingMirror(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{},
		testarchive.Package{Name: "hello", Version: "1", Size: 50_000}, testarchive.Package{Name: "world", Version: "1", Size: 50_000})
	w.onSmallDisk("12m")
	if resp, _ := w.node.get("/debian/dists/noble/InRelease"); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	ballast, err := os.Create(filepath.Join(w.node.DataDir(), "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = ballast.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}

	w.server.Inject("pool/*hello*", 0, testarchive.WrongBytes(1000))
	for path, file := range w.archive.Files() {
		if !strings.HasSuffix(path, ".deb") {
			continue
		}
		resp, err := http.Get(w.node.URL + "/debian/" + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		said := resp.Header.Get("X-Aptmesh")
		t.Logf("%s: %s, %d bytes, %v, %s", path, resp.Status, len(got), err, said)
		switch whole := resp.StatusCode == http.StatusOK && err == nil; {
		case strings.Contains(said, "listed=no"):
			t.Errorf("%s is given out as unlisted: %s", path, said)
		case strings.Contains(path, "hello") && whole:
			t.Errorf("%s: what the mirror got wrong is given out: %s", path, said)
		case strings.Contains(path, "world") && !(whole && bytes.Equal(got, file)):
			t.Errorf("%s: %s, %d bytes, %v: %s", path, resp.Status, len(got), err, said)
		}
	}
	if status := string(w.node.adminGet("/v1/status")); !strings.Contains(status, "in memory only") {
		t.Errorf("status does not say that the disk takes no package table: %s", status)
	}
}

// Hosts get everything from a node whose disk has 2 MiB, new publications among it, and upstream is asked
// for each object about once.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	const packages = 120
	var all []testarchive.Package
	for i := range packages {
		all = append(all, testarchive.Package{Name: fmt.Sprintf("pkg%03d", i), Version: "1", Size: int64(100_000 + 2_500*i)})
	}
	// An index that is larger than the disk.
	words := rand.NewChaCha8([32]byte{1})
	for i := range 50 {
		text := make([]byte, 50_000)
		words.Read(text)
		all = append(all, testarchive.Package{Name: fmt.Sprintf("long%03d", i), Version: "1", Missing: true, Description: hex.EncodeToString(text)})
	}
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Compressions: []string{".xz"}}, options{archiveConfig: "check_every: 1s"}, all...)
	w.onSmallDisk("2m")
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
