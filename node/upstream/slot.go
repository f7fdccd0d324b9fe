package upstream

import (
	"context"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// phase is what the holder of a slot is doing.
type phase uint8

const (
	connecting phase = iota // waits for a connection
	asking                  // waits for the header of the answer
	reading                 // waits for the next bytes of the body
	resting                 // waits for nothing: its caller is busy with the bytes it has
	throttled               // waits for the byte-rate limit
)

// progressBytes is what a transfer must receive to count as going on when others
// wait for its slot: one that drips a byte at a time is as good as stalled.
const progressBytes = 1 << 10

// slot is the right to one connection to a host, and the clock that measures how long its
// holder has been waiting for the host.
type slot struct {
	class  proto.Class // guarded by scheduler.mu
	client string      // "" where it is not known
	waiter *waiter
	cancel context.CancelCauseFunc // ends what the holder is doing, and its connection

	mu      sync.Mutex
	asked   time.Time // when the slot was handed out; guarded by mu, as all below
	header  time.Time // when the header of the answer was here; zero before
	phase   phase
	since   time.Time     // when the phase began
	waited  time.Duration // spent reading, in earlier reads, since the last progress
	fresh   int           // bytes received since the last progress
	evicted bool          // the slot was taken away
}

// begin notes that the slot is handed out.
func (p *slot) begin() {
	now := time.Now()
	p.mu.Lock()
	p.asked, p.since = now, now
	p.mu.Unlock()
}

// begun returns when the slot was handed out.
func (p *slot) begun() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// receiving returns for how long the header of the answer has been here; 0 before.
func (p *slot) receiving() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.header.IsZero() {
		return 0
	}
	return time.Since(p.header)
}

// enter begins a phase.
func (p *slot) enter(ph phase) {
	now := time.Now()
	p.mu.Lock()
	if p.header.IsZero() && ph != connecting && ph != asking {
		p.header = now
	}
	if p.phase == reading {
		p.waited += now.Sub(p.since)
	}
	p.phase, p.since = ph, now
	p.mu.Unlock()
}

// received ends a read that brought n bytes.
func (p *slot) received(n int) {
	p.enter(resting)
	p.mu.Lock()
	if p.fresh += n; p.fresh >= progressBytes {
		p.fresh, p.waited = 0, 0
	}
	p.mu.Unlock()
}

// now returns the phase and how long it has been going on.
func (p *slot) now() (phase, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase, time.Since(p.since)
}

// quiet returns the phase and for how long the holder has made no progress. Time
// that the holder spent on other things than waiting for the host is left out.
func (p *slot) quiet() (phase, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.phase {
	case connecting, asking:
		return p.phase, time.Since(p.asked)
	case reading:
		return p.phase, p.waited + time.Since(p.since)
	case resting:
		return p.phase, time.Since(p.since)
	}
	return p.phase, 0
}

// evict takes the slot away: its holder's next step fails with cause.
func (p *slot) evict(cause error) {
	p.mu.Lock()
	p.evicted = true
	p.mu.Unlock()
	p.cancel(cause)
}

func (p *slot) wasEvicted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.evicted
}
