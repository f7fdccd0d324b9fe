package node

import (
	"context"

	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/proto"
)

// startPrefetch makes the room that fetches ahead. In a cluster each node fetches what
// its own clients use, through flights like any other: so the owners get it from
// upstream, once for all.
func (n *Node) startPrefetch(cfg *Config) error {
	p, err := prefetch.New(prefetch.Config{
		Open: n.fetcher.Open,
		Held: func(want proto.Want) bool {
			tier, _ := n.fetcher.Held(want)
			return tier != ""
		},
		State: n.store, Logger: n.log,
		Enabled: cfg.Prefetch.Enabled, MaxBytes: int64(cfg.Prefetch.MaxBytes), UsedWithin: cfg.Prefetch.UsedWithin,
	})
	if err != nil {
		return err
	}
	n.prefetch = p
	n.onStop("prefetch", func(context.Context) error { return p.Close() })
	return nil
}

// flipped is told of every generation that this node begins to serve.
func (n *Node) flipped(f catalog.Flip) {
	// What upstream did not have may be there now.
	n.fetcher.ForgetNotFound(f.Suite.Archive)
	if len(f.Indices) == 0 {
		return
	}
	indices := make([]prefetch.Index, len(f.Indices))
	for i, index := range f.Indices {
		indices[i] = prefetch.Index{Path: index.Path, Base: index.Base, Want: index.Want}
	}
	n.prefetch.Flipped(prefetch.Flip{Suite: f.Suite, Date: f.Date, Indices: indices, New: f.New})
}
