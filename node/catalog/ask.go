package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// lookThroughLeader has the node that leads look at upstream in this one's place, and
// adopts what it tells of. Where that node cannot be asked, or what it tells cannot
// be believed, this one looks itself.
func (s *suite) lookThroughLeader(k *check) error {
	before := s.held()
	from, news, err := s.askFor(k, before)
	k.asking.Store(false)
	switch {
	case err == nil:
		if believed, err := s.believe(k, from, news, before); believed {
			return err
		}
	case isUpstreams(err):
		return err
	}
	s.log.Debug("this node looks at upstream itself", "node", from, "error", err)
	return s.look(k)
}

// askFor asks the node that leads. Where that one could not look just now, but holds
// something, it is better than nothing.
func (s *suite) askFor(k *check, held *generation) (from string, news proto.News, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, rootTimeout)
	defer cancel()
	from, news, err = s.askLeader(ctx, k.fresh)
	s.tried(k.fresh)
	if k.fresh && held == nil && isUpstreams(err) && !errors.Is(err, proto.ErrNotFound) {
		if from, news, err := s.askLeader(ctx, false); err == nil {
			return from, news, nil
		}
	}
	return from, news, err
}

// isUpstreams reports whether an error of the node that leads is upstream's own
// answer: asking it from here would bring the same.
func isUpstreams(err error) bool {
	var busy *proto.Unavailable
	var final *proto.Refused
	return errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrCorrupt) || errors.As(err, &final) ||
		errors.As(err, &busy) && busy.Answered
}

// believe adopts what the node that leads tells of, if need be. It reports whether
// that will do in place of a look of this node's own: whether what is served now is
// what that node serves, and known to be upstream's newest not long ago.
func (s *suite) believe(k *check, from string, news proto.News, before *generation) (bool, error) {
	if news.Generation.Suite != s.id || news.Generation.Root.IsZero() {
		return false, nil
	}
	checked := s.hear(from, news)
	defer s.goAfter() // what is left to be done
	if _, err := s.adoptHeard(); err != nil {
		return true, err
	}
	held := s.held()
	if held == nil || held.Root.Digest != news.Generation.Root.Digest {
		return false, nil
	}
	oldest := s.c.cfg.Now().Add(-s.patience(s.rank()))
	if k.fresh {
		oldest = k.began.Add(-checkPause) // ages travel, and take their time
	}
	if checked.Before(oldest) && before != nil {
		return false, nil
	}
	k.good = checked
	return true, nil
}

// errAskingItself is this node's answer to one that asks it while it waits for
// another: two nodes that take each other for the one that leads must not wait for
// each other.
var errAskingItself = errors.New("this node is asking another one itself")

// Asked answers another node that believes this one to lead the suite: with what is
// served here, having looked at upstream first where fresh (though at most once a
// second), or where the last good look is older than an interval. It never asks a
// third node. uses are what clients of that node want of the suite, which is watched
// from now on as if they were this node's own.
//
// The error says what came of looking at upstream, as for Discover; with fresh also
// where there is something older to serve. Safe for concurrent use.
func (c *Catalog) Asked(ctx context.Context, id proto.Suite, uses []string, fresh bool) (proto.News, error) {
	if !canBeSuite(id.Dir) {
		return proto.News{}, fmt.Errorf("%q cannot be the directory of a suite", id.Dir)
	}
	s, ok := c.suite(id)
	if !ok {
		return proto.News{}, errUnknownArchive
	}
	now := c.cfg.Now()
	s.askedByOthers.Store(now.Unix())
	s.noteOthers(uses, true)
	err := s.bringUpToDate(ctx, now, fresh)
	if s.held() == nil {
		c.forget(s)
		return proto.News{}, errors.Join(err, s.sentenceIfNil(err))
	}
	s.wake()
	if err != nil && fresh {
		return proto.News{}, err
	}
	if slices.Contains(uses, pairUse) {
		s.readyPair(ctx)
	}
	return s.news(), nil
}

// canBeSuite reports whether a directory that another node names can be one of a
// suite at all.
func canBeSuite(dir string) bool {
	at := proto.Suite{Dir: dir}.At("InRelease").Path
	clean, err := aptmeta.CanonicalPath(aptmeta.EscapePath(at))
	return len(dir) <= maxUseLength && err == nil && clean == at
}

// bringUpToDate looks at upstream for another node, unless what is known will do.
// With fresh the look begins after this call.
func (s *suite) bringUpToDate(ctx context.Context, now time.Time, fresh bool) error {
	if s.held() != nil {
		if !fresh && s.knowsEnough(now) {
			return nil
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.c.cfg.CheckWait,
			&proto.Unavailable{Reason: fmt.Sprintf("the look at upstream's Release of %s takes long", s.id), Answered: true})
		defer cancel()
	}
	direct := func() *check { return directCheck(false) }
	if fresh {
		return s.checkSince(ctx, direct, true)
	}
	s.mu.Lock()
	k, failure := s.running, s.failure
	if k == nil && s.sinceTry(now, false) >= checkPause {
		k = s.startLocked(direct())
	}
	s.mu.Unlock()
	switch {
	case k == nil:
		return failure
	case k.asking.Load():
		return errAskingItself
	}
	return k.wait(ctx)
}

// knowsEnough reports whether another node can be answered without a look at
// upstream: the last good one is not older than this node's own patience, or looking
// is known to be in vain just now. Where there is no InRelease, who asks may hope that
// it has come.
func (s *suite) knowsEnough(now time.Time) bool {
	patience := s.interval() * 11 / 10
	if rank := s.rank(); rank > 0 {
		patience = s.patience(rank)
	}
	if s.held().detached() {
		patience = min(patience, missingInRelease)
	}
	return now.Sub(time.Unix(0, s.lastGood.Load())) <= patience ||
		s.failing() > 0 && s.sinceTry(now, false) < s.afterFailure()
}
