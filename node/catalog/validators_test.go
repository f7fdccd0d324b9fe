package catalog

import (
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
)

// Upstream gives no validators, or only one. Hosts get a date all the same, which changes with the bytes and is the same on
// all nodes: that of the signature.
func TestUpstreamWithoutValidators(t *testing.T) {
	for name, c := range map[string]struct{ noETag, noModified bool }{
		"neither": {true, true}, "no Last-Modified": {false, true}, "no ETag": {true, false},
	} {
		for _, nodes := range []int{1, 3} {
			inNamedBubble(t, fmt.Sprintf("%s, %d nodes", name, nodes), func(t *testing.T) {
				f := newFleet(t, nodes)
				f.up.noETag, f.up.noModified = c.noETag, c.noModified
				f.publish()
				f.start()
				for _, n := range f.nodes {
					n.must(nobleIn)
					n.use(noblePkgs)
				}
				var last time.Time
				modified := func(when string, want time.Time) {
					t.Helper()
					f.alike(nobleIn, noblePkgs)
					e := f.nodes[len(f.nodes)-1].listedAs(nobleIn, f.nodes[0].file(nobleIn))
					switch {
					case e.Modified.IsZero(), e.Modified.Equal(last):
						t.Errorf("%s: Last-Modified %v, before %v", when, e.Modified, last)
					case c.noModified && !e.Modified.Equal(want):
						t.Errorf("%s: Last-Modified %v, signed %v", when, e.Modified, want)
					}
					last = e.Modified
				}
				f.settled(5 * time.Minute)
				modified("at first", f.nodes[0].date())
				f.upgrade("2")
				f.settled(70 * time.Second)
				modified("published", f.nodes[0].date())
				signed := time.Now().Add(-time.Second)
				f.a.Put(nobleIn, testarchive.ClearSign(f.nodes[0].file(nobleRelease), signed, testarchive.DefaultKey()), signed)
				f.settled(70 * time.Second)
				modified("signed anew", signed.Truncate(time.Second).UTC())
				for _, n := range f.nodes {
					n.kill()
					n.resume()
				}
				f.settled(5 * time.Minute)
				f.alike(nobleIn)
				if e := f.nodes[0].must(nobleIn); !e.Modified.Equal(last) {
					t.Errorf("after a restart Last-Modified is %v, was %v", e.Modified, last)
				}
			})
		}
	}
}

// olderClock is a fleet of which upstream has just published a root that bears an older Last-Modified than the one before,
// and says 304 to whoever asks by date: several servers behind one name, or files copied with their times.
func olderClock(t *testing.T, nodes int) *fleet {
	t.Helper()
	f := newFleet(t, nodes)
	f.up.noETag, f.up.laxClock = true, true
	f.publish()
	f.start()
	for _, n := range f.nodes {
		n.must(nobleIn)
		n.use(noblePkgs)
	}
	f.settled(10 * time.Minute)
	f.upgrade("2")
	f.a.Put(nobleIn, f.nodes[0].file(nobleIn), time.Now().Add(-24*time.Hour))
	return f
}

// Such a 304 hides what is new for a few intervals at most.
func TestOlderClockHidesNothingForLong(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		inNamedBubble(t, fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			f := olderClock(t, nodes)
			f.forget()
			f.settled(6 * time.Minute)
			if f.up.requests(nobleIn) == f.up.bodies(nobleIn) {
				t.Error("upstream has hidden nothing")
			}
			f.agree(noblePkgs, hello2)
		})
	}
}

// Whoever insists is not told by a 304 that there is nothing new: an operator's refresh and a host's no-cache ask upstream
// for the whole, on whichever node.
func TestFreshRequestsAskUnconditionally(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		for name, insist := range map[string]func(t *testing.T, n *clusterNode) error{
			"refresh": func(t *testing.T, n *clusterNode) error { _, err := n.Refresh(t.Context(), noble(), false); return err },
			"no-cache": func(t *testing.T, n *clusterNode) error {
				_, err := n.Discover(t.Context(), n.loc(nobleIn), true)
				return err
			},
		} {
			inNamedBubble(t, fmt.Sprintf("%s, %d nodes", name, nodes), func(t *testing.T) {
				f := olderClock(t, nodes)
				time.Sleep(2 * suite.CheckPause)
				n := f.nodes[nodes-1]
				if err := insist(t, n); err != nil {
					t.Error(err)
				}
				n.listedAs(nobleIn, n.file(nobleIn))
				f.settled(5 * time.Second)
				f.agree(noblePkgs, hello2)
			})
		}
	}
}
