package upstream

import (
	"fmt"
	"maps"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// tripAt is the weight of failures in a row at which a breaker opens.
	tripAt = 3
	// wrongAt is the number of objects with wrong content, within wrongWithin, at which
	// the breaker of a mirror opens. A mirror that is being synchronised has wrong content
	// under a name or two, and is right for the rest.
	wrongAt     = 3
	wrongWithin = 2 * time.Minute
	// lacksAt is the number of objects in a row that a mirror lacks and others have, at
	// which its breaker opens.
	lacksAt = 10
	// probeEvery is how often a mirror with an open breaker is tried if there is no other
	// mirror to ask.
	probeEvery = time.Second
	// hearsayProbe is how often a mirror is tried that, as another node says, has asked for
	// a pause. If that is true, the mirror answers the first try so, and this node stops.
	hearsayProbe = 5 * time.Second
	// disbelieveFor is for how long nothing is believed of a node about a mirror that
	// answered while that node said that it must be left alone.
	disbelieveFor = 10 * time.Minute
	// calmAfter is how long a breaker must have been closed for its next cool-down to
	// be a short one again.
	calmAfter = 10 * time.Minute
)

// Cool-downs double from opening to opening, between these. Wrong content is looked
// at again less soon: a captive portal or a broken synchronisation takes its time,
// and each look may cost a client a whole wrong body.
const (
	coolDown           = time.Second
	maxCoolDown        = time.Minute
	contentCoolDown    = 30 * time.Second
	maxContentCoolDown = 10 * time.Minute
)

// The states of the circuit breaker of a mirror, as MirrorStats and the metrics name them.
const (
	BreakerClosed   = "closed"    // the mirror is asked
	BreakerOpen     = "open"      // it is left alone until MirrorStats.Until
	BreakerHalfOpen = "half_open" // the next request finds out whether it is well again
)

// breaker keeps requests from a mirror that fails. It is not safe for concurrent use. It
// reads no clock: the caller gives it the time.
type breaker struct {
	opened time.Time // zero: closed
	until  time.Time // half-open from then on
	kind   proto.AlertKind
	reason string
	remote bool   // from another node
	node   string // from which

	lastError string    // why the latest request failed, if none was answered well since
	lastFail  time.Time // when that was

	openings int       // since it was last calm
	closed   time.Time // when it last closed
	failures int       // weight of those since the last good end
	lacking  int       // objects in a row that it lacked and others have
	wrong    map[proto.Location]time.Time
	tried    time.Time            // when a request was last let through while open
	untrue   map[string]time.Time // until when nodes are not believed; of those that were wrong lately
}

func (b *breaker) state(now time.Time) string {
	switch {
	case b.opened.IsZero():
		return BreakerClosed
	case now.Before(b.until):
		return BreakerOpen
	}
	return BreakerHalfOpen
}

// mustWait reports whether the mirror, or a server before it, has asked for a pause that is
// not over. A pause that this node was asked for itself lasts to its end.
func (b *breaker) mustWait(now time.Time) bool {
	return b.kind == proto.AlertWait && b.state(now) == BreakerOpen
}

// pauseLeft is how long even a request must wait for which there is no other mirror: to
// the end of the pause that the mirror asked this node for. That another node says so
// is no proof, so then a request goes now and then.
func (b *breaker) pauseLeft(now time.Time) time.Duration {
	switch {
	case !b.mustWait(now):
		return 0
	case !b.remote:
		return b.until.Sub(now)
	}
	last := b.opened
	if b.tried.After(last) {
		last = b.tried
	}
	return max(min(b.until.Sub(now), last.Add(hearsayProbe).Sub(now)), 0)
}

// advice reports whether the breaker is open only because another node cannot reach
// the mirror: this one may have another way there.
func (b *breaker) advice() bool {
	return !b.opened.IsZero() && b.remote && b.kind == proto.AlertUnreachable
}

// admit decides on a request for which there is no other mirror. It goes if wait is
// 0; else there is another chance after wait, at most probeEvery. That is only asked
// where mustWait does not hold.
func (b *breaker) admit(now time.Time) (wait time.Duration) {
	if b.opened.IsZero() || b.advice() {
		return 0
	}
	if wait = b.tried.Add(probeEvery).Sub(now); wait > 0 {
		return wait
	}
	b.tried = now
	return 0
}

// failed counts a failure, and reports whether that opened the breaker.
func (b *breaker) failed(kind proto.AlertKind, weight int, reason string, now time.Time) bool {
	b.failures += weight
	b.lastError, b.lastFail = reason, now
	switch state := b.state(now); {
	case state == BreakerOpen && !b.remote:
		return false
	case state != BreakerHalfOpen && b.failures < tripAt:
		return false
	}
	b.trip(kind, reason, coolDown, maxCoolDown, now)
	return true
}

// asked opens the breaker for as long as the mirror asked us to wait.
func (b *breaker) asked(wait time.Duration, reason string, now time.Time) bool {
	if b.kind == proto.AlertWait && b.until.After(now.Add(wait)) {
		return false
	}
	b.open(proto.AlertWait, reason, now, now.Add(min(wait, maxRetryAfter)))
	return true
}

// wrongContent counts wrong content under one name, and reports whether that opened the breaker.
func (b *breaker) wrongContent(loc proto.Location, reason string, now time.Time) bool {
	for other, at := range b.wrong {
		if now.Sub(at) >= wrongWithin {
			delete(b.wrong, other)
		}
	}
	if b.wrong == nil {
		b.wrong = make(map[proto.Location]time.Time)
	}
	b.wrong[loc] = now
	switch state := b.state(now); {
	case state == BreakerHalfOpen:
	case state == BreakerOpen, len(b.wrong) < wrongAt:
		return false
	default:
		reason = fmt.Sprintf("wrong content for %d objects within %s; the last: %s", len(b.wrong), wrongWithin, reason)
	}
	clear(b.wrong)
	b.trip(proto.AlertContent, reason, contentCoolDown, maxContentCoolDown, now)
	return true
}

// lacked counts an object that the mirror does not have and another mirror has, and reports
// whether that opened the breaker: the mirror may have moved, or be far out of date.
func (b *breaker) lacked(reason string, now time.Time) bool {
	if b.lacking++; b.lacking < lacksAt || b.state(now) == BreakerOpen {
		return false
	}
	reason = fmt.Sprintf("%d objects in a row were not there that others have; the last: %s", b.lacking, reason)
	b.trip(proto.AlertContent, reason, contentCoolDown, maxContentCoolDown, now)
	return true
}

// trip opens the breaker for a cool-down that doubles each time.
func (b *breaker) trip(kind proto.AlertKind, reason string, first, most time.Duration, now time.Time) {
	if b.opened.IsZero() && now.Sub(b.closed) >= calmAfter {
		b.openings = 0
	}
	pause := min(first<<min(b.openings, 16), most)
	b.openings++
	b.open(kind, reason, now, now.Add(pause))
}

func (b *breaker) open(kind proto.AlertKind, reason string, now, until time.Time) {
	b.opened, b.until, b.kind, b.reason = now, until, kind, reason
	b.remote, b.node = false, ""
}

// answered notes that the mirror gave a good answer to a request that began at started, and
// reports whether that closed the breaker. A request that began before the breaker opened
// proves nothing.
func (b *breaker) answered(started, now time.Time) bool {
	if started.After(b.lastFail) {
		b.lastError, b.lastFail = "", time.Time{}
	}
	if b.opened.IsZero() || started.Before(b.opened) || b.mustWait(now) && !b.remote {
		return false
	}
	if b.remote && b.kind == proto.AlertWait && b.state(now) == BreakerOpen {
		b.disbelieve(b.node, now)
	}
	b.close(now)
	return true
}

// disbelieve notes that a node was wrong.
func (b *breaker) disbelieve(node string, now time.Time) {
	maps.DeleteFunc(b.untrue, func(_ string, until time.Time) bool { return !now.Before(until) })
	if b.untrue == nil {
		b.untrue = make(map[string]time.Time)
	}
	if len(b.untrue) < maxDisbelieved {
		b.untrue[node] = now.Add(disbelieveFor)
	}
}

// maxDisbelieved is more than a cluster has nodes.
const maxDisbelieved = 1024

// close closes the breaker. One more failure opens it again, unless something has
// ended well in between.
func (b *breaker) close(now time.Time) {
	b.opened, b.until, b.kind, b.reason = time.Time{}, time.Time{}, "", ""
	b.remote, b.node = false, ""
	b.closed, b.failures = now, tripAt-1
}

// receive takes note of what another node says. What this node found out itself and
// lasts longer stays; what it found out itself ends only by what it sees itself.
func (b *breaker) receive(t proto.MirrorAlert, now time.Time) {
	if t.Until.IsZero() {
		if b.remote && b.node == t.Node {
			b.close(now)
			b.failures = 0
		}
		return
	}
	if now.Before(b.untrue[t.Node]) {
		return
	}
	until := t.Until
	if most := now.Add(maxRetryAfter); until.After(most) {
		until = most
	}
	if !until.After(now) || b.state(now) == BreakerOpen && !b.remote && !until.After(b.until) {
		return
	}
	opened := now
	if b.remote && b.node == t.Node && b.kind == t.Kind && b.state(now) == BreakerOpen {
		opened = b.opened // what is under way may still find out that it is not so
	}
	b.open(t.Kind, t.Reason, opened, until)
	b.remote, b.node = true, t.Node
}
