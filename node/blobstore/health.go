package blobstore

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/proto"
)

// health remembers why the store cannot keep new blobs, until it can again.
type health struct {
	mu       sync.Mutex
	since    time.Time // zero: healthy
	reason   string
	logged   time.Time // when a beginning was last logged
	reported bool      // the present failure was logged
}

// logEvery keeps a disk at the brink, where every other write fails, from filling
// the log as well.
const logEvery = time.Minute

// fail notes a failure; only the first of several is logged.
func (h *health) fail(log *slog.Logger, now time.Time, reason string) {
	h.mu.Lock()
	if h.since.IsZero() {
		h.since = now
	}
	h.reason = reason
	tell := !h.reported && now.Sub(h.logged) >= logEvery
	if tell {
		h.reported, h.logged = true, now
	}
	h.mu.Unlock()
	if tell {
		log.Error("the store is degraded: clients get their bytes, nothing new is kept", "reason", reason)
	}
}

// mend notes a write that reached the disk.
func (h *health) mend(log *slog.Logger) {
	h.mu.Lock()
	was, tell := h.since, h.reported
	h.since, h.reason, h.reported = time.Time{}, "", false
	h.mu.Unlock()
	if tell {
		log.Info("the store keeps new blobs again", "degraded_since", was)
	}
}

func (h *health) state() (since time.Time, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.reason
}

// cannotKeep is the one answer to a write that the machine refused: the store is
// degraded, and the error wraps proto.ErrNoSpace as well as its cause, so that a
// client still gets its bytes.
func (s *Store) cannotKeep(doing string, err error) error {
	s.health.fail(s.log, s.cfg.Now(), durable.Explain(s.dirs.root, err))
	return fmt.Errorf("%w: %s: %w", proto.ErrNoSpace, doing, err)
}
