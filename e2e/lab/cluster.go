package lab

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Cluster is nodes on this machine that act as one cache, each with a loopback address of its own.
type Cluster struct {
	Name  string
	Nodes []*Node
	Spare string // a loopback address for one more node
	// Keys is the directory that `aptmesh cluster init` made; "" for a cluster without keys and certificates.
	Keys string

	addrs []string
}

// Plan is what a cluster is to be.
type Plan struct {
	Name  string
	Nodes []string // their names
	Dir   string   // holds their directories, and the keys
	// Binary makes the keys and certificates; "" for a cluster without.
	Binary string
	// Prefer are addresses to use if they are free, one for each node. Random ones are used otherwise.
	Prefer []string
}

// NewCluster finds addresses for the nodes of a cluster, and makes their keys. It starts nothing.
func NewCluster(plan Plan) (*Cluster, error) {
	addrs := plan.Prefer
	if addrs == nil || AllFree(addrs, HTTPPort, PeerPort, GossipPort) != nil {
		var err error
		if addrs, err = Loopbacks(len(plan.Nodes)+1, HTTPPort, PeerPort, GossipPort); err != nil {
			return nil, err
		}
	}
	c := &Cluster{Name: plan.Name, addrs: addrs[:len(plan.Nodes)]}
	if len(addrs) > len(plan.Nodes) {
		c.Spare = addrs[len(plan.Nodes)]
	}
	if plan.Binary != "" {
		c.Keys = filepath.Join(plan.Dir, "keys")
		if err := InitCluster(plan.Binary, c.Keys, plan.Name, plan.Nodes...); err != nil {
			return nil, err
		}
	}
	for i, name := range plan.Nodes {
		c.Nodes = append(c.Nodes, &Node{Name: name, Addr: HTTPAddr(addrs[i]), Dir: filepath.Join(plan.Dir, name)})
	}
	return c, nil
}

// InitCluster makes the keys and certificates of a cluster.
func InitCluster(binary, dir, name string, names ...string) error {
	cmd := exec.Command(binary, "cluster", "init", "--name", name, "--nodes", strings.Join(names, ","), "--dir", dir)
	cmd.Env = Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aptmesh cluster init: %w: %s", err, out)
	}
	return nil
}

// More is one more node, at the spare address, for which no keys were made.
func (c *Cluster) More(dir, name string) *Node {
	return &Node{Name: name, Addr: HTTPAddr(c.Spare), Dir: dir}
}

// Section is the cluster's section of the configuration of one of its nodes. Its seeds are the first nodes.
func (c *Cluster) Section(n *Node, datacenter string) string {
	if c.Keys == "" {
		return c.section(n, datacenter, "insecure: true")
	}
	return c.SectionWithKeys(n, datacenter, filepath.Join(c.Keys, n.Name))
}

// SectionWithKeys is Section with the keys and certificates of a directory.
func (c *Cluster) SectionWithKeys(n *Node, datacenter, keys string) string {
	return c.section(n, datacenter, fmt.Sprintf("gossip_key: %[1]s/gossip.key\n  ca: %[1]s/ca.pem\n  cert: %[1]s/cert.pem\n  key: %[1]s/key.pem", keys))
}

func (c *Cluster) section(n *Node, datacenter, trust string) string {
	host := strings.TrimSuffix(n.Addr, fmt.Sprintf(":%d", HTTPPort))
	if datacenter == "" {
		datacenter = n.Name
	}
	return fmt.Sprintf(`cluster:
  name: %[1]s
  datacenter: %[2]s
  gossip_listen: "%[3]s:%[4]d"
  peer_listen: "%[3]s:%[5]d"
  advertise: %[3]s
  seeds: [%[6]s]
  %[7]s
`, c.Name, datacenter, host, GossipPort, PeerPort, strings.Join(c.addrs[:min(len(c.addrs), 3)], ", "), trust)
}

// View is how one node sees the cluster.
type View struct {
	Ring    string // which node owns what: equal where two nodes place objects alike
	Active  int    // nodes that are active and well, itself included
	Members []Member
}

// Member is a node as another one, or it itself, sees it.
type Member struct {
	Name, State, Health string
	RingShare           float64 `json:"ring_share"`
	PeerBytes           int64   `json:"peer_bytes"`
}

// View asks the node how it sees the cluster.
func (n *Node) View(ctx context.Context) (View, error) {
	var status struct {
		Cluster struct {
			Ring    string `json:"ring_hash"`
			Members []Member
		}
	}
	err := n.JSON(ctx, "/v1/status", &status)
	v := View{Ring: status.Cluster.Ring, Members: status.Cluster.Members}
	for _, m := range v.Members {
		if m.State == "active" && m.Health == "ok" {
			v.Active++
		}
	}
	return v, err
}

// Agree waits until each of the nodes sees all of them, and no others, active and well, and places objects as
// the first one does.
func Agree(ctx context.Context, nodes ...*Node) error {
	ring := ""
	for _, n := range nodes {
		for {
			v, err := n.View(ctx)
			if err == nil && v.Active == len(nodes) && (ring == "" || v.Ring == ring) {
				ring = v.Ring
				break
			}
			// Whoever is asked for its status asks all others for theirs.
			select {
			case <-time.After(time.Duration(len(nodes)) * 20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s does not see %d active nodes that agree (%d; %v): %w\n%s", n.Name, len(nodes), v.Active, err, context.Cause(ctx), n.end())
			}
		}
	}
	return nil
}
