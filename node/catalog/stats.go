package catalog

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// MirrorStats is what this node knows of a suite on one mirror of its archive.
type MirrorStats = suite.MirrorStats

// SuiteStats is what an operator wants to know of a suite.
type SuiteStats struct {
	Suite      proto.Suite
	Date       time.Time // of the root being served; zero for none
	Root       proto.Ref
	Signed     time.Time // when its newest good signature was made
	Names      proto.Names
	ValidUntil time.Time // zero where the root does not say
	Expired    bool      // Valid-Until has passed: clients refuse the root
	Checked    time.Time // when upstream last had nothing newer; zero for never
	Changed    time.Time // when this node last adopted a generation; zero where that is not known
	// ServedUntil is until when the root is served with upstream silent; zero for ever.
	ServedUntil time.Time
	Withheld    bool // that time is over: clients get an error
	// Alarm says in a sentence that Valid-Until is near, or past, and nobody has renewed the root;
	// "" while all is well.
	Alarm string
	// Removed says that upstream does not have the suite any more.
	Removed  bool
	Security bool // the suite carries security updates: less of an outage is borne
	Offline  bool // upstream is not asked
	Settled  bool // upstream never changes, and is not asked any more
	Watched  bool
	Mirrors  []MirrorStats // what is known of those asked so far
	Err      error         // of the last check; nil when it was good
	Failing  time.Time     // when the first of the checks failed that did so in a row; zero while Err is nil
	Stale    string
	// Notice says what of the suite cannot be read or verified; "" for nothing.
	Notice string
	// Unverified says that there is a generation from before a restart, which is not served because
	// it cannot be verified now. Notice says why.
	Unverified  bool
	Leader      bool     // this node asks upstream for all
	Rank        int      // how many nodes come before it
	AnnouncedBy string   // the node that brought the generation; "" for upstream, or a run before
	Members     int      // files that the root lists
	Staged      []string // members that are stored because clients use them
	// Unreadable are members that are served but of which nothing is known that they list, with the
	// reason.
	Unreadable map[string]string
	Retained   int // superseded generations still readable
}

// Stats lists all suites by name. Safe for concurrent use.
func (c *Catalog) Stats() []SuiteStats {
	drivers := c.all("")
	all := make([]SuiteStats, 0, len(drivers))
	for _, d := range drivers {
		st := d.stats()
		c.failedBefore(&st)
		all = append(all, st)
	}
	all = append(all, c.onlyFailing()...)
	slices.SortFunc(all, func(a, b SuiteStats) int { return strings.Compare(a.Suite.String(), b.Suite.String()) })
	return all
}

func (d *driver) stats() SuiteStats {
	p, now, wall := d.public.Load(), d.c.mono(), d.c.cfg.Now()
	st := SuiteStats{
		Suite: d.id, Offline: d.archive.Load().Offline, Settled: p.belief.Settled(), Checked: p.belief.Checked(), Changed: p.changed, Removed: p.belief.Removed != suite.Never,
		Watched: p.watched, Mirrors: p.mirrors, Err: p.belief.Failure, Failing: p.belief.FailingSince, AnnouncedBy: p.source, Notice: p.notice, Unverified: p.unverified, Unreadable: p.unreadable,
	}
	if st.Notice == "" {
		st.Notice = d.c.tablesOf(d.id.Archive).notice()
	}
	if d.c.cfg.Cluster != nil {
		st.Rank = d.c.cfg.Cluster.Rank(d.id)
	}
	st.Leader = st.Rank == 0
	g := p.current
	if g == nil {
		return st
	}
	st.Date, st.Root, st.Signed, st.Names = g.Date, g.Root, g.Signed, g.Manifest.Names
	st.ValidUntil, st.Security = g.Manifest.ValidUntil, g.Manifest.Security
	st.Expired = !st.ValidUntil.IsZero() && wall.After(st.ValidUntil)
	st.Members, st.Retained = len(g.Manifest.Members), len(p.retained)
	st.Staged = slices.Sorted(maps.Keys(g.AllStaged()))
	st.Stale = p.belief.Stale(now, wall)
	st.ServedUntil, _ = p.belief.ServedUntil()
	st.Withheld = p.belief.Withheld(now, wall) != nil
	st.Alarm = p.belief.Alarm(now, wall)
	return st
}

// Reason is the word for how a check of a suite ended, as in the metrics: "good", "not_found",
// "incomplete", ….
func Reason(err error) string { return suite.Reason(err) }

// Memory is what the tables of all archives take, in bytes, and the number of files they list.
func (c *Catalog) Memory() (bytes int64, files int) {
	for _, a := range c.view.Load().archives {
		b, n := a.listed()
		bytes, files = bytes+b, files+n
	}
	return bytes, files
}

// Knows reports whether the suite has been asked for or is configured.
func (c *Catalog) Knows(id proto.Suite) bool {
	_, ok := c.known(id)
	return ok
}
