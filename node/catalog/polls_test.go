package catalog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// One poll per suite and interval, whatever the number of nodes and clients, and few
// words between the nodes.
func TestOnePollPerInterval(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := startedFleetOf(t, 5, k)
		f.forget()
		f.nodes[3].must(f.root) // not the one that leads
		if n := f.polls(); n != 1 || f.nodes[0].up.requests(f.root) != 1 {
			t.Errorf("the first client made %s ask upstream", f.polled())
		}
		f.settled(time.Second)
		f.agree() // though no client of theirs has asked
		for _, n := range f.nodes {
			n.use(f.root, f.index())
		}
		f.settled(time.Minute)
		f.forget()
		for range hourOfChecks {
			for _, n := range f.nodes {
				e, ok := n.Resolve(n.loc(f.root))
				if !ok || e.Stale != "" {
					t.Errorf("%s: %v, stale %q", n.name, ok, e.Stale)
				}
			}
			time.Sleep(time.Minute)
		}
		if n := f.polls(); n < 50 || n > 68 || f.nodes[0].up.requests(f.root) != n {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		if f.questions() > 5 {
			t.Errorf("%d questions in an hour", f.questions())
		}
		if f.messages() > 70*4 {
			t.Errorf("%d messages in an hour", f.messages())
		}
		for i, n := range f.nodes {
			if st := n.Stats()[0]; st.Rank != i || st.Leader != (i == 0) || st.Checked.Before(time.Now().Add(-2*time.Minute)) || (i > 0) != (st.AnnouncedBy != "") {
				t.Errorf("%s: %+v", n.name, st)
			}
		}
		if n := f.nodes[0].metric("aptmesh_suite_leader") + f.nodes[1].metric("aptmesh_suite_leader"); n != 1 {
			t.Errorf("%v lead", n)
		}
	})
}

// Nobody looks at upstream in place of a leader that has died until it is time; then
// one does, and not all at once.
func TestTakeOver(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 5, k)
		f.set(func() { f.dead["n1"] = true }) // which nobody knows yet
		f.upgrade("2")
		f.forget()
		died := time.Now()
		for f.polls() == f.nodes[0].up.requests(f.root) {
			time.Sleep(time.Second)
		}
		if took := time.Since(died); took < 50*time.Second || took > 4*time.Minute {
			t.Errorf("taken over after %v, by %s", took, f.polled())
		}
		f.settled(10 * time.Second)
		f.agree(f.index(), f.own())
		time.Sleep(10 * time.Minute)
		f.forget()
		time.Sleep(time.Hour)
		// The dead one goes on by itself.
		if n := f.polls() - f.nodes[0].up.requests(f.root); n < 20 || n > 66 {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		if n := f.nodes[3].up.requests(f.root) + f.nodes[4].up.requests(f.root); n > 2 {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		// Now it is known, and the next in line leads as a matter of course.
		f.set(func() { f.ill["n1"] = true })
		f.forget()
		time.Sleep(time.Hour)
		if n := f.nodes[1].up.requests(f.root); n < 50 || n > 68 || f.polls()-f.nodes[0].up.requests(f.root) != n {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		// It comes back.
		f.set(func() { clear(f.ill); clear(f.dead) })
		time.Sleep(2 * time.Minute)
		f.forget()
		time.Sleep(time.Hour)
		if n := f.nodes[0].up.requests(f.root); n < 50 || n > 68 || f.polls() != n {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
	})
}

// A look that failed is forgotten when another node has looked since.
func TestFailureIsForgiven(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 2, k)
		n := f.nodes[1]
		n.up.failAll(&proto.Unavailable{Reason: "no route"})
		for range 10 { // whether it asks first, or is told
			f.set(func() { f.dead["n1"] = true })
			time.Sleep(5 * time.Minute)
			if st := n.Stats()[0]; st.Err == nil || st.Stale == "" {
				t.Errorf("%+v", st)
			}
			f.set(func() { clear(f.dead) })
			f.settled(70 * time.Second)
			if st := n.Stats()[0]; st.Err != nil || st.Stale != "" {
				t.Errorf("%+v", st)
			}
		}
	})
}

// A node that comes to lead goes on where the one before stopped, not at once.
func TestRankChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 3)
		last, shortest, longest := time.Now(), time.Hour, time.Duration(0)
		f.up.setFault(func(_ context.Context, path string) error {
			if path == nobleIn {
				f.set(func() {
					gap := time.Since(last)
					last, shortest, longest = time.Now(), min(shortest, gap), max(longest, gap)
				})
			}
			return nil
		})
		time.Sleep(3 * time.Minute)
		f.set(func() { shortest, longest = time.Hour, 0 })
		for i := range 40 { // the ring turns and turns
			time.Sleep(2*time.Minute + time.Duration(i)*3*time.Second)
			f.set(func() { f.order = append(f.order[1:], f.order[0]) })
		}
		f.agree()
		f.set(func() {
			if shortest < 50*time.Second || longest > 2*time.Minute+10*time.Second {
				t.Errorf("between two looks at upstream %v to %v passed", shortest, longest)
			}
		})
	})
}

// A leader that cannot reach upstream does not keep the others from it.
func TestLeaderWithoutUpstream(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := usedFleetOf(t, 4, k)
		f.nodes[0].up.failAll(&proto.Unavailable{Reason: "no route"})
		f.upgrade("2")
		f.settled(5 * time.Minute)
		f.agree(f.index(), f.own())
		e := f.nodes[0].must(f.root)
		if e.Stale != "" {
			t.Errorf("the leader calls it stale, which another has checked: %q", e.Stale)
		}
		// Upstream is down for all: no storm, and a good end.
		f.up.failing("", &proto.Unavailable{Reason: "503", Answered: true})
		f.forget()
		f.settled(time.Hour)
		if n := f.polls(); n > 4*66 {
			t.Errorf("upstream was asked %d times in the hour that it was down: %s", n, f.polled())
		}
		f.up.setFault(nil)
		f.nodes[0].up.failAll(nil)
		f.upgrade("3")
		f.settled(3 * time.Minute)
		f.agree(f.index())
		for _, n := range f.nodes {
			if st := n.Stats()[0]; st.Err != nil {
				t.Errorf("%s: %v", n.name, st.Err)
			}
		}
	})
}

// Nobody has asked any node for a day: nobody looks at upstream any more.
func TestIdleFleet(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := fleetOf(t, 4, k, testarchive.DefaultKey()).slowly()
		f.upgrade("1")
		f.start()
		f.nodes[3].must(f.root)
		f.nodes[3].use(f.index())
		for range 30 { // only one node has clients, and it does not lead
			time.Sleep(3 * time.Hour)
			f.nodes[3].must(f.root)
		}
		f.forget()
		time.Sleep(time.Hour)
		f.nodes[3].must(f.root)
		if n := f.polls(); n < 5 || n > 8 {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		// The leadership changes to one that nobody has ever asked.
		f.set(func() { f.order = []string{"n2", "n3", "n4", "n1"} })
		time.Sleep(20 * time.Minute)
		f.forget()
		for range 30 {
			time.Sleep(3 * time.Hour)
			f.nodes[3].must(f.root)
		}
		if n := f.nodes[1].up.requests(f.root); n < 80*6 || f.polls()-n > 40 {
			t.Errorf("in 90 hours upstream was asked by %s", f.polled())
		}
		time.Sleep(50 * time.Hour)
		f.forget()
		time.Sleep(24 * time.Hour)
		if n := f.polls(); n != 0 || f.questions()+f.messages() > 0 {
			t.Errorf("an idle suite: upstream was asked by %s, %d questions, %d messages", f.polled(), f.questions(), f.messages())
		}
		f.upgrade("2")
		for _, n := range f.nodes {
			if st := n.Stats()[0]; st.Watched {
				t.Errorf("%s watches it", n.name)
			}
		}
		// The first client wakes it for all, and gets what is new.
		f.nodes[3].listedAs(f.root, f.nodes[3].file(f.root))
		f.settled(time.Second)
		f.agree(f.index())
		f.forget()
		time.Sleep(time.Hour)
		if n := f.nodes[1].up.requests(f.root); n < 5 || f.polls() != n {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
	})
}

// Where there is no InRelease every client asks for it first, for it may have come;
// upstream is asked for it no more often than by one node.
func TestMissingInReleaseInACluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 5, testarchive.Suite{Name: "noble", NoInRelease: true, ByHash: true})
		f.publish()
		f.start()
		for _, n := range f.nodes {
			n.must(nobleRelease)
		}
		f.settled(5 * time.Minute)
		f.forget()
		for range 600 {
			for _, n := range f.nodes {
				go func() {
					if _, err := n.get(nobleIn); !errors.Is(err, proto.ErrOtherForm) {
						t.Error(err)
					}
				}()
			}
			time.Sleep(time.Second)
		}
		if k := f.polls(); k > 75 {
			t.Errorf("in ten minutes upstream was asked by %s", f.polled())
		}
		f.a.ChangeSuite("noble", func(s *testarchive.Suite) { s.NoInRelease = false })
		f.publish()
		time.Sleep(suite.HopeForForm + time.Second)
		for i := range f.nodes {
			n := f.nodes[4-i] // the one that leads last
			n.listedAs(nobleIn, n.file(nobleIn))
		}
	})
}

// A configured suite that could not be read at the start is tried again soon, by
// whomever.
func TestConfiguredSuiteWithoutLeader(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 2)
		f.publish()
		for _, n := range f.nodes {
			n.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}}
		}
		f.set(func() { f.dead["n1"] = true })
		f.up.failing("", &proto.Unavailable{Reason: "down"})
		f.nodes[1].start()
		time.Sleep(12 * time.Second)
		f.up.setFault(nil)
		time.Sleep(20 * time.Second)
		if f.nodes[1].nobleNow() == nil {
			t.Error("it was not tried again")
		}
	})
}

// What upstream says of the generation before says nothing of one that another node
// has brought meanwhile.
func TestCheckOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := usedFleet(t, 1)
		n := f.nodes[0]
		f.unlooked()
		f.a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
		f.a.Prepare(time.Now().Add(-time.Second))
		f.a.Show("noble", testarchive.At(1))
		root := n.file(nobleIn)
		for _, data := range [][]byte{root, n.file(noblePkgs)} {
			f.set(func() { f.foreign[proto.DigestOf(data)] = data })
		}
		f.a.Show("noble", testarchive.At(0)) // a mirror that lags
		told := offerOf(root, time.Now().Add(-time.Second))
		told.Checked = time.Time{}
		f.up.setFault(func(context.Context, string) error { time.Sleep(5 * time.Second); return nil })
		before := n.Stats()[0].Checked
		go n.refresh()
		time.Sleep(time.Second)
		n.Receive("n9", told)
		time.Sleep(5 * time.Second)
		f.settled(0)
		if st := n.Stats()[0]; st.Root != refOfBytes(root) || !st.Checked.Equal(before) || st.AnnouncedBy != "n9" {
			t.Errorf("checked at %v, it was %v: %+v", st.Checked, before, st)
		}
	})
}
