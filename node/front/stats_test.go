package front

import (
	"maps"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Stats tells what the metrics count.
func TestStats(t *testing.T) {
	f := &Front{metrics: newMetrics()}
	done := func(status int, tier proto.Tier, sent int64) {
		x := &exchange{status: status, sent: sent, begun: true, firstByte: time.Millisecond}
		x.note.tier = tier
		f.metrics.count(x)
	}
	done(200, proto.TierMemory, 10)
	done(206, proto.TierMemory, 5)
	done(200, proto.TierUpstream, 100)
	done(404, "", 7)
	done(599, proto.TierPeer, 0)
	s := f.Stats()
	want := map[proto.Tier]TierStats{proto.TierMemory: {2, 15}, proto.TierUpstream: {1, 100}, proto.TierPeer: {1, 0}}
	if s.Requests != 5 || s.Errors != 2 || s.Bytes != 122 || !maps.Equal(s.Tiers, want) {
		t.Errorf("%+v", s)
	}
}
