package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// A node that is killed at 60 % of a large package asks upstream for the other 40 %, in one request.
func TestKill9ContinuesADownload(t *testing.T) {
	t.Parallel()
	const size = 48 << 20
	for name, c := range map[string]struct {
		harm func(t *testing.T, data string)
		most int64 // bytes that upstream may give after the restart
	}{
		"killed": {func(*testing.T, string) {}, size*4/10 + 1<<20},
		// What the crash tore is known by its sum, and fetched again from there.
		"torn": {func(t *testing.T, data string) { tear(t, data, size*3/10) }, size*7/10 + 1<<20},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{}, testarchive.Package{Name: "large", Version: "1", Size: size})
			for _, path := range []string{"dists/noble/InRelease", "dists/noble/main/binary-amd64/Packages.xz"} {
				if resp, _ := w.node.get("/debian/" + path); resp.StatusCode != http.StatusOK {
					t.Fatalf("%s: %s", path, resp.Status)
				}
			}
			path, content := w.find("pool/", "large_")
			at := int64(len(content)) * 6 / 10
			stall := w.server.Inject(path, 1, testarchive.Stall(at))
			resp, err := http.Get(w.node.URL + "/debian/" + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			<-stall.Stalled()
			if _, err := io.CopyN(io.Discard, resp.Body, at-1); err != nil { // all that there is, but for the last byte
				t.Fatal(err)
			}
			w.node.Kill()
			stall.Release()
			w.server.ClearFaults()
			w.server.ResetCounters()
			c.harm(t, w.node.DataDir())

			w.node.start()
			if resp, got := w.node.get("/debian/" + path); resp.StatusCode != http.StatusOK || !bytes.Equal(got, content) {
				t.Fatalf("after the restart: %s, %d bytes, right: %v", resp.Status, len(got), bytes.Equal(got, content))
			}
			requests, sent := w.server.Requests(path), w.server.Bytes(path)
			t.Logf("%d of %d bytes (%.1f %%) were fetched after the restart, in %d requests", sent, len(content), 100*float64(sent)/float64(len(content)), requests)
			if requests != 1 || sent > c.most {
				t.Errorf("want one request and at most %d bytes", c.most)
			}
			w.node.checkStored()
		})
	}
}

// tear damages the byte at the given position of the only unfinished blob of a node.
func tear(t *testing.T, data string, at int64) {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(data, "partial"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), "d.") {
			continue
		}
		file, err := os.OpenFile(filepath.Join(data, "partial", f.Name()), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		b := make([]byte, 1)
		if _, err := file.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := file.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("there is no unfinished blob")
}
