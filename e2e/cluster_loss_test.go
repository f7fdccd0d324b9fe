package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// many are packages of some size, "pkg00" and on.
func many(n int, size int64) (all []testarchive.Package) {
	for i := range n {
		all = append(all, testarchive.Package{Name: fmt.Sprintf("pkg%02d", i), Version: "1", Size: size})
	}
	return all
}

// pool are the paths of all packages.
func (c *cluster) pool() (paths []string) {
	for path := range c.archive.Files() {
		if strings.HasPrefix(path, "pool/") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// A node that stands still in the middle of everything, and is woken later, costs
// the hosts of the others some patience and nothing else.
func TestClusterWithAFrozenNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4, many(24, 150_000)...)
	paths := c.pool()
	frozen := c.owners(paths[0])[0]
	others := c.except(frozen)
	c.fetchAll(others[0], paths[:8]...) // the rest is cold

	frozen.signal(syscall.SIGSTOP)
	woken := false
	wake := func() {
		if !woken {
			woken = true
			frozen.signal(syscall.SIGCONT)
		}
	}
	defer wake() // or else it could not be ended
	c.mayFetchAgain()
	began := time.Now()
	for _, m := range others {
		c.fetchAll(m, paths...)
	}
	t.Logf("all packages at three nodes while %s stood still: %s", frozen.name, time.Since(began).Round(time.Millisecond))

	// The archive goes on, and so do the others.
	c.publish()
	eventually(t, 30*time.Second, "the others followed the archive", func() bool {
		for _, m := range others {
			if s, ok := m.suite("dists/noble"); !ok || !s.Generation.Equal(c.newest()) {
				return false
			}
		}
		return true
	})
	wake()
	c.agree()
	c.fetchAll(frozen, paths...)
	c.check()
}

// The owner of a large package is killed when it has sent a third of it on to hosts
// at all other nodes: their bodies go on where they were.
func TestClusterLosesTheOwnerOfATransfer(t *testing.T) {
	t.Parallel()
	const size, hostsPerNode = 24_000_000, 8
	c := newCluster(t, 5, testarchive.Package{Name: "big", Version: "1", Size: size}, testarchive.Package{Name: "other", Version: "1"})
	path, want := c.find("/big_")
	owner := c.owners(path)[0]
	c.server.SetBandwidth(0, 6_000_000)

	began := time.Now()
	var hosts sync.WaitGroup
	var late atomic.Int64 // bodies that ended after the death
	var dead atomic.Bool
	for _, m := range c.except(owner) {
		for range hostsPerNode {
			hosts.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				if err := c.fetch(t.Context(), client, m, path); err != nil {
					t.Error(err)
				}
				if dead.Load() {
					late.Add(1)
				}
			})
		}
	}
	eventually(t, 30*time.Second, "a third was sent", func() bool { return c.server.Bytes(path) > int64(len(want))*3/10 })
	c.crash(owner)
	dead.Store(true)
	hosts.Wait()
	t.Logf("%d hosts, %d bytes: %s, of which %s is what upstream's line takes", 4*hostsPerNode, len(want),
		time.Since(began).Round(time.Millisecond), (time.Duration(len(want)) * time.Second / 6_000_000).Round(time.Millisecond))
	if late.Load() != 4*hostsPerNode {
		t.Errorf("%d of %d hosts were served after the death of the owner: it came too late", late.Load(), 4*hostsPerNode)
	}
	if n := c.server.Requests(path); n > 2+c.madeWay(path) {
		t.Errorf("upstream had %d requests for it, want 2 at most", n)
	}
	// What the second one skips is what the first one had passed on.
	if n := c.server.Bytes(path); n > int64(len(want))*13/10 {
		t.Errorf("upstream sent %d bytes of %d: the second fetch did not go on where the first one was", n, len(want))
	}

	c.server.SetBandwidth(0, 0)
	owner.start()
	c.agree()
	c.fetchAll(owner, path)
	c.check()
}

// The owner of a large package stands still when it has sent a third of it on, and is
// woken when everybody else has it: then it must not go on fetching for nobody for long.
func TestClusterOwnerFreezesInATransfer(t *testing.T) {
	t.Parallel()
	const size, hostsPerNode, rate = 24_000_000, 4, 3_000_000
	c := newCluster(t, 5, testarchive.Package{Name: "big", Version: "1", Size: size}, testarchive.Package{Name: "other", Version: "1"})
	path, want := c.find("/big_")
	owner := c.owners(path)[0]
	c.server.SetBandwidth(0, rate)
	c.mayFetchAgain() // the next owner
	c.mayFetchAgain() // the owner itself: all its timers are over when it is woken

	var hosts, own sync.WaitGroup
	for _, m := range c.nodes {
		for range hostsPerNode {
			if m == owner {
				own.Go(func() {
					// As apt does with a server that says nothing: it turns to another one.
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					client := &http.Client{Transport: &http.Transport{}}
					defer client.CloseIdleConnections()
					if err := c.fetch(ctx, client, m, path); err == nil {
						t.Error("a host had it of a node that stands still")
					}
				})
				continue
			}
			hosts.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				if err := c.fetch(t.Context(), client, m, path); err != nil {
					t.Error(err)
				}
			})
		}
	}
	eventually(t, 30*time.Second, "a third was sent", func() bool { return c.server.Bytes(path) > int64(len(want))*3/10 })
	owner.signal(syscall.SIGSTOP)
	began := time.Now()
	defer owner.signal(syscall.SIGCONT) // or else it could not be ended
	hosts.Wait()
	own.Wait()
	took, asleep := time.Since(began), c.server.Bytes(path)
	owner.signal(syscall.SIGCONT)
	awake := c.server.Bytes(path)
	eventually(t, 30*time.Second, "the woken node has nothing under way", func() bool { return len(owner.status().Flights) == 0 })
	sent := c.server.Bytes(path)
	t.Logf("the others had it after %v, with %.2f times its bytes from upstream; the owner took %.2f more when it was woken: %d requests",
		took.Round(time.Millisecond), float64(asleep)/float64(len(want)), float64(sent-awake)/float64(len(want)), c.server.Requests(path))
	// What a flight takes that is kept for a moment for hosts that may come back (two
	// seconds of upstream's line), and what was in the buffers of the connection.
	if more, most := sent-awake, int64(2*rate+len(want)*15/100); more > most {
		t.Errorf("the owner took %d bytes of %d for nobody when it was woken, want at most %d", more, len(want), most)
	}
	c.server.SetBandwidth(0, 0)
	c.agree()
	c.fetchAll(owner, path)
	c.check()
}

// The owner of a large package and the one that takes over from it are killed, each when
// a third more has been sent: the third one goes on at that byte.
func TestClusterLosesTwoOwnersOfATransfer(t *testing.T) {
	t.Parallel()
	const size, hostsPerNode, rate = 24_000_000, 4, 4_000_000
	c := newCluster(t, 5, testarchive.Package{Name: "big", Version: "1", Size: size}, testarchive.Package{Name: "other", Version: "1"})
	path, want := c.find("/big_")
	owners := c.owners(path)[:2]
	c.server.SetBandwidth(0, rate)
	var hosts sync.WaitGroup
	for _, m := range c.except(owners...) {
		for range hostsPerNode {
			hosts.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				if err := c.fetch(t.Context(), client, m, path); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for i, owner := range owners {
		eventually(t, 30*time.Second, "a part was sent", func() bool { return c.server.Bytes(path) > int64(len(want))*int64(3*(i+1))/10 })
		c.crash(owner)
	}
	hosts.Wait()
	ratio := float64(c.server.Bytes(path)) / float64(len(want))
	t.Logf("%d hosts, two owners killed: %d requests, %.2f times its bytes from upstream", 3*hostsPerNode, c.server.Requests(path), ratio)
	if ratio > 1.5 {
		t.Errorf("upstream sent %.2f times the package: nobody went on where the others were", ratio)
	}
	c.server.SetBandwidth(0, 0)
	for _, owner := range owners {
		owner.start()
	}
	c.agree()
	c.fetchAll(owners[0], path)
	c.check()
}
