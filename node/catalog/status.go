package catalog

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// SuiteStatus is what an operator wants to know of a suite.
type SuiteStatus struct {
	Suite      proto.Suite
	Date       time.Time // of the Release being served; zero for none
	Root       proto.Ref
	ValidUntil time.Time // zero where the Release does not say
	Expired    bool      // Valid-Until has passed: apt refuses the Release
	Checked    time.Time // when upstream last answered well; zero for never
	Changed    time.Time // when this process last adopted a generation
	// ServedUntil is until when the Release is served with upstream dead; zero for ever.
	ServedUntil time.Time
	Withheld    bool // that time is over: clients are told that it is
	// Alarm says in a sentence that Valid-Until is near, or past, and nobody has
	// renewed the Release; "" while all is well.
	Alarm     string
	Security  bool // the suite carries security updates: less of an outage is borne
	Offline   bool // upstream is not asked
	Watched   bool
	Mirrors   []MirrorStatus // what is known of those asked so far
	Err       error          // of the last check; nil when it was good
	Stale     string
	Leader    bool     // this node asks upstream for all
	Rank      int      // how many nodes come before it
	HeardFrom string   // the node that brought the generation; "" for upstream, or a run before
	Members   int      // files that the Release lists
	Staged    []string // members held because clients use them
	Retained  int      // superseded generations still readable
}

// Status lists all suites by name.
func (c *Catalog) Status() []SuiteStatus {
	now := c.cfg.Now()
	c.mu.Lock()
	suites := slices.Collect(maps.Values(c.suites))
	c.mu.Unlock()
	all := make([]SuiteStatus, 0, len(suites))
	for _, s := range suites {
		all = append(all, s.status(now))
	}
	slices.SortFunc(all, func(a, b SuiteStatus) int { return strings.Compare(a.Suite.String(), b.Suite.String()) })
	return all
}

func (s *suite) status(now time.Time) SuiteStatus {
	st := SuiteStatus{Suite: s.id, Rank: s.rank(), Offline: s.offline()}
	st.Leader = st.Rank == 0
	if good := s.lastGood.Load(); good != 0 {
		st.Checked = time.Unix(0, good).UTC()
	}
	s.c.mu.Lock()
	if g := s.current; g != nil {
		st.Date, st.Root, st.ValidUntil, st.Expired = g.Date, g.Root, g.validUntil, g.expired(now)
		st.Members = len(g.members)
		st.Staged = slices.Sorted(maps.Keys(g.staged))
		st.Retained = len(s.retained)
		st.Stale = s.stale(g, now)
		st.ServedUntil, _ = s.servedUntil(g)
		st.Withheld = s.withheld(g, now) != nil
		st.Alarm, st.Security = s.alarm(g, now), s.security(g)
	}
	g := s.current
	s.c.mu.Unlock()
	st.Mirrors = s.mirrorStatus(g)
	s.mu.Lock()
	st.Watched, st.Err, st.Changed, st.HeardFrom = s.watching, s.failure, s.changed, s.source
	s.mu.Unlock()
	return st
}

// len is the number of files listed.
func (t *table) len() int {
	if t == nil {
		return 0
	}
	return t.count + len(t.strong)
}

// Memory is what the tables of all archives take, in bytes, and the number of
// files they list.
func (c *Catalog) Memory() (bytes int64, files int) {
	for _, a := range c.view.Load().archives {
		if a.files != nil {
			bytes += int64(len(a.files.slots)) * rowBytes
			files += a.files.len()
		}
	}
	return bytes, files
}

// SuiteOf names the suite that a location lies in, if one is known.
func (c *Catalog) SuiteOf(loc proto.Location) (proto.Suite, bool) {
	a, ok := c.view.Load().archives[loc.Archive]
	if !ok {
		return proto.Suite{}, false
	}
	if s, _ := a.find(loc.Path); s != nil {
		return s.suite.id, true
	}
	return proto.Suite{}, false
}

// Knows reports whether the suite has been asked for or is configured.
func (c *Catalog) Knows(id proto.Suite) bool {
	_, ok := c.known(id)
	return ok
}

// Explain is Resolve for an onlooker: it starts nothing and leaves no trace, and
// it answers for a root whose freshness a request would first have checked.
func (c *Catalog) Explain(loc proto.Location) (e proto.Entry, ok bool) {
	a, ok := c.view.Load().archives[loc.Archive]
	if !ok {
		return proto.Entry{}, false
	}
	ok = c.lookup(&e, a, loc, false)
	return e, ok
}
