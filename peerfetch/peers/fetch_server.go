package peers

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	// maxUploads is how many bodies are sent at the same time, to all nodes together.
	// Further requests for stored objects get "wait". An upload takes about 300 KiB.
	maxUploads = 1024
	// readAhead is how many chunks are read before the connection takes them.
	// One is enough to know that the connection is what is waited for; two keep
	// disk and network busy at the same time.
	readAhead = 2
)

// bytesService is written by hand, because its messages are frames.
var bytesService = grpc.ServiceDesc{
	ServiceName: fetchService,
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName:    "Fetch",
		ServerStreams: true,
		Handler:       func(srv any, stream grpc.ServerStream) error { return srv.(*Mesh).serveFetch(stream) },
	}},
}

// serveFetch answers one Fetch.
func (m *Mesh) serveFetch(stream grpc.ServerStream) error {
	from, err := m.caller(stream.Context())
	if err != nil {
		return err
	}
	var f frame
	if err := stream.RecvMsg(&f); err != nil {
		return err
	}
	req, err := f.request()
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	peerReq, err := readRequest(req)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	via, err := viaIn(req.GetVia())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if m.serving.Err() != nil {
		return statusOf(errDraining)
	}
	if m.cfg.Handler == nil {
		return status.Error(codes.Unimplemented, "this node gives no bytes")
	}
	err = m.upload(proto.WithVia(stream.Context(), via), stream, from, peerReq)
	outcome := outcomeOf(err)
	if err != nil && stream.Context().Err() != nil {
		outcome = abandoned
	}
	m.metrics.serves.WithLabelValues(outcome).Inc()
	if err != nil {
		return statusOf(err)
	}
	return nil
}

// upload is one body on its way to another node. A goroutine of its own obtains
// and reads it, so that the one that sends can say meanwhile that it waits.
type upload struct {
	m      *Mesh
	stream grpc.ServerStream
	began  time.Time
	bytes  *traffic
	// available is how far the body is known to have come: further than what was
	// sent, where the connection is what is waited for.
	available atomic.Int64
	// phase is what the goroutine that obtains the body is at.
	phase atomic.Int32

	pieces chan piece // closed when there are no more
	err    error      // why; nil for a whole body. To be read when pieces is closed
	tail   *peerpb.FetchTail
}

// piece is a frame to be sent. A data frame is complete except for its
// header, the first dataHeader bytes.
type piece struct {
	wire   mem.BufferSlice
	header []byte // nil unless a data frame
	n      int    // bytes of the object in it
}

// upload sends what the Handler returns for a request. ctx is that of the stream. The error
// is for the requester.
func (m *Mesh) upload(ctx context.Context, stream grpc.ServerStream, from string, peerReq proto.PeerRequest) error {
	// A goroutine that reads from a disk that hangs does not return: start no more of them.
	if m.stuckFor() >= m.cfg.Timing.Progress {
		return errStuck
	}
	// Produced pieces and the goroutine that makes them end with ctx at the
	// latest; nothing of an upload is left when its call ends, unless the disk hangs.
	ctx, cancel := context.WithCancel(ctx)
	u := &upload{
		m: m, stream: stream, began: time.Now(), bytes: m.trafficFrom(from),
		pieces: make(chan piece, readAhead), tail: new(peerpb.FetchTail),
	}
	u.available.Store(peerReq.Offset)
	if err := u.message(kindHead, &peerpb.FetchHead{}); err != nil {
		cancel()
		return err
	}
	go func() {
		defer close(u.pieces)
		u.err = u.produce(ctx, from, peerReq)
	}()
	last, err := u.send(ctx)
	waits := u.waitsFor(time.Since(last))
	cancel()
	if waits.what == waitsStore && waits.since >= m.cfg.Timing.Keepalive {
		go u.discard() // a call that hangs in the kernel does not end with ctx
	} else {
		u.discard()
	}
	return err
}

// discard lets go of the pieces that are not sent any more.
func (u *upload) discard() {
	for p := range u.pieces {
		p.wire.Free()
	}
}

// send passes on what produce makes, and says what is waited for while it makes
// nothing. It returns when the last piece went out.
func (u *upload) send(ctx context.Context) (last time.Time, err error) {
	keepalive := u.m.cfg.Timing.Keepalive
	idle := time.NewTicker(keepalive)
	defer idle.Stop()
	last = u.began
	for {
		select {
		case p, ok := <-u.pieces:
			if !ok {
				return last, u.end()
			}
			err = u.transmit(p)
			last = time.Now()
		case <-idle.C:
			waits := u.waitsFor(time.Since(last))
			if waits.what == waitsStore && waits.since >= u.m.cfg.Timing.Stuck {
				return last, errStuck
			}
			err = u.stream.SendMsg(waits.frame())
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return last, err
		}
		idle.Reset(keepalive)
	}
}

// The phases of an upload.
const (
	phaseHandler int32 = iota // the handler looks for the object, or waits for upstream
	phaseTurn                 // there are too many uploads
	phaseFile                 // the file is read
	phaseStream               // what comes from upstream is read
	phaseBytes                // what is in memory is cut into pieces
)

// waitsFor is what produce waits for if it has produced nothing for that long. It is the
// disk if the object is stored, or if an operation of the store hangs: a body from upstream
// passes through the store.
func (u *upload) waitsFor(quiet time.Duration) waiting {
	stuck := u.m.stuckFor()
	switch phase := u.phase.Load(); {
	case phase == phaseTurn:
		return waiting{waitsTurn, quiet}
	case phase == phaseFile:
		return waiting{waitsStore, quiet}
	case stuck >= u.m.cfg.Timing.Keepalive:
		return waiting{waitsStore, min(stuck, quiet)}
	}
	return waiting{waitsUpstream, quiet}
}

// errStuck is the answer of a node whose disk hangs.
var errStuck = errors.New("its disk does not answer")

// stuckFor is for how long this node's store has been at one operation.
func (m *Mesh) stuckFor() time.Duration {
	if m.cfg.Stuck == nil {
		return 0
	}
	return m.cfg.Stuck()
}

// transmit sends a piece. It blocks while the connection takes no more.
func (u *upload) transmit(p piece) error {
	if p.header != nil {
		putDataHeader(p.header, u.available.Load(), uint32(time.Since(u.began).Milliseconds()))
	}
	if err := u.stream.SendMsg(&frame{wire: p.wire}); err != nil {
		return err
	}
	u.bytes.out.Add(int64(p.n))
	return nil
}

// message sends a frame that is not data.
func (u *upload) message(kind byte, msg pb.Message) error {
	f, err := messageFrame(kind, msg)
	if err != nil {
		return err
	}
	return u.stream.SendMsg(f)
}

// end sends the tail of a body that is whole, or else returns why it is not.
func (u *upload) end() error {
	if u.err != nil {
		return u.err
	}
	return u.message(kindTail, u.tail)
}
