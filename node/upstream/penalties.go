package upstream

import (
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// How long a mirror goes after the others for one object.
const (
	penaltyFor      = 2 * time.Minute  // it broke a transfer off, or was too slow
	wrongContentFor = 10 * time.Minute // it had wrong content under the object's name
)

// maxPenalties bounds the memory that bad objects may take.
const maxPenalties = 4096

// fault is how much a mirror is to blame for the failure of an object.
type fault uint8

const (
	noFault      fault = iota
	suspected          // one of several mirrors that gave bytes of a wrong body
	brokeOff           // it ended a transfer early, or was too slow
	wrongContent       // what it gave was wrong
)

// penaltyKey is an object at a mirror.
type penaltyKey struct {
	mirror string
	loc    proto.Location
}

type penalty struct {
	fault fault
	until time.Time
}

// penalties are the recent faults of mirrors, by object. Safe for concurrent use.
type penalties struct {
	of *expiring.Map[penaltyKey, penalty]
}

func newPenalties() penalties { return penalties{expiring.New[penaltyKey, penalty](maxPenalties)} }

// note remembers a fault. A heavier fault that still counts is not replaced.
func (s penalties) note(mirror string, loc proto.Location, f fault) {
	now := time.Now()
	lasts := penaltyFor
	if f != brokeOff {
		lasts = wrongContentFor
	}
	s.of.Update(penaltyKey{mirror, loc}, now, func(was penalty, _ bool) (penalty, time.Time) {
		until := now.Add(lasts)
		return penalty{max(f, was.fault), until}, until
	})
}

// get returns the fault of a mirror with an object, and how long it counts.
func (s penalties) get(mirror string, loc proto.Location) (fault, time.Time) {
	one, _ := s.of.Get(penaltyKey{mirror, loc}, time.Now())
	return one.fault, one.until
}

// count returns for each mirror the number of objects with a penalty.
func (s penalties) count() map[string]int {
	n := make(map[string]int)
	s.of.Each(time.Now(), func(key penaltyKey, _ penalty) { n[key.mirror]++ })
	return n
}

// Blame reports that a body has the wrong length or the wrong digest. from are the mirrors
// that gave bytes of it, as Transfer.From names them. A single mirror is corrupt: for a while
// it is asked for this object after all others, and wrong content of more objects opens its
// breaker. Of several mirrors, each is suspected for this object only: they are asked one at a
// time, after the other mirrors.
func (c *Client) Blame(loc proto.Location, from []string, err error) {
	if len(from) == 1 {
		if h := c.healthOf(sourceName(from[0])); h != nil {
			madeUp, _ := c.madeUp.Get(loc, time.Now())
			c.wrong(h, loc, madeUp, err)
		}
		return
	}
	for _, name := range from {
		c.penalties.note(sourceName(name), loc, suspected)
	}
}

// sourceName returns the source of the bytes, from a Transfer.From: the mirror, or the host that
// it redirected to.
func sourceName(from string) string {
	mirror, host, redirected := strings.Cut(from, fromHost)
	if redirected {
		return host
	}
	return mirror
}
