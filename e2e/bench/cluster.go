package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// clusterPlan is what a cluster is to be like.
type clusterPlan struct {
	name     string // of its directory
	nodes    int
	archive  *archive
	insecure bool   // without keys and certificates
	memory   string // for small objects on each node
	cores    []int
}

// cluster is a group of aptmesh nodes that act as one cache.
type cluster struct {
	*group
	b *bench
}

// newCluster prepares the nodes; it does not start them. What it returns must be
// closed in any case. Nobody looks for a new generation by the clock: what is measured
// is asked for.
func (b *bench) newCluster(plan clusterPlan) (*cluster, error) {
	g, pl, err := b.newGroup(plan.name, plan.archive)
	c := &cluster{group: g, b: b}
	if err != nil {
		return c, err
	}
	pl.program = b.server("aptmesh").program
	wanted := lab.Plan{Name: "bench", Dir: pl.dir}
	for i := range plan.nodes {
		wanted.Nodes = append(wanted.Nodes, fmt.Sprintf("n%d", i+1))
	}
	if !plan.insecure {
		wanted.Binary = pl.program
	}
	made, err := lab.NewCluster(wanted)
	if err != nil {
		return c, err
	}
	for _, n := range made.Nodes {
		pl.addr = n.Addr
		s, err := c.add(peer{name: n.Name, command: func(p place) (*exec.Cmd, error) { return n.Command(p.program), n.WriteConfig() }}, pl, plan.cores)
		if err != nil {
			return c, err
		}
		s.node, n.Dir = n, s.dir
		n.Settings = fmt.Sprintf(`cache: {max_size: 20GiB, memory: %s, scrub: 0}
log: {level: warn, format: text, access: false}
%s`, plan.memory, pl.section(fmt.Sprintf("    suites: [%q]\n    check_every: 1h\n", plan.archive.suite))) + made.Section(n, "")
	}
	return c, nil
}

// joinPatience bounds the wait for nodes that start, and for a cluster to agree.
const joinPatience = time.Minute

// startAtOnce is how many nodes are started before the next wait: all at once would
// wait for the two cores of a small machine longer than they wait for each other.
const startAtOnce = 8

// start starts nodes, waits until each is ready for hosts, and until all nodes that
// run agree on who they are.
func (c *cluster) start(nodes ...*server) error {
	for batch := range slices.Chunk(nodes, startAtOnce) {
		if err := c.spawn(batch...); err != nil {
			return err
		}
		for _, s := range batch {
			if _, err := s.await(func() bool { return c.b.ctx.Err() != nil || s.node.Ready(c.b.ctx) }, joinPatience); err != nil {
				return err
			}
		}
	}
	return c.agree()
}

// running are the nodes whose process lives.
func (c *cluster) running() (all []*server) {
	for _, s := range c.servers {
		if s.proc != nil && s.proc.Alive() {
			all = append(all, s)
		}
	}
	return all
}

// agree waits until every node that runs sees all of them well and places objects as
// the others do.
func (c *cluster) agree() error {
	ctx, cancel := context.WithTimeout(c.b.ctx, joinPatience)
	defer cancel()
	var nodes []*lab.Node
	for _, s := range c.running() {
		nodes = append(nodes, s.node)
	}
	return lab.Agree(ctx, nodes...)
}

var errNotYet = errors.New("not yet")

// until asks again and again until it is done. An error is final.
func until(ctx context.Context, pause time.Duration, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(errNotYet, context.Cause(ctx))
		}
	}
}

// update reads what `apt update` reads, at every node that runs, and waits until each
// knows the packages that are listed.
func (c *cluster) update(a *archive) error {
	for _, s := range c.running() {
		if err := c.b.update(s, a); err != nil {
			return err
		}
		if err := c.b.awaitListed(s, a); err != nil {
			return err
		}
	}
	return nil
}

// awaitListed waits until a node knows the packages that are listed.
func (b *bench) awaitListed(s *server, a *archive) error {
	ctx, cancel := context.WithTimeout(b.ctx, joinPatience)
	defer cancel()
	err := until(ctx, 10*time.Millisecond, func() (bool, error) {
		w, err := s.node.Why(ctx, a.aPackage)
		return w.Listed, err
	})
	if err != nil {
		return fmt.Errorf("%s does not know %s: %w: %s", s.name, a.aPackage, err, tail(s.logFile()))
	}
	return nil
}

// update reads what `apt update` reads.
func (b *bench) update(s *server, a *archive) error {
	for _, name := range []string{a.inRelease, a.index} {
		if err := b.fetch(s, a.targets(name)); err != nil {
			return err
		}
	}
	return nil
}

// awaitHolder waits until one node believes that another one holds a file.
func (c *cluster) awaitHolder(s, holder *server, name string) error {
	ctx, cancel := context.WithTimeout(c.b.ctx, joinPatience)
	defer cancel()
	err := until(ctx, 10*time.Millisecond, func() (bool, error) {
		w, err := s.node.Why(ctx, name)
		return len(w.Holders) == 1 && w.Holders[0] == holder.name, err
	})
	if err != nil {
		return fmt.Errorf("%s does not know that %s holds %s: %w", s.name, holder.name, name, err)
	}
	return nil
}

// node returns the one of that name.
func (c *cluster) node(name string) (*server, error) {
	for _, s := range c.servers {
		if s.name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", name)
}
