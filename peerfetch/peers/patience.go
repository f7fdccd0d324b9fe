package peers

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// crowdOf is how many transfers may share a connection before each is allowed
	// to be slower and more silent: what counts then is that the connection as a
	// whole delivers. Else a busy but healthy link would have its transfers given
	// up one by one, and each would begin anew at another peer.
	crowdOf = 8
	// tooLate is how far a connection may be behind with what the peer has sent
	// before it counts as slow.
	tooLate = time.Second
)

// watchdog gives a download up when it waits too long for a frame.
type watchdog struct {
	p      *peer
	giveUp context.CancelCauseFunc

	mu       sync.Mutex
	patience time.Duration // guarded by mu, as all below
	why      error
	timer    *time.Timer
	waiting  bool
	began    time.Time // of the present wait
}

// be sets how long a wait may last from now on, and why it is given up then.
func (w *watchdog) be(patience time.Duration, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patience, w.why = patience, why
}

// start begins a wait, which stop ends.
func (w *watchdog) start(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.began = true, now
	if w.timer == nil {
		w.timer = time.AfterFunc(w.patience, w.overdue)
	} else {
		w.timer.Reset(w.patience)
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	if w.timer != nil {
		w.timer.Stop()
	}
}

// overdue is called when a wait has lasted as long as patience allows, and now
// and then too early, where the timer was reset while it fired.
func (w *watchdog) overdue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.waiting {
		return
	}
	now := time.Now()
	waited, limit := now.Sub(w.began), w.patience
	if now.Sub(w.p.pulse.lastAt()) < w.patience { // something arrives, if not for this one
		limit *= time.Duration(w.p.crowd())
	}
	if waited < limit {
		w.timer.Reset(min(limit-waited, w.patience))
		return
	}
	w.giveUp(fmt.Errorf("%w for %v", w.why, waited.Round(time.Millisecond)))
}

// leastProgress is how many bytes count as progress. Fewer bytes, in the time that overdue gives,
// do not count: a peer must not be able to delay a transfer with a byte now and then.
const leastProgress = 16 << 10

// progress is how long a transfer has made no progress. Like pace, it counts only the time spent
// waiting for the connection.
type progress struct {
	waited time.Duration // since the last leastProgress bytes
	bytes  int64         // in that time
}

// took records a frame of n bytes that was waited for.
func (v *progress) took(n int64, waited time.Duration) {
	if v.bytes += n; v.bytes >= leastProgress {
		*v = progress{}
		return
	}
	v.waited += waited
}

// pace is how fast a connection delivers what the peer has. It looks only at the
// time spent waiting for the connection: a reader that takes its time is not the
// peer's fault.
type pace struct {
	floor  int64 // bytes per second; negative: none
	window time.Duration

	waited   time.Duration // in the present window
	bytes    int64         // in the present window
	crowd    int           // the most in the present window
	quickest time.Duration // delay of any frame so far, on the peer's clock
	delayed  bool          // quickest is known
}

// late is how far the connection is behind with a frame of that delay. Delays are
// relative to any point in time: they are compared with the least delay only.
func (p *pace) late(delay time.Duration) time.Duration {
	if !p.delayed || delay < p.quickest {
		p.quickest, p.delayed = delay, true
	}
	return delay - p.quickest
}

// arrived records a frame of n bytes that was waited for. behind says that the peer had more
// to send when the frame arrived; otherwise a slow frame does not count. The error says that
// the connection is too slow for a transfer that shares it with crowd times crowdOf others.
func (p *pace) arrived(n int64, waited time.Duration, behind bool, crowd int) error {
	if !behind {
		p.waited, p.bytes, p.crowd = 0, 0, 0
		return nil
	}
	p.waited += waited
	p.bytes += n
	p.crowd = max(p.crowd, crowd)
	if p.waited < p.window {
		return nil
	}
	rate, floor := float64(p.bytes)/p.waited.Seconds(), float64(p.floor)/float64(p.crowd)
	if p.crowd > 1 {
		floor /= 2 // transfers do not share a connection evenly
	}
	p.waited, p.bytes, p.crowd = 0, 0, 0
	if rate < floor {
		return fmt.Errorf("%w: %.0f bytes/s where it has more to give, and %.0f is the least", errTooSlow, rate, floor)
	}
	return nil
}
