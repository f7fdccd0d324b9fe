package node

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/peerfetch"
	"github.com/aptmesh/aptmesh/proto"
)

// A disk that hangs (a dead NFS server, a stalled volume) fails nothing: calls just do
// not return, pings and gossip go on, and all other nodes would go on asking this one
// for its share. So the store is watched from outside, and this node tells the others
// itself (peers.Config.Stuck).

const (
	// watchEvery is how exactly the age of an operation is known.
	watchEvery = 250 * time.Millisecond
	// stuckAfter is how old an operation is when the log has it.
	stuckAfter = 3 * time.Second
	// watchSlots must be enough for some to be free while operations of all ages run
	// that are merely slow.
	watchSlots = 16
)

// stuckWatch knows for how long the oldest operation of the store that is running has
// been running. Operations begin in the current slot; now and then another one becomes
// it, so that one which is in use and was left long ago holds an old operation. That
// costs an operation two additions, for each object that any client is given is one.
type stuckWatch struct {
	began   time.Time
	current atomic.Int32
	slots   [watchSlots]struct {
		running atomic.Int64
		since   atomic.Int64 // when it became the current one, in nanoseconds after began
	}
	stop func()
	log  *slog.Logger
}

func newStuckWatch(log *slog.Logger) *stuckWatch { return &stuckWatch{began: time.Now(), log: log} }

// start begins to watch; stop ends that.
func (w *stuckWatch) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		var told bool
		for {
			select {
			case <-tick.C:
				w.turn()
				told = w.tell(told)
			case <-ctx.Done():
				return
			}
		}
	}()
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
		w.log.Error("the disk of the store does not answer; the other nodes are told to ask each other", "for", stuck.Round(time.Second))
		return true
	case stuck < stuckAfter && told:
		w.log.Info("the disk of the store answers again")
		return false
	}
	return told
}

// begin counts an operation in, and returns what counts it out.
func (w *stuckWatch) begin() *atomic.Int64 {
	running := &w.slots[w.current.Load()].running
	running.Add(1)
	return running
}

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

// watchedStore is the store of a node in a cluster.
type watchedStore struct {
	storeAdapter
	watch *stuckWatch
}

var _ peerfetch.Store = watchedStore{}

func (s watchedStore) Get(d proto.Digest) (*proto.Blob, error) {
	running := s.watch.begin()
	defer running.Add(-1)
	return s.store.Get(d)
}

func (s watchedStore) Create(size int64) (peerfetch.Writer, error) {
	running := s.watch.begin()
	defer running.Add(-1)
	w, err := s.store.Create(size)
	if err != nil {
		return nil, err
	}
	return watchedWriter{w, s.watch}, nil
}

// watchedWriter is a blob on its way into the store. Commit is not watched: it makes
// durable what readers have had by then, which may take a busy disk its time.
type watchedWriter struct {
	*blobstore.Writer
	watch *stuckWatch
}

func (w watchedWriter) Write(p []byte) (int, error) {
	running := w.watch.begin()
	defer running.Add(-1)
	return w.Writer.Write(p)
}
