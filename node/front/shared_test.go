package front

import (
	"fmt"
	"sync"
	"testing"
)

// Content types of all formats are shared between answers, and strange ones take up no more than so much.
func TestSharedValues(t *testing.T) {
	var s sharedValues
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 3 * maxShared {
				if v := fmt.Sprint(i); len(s.of(v)) != 1 || s.of(v)[0] != v {
					t.Errorf("%q is %q", v, s.of(v))
				}
			}
		})
	}
	all.Wait()
	if n := len(*s.made.Load()); n == 0 || n > maxShared {
		t.Errorf("%d values are kept", n)
	}
	s = sharedValues{}
	s.of("application/zstd")
	if n := testing.AllocsPerRun(100, func() { s.of("application/zstd") }); n != 0 {
		t.Errorf("%v allocations for a value that is there", n)
	}
}
