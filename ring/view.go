package ring

import (
	"cmp"
	"slices"
	"strings"
)

// State is what a node takes part in.
type State uint8

// The states of a node, in the order in which it goes through them.
const (
	Joining State = iota // it serves, but does not know the other nodes yet: owns nothing
	Active               // it serves and owns
	Leaving              // it serves until it is gone, and owns nothing any more
)

func (s State) String() string {
	switch s {
	case Joining:
		return "joining"
	case Active:
		return "active"
	case Leaving:
		return "leaving"
	}
	return "unknown"
}

// Node is one node of the cluster, as it describes itself.
type Node struct {
	Name       string
	Datacenter string
	PeerAddr   string // host:port of its gRPC
	GossipAddr string // ip:port of its gossip
	Version    string // of its software
	State      State
	// RingVersion is that of its placement; 0 where we do not understand what it
	// says of itself.
	RingVersion int
	Self        bool
}

// owns reports whether the node is in the ring.
func (n Node) owns() bool { return n.State == Active && n.RingVersion == Version }

// View is the cluster at one moment. It is immutable and safe for concurrent use.
type View struct {
	Nodes []Node // sorted by name, self included
	Ring  *Ring  // of the Active nodes with our Version, MaxNodes at most; may be empty, never nil
	// Missing are the nodes that vanished and are looked for, by name.
	Missing []Missing
}

// left is how many nodes would own but that the ring has no room for them, and whether
// this one is among them.
func (v *View) left() (n int, self bool) {
	for _, node := range v.Nodes {
		if node.owns() && !v.Ring.Contains(node.Name) {
			n++
			self = self || node.Self
		}
	}
	return n, self
}

// NewView returns the View of nodes, in any order, whose names are distinct.
func NewView(nodes []Node) (*View, error) {
	v, err := newView(nodes, nil)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// newView reuses the ring of the view before if the same nodes own keys, because parts of a
// ring are computed lazily and kept. It also reuses the ring if it returns an error.
//
// If there are more nodes than a ring can have, the nodes whose names come first own keys.
// That depends on nothing else, so all nodes see the same ring, whatever they saw before.
// When a node joins or leaves, at most one other node is replaced or added.
func newView(nodes []Node, before *Ring) (*View, error) {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	names := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if n.owns() {
			names = append(names, n.Name)
		}
	}
	if len(names) > MaxNodes {
		names = names[:MaxNodes]
	}
	if before != nil && slices.Equal(before.names, names) {
		return &View{Nodes: nodes, Ring: before}, nil
	}
	r, err := New(names)
	if err != nil {
		return &View{Nodes: nodes, Ring: before}, err
	}
	return &View{Nodes: nodes, Ring: r}, nil
}

// Node returns the node of that name.
func (v *View) Node(name string) (Node, bool) {
	i, ok := slices.BinarySearchFunc(v.Nodes, name, func(n Node, name string) int { return cmp.Compare(n.Name, name) })
	if !ok {
		return Node{}, false
	}
	return v.Nodes[i], true
}

// RingFor returns the ring of the nodes that may go to an upstream host to which
// the whole cluster may have limit connections: Ring itself while that is at least
// one for each of its nodes, else the ring of those with a slot. A limit of 0 or
// less is none. The first question for a host and limit takes as long as New.
func (v *View) RingFor(host string, limit int) *Ring {
	if limit <= 0 || limit >= v.Ring.Len() {
		return v.Ring
	}
	return v.Ring.limited(host, limit)
}

// others names the nodes but this one, in order. A nil View has none.
func (v *View) others() []string {
	if v == nil {
		return nil
	}
	var names []string
	for _, n := range v.Nodes {
		if !n.Self {
			names = append(names, n.Name)
		}
	}
	slices.Sort(names)
	return names
}
