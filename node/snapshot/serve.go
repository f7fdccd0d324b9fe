package snapshot

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// Known reports whether a name leads to a snapshot that has an archive, or to the archive as it is now.
func (k *Keeper) Known(id, archive string) bool {
	_, ok := k.where(k.table.Load(), id, archive)
	return ok
}

// where is where a name leads, or what is held of a moment; false where there is nothing of the archive.
func (k *Keeper) where(t *table, id, archive string) (at meaning, ok bool) {
	if at, ok = lead(t.names, id); !ok {
		if held, _ := k.heldAt(id, archive); held.record != nil {
			at, ok = meaning{digest: held.digest, snapshot: id, record: held.record}, true
		}
	}
	return at, ok && t.has(&at, archive)
}

// record is that of a snapshot where a name leads; nil where that is names.Live, or the record is lost.
func (t *table) record(at *meaning) *Record {
	if at.record != nil {
		return at.record
	}
	return t.records[at.digest]
}

// has reports whether there is something of an archive where a name leads.
func (t *table) has(at *meaning, archive string) bool {
	if at.digest == names.Live {
		return true
	}
	r := t.record(at)
	return r != nil && r.archive(archive) != nil
}

// Resolve is the catalog's Resolve for an archive as a name has it. false: ask Discover.
func (k *Keeper) Resolve(id string, loc proto.Location) (proto.Resolution, bool) {
	t := k.table.Load()
	at, ok := k.where(t, id, loc.Archive)
	switch {
	case !ok:
		return proto.Resolution{}, false
	case at.digest == names.Live || k.isLive(&at, t.record(&at), loc):
		e, ok := k.cfg.Catalog.Resolve(loc)
		at.sign(&e, names.Live)
		return e, ok
	}
	k.opening.Lock()
	o := k.opened[openKey{at.digest, loc.Archive}]
	k.opening.Unlock()
	if o == nil || !isReady(o) || o.err != nil || !o.frozen.Current() {
		return proto.Resolution{}, false
	}
	o.used.Store(k.uses.Add(1))
	e, ok := o.frozen.Resolve(loc)
	k.finish(&e, &at)
	return e, ok
}

// finish makes an answer of a snapshot one of the name that was asked.
func (k *Keeper) finish(e *proto.Resolution, at *meaning) {
	onChannel(e, at.moved)
	at.sign(e, at.snapshot)
	if at.record != nil && k.young(at.snapshot) {
		e.Mutable = true
	}
}

// sign says where an answer for a channel is from.
func (at *meaning) sign(e *proto.Resolution, snapshot string) {
	if !at.moved.IsZero() {
		e.Snapshot = snapshot
	}
}

// Discover is the catalog's Discover for an archive as a name has it. It may open the snapshot first. Packages that a
// channel's snapshot does not list are looked for in its live suites, and where it was before.
//
// Errors are those of the catalog; a name that leads nowhere is proto.ErrNotFound.
func (k *Keeper) Discover(ctx context.Context, id string, loc proto.Location, fresh bool) (proto.Resolution, error) {
	t := k.table.Load()
	at, ok := k.where(t, id, loc.Archive)
	if !ok {
		return proto.Resolution{}, proto.ErrNotFound
	}
	where := at
	if at.digest != names.Live && k.isLive(&at, t.record(&at), loc) {
		where = meaning{digest: names.Live, snapshot: names.Live, moved: at.moved}
	}
	e, err := k.discover(ctx, t, &where, loc, fresh)
	if _, root := k.cfg.Catalog.RootOf(loc); root || err == nil && e.Listed || ctx.Err() != nil {
		return e, err
	}
	others := past(t.names, id, k.cfg.Now())
	if len(at.live) > 0 && where.digest != names.Live {
		others = append([]meaning{{digest: names.Live, snapshot: names.Live, moved: at.moved}}, others...)
	}
	for _, other := range others {
		if t.has(&other, loc.Archive) {
			if found, err := k.discover(ctx, t, &other, loc, false); err == nil && found.Listed {
				return found, nil
			}
		}
	}
	return e, err
}

// discover looks at one place that has the archive.
func (k *Keeper) discover(ctx context.Context, t *table, at *meaning, loc proto.Location, fresh bool) (proto.Resolution, error) {
	if at.digest == names.Live {
		e, err := k.cfg.Catalog.Discover(ctx, loc, fresh)
		at.sign(&e, names.Live)
		return e, err
	}
	f, err := k.open(ctx, openKey{at.digest, loc.Archive}, t.record(at))
	if err != nil {
		return proto.Resolution{}, err
	}
	e, err := f.Discover(ctx, loc)
	k.finish(&e, at)
	return e, err
}

// Dates returns the dates of the generations in snapshots that list a file, in no order: a service of `history` may still
// have what upstream has dropped since. It opens snapshots, the newest ones if there are many.
func (k *Keeper) Dates(ctx context.Context, loc proto.Location) (dates []time.Time) {
	t := k.table.Load()
	var taken []string
	for digest, r := range t.records {
		if r.archive(loc.Archive) != nil {
			taken = append(taken, digest)
		}
	}
	slices.SortFunc(taken, func(x, y string) int { return t.records[y].Taken.Compare(t.records[x].Taken) })
	for _, digest := range taken[:min(len(taken), maxOpen)] {
		f, err := k.open(ctx, openKey{digest, loc.Archive}, t.records[digest])
		if err != nil {
			continue
		}
		if e, err := f.Discover(ctx, loc); err == nil && e.Listed { // the index that lists it has been read
			dates = append(dates, f.Dates(loc)...)
		}
	}
	return dates
}

// onChannel makes an answer one of a channel that was moved at a time; zero where the name is a snapshot's. It may
// be another answer tomorrow. A root counts as changed when the channel was moved: pacman takes no database that is
// older than the one it has, and must go back with its channel.
func onChannel(e *proto.Resolution, moved time.Time) {
	if moved.IsZero() {
		return
	}
	e.Mutable = true
	if moved = moved.Truncate(time.Second); !e.Modified.IsZero() && moved.After(e.Modified) {
		e.Modified = moved
	}
}

// open opens an archive of a snapshot, or waits for who is opening it.
func (k *Keeper) open(ctx context.Context, key openKey, r *Record) (Frozen, error) {
	k.opening.Lock()
	o := k.opened[key]
	if o != nil && isReady(o) && (o.err != nil || !o.frozen.Current()) {
		k.drop(key)
		o = nil
	}
	if o == nil && k.ctx.Err() == nil {
		o = &opened{ready: make(chan struct{})}
		o.used.Store(k.uses.Add(1)) // before it can be ready, and closed as the one that nobody used
		k.opened[key] = o
		// Whoever comes first has it opened for all: so it must not end with his request.
		k.wg.Go(func() { k.openFor(key, r, o) })
	}
	k.opening.Unlock()
	if o == nil {
		return nil, context.Cause(k.ctx)
	}
	o.used.Store(k.uses.Add(1))
	select {
	case <-o.ready:
		return o.frozen, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func isReady(o *opened) bool {
	select {
	case <-o.ready:
		return true
	default:
		return false
	}
}

// openTimeout bounds the opening of one archive: its roots and indexes may have to come from another node.
const openTimeout = time.Minute

func (k *Keeper) openFor(key openKey, r *Record, o *opened) {
	ctx, cancel := context.WithTimeout(k.ctx, openTimeout)
	defer cancel()
	frozen, missing, err := k.cfg.Catalog.Freeze(ctx, key.archive, r.Taken, r.archive(key.archive).Suites)
	if err != nil {
		err = fmt.Errorf("the snapshot cannot be opened: %w", err)
		k.cfg.Logger.Warn("a snapshot cannot be opened", "record", key.digest[:12], "archive", key.archive, "error", err)
	}
	if len(missing) > 0 {
		k.cfg.Logger.Warn("files of a snapshot are missing; they are tried again when a host asks for them",
			"record", key.digest[:12], "archive", key.archive, "missing", len(missing), "first", missing[0].Location.String(), "error", missing[0].Err)
	}
	o.frozen, o.err = frozen, err
	close(o.ready)
	k.opening.Lock()
	if k.opened[key] != o && err == nil { // taken away meanwhile
		frozen.Close()
	}
	k.opening.Unlock()
	k.trim()
}

// keepOpen takes over what was opened while a snapshot was made.
func (k *Keeper) keepOpen(key openKey, f Frozen) {
	o := &opened{ready: make(chan struct{}), frozen: f}
	close(o.ready)
	o.used.Store(k.uses.Add(1))
	k.opening.Lock()
	k.drop(key)
	k.opened[key] = o
	k.opening.Unlock()
	k.trim()
}

// trim closes what was used least recently, if too much is open.
func (k *Keeper) trim() {
	k.opening.Lock()
	defer k.opening.Unlock()
	for len(k.opened) > maxOpen {
		var oldest openKey
		var least int64 = -1
		for key, o := range k.opened {
			if used := o.used.Load(); isReady(o) && (least < 0 || used < least) {
				oldest, least = key, used
			}
		}
		if least < 0 {
			return // all are being opened
		}
		k.drop(oldest)
	}
}

// drop forgets one that is open. The caller holds opening.
func (k *Keeper) drop(key openKey) {
	o := k.opened[key]
	delete(k.opened, key)
	if o != nil && isReady(o) && o.err == nil {
		o.frozen.Close()
	}
}
