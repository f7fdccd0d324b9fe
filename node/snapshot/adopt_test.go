package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// keeps demands which packages are kept for a record; none where it is none.
func (w *world) keeps(digest string, packages ...proto.Digest) {
	w.Helper()
	got := w.pins[keptOwner(digest)]
	for _, p := range packages {
		if !slices.Contains(got, p) {
			w.Errorf("%s is not kept", p.Short())
		}
	}
	if len(got) != len(packages) {
		w.Errorf("%d packages are kept, want %d", len(got), len(packages))
	}
}

// An imported snapshot keeps its packages, over restarts, until it is removed; again, it keeps more of them.
func TestImport(t *testing.T) {
	ctx := context.Background()
	from := newWorld(t)
	if _, _, err := from.Create(ctx, "w48", Plan{Archives: []string{"ubuntu"}, By: "op"}); err != nil {
		t.Fatal(err)
	}
	name, r, text, err := from.Text("w48")
	if err != nil || name != "w48" || r == nil {
		t.Fatalf("%s, %v", name, err)
	}
	digest := proto.DigestOf(text).String()
	a, b, c := proto.DigestOf([]byte("a")), proto.DigestOf([]byte("b")), proto.DigestOf([]byte("c"))

	w := newWorld(t)
	s, err := w.Import(ctx, "january", "op", text, []proto.Digest{b, a, b})
	if err != nil || s.Name != "january" || s.Digest != digest {
		t.Fatalf("%+v, %v", s, err)
	}
	w.keeps(digest, a, b)
	if !w.Known("january", "ubuntu") || len(w.pins[pinOwner(digest)]) == 0 {
		t.Error("it is not there")
	}
	w = w.restart()
	w.keeps(digest, a, b)
	if _, err := w.Import(ctx, "january", "op", text, []proto.Digest{c}); err != nil {
		t.Error(err)
	}
	w.keeps(digest, a, b, c)
	if _, err := w.Import(ctx, "other-name", "op", text, nil); err != nil {
		t.Error(err)
	}
	// Another record under the name.
	other, _, err := w.Create(ctx, "w49", Plan{Archives: []string{"debian"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Import(ctx, "w49", "op", text, nil); !errors.Is(err, ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := w.Import(ctx, "bad/name", "op", text, nil); err == nil {
		t.Error("a name that cannot be one is taken")
	}
	if _, err := w.Import(ctx, "w50", "op", []byte("{}"), nil); err == nil {
		t.Error("a record that says nothing is taken")
	}
	w.keeps(digest, a, b, c)
	w.keeps(other.Digest)

	for _, name := range []string{"january", "other-name"} {
		if _, err := w.Remove(ctx, name, "op"); err != nil {
			t.Fatal(err)
		}
	}
	w.keeps(digest, a, b, c) // it can be restored
	w.now = w.now.Add(graceFor + time.Hour)
	w.Tend()
	w.keeps(digest)
	for file := range w.files {
		if strings.Contains(file, digest) {
			t.Errorf("%s is left", file)
		}
	}
}

// A disk that fails at any write leaves no snapshot that is only half there, and nothing for good.
func TestImportIsWholeOrNothing(t *testing.T) {
	ctx := context.Background()
	from := newWorld(t)
	if _, _, err := from.Create(ctx, "w48", Plan{Archives: []string{"ubuntu"}}); err != nil {
		t.Fatal(err)
	}
	_, _, text, err := from.Text("w48")
	if err != nil {
		t.Fatal(err)
	}
	digest := proto.DigestOf(text).String()
	failed := 0
	for n := 1; n < 20; n++ {
		w := newWorld(t)
		w.failAt = n
		_, err := w.Import(ctx, "w48", "op", text, []proto.Digest{proto.DigestOf([]byte("a"))})
		if err == nil {
			break
		}
		failed++
		w.failAt = 0
		if w.Known("w48", "ubuntu") || len(w.pins) > 0 {
			t.Errorf("write %d fails: known %v, %d pins", n, w.Known("w48", "ubuntu"), len(w.pins))
		}
		w = w.restart()
		if len(w.files[keptDir+digest])+len(w.files[recordDir+digest]) > 0 {
			t.Errorf("write %d fails: files are left", n)
		}
		if _, err := w.Import(ctx, "w48", "op", text, []proto.Digest{proto.DigestOf([]byte("a"))}); err != nil {
			t.Errorf("write %d fails: again: %v", n, err)
		}
	}
	if failed < 3 {
		t.Errorf("only %d writes can fail", failed)
	}
}
