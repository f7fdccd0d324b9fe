package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// connections is how many the whole cluster may have to the archive's host.
const connections = 24

// configure is the configuration of a node.
func (d *demo) configure(c *lab.Cluster, n *lab.Node, datacenter string) string {
	return fmt.Sprintf(`cache: {max_size: 2GiB}
drain: {handoff: 1s, timeout: 1s}
upstream_client: {connections_per_host: %d}
archives:
  demo:
    format: %s
    upstream: %s
    signed_by: [%s]
    check_every: 1s
`, connections, d.archive.format.name, d.archive.server.URL, d.keyFile()) + c.Section(n, datacenter)
}

// awaitReady waits until hosts may use a node.
func (d *demo) awaitReady(n *lab.Node) error {
	ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
	defer cancel()
	return n.AwaitReady(ctx)
}

// status is what this program looks at of a node's status.
type status struct {
	Traffic struct {
		Tiers map[string]struct{ Bytes int64 }
	}
	Upstreams []struct{ Limit int }
	Cluster   struct {
		Members []lab.Member
	}
}

func (d *demo) status(n *lab.Node) (s status, err error) {
	return s, n.JSON(d.ctx, "/v1/status", &s)
}

// direct is for talking to loopback, whatever proxy this machine uses.
var direct = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
