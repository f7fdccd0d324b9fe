package operator

import (
	"errors"
	"log/slog"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/node/snapshot/offline"
	"github.com/aptmesh/aptmesh/node/statedir"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/peerfetch"
)

// Node is how the node as a whole does. Its methods are safe for concurrent use.
type Node interface {
	// Ready reports whether hosts should be sent to this node.
	Ready() bool
	// Addrs are the addresses that hosts connect to.
	Addrs() []string
	// Stopping says what a node that stops does just now; "" while it runs.
	Stopping() string
	// Reload says why the latest reload of the configuration failed, "" if it did not, and which keys'
	// changes wait for a restart.
	Reload() (failed string, restart []string)
	// LeaveSoon makes the program that runs the node stop it.
	LeaveSoon()
}

// Config is what New needs: the rooms of one node.
type Config struct {
	Name    string // of the node
	Version string
	Node    Node

	Archives  *archives.Table
	Catalog   *catalog.Catalog
	Cluster   *cluster.Cluster // nil: the node stands alone
	Fetcher   *peerfetch.Fetcher
	Front     *front.Front
	Holds     *holds.Keeper
	Prefetch  *prefetch.Prefetcher
	Snapshots *snapshot.Keeper
	State     *statedir.Dir
	Store     *blobstore.Store
	Upstream  *upstream.Client
	Logger    *slog.Logger
}

// Operator answers an operator. Safe for concurrent use.
type Operator struct {
	cfg    Config
	began  time.Time
	intake *offline.Intake
}

var _ admin.Node = (*Operator)(nil)

// New makes the Operator of a node that begins now.
func New(cfg Config) *Operator {
	o := &Operator{cfg: cfg, began: time.Now()}
	o.intake = o.newIntake()
	return o
}

// Close ends imports that are under way.
func (o *Operator) Close() { o.intake.Close() }

// Ready reports whether hosts should be sent to this node.
func (o *Operator) Ready() bool { return o.cfg.Node.Ready() }

// Refused lists what hosts ask for and this node does not serve.
func (o *Operator) Refused() []admin.RefusedURL {
	list := []admin.RefusedURL{}
	for _, r := range o.cfg.Front.Refused() {
		list = append(list, admin.RefusedURL(r))
	}
	return list
}

// Remove has a missing node forgotten, here and by all other nodes.
func (o *Operator) Remove(name string) (*admin.RemoveResult, error) {
	if o.cfg.Cluster == nil {
		return nil, errors.New("this node stands alone: there is no cluster to remove a node from")
	}
	if err := o.cfg.Cluster.Remove(name); err != nil {
		return nil, err
	}
	return &admin.RemoveResult{Node: name, Message: "removed; all nodes are told, and none looks for it any more. If cluster.seeds of a node names it, take it out there"}, nil
}

// Leave makes the program that runs the node stop it, for `aptmesh leave`.
func (o *Operator) Leave() (*admin.LeaveResult, error) {
	if o.cfg.Cluster == nil {
		return nil, errors.New("this node stands alone: there is no cluster to leave (to stop it, end the process with SIGTERM)")
	}
	drain := o.cfg.Archives.Config().Drain
	o.cfg.Node.LeaveSoon()
	return &admin.LeaveResult{
		Node: o.cfg.Name, WithinSeconds: int64((drain.Delay + drain.Handoff + drain.Timeout).Seconds()),
		Message: "it stops being ready, hands on what only it holds, leaves the cluster, and ends",
	}, nil
}
