package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// What clients use anywhere is staged everywhere before the switch.
func TestUnionIsStagedBeforeTheSwitch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 4)
		f.nodes[1].use(nobleTrans)
		f.nodes[3].use(universePkgs)
		time.Sleep(4 * time.Minute)
		f.upgrade("2")
		f.settled(2 * time.Minute)
		f.agree(noblePkgs)
		f.up.failing("", &proto.Unavailable{Reason: "down"})
		for _, n := range f.nodes {
			if st := n.Stats()[0]; len(st.Staged) != 3 {
				t.Errorf("%s staged %v", n.name, st.Staged)
			}
			for _, path := range []string{noblePkgs, nobleTrans, universePkgs} {
				if _, err := n.keeper.Get(refOfBytes(n.file(path)).Digest); err != nil {
					t.Errorf("%s does not hold %s", n.name, path)
				}
			}
		}
	})
}

// An index that clients of another node use, and that cannot be had, holds back
// nobody else for long.
func TestOthersUseIsWaitedForWithPatience(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 3)
		f.nodes[2].use(universePkgs)
		f.settled(5 * time.Minute)
		f.a.AddPackage("noble", testarchive.Package{Name: "world", Version: "2", Component: "universe"})
		f.upgrade("2")
		f.up.failing("universe", proto.ErrNotFound)
		f.settled(70 * time.Second)
		for _, n := range f.nodes {
			if n.nobleNow().Root == refOfBytes(n.file(nobleIn)) {
				t.Errorf("%s has switched without what clients elsewhere need", n.name)
			}
		}
		f.settled(5 * time.Minute)
		for i, n := range f.nodes {
			if got := n.nobleNow().Root == refOfBytes(n.file(nobleIn)); got != (i < 2) {
				t.Errorf("%s has switched: %v", n.name, got)
			}
		}
		f.up.setFault(nil)
		f.settled(time.Minute)
		f.agree(noblePkgs, universePkgs)
	})
}

// What nobody uses any more is staged nowhere, however much the nodes talk.
func TestUsesDieOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3).slowly()
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.must(nobleIn)
			n.use(noblePkgs)
		}
		f.nodes[1].use(nobleTrans)
		f.nodes[2].use(universePkgs)
		days := func(k int) {
			for range k * 4 {
				time.Sleep(6 * time.Hour)
				for _, n := range f.nodes {
					n.must(nobleIn)
					n.must(noblePkgs)
				}
			}
		}
		days(6)
		f.upgrade("2")
		f.settled(20 * time.Minute)
		for _, n := range f.nodes {
			if st := n.Stats()[0]; len(st.Staged) != 3 {
				t.Errorf("%s: %v is staged after 6 days", n.name, st.Staged)
			}
		}
		days(4)
		f.upgrade("3")
		f.settled(20 * time.Minute)
		for _, n := range f.nodes {
			if st := n.Stats()[0]; len(st.Staged) != 1 || n.othersUses() > 1 {
				t.Errorf("%s: %v is staged after 10 days, others use %v", n.name, st.Staged, n.othersUses())
			}
		}
	})
}

// The uses of a node that is gone are forgotten sooner.
func TestUsesOfADeadNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3).slowly()
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.must(nobleIn)
			n.use(noblePkgs)
		}
		f.nodes[2].use(universePkgs)
		f.settled(time.Hour)
		f.set(func() { f.dead["n3"] = true })
		for range 10 {
			time.Sleep(6 * time.Hour)
			for _, n := range f.nodes[:2] {
				n.must(nobleIn)
				n.must(noblePkgs)
			}
		}
		f.upgrade("2")
		time.Sleep(20 * time.Minute)
		for _, n := range f.nodes[:2] {
			if st := n.Stats()[0]; len(st.Staged) != 1 {
				t.Errorf("%s: %v", n.name, strings.Join(st.Staged, " "))
			}
		}
	})
}
