package peerfetch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// maxAtOnce is how many mirrors in a row may break off without having brought
// anything before there is a pause: then it is probably this node that is cut off.
const maxAtOnce = 4

// rejected is how long clients are told to wait where the only mirror that can be
// reached is one that gave the object wrong a moment ago.
const rejected = time.Second

// request is what upstream is asked for: the rest of the object, from any mirror
// where a digest will decide, and from none but the one that gave the beginning where
// none will. Two mirrors' validators have nothing to do with each other.
func (fl *flight) request(loc proto.Location) proto.Request {
	req := proto.Request{Loc: loc, Class: fl.want.Class, Urgent: fl.urgent, Offset: fl.body.written, IfRange: fl.ifRange}
	switch {
	case fl.sizeSigned():
		req.Size = fl.want.Ref.Size
	case fl.want.Provable():
	case fl.body.written > 0:
		req.Mirror = fl.validity.From
	case !fl.known.ref.IsZero():
		// A date is the archive's own and means the same at every mirror.
		req.IfModifiedSince = fl.known.modified
		if fl.known.modified.IsZero() || len(fl.f.cfg.Upstream.Mirrors(loc.Archive)) < 2 {
			req.IfNoneMatch, req.Mirror = fl.known.etag, fl.known.from
		}
	}
	return req
}

// ask asks upstream. What one mirror alone says is not final: that it no longer has
// what it gave half of, or nothing to say of the version we hold.
func (fl *flight) askUpstream(loc proto.Location) (*proto.Transfer, error) {
	req := fl.request(loc)
	t, err := fl.f.cfg.Upstream.Fetch(fl.ctx, req)
	switch {
	case err == nil || req.Mirror == "" || fl.ctx.Err() != nil:
		return t, err
	case fl.body.written == 0:
		fl.known = learned{}
		return fl.askUpstream(loc)
	case errors.Is(err, proto.ErrNotFound):
		return nil, &proto.Unavailable{Reason: fmt.Sprintf("%s no longer has %s, of which it gave %d bytes", req.Mirror, loc, fl.body.written)}
	}
	return nil, err
}

// meet notes which mirror answered, and turns it down if it gave this flight the
// object wrong before: upstream knows, and has nobody else at this moment.
func (fl *flight) meet(from origin) error {
	fl.lastMirror = from.mirror
	fl.setMirror(from.mirror)
	if fl.liars[from] {
		return &proto.Unavailable{
			Reason:   fmt.Sprintf("only %s can be reached, and it gave wrong content for %s", from.mirror, from.loc),
			Answered: true, RetryAfter: rejected,
		}
	}
	return nil
}

// blame deals with wrong content that upstream gave: one mirror lied, or one of
// several did and nobody can say which. It returns err.
func (fl *flight) blame(err error, from ...origin) error {
	if !fl.want.Provable() {
		return err // another version is no lie
	}
	var names []string
	var places []proto.Location
	for _, o := range from {
		if o.mirror != "" && !slices.Contains(names, o.mirror) {
			names = append(names, o.mirror)
		}
		if !slices.Contains(places, o.loc) {
			places = append(places, o.loc)
		}
	}
	if len(names) == 0 {
		return err
	}
	fl.blamed = names
	what := "a mirror gave wrong content"
	if len(names) == 1 {
		fl.f.metrics.mirrorLies.Inc()
		for _, loc := range places {
			fl.liars[origin{mirror: names[0], loc: loc}] = true
		}
	} else {
		what = "one of several mirrors gave wrong content"
		fl.f.metrics.unattributed.Inc()
	}
	fl.f.cfg.Logger.Warn(what, "mirrors", strings.Join(names, " "), "location", places[0].String(), "error", err)
	for _, loc := range places {
		fl.f.cfg.Upstream.Blame(loc, names, err)
	}
	return err
}

// otherMirror reports whether another mirror may give what the last one gave wrong:
// from the first byte where nobody has had any, or from the byte where the last one
// would have gone on.
func (fl *flight) otherMirror(loc proto.Location, err error) bool {
	if len(fl.blamed) == 0 || !errors.Is(err, proto.ErrCorrupt) {
		return false
	}
	clear(fl.tired) // better one that breaks off than one that lies
	if !fl.mirrorLeft(loc) || fl.f.budget.allow(attempt{fl.key, loc}, time.Now()) != nil || fl.tainted && !fl.startOver() {
		return false
	}
	fl.f.metrics.switched.Inc()
	return true
}

// turnToMirror reports whether the transfer that broke can go on from another mirror
// at once.
func (fl *flight) turnToMirror(loc proto.Location) bool {
	broke := origin{mirror: fl.lastMirror, loc: loc}
	if broke.mirror == "" || fl.tired[broke] || len(fl.tired) >= maxAtOnce {
		return false
	}
	fl.tired[broke] = true
	if !fl.mirrorLeft(loc) {
		return false
	}
	fl.f.metrics.switched.Inc()
	return true
}

// mirrorLeft reports whether there is a mirror that neither lied to this flight nor
// broke off since the last pause.
func (fl *flight) mirrorLeft(loc proto.Location) bool {
	return slices.ContainsFunc(fl.f.cfg.Upstream.Mirrors(loc.Archive), func(mirror string) bool {
		o := origin{mirror: mirror, loc: loc}
		return !fl.liars[o] && !fl.tired[o]
	})
}

// setMirror notes for whoever looks which mirror feeds the flight.
func (fl *flight) setMirror(mirror string) {
	fl.mu.Lock()
	fl.mirror = mirror
	fl.mu.Unlock()
}
