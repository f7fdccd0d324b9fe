package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// node is a node that hosts are routed to while it is up.
type node struct {
	*lab.Node
	up       atomic.Bool // hosts are routed to it
	restarts atomic.Int32
}

// makeNodes makes the nodes of a cluster. The caches are so small that they have to
// forget.
func makeNodes(dir string, count int, a *archive) ([]*node, error) {
	keyring := filepath.Join(dir, "archive.gpg")
	if err := os.WriteFile(keyring, a.Keyring(), 0o644); err != nil {
		return nil, err
	}
	var upstreams, names []string
	for _, m := range a.mirrors {
		upstreams = append(upstreams, m.URL)
	}
	for i := range count {
		names = append(names, fmt.Sprintf("node%d", i+1))
	}
	c, err := lab.NewCluster(lab.Plan{Name: "soak", Nodes: names, Dir: dir})
	if err != nil {
		return nil, err
	}
	var nodes []*node
	for _, n := range c.Nodes {
		n.Settings = fmt.Sprintf(`cache: {max_size: 24MiB, memory: 4MiB}
drain: {delay: 500ms, handoff: 2s, timeout: 5s}
log: {access: false}
upstream_client: {proxy: direct, auth_conf: [], stall_timeout: 2s, header_timeout: 2s, connect_timeout: 2s}
archives:
  ubuntu:
    upstreams: [%s]
    signed_by: [%s]
    check_every: 2s
`, strings.Join(upstreams, ", "), keyring) + c.Section(n, "")
		nodes = append(nodes, &node{Node: n})
	}
	return nodes, nil
}

// start runs the process, waits until hosts may use it, and routes them to it.
func (n *node) start(ctx context.Context, binary string) error {
	if err := n.Start(binary); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	err := n.AwaitReady(ctx)
	n.up.Store(err == nil)
	return err
}

// stop ends the process in good order, or kills it, and waits for its end. Hosts are
// routed away at once from one that leaves, and a little late from one that died.
func (n *node) stop(signal syscall.Signal) {
	p := n.Process()
	if p == nil {
		return
	}
	n.restarts.Add(1)
	if signal != syscall.SIGKILL {
		n.up.Store(false)
		p.Stop(30 * time.Second)
		return
	}
	p.Kill()
	time.Sleep(300 * time.Millisecond) // until the route is withdrawn
	n.up.Store(false)
}

// route is the node that hosts of a place use now: their own, or the next one while
// that is away.
func route(nodes []*node, home int) *node {
	for i := range nodes {
		if n := nodes[(home+i)%len(nodes)]; n.up.Load() {
			return n
		}
	}
	return nodes[home]
}
