package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What an operator asks of a cluster, and is told: status, why, leave.
func TestClusterCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, many(12, 40_000)...)
	paths := c.pool()
	owners := c.owners(paths[0])
	if len(owners) != 3 {
		t.Fatalf("%s has %d owners in line, want 3", paths[0], len(owners))
	}
	owner, asked := owners[0], owners[1]
	command := func(words ...string) string {
		t.Helper()
		out, errs, code := asked.run(append(words, "--config", asked.ConfigFile())...)
		if code != 0 {
			t.Fatalf("aptmesh %s: exit code %d: %s%s", strings.Join(words, " "), code, out, errs)
		}
		return out
	}
	url := asked.URL + "/debian/" + paths[0]

	asked.owners(paths[0]) // it has read the index, too
	before := command("why", url)
	for _, m := range owners {
		if !strings.Contains(before, m.name) {
			t.Errorf("why does not name %s:\n%s", m.name, before)
		}
	}
	c.fetchAll(asked, paths...)
	var why struct {
		Stored  string
		Owners  []string
		Holders []string
	}
	eventually(t, 20*time.Second, "both were known to hold it", func() bool {
		if err := json.Unmarshal([]byte(command("why", "--json", url)), &why); err != nil {
			t.Fatal(err)
		}
		return why.Stored != "" && len(why.Holders) > 0 && why.Holders[0] == owner.name
	})
	if len(why.Owners) != 3 || why.Owners[0] != owner.name {
		t.Errorf("why: the owners are %q, want %s first", why.Owners, owner.name)
	}

	table := command("status")
	for _, m := range c.nodes {
		if !strings.Contains(table, m.name) || !strings.Contains(table, "dc-"+m.name) {
			t.Errorf("status does not show %s and where it is:\n%s", m.name, table)
		}
	}
	var status struct{ Cluster clusterStatus }
	if err := json.Unmarshal([]byte(command("status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	share := 0.0
	for _, m := range status.Cluster.Members {
		share += m.RingShare
		if m.State != "active" || m.Health != "ok" || !m.Reported || m.Stored == 0 {
			t.Errorf("status --json: %+v", m)
		}
	}
	if !status.Cluster.Secured || len(status.Cluster.Members) != 3 || share < 0.999 || share > 1.001 || status.Cluster.Saved == 0 {
		t.Errorf("status --json: %+v", status.Cluster)
	}

	out, errs, code := owner.run("leave", "--config", owner.ConfigFile())
	if code != 0 {
		t.Errorf("aptmesh leave: exit code %d: %s%s", code, out, errs)
	}
	if code := owner.exitCode(10 * time.Second); code != 90 { // RestartPreventExitStatus of the unit
		t.Errorf("after aptmesh leave the exit code is %d", code)
	}
	eventually(t, 20*time.Second, "it was no member any more", func() bool {
		_, known := asked.sees(owner.name)
		return !known
	})
	if after := asked.owners(paths[0]); after[0] != asked.name {
		t.Errorf("after %s left, the owners are %q; %s was the next in line", owner.name, after, asked.name)
	}
	c.check()
}

// A node whose certificate another authority has signed is kept out, and everybody
// says so; the others go on as if it were not there.
func TestClusterKeepsOutForeignCertificates(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, many(12, 40_000)...)
	paths := c.pool()
	foreign := filepath.Join(initCluster(t, "n4"), "n4")
	// It has got hold of the gossip key.
	writeFile(t, filepath.Join(foreign, "gossip.key"), must(os.ReadFile(filepath.Join(c.lab.Keys, "gossip.key")))(t))
	good := c.nodes
	intruder := c.addStranger("n4", foreign)
	c.mayFetchAgain() // it fetches for itself
	intruder.start()

	eventually(t, 20*time.Second, "the others saw who it is", func() bool {
		for _, m := range good {
			if s, ok := m.sees("n4"); !ok || s.Health != "unreachable" || !strings.Contains(s.Why, "certificate") {
				return false
			}
		}
		return true
	})
	for _, m := range good {
		c.fetchAll(m, paths...)
	}
	for _, s := range intruder.cluster().Members {
		if s.Name != "n4" && (s.Health != "unreachable" || s.PeerBytes != 0 || s.Reported) {
			t.Errorf("it sees %+v", s)
		}
	}
	table, _, _ := good[0].run("status", "--config", good[0].ConfigFile())
	if !strings.Contains(table, "n4 is unreachable") || !strings.Contains(table, "certificate") {
		t.Errorf("status does not say that it is kept out, and why:\n%s", table)
	}
	if !strings.Contains(good[0].err.String()+good[1].err.String()+good[2].err.String(), "certificate") {
		t.Error("no log says that its certificate is refused")
	}
	intruder.stop()
	eventually(t, 20*time.Second, "it was gone", func() bool {
		_, known := good[0].sees("n4")
		return !known
	})
	c.check()
}

// A node that does not have the gossip key never becomes known to the others.
func TestClusterKeepsOutForeignGossip(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, many(4, 40_000)...)
	good := c.nodes
	if out, errs, code := runBinary(t, "cluster", "add", "n4", "--dir", c.lab.Keys); code != 0 {
		t.Fatalf("aptmesh cluster add: exit code %d: %s%s", code, out, errs)
	}
	keys := filepath.Join(c.lab.Keys, "n4")
	writeFile(t, filepath.Join(keys, "gossip.key"), must(os.ReadFile(filepath.Join(initCluster(t, "n4"), "gossip.key")))(t))
	intruder := c.addStranger("n4", keys)
	c.mayFetchAgain() // it fetches for itself
	intruder.start()
	if n := len(intruder.cluster().Members); n != 1 {
		t.Errorf("it sees %d nodes", n)
	}
	for _, m := range good {
		if _, known := m.sees("n4"); known {
			t.Errorf("%s knows it", m.name)
		}
	}
	if said := intruder.err.String(); !strings.Contains(said, "gossip") {
		t.Errorf("it does not say that it found nobody:\n%s", tail(said, 20))
	}
	intruder.stop()
	c.fetchAll(good[0], c.pool()...)
	c.check()
}
