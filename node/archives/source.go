package archives

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// Source is the HTTP client as the other rooms use it: it knows which names lead into a restricted
// archive, what a format makes of a name, and why an archive has no mirror to ask.
type Source struct {
	*upstream.Client
	Table *Table
	Lists *mirrorlist.Lists
}

// Fetch is Fetch of the client. All requests of this node to upstream, for itself or for another node,
// pass here. If the mirror lists of the archive are not known yet, it waits until they are fetched; if
// that fails, the archive is unavailable.
func (s Source) Fetch(ctx context.Context, req proto.Request) (*proto.Transfer, error) {
	if in, ok := s.Table.now.Load().inner[req.Loc.Archive].at(req.Loc.Path); ok {
		return nil, &proto.Refused{Status: http.StatusForbidden, Reason: fmt.Sprintf("%s lies inside the archive %s, which only some clients may read, and is read through that archive alone", req.Loc, in.Archive)}
	}
	info := s.Table.FormatOf(req.Loc.Archive).PathInfo(req.Loc.Path)
	req.Immutable, req.Page, req.FirstByte = info.Immutable, info.Page, info.FirstByte
	t, err := s.Client.Fetch(ctx, req)
	if !errors.Is(err, upstream.ErrUnknownArchive) {
		return t, err
	}
	keys := s.Table.now.Load().unlisted[req.Loc.Archive]
	if len(keys) == 0 {
		return nil, err
	}
	var trouble error
	for _, key := range keys {
		if trouble = s.Lists.Await(ctx, key); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if trouble != nil {
			continue
		}
		if t, err = s.Client.Fetch(ctx, req); !errors.Is(err, upstream.ErrUnknownArchive) {
			return t, err
		}
		trouble = errors.New("it names none that may be asked: with `trust_https` only mirrors with https count, and never what lies inside another archive")
	}
	return nil, &proto.Unavailable{Err: trouble, Reason: fmt.Sprintf("the archive %s has no mirror that could be asked: its list of mirrors, %s, is of no use yet: %v",
		req.Loc.Archive, keys[len(keys)-1].At, trouble)}
}
