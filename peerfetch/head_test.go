package peerfetch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// Upstream is asked once for the head of an unlisted file, however many ask at once, and not again for what
// it said a moment ago, until the archive publishes something.
func TestHeadsAreSharedAndRemembered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, func(i int, r proto.Request) answer {
			if !r.Head {
				t.Error("a body was asked for")
			}
			return answer{after: time.Second, size: int64(100 + i)}
		})
		ask := func(size int64) {
			t.Helper()
			blob, err := w.Head(context.Background(), unlistedWant("u"))
			if err != nil || blob.Ref.Size != size || blob.Verified {
				t.Errorf("%+v, %v", blob, err)
			}
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { ask(100) })
		}
		gone, leave := context.WithCancel(context.Background())
		all.Go(func() {
			if _, err := w.Head(gone, unlistedWant("u")); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		leave()
		all.Wait()
		ask(100)
		if n := w.up.count(); n != 1 {
			t.Errorf("%d requests", n)
		}
		w.ArchiveChanged("a")
		ask(101)
		time.Sleep(w.cfg.UnlistedFresh)
		ask(102)
		w.Close()
	})
}

// One who leaves does not end the request for the others, and a failure is nobody's for later.
func TestHeadOfManyFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, func(i int, r proto.Request) answer {
			if i == 0 {
				return answer{after: time.Second, err: errAnswered}
			}
			return answer{size: 7}
		})
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, err := w.Head(context.Background(), unlistedWant("u")); !errors.Is(err, errAnswered) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if blob, err := w.Head(context.Background(), unlistedWant("u")); err != nil || blob.Ref.Size != 7 {
			t.Error(err)
		}
		w.Close()
	})
}
