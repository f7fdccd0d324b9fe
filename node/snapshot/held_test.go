package snapshot

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// held is what a node holds of snapshots' packages.
type held struct {
	mu     sync.Mutex
	levels map[string]string // by record
	failed error             // of SnapshotHeld

	indexes []proto.Captive
}

func (h *held) KeepSnapshot(record, level string, _ time.Time, suites []proto.Captured) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(suites) > 0 {
		h.levels[record] = level
	}
}

func (h *held) Indexes(context.Context, time.Time, proto.Captured) ([]proto.Captive, error) {
	return h.indexes, nil
}

func (h *held) LetSnapshotGo(record string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.levels, record)
}

func (h *held) SnapshotHeld(string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

func (h *held) level(record string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.levels[record]
}

// The level of a snapshot is in its record, and each node that has the record holds its packages, after a restart, too; until
// the snapshot and its grace have ended.
func TestPackagesOfSnapshotsAreHeld(t *testing.T) {
	w := newWorld(t)
	h := &held{levels: make(map[string]string)}
	w.cfg.Holds = h
	w.restart()
	s, _, err := w.Create(t.Context(), "w48", Plan{Archives: []string{"ubuntu"}, Hold: "all"})
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := w.Create(t.Context(), "w49", Plan{Archives: []string{"ubuntu"}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Record.Hold != "all" || h.level(s.Digest) != "all" || h.level(plain.Digest) != "" {
		t.Errorf("%+v: %v", s.Record, h.levels)
	}
	h.levels = make(map[string]string)
	w.restart()
	if h.level(s.Digest) != "all" {
		t.Error("it is not held after a restart")
	}
	if _, err := w.Remove(t.Context(), "w48", "ann"); err != nil {
		t.Fatal(err)
	}
	if h.level(s.Digest) != "all" {
		t.Error("it is not held while it can be restored")
	}
	w.now = w.now.Add(graceFor + time.Hour)
	if _, err := w.Remove(t.Context(), "w49", "ann"); err != nil { // any act looks
		t.Fatal(err)
	}
	if h.level(s.Digest) != "" {
		t.Error("it is held for ever")
	}
}

// What mirrors hold of a suite's indexes is in a snapshot, though no host has used it yet.
func TestIndexesThatMirrorsHold(t *testing.T) {
	w := newWorld(t)
	used := w.captured(t)[0]
	more := proto.Captive{Path: "main/binary-amd64/Contents", Ref: rootOf("ubuntu", 77)}
	w.cfg.Holds = &held{levels: make(map[string]string), indexes: []proto.Captive{used, more}}
	w.restart()
	if got := w.captured(t); !slices.Equal(got, []proto.Captive{more, used}) {
		t.Errorf("%v", got)
	}
}

// captured is which indexes of the archive's first suite a snapshot would have.
func (w *world) captured(t *testing.T) []proto.Captive {
	t.Helper()
	r, err := w.Keeper.Capture(t.Context(), Plan{Archives: []string{"ubuntu"}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Archives[0].Suites[0].Indexes
}

// A rule holds packages of the snapshots that it takes, and moves no channel to one of which they are not held.
func TestScheduledSnapshotsHold(t *testing.T) {
	before := weekly
	defer func() { weekly = before }()
	weekly = snapshotconf.Settings{Auto: []snapshotconf.Auto{{Name: "w{isoyear}-{isoweek}", At: "Mon 04:00 UTC", Archives: []string{"ubuntu"}, Keep: 3, Into: "canary", Hold: "used"}}}
	bubble.Test(t, func(t *testing.T) {
		h := &held{levels: make(map[string]string), failed: errors.New("they are not held yet")}
		s := newScheduled(t, "n1", "n2")
		s.all["n1"].Close()
		s.all["n1"].cfg.Holds = h
		s.all["n1"].start()
		s.agree()
		time.Sleep(25 * time.Minute)
		list := s.all["n1"].List()
		if len(list) != 1 || h.level(list[0].Digest) != "used" || s.at("n1") != "" {
			t.Fatalf("%+v, %s", list, s.at("n1"))
		}
		h.mu.Lock()
		h.failed = nil
		h.mu.Unlock()
		time.Sleep(25 * time.Minute)
		if s.at("n1") != "canary="+list[0].Name+" " {
			t.Errorf("%s", s.at("n1"))
		}
	})
}
