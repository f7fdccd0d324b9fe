package blobstore

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A disk that hangs (a dead NFS server, a stalled volume) fails nothing: calls just do not return,
// pings and gossip go on, and all other nodes would go on asking this one for its share. So the
// operations that requests wait for are watched, and a node tells the others itself
// (peers.Config.Stuck). Commit is not watched: it makes durable what readers have had by then, which
// may take a busy disk its time.

const (
	// watchEvery is how exactly the age of an operation is known.
	watchEvery = 250 * time.Millisecond
	// stuckAfter is how old an operation is when the log has it.
	stuckAfter = 3 * time.Second
	// watchSlots must be enough for some to be free while operations of all ages run
	// that are merely slow.
	watchSlots = 16
)

// stuckWatch knows for how long the oldest operation that is running has been running. Operations
// begin in the current slot. Now and then another one becomes it, so that a slot which is in use and
// was left long ago holds an old operation. That costs each operation two additions.
type stuckWatch struct {
	began   time.Time
	log     *slog.Logger
	current atomic.Int32
	slots   [watchSlots]struct {
		running atomic.Int64
		since   atomic.Int64 // when it became the current one, in nanoseconds after began
	}
}

func newStuckWatch(log *slog.Logger) *stuckWatch { return &stuckWatch{began: time.Now(), log: log} }

// run watches until ctx ends.
func (w *stuckWatch) run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for told := false; ; {
		select {
		case <-tick.C:
			w.turn()
			told = w.tell(told)
		case <-ctx.Done():
			return
		}
	}
}

// turn has operations begin in a slot that is not in use. If there is none the slots
// stay as they are: the oldest operation is among them all the same.
func (w *stuckWatch) turn() {
	now := int64(time.Since(w.began))
	for i := range w.slots {
		if s := &w.slots[i]; s.running.Load() == 0 && int32(i) != w.current.Load() {
			s.since.Store(now)
			w.current.Store(int32(i))
			return
		}
	}
}

// tell logs the beginning and the end of a hang; told is whether the beginning was.
func (w *stuckWatch) tell(told bool) bool {
	stuck := w.oldest()
	switch {
	case stuck >= stuckAfter && !told:
		w.log.Error("the disk of the store does not answer", "for", stuck.Round(time.Second))
		return true
	case stuck < stuckAfter && told:
		w.log.Info("the disk of the store answers again")
		return false
	}
	return told
}

// begin counts an operation in, and returns what counts it out.
func (w *stuckWatch) begin() operation {
	running := &w.slots[w.current.Load()].running
	running.Add(1)
	return operation{running}
}

// operation is one that is running.
type operation struct{ running *atomic.Int64 }

func (o operation) end() { o.running.Add(-1) }

// Stuck is for how long the oldest operation that a request waits for has been running; 0 where none
// is.
func (s *Store) Stuck() time.Duration { return s.watch.oldest() }

// oldest is for how long the oldest operation has been running; 0 where none is.
func (w *stuckWatch) oldest() time.Duration {
	now := time.Since(w.began)
	var oldest time.Duration
	for i := range w.slots {
		if s := &w.slots[i]; s.running.Load() > 0 {
			oldest = max(oldest, now-time.Duration(s.since.Load()))
		}
	}
	return oldest
}

func (w *stuckWatch) collector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_store_stuck_seconds",
		Help: "For how long the oldest operation of the store that is running has been running; other nodes stop asking this one after three seconds.",
	}, func() float64 { return w.oldest().Seconds() })
}
