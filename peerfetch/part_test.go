package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// Parts of a running flight, read in parallel and in any order, are what they are in the whole, cost one
// request, and the one with the last byte waits for the proof.
func TestPartsOfARunningFlight(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	for _, full := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			body := newGated(content)
			w := newWorld(t, func(int, proto.Request) answer { return answer{body: body, size: int64(len(content))} }, func(cfg *Config) {
				cfg.Window = 300_000
			})
			w.store.refuse = full
			var all sync.WaitGroup
			parts := [][2]int64{{0, 1}, {1, 250_000}, {250_000, 250_000}, {500_000, 499_999}, {999_999, 1}, {900_000, 100_000}, {0, 1_000_000}}
			last := make(chan struct{})
			for i, p := range parts {
				if full && i > 0 && p[0] == 0 {
					continue // the window may have moved on by then
				}
				all.Go(func() {
					blob, err := w.Open(context.Background(), wantOf(content))
					if err != nil {
						t.Error(err)
						return
					}
					defer blob.Close()
					blob.Stream.(proto.Parted).Part(p[0], p[1])
					var got []byte
					if i%2 == 0 {
						got, err = io.ReadAll(blob.Stream)
					} else {
						var to bytes.Buffer
						_, err = blob.Stream.(io.WriterTo).WriteTo(&to)
						got = to.Bytes()
					}
					if err != nil || !bytes.Equal(got, content[p[0]:p[0]+p[1]]) {
						t.Errorf("full %v: bytes %d+%d: %d bytes, %v", full, p[0], p[1], len(got), err)
					}
					if p == [2]int64{999_999, 1} {
						close(last)
					}
				})
			}
			body.allow(2)
			synctest.Wait()
			body.allow(len(content) - 3)
			synctest.Wait()
			select {
			case <-last:
				t.Error("the last byte came before the proof")
			default:
			}
			body.allow(1)
			all.Wait()
			if w.up.count() != 1 {
				t.Errorf("%d requests", w.up.count())
			}
			w.Close()
		})
	}
}

// One reader has several parts of a running flight, in any order, also across the moment at which the
// object is committed.
func TestPartsOneAfterTheOther(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	for _, viaWriter := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			body := newGated(content)
			w := newWorld(t, func(int, proto.Request) answer { return answer{body: body, size: int64(len(content))} })
			var all sync.WaitGroup
			body.allow(600_000)
			blob, err := w.Open(context.Background(), wantOf(content))
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range [][2]int64{{500_000, 10}, {0, 100_000}, {99_990, 20}, {999_000, 1000}, {0, 1}, {400_000, 400_000}} {
				if i == 3 {
					all.Go(func() { body.allow(400_000) })
				}
				blob.Stream.(proto.Parted).Part(p[0], p[1])
				var got bytes.Buffer
				if viaWriter {
					_, err = blob.Stream.(io.WriterTo).WriteTo(&got)
				} else {
					_, err = got.ReadFrom(struct{ io.Reader }{blob.Stream})
				}
				if err != nil || !bytes.Equal(got.Bytes(), content[p[0]:p[0]+p[1]]) {
					t.Errorf("bytes %d+%d: %d bytes, %v", p[0], p[1], got.Len(), err)
				}
			}
			all.Wait()
			blob.Close()
			w.settled(t)
			if w.up.count() != 1 {
				t.Errorf("%d requests", w.up.count())
			}
			w.Close()
		})
	}
}

// After wrong bytes were given out, nobody is given a part to put behind them, for an hour.
func TestDoubtedAfterWrongBytes(t *testing.T) {
	content := randomBytes(200_000, 1)
	wrong := bytes.Clone(content)
	wrong[100] ^= 1
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, serve(wrong))
		if _, err := w.read(wantOf(content)); !errors.Is(err, proto.ErrCorrupt) {
			t.Fatal(err)
		}
		w.settled(t)
		for _, c := range []struct {
			after   time.Duration
			doubted bool
		}{{time.Minute, true}, {58 * time.Minute, true}, {2 * time.Minute, false}} {
			time.Sleep(c.after)
			body := newGated(content)
			body.allow(1000)
			w.up.heal(func(int, proto.Request) answer { return answer{body: body, size: int64(len(content))} })
			blob, err := w.Open(context.Background(), wantOf(content))
			if err != nil {
				t.Fatal(err)
			}
			if blob.Doubted != c.doubted {
				t.Errorf("%v later: %v", c.after, blob.Doubted)
			}
			blob.Close()
			time.Sleep(10 * time.Second)
			w.store.mu.Lock()
			clear(w.store.left)
			w.store.mu.Unlock()
		}
		w.Close()
	})
}

// What upstream calls a running file that nobody vouches for is told apart from a validator.
func TestClaimed(t *testing.T) {
	content := randomBytes(200_000, 1)
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := newWorld(t, func(int, proto.Request) answer {
		body := newGated(content)
		body.allow(1000)
		return answer{body: body, size: int64(len(content)), modified: date}
	})
	for listed, object := range map[bool]proto.ObjectRequest{true: wantOf(content), false: {Ref: proto.Ref{Size: proto.UnknownSize}, Where: proto.At(proto.Location{Archive: "a", Path: "x"})}} {
		blob, err := w.Open(context.Background(), object)
		if err != nil {
			t.Fatal(err)
		}
		if !blob.Modified.IsZero() || blob.Claimed.IsZero() != listed || !listed && !blob.Claimed.Equal(date) {
			t.Errorf("listed %v: %v, claimed %v", listed, blob.Modified, blob.Claimed)
		}
		blob.Close()
	}
}
