package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// Resolve says what a location means, from memory and without waiting. It reports false where it
// takes more than that to answer: ask Discover then. What it writes is the demand of the suite, and
// nothing else. Safe for concurrent use.
func (c *Catalog) Resolve(loc proto.Location) (e proto.Resolution, ok bool) {
	a := c.viewOf(loc.Archive)
	if a == nil {
		return proto.Resolution{}, false
	}
	info := a.format.PathInfo(loc.Path)
	ok = c.resolve(&e, a, loc, &info, true)
	return e, ok
}

// Explain is Resolve for an operator: it records nothing, and it answers for a root whose freshness
// a request would first check.
func (c *Catalog) Explain(loc proto.Location) (e proto.Resolution, ok bool) {
	a := c.viewOf(loc.Archive)
	if a == nil {
		return proto.Resolution{}, false
	}
	info := a.format.PathInfo(loc.Path)
	ok = c.resolve(&e, a, loc, &info, false)
	return e, ok
}

// resolve answers from one view of an archive, into e, because a Resolution is too large to be
// handed up a stack that every idle connection keeps. asked says that a client wants to know: then
// the use is noted, and a root must be fresh.
func (c *Catalog) resolve(e *proto.Resolution, a *archiveView, loc proto.Location, info *proto.PathInfo, asked bool) bool {
	found, ok := a.Resolve(e, loc, info)
	switch {
	case found.Root != "":
		return c.resolveRoot(e, a, found, ok, asked)
	case !ok:
		return false
	case asked && found.Member != nil && found.Current:
		_, staged := found.Generation.Staged(found.Member.Path)
		a.drivers[found.Suite].used(found.Member.Slot, staged)
	}
	if a.settled {
		e.Mutable = false
	}
	switch {
	case found.Generation != nil:
		e.Object.Base = found.Generation.Base
	case info.Index: // patches: an index lists them, and they lie beside it
		e.Object.Base = a.baseAround(loc.Path)
	}
	return true
}

// baseAround is the other site that the root of the deepest suite around a path came from; "" for
// none.
func (a *archiveView) baseAround(path string) string {
	for s := range a.Enclosing(path) {
		if s.Current != nil {
			return s.Current.Base
		}
	}
	return ""
}

// resolveRoot finishes the entry of a root file, if the current generation is fresh enough to be
// given out without asking upstream.
func (c *Catalog) resolveRoot(e *proto.Resolution, a *archiveView, found view.Demand, has, asked bool) bool {
	d, now, wall := a.drivers[found.Suite], c.mono(), c.cfg.Now()
	p := d.public.Load()
	b := p.belief
	if asked {
		d.asked()
		if found.Root != found.Generation.RootName {
			d.usedCompanion(found.Root)
		}
		if !b.MayServe(now) || b.Withheld(now, wall) != nil {
			return false
		}
		if found.Generation != p.current {
			return false // the view is of a moment before a switch, and what is believed of one after it
		}
	}
	if !has {
		return false
	}
	finishRoot(e, found.Generation, found.Root, b, now, wall)
	return true
}

// finishRoot gives the entry of a root file its validator and says whether it may be old.
func finishRoot(e *proto.Resolution, g *view.Generation, name string, b *suite.Belief, now suite.Mono, wall time.Time) {
	e.Modified = rootModified(e.Modified, &g.Generation, wall)
	e.Stale = b.Stale(now, wall)
	e.Mutable = e.Mutable && !b.Settled()
	if c, ok := g.Companion(name); ok && c.Stray {
		e.Stale = "upstream keeps this file beside a root that says something else, and goes on with that"
	}
}

// rootModified is the Last-Modified of a root file, by which clients ask for a newer one. It is
// upstream's unless that cannot be true: some servers give one date for every version, or a date in
// the future. Clients would then never see a change. The signed date replaces it: it is the same on
// all nodes, and changes with each publication and each new signature.
func rootModified(upstreams time.Time, g *proto.Generation, wall time.Time) time.Time {
	if !upstreams.Before(g.Date) && !upstreams.After(wall) {
		return upstreams
	}
	if g.Signed.After(g.Date) {
		return g.Signed
	}
	return g.Date
}

// usedCompanion notes that a client asks for a root file other than the root itself.
func (d *driver) usedCompanion(name string) {
	now := d.c.mono()
	if !d.demand.touch(name, now) && d.demand.add(name, now, true) {
		d.mail.post(func() { d.step(suite.DemandGrew{}) })
	}
}

// Discover says what a location means if Resolve cannot. It may read a suite's root for the first
// time, wait for an index that is being read, or look for an index that lists the file. With fresh
// it first asks upstream about a root, unconditionally, but at most once a second for each suite. A
// location that no signed metadata names is an unlisted entry, without an error.
//
// Errors: proto.ErrNotFound if upstream does not have the root, and so proto.ErrOtherForm; *proto.Rejected if clients would
// refuse the root, or the root of the suite that an index lies in; *proto.Unavailable if the root
// cannot be read now; an error that wraps proto.ErrNoSpace, or an *fs.PathError, if this node's own
// disk prevents the answer; or the error of ctx. Safe for concurrent use.
func (c *Catalog) Discover(ctx context.Context, loc proto.Location, fresh bool) (proto.Resolution, error) {
	conf := c.archive(loc.Archive)
	if conf == nil {
		return proto.Resolution{}, errUnknownArchive
	}
	id, name, root := conf.Format.RootOf(loc.Path)
	if !fresh || !root {
		// What Resolve missed may have become known since.
		if e, ok := c.Resolve(loc); ok {
			return e, nil
		}
	}
	if root {
		id.Archive = loc.Archive
		e, err := c.discoverRoot(ctx, id, loc, name, fresh)
		info := conf.Format.PathInfo(loc.Path)
		if err != nil && ctx.Err() == nil && !conf.Offline && !(info.Probed && errors.Is(err, proto.ErrNotFound)) {
			c.rememberFailure(id, err)
		}
		return e, err
	}
	info := conf.Format.PathInfo(loc.Path)
	if info.Proof == proto.ProofSure { // its name proves it: little to wait for
		c.findSuiteBehind(conf, loc)
		c.waitLoaded(ctx, loc.Archive)
		if e, ok := c.Resolve(loc); ok {
			return e, nil
		}
		return c.unlisted(loc, &info), nil
	}
	longest := c.cfg.FindWait
	if info.FirstByte > 0 {
		longest = min(longest, info.FirstByte/2) // the rest is for the mirror that has the file
	}
	wait, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	e, ok, local := c.find(wait, conf, loc, &info)
	if ok {
		return e, nil
	}
	if err := ctx.Err(); err != nil {
		return proto.Resolution{}, context.Cause(ctx)
	}
	if err := c.verdictOn(conf, loc, &info); err != nil {
		return proto.Resolution{}, err
	}
	e = c.unlisted(loc, &info)
	c.recall(ctx, &e, &info)
	if local != nil && !e.Object.Provable() {
		return proto.Resolution{}, fmt.Errorf("whether signed metadata lists it cannot be told: %w", local)
	}
	c.metrics.unlisted.Inc()
	return e, nil
}

// Objection is the error that Discover has for a location from memory: what is known to be wrong
// with its suite, so that a request ends with it, unless asking upstream again helps. nil: nothing
// is known to be wrong. Safe for concurrent use.
func (c *Catalog) Objection(loc proto.Location) error {
	conf := c.archive(loc.Archive)
	if conf == nil {
		return nil // an archive of a class that nobody has asked for yet
	}
	id, name, root := conf.Format.RootOf(loc.Path)
	if !root {
		info := conf.Format.PathInfo(loc.Path)
		if err := c.verdictOn(conf, loc, &info); err != nil || !info.Index {
			return err
		}
		return c.rejectedBefore(conf, loc.Path)
	}
	id.Archive = loc.Archive
	d, ok := c.known(id)
	if !ok {
		return c.failureBefore(id)
	}
	p := d.public.Load()
	switch {
	case p.current != nil:
		err := p.belief.Withheld(c.mono(), c.cfg.Now())
		if err == nil && d.awaits(name) {
			err = d.notKnown(name)
		}
		return err
	case p.belief.Failure == nil && !conf.Offline:
		return c.failureBefore(id) // it has not been read yet
	}
	return p.belief.Why()
}

// verdictOn returns the verdict on the root of the suite that an index lies in; nil if there is
// none. An index of a suite whose root is refused must not be served as an unlisted file. A client
// may be allowed to accept a missing root; then it would accept the index without any checksum.
// Directly from the archive, it gets the root with the checksums.
func (c *Catalog) verdictOn(conf *Archive, loc proto.Location, info *proto.PathInfo) error {
	if !info.Index {
		return nil
	}
	for _, id := range conf.Format.Suites(loc.Path) {
		id.Archive = conf.Name
		d, ok := c.known(id)
		if !ok {
			continue
		}
		p := d.public.Load()
		if p.current != nil {
			return nil
		}
		if err := p.belief.Why(); errors.As(err, new(*proto.Rejected)) {
			return err
		}
	}
	return nil
}

// unlisted is the entry of a file that no generation names. A name that is a checksum proves its
// content by itself. The fetcher ensures that objects of a restricted archive are not served through
// another archive.
func (c *Catalog) unlisted(loc proto.Location, info *proto.PathInfo) proto.Resolution {
	e := proto.Resolution{Object: proto.ObjectRequest{Where: proto.At(loc), Class: info.Class}, Mutable: true}
	e.Object.Ref.Size = proto.UnknownSize
	if info.Proof != proto.ProofSure {
		return e
	}
	switch info.Hash.Kind {
	case proto.HashSHA256:
		e.Object.Ref.Digest = proto.Digest(info.Hash.Sum[:32])
	case proto.HashSHA512:
		e.Object.SHA512 = proto.SHA512(info.Hash.Sum[:])
	}
	if e.Object.Provable() {
		e.Listed, e.Mutable = true, false
	}
	return e
}

// discoverRoot answers for a root file. It answers from the view, like every request: what a check
// has brought is in it when the check ends.
func (c *Catalog) discoverRoot(ctx context.Context, id proto.Suite, loc proto.Location, name string, fresh bool) (proto.Resolution, error) {
	d, err := c.driver(id)
	if err != nil {
		return proto.Resolution{}, err
	}
	e, err := d.discoverRoot(ctx, loc, name, fresh)
	if errors.Is(err, errGone) { // forgotten at this very moment
		if d, err = c.driver(id); err == nil {
			e, err = d.discoverRoot(ctx, loc, name, fresh)
		}
	}
	return e, err
}

func (d *driver) discoverRoot(ctx context.Context, loc proto.Location, name string, fresh bool) (proto.Resolution, error) {
	c, id := d.c, d.id
	d.asked()
	p := d.public.Load()
	current := p.current != nil
	if !current || !d.archive.Load().Offline && (fresh || d.hopes(p, name) || !p.belief.MayServe(c.mono())) {
		switch err := d.checkFor(ctx, current, fresh); {
		case err == errGone && c.ctx.Err() == nil:
			return proto.Resolution{}, err
		case err != nil && ctx.Err() != nil:
			return proto.Resolution{}, context.Cause(ctx)
		}
	}
	if p = d.public.Load(); p.current == nil {
		return proto.Resolution{}, p.belief.Why()
	}
	if err := p.belief.Withheld(c.mono(), c.cfg.Now()); err != nil {
		return proto.Resolution{}, err
	}
	if e, ok := d.rootEntry(loc, name); ok {
		return e, nil
	}
	d.sync(ctx) // a switch is under way
	if e, ok := d.rootEntry(loc, name); ok {
		return e, nil
	}
	if d.awaits(name) {
		return proto.Resolution{}, d.notKnown(name)
	}
	if d.inPreferredForm(name) && !d.preferred(p.current.Generation) {
		return proto.Resolution{}, proto.ErrOtherForm // the archive signs in the other form only
	}
	d.usedCompanion(name)
	if err := d.fetchCompanions(ctx, false); errors.Is(err, proto.ErrNotFound) {
		return proto.Resolution{}, fmt.Errorf("%w: %w", proto.ErrOtherForm, err)
	} else if err != nil {
		return proto.Resolution{}, err
	}
	if e, ok := d.rootEntry(loc, name); ok {
		return e, nil
	}
	if now := d.public.Load().current; now != nil && d.hasCompanions(now) {
		return proto.Resolution{}, proto.ErrOtherForm // upstream has the form without this file
	}
	return proto.Resolution{}, &proto.Unavailable{Reason: id.String() + " has changed at this moment", RetryAfter: time.Second}
}

// checkFor has upstream asked because a client wants the root: without bound where there is nothing
// to serve, briefly where there is.
func (d *driver) checkFor(ctx context.Context, current, fresh bool) error {
	if current {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.c.cfg.CheckWait)
		defer cancel()
	}
	return d.request(ctx, suite.Request{Fresh: fresh, Unconditional: fresh})
}

// hopes reports whether a root file that the current generation does not have may have come since.
func (d *driver) hopes(p *public, name string) bool {
	mayCome := d.awaits(name) || d.inPreferredForm(name) && !d.preferred(p.current.Generation)
	return mayCome && d.c.mono().Sub(p.lastTry) >= suite.HopeForForm
}

func (d *driver) inPreferredForm(name string) bool {
	return slices.ContainsFunc(d.forms()[0].Files, func(f proto.RootFile) bool { return f.Name == name })
}

// rootEntry is the entry of a root file of the current generation.
func (d *driver) rootEntry(loc proto.Location, name string) (e proto.Resolution, ok bool) {
	a := d.c.viewOf(loc.Archive)
	if a == nil || a.driverOf(d.id) != d {
		return e, false
	}
	if s := a.Suite(d.id); s == nil || s.Current != d.public.Load().current {
		return e, false // the view is swapped a moment after a generation is published to others
	}
	info := a.format.PathInfo(loc.Path)
	ok = d.c.resolve(&e, a, loc, &info, false)
	return e, ok
}

// Refresh asks upstream about a suite at once and unconditionally, but at most once a second, and
// waits for the outcome. It sees at least the root that upstream had at the time of the call. older
// accepts an older root, or a root with other names; only an operator may ask for that. changed
// reports whether another root is served now.
func (c *Catalog) Refresh(ctx context.Context, id proto.Suite, older bool) (changed bool, err error) {
	return c.refresh(ctx, id, suite.Request{Fresh: true, Since: true, Older: older, Unconditional: true})
}

// Check is Refresh with a conditional request, which costs upstream nothing where there is nothing new.
func (c *Catalog) Check(ctx context.Context, id proto.Suite) (changed bool, err error) {
	return c.refresh(ctx, id, suite.Request{Fresh: true, Since: true})
}

func (c *Catalog) refresh(ctx context.Context, id proto.Suite, how suite.Request) (changed bool, err error) {
	d, err := c.driver(id)
	if err != nil {
		return false, err
	}
	d.asked()
	before := d.public.Load().current
	err = d.request(ctx, how)
	after := d.public.Load()
	if after.current == nil {
		if err == nil {
			err = after.belief.Why()
		}
		return false, err
	}
	return before == nil || before.Root != after.current.Root, err
}

// Drop forgets a suite as if this node had never known it: its generations, the names in its root,
// and how new the root was. A suite that the configuration names is read anew at once. Safe for
// concurrent use.
func (c *Catalog) Drop(id proto.Suite) error {
	remembered := c.failureBefore(id) != nil
	c.failing.Delete(id)
	d, ok := c.known(id)
	switch {
	case !ok && remembered:
		return nil
	case !ok:
		return errUnknownSuite
	}
	lost := make(chan error, 1)
	posted := d.mail.post(func() {
		if d.forgotten || d.ctx.Err() != nil {
			lost <- errGone
			return
		}
		lost <- d.lose(suite.Record{})
	})
	if !posted {
		return errGone
	}
	if err := <-lost; err != nil {
		return err
	}
	<-d.ended
	if d.configured() {
		_, err := c.driver(id)
		return err
	}
	return nil
}

// errUnknownSuite is the answer to an operator who names a suite that no client has asked for.
var errUnknownSuite = errors.New("no such suite is known here (aptmesh status lists those that are)")
