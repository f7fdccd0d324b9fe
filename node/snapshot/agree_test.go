package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// nodes are several worlds that can be cut off from each other.
type nodes struct {
	*testing.T
	mu   sync.Mutex
	all  map[string]*world
	cut  map[string]bool // nodes that reach nobody
	busy chan struct{}   // no node answers before it is closed; nil: all do
}

// member is one node's view of the others.
type member struct {
	n    *nodes
	self string
}

func newNodes(t *testing.T, names ...string) *nodes {
	n := &nodes{T: t, all: make(map[string]*world), cut: make(map[string]bool)}
	for _, name := range names {
		n.all[name] = newWorld(t)
	}
	for name, w := range n.all {
		w.cfg.Node, w.cfg.Cluster = name, member{n, name}
		w.restart()
	}
	return n
}

func (m member) Nodes() (alive, silent []string) {
	m.n.mu.Lock()
	defer m.n.mu.Unlock()
	for name := range m.n.all {
		switch {
		case name == m.self:
		case m.n.cut[name] || m.n.cut[m.self]:
			silent = append(silent, name)
		default:
			alive = append(alive, name)
		}
	}
	slices.Sort(alive)
	return alive, silent
}

func (m member) Snapshots(_ context.Context, node string, told proto.SnapshotNews) (proto.SnapshotNews, error) {
	if alive, _ := m.Nodes(); !slices.Contains(alive, node) {
		return proto.SnapshotNews{}, &proto.PeerFailed{Peer: node, Err: errors.New("cut off")}
	}
	m.n.mu.Lock()
	busy := m.n.busy
	m.n.mu.Unlock()
	if busy != nil {
		<-busy
	}
	return m.n.all[node].Serve(m.self, told)
}

func (n *nodes) partition(names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	for _, name := range names {
		n.cut[name] = true
	}
}

// agree demands that all nodes know the same, when each has met the others.
func (n *nodes) agree() {
	n.Helper()
	for range 2 {
		for _, w := range n.all {
			w.MeetAll(n.Context())
		}
	}
	var first uint64
	for name, w := range n.all {
		if first == 0 {
			first = w.Sum()
		}
		if w.Sum() != first {
			n.Fatalf("%s knows something else: %v", name, w.table.Load().names.List("snapshot"))
		}
		if lacking := w.table.Load().lacking(); len(lacking) > 0 {
			n.Fatalf("%s lacks records: %v", name, lacking)
		}
	}
}

// An act on one node is in force on all others when the command ends, with all that it takes to serve it.
func TestActsReachAllNodes(t *testing.T) {
	n := newNodes(t, "n1", "n2", "n3")
	n.all["n1"].create("w48", "ubuntu")
	n.all["n1"].publish("ubuntu")
	for name, w := range n.all {
		if !w.Known("w48", "ubuntu") {
			t.Fatalf("%s does not know it", name)
		}
		w.gives("w48", "ubuntu", 1)
	}
	if _, err := n.all["n2"].SetChannel(t.Context(), "stable", "w48", Order{By: "root"}); err != nil {
		t.Fatal(err)
	}
	for _, w := range n.all {
		w.gives("stable", "ubuntu", 1)
	}
	if _, err := n.all["n3"].SetChannel(t.Context(), "stable", "live", Order{By: "root"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.all["n3"].Remove(t.Context(), "w48", "root"); err != nil {
		t.Fatal(err)
	}
	for name, w := range n.all {
		w.knowsNot("w48", "ubuntu")
		if len(w.pins) != 1 {
			t.Errorf("%s does not keep it for a day: %v", name, w.pins)
		}
	}
	n.agree()
	for name, w := range n.all {
		w.now = w.now.Add(graceFor + time.Minute)
		if w.Tend(); len(w.pins) != 0 {
			t.Errorf("a day later, %s still pins %v", name, w.pins)
		}
	}
	n.agree()
	for _, w := range n.all {
		w.restart()
	}
	n.agree()
	if moves, err := n.all["n1"].History("stable"); err != nil || len(moves) != 2 || moves[0].Node != "n3" {
		t.Errorf("%v, %v", moves, err)
	}
}

// An operator who cannot wait for the other nodes moves a channel here, and they hear of it.
func TestMovesWithoutWaiting(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	w := n.all["n1"]
	w.create("w48", "ubuntu")
	busy := make(chan struct{})
	n.mu.Lock()
	n.busy = busy
	n.mu.Unlock()
	order := Order{By: "root", Now: true}
	if m, err := w.SetChannel(t.Context(), "stable", "w48", order); err != nil || len(m.Unreached) != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	w.gives("stable", "ubuntu", 1)
	if _, err := w.Promote(t.Context(), "stable", "edge", order); err != nil {
		t.Fatal(err)
	}
	close(busy)
	w.Keeper.Close() // waits for what is under way
	if names := n.all["n2"].Channels(); len(names) != 2 {
		t.Errorf("the other node knows %+v", names)
	}
}

// A name that a reachable node has given cannot be given again, though this node has not heard of it by itself.
func TestNameIsTakenElsewhere(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	n.partition("n2")
	n.all["n1"].create("w48", "ubuntu")
	n.partition()
	_, _, err := n.all["n2"].Create(t.Context(), "w48", Plan{Archives: []string{"ubuntu"}})
	if !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
}

// Nodes that are apart go on, say whom they did not reach, and lose nothing when they meet.
func TestPartition(t *testing.T) {
	n := newNodes(t, "n1", "n2", "n3")
	n.all["n1"].create("w47", "ubuntu")
	for _, w := range n.all {
		if _, err := w.SetChannel(t.Context(), "stable", "w47", Order{By: "root"}); err != nil {
			t.Fatal(err)
		}
		break
	}
	n.agree()
	n.partition("n3")
	for _, w := range n.all {
		w.publish("ubuntu")
	}
	n.all["n3"].publish("ubuntu") // it sees another generation
	s, _, err := n.all["n1"].Create(t.Context(), "w48", Plan{Archives: []string{"ubuntu"}})
	if err != nil || !slices.Equal(s.Unreached, []string{"n3"}) {
		t.Errorf("not reached: %+v, %v", s, err)
	}
	n.all["n3"].create("w48", "ubuntu")
	n.all["n3"].now = n.all["n3"].now.Add(-2 * time.Hour) // and has a wrong clock
	if _, err := n.all["n3"].SetChannel(t.Context(), "stable", "w48", Order{By: "root"}); err != nil {
		t.Fatal(err)
	}
	if n.all["n1"].Sum() == n.all["n3"].Sum() {
		t.Fatal("they are not apart")
	}
	n.all["n1"].gives("stable", "ubuntu", 1)
	n.all["n3"].gives("stable", "ubuntu", 3)
	n.partition()
	n.agree()
	for name, w := range n.all {
		var list []string
		for _, s := range w.List() {
			list = append(list, s.Name)
			if s.Record == nil {
				t.Errorf("%s has no record of %s", name, s.Name)
			}
		}
		if len(list) != 3 || list[0] != "w47" || list[1] != "w48" || !strings.HasPrefix(list[2], "w48~") {
			t.Errorf("%s has %v", name, list)
		}
		// n3's is the newer one: it acted at an hour later by its own clock.
		w.gives("w48", "ubuntu", 3)
		w.gives(list[2], "ubuntu", 2)
		w.gives("stable", "ubuntu", 3)
	}
}

// A node that restarts with what it knew long ago does not bring back what was removed, and says nothing
// before it has heard the others.
func TestAwayForLong(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	n.all["n1"].create("gone", "ubuntu")
	n.all["n1"].create("kept", "debian")
	n.agree()
	n.partition("n2")
	if _, err := n.all["n1"].Remove(t.Context(), "gone", "root"); err != nil {
		t.Fatal(err)
	}
	for _, w := range n.all {
		w.now = w.now.Add(RemovedFor + 24*time.Hour)
	}
	n.all["n1"].publish("ubuntu")
	n.all["n1"].create("later", "ubuntu") // n1 forgets the removal by now
	n.all["n2"].restart()
	n.partition()
	n.all["n2"].MeetAll(t.Context()) // it speaks first
	n.agree()
	for name, w := range n.all {
		var list []string
		for _, s := range w.List() {
			list = append(list, s.Name)
		}
		if !slices.Equal(list, []string{"kept", "later"}) {
			t.Errorf("%s has %v", name, list)
		}
	}
}

// Nodes that were all off for long know no better than each other: nothing is given up, and what is done from then on counts.
func TestAllAwayForLong(t *testing.T) {
	n := newNodes(t, "n1", "n2", "n3")
	n.all["n1"].create("old", "ubuntu")
	n.agree()
	for _, w := range n.all {
		w.now = w.now.Add(2 * RemovedFor)
	}
	for _, w := range n.all {
		w.restart()
	}
	n.all["n2"].create("new", "debian")
	n.agree()
	for name, w := range n.all {
		if !w.Known("old", "ubuntu") || !w.Known("new", "debian") || w.absence() != proto.Present {
			t.Errorf("%s has %v, away %v", name, w.List(), w.absence())
		}
	}
}

// A node that was away gives nothing up to one that is new and knows of nothing, and keeps what was done on it lately.
func TestAwayMeetsANewNode(t *testing.T) {
	n := newNodes(t, "n1", "n2", "n3")
	n.partition("n2", "n3")
	n.all["n1"].create("old", "ubuntu")
	for _, w := range n.all {
		w.now = w.now.Add(2 * RemovedFor)
	}
	n.all["n1"].create("new", "debian")
	n.all["n1"].restart()
	n.partition("n3")
	n.all["n2"].MeetAll(t.Context()) // the new one speaks first
	n.all["n1"].MeetAll(t.Context())
	for _, name := range []string{"n1", "n2"} {
		if w := n.all[name]; !w.Known("old", "ubuntu") || !w.Known("new", "debian") {
			t.Errorf("%s has %v", name, w.List())
		}
	}
}

// A node that hears of the others and of no change, for however long, is not away.
func TestMeetsWithoutChange(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	n.all["n1"].create("w48", "ubuntu")
	n.agree()
	for range 60 {
		for _, w := range n.all {
			w.now = w.now.Add(12 * time.Hour)
		}
		n.all["n1"].MeetAll(t.Context())
	}
	for name, w := range n.all {
		if w.restart(); w.absence() != proto.Present {
			t.Errorf("%s counts as away", name)
		}
	}
}

// A node of a cluster whose names are damaged gets them from the others.
func TestNamesAreDamagedInACluster(t *testing.T) {
	n := newNodes(t, "n1", "n2")
	n.all["n1"].create("w48", "ubuntu")
	n.agree()
	n.all["n1"].files[namesFile] = []byte("garbage")
	n.all["n1"].restart()
	n.all["n1"].MeetAll(t.Context())
	if l := n.all["n1"].List(); len(l) != 1 || l[0].Name != "w48" || !n.all["n1"].Known("w48", "ubuntu") {
		t.Errorf("%v", l)
	}
	n.agree()
}

// What another node sends is refused as a whole where it makes no sense, and changes nothing.
func TestServeRefuses(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	before := w.Sum()
	r := w.List()[0]
	other := newWorld(t)
	other.publish("ubuntu")
	other.create("w49", "ubuntu")
	told, err := other.Serve("x", proto.SnapshotNews{Names: []byte("[]"), Wanted: []string{other.List()[0].Digest}})
	if err != nil || len(told.Records) != 1 {
		t.Fatal(err, len(told.Records))
	}
	for _, bad := range []proto.SnapshotNews{
		{Names: []byte("x")},
		{Names: []byte(`[{"kind":"snapshot","name":"../x","seen":{"n":1}}]`)},
	} {
		if _, err := w.Serve("x", bad); err == nil {
			t.Errorf("%s is taken", bad.Names)
		}
	}
	// A record that no name stands for is nobody's.
	if _, err := w.Serve("x", proto.SnapshotNews{Names: []byte("[]"), Records: told.Records}); err != nil {
		t.Error(err)
	}
	if files, _ := w.ListFiles(recordDir); len(files) != 1 || w.Sum() != before || w.List()[0].Digest != r.Digest {
		t.Errorf("records %v, list %v", files, w.List())
	}
	// With the name it is taken, and pinned.
	if _, err := w.Serve("x", told); err != nil {
		t.Fatal(err)
	}
	if !w.Known("w49", "ubuntu") || len(w.pins) != 2 {
		t.Errorf("known %v, pinned %v", w.Known("w49", "ubuntu"), w.pins)
	}
}

// Operators act on nodes that come and go. In the end all nodes know the same and can serve it.
func TestNodesAgree(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		names := []string{"n1", "n2", "n3", "n4"}
		n := newNodes(t, names...)
		for step := range 40 {
			w := n.all[names[r.IntN(len(names))]]
			name := fmt.Sprint("s", r.IntN(4))
			switch r.IntN(6) {
			case 0, 1:
				w.publish("ubuntu")
				w.Create(t.Context(), name, Plan{Archives: []string{"ubuntu"}, Note: fmt.Sprint(step)}) // it may be taken
			case 2:
				w.SetChannel(t.Context(), "stable", name, Order{By: "root"}) // or be nobody's
			case 3:
				w.Remove(t.Context(), name, "root")
			case 4:
				n.partition(names[:r.IntN(len(names))]...)
			case 5:
				w.restart()
			}
		}
		n.partition()
		n.agree()
		for name, w := range n.all {
			for _, s := range w.List() {
				if !w.Known(s.Name, "ubuntu") || w.pins[pinOwner(s.Digest)] == nil {
					t.Fatalf("seed %d: %s cannot serve %s", seed, name, s.Name)
				}
			}
		}
	}
}

// What was removed on a node that reached nobody stays removed when it reaches the others, however much later.
func TestRemovedWhileCutOff(t *testing.T) {
	n := newNodes(t, "n1", "n2", "n3")
	n.all["n2"].create("gone", "ubuntu")
	n.all["n2"].create("kept", "debian")
	n.agree()
	n.partition("n1")
	if _, err := n.all["n1"].Remove(t.Context(), "gone", "root"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for range 20 {
			for _, w := range n.all {
				w.now = w.now.Add(24 * time.Hour)
				w.MeetAll(t.Context())
			}
		}
		n.all["n1"].publish("ubuntu")
		n.all["n1"].create(fmt.Sprint("later", n.all["n1"].now.Unix()), "ubuntu") // a reason to write, and to forget
		n.all["n1"].restart()
	}
	n.partition()
	n.all["n2"].MeetAll(t.Context())
	n.agree()
	for name, w := range n.all {
		if w.Known("gone", "ubuntu") || !w.Known("kept", "debian") || len(w.List()) != 3 { // one is older than 30 days, and given up
			t.Errorf("%s has %v", name, w.List())
		}
	}
}
