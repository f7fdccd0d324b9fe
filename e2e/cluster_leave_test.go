package e2e

import (
	"syscall"
	"testing"
	"time"
)

// A node that leaves under load hands on what only it holds: nothing of it is
// fetched from upstream again.
func TestClusterLeave(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4, many(60, 60_000)...)
	paths := c.pool()
	leaver := c.owners(paths[0])[0]
	others := c.except(leaver)
	c.fetchAll(leaver, paths...) // what it owns, nobody else has
	alone := 0
	for _, p := range paths {
		if c.owners(p)[0] == leaver {
			alone++
		}
	}
	t.Logf("%s alone holds %d of %d packages", leaver.name, alone, len(paths))
	if alone == 0 {
		t.Fatal("it has nothing to hand on")
	}

	load := c.load(6, c.nodes, paths[:10])
	load.more(20)
	before := c.fetched()
	began := time.Now()
	leaver.signal(syscall.SIGTERM)
	code := leaver.exitCode(40 * time.Second)
	t.Logf("it left in %s", time.Since(began).Round(time.Millisecond))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	load.more(20)
	load.stop()

	for _, m := range others {
		c.fetchAll(m, paths...)
	}
	if after := c.fetched(); after != before {
		t.Errorf("after it left, upstream sent %d bodies that the cluster had had", after-before)
	}
	c.check()
}

// All nodes are restarted one after the other, under load. No host fails, and
// nothing that was there is fetched again.
func TestClusterRollingRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, many(40, 60_000)...)
	paths := append(c.pool(), "dists/noble/InRelease")
	c.fetchAll(c.nodes[0], paths...)
	before := c.fetched()
	load := c.load(6, c.nodes, paths)
	for _, m := range c.nodes {
		load.more(30)
		began := time.Now()
		m.signal(syscall.SIGTERM)
		if code := m.exitCode(40 * time.Second); code != 0 {
			t.Errorf("%s: exit code %d", m.name, code)
		}
		stopped := time.Since(began)
		m.start()
		t.Logf("%s stopped in %s and was ready again after %s", m.name, stopped.Round(time.Millisecond), m.took.Round(time.Millisecond))
	}
	load.more(100)
	load.stop()
	if after := c.fetched(); after != before {
		t.Errorf("upstream sent %d bodies that the cluster had had", after-before)
	}
	c.check()
}
