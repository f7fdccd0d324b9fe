package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// errNoRoom is what a state directory on a full disk answers.
var errNoRoom = fmt.Errorf("%w: write state file: no space left on device", proto.ErrNoSpace)

func (s *memState) setFull(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = err
}

// saidOnce demands exactly one warning with this text.
func saidOnce(t *testing.T, warnings []string, text string) {
	t.Helper()
	said := 0
	for _, line := range warnings {
		if strings.Contains(line, text) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the log says %q %d times: %q", text, said, warnings)
	}
}

// A disk that takes no package table makes no listed file an unlisted one, which would be given out unproven:
// the tables are in memory, over a switch too, and on the disk as soon as that has room.
func TestFullDiskKeepsTables(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1, testarchive.Suite{Name: "noble", ByHash: true})
		f.publish()
		f.start()
		w := f.nodes[0]
		w.must(nobleIn)
		w.state.setFull(errNoRoom)
		w.must(hello1)
		w.use(noblePkgs)
		for range 5 {
			time.Sleep(time.Minute)
			w.use(noblePkgs)
			w.listedAs(hello1, w.file(hello1))
		}
		if n := w.up.requests(noblePkgs); n > 1 {
			t.Errorf("the index was fetched %d times", n)
		}
		if n := w.metric("aptmesh_catalog_tables_in_memory_bytes"); n == 0 {
			t.Error("no table is in memory")
		}
		if n := w.Stats()[0].Notice; !strings.Contains(n, "in memory only") {
			t.Errorf("status says %q", n)
		}
		saidOnce(t, w.warnings(), "the disk takes no package table")

		// A restart reads the index again.
		w.kill()
		w.state.setFull(errNoRoom)
		w.resume()
		w.must(hello1)

		w.state.setFull(nil)
		time.Sleep(tidyEvery + time.Minute)
		if n := w.metric("aptmesh_catalog_tables_in_memory_bytes"); n != 0 {
			t.Errorf("%v bytes of tables are in memory although the disk has room", n)
		}
		if n := w.Stats()[0].Notice; n != "" {
			t.Errorf("status says %q", n)
		}
		names, _ := w.state.ListFiles(tableDir)
		if len(names) != 2 { // and the seed
			t.Errorf("on the disk: %q", names)
		}
		w.must(hello1)
	})
}

// Where memory has no room either, or the root's generation cannot be written, nobody can tell whether a file is
// listed, and a request for it fails with trouble of the disk. It is told, and no other compression is tried.
func TestNoRoomAtAllIsNotUnlisted(t *testing.T) {
	const noblePkgsGz = "dists/noble/main/binary-amd64/Packages.gz"
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1, testarchive.Suite{Name: "noble", ByHash: true})
		f.publish()
		f.start()
		w := f.nodes[0]
		w.cfg.TablesInMemory = 1
		w.kill()
		w.resume()
		w.must(nobleIn)
		w.state.setFull(errNoRoom)
		for range 20 {
			w.use(noblePkgs)
			if e, err := w.get(hello1); !errors.Is(err, proto.ErrNoSpace) {
				t.Fatalf("%+v, %v", e, err)
			}
			time.Sleep(3 * time.Second)
		}
		if st := w.Stats()[0]; !strings.Contains(st.Notice, "could not be taken in") || len(st.Unreadable) != 0 {
			t.Errorf("status says %q, and that these cannot be read: %v", st.Notice, st.Unreadable)
		}
		if n := w.metric("aptmesh_catalog_untaken_indexes_total"); n == 0 || n > 7 {
			t.Errorf("in a minute it was tried %v times", n)
		}
		if n := w.metric("aptmesh_catalog_unlisted_total"); n != 0 {
			t.Errorf("%v requests are counted as unlisted", n)
		}
		saidOnce(t, w.warnings(), "this node could not take in an index")
		for path, n := range w.up.bodiesByPath() {
			if strings.Contains(path, "Packages") && !strings.HasSuffix(path, ".xz") && !strings.Contains(path, "by-hash") {
				t.Errorf("%s was fetched %d times", path, n)
			}
		}
		if n := w.up.bodies(noblePkgsGz); n != 0 {
			t.Errorf("another compression was fetched %d times", n)
		}

		w.state.setFull(nil)
		time.Sleep(troubledFor)
		w.must(hello1)
		if n := w.Stats()[0].Notice; n != "" {
			t.Errorf("status says %q", n)
		}
	})
	inNamedBubble(t, "the first generation", func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.open()
		w.state.mu.Lock()
		w.state.fail = errNoRoom
		w.state.mu.Unlock()
		if _, err := w.get(nobleIn); !errors.Is(err, proto.ErrNoSpace) {
			t.Errorf("the root: %v", err)
		}
		if e, err := w.get(hello1); !errors.Is(err, proto.ErrNoSpace) {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
