package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
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
	var group errgroup.Group
	group.SetLimit(stageParallel)
	for i, m := range needed {
		group.Go(func() error {
			if results[i], failures[i] = d.stageMember(ctx, cand.Gen, m, cand.From); failures[i] != nil {
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
		pins = append(pins, c.Ref.Digest)
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

// object is what it takes to obtain a member.
func (d *driver) object(g proto.Generation, m *proto.Member, holders []string) proto.ObjectRequest {
	w := proto.ObjectRequest{Ref: m.Ref, SHA512: m.SHA512, Class: proto.ClassMetadata, Holders: holders, Base: g.Base}
	names := make([]proto.Location, 0, len(m.Upstream)+1)
	for _, name := range m.Upstream {
		names = append(names, d.id.At(name))
	}
	if len(names) == 0 {
		names = append(names, d.id.At(m.Path))
	}
	w.Where = proto.WhereOf(names)
	return w
}

// stageMember brings one member into the store and its table onto the disk. holders are nodes that
// are known to hold it: their own summaries may not have announced it yet.
func (d *driver) stageMember(ctx context.Context, g proto.Generation, m *proto.Member, holders []string) (view.Staged, error) {
	ref, err := d.drain(ctx, d.object(g, m, holders), m)
	if err != nil || !m.Lists() {
		return view.Staged{Ref: ref}, err
	}
	if d.c.tablesOf(d.id.Archive).has(m.Table) {
		return view.Staged{Ref: ref, Table: m.Table}, nil
	}
	return d.readIndex(ctx, g, m, ref)
}

// drain reads a member to its proven end, so that the store has it.
func (d *driver) drain(ctx context.Context, object proto.ObjectRequest, m *proto.Member) (proto.Ref, error) {
	b, err := d.c.cfg.Blobs.Open(ctx, object)
	if err != nil {
		return proto.Ref{}, err
	}
	defer b.Close()
	if b.Stream == nil { // the store had it
		return b.Ref, nil
	}
	if _, err := io.Copy(io.Discard, b.Reader()); err != nil {
		return proto.Ref{}, err
	}
	if !m.Ref.IsZero() {
		return proto.Ref{Digest: m.Ref.Digest, Size: b.Ref.Size}, nil
	}
	if !b.Ref.IsZero() {
		return b.Ref, nil
	}
	// Listed by SHA-512 only: its SHA-256 is known after the fetch alone.
	again, err := d.c.cfg.Blobs.Open(ctx, object)
	if err != nil {
		return proto.Ref{}, err
	}
	defer again.Close()
	return again.Ref, nil
}

// readIndex reads what an index lists. It is parsed only after its digest has been proven: a
// decompressor is no place for bytes of unknown origin. An index that cannot be read is proven all
// the same: the generation goes on, and what the index lists stays unlisted.
func (d *driver) readIndex(ctx context.Context, g proto.Generation, m *proto.Member, ref proto.Ref) (view.Staged, error) {
	select {
	case d.c.parsing <- struct{}{}:
		defer func() { <-d.c.parsing }()
	case <-ctx.Done():
		return view.Staged{}, ctx.Err()
	}
	if d.c.tablesOf(d.id.Archive).has(m.Table) { // the same index in another suite was quicker
		return view.Staged{Ref: ref, Table: m.Table}, nil
	}
	start := time.Now()
	list, err := d.parse(ctx, g, m)
	var broken *unreadable
	if errors.As(err, &broken) {
		d.c.metrics.unreadable.Inc()
		d.log.Warn("an index cannot be read; it is served, and what it lists is not verified", "path", m.Path, "error", broken.error)
		d.noteUnreadable(m, firstLine(broken.Error()))
		return view.Staged{Ref: ref}, nil
	}
	if err != nil {
		return view.Staged{}, fmt.Errorf("read %s: %w", m.Path, err)
	}
	if err := d.c.tablesOf(d.id.Archive).write(m.Table, list); err != nil {
		return view.Staged{}, fmt.Errorf("write the package table of %s: %w", m.Path, err)
	}
	d.c.metrics.parsed.Observe(time.Since(start).Seconds())
	d.log.Debug("read an index", "path", m.Path, "files", list.Len(), "took", time.Since(start))
	return view.Staged{Ref: ref, Table: m.Table}, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 300)]
}

// unreadable is that the bytes of an index are the right ones, and make no sense to us.
type unreadable struct{ error }

func (u *unreadable) Unwrap() error { return u.error }

// parse reads what a proven index lists.
func (d *driver) parse(ctx context.Context, g proto.Generation, m *proto.Member) (*view.List, error) {
	b, err := d.c.cfg.Blobs.Open(ctx, d.object(g, m, nil))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	r := &watched{r: b.Reader()}
	builder := view.NewListBuilder(d.c.tablesOf(d.id.Archive).seed, 0)
	err = d.archive.Load().Format.Parse(d.id, m, r, builder.Add)
	switch {
	case r.err != nil && r.err != io.EOF:
		return nil, r.err // of the source
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &unreadable{err}
	}
	// Where the store did not keep it, the proof comes with the last byte.
	if _, err := io.Copy(io.Discard, b.Reader()); err != nil {
		return nil, err
	}
	return builder.List()
}

// watched remembers the error of a reader, so that a failure of the source is not taken for an
// unreadable index.
type watched struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	return n, err
}
