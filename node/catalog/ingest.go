package catalog

import (
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// ingest is a member on its way into the catalog: because a client has asked for it for the first
// time (then it is staged with every later generation), or because a search wants to know what it
// lists (then it is not).
type ingest struct {
	ours bool // a client of this node wants it; owned by the driver's goroutine
	done chan struct{}
	err  error // valid after done
}

// failedKey is a member that could not be fetched. The digest is part of it: a failure says nothing
// about the next generation, which lists other content under the same name.
type failedKey struct {
	path string
	ref  proto.Ref
}

// trouble is why a member could not be read.
type trouble struct {
	absent bool  // upstream does not have it
	local  error // this node is at fault; nil where it is not
}

// localTrouble returns err if this node is the cause, for example a full or failing disk. It says
// nothing of the file, and must not make a listed file an unlisted one.
func localTrouble(err error) error {
	if errors.Is(err, proto.ErrNoSpace) || errors.As(err, new(*fs.PathError)) {
		return err
	}
	return nil
}

// For how long a search does not try again to fetch a member that failed. A client that asks for the
// member itself waits only if upstream does not have it.
const (
	absentFor   = time.Minute
	troubledFor = 10 * time.Second
)

// used notes that a client of this node asks for a slot. The first time, the member is taken in
// beside the client's own download, over the same flight. staged says that the current generation
// has it.
func (d *driver) used(slot string, staged bool) {
	if d.demand.touch(slot, d.c.mono()) && staged {
		return
	}
	d.mail.post(func() {
		if d.current == nil {
			return
		}
		if m := slotOf(d.current, slot); m != nil && m.Provable() && !d.hopeless(m) {
			d.takeIn(m, true)
		}
	})
}

// hopeless reports whether upstream does not have a member, or this node could not take it in a
// moment ago: a client's own download is no reason to try again.
func (d *driver) hopeless(m *proto.Member) bool {
	t, ok := d.failed.Get(failedKey{m.Path, m.Ref}, time.Now())
	return ok && (t.absent || t.local != nil)
}

// slotOf is the member of a slot that can be proven; nil for none.
func slotOf(g *view.Generation, slot string) *proto.Member {
	if found := g.BySlot(slot); len(found) > 0 {
		return found[0]
	}
	return nil
}

// noteFailure remembers that a member could not be fetched. Safe for concurrent use.
func (d *driver) noteFailure(m *proto.Member, err error) {
	t, lasts := trouble{errors.Is(err, proto.ErrNotFound), localTrouble(err)}, troubledFor
	if t.absent {
		lasts = absentFor
	}
	d.failed.Set(failedKey{m.Path, m.Ref}, t, time.Now(), time.Now().Add(lasts))
}

// failedLately reports whether a member could not be fetched a moment ago. Safe for concurrent use.
func (d *driver) failedLately(m *proto.Member) bool {
	_, failed := d.failed.Get(failedKey{m.Path, m.Ref}, time.Now())
	return failed
}

// takeIn starts the ingest of a member of the current generation, or returns the one under way. It
// runs on the driver's goroutine.
func (d *driver) takeIn(m *proto.Member, ours bool) *ingest {
	if in, ok := d.ingests[m.Slot]; ok {
		in.ours = in.ours || ours
		return in
	}
	in := &ingest{ours: ours, done: make(chan struct{})}
	if s, ok := d.current.Staged(m.Path); ok && (s.Table != "" || !m.Lists() || d.isUnreadable(m)) {
		d.noteUse(m.Slot, ours, nil)
		close(in.done)
		return in
	}
	g := d.current
	release := d.c.claim(d.id.Archive, tablesOf([]*proto.Member{m}))
	started := d.c.spawn(func() {
		st, err := d.reader().read(d.ctx, g.Generation, m, nil)
		if !d.mail.post(func() { d.tookIn(in, g, m, st, err); release() }) {
			in.err = errClosed
			release()
			close(in.done)
		}
	})
	if !started {
		in.err = errClosed
		release()
		close(in.done)
		return in
	}
	d.ingests[m.Slot] = in
	return in
}

// noteUse notes that this node's clients use a member, and whether it could be fetched. Staging the
// next generation must not wait for a member that upstream lists but does not have. It must wait for
// one that only fails now.
func (d *driver) noteUse(slot string, ours bool, err error) {
	if !ours || errors.Is(err, proto.ErrNotFound) {
		return
	}
	if d.demand.add(slot, d.c.mono(), err == nil) {
		d.step(suite.DemandGrew{})
	}
}

// tookIn books the outcome of an ingest.
func (d *driver) tookIn(in *ingest, g *view.Generation, m *proto.Member, st view.Staged, err error) {
	delete(d.ingests, m.Slot)
	in.err = err
	defer close(in.done)
	key := failedKey{m.Path, m.Ref}
	if err != nil {
		if d.ctx.Err() == nil {
			d.sayFailure(key, err)
			d.noteFailure(m, err)
		}
		d.noteUse(m.Slot, in.ours, err)
		return
	}
	d.noteUse(m.Slot, in.ours, nil)
	delete(d.untaken, m.Path)
	d.readOne()
	if d.current == nil {
		return
	}
	now := slotOf(d.current, m.Slot)
	switch {
	case now == nil:
	case now.Path == m.Path && now.Ref == m.Ref && now.SHA512 == m.SHA512:
		d.current = d.current.WithStaged(m.Path, st)
		d.saveOrWarn()
		d.show()
	case in.ours && now.Provable():
		d.takeIn(now, true) // the suite has switched meanwhile; the new generation was staged without it
	}
}

// sayFailure logs that a member could not be read: once, and as a warning if this node is the cause.
func (d *driver) sayFailure(key failedKey, err error) {
	level, text := slog.LevelInfo, "a listed file could not be taken in; what it lists is not verified"
	_, said := d.failed.Get(key, time.Now())
	if local := localTrouble(err); local != nil {
		level, text = slog.LevelWarn, "this node could not take in an index; requests for what it lists get 503"
		_, said = d.untaken[key.path]
		d.untaken[key.path] = local
		d.c.metrics.untaken.Inc()
		d.publish()
	}
	if said {
		level = slog.LevelDebug
	}
	d.log.Log(d.ctx, level, text, "path", key.path, "error", err)
}

// catchUp reads the members that clients asked for while the current generation was being staged.
func (d *driver) catchUp() {
	if d.current == nil { // forgotten meanwhile
		return
	}
	for _, slot := range d.demand.locals() {
		m := slotOf(d.current, slot)
		if m == nil || !m.Provable() || d.failedLately(m) {
			continue
		}
		if _, ok := d.current.Staged(m.Path); !ok {
			d.takeIn(m, true)
		}
	}
}

// takeInRemote reads, one by one, the members of the current generation that clients of other nodes
// use and that were not staged with it.
func (d *driver) takeInRemote() {
	if d.current == nil { // forgotten meanwhile
		return
	}
	root := d.current.Root
	var next func()
	slots := d.demand.remotes()
	next = func() {
		for len(slots) > 0 && d.current != nil && d.current.Root == root {
			slot := slots[0]
			slots = slots[1:]
			m := slotOf(d.current, slot)
			if m == nil || !m.Provable() {
				continue
			}
			if _, ok := d.current.Staged(m.Path); ok {
				continue
			}
			in := d.takeIn(m, false)
			d.c.spawn(func() {
				select {
				case d.c.fetching <- struct{}{}:
					defer func() { <-d.c.fetching }()
				case <-d.ctx.Done():
					return
				}
				select {
				case <-in.done:
					d.mail.post(next)
				case <-d.ctx.Done():
				}
			})
			return
		}
	}
	next()
}
