package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// The ports of every node of a cluster, each node on a loopback address of its own.
const (
	doorPort   = 3142
	peerPort   = 3143
	adminPort  = 3144
	gossipPort = 7946
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
	b     *bench
	seeds []string
	keys  string // directory made by `aptmesh cluster init`; "" = none
}

// newCluster prepares the nodes; it does not start them. What it returns must be
// closed in any case.
func (b *bench) newCluster(plan clusterPlan) (*cluster, error) {
	g, pl, err := b.newGroup(plan.name, plan.archive)
	c := &cluster{group: g, b: b}
	if err != nil {
		return c, err
	}
	pl.program = b.server("aptmesh").program
	addrs, err := lab.Loopbacks(plan.nodes, doorPort, peerPort, adminPort, gossipPort)
	if err != nil {
		return c, err
	}
	c.seeds = addrs[:min(3, len(addrs))]
	var names []string
	for i := range addrs {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	if !plan.insecure {
		c.keys = filepath.Join(pl.dir, "keys")
		if err := b.initCluster(c.keys, names...); err != nil {
			return c, err
		}
	}
	for i, addr := range addrs {
		pl.addr, pl.admin = hostPort(addr, doorPort), hostPort(addr, adminPort)
		node := peer{name: names[i], command: func(p place) (*exec.Cmd, error) { return c.nodeCommand(p, names[i], addr, plan.memory) }}
		if _, err := c.add(node, pl, plan.cores); err != nil {
			return c, err
		}
	}
	return c, nil
}

// initCluster makes the keys and certificates of a cluster.
func (b *bench) initCluster(dir string, nodes ...string) error {
	cmd := exec.Command(b.server("aptmesh").program, "cluster", "init", "--name", "bench", "--nodes", strings.Join(nodes, ","), "--dir", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aptmesh cluster init: %w: %s", err, firstLine(out))
	}
	return nil
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// nodeCommand configures a node. Nobody looks for a new generation by the clock: what
// is measured is asked for.
func (c *cluster) nodeCommand(p place, name, addr, memory string) (*exec.Cmd, error) {
	trust := "insecure: true"
	if c.keys != "" {
		own := filepath.Join(c.keys, name)
		trust = fmt.Sprintf("gossip_key: %[1]s/gossip.key\n  ca: %[1]s/ca.pem\n  cert: %[1]s/cert.pem\n  key: %[1]s/key.pem", own)
	}
	config := filepath.Join(p.dir, "aptmesh.yaml")
	err := writeConfig(config, fmt.Sprintf(`
name: %[1]s
listen: [%[2]q]
admin: %[3]q
data: %[4]q
cache: {max_size: 20GiB, memory: %[5]s, scrub: 0}
archives:
  %[6]s:
    upstream: %[7]q
    signed_by: [%[8]q]
    suites: [stable]
    check_every: 1h
cluster:
  name: bench
  gossip_listen: %[9]q
  peer_listen: %[10]q
  advertise: %[11]s
  seeds: [%[12]s]
  %[13]s
log: {level: warn, format: text, access: false}
`, name, p.addr, p.admin, filepath.Join(p.dir, "data"), memory, mount, "http://"+p.upstream+"/"+mount, p.keyring,
		hostPort(addr, gossipPort), hostPort(addr, peerPort), addr, strings.Join(c.seeds, ", "), trust))
	return exec.Command(p.program, "serve", "--config", config), err
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
			if _, err := s.await(func() bool { return c.b.ctx.Err() != nil || isReady(s.admin) }, joinPatience); err != nil {
				return err
			}
		}
	}
	return c.agree()
}

func isReady(admin string) bool {
	resp, err := http.Get("http://" + admin + "/ready")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
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
	nodes, ring := c.running(), ""
	ctx, cancel := context.WithTimeout(c.b.ctx, joinPatience)
	defer cancel()
	for _, s := range nodes {
		// Whom one asks for its status asks all others for theirs.
		if err := until(ctx, time.Duration(len(nodes))*20*time.Millisecond, func() (bool, error) {
			active, hash, err := s.membership(ctx)
			if ring == "" && active == len(nodes) {
				ring = hash
			}
			return active == len(nodes) && hash == ring, err
		}); err != nil {
			return fmt.Errorf("%s does not see %d well nodes that agree: %w: %s", s.name, len(nodes), err, tail(s.logFile()))
		}
	}
	return nil
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

// membership tells how many nodes one of them sees active and well, itself included,
// and what it says of who owns what.
func (s *server) membership(ctx context.Context) (active int, ring string, err error) {
	var status struct {
		Cluster struct {
			RingHash string `json:"ring_hash"`
			Members  []struct{ State, Health string }
		}
	}
	if err := s.askJSON(ctx, "/v1/status", &status); err != nil {
		return 0, "", err
	}
	for _, m := range status.Cluster.Members {
		if m.State == "active" && m.Health == "ok" {
			active++
		}
	}
	return active, status.Cluster.RingHash, nil
}

// why is what a node says it would do for a file.
type why struct {
	Listed  bool
	Owners  []string // in order
	Holders []string // other nodes that it believes to hold it
}

func (s *server) why(ctx context.Context, name string) (why, error) {
	var w why
	err := s.askJSON(ctx, "/v1/why?url="+url.QueryEscape("http://"+s.addr+"/"+name), &w)
	return w, err
}

func (s *server) askJSON(ctx context.Context, target string, into any) error {
	text, err := s.ask(ctx, http.MethodGet, target)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
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
		w, err := s.why(ctx, a.aPackage)
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
		w, err := s.why(ctx, name)
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
