package node

import (
	"context"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/proto"
)

// startPrefetch makes the room that fetches ahead. In a cluster each node fetches what
// its own clients use, through flights like any other: so the owners get it from
// upstream, once for all.
func (n *Node) startPrefetch(cfg *config.Config) error {
	p, err := prefetch.New(prefetch.Config{
		Formats: func(archive string) prefetch.Format { return n.table.FormatOf(archive) },
		Open:    n.fetcher.Open,
		Stored: func(want proto.ObjectRequest) bool {
			tier, _ := n.fetcher.Stored(want)
			return tier != ""
		},
		State: n.state, Logger: n.log,
		Settings: cfg.Prefetch,
	})
	if err != nil {
		return err
	}
	n.prefetch = p
	n.onStop("prefetch", func(context.Context) error { return p.Close() })
	return nil
}

// switched is told of every generation that this node begins to serve.
func (n *Node) switched(s proto.Switch) {
	// What upstream did not have may be there now, and what nothing signs may have changed.
	n.fetcher.ArchiveChanged(s.Suite.Archive)
	n.table.Proven(s.Suite.Archive)
	if len(s.Indexes) == 0 {
		return
	}
	n.prefetch.Switched(s)
}
