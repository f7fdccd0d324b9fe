package cluster

import (
	"context"

	"github.com/aptmesh/aptmesh/peerfetch/peers"
	"github.com/aptmesh/aptmesh/proto"
)

// handler is what other nodes may ask of this one.
type handler struct{ c *Cluster }

var (
	_ peers.Handler = handler{}
	_ peers.Control = handler{}
)

func (h handler) ServePeer(ctx context.Context, from string, ask proto.PeerRequest) (*proto.Blob, error) {
	for loc := range ask.Object.Where.All() {
		h.c.rooms.Ensure(loc.Archive, from)
	}
	return h.c.rooms.Objects.ServePeer(ctx, from, ask)
}

func (h handler) ReceiveAnnouncements(from string, news []proto.Announcement) {
	h.c.rooms.Catalog.Receive(from, news...)
}

func (h handler) ReceiveAlerts(_ string, alerts []proto.MirrorAlert) { h.c.receiveAlerts(alerts) }

func (h handler) Alerts() []proto.MirrorAlert { return h.c.rooms.Upstream.Alerts() }

func (h handler) ServeCheck(ctx context.Context, from string, id proto.Suite, uses []string, fresh bool) (proto.Announcement, error) {
	h.c.rooms.Ensure(id.Archive, from)
	return h.c.rooms.Catalog.ServeCheck(ctx, id, uses, fresh)
}

func (h handler) ReceiveOffer(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest {
	for _, offer := range offers {
		for loc := range offer.Where.All() {
			h.c.rooms.Ensure(loc.Archive, from)
		}
	}
	return h.c.takeOver(ctx, from, offers)
}

// Lookup answers from what is listed here, and does not count as demand.
func (h handler) Lookup(loc proto.Location) (proto.Ref, bool) {
	e, ok := h.c.rooms.Catalog.Explain(loc)
	return e.Object.Ref, ok && e.Listed && !e.Object.Ref.IsZero()
}

func (h handler) ServeSnapshots(_ context.Context, from string, told proto.SnapshotNews) (proto.SnapshotNews, error) {
	return h.c.rooms.Snapshots.Serve(from, told)
}

func (h handler) SnapshotsSum() uint64        { return h.c.rooms.Snapshots.Sum() }
func (h handler) SnapshotsDiffer(node string) { h.c.rooms.Snapshots.Meet(node) }

func (h handler) ServeMirror(name, act string) ([]byte, error) { return h.c.rooms.Mirror(name, act) }

func (h handler) LocalStatus(context.Context) []byte { return h.c.localReport() }
