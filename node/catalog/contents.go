package catalog

import (
	"context"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Contents opens the root of a captured suite, which is verified with the keys that the archive has now, as of the
// moment at. It is read from the store, or from wherever it can be had. Errors are those of Freeze. Safe for
// concurrent use.
func (c *Catalog) Contents(ctx context.Context, at time.Time, s proto.Captured) (*proto.Manifest, error) {
	conf := c.archive(s.Suite.Archive)
	if conf == nil {
		return nil, errUnknownArchive
	}
	f := &Frozen{c: c, conf: conf, at: at}
	g, err := f.openRoot(ctx, s)
	if err != nil {
		return nil, err
	}
	return g.Manifest, nil
}

// ObjectOf is what it takes to obtain a member of a generation.
func (c *Catalog) ObjectOf(g proto.Generation, m *proto.Member) proto.ObjectRequest {
	return (&reader{suite: g.Suite}).object(g, m, nil)
}
