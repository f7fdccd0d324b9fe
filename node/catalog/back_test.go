package catalog

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// Where mirrors differ, hosts keep the newer publication; what all mirrors go back to, hosts get, and
// hosts with the newer metadata still find what that names.
func TestPublisherGoesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, repo := rpmWorld(t)
		w.cfg.Archives[0].AcceptOlder = 15 * time.Minute
		w.mirrored("one", "two")
		w.open()
		if _, err := w.discover(rpmRoot); err != nil {
			t.Fatal(err)
		}
		first := w.mustDriver(t).heldNow()
		bad := *repo
		bad.Date = time.Now().Add(-time.Minute)
		bad.Packages = append(bad.Packages, rpmarchive.Package{Name: "bad"})
		w.show(&bad)
		w.sync("one", "two")
		time.Sleep(3 * time.Minute)
		const badPackage = "os/Packages/b/bad-1-1.x86_64.rpm"
		if e, err := w.discover(badPackage); err != nil || !e.Listed {
			t.Fatalf("%+v, %v", e, err)
		}
		second := w.mustDriver(t).heldNow()

		w.show(repo)
		w.sync("two")
		time.Sleep(time.Hour)
		if got := w.mustDriver(t).heldNow(); got.Root != second.Root {
			t.Fatalf("a mirror that lags takes the suite back to %v", got.Date)
		}
		w.sync("one")
		time.Sleep(14 * time.Minute)
		if got := w.mustDriver(t).heldNow(); got.Root != second.Root {
			t.Fatalf("after 14 minutes the suite is back at %v", got.Date)
		}
		time.Sleep(5 * time.Minute)
		if got := w.mustDriver(t).heldNow(); got.Root != first.Root || !got.Back.From.Equal(second.Date) {
			t.Fatalf("the publisher has gone back, and the suite has not: %v, %+v", got.Date, got.Back)
		}
		if e, ok := w.Resolve(w.loc(badPackage)); !ok || !e.Listed {
			t.Errorf("a package of what was taken back: %+v, %v", e, ok)
		}
		w.Catalog.Close()
		w.show(&bad)
		w.sync("two") // which shows the newer one again
		w = w.crash()
		time.Sleep(time.Hour)
		if got := w.mustDriver(t).heldNow(); got.Root != first.Root {
			t.Errorf("a mirror and a restart bring back what was taken back, of %v", got.Date)
		}
		w.show(&bad)
		bad.Date = time.Now().Add(-time.Minute)
		bad.Packages = bad.Packages[:1]
		w.show(&bad)
		w.sync("one", "two")
		time.Sleep(3 * time.Minute)
		if got := w.mustDriver(t).heldNow(); !got.Date.After(second.Date) || !got.Back.IsZero() {
			t.Errorf("what is published next: %v, %+v", got.Date, got.Back)
		}
	})
}

// fleetThatMayGoBack is three nodes with an unsigned archive that has been published twice, and the root
// of the first publication. leaderVouches is whether the leader's word counts.
func fleetThatMayGoBack(t *testing.T, leaderVouches bool) (f *fleet, old []byte) {
	t.Helper()
	f = newFleet(t, 3, testarchive.Suite{Name: "noble", Unsigned: true})
	for _, n := range f.nodes {
		n.cfg.Archives[0].Unsigned, n.cfg.LeaderVouches = true, leaderVouches
		n.cfg.Archives[0].AcceptOlder = 15 * time.Minute
		n.mayGoBack = true
	}
	f.publish()
	f.start()
	for _, n := range f.nodes {
		n.must(nobleRelease)
	}
	old = f.nodes[0].file(nobleRelease)
	time.Sleep(5 * time.Minute)
	f.upgrade("2")
	f.settled(5 * time.Minute)
	return f, old
}

// All nodes go back together, within two seconds, and stay there: with a node that was away and still
// has what was taken back, with another leader, and with that node as the leader.
func TestClusterGoesBack(t *testing.T) {
	for name, secured := range map[string]bool{"nodes with certificates": true, "nodes without": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f, old := fleetThatMayGoBack(t, secured)
				taken := f.nodes[0].file(nobleRelease)
				for _, n := range f.nodes {
					n.listedAs(nobleRelease, taken)
				}
				away := f.nodes[2]
				away.stop()
				f.a.Show("noble", testarchive.At(0))

				began := time.Now()
				first, last := time.Duration(0), time.Duration(0)
				for last == 0 && time.Since(began) < 30*time.Minute {
					time.Sleep(100 * time.Millisecond)
					back := 0
					for _, n := range f.nodes[:2] {
						if n.nobleNow().Root == refOfBytes(old) {
							back++
						}
					}
					if back > 0 && first == 0 {
						first = time.Since(began)
					}
					if back == 2 {
						last = time.Since(began)
					}
				}
				if first < 15*time.Minute || last == 0 || last-first > 2*time.Second {
					t.Fatalf("one node went back after %v, both after %v", first, last)
				}

				everybody := func(why string) {
					t.Helper()
					for _, n := range f.nodes {
						if got := n.nobleNow(); got.Root != refOfBytes(old) {
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
				f.upgrade("3")
				f.settled(5 * time.Minute)
				newest := f.nodes[0].file(nobleRelease)
				for _, n := range f.nodes {
					n.listedAs(nobleRelease, newest)
				}
			})
		})
	}
}

// A node that was away while the others went back, and leads when it returns, goes back with them: it
// does not wait as long again.
func TestLeaderThatWasAwayGoesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, old := fleetThatMayGoBack(t, true)
		leader := f.nodes[0]
		leader.stop()
		f.set(func() { f.ill["n1"] = true })
		f.a.Show("noble", testarchive.At(0))
		f.settled(30 * time.Minute)
		f.set(func() { clear(f.ill) })
		leader.resume()
		f.settled(time.Minute)
		for _, n := range f.nodes {
			n.listedAs(nobleRelease, old)
		}
		if order := f.nodes[1].nobleNow().Compare(leader.nobleNow().Generation); order != proto.Same {
			t.Errorf("%v: %+v", order, leader.nobleNow().Back)
		}
	})
}
