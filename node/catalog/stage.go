package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// stageParallel is how many members are fetched at one time. The upstream's own
// connection cap stands above it.
const stageParallel = 4

// stage brings the root and the members that clients use into the store, proven,
// and reads what the indices among them list. It fails if one that clients need
// cannot be had: the archive is in the middle of publishing then, or a mirror is
// behind, and the old generation stays. Optional ones are waited for only so long.
// release lets go of what is kept for the candidate alone; it is to be called, on
// failure too, once the candidate is current or given up.
func (s *suite) stage(cand *candidate) (release func(), err error) {
	needed := s.needed(cand.gen)
	s.pinStaging(cand.gen, needed)
	release = s.c.claim(s.listNames(cand.gen, needed)...)
	if err := s.keepRoot(cand); err != nil {
		return release, err
	}
	results := make([]staged, len(needed))
	failures := make([]error, len(needed))
	var group errgroup.Group
	group.SetLimit(stageParallel)
	for i, m := range needed {
		group.Go(func() error {
			results[i], failures[i] = s.stageMember(s.ctx, cand.gen, m, cand.from)
			if failures[i] == nil {
				failures[i] = s.inStore(s.ctx, results[i].Ref)
			}
			return nil
		})
	}
	pairErr := s.stagePair(cand)
	group.Wait() // no member returns an error: failures has them

	missing := make(map[string]error)
	for i, m := range needed {
		switch {
		case failures[i] == nil:
			cand.gen.staged[m.path] = results[i]
		case aptmeta.Optional(m.path) || !s.hadBefore(m.path):
			missing[m.path] = failures[i]
		default:
			s.c.metrics.incomplete.Inc()
			return release, refused("incomplete", "the Release of %s is not adopted yet: %s cannot be had as it lists it (mirror sync in progress?): %w",
				cand.gen.Date.Format(time.RFC3339), m.path, failures[i])
		}
	}
	if pairErr != nil {
		missing["Release, Release.gpg"] = pairErr
	}
	return release, s.bePatient(cand, missing)
}

// hadBefore reports whether the member could be had in an earlier generation, by a
// client of this node: what those of others use is waited for with patience only.
func (s *suite) hadBefore(path string) bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	u, ok := s.uses[path]
	return ok && u.had
}

func (s *suite) stagingOwner() string { return s.id.String() + " staging" }

// pinStaging keeps what is being staged from being evicted before the flip.
func (s *suite) pinStaging(g *generation, needed []*member) {
	pins := []proto.Digest{g.Root.Digest}
	if !g.Signature.IsZero() {
		pins = append(pins, g.Signature.Digest)
	}
	for _, m := range needed {
		if !m.ref.IsZero() {
			pins = append(pins, m.ref.Digest)
		}
	}
	s.pinned = true
	s.c.cfg.Keeper.Pin(s.stagingOwner(), pins)
}

func (s *suite) unpinStaging() {
	s.pinned = false
	s.c.cfg.Keeper.Pin(s.stagingOwner(), nil)
}

// bePatient decides whether to flip without optional files: not before the
// archive has had time to finish publishing. The time counts for each file by
// itself and over several generations, so that neither an archive that publishes
// all the time nor a file that it never has can hold a suite back.
func (s *suite) bePatient(cand *candidate, missing map[string]error) error {
	now := s.c.cfg.Now()
	maps.DeleteFunc(s.missing, func(path string, _ time.Time) bool { _, still := missing[path]; return !still })
	var waitFor []string
	for _, path := range slices.Sorted(maps.Keys(missing)) {
		since, ok := s.missing[path]
		if !ok {
			since = now
			s.missing[path] = now
		}
		if now.Sub(since) < s.c.cfg.Patience {
			waitFor = append(waitFor, path)
		}
	}
	// A first generation has nobody to protect from a flip.
	if len(waitFor) > 0 && s.held() != nil {
		s.c.metrics.incomplete.Inc()
		return refused("incomplete", "the Release of %s waits at most %s for optional files, %s: %w",
			cand.gen.Date.Format(time.RFC3339), s.c.cfg.Patience, strings.Join(waitFor, ", "), missing[waitFor[0]])
	}
	if len(missing) > 0 {
		s.log.Warn("flipping without optional files that upstream lists but does not have", "missing", slices.Sorted(maps.Keys(missing)))
	}
	return nil
}

// keptWait is how long the store may take to commit what was read to its end.
const keptWait = 2 * time.Second

// inStore makes sure that the store has an object that was read to its proven end:
// its commit may be a moment behind its last byte, or fail for want of space.
func (s *suite) inStore(ctx context.Context, ref proto.Ref) error {
	if ref.IsZero() || ref.Size == 0 {
		return nil // known by another sum, or nothing to keep
	}
	for pause := time.Millisecond; ; pause *= 2 {
		b, err := s.c.cfg.Keeper.Get(ref.Digest)
		if err == nil {
			return b.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if pause > keptWait/2 {
			return fmt.Errorf("%w: it does not keep %s", proto.ErrNoSpace, ref)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stageMember brings one member into the store and its list onto the disk.
func (s *suite) stageMember(ctx context.Context, g *generation, m *member, holders []string) (staged, error) {
	st, err := s.takeMember(ctx, g, m, holders)
	if err == nil {
		m.learn(st.Ref)
	}
	return st, err
}

func (s *suite) takeMember(ctx context.Context, g *generation, m *member, holders []string) (staged, error) {
	kind := aptmeta.IndexKindOf(m.path)
	name := s.listName(g, m)
	if kind != aptmeta.NotAnIndex && !s.c.hasList(name) {
		return s.stageIndex(ctx, g, m, kind, name, holders)
	}
	ref, err := s.drain(ctx, m, holders)
	if err != nil {
		return staged{}, err
	}
	st := staged{Ref: ref}
	if kind != aptmeta.NotAnIndex {
		st.List = name
	}
	return st, nil
}

// drain reads a member to its proven end, so that the store has it. holders are
// nodes that are known to hold it: their own summaries may not have told of it yet.
func (s *suite) drain(ctx context.Context, m *member, holders []string) (proto.Ref, error) {
	b, err := s.c.open(ctx, m, holders...)
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
	return s.refOf(ctx, m, b)
}

// refOf is the SHA-256 ref of a member that was read to its end. One that is
// listed by SHA-512 only is known by it after the flight alone.
func (s *suite) refOf(ctx context.Context, m *member, b *proto.Blob) (proto.Ref, error) {
	if !m.ref.IsZero() {
		return proto.Ref{Digest: m.ref.Digest, Size: b.Ref.Size}, nil
	}
	if !b.Ref.IsZero() {
		return b.Ref, nil
	}
	again, err := s.c.open(ctx, m)
	if err != nil {
		return proto.Ref{}, err
	}
	defer again.Close()
	return again.Ref, nil
}

// stageIndex brings an index into the store and reads what it lists. It is
// parsed only after its digest has been proven: a decompressor is no place for
// bytes of unknown origin.
func (s *suite) stageIndex(ctx context.Context, g *generation, m *member, kind aptmeta.IndexKind, name string, holders []string) (staged, error) {
	ref, err := s.drain(ctx, m, holders)
	if err != nil {
		return staged{}, err
	}
	select {
	case s.c.slots <- struct{}{}:
		defer func() { <-s.c.slots }()
	case <-ctx.Done():
		return staged{}, ctx.Err()
	}
	if s.c.hasList(name) { // another variant of the same index was quicker
		return staged{Ref: ref, List: name}, nil
	}
	start := time.Now()
	l, err := s.parse(ctx, g, m, kind)
	if err != nil {
		return staged{}, fmt.Errorf("parse %s: %w", m.path, err)
	}
	if err := s.c.cfg.State.WriteFile(listDir+name, l.marshal()); err != nil {
		return staged{}, fmt.Errorf("write the package table of %s: %w", m.path, err)
	}
	s.c.metrics.parsed.Observe(time.Since(start).Seconds())
	s.log.Debug("read an index", "path", m.path, "files", len(l.rows)+len(l.strong), "took", time.Since(start))
	return staged{Ref: ref, List: name}, nil
}

// maxIndex bounds an index whose decompressed size the Release does not list.
const maxIndex = 4 << 30

// parse reads what a proven index lists.
func (s *suite) parse(ctx context.Context, g *generation, m *member, kind aptmeta.IndexKind) (*list, error) {
	b, err := s.c.open(ctx, m)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	limit := int64(maxIndex)
	plain, ext := aptmeta.TrimCompression(m.path)
	if u, ok := g.members[plain]; ok && ext != "" {
		limit = u.ref.Size
	}
	r, err := aptmeta.Decompress(m.path, b.Reader(), limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()

	l := &list{}
	bases := s.bases(kind)
	var full []byte
	err = aptmeta.ParseIndex(kind, m.path, r, func(f aptmeta.File) error {
		for _, base := range bases {
			full = append(append(full[:0], base...), f.Path...)
			l.add(full, f.Size, f.SHA256, f.SHA512)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Where the store did not keep it, the proof comes with the last byte.
	if _, err := io.Copy(io.Discard, b.Reader()); err != nil {
		return nil, err
	}
	return l, nil
}

// bases are the prefixes that the paths of an index may have below the archive's
// root. Only a flat repository leaves it open: its files lie relative to the URL
// that the client was configured with, which is the directory of the Release or
// one above it.
func (s *suite) bases(kind aptmeta.IndexKind) []string {
	slash := func(dir string) string {
		if dir == "" {
			return ""
		}
		return dir + "/"
	}
	switch {
	case kind == aptmeta.DiffIndex || kind == aptmeta.SHA256Sums:
		return []string{slash(s.id.Dir)}
	case s.id.Flat() && s.id.Dir != "":
		return []string{slash(s.id.Dir), ""}
	default:
		return []string{slash(s.id.Base())}
	}
}
