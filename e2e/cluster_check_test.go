package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// clusterStatus is the part of a node's status about its cluster.
type clusterStatus struct {
	RingHash string `json:"ring_hash"`
	Secured  bool
	Members  []memberStatus
	Saved    int64 `json:"upstream_bytes_saved"`
}

type memberStatus struct {
	Name, Datacenter, State, Health, Why string
	RingShare                            float64 `json:"ring_share"`
	RingAgrees                           bool    `json:"ring_agrees"`
	Reported                             bool
	Stored                               int64
	PeerBytes                            int64 `json:"peer_bytes"`
	Suites                               []struct {
		Suite      string
		Generation time.Time
		Root       string
	}
}

// active is how many members own their share, and are well.
func (s clusterStatus) active() (n int) {
	for _, m := range s.Members {
		if m.State == "active" && m.Health == "ok" {
			n++
		}
	}
	return n
}

func (m *member) cluster() clusterStatus {
	m.t.Helper()
	var s struct{ Cluster clusterStatus }
	if err := json.Unmarshal(m.adminGet("/v1/status"), &s); err != nil {
		m.t.Fatal(err)
	}
	return s.Cluster
}

// sees returns what the node knows of another one; ok is false if nothing.
func (m *member) sees(name string) (s memberStatus, ok bool) {
	m.t.Helper()
	for _, s := range m.cluster().Members {
		if s.Name == name {
			return s, true
		}
	}
	return s, false
}

// running are the nodes whose process lives.
func (c *cluster) running() (all []*member) {
	for _, m := range c.nodes {
		if p := m.Process(); p != nil && p.Alive() {
			all = append(all, m)
		}
	}
	return all
}

// agree waits until all nodes that run see each other well, place objects alike and
// serve the newest generation.
func (c *cluster) agree() {
	c.t.Helper()
	disagreement := "nobody was asked"
	defer func() {
		if disagreement != "" {
			c.t.Logf("the last disagreement: %s", disagreement)
		}
	}()
	eventually(c.t, time.Minute, "all nodes agreed", func() bool {
		disagreement = c.disagreement()
		return disagreement == ""
	})
}

// disagreement says in what the running nodes do not agree; "" if in nothing.
func (c *cluster) disagreement() string {
	c.t.Helper()
	ring, newest := "", c.newest()
	running := c.running()
	for _, m := range running {
		s := m.cluster()
		if ring == "" {
			ring = s.RingHash
		}
		if s.RingHash != ring {
			return fmt.Sprintf("the ring of %s is %s, that of %s is %s", running[0].name, ring, m.name, s.RingHash)
		}
		found := 0
		for _, other := range s.Members {
			if !c.member(other.Name).Process().Alive() {
				continue // whether it is dead may not be known yet
			}
			found++
			if other.State != "active" || other.Health != "ok" || !other.Reported {
				return fmt.Sprintf("%s sees %+v", m.name, other)
			}
			if len(other.Suites) != 1 || !other.Suites[0].Generation.Equal(newest) {
				return fmt.Sprintf("%s sees that %s serves %+v and not the generation of %s", m.name, other.Name, other.Suites, newest)
			}
		}
		if found != len(running) {
			return fmt.Sprintf("%s sees %d of %d nodes", m.name, found, len(running))
		}
	}
	return ""
}

// check is what holds at the end of every test, whatever happened in it. (That every
// body is one that signed metadata names was checked when it was received.)
func (c *cluster) check() {
	c.t.Helper()
	c.agree()
	c.checkUpstream()
	for _, m := range c.nodes {
		if n := m.checkStored(); n == 0 {
			c.t.Errorf("%s holds nothing at all", m.name)
		}
	}
}

// checkUpstream demands that upstream sent each object once, and once more at most
// for each node that died.
func (c *cluster) checkUpstream() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := make(map[string]int)
	over := make(map[string]bool)
	for _, r := range c.server.Log() {
		if r.Method != http.MethodGet || r.Bytes == 0 || r.Status != http.StatusOK && r.Status != http.StatusPartialContent {
			continue // nothing of it was sent
		}
		name, versions := r.Path, len(c.signed[r.Path])
		if versions == 1 { // under whatever path it was asked for
			for sum := range c.signed[r.Path] {
				name = hex.EncodeToString(sum[:8])
			}
		}
		sent[name]++
		allowed := max(versions, 1) * (1 + c.deaths)
		if r.Path == "dists/noble/InRelease" {
			// A node that takes over the looking asks once without conditions: it
			// believes no other node's word for upstream's validators.
			allowed += len(c.nodes) - 1
		}
		if sent[name] > allowed && sent[name] > allowed+c.madeWay(r.Path) {
			over[r.Path] = true
		}
	}
	if len(over) > 0 {
		some := slices.Sorted(maps.Keys(over))
		c.t.Errorf("with %d deaths, upstream sent %d objects too often, such as %q", c.deaths, len(over), some[:min(len(some), 5)])
	}
	if len(sent) == 0 {
		c.t.Error("upstream was asked for nothing at all")
	}
}

// madeWay is how often a transfer of a path was given up for metadata that waited,
// while a node had few connections. It begins again then, by plan.
func (c *cluster) madeWay(path string) (n int) {
	for _, m := range c.nodes {
		n += strings.Count(m.err.String(), fmt.Sprintf(`"a transfer was preempted by a more urgent one","url":%q`, c.server.URL+"/"+path))
	}
	return n
}

// fetched is how many bodies upstream has sent, the looks at the Release apart.
func (c *cluster) fetched() (n int) {
	for _, r := range c.server.Log() {
		if r.Bytes > 0 && r.Path != "dists/noble/InRelease" {
			n++
		}
	}
	return n
}

// isSigned reports whether the archive has ever had these bytes at the path.
func (c *cluster) isSigned(path string, sum [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signed[path][sum]
}
