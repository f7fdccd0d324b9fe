package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/config"
)

// TestReadyBeforeTheyAsk: after a publication, the new version of what a client used,
// and the new package that it depends on, are fetched once, before anybody asks; what
// nobody used is not.
func TestReadyBeforeTheyAsk(t *testing.T) {
	a := newArchive()
	w := newWorld(t, a, func(c *config.Config) {
		c.Archives[0].CheckEvery = 100 * time.Millisecond
		c.Prefetch.Enabled = true
	})
	w.mustGet("dists/noble/InRelease")
	w.mustGet("dists/noble/main/binary-amd64/Packages.xz")
	var used string
	for path := range a.Files() {
		if strings.Contains(path, "/small_1_") {
			used = path
		}
	}
	w.mustGet(used)

	small := a.AddPackage("noble", testarchive.Package{Name: "small", Version: "2", Size: 3000, Depends: "libsmall2 | libsmall1"})
	lib := a.AddPackage("noble", testarchive.Package{Name: "libsmall2", Version: "2", Size: 4000})
	large := a.AddPackage("noble", testarchive.Package{Name: "large", Version: "2", Size: big})
	a.Publish(epoch.Add(time.Minute))

	for deadline := time.Now().Add(time.Minute); w.up.Requests(small) == 0 || w.up.Requests(lib) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("asked upstream for %d and %d", w.up.Requests(small), w.up.Requests(lib))
		}
	}
	for _, path := range []string{small, lib} {
		r := w.mustGet(path)
		t.Log(path, r.header)
		if n := w.up.Requests(path); n != 1 {
			t.Errorf("%s: upstream was asked %d times", path, n)
		}
	}
	if n := w.up.Requests(large); n != 0 {
		t.Errorf("nobody uses it, and upstream was asked %d times", n)
	}
}
