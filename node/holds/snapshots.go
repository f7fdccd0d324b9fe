package holds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/rows"
	"github.com/aptmesh/aptmesh/proto"
)

// Level is how much of a snapshot is held besides its roots and the indexes that it names.
type Level = string

// The levels.
const (
	LevelMetadata Level = "metadata" // nothing
	LevelUsed     Level = "used"     // the packages that hosts of this node use, and what these need
	LevelAll      Level = "all"      // every file that the indexes list
)

// Levels are all levels.
var Levels = []Level{LevelMetadata, LevelUsed, LevelAll}

// snapshotPrefix begins the owners of snapshots; what follows is the digest of the record.
const snapshotPrefix = "snapshot "

// snapshotCopies is how many nodes hold each file of a snapshot at LevelAll. At LevelUsed each node holds what its own
// hosts use.
const snapshotCopies = 2

// ofSnapshot is what is to be held of a snapshot.
func (k *Keeper) ofSnapshot(level Level, taken time.Time, suites []proto.Captured) Request {
	r := Request{Taken: taken, Suites: suites, Captives: true}
	switch level {
	case LevelAll:
		r.Copies = snapshotCopies
	case LevelUsed:
		r.Filter.Closure = true
		r.Filter.Seed = func(archive string, p *proto.Package) bool { return k.cfg.Used(archive, string(p.Path)) }
	default:
		r.Filter.Seed = func(string, *proto.Package) bool { return false }
	}
	return r
}

// KeepSnapshot has packages of a snapshot held from now on. It does not wait for them: see Snapshot. Again, it changes
// nothing.
func (k *Keeper) KeepSnapshot(record string, level Level, taken time.Time, suites []proto.Captured) {
	owner := snapshotPrefix + record
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[owner]
	if w == nil {
		w = newWorker(k, owner, hold{})
		k.workers[owner] = w
	}
	w.mu.Lock()
	known := w.running
	w.mu.Unlock()
	if known {
		return
	}
	r := k.ofSnapshot(level, taken, suites)
	w.set(settings{
		source: func(context.Context, bool) (Request, error) { return r, nil },
		keep:   1, follow: true,
		window: func(time.Time) (wait, open time.Duration) { return 0, 24 * time.Hour },
	})
}

// Indexes are the indexes of a suite that are held for any reason, of the publication that was captured. It fails where the
// root cannot be read.
func (k *Keeper) Indexes(ctx context.Context, taken time.Time, suite proto.Captured) (held []proto.Captive, err error) {
	// The caller holds mu.
	sets := func() (all []*rows.Set) {
		for g := range k.generations() {
			if slices.ContainsFunc(g.Suites, func(s proto.Captured) bool { return s.Suite == suite.Suite && s.Root == suite.Root }) {
				all = append(all, g.indexes)
			}
		}
		return all
	}
	k.mu.Lock()
	none := len(sets()) == 0
	k.mu.Unlock()
	if none {
		return nil, nil
	}
	m, err := k.cfg.Catalog.Contents(ctx, taken, suite)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := sets()
	for i := range m.Members {
		member := &m.Members[i]
		if slices.ContainsFunc(now, func(set *rows.Set) bool { return set.Has(member.Ref.Digest) }) {
			held = append(held, proto.Captive{Path: member.Path, Ref: member.Ref})
		}
	}
	return held, nil
}

// LetSnapshotGo ends the hold of a snapshot. It does not wait.
func (k *Keeper) LetSnapshotGo(record string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[snapshotPrefix+record]
	if w == nil || k.closed {
		return
	}
	delete(k.workers, w.owner) // the same snapshot may be taken again at once
	k.wg.Go(func() { k.drop(w) })
}

// SnapshotHeld fails if not all is held yet that this node is to hold of a snapshot.
func (k *Keeper) SnapshotHeld(record string) error {
	k.mu.Lock()
	w := k.workers[snapshotPrefix+record]
	k.mu.Unlock()
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != Done {
		return fmt.Errorf("its packages are not all held yet: %s", w.phase)
	}
	return nil
}

// Snapshot is how the hold of a snapshot is now; false where there is none.
func (k *Keeper) Snapshot(record string) (Status, bool) {
	k.mu.Lock()
	w := k.workers[snapshotPrefix+record]
	k.mu.Unlock()
	if w == nil {
		return Status{}, false
	}
	return k.status(w, record), true
}

// ForecastSnapshot says what a snapshot of suites would take.
func (k *Keeper) ForecastSnapshot(ctx context.Context, level Level, taken time.Time, suites []proto.Captured) (*Forecast, error) {
	return k.Forecast(ctx, snapshotPrefix+"to be", k.ofSnapshot(level, taken, suites))
}

// DropUnclaimed ends holds that were read back and that neither SetMirrors nor KeepSnapshot has named since.
func (k *Keeper) DropUnclaimed() {
	k.mu.Lock()
	var unclaimed []*worker
	for _, w := range k.workers {
		w.mu.Lock()
		if !w.running {
			unclaimed = append(unclaimed, w)
		}
		w.mu.Unlock()
	}
	k.mu.Unlock()
	for _, w := range unclaimed {
		k.drop(w)
	}
}

// label names a hold in metrics: a snapshot by the beginning of its record.
func label(owner string) string {
	if record, ok := strings.CutPrefix(owner, snapshotPrefix); ok {
		return snapshotPrefix + record[:min(len(record), 12)]
	}
	return owner
}
