package catalog

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Cluster is the other nodes, as the catalog needs them. Safe for concurrent use.
type Cluster interface {
	// Rank is how many healthy nodes come before this one for a suite: the node of
	// rank 0 asks upstream for all. It must not block.
	Rank(proto.Suite) int
	// Ask has the node that leads a suite tell what it serves, and with fresh look
	// at upstream first. uses are what clients of this node want of the suite. from
	// is the node that answered. The error is *proto.PeerFailed where no other node
	// could be asked, and otherwise what that node says of upstream.
	Ask(ctx context.Context, id proto.Suite, uses []string, fresh bool) (from string, news proto.News, err error)
	// Lookup asks other nodes what the signed metadata that they hold says of a file;
	// false where none answers with a SHA-256 in about a second.
	Lookup(ctx context.Context, loc proto.Location) (proto.Ref, bool)
	// Tell passes news on, without blocking: to everybody directly where it is first
	// hand, else as a hint.
	Tell(proto.News)
}

// rank is how many nodes come before this one for the suite; 0 where it is alone.
func (s *suite) rank() int {
	if s.c.cfg.Cluster == nil {
		return 0
	}
	return s.c.cfg.Cluster.Rank(s.id)
}

// leads reports whether it is for this node to ask upstream.
func (s *suite) leads() bool { return s.rank() == 0 }

// News is all that this node can tell the others, for an exchange in full. Safe for
// concurrent use.
func (c *Catalog) News() []proto.News {
	c.mu.Lock()
	suites := slices.Collect(maps.Values(c.suites))
	c.mu.Unlock()
	slices.SortFunc(suites, func(x, y *suite) int { return strings.Compare(x.id.String(), y.id.String()) })
	var all []proto.News
	for _, s := range suites {
		if n := s.news(); !n.Generation.Root.IsZero() {
			all = append(all, n)
		}
	}
	return all
}

// news is what this node can tell of the suite. Its root is zero while it holds none.
func (s *suite) news() proto.News {
	n := proto.News{Generation: proto.Generation{Suite: s.id}, Uses: s.toldUses()}
	if good := s.lastGood.Load(); good != 0 {
		n.Checked = time.Unix(0, good).UTC()
	}
	if g := s.held(); g != nil {
		n.Generation = g.Generation
		if g.pair != nil {
			n.Pair = *g.pair
		}
	}
	return n
}

// tell passes on what this node holds. That it has looked and found nothing new, it
// tells less often than clients can make it look.
func (s *suite) tell(firstHand bool) {
	if s.c.cfg.Cluster == nil {
		return
	}
	now := s.c.cfg.Now()
	n := s.news()
	n.FirstHand = firstHand
	s.mu.Lock()
	again := s.told == n.Generation.Root && now.UnixNano()-s.lastTold.Load() < int64(s.interval()/2)
	s.told = n.Generation.Root
	s.mu.Unlock()
	if n.Generation.Root.IsZero() || again {
		return
	}
	s.lastTold.Store(now.UnixNano())
	s.c.cfg.Cluster.Tell(n)
}

// askLeader asks the node that leads the suite, and tells it what clients of this
// node use.
func (s *suite) askLeader(ctx context.Context, fresh bool) (from string, news proto.News, err error) {
	told := s.newUses.Swap(false)
	from, news, err = s.c.cfg.Cluster.Ask(ctx, s.id, s.ownUses(), fresh)
	s.c.metrics.asked(err)
	if err != nil {
		if told {
			s.newUses.Store(true)
		}
		return from, news, err
	}
	s.lastAsk.Store(s.c.cfg.Now().UnixNano())
	return from, news, nil
}

// Heeding reports whether what other nodes have told is just being taken in.
func (c *Catalog) Heeding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.suites {
		s.mu.Lock()
		listening := s.listening
		s.mu.Unlock()
		if listening {
			return true
		}
	}
	return false
}

// recall asks other nodes what a package must be that nothing held here lists: a
// client may hold a generation that came and went while this node was down. Their
// word makes it no listed file, but a mirror that lies is found out by it.
func (c *Catalog) recall(ctx context.Context, e *proto.Entry) {
	loc := e.Want.Where[0]
	if c.cfg.Cluster == nil || e.Want.Provable() || aptmeta.Classify(loc.Path) != aptmeta.KindPackage {
		return
	}
	if ref, ok := c.cfg.Cluster.Lookup(ctx, loc); ok {
		c.metrics.recalled.Inc()
		e.Want.Ref = ref
	}
}
