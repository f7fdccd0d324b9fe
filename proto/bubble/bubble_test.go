package bubble

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// Without the limit this ends with SIGSEGV under -race and Go 1.26.
func TestTimersThatAreDueAtOnce(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("bubble", func(t *testing.T) {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 5000 {
						fired := make(chan struct{})
						time.AfterFunc(0, func() { close(fired) })
						<-fired
					}
				})
			}
			all.Wait()
		})
	})
	if now := runtime.GOMAXPROCS(0); now != before {
		t.Errorf("%d processors after the bubble, %d before it", now, before)
	}
}
