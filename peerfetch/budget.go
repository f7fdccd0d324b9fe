package peerfetch

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// How often upstream is asked again for an object that it cannot give us. The
// first tries are free, so that the first request after upstream has healed
// succeeds; after that there is a pause behind each failure, no longer than apt is
// willing to wait (30 s). Content that is wrong is thus asked for three times in
// any minute, at most.
var (
	corruptAllowance  = allowance{free: 2, within: time.Minute, pause: 30 * time.Second}
	notFoundAllowance = allowance{free: 3, within: 5 * time.Second, pause: 5 * time.Second}
)

type allowance struct {
	free   int           // so many failures
	within time.Duration // in so long cost nothing,
	pause  time.Duration // and so long after the last one there is another try
}

// maxPenalties bounds the memory that bad objects may take.
const maxPenalties = 4096

// attempt is an object at one of its names. They are counted apart: a canonical
// name that is out of step must not keep us from the by-hash name. An attempt
// without a name is one by way of other nodes, whichever they are.
type attempt struct {
	key key
	loc proto.Location
}

// budget remembers recent failures per attempt, so that one bad object cannot
// make us hammer upstream.
type budget struct {
	mu        sync.Mutex
	penalties map[attempt]*penalty // guarded by mu
}

// held is the error of an attempt that was not made: what the last one ended with.
type held struct{ err error }

func (h *held) Error() string { return h.err.Error() }
func (h *held) Unwrap() error { return h.err }

type penalty struct {
	times []time.Time // of the failures, oldest first
	allowance
	until time.Time // upstream's own Retry-After
	err   error
}

// answered reports whether upstream gave the last error itself.
func (p *penalty) answered() bool {
	var busy *proto.Unavailable
	return errors.As(p.err, &busy) && busy.Answered
}

func newBudget() *budget { return &budget{penalties: make(map[attempt]*penalty)} }

// allowAny returns nil if upstream may be asked for the object at any of its
// names, else what the last tries ended with: that there is no such thing only if
// they all did, for a client takes that as final.
func (b *budget) allowAny(k key, where []proto.Location, now time.Time) error {
	var said error
	for _, loc := range where {
		err := b.allow(attempt{k, loc}, now)
		if err == nil {
			return nil
		}
		if said == nil || errors.Is(said, proto.ErrNotFound) {
			said = err
		}
	}
	return said
}

// allow returns nil if upstream may be asked for k now, else a *held error: what
// the last try ended with, and how long to wait if that may help.
func (b *budget) allow(k attempt, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.penalties[k]
	if !ok {
		return nil
	}
	if wait := p.until.Sub(now); wait > 0 {
		return &held{&proto.Unavailable{Reason: "upstream asked us to wait", RetryAfter: wait, Answered: p.answered(), Err: p.err}}
	}
	p.forget(now)
	if len(p.times) == 0 {
		delete(b.penalties, k)
		return nil
	}
	wait := p.times[len(p.times)-1].Add(p.pause).Sub(now)
	if len(p.times) < p.free || wait <= 0 {
		return nil
	}
	if !errors.Is(p.err, proto.ErrCorrupt) {
		return &held{p.err} // "not found" is final, and better said so than "ask again"
	}
	return &held{&proto.Unavailable{Reason: fmt.Sprintf("%d tries failed lately", len(p.times)), RetryAfter: wait, Answered: true, Err: p.err}}
}

func (p *penalty) forget(now time.Time) {
	for len(p.times) > 0 && now.Sub(p.times[0]) >= p.within {
		p.times = p.times[1:]
	}
}

// failed counts a failure of k. Trouble that may pass is only remembered for as
// long as upstream asked us to wait.
func (b *budget) failed(k attempt, err error, now time.Time) {
	var busy *proto.Unavailable
	next := penalty{err: err}
	switch {
	case errors.Is(err, proto.ErrCorrupt):
		next.allowance = corruptAllowance
	case errors.Is(err, proto.ErrNotFound), errors.As(err, new(*proto.Refused)):
		next.allowance = notFoundAllowance
	case errors.As(err, &busy) && busy.RetryAfter > 0:
		next.until = now.Add(min(busy.RetryAfter, 30*time.Second))
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.penalties[k]
	if !ok {
		if len(b.penalties) >= maxPenalties {
			b.sweep(now)
		}
		p = &penalty{}
		b.penalties[k] = p
	}
	p.err, p.until = next.err, next.until
	if next.free > 0 {
		p.allowance = next.allowance
		p.times = append(p.times, now)
		p.forget(now)
	}
}

// sweep makes room: first what is over, then whatever comes to hand.
func (b *budget) sweep(now time.Time) {
	for k, p := range b.penalties {
		if p.forget(now); len(p.times) == 0 && now.After(p.until) {
			delete(b.penalties, k)
		}
	}
	for k := range b.penalties {
		if len(b.penalties) < maxPenalties {
			return
		}
		delete(b.penalties, k)
	}
}

// succeeded forgets the failures of k.
func (b *budget) succeeded(k attempt) {
	b.mu.Lock()
	delete(b.penalties, k)
	b.mu.Unlock()
}
