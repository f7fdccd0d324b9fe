package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	fetchService = "aptmesh.peer.v1.Bytes"
	fetchMethod  = "/" + fetchService + "/Fetch"
)

var fetchStream = grpc.StreamDesc{StreamName: "Fetch", ServerStreams: true}

// Fetch asks a peer for the bytes of one object. It returns when the peer knows what it
// will send. It leaves a peer that makes almost no progress after Timing.Progress. If the
// peer says that it waits for upstream, that is Timing.Upstream, and the error is
// proto.ErrSlowUpstream.
//
// The transfer's Body fails with the same errors as Fetch, and ends with ctx. One goroutine
// may use it, and must close it. It implements io.WriterTo, which copies nothing.
// Transfer.Modified may be filled in as late as the Body's io.EOF, because upstream's
// Last-Modified counts only when the bytes are proven.
//
// The errors are proto.ErrNotFound, proto.ErrCorrupt, *proto.Refused and *proto.Unavailable
// if the peer got them from upstream; *proto.NotStored; *proto.PeerFailed for failures
// between this node and the peer; and the cause of ctx if that has ended.
func (m *Mesh) Fetch(ctx context.Context, name string, peerReq proto.PeerRequest) (*proto.Transfer, error) {
	p := m.peer(name)
	if p == nil {
		return nil, &proto.PeerFailed{Peer: name, Err: errors.New("it is no member of the cluster")}
	}
	if why := m.distrusted(name); why != nil {
		return nil, &proto.PeerFailed{Peer: name, Err: why}
	}
	request, err := messageFrame(kindRequest, requestOf(peerReq, proto.Via(ctx)))
	if err != nil { // not the peer's fault
		return nil, &proto.PeerFailed{Peer: name, Err: fmt.Errorf("the request cannot be written down: %w", err)}
	}
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	d := newDownload(ctx, m, p, peerReq)
	t, err := d.open(request, peerReq)
	if err != nil {
		err = d.finish(err)
		d.Close()
		return nil, err
	}
	return t, nil
}

// Why a download is given up; the texts follow the peer's name.
var (
	errNoAccept   = errors.New("no answer")
	errNoProgress = errors.New("no progress")
	errTooSlow    = errors.New("too slow")
	errStalled    = errors.New("it gives next to nothing")
	errClosed     = errors.New("closed by the reader")
)

// download is a body on its way from a peer, and the proto.Transfer's Body. It is
// used by one goroutine.
type download struct {
	m        *Mesh
	p        *peer
	where    proto.Location
	transfer proto.Transfer
	tier     string // where the peer has it from

	caller   context.Context // of Fetch
	ctx      context.Context // ends with caller, or when the download is given up
	cancel   context.CancelCauseFunc
	stream   grpc.ClientStream
	watch    *watchdog
	pace     pace
	progress progress
	mayFill  bool // the peer may go upstream

	frame    frame
	word     waitsFor // what the last keepalive said since the last byte
	began    time.Time
	bytes    *traffic
	received int64 // position in the object behind the last byte that arrived
	first    bool  // a byte has arrived
	err      error // how it ended
}

func newDownload(ctx context.Context, m *Mesh, p *peer, peerReq proto.PeerRequest) *download {
	d := &download{m: m, p: p, mayFill: peerReq.Fill, caller: ctx, bytes: m.traffic.with(p.name), began: time.Now(), received: peerReq.Offset}
	d.transfer.Offset = peerReq.Offset
	if !peerReq.Object.Where.IsZero() {
		d.where = peerReq.Object.Where.First
	}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	d.watch = &watchdog{p: p, giveUp: d.cancel}
	d.pace = pace{floor: m.cfg.Timing.Floor, window: m.cfg.Timing.FloorWindow}
	return d
}

// open sends the request and waits for the ready head.
func (d *download) open(request *frame, peerReq proto.PeerRequest) (*proto.Transfer, error) {
	d.watch.be(max(d.m.cfg.Timing.Accept, 4*d.p.rtt()), errNoAccept)
	d.watch.start(d.began)
	err := d.request(request)
	d.watch.stop()
	if err != nil {
		return nil, err
	}
	d.watch.be(d.m.cfg.Timing.Progress, errNoProgress)
	for {
		switch d.frame.kind {
		case kindWaiting:
		case kindData:
			return nil, errors.New("it sent bytes before it said what they are")
		case kindHead:
			ready, err := d.ready(peerReq)
			if err != nil {
				return nil, err
			}
			if ready {
				return &d.transfer, nil
			}
		default:
			return nil, fmt.Errorf("it sent a frame of kind %d before it said what follows", d.frame.kind)
		}
		if err := d.receive(); err != nil {
			return nil, err
		}
	}
}

// request sends the request and waits for the peer's first word.
func (d *download) request(f *frame) (err error) {
	d.stream, err = d.p.data.NewStream(d.ctx, &fetchStream, fetchMethod,
		grpc.CallContentSubtype(codecName), grpc.MaxCallRecvMsgSize(maxFrame))
	if err != nil {
		return err
	}
	if err := d.stream.SendMsg(f); err != nil && err != io.EOF { // after io.EOF, RecvMsg says why
		return err
	}
	if err := d.stream.CloseSend(); err != nil {
		return err
	}
	return d.next()
}

// next reads the next frame. A stream that ends before its tail was cut: after the tail,
// next is not called again.
func (d *download) next() error {
	err := d.stream.RecvMsg(&d.frame)
	if err == io.EOF {
		return errors.New("it ended the answer without saying that it is whole")
	}
	return err
}

// ready looks at a head; false if it is the bare one.
func (d *download) ready(peerReq proto.PeerRequest) (bool, error) {
	head, err := d.frame.head()
	if err != nil || !head.GetReady() {
		return false, err
	}
	ref, err := refIn(head.GetRef())
	switch {
	case err != nil:
		return false, err
	case head.GetNotModified():
	case head.GetOffset() != peerReq.Offset:
		return false, fmt.Errorf("it sends from byte %d, asked for from byte %d", head.GetOffset(), peerReq.Offset)
	case ref.Size != proto.UnknownSize && ref.Size < peerReq.Offset:
		return false, fmt.Errorf("it has %d bytes, asked for from byte %d", ref.Size, peerReq.Offset)
	}
	d.tier = cleanReason(head.GetTier())
	d.transfer = proto.Transfer{
		Body: d, Size: ref.Size, Offset: peerReq.Offset, Modified: timeIn(head.GetModified()), Tier: proto.TierPeer, Checked: timeIn(head.GetChecked()),
	}
	if head.GetNotModified() {
		d.transfer.Body, d.transfer.NotModified = nil, true
		d.finish(io.EOF)
		d.Close()
	}
	return true, nil
}

// receive waits for the next frame, as long as the peer is there and the
// connection delivers what it has.
func (d *download) receive() error {
	began, crowd := time.Now(), d.p.crowd()
	d.watch.start(began)
	err := d.next()
	d.watch.stop()
	if err != nil {
		return err
	}
	now := time.Now()
	crowd = max(crowd, d.p.crowd())
	switch d.frame.kind {
	case kindData:
	case kindWaiting:
		d.word = d.frame.waits.what
		d.progress.took(0, now.Sub(began))
		return d.overdue(crowd)
	default:
		return nil
	}
	n := int64(d.frame.data.Remaining())
	d.received += n
	d.word = waitsUnknown
	if n > 0 && !d.first {
		d.progress = progress{} // it has something to give
	} else {
		d.progress.took(n, now.Sub(began))
	}
	if n > 0 && !d.first {
		d.first = true
		d.m.metrics.firstByte.Observe(now.Sub(d.began).Seconds())
	}
	if d.transfer.Size >= 0 && d.transfer.Body != nil && d.received > d.transfer.Size {
		d.frame.data.Close()
		return fmt.Errorf("it sent more than the %d bytes it had told of", d.transfer.Size)
	}
	late := d.pace.late(now.Sub(d.began) - time.Duration(d.frame.sent)*time.Millisecond)
	behind := d.frame.available > d.received || late > tooLate
	if err := d.pace.arrived(n, now.Sub(began), behind, crowd); err != nil {
		return err
	}
	return d.overdue(crowd)
}

// overdue returns why to leave a peer that made almost no progress for too long, on a
// connection that crowd times crowdOf transfers share. Keepalives only show that the peer is
// alive. What the peer waits for decides how long is too long, and whether the peer or
// upstream is at fault. A peer that stores the object waits only for its own disk.
func (d *download) overdue(crowd int) error {
	if d.progress.waited < d.m.cfg.Timing.Progress || d.received == d.transfer.Size && d.transfer.Body != nil {
		return nil
	}
	upstream := d.word == waitsUpstream
	switch proto.Tier(d.tier) {
	case proto.TierMemory, proto.TierDisk:
		upstream = false
	case proto.TierUpstream:
		upstream = upstream || d.word == waitsUnknown
	}
	patience := d.m.cfg.Timing.Progress
	if upstream && (d.mayFill || d.first) || d.word == waitsTurn {
		patience = d.m.cfg.Timing.Upstream
	}
	if d.progress.waited < patience*time.Duration(crowd) {
		return nil
	}
	said := fmt.Sprintf("%d bytes in %v, and says that it waits for %v", d.progress.bytes, d.progress.waited.Round(time.Millisecond), d.word)
	switch {
	case d.word == waitsTurn && d.mayFill: // to ask it again would take as long once more
	case d.word == waitsTurn:
		return &proto.NotStored{Peer: d.p.name, Busy: true}
	case !upstream:
		return fmt.Errorf("%w: %s", errStalled, said)
	case !d.mayFill && !d.first:
		return &proto.NotStored{Peer: d.p.name, Busy: true}
	}
	return &proto.PeerFailed{Peer: d.p.name, Err: &answered{fmt.Errorf("%w: %s", proto.ErrSlowUpstream, said)}}
}

// Read implements io.Reader. It ends with io.EOF only when the peer has said that
// the body is whole.
func (d *download) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := d.fill(); err != nil {
		return 0, err
	}
	n, _ := d.frame.data.Read(b)
	d.bytes.in.Add(int64(n))
	return n, nil
}

// WriteTo implements io.WriterTo: w is given the buffers that came from the
// network.
func (d *download) WriteTo(w io.Writer) (int64, error) {
	var sent int64
	var views [][]byte
	for {
		err := d.fill()
		if err == io.EOF {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		if views, err = d.frame.data.Peek(d.frame.data.Remaining(), views[:0]); err != nil {
			return sent, err
		}
		d.bytes.in.Add(int64(d.frame.data.Remaining()))
		for _, view := range views {
			n, err := w.Write(view)
			sent += int64(n)
			if err != nil {
				return sent, err
			}
		}
		d.frame.data.Close()
	}
}

// fill waits until there are bytes to give out.
func (d *download) fill() error {
	for d.err == nil && d.frame.data.Remaining() == 0 {
		err := d.receive()
		switch {
		case err != nil:
			d.finish(err)
		case d.frame.kind == kindTail:
			d.finish(d.tail())
		case d.frame.kind != kindData && d.frame.kind != kindWaiting:
			d.finish(fmt.Errorf("it sent a frame of kind %d among the bytes", d.frame.kind))
		}
	}
	return d.err
}

// tail checks the end of the body; io.EOF if it is whole.
func (d *download) tail() error {
	tail, err := d.frame.tail()
	if err != nil {
		return err
	}
	if size := d.transfer.Size; size != proto.UnknownSize && d.received != size {
		return fmt.Errorf("the body ended after %d of %d bytes", d.received, size)
	}
	if modified := timeIn(tail.GetModified()); !modified.IsZero() {
		d.transfer.Modified = modified
	}
	return io.EOF
}

// finish notes how the download ended and returns its error. An error that the peer got from
// upstream is no failure of the peer.
func (d *download) finish(err error) error {
	switch {
	case d.err != nil:
	case err == io.EOF:
		d.end(err, outcomeOf(nil))
		d.p.reported(nil)
		d.p.health.delivered(proto.Tier(d.tier) == proto.TierUpstream)
	case d.caller.Err() != nil:
		d.end(context.Cause(d.caller), abandoned)
	default:
		if cause := context.Cause(d.ctx); cause != nil {
			err = cause
		}
		if !errors.As(err, new(*proto.NotStored)) && !errors.As(err, new(*proto.PeerFailed)) {
			err = errorOf(d.p.name, err)
		}
		d.end(err, outcomeOf(err))
		d.m.stalled(d.p, err)
		if errors.As(err, new(*proto.PeerFailed)) {
			d.p.reported(err)
		} else {
			d.p.reported(nil)
		}
	}
	return d.err
}

// end is called once. The stream is over, or ends now.
func (d *download) end(err error, outcome string) {
	d.err = err
	d.m.metrics.fetches.WithLabelValues(outcome).Inc()
	attrs := []any{"node", d.p.name, "location", d.where.String(), "outcome", outcome, "tier", d.tier,
		"from", d.transfer.Offset, "to", d.received, "took", time.Since(d.began)}
	if err != io.EOF {
		attrs = append(attrs, "error", err)
	}
	d.m.log.Debug("asked another node", attrs...)
	d.cancel(errClosed)
	d.p.end()
}

// Close ends the transfer, at the peer as well.
func (d *download) Close() error {
	if d.err == nil {
		d.end(errClosed, abandoned)
	}
	d.frame.data.Close()
	return nil
}

// timeIn reads seconds; 0 is no time.
func timeIn(seconds int64) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
