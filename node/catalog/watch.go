package catalog

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// vigil is what the watcher of a suite remembers between two looks.
type vigil struct {
	jitter     float64       // 0..1, of the time to the next look
	audit      time.Duration // to this node's own look where another leads
	began      int64         // Unix nanoseconds
	leads      bool          // this node did when it was last looked at
	since      int64         // Unix nanoseconds from when the interval of a node counts that has come to lead
	renewTried time.Time
}

func (v *vigil) draw() {
	v.jitter = rand.Float64()
	v.audit = auditEvery/2 + rand.N(auditEvery/2)
}

// watch checks upstream again and again until nobody has asked for a while. Where
// another node leads, it is ready to take over, and keeps that node informed.
func (s *suite) watch() {
	s.vigil = vigil{began: s.c.cfg.Now().UnixNano()}
	s.vigil.draw()
	for {
		switch due, audit := s.due(s.c.cfg.Now()); {
		case due <= 0:
			k := s.newCheck(false, false)
			if audit {
				k = directCheck(false)
			}
			s.join(k).wait(s.ctx)
			s.vigil.draw()
		default:
			s.renew()
		}
		s.tidy()
		s.warn()
		if !s.sleep() || s.fallAsleep() {
			return
		}
	}
}

// sleep waits until the next check is due, which a check that a client has caused
// may change; false when the suite ends.
func (s *suite) sleep() bool {
	for {
		timer := time.NewTimer(s.pause())
		select {
		case <-timer.C:
			return true
		case <-s.failed:
			timer.Stop()
		case <-s.ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// pause is the time until the watcher wakes up: alone for the next check, which is
// due after the interval give or take a tenth, so that suites do not march in step;
// sooner after a failure, then backing off. In a cluster it wakes up at least once
// in an interval to see whether it leads now.
func (s *suite) pause() time.Duration {
	if s.c.cfg.Cluster != nil {
		due, _ := s.due(s.c.cfg.Now())
		return min(max(due, time.Millisecond), s.interval())
	}
	pause := s.afterFailure()
	return pause*9/10 + rand.N(pause/5+1)
}

// afterFailure is the interval, or less where the last checks have failed.
func (s *suite) afterFailure() time.Duration {
	if failures := s.failing(); failures > 0 {
		return min(s.interval(), 5*time.Second<<min(failures-1, 8))
	}
	return s.interval()
}

// failing is how many checks have failed in a row.
func (s *suite) failing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures
}

// auditEvery is how long a node goes by what another tells of upstream, at most. One
// that leads could hold back a suite for all, by mistake or on purpose: no signature
// tells that there is nothing newer.
const auditEvery = 12 * time.Hour

// due is how long the watcher may still leave upstream alone. audit says that it is
// this node itself that has to look then. It is for the watcher alone.
func (s *suite) due(now time.Time) (wait time.Duration, audit bool) {
	if s.offline() {
		return s.interval(), false // what the other nodes hold, they tell
	}
	if s.c.cfg.Cluster == nil {
		// A check that a client has just caused counts as ours.
		return checkPause - s.sinceTry(now, false), false
	}
	rank := s.rank()
	s.noteRank(rank)
	lastTry := s.lastTry.Load()
	if !s.inUse(now) && (rank > 0 || !s.heardLately(now)) {
		return s.interval(), false // others look, if anybody does
	}
	if lastTry == 0 && s.lastHeard.Load() == 0 {
		return 0, false // whatever was known when the last run ended
	}
	var next int64
	if rank == 0 || s.held() == nil {
		next = max(lastTry, s.vigil.since) + s.vigil.stretch(s.afterFailure())
	} else {
		next = s.lastGood.Load() + int64(s.patience(rank)) + int64(s.vigil.jitter*float64(s.interval())/2)
		if own := max(s.lastOwn.Load(), s.vigil.began) + int64(s.vigil.audit); own < next {
			next, audit = own, true
		}
		next = max(next, lastTry+s.vigil.stretch(s.interval()))
	}
	next = max(next, lastTry+int64(checkPause))
	return time.Duration(next - now.UnixNano()), audit
}

// stretch is d give or take a tenth.
func (v *vigil) stretch(d time.Duration) int64 { return int64(float64(d) * (0.9 + v.jitter/5)) }

// noteRank notes whether this node leads. One that has come to lead goes by the
// looks of the one before for the rest of the interval; from then on by its own
// only, so that nobody can keep it from looking by telling that he did.
func (s *suite) noteRank(rank int) {
	if leads := rank == 0; leads != s.vigil.leads {
		s.vigil.leads, s.vigil.since = leads, s.lastGood.Load()
	}
}

// patience is how old the last good look at upstream may become before a node of
// this rank looks itself: the later in line, the more.
func (s *suite) patience(rank int) time.Duration {
	return s.interval() * time.Duration(3+rank) / 2
}

// inUse reports whether clients, of this node or of one that has asked it, want the
// suite.
func (s *suite) inUse(now time.Time) bool {
	return s.configured() || s.askedLately(now)
}

func (s *suite) askedLately(now time.Time) bool {
	last := max(s.asked.Load(), s.askedByOthers.Load())
	return now.Sub(time.Unix(last, 0)) <= s.c.cfg.IdleAfter
}

// heardLately reports whether another node has looked at upstream not long ago: then
// the suite is in use somewhere, and those whose clients use it ask for it in time.
func (s *suite) heardLately(now time.Time) bool {
	return s.c.cfg.Cluster != nil && now.Sub(time.Unix(0, s.lastHeard.Load())) <= 2*s.c.renewEvery()
}

// renewEvery is how often a node tells the one that leads a suite that its clients
// still want it.
func (c *Catalog) renewEvery() time.Duration { return min(c.cfg.IdleAfter, c.cfg.UseFor) / 8 }

// renew tells the node that leads that clients of this one want the suite, and what
// of it they use: when they have come to use more, or else now and then.
func (s *suite) renew() {
	now := s.c.cfg.Now()
	last := s.lastAsk.Load()
	idle := time.Unix(s.asked.Load(), 0).Add(time.Second).UnixNano() < last && !s.configured()
	long := now.UnixNano()-last >= int64(s.c.renewEvery())
	if s.leads() || s.held() == nil || !s.newUses.Load() && (idle || !long) || now.Sub(s.vigil.renewTried) < s.interval()*9/10 {
		return
	}
	s.vigil.renewTried = now
	ctx, cancel := context.WithTimeout(s.ctx, renewTimeout)
	defer cancel()
	if from, news, err := s.askLeader(ctx, false); err == nil {
		s.c.Hear(from, news)
	}
}

// renewTimeout bounds the telling of what clients use: there is a next time.
const renewTimeout = 10 * time.Second

// fallAsleep ends the watching of a suite that nobody asks for, unless it is one
// that the configuration names.
func (s *suite) fallAsleep() bool {
	if s.configured() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.c.cfg.Now()
	if s.askedLately(now) || s.heardLately(now) {
		return false
	}
	s.watching = false
	s.log.Info("no client has asked for a while; upstream is no longer watched")
	return true
}

// saveEvery is how often what clients used is written down where nothing else
// has the state file written. A restart must find it: members that seem unused
// are not staged.
const saveEvery = time.Hour

// tidy lets go of generations whose time has passed, and writes down what
// clients used.
func (s *suite) tidy() {
	now := s.c.cfg.Now()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.c.mu.Lock()
	current := s.current
	kept := s.expire(s.retained, now)
	fewer := len(kept) != len(s.retained)
	s.c.mu.Unlock()
	if current == nil || !fewer && now.Sub(s.saved) < saveEvery {
		return
	}
	if err := s.write(current, kept); err != nil {
		s.log.Warn("the suite's state could not be written", "error", err)
		return
	}
	if fewer {
		s.c.mu.Lock()
		s.retained = kept
		s.c.mu.Unlock()
		s.pin()
		s.c.compose(s.id.Archive)
		s.c.cleanLists(s.id.Archive)
	}
}

func (s *suite) configured() bool {
	a, _ := s.c.archive(s.id.Archive)
	return slices.Contains(a.Suites, s.id.Dir)
}
