package catalog

import (
	"testing"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// What could not be read is said of the generation that lists it, and not of a later one with other content
// under the same path.
func TestUnreadableOfGeneration(t *testing.T) {
	generation := func(table string) *view.Generation {
		m := &proto.Manifest{Members: []proto.Member{{Path: "main/index", Slot: "main/index", Table: table}}}
		return view.NewGeneration(proto.Generation{}, m)
	}
	broken, mended := generation("broken"), generation("mended")
	d := &driver{}
	d.noteUnreadable(broken.Member("main/index"), "no frame")
	if got := d.unreadable.of(broken); len(got) != 1 || got["main/index"] != "no frame" {
		t.Errorf("of the generation that lists it: %v", got)
	}
	for name, g := range map[string]*view.Generation{"mended": mended, "none": nil} {
		if got := d.unreadable.of(g); got != nil {
			t.Errorf("of %s: %v", name, got)
		}
	}
}
