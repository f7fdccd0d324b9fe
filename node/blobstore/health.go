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
	room     func() bool // whether what was lacking is there now; nil where only a write tells
	logged   time.Time   // when a beginning was last logged
	reported bool        // the present failure was logged
}

// logEvery keeps a disk at the brink, where every other write fails, from filling
// the log as well.
const logEvery = time.Minute

// fail notes a failure; only the first of several is logged.
// room reports whether what lacked is there again; nil where only a write can tell.
func (h *health) fail(log *slog.Logger, now time.Time, reason string, room func() bool) {
	h.mu.Lock()
	h.room = room
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

// mend notes that blobs can be kept: a write has reached the disk, or there is room again.
func (h *health) mend(log *slog.Logger) {
	h.mu.Lock()
	was, tell := h.since, h.reported
	h.since, h.reason, h.room, h.reported = time.Time{}, "", nil, false
	h.mu.Unlock()
	if tell {
		log.Info("the store keeps new blobs again", "degraded_since", was)
	}
}

// state ends the failure first where there is room again, although nothing was written since.
func (h *health) state(log *slog.Logger) (since time.Time, reason string) {
	h.mu.Lock()
	room := h.room
	h.mu.Unlock()
	if room != nil && room() {
		h.mend(log)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.reason
}

// cannotKeep is the one answer to a write that the machine refused: the store is
// degraded, and the error wraps proto.ErrNoSpace as well as its cause, so that a
// client still gets its bytes.
func (s *Store) cannotKeep(doing string, err error) error {
	s.health.fail(s.log, s.cfg.Now(), durable.Explain(s.dirs.root, err), nil)
	return fmt.Errorf("%w: %s: %w", proto.ErrNoSpace, doing, err)
}
