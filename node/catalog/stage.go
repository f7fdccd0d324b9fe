package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// stageParallel is how many members are fetched at one time. The upstream's own connection cap
// stands above it.
const stageParallel = 4

// stage brings the root of a candidate and the members that clients use into the store, proven, and
// reads what the indexes among them list.
func (d *driver) stage(a *suite.Stage) {
	cand := a.Candidate
	needed := d.needed(cand.Manifest)
	d.pinStaging(cand, needed)
	release := d.c.claim(d.id.Archive, tablesOf(needed))
	at := d.at()
	started := d.c.spawn(func() {
		generation, missing, err := d.stageAll(d.ctx, cand, needed, at)
		posted := d.mail.post(func() {
			d.staged = generation
			d.step(suite.Staged{Stage: a, Missing: missing, Err: err}) // commits, if it is to be
			d.staged = nil
			release()
		})
		if !posted {
			release()
		}
	})
	if !started {
		release()
	}
}

func tablesOf(members []*proto.Member) []string {
	var names []string
	for _, m := range members {
		if m.Lists() {
			names = append(names, m.Table)
		}
	}
	return names
}

// stageAll does the work of stage.
func (d *driver) stageAll(ctx context.Context, cand *suite.Candidate, needed []*proto.Member, at suite.At) (*view.Generation, []suite.Missing, error) {
	if err := d.keepRoot(cand); err != nil {
		return nil, nil, err
	}
	results := make([]view.Staged, len(needed))
	failures := make([]error, len(needed))
	read := d.reader()
	var group errgroup.Group
	group.SetLimit(stageParallel)
	for i, m := range needed {
		group.Go(func() error {
			if results[i], failures[i] = read.read(ctx, cand.Gen, m, cand.From); failures[i] != nil {
				d.noteFailure(m, failures[i])
				return nil
			}
			failures[i] = d.inStore(ctx, results[i].Ref) // what it lists is known all the same
			return nil
		})
	}
	companions, companionsErr := d.stageCompanions(ctx, cand, at)
	group.Wait() // no member returns an error: failures has them

	gen := cand.Gen
	gen.Companions = mergeCompanions(gen.Companions, companions)
	members := make(map[string]view.Staged, len(needed))
	var missing []suite.Missing
	for i, m := range needed {
		if failures[i] == nil {
			members[m.Path] = results[i]
			continue
		}
		missing = append(missing, suite.Missing{Slot: m.Slot, Required: m.Needed && (m.Slot == "" || d.demand.wasFetched(m.Slot)), Err: failures[i]})
	}
	if companionsErr != nil {
		missing = append(missing, suite.Missing{Slot: d.otherNames(cand.Gen), Err: companionsErr})
	}
	return view.NewGeneration(gen, cand.Manifest, filesOf(gen)...).WithAllStaged(members), missing, ctx.Err()
}

// keepRoot puts the root and what vouches for it into the store.
func (d *driver) keepRoot(cand *suite.Candidate) error {
	for name, data := range cand.Files {
		modified := cand.Gen.Modified
		if c, ok := cand.Gen.Companion(name); ok {
			modified = c.Modified
		}
		if _, err := d.c.cfg.Store.Put(d.id.Archive, data, modified); err != nil {
			return fmt.Errorf("keep %s of %s: %w", name, d.id, err)
		}
	}
	return nil
}

// needed lists the members of a manifest that clients use, in a fixed order. A first generation is
// not kept from this node's clients for the sake of other nodes': what those use is taken in behind
// it.
func (d *driver) needed(m *proto.Manifest) []*proto.Member {
	d.expireDemand()
	wanted := map[string]bool{"": true} // the root as an index
	for _, slot := range d.demand.locals() {
		wanted[slot] = true
	}
	if d.current != nil {
		for _, slot := range d.demand.remotes() {
			wanted[slot] = true
		}
	}
	for slot, in := range d.ingests { // a client wants it at this moment
		if in.ours {
			wanted[slot] = true
		}
	}
	var needed []*proto.Member
	for i := range m.Members {
		if member := &m.Members[i]; wanted[member.Slot] && member.Provable() {
			needed = append(needed, member)
		}
	}
	return needed
}

func (d *driver) expireDemand() {
	d.demand.expire(d.c.mono(), suite.Mono(d.c.cfg.UseFor), d.c.remoteFor())
}

func (d *driver) stagingOwner() string { return d.id.String() + " staging" }

// pinStaging keeps what is being staged from being evicted before the switch.
func (d *driver) pinStaging(cand *suite.Candidate, needed []*proto.Member) {
	pins := []proto.Digest{cand.Gen.Root.Digest}
	for _, c := range cand.Gen.Companions {
		if c.Known() {
			pins = append(pins, c.Ref.Digest)
		}
	}
	for _, m := range needed {
		if !m.Ref.IsZero() {
			pins = append(pins, m.Ref.Digest)
		}
	}
	d.pinned = true
	d.c.cfg.Store.Pin(d.stagingOwner(), pins)
}

func (d *driver) unpinStaging() {
	if d.pinned {
		d.pinned = false
		d.c.cfg.Store.Pin(d.stagingOwner(), nil)
	}
}

// storeWait is how long the store may take to commit what was read to its end.
const storeWait = 2 * time.Second

// inStore makes sure that the store has an object that was read to its proven end: its commit may
// be a moment behind its last byte, or fail for want of space.
func (d *driver) inStore(ctx context.Context, ref proto.Ref) error {
	if ref.IsZero() || ref.Size == 0 {
		return nil // known by another sum, or nothing to keep
	}
	for pause := time.Millisecond; ; pause *= 2 {
		b, err := d.c.cfg.Store.Get(ref.Digest)
		if err == nil {
			return b.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if pause > storeWait/2 {
			return fmt.Errorf("%w: it does not keep %s", proto.ErrNoSpace, ref)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
