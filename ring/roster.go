package ring

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxMissing is how many nodes that are gone are remembered.
const maxMissing = 256

// roster is who takes part, as memberlist's callbacks tell it. What memberlist
// returns when asked is not used: it goes on changing while one reads it.
//
// mu is a leaf. Callbacks take it under memberlist's own locks, so nothing may be
// called with it held.
type roster struct {
	mu        sync.Mutex
	self      Node
	announced []byte            // our metadata as memberlist last spread it
	others    map[string]*other // by name
	missing   map[string]missing
}

// other is another node that takes part.
type other struct {
	node     Node
	at       memberlist.Node // a copy, to send to
	since    time.Time
	heard    time.Time // its last beacon; zero: none yet
	ringHash uint64    // as that beacon said
	silent   bool      // as the log last said
}

// missing is a node that vanished without a farewell.
type missing struct {
	addr string
	gone time.Time
}

func newRoster(self Node) *roster {
	return &roster{self: self, others: make(map[string]*other), missing: make(map[string]missing)}
}

// put notes a node that came or changed.
func (r *roster) put(n *memberlist.Node) error {
	node, err := nodeOf(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Name == r.self.Name {
		r.announced = bytes.Clone(n.Meta)
		r.self.GossipAddr = node.GossipAddr
		return nil
	}
	delete(r.missing, n.Name)
	o, ok := r.others[n.Name]
	if !ok {
		o = &other{since: time.Now()}
		r.others[n.Name] = o
	}
	o.node, o.at = node, *n
	return err
}

// remove notes that a node is gone. One that had announced to leave is forgotten;
// any other is somebody to look for.
func (r *roster) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.others[name]
	if !ok {
		return
	}
	delete(r.others, name)
	if o.node.State == Leaving {
		return
	}
	if len(r.missing) >= maxMissing {
		delete(r.missing, r.longestMissing())
	}
	r.missing[name] = missing{o.node.GossipAddr, time.Now()}
}

// longestMissing names whoever has been missing longest. The caller holds mu.
func (r *roster) longestMissing() string {
	var name string
	var gone time.Time
	for n, m := range r.missing {
		if name == "" || m.gone.Before(gone) {
			name, gone = n, m.gone
		}
	}
	return name
}

// become moves this node on to a later state and reports whether it did.
func (r *roster) become(s State) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s <= r.self.State {
		return false
	}
	r.self.State = s
	return true
}

// meta is what this node says of itself.
func (r *roster) meta() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return encodeMeta(r.self)
}

// upToDate reports whether memberlist spreads what this node now says of itself.
func (r *roster) upToDate() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Equal(r.announced, encodeMeta(r.self))
}

// nodes returns all nodes, self included.
func (r *roster) nodes() []Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	nodes := make([]Node, 0, len(r.others)+1)
	nodes = append(nodes, r.self)
	for _, o := range r.others {
		nodes = append(nodes, o.node)
	}
	return nodes
}

// names returns the names of the others, sorted.
func (r *roster) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.others))
}

// size is how many nodes there are, self included.
func (r *roster) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.others) + 1
}

// addresses returns where this node and the others are, and where the missing
// ones were.
func (r *roster) addresses() (present map[string]bool, gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	present = map[string]bool{r.self.GossipAddr: true}
	for _, o := range r.others {
		present[o.node.GossipAddr] = true
	}
	for _, m := range r.missing {
		if !present[m.addr] {
			gone = append(gone, m.addr)
		}
	}
	return present, gone
}

// lookedFor returns the names of the nodes that are missing, sorted.
func (r *roster) lookedFor() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.missing))
}

// recipients returns copies of the other nodes, to send to.
func (r *roster) recipients() []*memberlist.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*memberlist.Node, 0, len(r.others))
	for _, o := range r.others {
		at := o.at
		all = append(all, &at)
	}
	return all
}

// hear notes a beacon. One of somebody who is not a member says nothing.
func (r *roster) hear(b beacon) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.others[b.name]; ok {
		o.heard, o.ringHash = time.Now(), b.ringHash
	}
}

// Heard is what a node's last beacon told.
type Heard struct {
	At       time.Time // zero: none has arrived yet
	RingHash uint64    // of the ring that it sees
}

// heard returns what beacons told, and whose have not arrived for longer than
// patience, sorted.
func (r *roster) heard(patience time.Duration) (all map[string]Heard, silent []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = make(map[string]Heard, len(r.others))
	for name, o := range r.others {
		all[name] = Heard{o.heard, o.ringHash}
		if o.isSilent(patience) {
			silent = append(silent, name)
		}
	}
	slices.Sort(silent)
	return all, silent
}

func (o *other) isSilent(patience time.Duration) bool {
	last := o.heard
	if last.Before(o.since) {
		last = o.since
	}
	return time.Since(last) > patience
}

// silenceChanged returns whose beacons have stopped, and whose arrive again, since
// it was last asked.
func (r *roster) silenceChanged(patience time.Duration) (stopped, again []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, o := range r.others {
		silent := o.isSilent(patience)
		switch {
		case silent && !o.silent:
			stopped = append(stopped, name)
		case !silent && o.silent:
			again = append(again, name)
		}
		o.silent = silent
	}
	slices.Sort(stopped)
	slices.Sort(again)
	return stopped, again
}
