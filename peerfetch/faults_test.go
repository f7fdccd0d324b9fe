package peerfetch

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

var (
	errAnswered = &proto.Unavailable{Reason: "503", Answered: true}
	errPathless = &proto.Unavailable{Reason: "no route to host"}
)

// faultCase is one way for a source to fail, and what comes of it.
type faultCase struct {
	name string
	peer fault
	// up is the same fault of upstream, as seen by the node that goes there; nil
	// where upstream cannot do this.
	up func(answer, int64) answer
	// ends says whether err is what readers get in the end; nil: they get the body.
	ends func(err error) bool
}

func faultCases(size int64) []faultCase {
	half := size / 2
	is := func(target error) func(error) bool {
		return func(err error) bool { return errors.Is(err, target) }
	}
	unavailable := func(err error) bool { return errors.As(err, new(*proto.Unavailable)) }
	fails := func(err error) func(answer, int64) answer {
		return func(answer, int64) answer { return answer{err: err} }
	}
	changed := func(a answer, change func(io.Reader) io.Reader) answer {
		a.body = change(a.body)
		return a
	}
	return []faultCase{
		{name: "refuses", peer: refuses, up: fails(errPathless)},
		{name: "blackholes", peer: blackholes},
		{name: "cuts at 0", peer: cuts(0)},
		{name: "cuts at half", peer: cuts(half), up: func(a answer, offset int64) answer {
			return changed(a, func(r io.Reader) io.Reader {
				return io.MultiReader(io.LimitReader(r, max(half-offset, 0)), &failing{errPathless})
			})
		}},
		{name: "cuts before the last byte", peer: cuts(size - 1)},
		{name: "stalls at half", peer: stalls(half)},
		{name: "flips the first byte", peer: flips(0)},
		{name: "flips the last byte", peer: flips(size - 1), up: func(a answer, offset int64) answer {
			return changed(a, func(r io.Reader) io.Reader { return &flipped{r, offset, size - 1} })
		}, ends: is(proto.ErrCorrupt)},
		{name: "goes on after the end", peer: lengthens},
		{name: "gives another size", peer: wrongSize, up: func(a answer, _ int64) answer {
			a.size++
			return a
		}, ends: is(proto.ErrCorrupt)},
		{name: "says not held", peer: saysNotHeld},
		{name: "says busy", peer: saysBusy},
		{name: "reports 404", peer: reports(proto.ErrNotFound), up: fails(proto.ErrNotFound), ends: is(proto.ErrNotFound)},
		{name: "reports 403", peer: reports(&proto.Refused{Status: 403}), up: fails(&proto.Refused{Status: 403}),
			ends: func(err error) bool { return errors.As(err, new(*proto.Refused)) }},
		{name: "reports 503", peer: reports(errAnswered), up: fails(errAnswered), ends: unavailable},
		{name: "reports corruption", peer: reports(proto.ErrCorrupt), ends: is(proto.ErrCorrupt)},
		{name: "reports corruption at half", peer: reportsAt(half, proto.ErrCorrupt), ends: is(proto.ErrCorrupt)},
		{name: "reports 503 at half", peer: reportsAt(half, errAnswered), ends: unavailable},
		{name: "cannot reach upstream", peer: reports(errPathless)},
		{name: "loses upstream at half", peer: reportsAt(half, errPathless)},
	}
}

// lies are faults that change what arrives without anybody's saying so.
var lies = []string{"flips the first byte", "flips the last byte", "goes on after the end", "gives another size"}

// position is where in the order of sources the faulty one stands. The requester is x.
type position struct {
	name  string
	ring  []string
	holds string // a node that has the object
	// fetches is how many of them upstream may see when the source fails.
	fetches int
}

var positions = []position{
	{name: "holder", ring: []string{"o1", "o2", "x"}, holds: "h", fetches: 1},
	{name: "owner", ring: []string{"o1", "o2", "x"}, fetches: 2},
	{name: "second owner", ring: []string{"o1", "o2", "x"}, fetches: 2}, // the first one refuses
	{name: "self", ring: []string{"x", "o1", "o2"}, fetches: 1 + maxBarren + 1},
}

// TestAnySourceFails has one source do one wrong thing, wherever it stands in the
// order, whatever the object is and however many read it: whoever gets a body gets
// the right one, what can be healed is, and upstream is spared.
func TestAnySourceFails(t *testing.T) {
	for _, o := range objects() {
		for _, at := range positions {
			for _, f := range faultCases(int64(len(o.content))) {
				if at.name == "self" && f.up == nil {
					continue
				}
				if o.name == "named" && at.name == "self" && f.name == "gives another size" {
					continue // the one case where nobody knows better than upstream
				}
				if o.name == "unlisted" && at.name == "self" && f.name == "cuts at half" {
					continue // nothing tells that two halves belong together
				}
				if o.name == "unlisted" && slices.Contains(lies, f.name) && at.name != "holder" {
					continue // nothing proves an unlisted file
				}
				for _, readers := range o.readers {
					t.Run(fmt.Sprintf("%s/%s %s/%d", o.name, at.name, f.name, readers), func(t *testing.T) {
						bubble.Test(t, func(t *testing.T) { oneFault(t, o, at, f, readers) })
					})
				}
			}
		}
	}
}

func oneFault(t *testing.T, o object, at position, f faultCase, readers int) {
	c := newCluster(t, []string{"h", "o1", "o2", "x"}, o.archive())
	c.ring = func(string) []string { return at.ring }
	c.latency = func(string, string) time.Duration { return 5 * time.Millisecond }
	ends := f.ends
	if at.name != "self" && (f.up != nil && slices.Contains(lies, f.name)) {
		ends = nil // a peer's lie is not upstream's
	}
	if o.object.Listed() && (at.name != "self" || f.name != "flips the last byte" || o.name == "small") {
		ends = nil // one node's word about what is listed is not enough, unless readers have had wrong bytes
	}
	faulty := at.holds
	switch at.name {
	case "owner":
		faulty = "o1"
	case "second owner":
		faulty = "o2"
		c.setFault("o1", refuses)
	}
	if at.holds != "" && o.name != "unlisted" {
		c.nodes[at.holds].hold(t, o.content)
	}
	if at.holds != "" && o.name == "unlisted" {
		ends = nil // it is not looked for among holders
	}
	if faulty != "" {
		c.setFault(faulty, f.peer)
	} else {
		healthy := c.up.script
		c.nodes["x"].up.corrupt(func(r proto.Request) answer { return f.up(healthy(0, r), r.Offset) })
	}

	began := time.Now()
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			var err error
			for range 4 { // as apt does
				if _, err = c.nodes["x"].expect(o.content, o.object); err == nil || ends != nil {
					break
				}
				time.Sleep(time.Second)
			}
			switch {
			case ends == nil && err != nil:
				t.Errorf("not healed: %v", err)
			case ends != nil && (err == nil || !ends(err)):
				t.Errorf("ended with %v", err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	most := at.fetches
	if o.name == "named" && f.name == "gives another size" {
		most++ // it takes another node to contradict, and nobody can say who is right
	}
	if got := c.up.count() + c.nodes["x"].up.corrupted(); got > most {
		t.Errorf("%d fetches from upstream, want no more than %d; x asked %s", got, most, c.asked("x"))
	}
	c.check(t)
	c.close()
}
