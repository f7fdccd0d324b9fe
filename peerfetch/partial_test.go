package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// leave has the store hold the beginning of an object, as a flight of an earlier process left it.
func (w *world) leave(t *testing.T, object proto.ObjectRequest, beginning []byte) {
	t.Helper()
	to, err := w.store.Resume(object.Ref, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Write(beginning); err != nil {
		t.Fatal(err)
	}
	to.Park()
}

// wantLeft checks how many bytes of an object are left in the store for the next flight.
func (w *world) wantLeft(t *testing.T, object proto.ObjectRequest, n int64) {
	t.Helper()
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	left := int64(0)
	if l := w.store.left[object.Ref.String()+object.Where.First.Archive]; l != nil {
		left = l.size
	}
	if left != n {
		t.Errorf("%d bytes are left, want %d", left, n)
	}
}

func TestContinuesWhatWasLeft(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	for _, n := range []int{1, 600_000, 999_999} {
		w := newWorld(t, serve(content))
		w.leave(t, wantOf(content), content[:n])
		if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
			t.Errorf("%d were left: other bytes", n)
		}
		w.settled(t)
		if w.up.count() != 1 || w.up.request(0).Offset != int64(n) || w.up.request(0).IfRange != "" {
			t.Errorf("%d were left: %d requests, the first is %+v", n, w.up.count(), w.up.request(0))
		}
		w.wantLeft(t, wantOf(content), 0)
		w.checkStore(t)
	}
}

// All bytes are here and were not proven: upstream has nothing to add.
func TestContinuesWhatIsComplete(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	w := newWorld(t, serve(content))
	w.leave(t, wantOf(content), content)
	if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
		t.Error("other bytes")
	}
	if w.up.count() != 0 {
		t.Errorf("%d requests", w.up.count())
	}
	w.settled(t)
	w.checkStore(t)
}

// A reader has what was left before upstream has answered.
func TestReadersNeedNotWaitForTheRest(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	body := newGated(content[600_000:])
	w := newWorld(t, func(_ int, r proto.Request) answer {
		return answer{body: body, size: int64(len(content)), offset: r.Offset}
	})
	w.leave(t, wantOf(content), content[:600_000])
	blob, err := w.Open(context.Background(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	got := make([]byte, 599_999)
	if _, err := io.ReadFull(blob.Stream, got); err != nil || !bytes.Equal(got, content[:599_999]) {
		t.Fatal(err)
	}
	body.allow(len(content))
	if rest, err := io.ReadAll(blob.Stream); err != nil || !bytes.Equal(rest, content[599_999:]) {
		t.Fatal(err)
	}
}

// A flight that fails or that everybody has left can be continued; one for what nobody has proven cannot.
func TestLeavesWhatHasArrived(t *testing.T) {
	content := randomBytes(4<<20, 1)
	unlisted := proto.ObjectRequest{Ref: proto.Ref{Size: proto.UnknownSize}, Where: proto.At(proto.Location{Archive: "a", Path: "x"})}
	for name, c := range map[string]struct {
		object    proto.ObjectRequest
		abandoned bool
		left      int64
	}{
		"broken":    {wantOf(content), false, 2 << 20},
		"abandoned": {wantOf(content), true, 2 << 20},
		"unlisted":  {unlisted, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				body := newGated(content)
				body.allow(2 << 20)
				w := newWorld(t, func(i int, r proto.Request) answer {
					switch {
					case c.abandoned:
						return answer{body: body, size: int64(len(content))}
					case i > 0:
						return answer{err: errBroken}
					}
					return answer{body: breakOff(content[:2<<20], errBroken), size: int64(len(content))}
				})
				blob, err := w.Open(context.Background(), c.object)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(blob.Stream, make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
				if !c.abandoned {
					if _, err := io.Copy(io.Discard, blob.Stream); err == nil {
						t.Error("the stream ended well")
					}
				}
				blob.Close()
				time.Sleep(time.Minute)
				w.settled(t)
				w.wantLeft(t, wantOf(content), c.left)
				w.Close()
			})
		})
	}
}

// What was left is not right. Nobody is blamed, no reader gets a whole wrong body, and the next request
// has everything anew.
func TestWhatWasLeftIsWrong(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	wrong := bytes.Clone(content)
	wrong[77] ^= 1
	for name, n := range map[string]int{"a part": 600_000, "all of it": len(content)} {
		w := newWorld(t, serve(content), func(cfg *Config) { cfg.HoldSmall = 100 })
		w.up.mirrors = []string{"m1", "m2"}
		w.leave(t, wantOf(content), wrong[:n])
		var busy *proto.Unavailable
		if got, err := w.read(wantOf(content)); !errors.As(err, &busy) || len(got) >= len(content) {
			t.Errorf("%s: a reader has %d bytes and %v", name, len(got), err)
		}
		w.settled(t)
		w.wantLeft(t, wantOf(content), 0)
		before := w.up.count()
		if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
			t.Errorf("%s: other bytes", name)
		}
		if w.up.count() != before+1 || w.up.request(before).Offset != 0 || len(w.up.blames()) != 0 {
			t.Errorf("%s: %d requests, the last is %+v; blamed: %v", name, w.up.count(), w.up.request(before), w.up.blames())
		}
		w.checkStore(t)
	}
}

// Where no reader has had a byte of what was left and wrong, none notices.
func TestWhatWasLeftIsWrongAndUnseen(t *testing.T) {
	content := randomBytes(50_000, 1)
	wrong := bytes.Clone(content)
	wrong[77] ^= 1
	for name, n := range map[string]int{"a part": 30_000, "all of it": len(content)} {
		w := newWorld(t, serve(content)) // held back to the end, for it is small
		w.leave(t, wantOf(content), wrong[:n])
		if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
			t.Errorf("%s: other bytes", name)
		}
		last := w.up.request(w.up.count() - 1)
		if last.Offset != 0 || len(w.up.blames()) != 0 {
			t.Errorf("%s: the last request is %+v; blamed: %v", name, last, w.up.blames())
		}
		w.settled(t)
		w.checkStore(t)
	}
}
