package catalog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// fleet is several catalogs in front of one upstream, and the network between them.
type fleet struct {
	*testing.T
	a  *testarchive.Archive
	up *fakeUpstream
	// suite and root are what the nodes have to agree on.
	suite proto.Suite
	root  string
	// kind is what the archive holds, shown is its latest publication, and key signs it. nil: Debian's suite noble, in
	// all its forms, with several indexes.
	kind  *kind
	shown publication
	key   *testarchive.Key

	mu      sync.Mutex
	rng     *rand.Rand
	nodes   []*clusterNode
	order   []string        // who leads, and who comes after
	ill     map[string]bool // are passed over in the order: known to be out of reach
	dead    map[string]bool // answer nobody, whether that is known or not
	side    map[string]int  // of a partition
	way     time.Duration   // of a message, at most; half of it at least
	loss    float64         // of what is told
	twice   float64         // told again, later
	gossip  bool            // hints arrive, and full exchanges take place
	every   time.Duration   // between two exchanges of a node
	blind   bool            // nobody knows what others hold, but for what is told
	asks    int             // questions between nodes
	tells   int             // messages of what is told, one for each node
	onTell  func(from string, n proto.Announcement)
	foreign map[proto.Digest][]byte // what hostile nodes have to offer
	post    sync.WaitGroup          // messages on their way
}

// clusterNode is one node of a fleet.
type clusterNode struct {
	*world
	f         *fleet
	name      string
	up        *countingUpstream
	newest    time.Time             // the Date adopted last; guarded by fleet.mu
	mayGoBack bool                  // guarded by fleet.mu
	hinted    proto.Ref             // the root that gossip has been told of; guarded by fleet.mu
	stall     map[proto.Digest]bool // objects that whoever holds them never gives; guarded by fleet.mu
	cut       bool                  // from all objects but roots; guarded by fleet.mu
	slow      time.Duration         // is every object but roots
	warned    []string              // guarded by fleet.mu
	opened    map[proto.Digest]int  // guarded by fleet.mu
	ranked    []string              // the line as this node sees it, where it differs; guarded by fleet.mu
	running   bool                  // guarded by fleet.mu
}

// newFleet makes n nodes, n1 first in line, in front of an archive with the suite
// noble; none runs yet.
func newFleet(t *testing.T, n int, suites ...testarchive.Suite) *fleet {
	t.Helper()
	if len(suites) == 0 {
		suites = []testarchive.Suite{{Name: "noble", ByHash: true, Translations: true, Components: []string{"main", "universe"}}}
	}
	w := newWorld(t, suites...)
	w.a.AddPackage(suites[0].Name, testarchive.Package{Name: "hello", Version: "1"})
	f := &fleet{
		T: t, a: w.a, up: w.up, suite: noble(), root: nobleIn, way: 40 * time.Millisecond, gossip: true, every: 30 * time.Second, rng: rand.New(rand.NewPCG(1, 2)),
		ill: make(map[string]bool), dead: make(map[string]bool), side: make(map[string]int), foreign: make(map[proto.Digest][]byte),
	}
	t.Cleanup(f.post.Wait)
	for range n {
		f.add()
	}
	return f
}

// add adds a node at the end of the line.
func (f *fleet) add() *clusterNode {
	w := newWorld(f.T)
	w.a = f.a
	if f.kind != nil {
		w.serve(*f.kind, f.key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &clusterNode{world: w, f: f, name: fmt.Sprintf("n%d", len(f.nodes)+1), opened: make(map[proto.Digest]int), stall: make(map[proto.Digest]bool)}
	n.up = &countingUpstream{fakeUpstream: f.up, asked: make(map[string]int)}
	w.join(n)
	f.nodes = append(f.nodes, n)
	f.order = append(f.order, n.name)
	return n
}

// join makes the world one of a node.
func (w *world) join(n *clusterNode) {
	w.up = n.f.up
	w.cfg.Upstream = n.up
	w.cfg.Cluster = n
	w.cfg.Blobs = &clusterBlobs{n: n, alone: &fakeBlobs{up: n.f.up, keeper: w.keeper, strong: make(map[proto.SHA512]proto.Digest)}}
	w.cfg.Logger = slog.New(dates{slog.NewTextHandler(n.f.Output(), nil), n}).With("node", n.name)
}

// publish renders all suites as of now less a second.
func (f *fleet) publish() { f.a.Publish(time.Now().Add(-time.Second)) }

// upgrade replaces hello by another version and publishes. Of any kind of repository it makes that publication.
func (f *fleet) upgrade(version string) {
	if f.kind != nil {
		n, err := strconv.Atoi(version)
		if err != nil {
			f.Fatal(err)
		}
		f.shown = f.kind.published(n, f.key)
		f.nodes[0].lay(f.shown)
		return
	}
	f.a.RemovePackage("noble", "hello")
	f.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: version})
	f.publish()
}

// fleetOf is n nodes with a repository that a key vouches for, or nobody.
func fleetOf(t *testing.T, n int, k kind, trusted *testarchive.Key) *fleet {
	t.Helper()
	f := newFleet(t, n)
	f.suite, f.root, f.kind, f.key = k.suite, k.root, &k, trusted
	for _, n := range f.nodes {
		n.serve(k, trusted)
	}
	return f
}

// startedFleetOf is n nodes in front of a first publication, which a key signs.
func startedFleetOf(t *testing.T, n int, k kind) *fleet {
	t.Helper()
	f := fleetOf(t, n, k, testarchive.DefaultKey())
	f.upgrade("1")
	return f.start()
}

// usedFleetOf is n nodes whose clients use all of it, five minutes later.
func usedFleetOf(t *testing.T, n int, k kind) *fleet {
	t.Helper()
	f := startedFleetOf(t, n, k)
	for _, n := range f.nodes {
		n.used(f.shown)
	}
	f.settled(5 * time.Minute)
	f.agree(f.index(), f.own())
	f.forget()
	return f
}

// index is the path of what lists the packages; it is the root, where that does so itself.
func (f *fleet) index() string {
	if f.kind == nil {
		return noblePkgs
	}
	return cmp.Or(f.shown.index(), f.root)
}

// own is the path of the package that is new.
func (f *fleet) own() string { return f.shown.own() }

// slowly makes the nodes check every ten minutes, where days have to pass.
func (f *fleet) slowly() *fleet {
	f.every = time.Hour
	for _, n := range f.nodes {
		n.cfg.Archives[0].CheckEvery = 10 * time.Minute
	}
	return f
}

// start opens all nodes.
func (f *fleet) start() *fleet {
	f.Helper()
	for _, n := range f.nodes {
		n.start()
	}
	return f
}

// start opens a node and lets it take part.
func (n *clusterNode) start() *clusterNode {
	n.Helper()
	n.world.open()
	n.f.mu.Lock()
	n.running = true
	n.f.mu.Unlock()
	stop := make(chan struct{})
	n.f.post.Go(func() { n.exchange(stop) })
	n.Cleanup(func() { close(stop) })
	return n
}

// stop ends the node in good order, kill without: what is not durable is lost.
func (n *clusterNode) stop() {
	n.f.set(func() { n.running = false })
	n.catalog().Close()
}

func (n *clusterNode) kill() {
	n.world.state = n.world.state.copyState()
	n.stop()
}

// resume goes on with what was durable, on a new catalog.
func (n *clusterNode) resume() {
	n.Helper()
	again := *n.world
	again.open()
	n.f.set(func() { n.world, n.running = &again, true })
}

// dates is the log of a node, and holds that the Date it serves never goes back.
type dates struct {
	slog.Handler
	n *clusterNode
}

func (d dates) WithAttrs(attrs []slog.Attr) slog.Handler {
	return dates{d.Handler.WithAttrs(attrs), d.n}
}

func (d dates) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		line := r.Message
		r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
		d.n.f.set(func() { d.n.warned = append(d.n.warned, line) })
	}
	if r.Message == "adopted a generation" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "date" {
				date, _ := time.Parse(time.RFC3339, a.Value.String())
				d.n.f.set(func() {
					if date.Before(d.n.newest) && !d.n.mayGoBack {
						d.n.Errorf("%s went back from %v to %v", d.n.name, d.n.newest, date)
					}
					d.n.newest = date
				})
			}
			return true
		})
	}
	return d.Handler.Handle(ctx, r)
}

func (n *clusterNode) catalog() *Catalog {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return n.Catalog
}

// reachable reports whether two nodes can talk. fleet.mu is held.
func (f *fleet) reachable(a, b string) bool {
	return !f.dead[a] && !f.dead[b] && f.side[a] == f.side[b]
}

func (f *fleet) exchangeEvery() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.every
}

// set changes the network.
func (f *fleet) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fleet) node(name string) *clusterNode {
	for _, n := range f.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// settled waits until everything that goes on by itself has ended, d later.
func (f *fleet) settled(d time.Duration) {
	f.Helper()
	time.Sleep(d)
	for _, n := range f.nodes {
		if n.isRunning() {
			n.rest()
		}
	}
}

// agree demands that all nodes serve what upstream has, with every path of theirs.
func (f *fleet) agree(paths ...string) {
	f.Helper()
	want := refOfBytes(f.nodes[0].file(f.root))
	var first *clusterNode
	for _, n := range f.nodes {
		if !n.isRunning() || f.isDead(n) {
			continue
		}
		v := n.now(f.suite)
		if v == nil {
			f.Errorf("%s holds nothing", n.name)
			continue
		}
		if v.Root != want {
			f.Errorf("%s serves the root of %v, %v; upstream has %v", n.name, v.Date, v.Root, want)
		}
		if first == nil {
			first = n
		}
		if other := first.now(f.suite); !other.Modified.Equal(v.Modified) || !other.Date.Equal(v.Date) {
			f.Errorf("%s says that it is of %v, modified %v; %s says %v, %v", n.name, v.Date, v.Modified, first.name, other.Date, other.Modified)
		}
		for _, path := range paths {
			if e, ok := n.Explain(n.loc(path)); !ok || e.Object.Ref != refOfBytes(n.file(path)) {
				f.Errorf("%s: %s is %v, %v", n.name, path, e.Object.Ref, ok)
			}
		}
	}
}

// unlooked waits until no node has looked at upstream for more than a second: then it
// may again.
func (f *fleet) unlooked(nodes ...*clusterNode) {
	if nodes == nil {
		nodes = f.nodes
	}
	for i := 0; i < len(nodes); i++ {
		n := nodes[i].Catalog
		if fresh := nodes[i].noble().public.Load().belief.Fresh; n.mono().Sub(fresh.TriedFresh) < 2*suite.CheckPause {
			time.Sleep(suite.CheckPause)
			i = -1
		}
	}
}

// What the tests ask about nodes and messages.

func (n *clusterNode) isRunning() (yes bool) {
	n.f.set(func() { yes = n.running })
	return yes
}

func (f *fleet) isDead(n *clusterNode) (yes bool) {
	f.set(func() { yes = f.dead[n.name] })
	return yes
}

func (n *clusterNode) warnings() (lines []string) {
	n.f.set(func() { lines = slices.Clone(n.warned) })
	return lines
}

func (n *clusterNode) openings(d proto.Digest) (times int) {
	n.f.set(func() { times = n.opened[d] })
	return times
}

func (f *fleet) questions() (k int) {
	f.set(func() { k = f.asks })
	return k
}

func (f *fleet) messages() (k int) {
	f.set(func() { k = f.tells })
	return k
}

// noble is the driver of the suite that the nodes have to agree on.
func (n *clusterNode) noble() *driver {
	s, _ := n.known(n.f.suite)
	return s
}

// date is that of the generation which a client gets now.
func (n *clusterNode) date() time.Time {
	n.Helper()
	return n.must(n.f.root).Generation
}

// refresh checks upstream at once.
func (n *clusterNode) refresh() (bool, error) {
	return n.Refresh(context.Background(), n.f.suite, false)
}

func (n *clusterNode) othersUses() int {
	return len(n.noble().demand.remotes())
}

// polls is how often upstream was asked for the root, by all nodes together.
func (f *fleet) polls() int { return f.up.requests(f.root) }

// polled names the nodes that asked upstream for the root, and how often.
func (f *fleet) polled() string {
	var parts []string
	for _, n := range f.nodes {
		if k := n.up.requests(f.root); k > 0 {
			parts = append(parts, fmt.Sprintf("%s:%d", n.name, k))
		}
	}
	return strings.Join(parts, " ")
}

// forget starts the counting anew.
func (f *fleet) forget() {
	f.up.reset()
	f.mu.Lock()
	f.asks, f.tells = 0, 0
	f.mu.Unlock()
	for _, n := range f.nodes {
		n.up.mu.Lock()
		clear(n.up.asked)
		n.up.mu.Unlock()
	}
}
