package catalog

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// check is one look at upstream, shared by all who wait for it: this node's own, or
// one that it has the node that leads the suite make in its place.
type check struct {
	older  bool // lets an older Release in
	fresh  bool // upstream is looked at at this moment, by whomever
	direct bool // this node looks itself, whoever leads
	proof  bool // it only proves what another node has told all of
	// found is a root that this node has read from a mirror a moment ago; nil where the
	// check has to ask.
	found *candidate
	began time.Time
	done  chan struct{}

	// asking says that it waits for another node or is about to, so that one that asks
	// this node must not wait for it.
	asking atomic.Bool

	err error // valid after done

	// owned by the goroutine that runs it
	good      time.Time // when upstream had nothing newer than what is held; zero for not known
	looked    bool      // this node has asked upstream itself
	firstHand bool      // and upstream has answered well
}

// newCheck plans a look at upstream. fresh is for those who are not content with
// what another node saw a moment ago, older for an operator: his word holds on the
// node that he gives it to, and nobody else is asked.
func (s *suite) newCheck(fresh, older bool) *check {
	if older || s.leads() {
		return directCheck(older)
	}
	return &check{fresh: fresh, done: make(chan struct{})}
}

// directCheck plans a look of this node itself, whoever leads.
func directCheck(older bool) *check {
	return &check{older: older, direct: true, fresh: true, done: make(chan struct{})}
}

// startCheck joins the check under way or starts one.
func (s *suite) startCheck(older bool) *check {
	return s.join(s.newCheck(false, older))
}

// join joins the check under way or starts k.
func (s *suite) join(k *check) *check {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return s.running
	}
	return s.startLocked(k)
}

// startLocked starts k. suite.mu is held, and no check is running.
func (s *suite) startLocked(k *check) *check {
	k.began = s.c.cfg.Now()
	k.asking.Store(!k.direct)
	started := s.c.spawn(func() {
		k.err = s.check(k)
		s.ended(k)
		if k.firstHand && !k.proof {
			s.glance() // nobody waits for it
		}
	})
	if !started {
		k.err = errClosed
		close(k.done)
		return k
	}
	s.running = k
	return k
}

// check looks at upstream once: it fetches the root if it has changed, and adopts
// what it finds. It is run by one goroutine per suite at a time.
func (s *suite) check(k *check) error {
	if k.direct {
		return s.look(k)
	}
	return s.lookThroughLeader(k)
}

// tried books a look at upstream, whatever came of it: this node's own, or a
// question to the node that leads. fresh says that upstream was looked at just now.
func (s *suite) tried(fresh bool) {
	now := s.c.cfg.Now().UnixNano()
	s.lastTry.Store(now)
	if fresh {
		s.lastFresh.Store(now)
	}
}

// checkNow looks at upstream and waits for it: without bound where there is
// nothing to serve, briefly where there is. It does nothing if the last look was
// less than a second ago, or if one is under way that others have already waited
// for in vain.
func (s *suite) checkNow(ctx context.Context, held, fresh bool) error {
	if held {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.c.cfg.CheckWait)
		defer cancel()
	}
	for {
		next := s.newCheck(fresh, false)
		now := s.c.cfg.Now()
		s.mu.Lock()
		k := s.running
		idle := k == nil && s.sinceTry(now, fresh) < checkPause
		if k == nil && !idle {
			k = s.startLocked(next)
		}
		s.mu.Unlock()
		if idle || held && now.Sub(k.began) > s.c.cfg.CheckWait {
			return nil
		}
		err := k.wait(ctx)
		if ctx.Err() != nil || s.ctx.Err() != nil || k.fresh || !fresh {
			return err
		}
	}
}

// checkPause is the least time between two looks at upstream that somebody asks for.
const checkPause = time.Second

// sinceTry is how long ago the last look at upstream was; with fresh, the last that
// was not content with what another node had seen.
func (s *suite) sinceTry(now time.Time, fresh bool) time.Duration {
	last := &s.lastTry
	if fresh {
		last = &s.lastFresh
	}
	return time.Duration(now.UnixNano() - last.Load())
}

// checkSince waits for a check as plan has it that began after this call; checkPause
// holds here too. forOther says that another node waits for the outcome.
func (s *suite) checkSince(ctx context.Context, plan func() *check, forOther bool) error {
	called := s.c.cfg.Now()
	for {
		next := plan()
		s.mu.Lock()
		k, early := s.running, checkPause-s.sinceTry(s.c.cfg.Now(), true)
		if k == nil {
			if k = s.last; k == nil || !k.serves(called, next.older) {
				if k = nil; early <= 0 {
					k = s.startLocked(next)
				}
			}
		}
		s.mu.Unlock()
		switch {
		case k == nil:
			select {
			case <-time.After(early):
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case forOther && k.asking.Load():
			return errAskingItself
		}
		err := k.wait(ctx)
		if ctx.Err() != nil || s.ctx.Err() != nil || k.serves(called, next.older) {
			return err
		}
	}
}

// serves reports whether the check is one for somebody who called for it then.
func (k *check) serves(called time.Time, older bool) bool {
	return k.fresh && k.older == older && !k.began.Before(called)
}

// wait returns what came of the check, or the error of ctx.
func (k *check) wait(ctx context.Context) error {
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ended books the result of a check.
func (s *suite) ended(k *check) {
	s.tried(k.fresh)
	if k.err == nil {
		raise(&s.lastGood, k.good)
	}
	s.mu.Lock()
	s.running, s.last = nil, k
	s.failure = k.err
	if k.err == nil || s.offline() { // not to look is what was asked for
		s.failure, s.failures = nil, 0
	} else if s.ctx.Err() == nil {
		s.failures++
		select {
		case s.failed <- struct{}{}:
		default:
		}
		// Once when it begins, then now and then: a mirror can be down for days.
		if s.failures == 1 || s.failures%20 == 0 {
			s.log.Warn("upstream's Release was not adopted; clients go on with what is held", "error", k.err, "failures", s.failures)
		}
	}
	close(k.done)
	s.mu.Unlock()
	if k.looked && s.ctx.Err() == nil {
		s.c.metrics.checks.WithLabelValues(checkReason(k.err)).Inc()
	}
	if k.firstHand {
		s.tell(!k.proof)
	}
}

// raise moves a time that only goes forward; a zero t leaves it.
func raise(at *atomic.Int64, t time.Time) {
	if t.IsZero() {
		return
	}
	for {
		old := at.Load()
		if t.UnixNano() <= old || at.CompareAndSwap(old, t.UnixNano()) {
			return
		}
	}
}

func checkReason(err error) string {
	var r *refuse
	var busy *proto.Unavailable
	switch {
	case err == nil:
		return "good"
	case errors.As(err, &r):
		return r.kind
	case errors.Is(err, proto.ErrNotFound):
		return "not_found"
	case errors.Is(err, proto.ErrCorrupt):
		return "corrupt"
	case errors.As(err, &busy):
		return "unavailable"
	}
	return "other"
}
