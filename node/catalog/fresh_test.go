package catalog

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// Who holds nothing yet gets what the leader has, though upstream is down and the
// client wants it checked.
func TestFreshFirstContactWithUpstreamDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 2)
		f.up.failing("", &proto.Unavailable{Reason: "503", Answered: true})
		f.set(func() { f.gossip = false })
		late := f.add().start()
		if e, err := late.Discover(t.Context(), late.loc(nobleIn), true); err != nil || e.Object.Ref != refOfBytes(late.file(nobleIn)) {
			t.Errorf("%+v, %v", e, err)
		}
		if n := late.up.requests(nobleIn); n != 0 {
			t.Errorf("it asked upstream %d times, which answers nobody", n)
		}
		// There is none, and that is final.
		f.up.setFault(nil)
		if _, err := late.get("dists/none/InRelease"); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("%v", err)
		}
		if n := f.up.requests("dists/none/InRelease"); n != 1 {
			t.Errorf("%d nodes asked for what is not there", n)
		}
		time.Sleep(5 * time.Second)
		for _, n := range f.nodes {
			if len(n.suiteNames()) != 1 {
				t.Errorf("%s: %v", n.name, n.suiteNames())
			}
		}
	})
}

// A client that wants the newest is not content with a look that another node made a
// while ago.
func TestFreshJoinsNoOtherQuestion(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 2, k)
		n := f.nodes[1]
		f.unlooked()
		f.set(func() { f.way = 200 * time.Millisecond })
		go n.noble().request(t.Context(), suite.Request{})
		time.Sleep(time.Millisecond)
		f.upgrade("2")
		if e, err := n.Discover(t.Context(), n.loc(f.root), true); err != nil || e.Object.Ref != refOfBytes(n.file(f.root)) {
			t.Errorf("%v, %v", e.Generation, err)
		}
	})
}

// An operator who refreshes any node sees what upstream has at that moment.
func TestRefreshInACluster(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 3, k)
		for i := range 5 {
			f.nodes[0].Discover(t.Context(), f.nodes[0].loc(f.root), true) // has just looked
			f.upgrade(fmt.Sprint(i + 2))
			if changed, err := f.nodes[2].refresh(); !changed || err != nil {
				t.Errorf("changed %v, %v", changed, err)
			}
			f.nodes[2].listedAs(f.root, f.nodes[2].file(f.root))
			time.Sleep(1300 * time.Millisecond) // or the two would be of one date
		}
		if n := f.nodes[2].up.requests(f.root); n != 0 {
			t.Errorf("it asked upstream %d times", n)
		}
	})
}

// A fresh node takes what the others hold, and asks upstream for nothing.
func TestFreshNodeJoins(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 3)
		f.nodes[1].use(nobleTrans)
		f.settled(5 * time.Minute)
		late := f.add().start()
		f.set(func() { late.slow = 20 * time.Second }) // the indices are large, and far away
		start := time.Now()
		late.must(nobleIn)
		if n := late.up.requests(nobleIn); n != 0 || time.Since(start) > time.Second {
			t.Errorf("it asked upstream %d times, and took %v", n, time.Since(start))
		}
		f.settled(time.Minute)
		f.agree(noblePkgs)
		if st := late.Stats()[0]; len(st.Staged) != 2 {
			t.Errorf("it does not hold what clients of the others use: %v", st.Staged)
		}
		// One that nobody asks hears of it all the same.
		quiet := f.add().start()
		time.Sleep(2 * time.Minute)
		f.agree(noblePkgs, nobleTrans)
		if n := late.up.requests(nobleIn) + quiet.up.requests(nobleIn); n != 0 {
			t.Errorf("they asked upstream %d times", n)
		}
	})
}

// A node that comes back does not serve for an interval what the others have gone on
// from.
func TestRestartCatchesUp(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 3, k)
		f.set(func() { f.gossip = false })
		for i, n := range []*clusterNode{f.nodes[2], f.nodes[0]} {
			f.nodes[1].Discover(t.Context(), n.loc(f.root), true) // all have just looked
			n.stop()
			f.forget()
			f.upgrade(fmt.Sprint(i + 2))
			time.Sleep(20 * time.Second)
			f.nodes[1].Discover(t.Context(), n.loc(f.root), true)
			time.Sleep(time.Second)
			n.resume()
			f.settled(time.Second)
			f.agree(f.index())
			if k := n.up.requests(f.root); k > i { // the one that leads must
				t.Errorf("%s asked upstream %d times", n.name, k)
			}
		}
	})
}

// Every client of every node wants the new one at the moment it is published.
func TestFreshStorm(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 5, k)
		old := f.nodes[0].date()
		f.unlooked()
		f.forget()
		f.upgrade("2")
		published := refOfBytes(f.nodes[0].file(f.root))
		done := make(chan time.Time, 200)
		for i := range 200 {
			go func() {
				n := f.nodes[i%5]
				e, err := n.Discover(t.Context(), n.loc(f.root), true)
				if err != nil {
					t.Error(err)
				}
				index, ok := n.Resolve(n.loc(f.index()))
				if !ok || index.Generation.Before(e.Generation) {
					t.Errorf("%s: the index is of %v, the Release of %v", n.name, index.Generation, e.Generation)
				}
				if e.Object.Ref != published {
					t.Errorf("%s gave the Release of %v", n.name, e.Generation)
				}
				done <- e.Generation
			}()
		}
		for range 200 {
			if got := <-done; !got.After(old) {
				t.Error("a client got the old one")
			}
		}
		if n := f.polls(); n > 2 {
			t.Errorf("upstream was asked %d times", n)
		}
		f.agree(f.index(), f.own())
		for path, n := range f.up.bodiesByPath() {
			if n > 1 && path != f.root && path != k.signature { // of the root, whoever insists has all of it asked for
				t.Errorf("%s was read %d times from upstream", path, n)
			}
		}
		// And goes on wanting it.
		f.forget()
		start := time.Now()
		for time.Since(start) < time.Minute {
			for _, n := range f.nodes {
				go n.Discover(t.Context(), n.loc(f.root), true)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := f.polls(); n > 70 {
			t.Errorf("in a minute upstream was asked by %s", f.polled())
		}
		if f.messages() > 4*4 {
			t.Errorf("%d messages in a minute", f.messages())
		}
		if f.questions() > 4*61 {
			t.Errorf("%d questions in a minute", f.questions())
		}
	})
}
