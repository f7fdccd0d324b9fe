package node_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// wireTest is a cluster of three in which a host of one node reads a large body that
// another one, its owner, has just begun to fetch.
type wireTest struct {
	*mesh
	links        *links
	owner, asker *site
	done         chan result
}

func newWireTest(t *testing.T) *wireTest {
	w := &wireTest{mesh: &mesh{t: t, hasty: true}, done: make(chan result, 1)}
	w.links = w.newLinks()
	w.begin(newHeavyArchive(), 3)
	for _, s := range w.sites {
		s.update()
	}
	w.owner = w.mesh.owner(heavyDeb)
	w.asker = w.others(w.owner)[0]
	w.up.ResetCounters()
	w.up.SetBandwidth(2<<20, 0)
	go func() { w.done <- w.asker.get(t.Context(), newClient("host"), heavyDeb) }()
	w.eventually("it is on its way", func() bool { return w.up.Bytes(heavyDeb) > heavy/4 })
	return w
}

// wholeBody demands that the host got the body, and that upstream was asked for it
// no more often than a node gave up on another, for the rest only where it had begun.
func (w *wireTest) wholeBody() {
	w.t.Helper()
	if r := <-w.done; r.status != 200 || r.err != nil || len(r.body) < heavy {
		w.t.Fatalf("%d, %d bytes, %v", r.status, len(r.body), r.err)
	}
	gaveUp := 0
	for _, s := range w.sites {
		gaveUp += int(s.node.Metric("aptmesh_flight_peer_failures_total"))
	}
	if gaveUp == 0 {
		w.t.Error("nobody noticed that the wire fails")
	}
	fresh, resumed := w.fetches(heavyDeb)
	w.t.Logf("upstream was asked %d times, and %d times for the rest; %d transfers between nodes were given up", fresh, resumed, gaveUp)
	if fresh+resumed > 1+gaveUp {
		w.t.Errorf("upstream was asked %d times, and %d times for the rest; %d transfers between nodes were given up", fresh, resumed, gaveUp)
	}
	w.mu.Lock()
	w.deaths += gaveUp // for the asker, it is as good as dead
	w.mu.Unlock()
}

// TestClusterSlowWire: the wire to the owner slows down to a trickle in the middle
// of a body; it goes on from elsewhere, at the byte where it was.
func TestClusterSlowWire(t *testing.T) {
	w := newWireTest(t)
	w.links.set(w.owner, wire{rate: 10 << 10})
	w.wholeBody()
	w.links.set(w.owner, wire{})
	w.checkCluster()
}

// TestClusterDeadWire: a peer's wire goes dead without a reset; a running body goes
// on from elsewhere, and the next request does not wait for it.
func TestClusterDeadWire(t *testing.T) {
	w := newWireTest(t)
	w.links.set(w.owner, wire{dead: true})
	w.wholeBody()
	w.eventually("the peer is known to be out of reach", func() bool {
		for _, member := range w.asker.node.Status().Cluster.Members {
			if member.Name == w.owner.name {
				return member.Health == admin.HealthUnreachable
			}
		}
		return false
	})
	// Whoever owns them: nobody is asked over the dead wire any more.
	for _, path := range []string{largeDeb, smallDeb} {
		if why := w.asker.why(path); slices.Contains(why.Owners, w.owner.name) || slices.Contains(why.Holders, w.owner.name) {
			t.Errorf("%s would still be asked of the dead node: %+v", path, why)
		}
		w.asker.want(path)
	}
	w.links.set(w.owner, wire{})
	w.checkCluster()
}

// flipping hands a byte on that is not what the store has.
type flipping struct {
	peers.Handler
	asked atomic.Int64
}

func (f *flipping) ServePeer(ctx context.Context, from string, ask proto.PeerRequest) (*proto.Blob, error) {
	b, err := f.Handler.ServePeer(ctx, from, ask)
	if err != nil || ask.Object.Class == proto.ClassMetadata {
		return b, err
	}
	f.asked.Add(1)
	data, err := io.ReadAll(b.Reader())
	b.Close()
	if err != nil {
		return nil, err
	}
	data = bytes.Clone(data)
	data[len(data)/2] ^= 1
	return &proto.Blob{Ref: b.Ref, Modified: b.Modified, Verified: b.Verified, Tier: b.Tier, Bytes: data}, nil
}

// TestClusterLyingPeer: a node sends wrong bytes. They are never kept nor handed
// out as a whole, and the node is named and no longer asked.
func TestClusterLyingPeer(t *testing.T) {
	liars := make(map[string]*flipping)
	m := &mesh{t: t}
	m.tune = append(m.tune, func(s *site) {
		s.peers = func(c *peers.Config) {
			liar := &flipping{Handler: c.Handler}
			liars[s.name] = liar
			if s.name == "site0" {
				c.Handler = liar
			}
		}
	})
	a, debs := newBusyArchive()
	m.begin(a, 3)
	liar, honest := m.sites[0], m.sites[1]
	for _, s := range m.sites {
		s.update()
	}
	// What the liar owns and has, nobody else has.
	var lies []string
	for _, deb := range append(debs, largeDeb) {
		if m.owner(deb) == liar {
			liar.want(deb)
			lies = append(lies, deb)
		}
	}
	m.eventually("the liar is known to hold it", func() bool {
		return slices.Contains(honest.why(lies[0]).Holders, liar.name)
	})
	m.eventually("a host gets it all in the end", func() bool {
		for _, path := range lies {
			if r := honest.get(t.Context(), newClient("host"), path); r.status != 200 || r.err != nil {
				return false
			}
		}
		return true
	})
	if liars["site0"].asked.Load() == 0 {
		t.Fatal("the liar was not asked for anything")
	}
	named := false
	for _, member := range honest.node.Status().Cluster.Members {
		named = named || member.Name == liar.name && member.Health == admin.HealthQuarantined && member.Why != ""
	}
	if !named {
		t.Errorf("nobody says that %s lies: %+v", liar.name, honest.node.Status().Cluster.Members)
	}
	if err := rightBlobs(honest.cfg.Data); err != nil {
		t.Error(err)
	}
}

// TestClusterTwoRings: two nodes each believe that the other one owns everything,
// and are asked at once.
func TestClusterTwoRings(t *testing.T) {
	m := &mesh{t: t}
	m.tune = append(m.tune, func(s *site) {
		other, err := ring.New([]string{map[string]string{"site0": "site1", "site1": "site0"}[s.name]})
		if err != nil {
			t.Fatal(err)
		}
		s.peers = func(c *peers.Config) {
			c.RingFor = func(*ring.View, string) *ring.Ring { return other }
		}
	})
	m.begin(newArchive(), 2)
	for _, s := range m.sites {
		s.update()
	}
	m.up.ResetCounters()
	m.crowd(20, 5, func(i int, _ *site, c *client) result {
		for _, path := range []string{largeDeb, smallDeb} {
			if r := m.sites[i%2].get(t.Context(), c, path); r.status != 200 || r.err != nil {
				t.Errorf("%s: %d %v %.200s", path, r.status, r.err, r.body)
			}
		}
		return result{}
	})
	for _, path := range []string{largeDeb, smallDeb} {
		if fresh, resumed := m.fetches(path); fresh+resumed > 2 {
			t.Errorf("%s was fetched %d times, %d times in part", path, fresh, resumed)
		}
	}
}

// TestClusterUpstreamRefuses: upstream answers 503 while a crowd asks; it is not
// stormed, neither then nor when it is well again.
func TestClusterUpstreamRefuses(t *testing.T) {
	const limit = 4
	m := newMesh(t, newHeavyArchive(), 3, func(c *config.Config) { c.UpstreamClient.ConnectionsPerHost = limit })
	for _, s := range m.sites {
		s.update()
	}
	m.up.ResetCounters()
	m.up.Inject("pool/*", -1, testarchive.Status(503, 0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var good atomic.Int64
	for i := range 100 {
		wg.Go(func() {
			c, s := newClient("host"+strconv.Itoa(i)), m.sites[i%3]
			for {
				r := s.get(t.Context(), c, largeDeb)
				if r.status == 200 && r.err == nil {
					good.Add(1)
					return
				}
				if !r.aptRetries() {
					t.Errorf("apt would give up on %d %v %.100q", r.status, r.err, r.body)
					return
				}
				select {
				case <-time.After(200 * time.Millisecond): // a host's own pause
				case <-stop:
					return
				}
			}
		})
	}
	time.Sleep(5 * time.Second) // the time upstream is ill
	asked := m.up.Requests(largeDeb)
	if peak := m.up.PeakConcurrent(); peak > limit {
		t.Errorf("%d requests at one time at an upstream that may be asked %d", peak, limit)
	}
	m.up.ClearFaults()
	healed := time.AfterFunc(60*time.Second, func() { close(stop) })
	wg.Wait()
	healed.Stop()
	if good.Load() != 100 {
		t.Errorf("%d of 100 hosts have it", good.Load())
	}
	t.Logf("%d requests in 5 s of 503s; %d after", asked, m.up.Requests(largeDeb)-asked)
	if fresh := m.up.Requests(largeDeb) - asked; fresh > 3 {
		t.Errorf("%d requests when upstream was well again", fresh)
	}
	m.checkCluster()
}
