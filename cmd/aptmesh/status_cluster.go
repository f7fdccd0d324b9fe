package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/admin"
)

// clusterLines sum up the cluster beside the store and the traffic.
func clusterLines(c *admin.ClusterStatus) [][]string {
	sites := make(map[string]bool)
	versions := make(map[string][]string)
	missing := 0
	var silent []string // nodes that did not report
	for _, m := range c.Members {
		if !m.Reported {
			silent = append(silent, m.Name)
		}
		if m.State == admin.MemberMissing {
			missing++
			continue
		}
		sites[m.Datacenter] = true
		versions[m.Version] = append(versions[m.Version], m.Name)
	}
	who := "this node alone"
	if present := len(c.Members) - missing; present > 1 {
		who = counted(present, "node") + " in " + counted(len(sites), "datacenter")
	}
	if missing > 0 {
		who += fmt.Sprintf(", %d missing", missing)
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
	if len(c.Vacated) > 0 {
		lines = append(lines, []string{"seeds", "the node at " + strings.Join(c.Vacated, ", ") + " has left or was removed; it can go out of cluster.seeds"})
	}
	if len(versions) > 1 {
		var all []string
		for version, names := range versions {
			all = append(all, cmp.Or(version, "?")+" on "+strings.Join(names, ", "))
		}
		slices.Sort(all)
		lines = append(lines, []string{"versions", strings.Join(all, "; ")})
	}
	if suites := admin.CompareSuites(c.Members); len(suites) > 0 {
		differ := 0
		for _, s := range suites {
			if s.Differs != "" {
				differ++
			}
		}
		line := counted(len(suites), "suite") + ", the same generations on all nodes"
		switch {
		case differ > 0:
			line = fmt.Sprintf("%s, %d with different generations on nodes", counted(len(suites), "suite"), differ)
		case len(silent) > 0:
			line = counted(len(suites), "suite") + ", the same generations on the nodes that report"
		}
		if len(silent) > 0 {
			line += "; nothing is known of " + strings.Join(silent, ", ")
		}
		lines = append(lines, []string{"agreement", line})
	}
	return lines
}

func counted[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return humanize.Comma(int64(n)) + " " + what + "s"
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
		if health == admin.HealthOK && (m.Level == admin.LevelFailing || m.Level == admin.LevelAttention) {
			health = string(m.Level)
		}
		if m.GossipSilent && m.Health == admin.HealthOK {
			health += ", silent"
		}
		objects, held, upstream := "?", "?", "?"
		if m.Reported {
			objects, held, upstream = humanize.Comma(m.Stored), size(m.StoredBytes), size(m.UpstreamBytes)
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
