package node_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/ring"
)

// mesh is one archive, its upstream, and several nodes in this process that make
// up a cluster, over real gossip and real gRPC on loopback.
type mesh struct {
	t       *testing.T
	archive *testarchive.Archive
	up      *testarchive.Server
	sites   []*site
	tune    []func(*site)
	hasty   bool // something is slow or dead on purpose

	mu sync.Mutex
	// signed are the digests that the archive has ever had under a path.
	signed map[string]map[[32]byte]bool // guarded by mu
	// deaths counts nodes that were killed: each may cost every object that was
	// on its way one more fetch.
	deaths int // guarded by mu
}

// site is one node of it.
type site struct {
	m    *mesh
	name string
	cfg  *config.Config
	node *node.Node
	addr string // of its door
	// keepSeeds are seeds beside the other sites.
	keepSeeds []string
	gossip    func(*ring.Config)  // tunes, after the common tuning
	peers     func(*peers.Config) // tunes
	holds     func(*holds.Config) // tunes

	mu     sync.Mutex
	newest map[string]time.Time // Date of the newest Release each client got; guarded by mu
	peerAt string               // its PeerAddr, once it runs; guarded by mu
}

func (s *site) peerAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peerAt
}

// quick makes gossip take tenths of seconds where a WAN takes tens of them.
func quick(c *ring.Config) {
	c.Settle, c.SettlePoll, c.RejoinEvery, c.BeaconEvery = 2*time.Second, 50*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	c.Timing = func(m *memberlist.Config) {
		m.ProbeInterval, m.ProbeTimeout = 300*time.Millisecond, 200*time.Millisecond
		m.GossipInterval, m.PushPullInterval = 20*time.Millisecond, time.Second
		m.SuspicionMult, m.GossipToTheDeadTime, m.DeadNodeReclaimTime = 3, time.Second, time.Second
	}
}

// patient gives nodes of one loaded test machine the time they would not need on
// machines of their own: nothing here is meant to be slow or dead.
func patient(c *peers.Config) {
	c.Timing = peers.Timing{Accept: 15 * time.Second, Progress: 20 * time.Second, FloorWindow: 20 * time.Second, Stuck: 15 * time.Second}
	c.Health.Wait = 15 * time.Second
}

// hasty is for what is slow or dead on purpose: about the product's own patience,
// with some allowance for a loaded machine.
func hasty(c *peers.Config) {
	c.Timing = peers.Timing{Accept: 3 * time.Second, Progress: 4 * time.Second, FloorWindow: 3 * time.Second}
	c.Health.Wait = 3 * time.Second
}

// newMesh starts n nodes in front of an archive and waits until they are one ring.
func newMesh(t *testing.T, a *testarchive.Archive, n int, change ...func(*config.Config)) *mesh {
	t.Helper()
	m := &mesh{t: t}
	m.begin(a, n, change...)
	return m
}

// begin is newMesh for a mesh that has been tuned before.
func (m *mesh) begin(a *testarchive.Archive, n int, change ...func(*config.Config)) {
	m.t.Helper()
	m.archive, m.up, m.signed = a, testarchive.NewServer(a), make(map[string]map[[32]byte]bool)
	m.t.Cleanup(m.up.Close)
	m.note()
	for range n {
		m.add(change...)
	}
	m.whole()
}

// ringSize is how many nodes own something, as a site sees it.
func (m *mesh) ringSize(s *site) int {
	n := 0
	for _, member := range s.node.Status().Cluster.Members {
		if member.RingShare > 0 {
			n++
		}
	}
	return n
}

// add starts one more node and joins it to the others.
func (m *mesh) add(change ...func(*config.Config)) *site {
	m.t.Helper()
	i := len(m.sites)
	s := &site{m: m, name: "site" + strconv.Itoa(i), newest: make(map[string]time.Time)}
	cfg := config.Default()
	cfg.Listen, cfg.Admin.Address, cfg.Data = []string{"127.0.0.1:0"}, "", m.t.TempDir()
	cfg.Cache.MaxSize = blobstore.Limit{Bytes: 1 << 30}
	cfg.Cache.Memory, cfg.Cache.Scrub = 8<<20, 0
	cfg.UpstreamClient.AuthConf, cfg.UpstreamClient.Proxy = nil, upstream.Direct
	cfg.Drain.Timeout = 5 * time.Second
	cfg.Prefetch.Enabled = false // what upstream is asked for is the test's own doing
	u := archiveconf.New("ubuntu")
	u.Upstream, u.SignedBy = m.up.URL, []string{string(m.archive.ArmoredKeyring())}
	cfg.Archives = []archiveconf.Archive{u}
	cfg.Cluster.Name, cfg.Cluster.Insecure = "test", true
	cfg.Cluster.GossipListen, cfg.Cluster.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	for _, c := range change {
		c(cfg)
	}
	s.cfg = cfg
	for _, tune := range m.tune {
		tune(s)
	}
	m.sites = append(m.sites, s)
	s.start()
	m.t.Cleanup(s.stop)
	return s
}

// start runs the node; it joins through all that run.
func (s *site) start() {
	s.m.t.Helper()
	s.cfg.Cluster.Seeds = slices.Clone(s.keepSeeds)
	for _, other := range s.m.sites {
		if other.node != nil {
			s.cfg.Cluster.Seeds = append(s.cfg.Cluster.Seeds, other.node.GossipAddr())
		}
	}
	log := slog.New(slog.NewTextHandler(s.m.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("at", s.name)
	n, err := node.New(s.cfg, node.Options{
		Logger: log, Name: s.name, TuneHolds: s.holds,
		TuneGossip: func(c *ring.Config) {
			quick(c)
			if s.gossip != nil {
				s.gossip(c)
			}
		},
		TunePeers: func(c *peers.Config) {
			if s.m.hasty {
				hasty(c)
			} else {
				patient(c)
			}
			if s.peers != nil {
				s.peers(c)
			}
		},
	})
	if err != nil {
		s.m.t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		s.m.t.Fatal(err)
	}
	s.node, s.addr = n, n.Addrs()[0]
	s.mu.Lock()
	s.peerAt = n.PeerAddr()
	s.mu.Unlock()
}

// stop drains the node and has it leave.
func (s *site) stop() {
	if s.node == nil {
		return
	}
	if err := s.node.Stop(context.Background()); err != nil {
		s.m.t.Errorf("stop %s: %v", s.name, err)
	}
	s.node = nil
}

// kill takes the node away without a farewell, as kill -9 would.
func (s *site) kill() {
	s.m.mu.Lock()
	s.m.deaths++
	s.m.mu.Unlock()
	s.node.Kill()
	s.node = nil
}

// alive are the sites that run.
func (m *mesh) alive() []*site {
	return slices.DeleteFunc(slices.Clone(m.sites), func(s *site) bool { return s.node == nil })
}

// whole waits until all nodes that run see each other, own, and agree.
func (m *mesh) whole() {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.describe()
		}
	}()
	m.eventually("the nodes are one ring", func() bool {
		alive := m.alive()
		var hash string
		for _, s := range alive {
			c := s.node.Status().Cluster
			if c == nil || hash != "" && c.RingHash != hash {
				return false
			}
			hash = c.RingHash
			active := 0
			for _, member := range c.Members {
				if member.State == admin.MemberActive && member.Health == admin.HealthOK {
					active++
				}
			}
			if active != len(alive) {
				return false
			}
		}
		return true
	})
}

// describe says how each node sees the cluster.
func (m *mesh) describe() {
	for _, s := range m.alive() {
		c := s.node.Status().Cluster
		m.t.Logf("%s: ring %s", s.name, c.RingHash)
		for _, o := range c.Members {
			m.t.Logf("    %s %s %s %s share %.2f agrees %v", o.Name, o.State, o.Health, o.Why, o.RingShare, o.RingAgrees)
		}
	}
}

func (m *mesh) eventually(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("never: %s", what)
		}
	}
}

// publish brings the archive's next generation, dated now or a second after the
// one before.
func (m *mesh) publish(suites ...string) {
	m.archive.Publish(time.Now().Truncate(time.Second), suites...)
	m.note()
}

// note remembers what the archive has now as signed.
func (m *mesh) note() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, data := range m.archive.Files() {
		if m.signed[path] == nil {
			m.signed[path] = make(map[[32]byte]bool)
		}
		m.signed[path][sha256.Sum256(data)] = true
	}
}

// client is one host: it keeps to one node unless told otherwise.
type client struct {
	name string
	http *http.Client
}

func newClient(name string) *client {
	return &client{name, &http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

// get asks a node as apt does and holds what comes against the archive: a complete
// body must be one that was signed, and a Release must not be older than the one
// this client had from this node before.
func (s *site) get(ctx context.Context, c *client, path string, header ...string) result {
	return s.getAt(ctx, c, s.addr, path, header...)
}

// getAt is get from an address that the node may have had before.
func (s *site) getAt(ctx context.Context, c *client, addr, path string, header ...string) result {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/ubuntu/"+path, nil)
	if err != nil {
		return result{err: err}
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return result{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	r := result{resp.StatusCode, resp.Header, body, err}
	if r.status == 200 && err == nil {
		s.m.checkBody(s, c, path, body)
	}
	return r
}

func (m *mesh) checkBody(s *site, c *client, path string, body []byte) {
	m.mu.Lock()
	right := m.signed[path][sha256.Sum256(body)]
	m.mu.Unlock()
	if !right {
		m.t.Errorf("%s got %d bytes of %s from %s that the archive never had", c.name, len(body), path, s.name)
	}
	if !strings.HasSuffix(path, "/InRelease") {
		return
	}
	date := releaseDate(body)
	key := c.name + " " + path
	s.mu.Lock()
	defer s.mu.Unlock()
	if date.Before(s.newest[key]) {
		m.t.Errorf("%s got the Release of %v from %s after that of %v", c.name, date, s.name, s.newest[key])
	}
	s.newest[key] = date
}

func releaseDate(body []byte) time.Time {
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, "Date: "); ok {
			date, _ := time.Parse(time.RFC1123, strings.TrimSpace(value))
			return date
		}
	}
	return time.Time{}
}

// want is get of what must be had now, as the archive has it.
func (s *site) want(path string, header ...string) result {
	s.m.t.Helper()
	f, ok := s.m.archive.Lookup(path)
	if !ok {
		s.m.t.Fatalf("the test archive has no %s", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := s.get(ctx, newClient("host of "+s.name), path, header...)
	if r.status != 200 || r.err != nil || len(r.body) != len(f.Data) {
		s.m.t.Fatalf("%s: GET %s: %d, %d bytes, %v; want 200 and %d bytes\n%.300s", s.name, path, r.status, len(r.body), r.err, len(f.Data), r.body)
	}
	return r
}

// update asks a node for what `apt update` asks for.
func (s *site) update() {
	s.m.t.Helper()
	s.want(inRelease)
	s.want(s.m.byHash(packages))
}

func (m *mesh) byHash(index string) string {
	f, _ := m.archive.Lookup(index)
	return filepath.Dir(index) + "/by-hash/SHA256/" + testarchive.Sum(testarchive.SHA256, f.Data)
}

// fetches are the transfers of a path that upstream began from byte 0; those that
// go on where one broke off are part of it.
func (m *mesh) fetches(path string) (fresh, resumed int) {
	for _, r := range m.up.Log() {
		switch {
		case r.Path != path || r.Method == http.MethodHead:
		case r.Status == http.StatusPartialContent:
			resumed++
		case r.Status == http.StatusOK:
			fresh++
		}
	}
	return fresh, resumed
}

// checkCluster holds the promises at the end of a scenario: what is stored is
// right, all nodes agree, and upstream was asked for each package no more often
// than nodes died.
func (m *mesh) checkCluster() {
	m.t.Helper()
	m.whole()
	m.eventually("all nodes serve one generation", func() bool {
		roots := make(map[string]map[string]bool)
		for _, s := range m.alive() {
			for _, a := range s.node.Status().Archives {
				for _, suite := range a.Suites {
					if suite.Root.IsZero() {
						continue
					}
					id := a.Name + "/" + suite.Dir
					if roots[id] == nil {
						roots[id] = make(map[string]bool)
					}
					roots[id][suite.Root.String()] = true
				}
			}
		}
		for _, r := range roots {
			if len(r) > 1 {
				return false
			}
		}
		return true
	})
	m.mu.Lock()
	allowed := 1 + m.deaths
	m.mu.Unlock()
	for _, path := range m.up.Paths() {
		if !strings.HasPrefix(path, "pool/") && !strings.Contains(path, "/by-hash/") {
			continue
		}
		if fresh, _ := m.fetches(path); fresh > allowed {
			m.t.Errorf("upstream was asked %d times for %s; %d nodes died", fresh, path, allowed-1)
		}
	}
	for _, s := range m.sites {
		if err := rightBlobs(s.cfg.Data); err != nil {
			m.t.Errorf("%s: %v", s.name, err)
		}
	}
}

// rightBlobs re-hashes every blob of a data directory.
func rightBlobs(data string) error {
	return filepath.WalkDir(filepath.Join(data, "blobs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a directory that is being written to
		}
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(b)); sum != d.Name() {
			return fmt.Errorf("blob %s has the digest %s", d.Name(), sum)
		}
		return nil
	})
}

// crowd runs n clients, each on a node of its own choice by the seed, and returns
// what each got.
func (m *mesh) crowd(n int, seed uint64, do func(i int, s *site, c *client) result) []result {
	rnd := rand.New(rand.NewPCG(seed, 1))
	results := make([]result, n)
	var wg sync.WaitGroup
	for i := range n {
		s := m.sites[rnd.IntN(len(m.sites))]
		wg.Go(func() { results[i] = do(i, s, newClient("host"+strconv.Itoa(i))) })
	}
	wg.Wait()
	return results
}
