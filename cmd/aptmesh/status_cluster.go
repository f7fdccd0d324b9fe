package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/admin"
)

// certificateSoon is when the end of a certificate calls for attention.
const certificateSoon = 30 * 24 * time.Hour

// clusterTroubles says in one line each what is not as it should be between the
// nodes: the members first, then the suites that differ.
func clusterTroubles(c *admin.ClusterStatus, now time.Time) []string {
	var lines []string
	if until := c.CertificateExpires; !until.IsZero() && until.Sub(now) < certificateSoon {
		when := "expires in " + age(until.Sub(now))
		if until.Before(now) {
			when = "has expired, so no other node talks to this one"
		}
		lines = append(lines, fmt.Sprintf("the certificate of %s %s; issue a new one with `aptmesh cluster renew`", c.Self, when))
	}
	for _, m := range c.Members {
		lines = append(lines, memberTroubles(m)...)
	}
	for _, s := range compareSuites(c.Members) {
		if s.trouble != "" {
			lines = append(lines, s.name+" differs: "+s.trouble)
		}
	}
	return lines
}

func memberTroubles(m admin.MemberStatus) []string {
	var lines []string
	if m.Health != admin.HealthOK {
		line := m.Name + " is " + m.Health
		if m.Why != "" {
			line += ": " + m.Why
		}
		lines = append(lines, line)
	} else if !m.Reported {
		lines = append(lines, m.Name+" told nothing of itself just now")
	}
	if m.GossipSilent {
		lines = append(lines, "no gossip of "+m.Name+" arrives; is UDP between the nodes blocked? News of it comes by calls alone")
	}
	if !m.RingAgrees {
		lines = append(lines, m.Name+" places objects by another ring: it sees other members, or runs another version")
	}
	return lines
}

// suiteComparison is one suite as all members have it.
type suiteComparison struct {
	name string // ARCHIVE/DIR
	// trouble says who differs from whom; "" where all agree.
	trouble string
}

// compareSuites holds the members' generations of every suite against each other. A
// member that does not know a suite has nothing to say of it: no host asked for it
// there.
func compareSuites(members []admin.MemberStatus) []suiteComparison {
	suites := make(map[string]map[string]*held) // by suite and root
	for _, m := range members {
		for _, s := range m.Suites {
			if suites[s.Suite] == nil {
				suites[s.Suite] = make(map[string]*held)
			}
			root := ""
			if !s.Root.IsZero() {
				root = s.Root.String()
			}
			if suites[s.Suite][root] == nil {
				suites[s.Suite][root] = &held{root: root, date: s.Generation}
			}
			h := suites[s.Suite][root]
			h.by = append(h.by, m.Name)
		}
	}
	var compared []suiteComparison
	for suite, byRoot := range suites {
		generations := slices.SortedFunc(maps.Values(byRoot), func(a, b *held) int {
			return cmp.Or(b.date.Compare(a.date), cmp.Compare(a.by[0], b.by[0]))
		})
		compared = append(compared, suiteComparison{suite, difference(generations)})
	}
	slices.SortFunc(compared, func(a, b suiteComparison) int { return cmp.Compare(a.name, b.name) })
	return compared
}

// held is a generation of a suite, and the members that serve it.
type held struct {
	root string // "" for none
	date time.Time
	by   []string // names, one at least
}

// difference says who is behind whom, of generations with the newest first; "" where
// there is only one.
func difference(generations []*held) string {
	if len(generations) < 2 {
		return ""
	}
	newest := generations[0].date
	fork := generations[1].date.Equal(newest) // then dates alone do not tell them apart
	var parts []string
	for _, g := range generations {
		is, has := "is", "has"
		if len(g.by) > 1 {
			is, has = "are", "have"
		}
		who := strings.Join(g.by, ", ")
		switch {
		case g.root == "":
			parts = append(parts, fmt.Sprintf("%s %s none", who, has))
		case g.date.Before(newest):
			parts = append(parts, fmt.Sprintf("%s %s behind with %s", who, is, second(g.date)))
		case fork:
			parts = append(parts, fmt.Sprintf("%s %s %s (%.12s)", who, has, second(g.date), g.root))
		default:
			parts = append(parts, fmt.Sprintf("%s %s %s", who, has, second(g.date)))
		}
	}
	return strings.Join(parts, "; ")
}

// second writes a generation's date in full: two of one minute must not look alike.
func second(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// clusterLines sum up the cluster beside the store and the traffic.
func clusterLines(c *admin.ClusterStatus) [][]string {
	sites := make(map[string]bool)
	versions := make(map[string][]string)
	for _, m := range c.Members {
		sites[m.Datacenter] = true
		versions[m.Version] = append(versions[m.Version], m.Name)
	}
	who := "this node alone"
	if len(c.Members) > 1 {
		who = counted(len(c.Members), "node") + " in " + counted(len(sites), "datacenter")
	}
	about := fmt.Sprintf("%s: %s, ring %s", c.Name, who, c.RingHash)
	if !c.Secured {
		about += "; insecure, without keys and certificates"
	}
	fetched := size(c.UpstreamBytes) + " from upstream by all nodes"
	if c.UpstreamBytesSaved > 0 {
		share := 100 * float64(c.UpstreamBytesSaved) / float64(c.UpstreamBytesSaved+c.UpstreamBytes)
		fetched += fmt.Sprintf("; %s from each other instead (%.0f%% saved)", size(c.UpstreamBytesSaved), share)
	}
	lines := [][]string{{"cluster", about}, {"fetched", fetched}}
	if len(versions) > 1 {
		var all []string
		for version, names := range versions {
			all = append(all, cmp.Or(version, "?")+" on "+strings.Join(names, ", "))
		}
		slices.Sort(all)
		lines = append(lines, []string{"versions", strings.Join(all, "; ")})
	}
	if suites := compareSuites(c.Members); len(suites) > 0 {
		differ := 0
		for _, s := range suites {
			if s.trouble != "" {
				differ++
			}
		}
		line := counted(len(suites), "suite") + ", no differences between nodes"
		if differ > 0 {
			line = fmt.Sprintf("%s, %d with differences between nodes", counted(len(suites), "suite"), differ)
		}
		lines = append(lines, []string{"agreement", line})
	}
	return lines
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// memberRows are the nodes; the one asked is marked.
func memberRows(c *admin.ClusterStatus) [][]string {
	var rows [][]string
	for _, m := range c.Members {
		name := m.Name
		if name == c.Self {
			name += " *"
		}
		health := m.Health
		if m.GossipSilent && health == admin.HealthOK {
			health = "ok, silent"
		}
		objects, held, upstream := "?", "?", "?"
		if m.Reported {
			objects, held, upstream = humanize.Comma(m.Held), size(m.HeldBytes), size(m.UpstreamBytes)
		}
		from, to := size(m.BytesFrom), size(m.BytesTo)
		if m.Name == c.Self {
			from, to = "-", "-"
		}
		rows = append(rows, []string{
			name, m.Datacenter, m.State, health, roundTrip(m.RTTMillis), fmt.Sprintf("%.1f%%", 100*m.RingShare),
			objects, held, upstream, from, to,
		})
	}
	return rows
}

func roundTrip(ms float64) string {
	switch {
	case ms <= 0:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}
