package catalog

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// ingest is a member on its way into the catalog because a client has asked for
// it for the first time: its packages are known from then on, and the member is
// staged with every later generation.
type ingest struct {
	suite *suite
	path  string // of the member
	ours  bool   // a client of this node wants it, not only those of others; guarded by Catalog.mu
	done  chan struct{}
	err   error // valid after done
}

// used notes that a client asked for a member. The first time, the member is
// taken in beside the client's own download, over the same flight.
func (c *Catalog) used(s *suite, g *generation, m *member) {
	if u := m.use.Load(); u != nil {
		u.touch(c.cfg.Now())
		return
	}
	if !c.absent(s.thing(m)) {
		c.takeIn(s, g, m, true)
	}
}

// takeIn starts the ingest of a member, or returns the one under way. ours says that
// a client of this node wants it.
func (c *Catalog) takeIn(s *suite, g *generation, m *member, ours bool) *ingest {
	loc := s.id.At(m.path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if running, ok := c.ingests[loc]; ok {
		running.ours = running.ours || ours
		return running
	}
	in := &ingest{suite: s, path: m.path, ours: ours, done: make(chan struct{})}
	started := c.spawn(func() {
		in.err = c.runIngest(in, g, m)
		c.mu.Lock()
		delete(c.ingests, loc)
		ours := in.ours
		c.mu.Unlock()
		if in.err == nil {
			c.followUp(s, g, m.path, ours)
		}
		close(in.done)
	})
	if !started {
		in.err = errClosed
		close(in.done)
		return in
	}
	c.ingests[loc] = in
	return in
}

func (c *Catalog) runIngest(in *ingest, g *generation, m *member) error {
	s := in.suite
	release := c.claim(s.listNames(g, []*member{m})...)
	defer release()
	st, err := s.stageMember(s.ctx, g, m, nil)
	if err != nil {
		if s.ctx.Err() == nil {
			level := slog.LevelInfo
			if c.failedLately(s.thing(m)) { // it has been said
				level = slog.LevelDebug
			}
			s.log.Log(s.ctx, level, "a listed file could not be taken in; what it lists stays unlisted", "path", m.path, "error", err)
			c.noteFailed(s.thing(m), err)
		}
		// What upstream lists but does not have must not be waited for when the
		// next generation is staged; what is only in trouble now must.
		if !errors.Is(err, proto.ErrNotFound) {
			c.mu.Lock()
			if in.ours {
				s.useOf(m.path)
			}
			c.mu.Unlock()
		}
		return err
	}
	c.mu.Lock()
	if in.ours {
		u := s.useOf(m.path)
		if !u.had {
			u.had = true
			s.newUses.Store(true)
		}
		m.use.Store(u)
	}
	g.staged[m.path] = st
	c.mu.Unlock()
	s.saveOrWarn()
	if st.List != "" {
		c.compose(s.id.Archive)
	}
	return nil
}

// followUp takes the member in again where the suite has flipped while it was
// read: the new generation was staged without it.
func (c *Catalog) followUp(s *suite, g *generation, path string, ours bool) {
	c.mu.Lock()
	now := s.current
	var m *member
	if now != nil && now.Root != g.Root {
		if _, staged := now.staged[path]; !staged {
			m = now.members[path]
		}
	}
	c.mu.Unlock()
	if m != nil && m.provable() && m.use.Load() == nil {
		c.takeIn(s, now, m, ours)
	}
}

// settle waits until everything that is under way for an archive, and may name
// more files, has ended: first checks of suites, ingests of indices, and the
// reading back of superseded generations after a start.
func (c *Catalog) settle(ctx context.Context, archive string) error {
	for {
		wait := c.pending(archive)
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pending returns a channel that closes when one of the things settle waits for
// has ended; nil when there is nothing to wait for.
func (c *Catalog) pending(archive string) <-chan struct{} {
	c.mu.Lock()
	var first []*suite
	for id, s := range c.suites {
		switch {
		case id.Archive != archive:
		case s.isLoading():
			c.mu.Unlock()
			return s.loading
		case s.current == nil:
			first = append(first, s)
		}
	}
	for loc, in := range c.ingests {
		if loc.Archive == archive && aptmeta.IndexKindOf(loc.Path) != aptmeta.NotAnIndex {
			c.mu.Unlock()
			return in.done
		}
	}
	c.mu.Unlock()
	for _, s := range first {
		s.mu.Lock()
		running := s.running
		s.mu.Unlock()
		if running != nil {
			return running.done
		}
	}
	return nil
}

// thing is what could not be had: a location, and for a member of a Release what it
// must be. The next generation lists another one under the same name, of which the
// failure says nothing.
type thing struct {
	loc proto.Location
	ref proto.Ref
}

func (s *suite) thing(m *member) thing { return thing{s.id.At(m.path), m.ref} }

// rootThing is the thing that a suite is found by.
func rootThing(id proto.Suite) thing { return thing{loc: id.At("InRelease")} }

// failure is that something could not be had.
type failure struct {
	until  time.Time // leave it alone so long
	absent bool      // upstream says that it has no such thing
}

// How long what could not be had is left alone by those who search; a client that
// asks for the thing itself is only kept from looking for what upstream does not
// have. maxFailures bounds the memory for it.
const (
	absentFor   = time.Minute
	troubledFor = 10 * time.Second
	maxFailures = 4096
)

// failedLately reports whether a thing has been tried in vain.
func (c *Catalog) failedLately(t thing) bool {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.failed[t]
	return ok && now.Before(f.until)
}

// absent reports whether upstream has lately said that it has no such thing.
func (c *Catalog) absent(t thing) bool {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.failed[t]
	return ok && f.absent && now.Before(f.until)
}

func (c *Catalog) noteFailed(t thing, err error) {
	now := c.cfg.Now()
	f := failure{until: now.Add(troubledFor)}
	if errors.Is(err, proto.ErrNotFound) {
		f = failure{until: now.Add(absentFor), absent: true}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) >= maxFailures {
		maps.DeleteFunc(c.failed, func(_ thing, old failure) bool { return !now.Before(old.until) })
	}
	if len(c.failed) >= maxFailures {
		clear(c.failed)
	}
	c.failed[t] = f
}
