package peers

import (
	"context"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/sourcetest"
)

// Another node is a source as flights need one.
func TestSource(t *testing.T) {
	source := func(a, b *Mesh, s *sourcetest.Server) sourcetest.Source {
		for range maxUploads - sourcetest.Places {
			b.uploads <- struct{}{}
		}
		return sourcetest.Source{
			Open: func(ctx context.Context, offset int64) (*proto.Transfer, error) {
				return a.Fetch(ctx, "b", askFor(s.Content, offset))
			},
			// A node always resumes; TestHostileServer has one that lies about where it begins.
			Cannot: []sourcetest.Fault{sourcetest.Whole, sourcetest.Ahead},
		}
	}
	t.Run("loopback", func(t *testing.T) {
		sourcetest.Run(t, func(t *testing.T, s *sourcetest.Server) sourcetest.Source {
			a, b := pair(t, Config{}, handlerOf(s))
			return source(a, b, s)
		})
	})
	t.Run("in memory", func(t *testing.T) {
		sourcetest.RunInBubble(t, func(t *testing.T, s *sourcetest.Server) sourcetest.Source {
			a, b, _ := inMemory(t, link{}, Config{}, handlerOf(s))
			src := source(a, b, s)
			src.Patience = Timing{}.withDefaults().Upstream + 2*time.Second // it is asked to wait for upstream
			return src
		})
	})
}

// handlerOf gives what s has, as it comes from upstream.
func handlerOf(s *sourcetest.Server) handlerFunc {
	return func(ctx context.Context, _ string, peerReq proto.PeerRequest) (*proto.Blob, error) {
		b, err := s.Answer(ctx, peerReq.Offset)
		if err != nil {
			return nil, err
		}
		return &proto.Blob{Ref: proto.Ref{Digest: peerReq.Object.Ref.Digest, Size: b.Size}, Tier: proto.TierUpstream, Stream: b}, nil
	}
}
