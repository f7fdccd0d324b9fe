package cluster

import (
	"fmt"
	"testing"

	"github.com/aptmesh/aptmesh/ring"
)

// TestShares: what all nodes together may do is what one node alone may do, for any
// number of them.
func TestShares(t *testing.T) {
	l := &limits{connections: 8, bytesPerSecond: 80 << 20, hosts: map[string][]string{
		"ubuntu": {"http://archive.ubuntu.com", "http://mirror.example.org"}, "security": {"http://security.ubuntu.com"}, "again": {"http://mirror.example.org", "http://archive.ubuntu.com"},
	}}
	for _, n := range []int{1, 2, 3, 5, 8, 9, 50} {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("node%d", i))
		}
		r, err := ring.New(names)
		if err != nil {
			t.Fatal(err)
		}
		v := &ring.View{Ring: r}
		connections, rate := make(map[string]int), int64(0)
		for _, name := range names {
			s := l.shareOf(name, v)
			none := true
			for host, c := range s.connections {
				connections[host] += c
				none = none && c == 0
			}
			if !none {
				rate += s.rate
			}
		}
		for host, c := range connections {
			if c != l.connections {
				t.Errorf("%d nodes: %d connections to %s, want %d", n, c, host, l.connections)
			}
		}
		if rate > l.bytesPerSecond || rate < l.bytesPerSecond*99/100 {
			t.Errorf("%d nodes: %d bytes per second, want %d", n, rate, l.bytesPerSecond)
		}
	}
	empty, _ := ring.New(nil)
	if s := l.shareOf("node0", &ring.View{Ring: empty}); s.rate != l.bytesPerSecond || s.connections["http://archive.ubuntu.com"] != 8 || s.others != 8 {
		t.Errorf("where nobody owns: %+v", s)
	}
}

// TestShareIsLoweredAtOnce: of two shares, what holds at once is the lower one in
// each respect.
func TestShareIsLoweredAtOnce(t *testing.T) {
	before := share{connections: map[string]int{"a": 2, "b": 5}, others: 3, rate: 100}
	next := share{connections: map[string]int{"a": 4, "b": 1, "new": 7}, others: 2, rate: 200}
	low := next.lower(before)
	if low.connections["a"] != 2 || low.connections["b"] != 1 || low.connections["new"] != 7 || low.others != 2 || low.rate != 100 {
		t.Errorf("%+v", low)
	}
	if low := (share{rate: 0}).lower(before); low.rate != 100 {
		t.Errorf("a cap that is lifted waits, too: %d", low.rate)
	}
	if low := (share{rate: 50}).lower(share{rate: 0}); low.rate != 50 {
		t.Errorf("a cap that is new holds at once: %d", low.rate)
	}
}
