package node

import (
	"context"
	"errors"

	"github.com/aptmesh/aptmesh/node/admin"
)

var _ admin.Node = (*Node)(nil)

// startAdmin binds the admin interface. It stops after the frontend: an operator
// can watch the node drain.
func (n *Node) startAdmin(ctx context.Context) error {
	cfg := n.table.Config()
	server, err := admin.Listen(ctx, admin.Config{
		Address: cfg.Admin, Socket: admin.SocketIn(cfg.StateDir()), ReadyAddress: cfg.ReadyListen, TokenFile: cfg.AdminTokenFile,
		Node: n, Metrics: n.metrics, Failed: n.fail,
	})
	if err != nil {
		return err
	}
	n.onStop("admin", func(context.Context) error { return server.Close() })
	n.mu.Lock()
	n.admin = server
	n.mu.Unlock()
	return nil
}

// Ready reports whether hosts should be sent to this node.
func (n *Node) Ready() bool { return n.ready.Load() }

// Refused lists what hosts ask for and this node does not serve.
func (n *Node) Refused() []admin.RefusedURL {
	list := []admin.RefusedURL{}
	for _, r := range n.front.Refused() {
		list = append(list, admin.RefusedURL(r))
	}
	return list
}

// Remove has a missing node forgotten, here and by all other nodes.
func (n *Node) Remove(name string) (*admin.RemoveResult, error) {
	if n.cluster == nil {
		return nil, errors.New("this node stands alone: there is no cluster to remove a node from")
	}
	if err := n.cluster.Remove(name); err != nil {
		return nil, err
	}
	return &admin.RemoveResult{Node: name, Message: "removed; all nodes are told, and none looks for it any more. If cluster.seeds of a node names it, take it out there"}, nil
}

// Leave has whoever runs the node stop it, as `aptmesh leave` does.
func (n *Node) Leave() (*admin.LeaveResult, error) {
	if n.cluster == nil {
		return nil, errors.New("this node stands alone: there is no cluster to leave (to stop it, end the process with SIGTERM)")
	}
	drain := n.drain()
	n.leaveOnce.Do(func() { close(n.leaving) })
	return &admin.LeaveResult{
		Node: n.opts.Name, WithinSeconds: int64((drain.Delay + drain.Handoff + drain.Timeout).Seconds()),
		Message: "it stops being ready, hands on what only it holds, leaves the cluster, and ends",
	}, nil
}

// Leaving returns a channel that is closed when Leave was called.
func (n *Node) Leaving() <-chan struct{} { return n.leaving }
