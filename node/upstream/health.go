package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Why a request failed at a mirror, as Stats and the metrics name it.
const (
	leftWait        = string(proto.AlertWait)
	leftUnreachable = string(proto.AlertUnreachable)
	leftErrors      = string(proto.AlertErrors)
	leftContent     = string(proto.AlertContent)
	leftNotFound    = "not_found"
	leftRefused     = "refused"
	leftBroke       = "broke_off"
	leftSlow        = "slow"
)

// health is what this node knows about a mirror. It outlives configurations.
type health struct {
	name string

	mu      sync.Mutex
	breaker breaker // guarded by mu, as all below
	speed   speed
	left    map[string]int64
	failed  int           // how often it failed while its breaker was open
	changed chan struct{} // closed, and made anew, when the breaker closes or a request fails
	probing bool          // a probe is under way in the background

	credit int // of the smooth weighted round-robin; guarded by Client.creditsMu
}

func newHealth(name string) *health {
	return &health{name: name, left: make(map[string]int64), changed: make(chan struct{})}
}

// admit lets a request go to the mirror if there is no other mirror. If the breaker is open,
// the request waits until it becomes the probe, or until another request was. While requests
// wait, the mirror is probed every probeEvery, so that they continue as soon as it recovers.
// The error is why the mirror is not asked, or that of ctx.
func (h *health) admit(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for came := h.failed; ; {
		now := time.Now()
		if h.breaker.pauseLeft(now) > 0 || h.failed != came {
			return h.refusal(now)
		}
		wait := h.breaker.admit(now)
		if wait == 0 {
			return nil
		}
		changed := h.changed
		h.mu.Unlock()
		err := pauseUnless(ctx, wait, changed)
		h.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// pauseUnless waits for d, or until changed is closed, or fails with ctx.
func pauseUnless(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// refusal is the error for a request that was not made. The caller holds mu.
func (h *health) refusal(now time.Time) error {
	b := &h.breaker
	err := &proto.Unavailable{
		Reason:   fmt.Sprintf("%s is left alone: %s", h.name, b.reason),
		Answered: b.kind != proto.AlertUnreachable,
	}
	err.RetryAfter = b.pauseLeft(now)
	return err
}

// wake wakes the requests that wait in admit. The caller holds mu.
func (h *health) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// accepted notes that the mirror gave a good answer.
func (x *exchange) accepted() {
	x.headed = true
	x.answeredBy(x.source)
	if m := x.attempt.mirror.health; m != x.source {
		x.answeredBy(m) // it hop to what is good
	}
}

func (x *exchange) answeredBy(h *health) {
	now := time.Now()
	h.mu.Lock()
	h.speed.answered(x.attempt.waited, now)
	ours := !h.breaker.remote
	closed := h.breaker.answered(x.started, now)
	if closed {
		h.wake()
	}
	h.mu.Unlock()
	if closed && ours {
		x.client.raise(proto.MirrorAlert{Mirror: h.name})
	}
}

// learn records what the end of an exchange says about the mirror.
func (x *exchange) learn(outcome string, err error) {
	g, loc := x.source, x.attempt.req.Loc
	var busy *proto.Unavailable
	switch outcome {
	case outcomeOK:
		g.fine()
	case outcomeNotFound:
		g.leave(leftNotFound)
		if !x.client.stillWrong(g, loc, err) {
			x.accepted() // it is there
		}
	case outcomePreempted:
		if errors.As(context.Cause(x.ctx), new(*stalled)) {
			x.client.penalties.note(g.name, loc, brokeOff)
			g.leave(leftBroke)
		}
	case outcomeRefused:
		if errors.As(context.Cause(x.ctx), new(*proto.Refused)) {
			g = x.attempt.mirror.health // it hop to where no request may go
		}
		x.client.refused(x.attempt, g, err)
	case outcomeCorrupt:
		if errors.Is(err, errUselessRange) {
			return // it cannot resume, which is no lie
		}
		x.client.wrong(g, loc, x.attempt.madeUp, err)
	case outcomeUnavailable:
		if errors.As(err, &busy) {
			x.unavailable(busy)
		}
	}
}

// unavailable judges a temporary failure.
func (x *exchange) unavailable(busy *proto.Unavailable) {
	g, loc := x.source, x.attempt.req.Loc
	count := func(left string, kind proto.AlertKind, weight int) {
		g.leave(left)
		if x.attempt.madeUp && x.asked() {
			return
		}
		x.client.note(g, func(b *breaker, now time.Time) bool { return b.failed(kind, weight, busy.Reason, now) })
	}
	var watch *stalled
	timedOut := errors.As(context.Cause(x.ctx), &watch)
	switch {
	case busy.RetryAfter > 0 && x.attempt.madeUp && x.status == http.StatusServiceUnavailable:
		// Perhaps only the backend for this name is down. Requests for the same name wait
		// nevertheless.
		x.client.penalties.note(g.name, loc, brokeOff)
		g.leave(leftWait)
	case busy.RetryAfter > 0:
		g.leave(leftWait)
		x.client.note(g, func(b *breaker, now time.Time) bool { return b.asked(busy.RetryAfter, busy.Reason, now) })
	case errors.Is(busy, errSlow):
		x.client.penalties.note(g.name, loc, brokeOff)
		g.leave(leftSlow)
	case x.headed: // in its body
		x.client.penalties.note(g.name, loc, brokeOff)
		count(leftBroke, proto.AlertErrors, 1)
	case x.status == http.StatusTooManyRequests: // without a word on how long
		count(leftErrors, proto.AlertErrors, tripAt)
	case x.status != 0, x.attempt.madeUp && x.asked():
		x.client.penalties.note(g.name, loc, brokeOff)
		count(leftErrors, proto.AlertErrors, 1)
	case timedOut && !x.attempt.archive.single():
		// Where there are others, none but the first shall wait for this one in vain.
		count(leftUnreachable, proto.AlertUnreachable, tripAt)
	default:
		count(leftUnreachable, proto.AlertUnreachable, 1)
	}
}

// asked reports whether the server received the request, so that the name may be the cause.
func (x *exchange) asked() bool {
	ph, _ := x.slot.now()
	return x.status != 0 || ph != connecting
}

// fine notes that an object was fetched.
func (h *health) fine() {
	h.mu.Lock()
	h.breaker.failures, h.breaker.lacking = 0, 0
	h.mu.Unlock()
}

// lacks notes that a mirror does not have an object that another has.
func (c *Client) lacks(h *health, loc proto.Location, madeUp bool, has string) {
	c.penalties.note(h.name, loc, brokeOff)
	if madeUp {
		return // there are files that each mirror has for itself
	}
	c.note(h, func(b *breaker, now time.Time) bool { return b.lacked(loc.Path+", which "+has+" has", now) })
}

// stillWrong notes "not found" from a mirror that is tried again after wrong content:
// that is no sign that its content is right now.
func (c *Client) stillWrong(h *health, loc proto.Location, err error) bool {
	h.mu.Lock()
	tried := h.breaker.kind == proto.AlertContent && h.breaker.state(time.Now()) == BreakerHalfOpen
	h.mu.Unlock()
	if tried {
		c.note(h, func(b *breaker, now time.Time) bool { return b.wrongContent(loc, err.Error(), now) })
	}
	return tried
}

// leave counts why the mirror was left.
func (h *health) leave(why string) {
	h.mu.Lock()
	h.left[why]++
	h.mu.Unlock()
}

// refused notes that a mirror refused to give an object. Where there are others, one
// that does so again and again is left alone.
func (c *Client) refused(e *attempt, h *health, err error) {
	loc := e.req.Loc
	c.penalties.note(h.name, loc, brokeOff)
	h.leave(leftRefused)
	if !e.archive.single() && !e.madeUp {
		c.note(h, func(b *breaker, now time.Time) bool { return b.wrongContent(loc, err.Error(), now) })
	}
}

// wrong notes that a mirror had wrong content under the name of an object. For an unlisted name it
// counts for this name alone: clients invent names, and some mirrors have a page for each.
func (c *Client) wrong(h *health, loc proto.Location, madeUp bool, err error) {
	c.penalties.note(h.name, loc, wrongContent)
	h.leave(leftContent)
	if madeUp {
		return
	}
	c.note(h, func(b *breaker, now time.Time) bool { return b.wrongContent(loc, err.Error(), now) })
}

// note lets the breaker of a mirror know of a failure, and others if that opened it.
func (c *Client) note(h *health, failure func(*breaker, time.Time) (opened bool)) {
	now := time.Now()
	h.mu.Lock()
	opened := failure(&h.breaker, now)
	if h.breaker.state(now) != BreakerClosed {
		h.failed++
		h.wake()
	}
	t := h.alert()
	h.mu.Unlock()
	if opened {
		c.settings.Load().cfg.Logger.Debug("a mirror is left alone", "mirror", h.name, "kind", t.Kind, "reason", t.Reason, "until", t.Until)
		c.raise(t)
	}
}

// alert is what the breaker is open for. The caller holds mu.
func (h *health) alert() proto.MirrorAlert {
	b := &h.breaker
	return proto.MirrorAlert{Mirror: h.name, Kind: b.kind, Reason: b.reason, Until: b.until, Node: b.node}
}

// raise reports an alert that this node found.
func (c *Client) raise(alert proto.MirrorAlert) {
	if onAlert := c.settings.Load().cfg.OnAlert; onAlert != nil {
		onAlert(alert)
	}
}
