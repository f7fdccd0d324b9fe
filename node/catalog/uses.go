package catalog

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// What clients use of a suite is staged before each flip, on every node: the uses of
// this node's own clients, and those that other nodes tell of.
//
// A use travels two steps at most, so that no two nodes keep it alive between them:
// a node tells the one that leads what its own clients use, and that one tells
// everybody. What a node has heard from a third is told by nobody.

// othersUse is a member path that clients of other nodes use. Guarded by Catalog.mu.
type othersUse struct {
	heard time.Time // when a node last told of it
	asked time.Time // when one told this node of it as its own clients'; zero for never
}

// How many uses a node tells of, and how many of the others' it keeps, of a suite;
// and how long a path may be.
const (
	maxTold      = 1024
	maxOthers    = 4096
	maxUseLength = 512
)

// pairUse is the path that stands for Release and Release.gpg beside an InRelease.
const pairUse = "Release.gpg"

// othersFor is how long a use of other nodes' clients counts after it was last told
// of. The nodes whose clients they are see to it that it is told of more often.
func (c *Catalog) othersFor() time.Duration { return max(c.cfg.UseFor/7, 4*c.renewEvery()) }

// useOf notes the use of a member path. Catalog.mu is held.
func (s *suite) useOf(path string) *use {
	u, ok := s.uses[path]
	if !ok {
		u = &use{}
		s.uses[path] = u
	}
	u.touch(s.c.cfg.Now())
	return u
}

// noteOthers takes in uses that another node tells of. asked says that they are its
// own clients'.
func (s *suite) noteOthers(paths []string, asked bool) {
	now := s.c.cfg.Now()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, path := range paths[:min(len(paths), maxTold)] {
		if !s.mayBeUsed(path) {
			continue
		}
		u, ok := s.others[path]
		if !ok {
			if len(s.others) >= maxOthers {
				s.expireOthers(now)
			}
			if len(s.others) >= maxOthers {
				return
			}
			u = &othersUse{}
			s.others[strings.Clone(path)] = u
		}
		u.heard = now
		if asked {
			u.asked = now
		}
	}
}

// mayBeUsed reports whether a path that another node tells of can be of use: where
// nothing is held yet, all may. Catalog.mu is held.
func (s *suite) mayBeUsed(path string) bool {
	if path == pairUse || s.current == nil {
		return len(path) <= maxUseLength
	}
	m, ok := s.current.members[path]
	return ok && m.provable()
}

// expireOthers forgets what is not told of any more. Catalog.mu is held.
func (s *suite) expireOthers(now time.Time) {
	maps.DeleteFunc(s.others, func(_ string, u *othersUse) bool { return now.Sub(u.heard) > s.c.othersFor() })
}

// expireUses forgets what clients of this node have not asked for lately. Catalog.mu
// is held.
func (s *suite) expireUses(now time.Time) {
	maps.DeleteFunc(s.uses, func(_ string, u *use) bool { return now.Sub(time.Unix(u.last.Load(), 0)) > s.c.cfg.UseFor })
}

// ownUses lists what this node's clients use and could be had, newest first where
// they are too many to tell.
func (s *suite) ownUses() []string {
	now := s.c.cfg.Now()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.expireUses(now)
	var paths []string
	for path, u := range s.uses {
		if u.had {
			paths = append(paths, path)
		}
	}
	if len(paths) >= maxTold {
		slices.SortFunc(paths, func(x, y string) int { return int(s.uses[y].last.Load() - s.uses[x].last.Load()) })
		paths = paths[:maxTold-1]
	}
	if s.pairUsed(now) {
		paths = append(paths, pairUse)
	}
	slices.Sort(paths)
	return paths
}

// toldUses lists what this node tells all others of: what its own clients use, and
// what those of the nodes use that have asked it.
func (s *suite) toldUses() []string {
	paths := s.ownUses()
	now := s.c.cfg.Now()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for path, u := range s.others {
		if len(paths) < maxTold && now.Sub(u.asked) <= s.c.othersFor() {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// pairUsed reports whether clients of this node use Release and Release.gpg.
func (s *suite) pairUsed(now time.Time) bool {
	return now.Sub(time.Unix(s.pairUse.last.Load(), 0)) <= s.c.cfg.UseFor
}

// pairWanted reports whether clients of any node do.
func (s *suite) pairWanted(now time.Time) bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	u, ok := s.others[pairUse]
	return s.pairUsed(now) || ok && now.Sub(u.heard) <= s.c.othersFor()
}

// needed lists the members of g that clients use, in a fixed order. A first
// generation is not kept from this node's clients for the sake of others': what they
// use is taken in behind it.
func (s *suite) needed(g *generation) []*member {
	now := s.c.cfg.Now()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.expireUses(now)
	s.expireOthers(now)
	paths := make(map[string]bool)
	for path := range s.uses {
		paths[path] = true
	}
	if s.current != nil {
		for path := range s.others {
			paths[path] = true
		}
	}
	for _, in := range s.c.ingests { // a client wants it at this moment
		if in.suite == s {
			paths[in.path] = true
		}
	}
	var needed []*member
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if m, ok := g.members[path]; ok && m.provable() {
			needed = append(needed, m)
		}
	}
	return needed
}

// takeInOthers takes in, one after the other, what clients of other nodes use of g
// and was not staged with it.
func (s *suite) takeInOthers(g *generation) {
	for _, m := range s.unstagedOthers(g) {
		if held := s.held(); held == nil || held.Root != g.Root {
			return // the next one was staged with it
		}
		select {
		case s.c.behind <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		in := s.c.takeIn(s, g, m, false)
		select {
		case <-in.done:
		case <-s.ctx.Done():
		}
		<-s.c.behind
	}
}

func (s *suite) unstagedOthers(g *generation) []*member {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	var late []*member
	for _, path := range slices.Sorted(maps.Keys(s.others)) {
		_, staged := g.staged[path]
		_, ours := s.uses[path]
		if m, ok := g.members[path]; ok && !staged && !ours && m.provable() {
			late = append(late, m)
		}
	}
	return late
}
