package catalog

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Where mirrors differ, hosts keep the newer publication; what all mirrors go back to, hosts get, and
// hosts with the newer metadata still find what that names.
func TestPublisherGoesBack(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		w, first := worldOf(t, k, nil), k.published(1, nil)
		w.cfg.Archives[0].AcceptOlder = 15 * time.Minute
		w.lay(first)
		w.mirrored("one", "two")
		w.open()
		w.used(first)
		time.Sleep(time.Hour)
		bad := k.published(2, nil)
		w.lay(bad)
		w.sync("one", "two")
		time.Sleep(3 * time.Minute)
		w.used(bad)
		taken := *w.now(k.suite)

		w.lay(first)
		w.sync("two")
		time.Sleep(time.Hour)
		w.listedAs(k.root, bad.files[k.root]) // a mirror that lags takes nobody back
		w.sync("one")
		time.Sleep(14 * time.Minute)
		w.listedAs(k.root, bad.files[k.root])
		time.Sleep(5 * time.Minute)
		w.whole(first)
		if got := w.now(k.suite); !got.Back.From.Equal(taken.Date) {
			t.Errorf("%+v was taken back, the root is of %v", got.Back, taken.Date)
		}
		w.listedAs(bad.own(), bad.files[bad.own()])

		w.Catalog.Close()
		w.lay(bad)
		w.sync("two") // which shows the newer one again
		w = w.crash()
		time.Sleep(time.Hour)
		w.whole(first)
		next := k.published(3, nil)
		w.lay(next)
		w.sync("one", "two")
		time.Sleep(3 * time.Minute)
		w.whole(next)
		if got := w.now(k.suite); !got.Back.IsZero() {
			t.Errorf("what is published next has %+v", got.Back)
		}
	})
}

// fleetThatMayGoBack is three nodes with an unsigned archive that has been published twice, which all use.
// leaderVouches is whether the leader's word counts.
func fleetThatMayGoBack(t *testing.T, k kind, leaderVouches bool) (f *fleet, first, second publication) {
	t.Helper()
	f = newFleet(t, 3)
	for _, n := range f.nodes {
		n.serve(k, nil)
		n.cfg.LeaderVouches, n.mayGoBack = leaderVouches, true
		n.cfg.Archives[0].AcceptOlder = 15 * time.Minute
	}
	first = k.published(1, nil)
	f.nodes[0].lay(first)
	f.start()
	for _, n := range f.nodes {
		n.used(first)
	}
	time.Sleep(5 * time.Minute)
	second = k.published(2, nil)
	f.nodes[0].lay(second)
	f.settled(5 * time.Minute)
	f.serve(second)
	return f, first, second
}

// serve demands that all nodes serve a publication.
func (f *fleet) serve(p publication) {
	f.Helper()
	for _, n := range f.nodes {
		n.listedAs(p.root, p.files[p.root])
	}
}

// All nodes go back together, within two seconds, and stay there: with a node that was away and still
// has what was taken back, with another leader, and with that node as the leader.
func TestClusterGoesBack(t *testing.T) {
	for name, secured := range map[string]bool{"nodes with certificates": true, "nodes without": false} {
		t.Run(name, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				f, first, _ := fleetThatMayGoBack(t, k, secured)
				isBack := func(n *clusterNode) bool { return n.now(k.suite).Root == refOfBytes(first.files[k.root]) }
				away := f.nodes[2]
				away.stop()
				f.nodes[0].lay(first)

				began := time.Now()
				one, both := time.Duration(0), time.Duration(0)
				for both == 0 && time.Since(began) < 30*time.Minute {
					time.Sleep(100 * time.Millisecond)
					back := 0
					for _, n := range f.nodes[:2] {
						if isBack(n) {
							back++
						}
					}
					if back > 0 && one == 0 {
						one = time.Since(began)
					}
					if back == 2 {
						both = time.Since(began)
					}
				}
				if one < 15*time.Minute || both == 0 || both-one > 2*time.Second {
					t.Fatalf("one node went back after %v, both after %v", one, both)
				}

				everybody := func(why string) {
					t.Helper()
					for _, n := range f.nodes {
						if !isBack(n) {
							t.Errorf("%s: %s serves what was taken back", why, n.name)
						}
					}
				}
				away.resume()
				f.settled(2 * time.Second)
				f.settled(time.Minute)
				everybody("a node comes back that was away")
				away.stop()
				f.set(func() { f.order = []string{"n3", "n2", "n1"} })
				away.resume()
				f.settled(time.Hour)
				everybody("that node leads")
				third := k.published(3, nil)
				f.nodes[0].lay(third)
				f.settled(5 * time.Minute)
				f.serve(third)
			})
		})
	}
}

// A node that was away while the others went back, and leads when it returns, goes back with them: it
// does not wait as long again.
func TestLeaderThatWasAwayGoesBack(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f, first, _ := fleetThatMayGoBack(t, k, true)
		leader := f.nodes[0]
		leader.stop()
		f.set(func() { f.ill["n1"] = true })
		f.nodes[0].lay(first)
		f.settled(30 * time.Minute)
		f.set(func() { clear(f.ill) })
		leader.resume()
		f.settled(3 * time.Minute) // it hears of it with the checks that follow: an interval is a minute and a bit
		f.serve(first)
		if order := f.nodes[1].now(k.suite).Compare(*leader.now(k.suite)); order != proto.Same {
			t.Errorf("%v: %+v", order, leader.now(k.suite).Back)
		}
	})
}
