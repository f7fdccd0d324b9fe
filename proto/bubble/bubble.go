// Package bubble runs tests in a bubble of testing/synctest, with fake time.
//
// It exists for one fault of Go 1.26: all timers of a bubble share one context
// of the race detector, and two processors that run timers at the same moment
// corrupt it, which ends the test binary with SIGSEGV somewhere in the race
// detector's own code. Go 1.27 gives each processor a context
// (runtime.(*timer).unlockAndRun). Until then a bubble under the race detector
// has one processor. The detector finds races by what happens before what, so
// it loses little by that.
//
// It is for tests only, and knows nothing of aptmesh.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test, safe with the race detector of Go 1.26. Tests that run
// in parallel may call it.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if oneProcessor {
		defer processors.limit()()
	}
	synctest.Test(t, f)
}

var processors limiter

// limiter holds GOMAXPROCS at 1 while anybody wants that.
type limiter struct {
	mu     sync.Mutex
	users  int
	before int
}

// limit lasts until the function that it returns has been called.
func (l *limiter) limit() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users++; l.users == 1 {
		l.before = runtime.GOMAXPROCS(1)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.users--; l.users == 0 {
			runtime.GOMAXPROCS(l.before)
		}
	}
}
