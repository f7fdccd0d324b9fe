package upstream

import (
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// How long a mirror goes after the others for one object.
const (
	strikeFor = 2 * time.Minute  // it broke a transfer off, or was too slow
	benchFor  = 10 * time.Minute // it had something else under the object's name
)

// maxStrikes bounds the memory that bad objects may take.
const maxStrikes = 4096

// fault is how much a mirror is to blame for what went wrong with an object.
type fault uint8

const (
	faultless fault = iota
	suspected       // one of several that gave bytes of a whole that was wrong
	broke           // it ended a transfer early, or was too slow
	lied            // what it gave was wrong
)

// struck is an object at a mirror.
type struck struct {
	mirror string
	loc    proto.Location
}

type strike struct {
	fault fault
	until time.Time
}

// strikes are what mirrors did wrong lately, by object.
type strikes struct {
	mu sync.Mutex
	of map[struck]strike // guarded by mu
}

// note remembers a fault. A heavier one that is still held against the mirror stays.
func (s *strikes) note(mirror string, loc proto.Location, f fault) {
	now := time.Now()
	lasts := strikeFor
	if f != broke {
		lasts = benchFor
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[struck]strike)
	}
	key := struck{mirror, loc}
	if was, ok := s.of[key]; ok && was.until.After(now) {
		f = max(f, was.fault)
	} else if len(s.of) >= maxStrikes {
		s.sweep(now)
	}
	s.of[key] = strike{f, now.Add(lasts)}
}

// sweep makes room for a while: what is over goes, and if that is not enough, any. The
// caller holds mu.
func (s *strikes) sweep(now time.Time) {
	for key, one := range s.of {
		if !one.until.After(now) {
			delete(s.of, key)
		}
	}
	for key := range s.of {
		if len(s.of) <= maxStrikes*3/4 {
			return
		}
		delete(s.of, key)
	}
}

// against returns what a mirror is held to have done to an object, and until when.
func (s *strikes) against(mirror string, loc proto.Location) (fault, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.of[struck{mirror, loc}]
	if !ok || !one.until.After(time.Now()) {
		return faultless, time.Time{}
	}
	return one.fault, one.until
}

// count returns how many objects are held against each mirror.
func (s *strikes) count() map[string]int {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := make(map[string]int)
	for key, one := range s.of {
		if one.until.After(now) {
			n[key.mirror]++
		}
	}
	return n
}

// Blame tells that a body was wrong in the hands of the caller: in its length, or
// in its digest. from are the mirrors that gave bytes of it, as Transfer.From names
// them. A single one lied: for a while it is asked for this object after all others,
// and some more of that opens its breaker. Of several, each is suspected, of this
// object only: they are asked one after the other once the others have failed.
func (c *Client) Blame(loc proto.Location, from []string, err error) {
	if len(from) == 1 {
		if h := c.healthOf(from[0]); h != nil {
			c.wrong(h, loc, err)
		}
		return
	}
	for _, name := range from {
		c.strikes.note(name, loc, suspected)
	}
}
