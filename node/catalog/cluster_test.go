package catalog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	universePkgs = "dists/noble/universe/binary-amd64/Packages.xz"
	hourOfChecks = 60 // of a suite that is checked every minute
)

// usedFleet is n nodes whose clients use the index, an hour later.
func usedFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := newFleet(t, n)
	f.publish()
	f.start()
	for _, n := range f.nodes {
		n.must(nobleIn)
		n.use(noblePkgs)
	}
	f.settled(5 * time.Minute)
	f.agree(noblePkgs)
	f.forget()
	return f
}

func TestSwitchEverywhere(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 5, k)
		f.set(func() { f.blind = true }) // it goes faster than the nodes tell what they hold
		var first time.Time
		f.set(func() {
			f.onTell = func(string, proto.Announcement) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if first.IsZero() {
					first = time.Now()
				}
			}
		})
		time.Sleep(2 * time.Minute) // what is told now is no switch
		f.set(func() { first = time.Time{} })
		f.upgrade("2")
		want := refOfBytes(f.nodes[0].file(f.root))
		for range 700 { // the leader's next look, then a second
			time.Sleep(100 * time.Millisecond)
			all := true
			for _, n := range f.nodes {
				all = all && n.now(f.suite).Root == want
			}
			if all {
				break
			}
		}
		f.mu.Lock()
		took := time.Since(first)
		f.mu.Unlock()
		if took > time.Second {
			t.Errorf("the last node switched %v after the first", took)
		}
		f.agree(f.root, f.index(), f.own())
		if n := f.up.bodies(f.root); n != 1 {
			t.Errorf("the Release was read %d times from upstream", n)
		}
		for path, n := range f.up.bodiesByPath() {
			if n > 1 {
				t.Errorf("%s was read %d times from upstream", path, n)
			}
		}
	})
}

// What could not be staged is tried again soon, not when the others tell of it next.
func TestStagingIsTriedAgain(t *testing.T) {
	overIndexed(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 3, k)
		n := f.nodes[2]
		f.set(func() { n.cut = true })
		f.upgrade("2")
		for f.nodes[0].now(f.suite).Root != refOfBytes(n.file(f.root)) {
			time.Sleep(time.Second)
		}
		time.Sleep(8 * time.Second)
		if st := n.Stats()[0]; !errors.Is(st.Err, proto.ErrCorrupt) || st.Root == refOfBytes(n.file(f.root)) {
			t.Errorf("%+v", st)
		}
		f.set(func() { n.cut = false })
		f.settled(12 * time.Second)
		f.agree(f.index())
		if err := n.Stats()[0].Err; err != nil {
			t.Error(err)
		}
	})
}

// Nor when it had to be asked for.
func TestStagingIsTriedAgainUntold(t *testing.T) {
	overIndexed(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 2, k)
		n := f.nodes[1]
		f.unlooked()
		f.set(func() { n.cut, f.loss, f.gossip = true, 1, false })
		f.upgrade("2")
		if _, err := n.refresh(); err == nil {
			t.Error("it could be staged")
		}
		f.set(func() { n.cut = false })
		f.settled(12 * time.Second)
		f.agree(f.index())
	})
}

// Two that cannot be staged do not keep each other going.
func TestStagingOfTwo(t *testing.T) {
	overIndexed(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 3, k)
		n := f.nodes[2]
		f.set(func() { n.cut, f.dead["n2"] = true, true })
		f.upgrade("2")
		f.settled(70 * time.Second)
		f.set(func() { f.dead["n1"], f.dead["n2"] = true, false })
		f.upgrade("3")
		f.settled(4 * time.Minute)
		f.set(func() { clear(f.dead) })
		n.Receive("n1", f.nodes[0].Announcements()...)
		n.Receive("n2", f.nodes[1].Announcements()...)
		f.settled(time.Minute)
		f.mu.Lock()
		opened := 0
		for _, k := range n.opened {
			opened += k
		}
		f.mu.Unlock()
		if opened > 60 {
			t.Errorf("%d objects opened in six minutes", opened)
		}
		f.set(func() { n.cut = false })
		f.settled(time.Minute)
		f.agree(f.index())
	})
}

// What is offered while something newer is being adopted is no lie.
func TestOfferDuringAdoption(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 1)
		n := f.nodes[0]
		f.unlooked()
		f.upgrade("2")
		root := n.file(nobleIn)
		told := offerOf(root, time.Now().Add(-time.Second))
		f.set(func() { f.foreign[proto.DigestOf(root)] = root })
		time.Sleep(time.Second)
		f.upgrade("3")
		f.set(func() { n.slow = 20 * time.Second })
		go n.refresh()
		time.Sleep(time.Second)
		n.Receive("n9", told)
		f.settled(time.Minute)
		f.agree()
		if len(n.warnings()) != 0 {
			t.Errorf("%q", n.warnings())
		}
	})
}

// Messages of one node overtake each other.
func TestAnnouncementOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 1)
		f.up.failing("InRelease", &proto.Unavailable{Reason: "down"})
		n := f.nodes[0]
		var told []proto.Announcement
		for i := range 2 {
			time.Sleep(5 * time.Second)
			f.upgrade(fmt.Sprint(i + 2))
			root := n.file(nobleIn)
			told = append(told, offerOf(root, time.Now().Add(-time.Second)))
			f.set(func() { f.foreign[proto.DigestOf(root)] = root })
		}
		n.Receive("n9", told[1])
		n.Receive("n9", told[0])
		f.settled(time.Second)
		n.listedAs(nobleIn, n.file(nobleIn))
		if k := n.metric("aptmesh_catalog_generation_switches_total"); k != 2 {
			t.Errorf("%v switches", k)
		}
	})
}

// A new version that only one side of a partition has seen is everywhere when it
// heals, and nothing goes back.
func TestPartition(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 5, k)
		f.set(func() { f.side["n3"], f.side["n4"], f.side["n5"] = 1, 1, 1 })
		time.Sleep(3 * time.Hour)
		f.agree()
		f.upgrade("2")
		time.Sleep(2 * time.Minute)
		f.agree(f.index(), f.own()) // both sides have somebody to look
		if n := f.up.bodies(f.root); n > 4 {
			t.Errorf("the Release was read %d times", n)
		}
		for _, n := range f.nodes[2:] { // this side loses upstream, too
			n.up.failAll(&proto.Unavailable{Reason: "unreachable"})
		}
		f.upgrade("3")
		f.settled(6 * time.Hour)
		for _, n := range f.nodes {
			e, ok := n.Explain(n.loc(f.root))
			if cut := slices.Contains(f.nodes[2:], n); !ok || (e.Stale != "") != cut {
				t.Errorf("%s: stale %q", n.name, e.Stale)
			}
		}
		f.set(func() { clear(f.side) })
		f.settled(90 * time.Second)
		f.agree(f.index(), f.own())
		for _, n := range f.nodes {
			if e, _ := n.Explain(n.loc(f.root)); e.Stale != "" {
				t.Errorf("%s: stale %q", n.name, e.Stale)
			}
		}
	})
}

// With all hints and exchanges lost, what is told directly will do.
func TestNoGossip(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 5, k)
		f.set(func() { f.gossip = false })
		for _, v := range []string{"2", "3", "4"} {
			f.upgrade(v)
			f.settled(70 * time.Second)
			f.agree(f.index())
		}
		// And with none of that, either, nobody stays behind for long.
		f.set(func() { f.loss = 1 })
		f.forget()
		f.upgrade("5")
		f.settled(4 * time.Minute)
		f.agree(f.index())
		if n := f.up.bodies(f.root); n != 1 {
			t.Errorf("the Release was read %d times: %s", n, f.polled())
		}
	})
}
