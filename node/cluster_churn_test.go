package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// load is a number of hosts that ask for packages again and again, as hosts behind
// an anycast address do: the one whose node refuses comes to another.
type load struct {
	m      *mesh
	debs   []string
	stop   chan struct{}
	wg     sync.WaitGroup
	served atomic.Int64

	mu    sync.Mutex
	sites []*site // that are ready; guarded by mu
}

// patience is how long a host tries before it gives up on a package.
const patience = 30 * time.Second

// pause is how long a host does nothing between two packages: hosts that never pause
// leave nodes in the same process no processor to find each other.
const pause = 10 * time.Millisecond

func (m *mesh) startLoad(hosts int, debs []string) *load {
	l := &load{m: m, debs: debs, stop: make(chan struct{}), sites: m.alive()}
	for i := range hosts {
		l.wg.Go(func() { l.host(i) })
	}
	return l
}

// ready sets the nodes that the anycast address leads to.
func (l *load) ready(sites []*site) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sites = sites
}

func (l *load) pick(rnd *rand.Rand) (addr string, s *site) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s = l.sites[rnd.IntN(len(l.sites))]
	return s.addr, s
}

func (l *load) host(i int) {
	c, rnd := newClient("host"+strconv.Itoa(i)), rand.New(rand.NewPCG(uint64(i), 7))
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(pause):
		}
		path := l.debs[rnd.IntN(len(l.debs))]
		var last string
		for deadline := time.Now().Add(patience); ; {
			addr, s := l.pick(rnd)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			r := s.getAt(ctx, c, addr, path)
			cancel()
			if r.status == 200 && r.err == nil {
				l.served.Add(1)
				break
			}
			last = fmt.Sprintf("%s: %d %v %.200s", s.name, r.status, r.err, r.body)
			if !r.aptRetries() || time.Now().After(deadline) {
				l.m.t.Errorf("host%d gave up on %s: %s", i, path, last)
				return
			}
		}
	}
}

// serve waits until the hosts have had n more packages.
func (l *load) serve(n int64) {
	l.m.t.Helper()
	goal := l.served.Load() + n
	l.m.eventually(fmt.Sprintf("%d more packages are served", n), func() bool { return l.served.Load() >= goal })
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

// newBusyArchive has a few dozen packages.
func newBusyArchive() (*testarchive.Archive, []string) {
	a := newArchive()
	var debs []string
	for i := range 60 {
		debs = append(debs, a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("busy%02d", i), Version: "1", Size: 30 << 10}))
	}
	a.Publish(epoch.Add(time.Minute))
	return a, debs
}

// TestClusterJoinUnderLoad: a node joins while hosts ask; nothing is fetched from
// upstream again because of it.
func TestClusterJoinUnderLoad(t *testing.T) {
	a, debs := newBusyArchive()
	m := newMesh(t, a, 3)
	for _, s := range m.sites {
		s.update()
	}
	l := m.startLoad(8, debs)
	l.serve(300)
	m.add()
	m.whole()
	l.ready(m.alive())
	l.serve(300)
	m.sites[3].update()
	for _, deb := range debs {
		m.sites[3].want(deb)
	}
	l.end()
	m.onceEach(debs)
	m.checkCluster()
}

// onceEach demands that no package was fetched twice.
func (m *mesh) onceEach(debs []string) {
	m.t.Helper()
	for _, deb := range debs {
		if fresh, resumed := m.fetches(deb); fresh > 1 || resumed > 0 {
			m.t.Errorf("%s was fetched %d times, and %d times in part", deb, fresh, resumed)
		}
	}
}

// TestClusterLeaveUnderLoad: a node leaves in good order while hosts ask. What only
// it held is held by others then: nothing is fetched again.
func TestClusterLeaveUnderLoad(t *testing.T) {
	a, debs := newBusyArchive()
	m := newMesh(t, a, 3)
	for _, s := range m.sites {
		s.update()
	}
	leaver := m.sites[0]
	for _, deb := range debs[:40] {
		leaver.want(deb) // the owners have them too, but where the leaver owns
	}
	l := m.startLoad(8, debs[40:])
	l.serve(200)
	l.ready(m.sites[1:]) // its readiness is gone, and with it the route to it
	leaver.stop()
	l.serve(100)
	l.end()
	for _, deb := range debs {
		for _, s := range m.alive() {
			s.want(deb)
		}
	}
	m.onceEach(debs)
	m.checkCluster()
}

// TestClusterRollingRestart: every node is restarted in turn under load, as for an
// upgrade. No host fails, and nothing is fetched again.
func TestClusterRollingRestart(t *testing.T) {
	a, debs := newBusyArchive()
	m := newMesh(t, a, 3)
	for _, s := range m.sites {
		s.update()
	}
	l := m.startLoad(8, debs)
	l.serve(200)
	for _, s := range m.sites {
		l.ready(m.others(s))
		s.stop()
		l.serve(50)
		s.start()
		m.whole()
		l.ready(m.sites)
		l.serve(50)
	}
	l.end()
	m.onceEach(debs)
	m.checkCluster()
}
