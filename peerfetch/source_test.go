package peerfetch

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/sourcetest"
)

// What stands in for upstream in the tests of flights keeps to the rules that upstream keeps to.
func TestScriptedUpstreamIsSource(t *testing.T) {
	sourcetest.RunInBubble(t, func(t *testing.T, s *sourcetest.Server) sourcetest.Source {
		up := &upstream{script: scriptOf(s)}
		return sourcetest.Source{
			Open: func(ctx context.Context, offset int64) (*proto.Transfer, error) {
				return up.Fetch(ctx, proto.Request{Loc: proto.Location{Archive: "a", Path: "pool/x.deb"}, Offset: offset})
			},
			Cannot: []sourcetest.Fault{sourcetest.Ahead}, // it passes that on: a flight must see it, too (TestMirrorsFail)
		}
	})
}

// What stands in for other nodes, with a Fetcher behind it, keeps to the rules that those keep to.
func TestClusterOfTestsIsSource(t *testing.T) {
	sourcetest.RunInBubble(t, func(t *testing.T, s *sourcetest.Server) sourcetest.Source {
		c := newCluster(t, []string{"a", "b"}, scriptOf(s), func(cfg *Config) { cfg.Linger = time.Millisecond })
		object := wantOf(s.Content)
		if s.Untold {
			object.Ref = proto.Ref{Size: proto.UnknownSize}
		}
		return sourcetest.Source{Open: func(ctx context.Context, offset int64) (*proto.Transfer, error) {
			return c.nodes["a"].Fetch(ctx, "b", proto.PeerRequest{Object: object, Offset: offset, Fill: true})
		}}
	})
}

// scriptOf answers with what s has.
func scriptOf(s *sourcetest.Server) func(int, proto.Request) answer {
	return func(_ int, r proto.Request) answer {
		return answer{with: func(ctx context.Context) answer {
			b, err := s.Answer(ctx, r.Offset)
			if err != nil {
				return answer{err: err}
			}
			return answer{body: &brokenOff{b}, size: b.Size, offset: b.Offset}
		}}
	}
}

// brokenOff makes of a broken connection what upstream's client makes of it.
type brokenOff struct{ io.ReadCloser }

func (b *brokenOff) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, sourcetest.ErrBroken) {
		err = errBroken
	}
	return n, err
}
