package cluster

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

// TestOutbox: what is put while a round is told waits for the next one, as one and
// in the order in which it came.
func TestOutbox(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var o outbox[string, int]
		o.init()
		var rounds [][]int
		sum := func(before, v int) int { return before + v }
		o.put("a", 1, nil) // before anybody tells
		o.put("b", 2, nil)
		o.put("a", 3, nil)
		began := time.Now()
		o.start(func(all []int) {
			rounds = append(rounds, slices.Clone(all))
			time.Sleep(time.Second)
		})
		synctest.Wait()
		o.put("d", 10, sum)
		o.put("c", 20, sum)
		o.put("d", 30, sum)
		o.put("a", 7, sum) // told before
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it took %v to have something told", waited)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		o.put("late", 1, nil) // in the middle of the second round
		o.stop()
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("stopped after %v, in the middle of a round", took)
		}
		o.put("never", 1, nil)
		synctest.Wait()
		if len(rounds) < 2 || !slices.Equal(rounds[0], []int{3, 2}) || !slices.Equal(rounds[1], []int{40, 20, 7}) {
			t.Errorf("told %v", rounds)
		}
		for _, round := range rounds[2:] {
			if !slices.Equal(round, []int{1}) || len(rounds) > 3 {
				t.Errorf("told %v", rounds)
			}
		}
		o.stop() // again, as after a start that failed
	})
}

func TestOutboxThatNeverStarted(t *testing.T) {
	var o outbox[string, int]
	o.init()
	o.put("a", 1, nil)
	o.stop()
}
