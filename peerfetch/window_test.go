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

// On a full disk a reader that takes a little now and then does not hold another one up for ever; alone it
// may be as slow as it likes.
func TestSlowReaderOnAFullDisk(t *testing.T) {
	content := randomBytes(2_000_000, 1)
	for _, alone := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, serve(content), func(cfg *Config) { cfg.Window = 400_000 })
			w.store.refuse = true
			var all sync.WaitGroup
			var slowErr error
			blob, err := w.Open(context.Background(), wantOf(content))
			if err != nil {
				t.Fatal(err)
			}
			fast, err := w.Open(context.Background(), wantOf(content))
			if err != nil {
				t.Fatal(err)
			}
			if alone {
				fast.Close()
			}
			all.Go(func() {
				defer blob.Close()
				var got []byte
				for slowErr == nil {
					piece := make([]byte, 4000)
					var n int
					n, slowErr = blob.Stream.Read(piece)
					got = append(got, piece[:n]...)
					time.Sleep(20 * time.Second)
				}
				if alone && !bytes.Equal(got, content) {
					t.Errorf("alone: %d bytes, %v", len(got), slowErr)
				}
			})
			if !alone {
				began := time.Now()
				if got, err := io.ReadAll(fast.Stream); err != nil || !bytes.Equal(got, content) {
					t.Errorf("the fast reader has %d bytes, %v", len(got), err)
				}
				fast.Close()
				if took := time.Since(began); took > 2*time.Minute {
					t.Errorf("the fast reader took %v", took)
				}
			}
			all.Wait()
			if want := map[bool]error{false: errLeftBehind, true: io.EOF}[alone]; !errors.Is(slowErr, want) {
				t.Errorf("alone %v: %v", alone, slowErr)
			}
			if w.up.count() != 1 {
				t.Errorf("%d requests", w.up.count())
			}
			w.Close()
		})
	}
}

// What the store kept before it was full stays readable to the end, also for a reader that had not begun
// when the flight was over.
func TestLateReaderOfASpilledBody(t *testing.T) {
	content := randomBytes(1_000_000, 1)
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, serve(content))
		w.store.room = 600_000
		blob, err := w.Open(context.Background(), wantOf(content))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.settled(t)
		for i, read := range []func() ([]byte, error){
			func() ([]byte, error) { return io.ReadAll(io.LimitReader(blob.Stream, 300_000)) },
			func() ([]byte, error) {
				var rest bytes.Buffer
				_, err := blob.Stream.(io.WriterTo).WriteTo(&rest)
				return rest.Bytes(), err
			},
		} {
			got, err := read()
			from, to := i*300_000, []int{300_000, len(content)}[i]
			if err != nil || !bytes.Equal(got, content[from:to]) {
				t.Errorf("%d: %d bytes, %v", i, len(got), err)
			}
		}
		blob.Close()
		if proto.DigestOf(content) != wantOf(content).Ref.Digest || w.store.has(wantOf(content).Ref.Digest) {
			t.Error("it was stored")
		}
		w.Close()
	})
}
