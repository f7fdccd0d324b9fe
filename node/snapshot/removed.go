package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

const (
	// graceFor is how long a snapshot that was removed can be restored, with all that it kept.
	graceFor = 24 * time.Hour
	// maxOrphans bounds the names that a node has given up and still shows.
	maxOrphans = 256
)

// orphan is a name that this node has given up: see names.Map.Only.
type orphan struct {
	Kind names.Kind `json:"kind"`
	Name string     `json:"name"`
	names.Act
	Since time.Time `json:"since"`
}

// over reports whether an orphan need not be kept any longer: it is old, or what it stood for has a name again.
func (o orphan) over(m *names.Map, now time.Time) bool {
	return now.Sub(o.Since) > RemovedFor || slices.ContainsFunc(m.List(o.Kind), func(n names.Named) bool {
		return n.Target == o.Target && (o.Kind == names.Snapshot || n.Name == o.Name)
	})
}

// neededBy are the records that are kept: of snapshots, of those that were removed lately, of those that channels lead to,
// and of those that this node has given up.
func neededBy(m *names.Map, orphans []orphan, now time.Time) map[string]bool {
	needed := make(map[string]bool)
	for _, n := range slices.Concat(m.List(names.Snapshot), m.Removed(now.Add(-graceFor))) {
		needed[n.Target] = true
	}
	for _, c := range m.List(names.Channel) {
		if at, ok := lead(m, c.Name); ok && at.digest != names.Live {
			needed[at.digest] = true
		}
	}
	for _, o := range orphans {
		if o.Kind == names.Snapshot {
			needed[o.Target] = true
		}
	}
	return needed
}

// nameOf is a name that a record has or had.
func (t *table) nameOf(digest string) string {
	for _, n := range slices.Concat(t.names.List(names.Snapshot), t.names.Removed(time.Time{})) {
		if n.Target == digest {
			return n.Name
		}
	}
	return "unknown"
}

// Removed is a name that was taken away, or that this node has given up.
type Removed struct {
	Kind, Name string
	// Target is the digest of a snapshot's record, or where a channel led.
	Target string
	// At is when it was taken away, and Until when it cannot be restored any more. Of a channel Until is when it is not shown
	// any more.
	At, Until time.Time
	// Orphaned says that this node has given it up: it was away for so long that the name may have been removed meanwhile.
	Orphaned bool
}

// Removed lists names that were taken away and can be restored here.
func (k *Keeper) Removed() (all []Removed) {
	t := k.table.Load()
	for _, n := range t.names.Removed(k.cfg.Now().Add(-graceFor)) {
		if t.records[n.Target] != nil {
			at := time.UnixMilli(int64(n.Gone)).UTC()
			all = append(all, Removed{string(n.Kind), n.Name, n.Target, at, at.Add(graceFor), false})
		}
	}
	for _, o := range t.orphans {
		all = append(all, Removed{string(o.Kind), o.Name, o.Target, o.Since, o.Since.Add(RemovedFor), true})
	}
	return all
}

// Restore gives a snapshot that was removed its name back, or another one; as "" is its own. What belongs to it and is not
// stored any more is fetched; what cannot be had is returned as missing. It fails with ErrUnknown where there is nothing to
// restore, and with ErrExists where the name is taken.
func (k *Keeper) Restore(ctx context.Context, name, as, by string) (*Snapshot, []proto.Missing, error) {
	k.MeetAll(ctx)
	digest, r, err := k.restorable(name)
	if err != nil {
		return nil, nil, err
	}
	if as == "" {
		as, _, _ = strings.Cut(name, "~")
	}
	if err := k.free(as); err != nil {
		return nil, nil, fmt.Errorf("%w (give it another name: --as NAME)", err)
	}
	data, _, err := r.encode()
	if err != nil {
		return nil, nil, err
	}
	missing, err := k.fetch(ctx, digest, r)
	if err != nil {
		return nil, nil, fmt.Errorf("restore the snapshot %s: %w", name, err)
	}
	act, err := k.name(as, digest, by, data, r)
	if err != nil {
		return nil, nil, fmt.Errorf("restore the snapshot %s: %w", name, err)
	}
	k.cfg.Logger.Info("a snapshot was restored", "snapshot", as, "by", by, "record", digest[:12], "missing", len(missing))
	s := snapshotOf(names.Named{Key: names.Key{Kind: names.Snapshot, Name: as}, Act: act}, r)
	s.Unreached = k.MeetAll(ctx)
	return &s, missing, nil
}

// restorable finds the record of a snapshot that was removed: the latest of the name, or NAME~1234.
func (k *Keeper) restorable(name string) (digest string, r *Record, err error) {
	t := k.table.Load()
	base, mark, _ := strings.Cut(name, "~")
	for _, removed := range k.Removed() {
		if removed.Kind != string(names.Snapshot) || removed.Name != base && removed.Name != name || !strings.HasPrefix(removed.Target, mark) {
			continue
		}
		if r := t.records[removed.Target]; r != nil {
			return removed.Target, r, nil
		}
	}
	return "", nil, fmt.Errorf("no snapshot %q was removed within %s (aptmesh snapshot list --removed): %w", name, graceFor, ErrUnknown)
}

// tendEvery is how often is looked for what has ended, or is due. Tests that last for weeks change it.
var tendEvery = time.Minute

// tendNowAndThen ends what is over, until the keeper is closed.
func (k *Keeper) tendNowAndThen() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.Tend()
		case <-k.ctx.Done():
			return
		}
	}
}

// Tend removes snapshots that have expired, does what is due by schedules, and lets go of what was removed a day ago. It is called
// every minute by itself.
func (k *Keeper) Tend() {
	k.expire()
	k.keepSchedule()
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	needed := neededBy(t.names, k.orphans, k.cfg.Now())
	for digest := range t.needed {
		if !needed[digest] {
			if err := k.commit(t.names.Clone(), nil); err != nil {
				k.cfg.Logger.Warn("that a snapshot has ended cannot be written down; it is tried again", "error", err)
			}
			return
		}
	}
}

// expire removes snapshots whose time has come and that no channel stands for. Of the nodes that see each other, one does so.
func (k *Keeper) expire() {
	if !slices.ContainsFunc(k.expired(), func(e Expired) bool { return e.Channel == "" }) || !k.leads() {
		return
	}
	k.MeetAll(k.ctx) // a channel may have been moved there
	for _, e := range k.expired() {
		if e.Channel != "" {
			continue
		}
		switch err := k.remove(e.Name); {
		case err == nil:
			k.cfg.Logger.Info("a snapshot has expired and is removed", "snapshot", e.Name, "expired", e.At)
		case !errors.Is(err, ErrInUse) && !errors.Is(err, ErrUnknown):
			k.cfg.Logger.Warn("a snapshot that has expired cannot be removed; it is tried again", "snapshot", e.Name, "error", err)
		}
	}
	k.MeetAll(k.ctx)
}

// Expired is a snapshot whose time has come.
type Expired struct {
	Name string
	At   time.Time
	// Channel stands for it, so that it stays; "" for none.
	Channel string
}

// expired lists the snapshots whose time has come.
func (k *Keeper) expired() (all []Expired) {
	t, now := k.table.Load(), k.cfg.Now()
	for _, n := range t.names.List(names.Snapshot) {
		r := t.records[n.Target]
		if r == nil || r.Expires.IsZero() || r.Expires.After(now) {
			continue
		}
		all = append(all, Expired{n.Name, r.Expires, t.channelAt(n.Name)})
	}
	return all
}

// channelAt is a channel that stands for a snapshot; "" for none.
func (t *table) channelAt(name string) string {
	for _, c := range t.names.List(names.Channel) {
		if c.Target == name {
			return c.Name
		}
	}
	return ""
}

// leads reports whether it is this node that acts by itself, of all that see each other: the first by name. A node that was
// away does not.
func (k *Keeper) leads() bool {
	if k.cfg.Cluster == nil {
		return true
	}
	k.acting.Lock()
	away := k.absence() != proto.Present
	k.acting.Unlock()
	alive, _ := k.cfg.Cluster.Nodes()
	return !away && !slices.ContainsFunc(alive, func(node string) bool { return node < k.cfg.Node })
}
