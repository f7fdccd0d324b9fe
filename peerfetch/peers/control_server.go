package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	maxOffers = 10_000  // in one call
	maxStatus = 8 << 20 // bytes of one node's status
	// maxRecords is how many records of snapshots one message may name or have.
	maxRecords = 4096
)

// controlServer answers the calls of the service Control. Its calls without end
// must end with m.serving. What others send is bounded by gRPC (4 MiB) and
// checked in convert.go.
type controlServer struct {
	peerpb.UnimplementedControlServer
	m *Mesh
}

// Ping is a sign of life, with the ring that this node sees.
func (s *controlServer) Ping(ctx context.Context, _ *peerpb.PingRequest) (*peerpb.PingReply, error) {
	if _, err := s.m.caller(ctx); err != nil {
		return nil, err
	}
	reply := &peerpb.PingReply{RingHash: s.m.View().Ring.Hash(), Version: s.m.cfg.Version, StuckMs: s.m.stuckFor().Milliseconds()}
	if s.m.cfg.Control != nil {
		reply.Snapshots = s.m.cfg.Control.SnapshotsSum()
	}
	return reply, nil
}

// Follow streams what this node stores until the caller ends the stream, or this node
// stops.
func (s *controlServer) Follow(_ *peerpb.FollowRequest, stream peerpb.Control_FollowServer) error {
	if _, err := s.m.caller(stream.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.m.serving, cancel)()
	cursor := s.m.cfg.Local.Follow()
	defer cursor.Close()
	for {
		update, err := cursor.Next(ctx)
		if s.m.serving.Err() != nil {
			return statusOf(errDraining)
		}
		if err != nil {
			return statusOf(err)
		}
		if err := stream.Send(holdingsOut(update)); err != nil {
			return err
		}
	}
}

func holdingsOut(u holdings.Update) *peerpb.Holdings {
	return &peerpb.Holdings{
		Begin: u.Begin, FilterBits: u.FilterBits, FilterHashes: u.FilterHashes, Filter: u.Filter,
		Added: u.Added, Removed: u.Removed, Blobs: u.Blobs,
	}
}

func holdingsIn(h *peerpb.Holdings) holdings.Update {
	return holdings.Update{
		Begin: h.GetBegin(), FilterBits: h.GetFilterBits(), FilterHashes: h.GetFilterHashes(), Filter: h.GetFilter(),
		Added: h.GetAdded(), Removed: h.GetRemoved(), Blobs: h.GetBlobs(),
	}
}

// Announce receives announcements of suites and alerts of mirrors. It accepts the valid
// ones, even if others in the same message are not valid.
func (s *controlServer) Announce(ctx context.Context, req *peerpb.AnnounceRequest) (*peerpb.AnnounceReply, error) {
	from, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	announcements, err := announcementsIn(req.GetAnnouncements(), now)
	if len(announcements) > 0 {
		control.ReceiveAnnouncements(from, announcements)
	}
	alerts, wrong := alertsIn(req.GetAlerts(), now)
	for i := range alerts {
		alerts[i].Node = from // only the node that found it sends it
	}
	if len(alerts) > 0 {
		control.ReceiveAlerts(from, alerts)
	}
	if err = errors.Join(err, wrong); err != nil {
		return nil, s.senseless(from, err)
	}
	return &peerpb.AnnounceReply{}, nil
}

// CheckSuite has this node check a suite because the caller takes this node for its leader.
func (s *controlServer) CheckSuite(ctx context.Context, req *peerpb.CheckSuiteRequest) (*peerpb.CheckSuiteReply, error) {
	from, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	id := proto.Suite{Archive: req.GetArchive(), Dir: req.GetDir(), Name: req.GetName()}
	if err := checkSuite(id); err != nil {
		return nil, s.senseless(from, err)
	}
	slots, err := slotsIn(id, req.GetSlots())
	if err != nil {
		return nil, s.senseless(from, err)
	}
	announcements, err := control.ServeCheck(ctx, from, id, slots, req.GetFresh())
	if err != nil {
		return nil, statusOf(err)
	}
	out, err := announcementOut(announcements, time.Now())
	if err != nil {
		return nil, statusOf(err)
	}
	return &peerpb.CheckSuiteReply{Announcement: out}, nil
}

// Offer takes over what the caller is about to take away with it.
func (s *controlServer) Offer(ctx context.Context, req *peerpb.OfferRequest) (*peerpb.OfferReply, error) {
	from, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	if n := len(req.GetOffers()); n > maxOffers {
		return nil, s.senseless(from, fmt.Errorf("%d offers, want at most %d", n, maxOffers))
	}
	offers := make([]proto.ObjectRequest, len(req.GetOffers()))
	for i, offer := range req.GetOffers() {
		if offers[i], err = offerIn(from, offer); err != nil {
			return nil, s.senseless(from, err)
		}
	}
	var reply peerpb.OfferReply
	for _, d := range control.ReceiveOffer(ctx, from, offers) {
		reply.Stored = append(reply.Stored, d[:])
	}
	return &reply, nil
}

// Status returns this node's status.
func (s *controlServer) Status(ctx context.Context, _ *peerpb.StatusRequest) (*peerpb.StatusReply, error) {
	_, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	json := control.LocalStatus(ctx)
	if len(json) > maxStatus {
		return nil, status.Errorf(codes.ResourceExhausted, "the status of this node has %d bytes, want at most %d", len(json), maxStatus)
	}
	return &peerpb.StatusReply{Json: json}, nil
}

// Snapshots exchanges names of snapshots and channels.
func (s *controlServer) Snapshots(ctx context.Context, req *peerpb.SnapshotsRequest) (*peerpb.SnapshotsReply, error) {
	from, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	if n := len(req.GetWanted()) + len(req.GetRecords()); n > maxRecords {
		return nil, s.senseless(from, fmt.Errorf("%d records of snapshots, want at most %d", n, maxRecords))
	}
	told, err := control.ServeSnapshots(ctx, from, proto.SnapshotNews{Names: req.GetNames(), Away: absence(req.GetAway()), Wanted: req.GetWanted(), Records: req.GetRecords()})
	if err != nil {
		return nil, s.senseless(from, err)
	}
	return &peerpb.SnapshotsReply{Names: told.Names, Away: uint32(told.Away), Wanted: told.Wanted, Records: told.Records}, nil
}

// Mirror does something for a mirror.
func (s *controlServer) Mirror(ctx context.Context, req *peerpb.MirrorRequest) (*peerpb.MirrorReply, error) {
	_, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	json, err := control.ServeMirror(req.GetName(), req.GetAct())
	switch {
	case err != nil:
		return &peerpb.MirrorReply{Refused: cleanReason(err.Error())}, nil
	case len(json) > maxStatus:
		return nil, status.Errorf(codes.ResourceExhausted, "the status of the mirror has %d bytes, want at most %d", len(json), maxStatus)
	}
	return &peerpb.MirrorReply{Json: json}, nil
}

// control returns the calling node, and the object that answers its calls.
func (s *controlServer) control(ctx context.Context) (from string, c Control, err error) {
	if from, err = s.m.caller(ctx); err != nil {
		return "", nil, err
	}
	if s.m.cfg.Control == nil {
		return "", nil, status.Error(codes.Unimplemented, "this node answers no such questions")
	}
	return from, s.m.cfg.Control, nil
}

// senseless logs that a node sent something that makes no sense, and returns the status
// that tells the node.
func (s *controlServer) senseless(from string, err error) error {
	s.m.limitedLog.warn(s.m.log, "senseless "+from, "another node said something that makes no sense", "node", from, "error", err)
	return status.Error(codes.InvalidArgument, cleanReason(err.Error()))
}
