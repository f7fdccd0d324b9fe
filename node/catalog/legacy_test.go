package catalog

import (
	"encoding/json"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// What the first edition wrote is served on with upstream away, and its root is not gone back from.
func TestFirstEditionsState(t *testing.T) {
	for _, s := range []testarchive.Suite{{Name: "noble", ByHash: true}, {Name: "noble", ByHash: true, NoInRelease: true}} {
		inBubble(t, func(t *testing.T) {
			w := newWorld(t, s)
			w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
			w.publish()
			w.open()
			root := nobleIn
			if s.NoInRelease {
				root = nobleRelease
			}
			w.must(root)
			w.use(noblePkgs)
			held := w.noble()
			old := map[string]any{
				"suite": held.Suite, "asked": day.Unix(), "checked": day.Unix(), "lead": "m",
				"uses": map[string]int64{"main/binary-amd64/Packages.xz": day.Unix()},
			}
			current := map[string]any{"suite": held.Suite, "date": held.Date, "root": held.Root, "modified": held.Modified,
				"staged": map[string]any{"main/binary-amd64/Packages.xz": map[string]any{"ref": refOfBytes(w.file(noblePkgs)), "list": "a/x"}}}
			if c, ok := held.Companion("Release.gpg"); ok {
				current["signature"] = c.Ref
			}
			old["current"] = current
			w.Close()
			data, _ := json.Marshal(old)
			for name := range w.state.files {
				delete(w.state.files, name)
			}
			w.state.files[fileNameOf(held.Suite)] = data
			w.up.failing("", &proto.Unavailable{Reason: "no route"})
			w = w.crash()
			w.listedAs(root, w.file(root))
			w.rest()
			w.listedAs(hello1, w.file(hello1))
			if floor := w.Status()[0].Date; !floor.Equal(held.Date) {
				t.Errorf("date %v", floor)
			}
		})
	}
}

// noble is the generation that is served.
func (w *world) noble() proto.Generation { return w.nobleNow().Generation }
