package peerfetch

import (
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// maxTargets is how many names of its object one flight serves. A reader with one more
	// starts a flight of its own.
	maxTargets = 16
	// maxBarren is how many transfers in a row may bring next to nothing before a target is given
	// up, not counting transfers after which another mirror was available. progress is how many
	// bytes reset the count.
	maxBarren = 3
	progress  = 16 << 10
	// maxAtOnce is how many mirrors in a row may break off without a byte before there is a pause:
	// then this node is probably cut off.
	maxAtOnce = 4
)

// target is one name of the object upstream, as a source of this flight: an archive and a path, at
// any mirror of the archive. What happens at one target says nothing about other targets.
type target struct {
	loc       proto.Location
	base      string          // another site to be asked first, for this target
	asked     bool            // by this node, or by a node that got the name from it
	barren    int             // transfers without progress
	left      int             // how often the flight switched to another target, because this one was slow
	exhausted map[string]bool // mirrors that broke off since the last pause
	ready     time.Time       // not to be asked before
	err       error           // why it is closed; nil while it is open
}

func (p *target) open() bool { return p.err == nil }

// situation is what the future of a target depends on, besides its own attempts.
type situation struct {
	now       time.Time
	written   int64    // bytes that are here
	fresh     bool     // no reader has received any of them
	tainted   bool     // they cannot be right
	decided   bool     // a digest says what the rest must be, whichever source gives it
	validator bool     // else: whether the mirror that gave the beginning can be asked for the rest
	allowed   bool     // the budget of the target has room
	mirrors   []string // that may be asked and gave this flight no wrong content
	answered  string   // the mirror that answered; "" for none
}

// resumable reports whether another transfer may go on where the last one stopped. It may not if
// another version would go unnoticed.
func (s situation) resumable() bool { return s.written == 0 || s.decided }

// move is the next step after an attempt at a target.
type move struct {
	startOver bool // discard what has arrived first
	switched  bool // ask the target again at once, at another mirror
}

// record notes how an attempt at p ended: p stays open, perhaps after a pause, or is closed with
// the error for its readers.
func (p *target) record(o outcome, s situation) move {
	switch o.verdict {
	case otherContent: // the flight has begun again with the content of this target
		return move{}
	case slow:
		p.left++
		return move{}
	case corrupt:
		return p.gaveWrong(o, s)
	case unreachable, unavailable, failed:
		if !isLoop(o.err) {
			return p.broke(o, s)
		}
	}
	return p.close(o.err, s)
}

// close ends the target. The next one goes on with the bytes that are here, where a digest decides;
// else they are of no use to it.
func (p *target) close(err error, s situation) move {
	p.err = err
	return move{startOver: s.fresh && (s.tainted || !s.resumable())}
}

// gaveWrong decides after wrong content. Another mirror of the target may give the right bytes: from
// the first byte if no reader got any, else from the byte where the last mirror stopped.
func (p *target) gaveWrong(o outcome, s situation) move {
	if len(o.culprits) == 0 {
		return p.close(o.err, s)
	}
	clear(p.exhausted) // a mirror that breaks off is better than a corrupt one
	left := len(s.mirrors) > 0
	switch {
	case left && s.allowed && (!s.tainted || s.fresh):
		return move{startOver: s.tainted, switched: true}
	case left:
		// Wrong content at every mirror is final for a client. Here a mirror is left, so the error
		// is not final, although readers got some of the bytes.
		return p.close(&proto.Unavailable{Reason: "the next request asks another mirror", Answered: true, Wrong: true, Err: o.err}, s)
	}
	return p.close(o.err, s)
}

// broke decides after a broken transfer whether to go on at this target: at once after one that
// brought something or where another mirror is at hand, after a pause where nothing is.
func (p *target) broke(o outcome, s situation) move {
	wish := retryAfter(o.err)
	bound := !s.resumable() && s.validator // to the mirror that gave the beginning
	again := !s.resumable() && !bound
	if again && (p.barren >= maxBarren || !s.fresh) {
		return p.close(o.err, s)
	}
	if !bound && wish == 0 && p.switchMirror(s.answered, s.mirrors) {
		p.barren = max(p.barren-1, 0)
		return move{startOver: again, switched: true}
	}
	if p.barren >= maxBarren {
		return p.close(o.err, s)
	}
	clear(p.exhausted)
	wait := time.Duration(0)
	if p.barren > 0 {
		wait = 250 * time.Millisecond << p.barren
	}
	if wish > 0 {
		// Before the first byte the client can wait as well as we can, and keeps its own place
		// in the queue; later only we can.
		if s.written == 0 || again {
			return p.close(o.err, s)
		}
		wait = min(wish, 5*time.Second)
	}
	p.ready = s.now.Add(wait)
	return move{startOver: again}
}

// switchMirror reports whether another mirror can continue the broken transfer at once.
func (p *target) switchMirror(mirror string, mirrors []string) bool {
	if mirror == "" || p.exhausted[mirror] || len(p.exhausted) >= maxAtOnce {
		return false
	}
	p.exhausted[mirror] = true
	return slices.ContainsFunc(mirrors, func(m string) bool { return !p.exhausted[m] })
}

// targets are all names by which the readers of a flight know its object, in the order in which
// they are asked. They are guarded by flight.mu.
type targets struct {
	all []*target
}

// add adds the names of one more reader. A name that has been closed gets another chance, within its
// budget. It reports whether any name is new, and whether there is room for all of them.
func (ps *targets) add(object *proto.ObjectRequest) (added, ok bool) {
	var fresh []*target
	for loc := range object.Where.All() {
		switch p := ps.at(loc); {
		case p == nil:
			fresh = append(fresh, &target{loc: loc, base: baseFor(object), exhausted: make(map[string]bool)})
		case !p.open():
			p.reopen()
			added = true
		}
	}
	// The names of the first reader are served all, however many they are.
	if len(ps.all) > 0 && len(ps.all)+len(fresh) > maxTargets {
		return added, len(fresh) == 0
	}
	ps.all = append(ps.all, fresh...)
	return added || len(fresh) > 0, true
}

func (ps *targets) at(loc proto.Location) *target {
	for _, p := range ps.all {
		if p.loc == loc {
			return p
		}
	}
	return nil
}

// next is the target to be asked next, and how long to wait before that; nil where all are closed.
// Those that were left because they were slow come after those that were not.
func (ps *targets) next(now time.Time) (next *target, wait time.Duration) {
	better := func(p *target) bool {
		pw, nw := max(p.ready.Sub(now), 0), max(next.ready.Sub(now), 0)
		return pw < nw || pw == nw && p.left < next.left
	}
	for _, p := range ps.all {
		if p.open() && (next == nil || better(p)) {
			next = p
		}
	}
	if next == nil {
		return nil, 0
	}
	return next, max(next.ready.Sub(now), 0)
}

// alternative reports whether another archive than that of p may be asked instead.
func (ps *targets) alternative(p *target, now time.Time) bool {
	return slices.ContainsFunc(ps.all, func(other *target) bool {
		return other.open() && other.loc.Archive != p.loc.Archive && !other.ready.After(now)
	})
}

// untried reports whether there is a target that nobody has been asked for.
func (ps *targets) untried() bool {
	return slices.ContainsFunc(ps.all, func(p *target) bool { return !p.asked && p.open() })
}

// where names those that are open, or all where none is.
func (ps *targets) where() proto.Where {
	var open, all []proto.Location
	for _, p := range ps.all {
		all = append(all, p.loc)
		if p.open() {
			open = append(open, p.loc)
		}
	}
	if len(open) == 0 {
		open = all
	}
	return proto.WhereOf(open)
}

// reopen gives all targets another chance, for another round of sources.
func (ps *targets) reopen() {
	for _, p := range ps.all {
		asked := p.asked
		p.reopen()
		p.asked = asked
	}
}

func (p *target) reopen() {
	p.err, p.barren, p.asked = nil, 0, false
	clear(p.exhausted)
}

// someOpen reports whether one of them may still give the object.
func (ps *targets) someOpen() bool { return slices.ContainsFunc(ps.all, (*target).open) }

// closeAll closes all targets, because the bytes that p gave rule out any other end. It returns the
// archives of which some gave bytes that were wrong to readers of the others; none where there is
// one archive.
func (ps *targets) closeAll(p *target) (archives []string) {
	for _, other := range ps.all {
		if !other.open() {
			continue
		}
		other.err = p.err
		if other.loc.Archive != p.loc.Archive {
			other.err = &proto.Unavailable{Answered: true, Wrong: true, Reason: fmt.Sprintf(
				"what archive %s gave of it was wrong, and some had been passed on: the next request is served apart from that archive", p.loc.Archive)}
			archives = []string{p.loc.Archive}
		}
	}
	return archives
}

// errOf is the error of a reader that knows the object by the names of where; nil while one of the
// names may still give it.
func (ps *targets) errOf(where proto.Where) error {
	var said []error
	for loc := range where.All() {
		p := ps.at(loc)
		if p == nil || p.open() {
			return nil
		}
		said = append(said, p.err)
	}
	return worst(said)
}

// err is what all of them came to.
func (ps *targets) err() error {
	var said []error
	for _, p := range ps.all {
		said = append(said, p.err)
	}
	return worst(said)
}
