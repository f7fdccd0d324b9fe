package main

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// pair is two servers: the second is the one that clients ask; it has nothing at
// first, and fetches from the first, which has all that is asked for. What it fetched
// it keeps. There are pairs of one server: clients ask it, and it has the files or
// fetches them from the archive.
type pair struct {
	*group
	way   string       // by which the two talk
	fresh func() error // starts the last server over, with nothing but what `apt update` reads
}

// The ways in which two servers talk.
const (
	none  = "-"
	plain = "plain"
	mTLS  = "mTLS"
)

// front is the server that clients ask.
func (p *pair) front() *server { return p.servers[len(p.servers)-1] }

// pairPlan is what pairs are made for.
type pairPlan struct {
	name    string // of the directories
	archive *archive
	held    []string // what the first server of each pair has, of packages
	files   string   // directory with all files
	keys    string   // made by `aptmesh cluster init` for n1 and n2
	memory  string   // of aptmesh nodes, for small objects
}

// newPairPlan writes down what servers of files and of secrets need.
func (b *bench) newPairPlan(name string, a *archive, memory string, held []string) (pairPlan, error) {
	dir := filepath.Join(b.temp, name)
	plan := pairPlan{name: name, archive: a, held: held, files: filepath.Join(dir, "files"), keys: filepath.Join(dir, "keys"), memory: memory}
	if err := a.write(plan.files); err != nil {
		return plan, err
	}
	return plan, lab.InitCluster(b.server("aptmesh").program, plan.keys, "bench", "n1", "n2")
}

// maker makes one pair.
type maker func(pairPlan) (*pair, error)

// makePairs makes pairs one after the other, until one cannot be made. Those that are
// there must be closed in any case.
func makePairs(plan pairPlan, makers ...maker) (all []*pair, err error) {
	for _, m := range makers {
		p, err := m(plan)
		if p != nil && p.group != nil {
			all = append(all, p)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func closePairs(all []*pair) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// aptmeshPair is a node that has fetched everything, and one that joined it then.
func (b *bench) aptmeshPair(way string) maker {
	return func(plan pairPlan) (*pair, error) {
		c, err := b.newCluster(clusterPlan{
			name: fmt.Sprintf("aptmesh-%s-%s", way, plan.name), nodes: 2, archive: plan.archive,
			insecure: way == plain, memory: plan.memory, cores: b.server("aptmesh").cores,
		})
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.name = "aptmesh <- aptmesh"
		holder, other := c.servers[0], c.servers[1]
		fresh := func() error {
			return cmp.Or(other.wipe(), c.start(other), c.update(plan.archive), c.awaitHolder(other, holder, plan.held[len(plan.held)-1]))
		}
		// Alone, the first node owns everything.
		err = cmp.Or(c.start(holder), c.update(plan.archive), b.fetch(holder, plan.archive.targets(plan.held...)))
		return &pair{group: c.group, way: way, fresh: fresh}, err
	}
}

// nginxPair is nginx as a cache in front of nginx as a file server.
func (b *bench) nginxPair(way string) maker {
	return func(plan pairPlan) (*pair, error) {
		back := peer{name: "nginx files", command: func(p place) (*exec.Cmd, error) { return nginxFiles(p, "") }}
		front := peer{name: "nginx cache", command: nginxCommand}
		if way == mTLS {
			back.command = func(p place) (*exec.Cmd, error) { return nginxFiles(p, filepath.Join(plan.keys, "n1")) }
			front.command = func(p place) (*exec.Cmd, error) { return nginxBehindTLS(p, filepath.Join(plan.keys, "n2"), "n1") }
		}
		return b.newPair(plan, "nginx <- nginx", way, b.server("nginx").place, back, front)
	}
}

// lone is one server, with the archive or a directory of files behind it.
func (b *bench) lone(name, title string, command func(place) (*exec.Cmd, error)) maker {
	return func(plan pairPlan) (*pair, error) {
		return b.newPair(plan, title, none, b.server(name).place, peer{name: name, command: command})
	}
}

// newPair sets up servers that fetch each from the one before, and the first from the
// archive if it does.
func (b *bench) newPair(plan pairPlan, title, way string, like place, kinds ...peer) (*pair, error) {
	g, pl, err := b.newGroup(fmt.Sprintf("%s-%s-%s", fileName(title), way, plan.name), plan.archive)
	if err != nil {
		return nil, err
	}
	g.name = title
	pl.program, pl.files = like.program, plan.files
	p := &pair{group: g, way: way}
	for _, kind := range kinds {
		if pl.addr, err = freeAddr(); err != nil {
			return p, err
		}
		if _, err := g.add(kind, pl, b.servers[0].cores); err != nil {
			return p, err
		}
		pl.upstream = pl.addr
	}
	last := p.front()
	p.fresh = func() error {
		if err := cmp.Or(last.wipe(), g.start(last), b.update(last, plan.archive)); err != nil || last.name != "aptmesh" {
			return err
		}
		return b.awaitListed(last, plan.archive)
	}
	return p, g.start(g.servers[:len(g.servers)-1]...)
}
