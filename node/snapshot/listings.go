package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// Listings returns the suites that a name leads to, with the indexes that their roots list: a snapshot, a channel, names.Live, or
// a moment. Of Live and of a moment, archives names those that are meant. It fails with ErrUnknown, or where a root cannot be had or is
// refused. It may open the snapshot first.
func (k *Keeper) Listings(ctx context.Context, id string, archives []string) ([]proto.Listing, error) {
	if _, moment := k.heldAt(id, ""); moment {
		return k.momentListings(ctx, id, archives)
	}
	t := k.table.Load()
	at, ok := lead(t.names, id)
	r := t.records[at.digest]
	switch {
	case !ok:
		return nil, fmt.Errorf("%.70q: %w", id, ErrUnknown)
	case at.digest == names.Live:
		return k.liveListings(ctx, archives)
	case r == nil:
		return nil, fmt.Errorf("the record of %s is lost on this node: nothing of it can be read", id)
	}
	var all []proto.Listing
	for _, a := range r.Archives {
		f, err := k.open(ctx, openKey{at.digest, a.Name}, r)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", a.Name, id, err)
		}
		all = append(all, f.Listings()...)
	}
	if len(at.live) == 0 {
		return all, nil
	}
	// Suites that the channel serves as they are now.
	live, err := k.liveListings(ctx, k.ArchivesOf(id))
	all = slices.DeleteFunc(all, func(l proto.Listing) bool { return Wanted(at.live, l.Suite) })
	return append(all, slices.DeleteFunc(live, func(l proto.Listing) bool { return !Wanted(at.live, l.Suite) })...), err
}

// Served is a suite that hosts get under a name.
type Served struct {
	proto.Listing // Indexes may be missing
	// Live says that it moves on with the archive.
	Live bool
}

// Suites returns the suites that hosts of a name get. Of names.Live, archives names those that are meant. The error is as
// that of Listings.
func (k *Keeper) Suites(ctx context.Context, id string, archives []string) (all []Served, err error) {
	at, ok := follow(k.table.Load().names, id)
	if !ok {
		return nil, fmt.Errorf("%.70q: %w", id, ErrUnknown)
	}
	if at.digest != names.Live {
		archives = k.ArchivesOf(id)
		frozen, err := k.Listings(ctx, at.snapshot, nil)
		if err != nil {
			return nil, err
		}
		for _, l := range frozen {
			if !Wanted(at.live, l.Suite) || len(at.live) == 0 {
				all = append(all, Served{Listing: l})
			}
		}
	}
	for _, archive := range archives {
		for _, l := range k.cfg.Catalog.Roots(archive) {
			if at.digest == names.Live || len(at.live) > 0 && Wanted(at.live, l.Suite) {
				all = append(all, Served{l, true})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Served) int {
		return cmp.Or(cmp.Compare(a.Suite.Archive, b.Suite.Archive), cmp.Compare(a.Suite.Dir, b.Suite.Dir), cmp.Compare(a.Suite.Name, b.Suite.Name))
	})
	return all, nil
}

// ArchivesOf names the archives of the snapshot that a name leads to; none where it leads to no snapshot.
func (k *Keeper) ArchivesOf(id string) (archives []string) {
	t := k.table.Load()
	at, _ := lead(t.names, id)
	if r := t.records[at.digest]; r != nil {
		for _, a := range r.Archives {
			archives = append(archives, a.Name)
		}
	}
	return archives
}

func (k *Keeper) liveListings(ctx context.Context, archives []string) (all []proto.Listing, err error) {
	for _, archive := range archives {
		captured := k.cfg.Catalog.Capture(archive)
		if len(captured) == 0 {
			continue
		}
		f, _, err := k.cfg.Catalog.Freeze(ctx, archive, k.cfg.Now(), captured)
		if err != nil {
			return nil, fmt.Errorf("%s as it is now: %w", archive, err)
		}
		all = append(all, f.Listings()...)
		f.Close()
	}
	return all, nil
}

// momentListings are what this node holds of archives as they were at a moment.
func (k *Keeper) momentListings(ctx context.Context, id string, archives []string) (all []proto.Listing, err error) {
	for _, archive := range archives {
		held, _ := k.heldAt(id, archive)
		if held.record == nil {
			continue
		}
		f, err := k.open(ctx, openKey{held.digest, archive}, held.record)
		if err != nil {
			return nil, fmt.Errorf("%s as it was at %s: %w", archive, id, err)
		}
		all = append(all, f.Listings()...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("this node holds nothing of the archives as they were at %s: %w", id, ErrUnknown)
	}
	return all, nil
}
