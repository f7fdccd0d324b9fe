package ring

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxMissing is how many nodes that are gone are remembered.
const maxMissing = 256

// roster is the list of members, built from memberlist's callbacks. memberlist's own list is
// not used, because it changes while it is read.
//
// mu is a leaf. Callbacks take it under memberlist's own locks, so its holder must not call
// anything.
type roster struct {
	mu        sync.Mutex
	self      Node
	announced []byte            // our metadata as memberlist last spread it
	others    map[string]*other // by name
	missing   map[string]Missing
	// gone holds the nodes that left or were removed, with the time. A node that still
	// lists one of them as missing learns it from here.
	gone map[string]departure
}

// departure is that of a node that left or was removed.
type departure struct {
	at      time.Time
	address string // of its gossip; seeds may still name it
}

// other is another node that takes part.
type other struct {
	node       Node
	at         memberlist.Node // a copy, to send to
	since      time.Time
	lastBeacon time.Time // its last beacon; zero: none yet
	silent     bool      // as the log last said
}

// Missing is a node that vanished without a farewell. It stays missing until it
// comes back, or leaves, or is removed.
type Missing struct {
	Name       string    `json:"name"`
	Datacenter string    `json:"datacenter"`
	Address    string    `json:"address"` // of its gossip
	Since      time.Time `json:"since"`   // when it was last a member
	// Left is when it left or was removed: it is not looked for. Only Known returns such nodes.
	Left time.Time `json:"left,omitzero"`
}

func newRoster(self Node) *roster {
	return &roster{self: self, others: make(map[string]*other), missing: make(map[string]Missing), gone: make(map[string]departure)}
}

// recall notes nodes that were members before this one was started. They are
// missing until they show up, except those that left or were removed.
func (r *roster) recall(known []Missing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range known {
		switch {
		case k.Name == r.self.Name || !validName(k.Name):
		case !k.Left.IsZero():
			r.remember(k.Name, departure{k.Left, k.Address})
		case len(r.missing) < maxMissing:
			r.missing[k.Name] = k
		}
	}
}

// known returns what recall of the next process takes: all other nodes, whether
// missing or not, or gone for good, by name.
func (r *roster) known() []Missing {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Collect(maps.Values(r.missing))
	for name, o := range r.others {
		if o.node.State != Leaving {
			all = append(all, Missing{Name: name, Datacenter: o.node.Datacenter, Address: o.node.GossipAddr, Since: time.Now()})
		}
	}
	for name, d := range r.gone {
		all = append(all, Missing{Name: name, Address: d.address, Left: d.at})
	}
	slices.SortFunc(all, byName)
	return all
}

func byName(a, b Missing) int { return strings.Compare(a.Name, b.Name) }

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
	delete(r.gone, n.Name)
	o, ok := r.others[n.Name]
	if !ok {
		o = &other{since: time.Now()}
		r.others[n.Name] = o
	}
	o.node, o.at = node, *n
	return err
}

// remove notes that a node is gone. A node that had announced its departure is forgotten;
// any other node is missing from now on.
func (r *roster) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.others[name]
	if !ok {
		return
	}
	delete(r.others, name)
	if _, removed := r.gone[name]; removed {
		return
	}
	if o.node.State == Leaving {
		r.remember(name, departure{time.Now(), o.node.GossipAddr})
		return
	}
	if len(r.missing) >= maxMissing {
		delete(r.missing, r.longestMissing())
	}
	r.missing[name] = Missing{Name: name, Datacenter: o.node.Datacenter, Address: o.node.GossipAddr, Since: time.Now()}
}

// remember notes that a node is not to be looked for. The caller holds mu.
func (r *roster) remember(name string, d departure) {
	delete(r.missing, name)
	if _, known := r.gone[name]; !known && len(r.gone) >= maxMissing {
		oldest := name
		for n, other := range r.gone {
			if oldest == name || other.at.Before(r.gone[oldest].at) {
				oldest = n
			}
		}
		delete(r.gone, oldest)
	}
	r.gone[name] = d
}

// addressOf is where the gossip of a node that is here comes from; "" for any other.
func (r *roster) addressOf(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == r.self.Name {
		return r.self.GossipAddr
	}
	if o, here := r.others[name]; here {
		return o.node.GossipAddr
	}
	return ""
}

// forget takes a missing node off the list for good. It fails for a node that is
// here, and for one that nobody knows.
func (r *roster) forget(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, here := r.others[name]; here || name == r.self.Name {
		return ErrPresent
	}
	m, missed := r.missing[name]
	if !missed {
		return ErrUnknown
	}
	r.remember(name, departure{time.Now(), m.Address})
	return nil
}

// learn accepts what another node knows of departures, and returns the names that were new.
// A node that has become a member since then stays a member.
func (r *roster) learn(gone map[string]time.Time) (added []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, at := range gone {
		m, missed := r.missing[name]
		if _, known := r.gone[name]; known || !validName(name) || missed && m.Since.Unix() > at.Unix() {
			continue
		}
		address := m.Address
		if o, here := r.others[name]; here && !missed && o.since.Unix() <= at.Unix() {
			address = o.node.GossipAddr
		} else if !missed {
			continue // of no use here, or it came back since
		}
		r.remember(name, departure{at, address})
		added = append(added, name)
	}
	slices.Sort(added)
	return added
}

// goneNodes returns a copy of what learn of another node takes.
func (r *roster) goneNodes() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := make(map[string]time.Time, len(r.gone))
	for name, d := range r.gone {
		gone[name] = d.at
	}
	return gone
}

// vacated returns the addresses of nodes that left or were removed, without those of missing nodes.
func (r *roster) vacated() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]bool, len(r.gone))
	for _, d := range r.gone {
		all[d.address] = true
	}
	for _, m := range r.missing {
		delete(all, m.Address)
	}
	return all
}

// longestMissing names the node that has been missing longest. The caller holds mu.
func (r *roster) longestMissing() string {
	var name string
	var gone time.Time
	for n, m := range r.missing {
		if name == "" || m.Since.Before(gone) {
			name, gone = n, m.Since
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
		if !present[m.Address] {
			gone = append(gone, m.Address)
		}
	}
	return present, gone
}

// lookedFor returns the nodes that are missing, by name.
func (r *roster) lookedFor() []Missing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.missing), byName)
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

// receiveBeacon notes a beacon. A beacon of a node that is not a member is ignored.
func (r *roster) receiveBeacon(b beacon) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.others[b.name]; ok {
		o.lastBeacon = time.Now()
	}
}

// beacons returns when the last beacon of each other node arrived, and the nodes from which
// none has arrived for longer than patience, sorted.
func (r *roster) beacons(patience time.Duration) (all map[string]time.Time, silent []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = make(map[string]time.Time, len(r.others))
	for name, o := range r.others {
		all[name] = o.lastBeacon
		if o.isSilent(patience) {
			silent = append(silent, name)
		}
	}
	slices.Sort(silent)
	return all, silent
}

func (o *other) isSilent(patience time.Duration) bool {
	last := o.lastBeacon
	if last.Before(o.since) {
		last = o.since
	}
	return time.Since(last) > patience
}

// silenceChanged returns the nodes whose beacons have stopped, and those whose beacons arrive
// again, since its last call.
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
