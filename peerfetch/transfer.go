package peerfetch

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

// origin is where bytes come from: a peer, or a place at a mirror of the archive. A
// source that does not name its mirrors has none.
type origin struct {
	peer   string
	mirror string // as Transfer.From names it; "" with a peer
	loc    proto.Location
}

func (o origin) String() string {
	switch {
	case o.peer != "":
		return "node " + o.peer
	case o.mirror != "":
		return o.loc.String() + " at " + o.mirror
	}
	return o.loc.String()
}

// sameSource reports whether two origins are one node, or one mirror.
func (o origin) sameSource(other origin) bool {
	return o.peer == other.peer && o.mirror == other.mirror
}

// wrong is the error for what upstream lists otherwise. Of a peer it says only that
// this peer is of no use.
func (o origin) wrong(err error) error {
	if o.peer != "" {
		return &proto.PeerFailed{Peer: o.peer, Err: err}
	}
	return err
}

// broke makes a failed read what it is: trouble that may pass, or the end of what
// this peer can give.
func (o origin) broke(err error) error {
	if o.peer == "" {
		return asUnavailable(err, o.loc)
	}
	if toldByUpstream(err) || errors.As(err, new(*proto.PeerFailed)) {
		return err
	}
	return &proto.PeerFailed{Peer: o.peer, Err: err}
}

// short is the error for a body that ended before its end.
func (o origin) short(got, size int64) error {
	err := &proto.Unavailable{Reason: fmt.Sprintf("the body ended after %d of %d bytes", got, size)}
	if o.peer != "" {
		return &proto.PeerFailed{Peer: o.peer, Err: errors.New(err.Reason)}
	}
	return err
}

// ended is an error that no other source can mend: the store failed, or bytes
// have been given out that cannot be right.
type ended struct{ err error }

func (e *ended) Error() string { return e.err.Error() }
func (e *ended) Unwrap() error { return e.err }

// transfer takes what one transfer from upstream has to give, from where the last
// one stopped.
func (fl *flight) transfer(loc proto.Location) error {
	fl.barren++
	fl.setMirror("")
	t, err := fl.askUpstream(loc)
	if err != nil {
		return err
	}
	if t.NotModified {
		fl.stillKnown()
		return errStored
	}
	defer t.Body.Close()
	from := origin{mirror: t.From, loc: loc}
	if err := fl.meet(from); err != nil {
		return err
	}
	if err := fl.accept(t, from); err != nil {
		return err
	}
	return fl.copy(t, from)
}

// stillKnown notes that an unlisted file is what it was when we last had it.
func (fl *flight) stillKnown() {
	fl.known.checked = time.Now()
	fl.f.learned.set(fl.key, fl.known)
}

// accept checks the head of a transfer against what is known of the object.
func (fl *flight) accept(t *proto.Transfer, from origin) error {
	size := fl.sizeNow()
	if size != proto.UnknownSize && t.Size != proto.UnknownSize && t.Size != size {
		return fl.otherSize(from, t.Size, size)
	}
	if t.Offset > fl.body.written {
		return fl.reproach(from, fmt.Errorf("%w: %s was sent from byte %d, asked for from byte %d", proto.ErrCorrupt, from, t.Offset, fl.body.written))
	}
	if fl.body.written > 0 && !fl.want.Provable() && from.mirror != fl.validity.From {
		return fmt.Errorf("%w: nothing tells whether %s is the rest of what %s gave", proto.ErrCorrupt, from, fl.validity.From)
	}
	if skip := fl.body.written - t.Offset; skip > 0 {
		// The source cannot resume. Where a digest will decide, the bytes we
		// hold already are passed over; elsewhere they may be of another version.
		if !fl.want.Provable() {
			return from.wrong(fmt.Errorf("%w: %s changed or cannot be resumed at byte %d", proto.ErrCorrupt, from, fl.body.written))
		}
		if _, err := io.CopyN(io.Discard, t.Body, skip); err != nil {
			return from.broke(err)
		}
	}
	if fl.body.written == 0 {
		fl.validity = *t
		fl.ifRange = rangeValidator(t, fl.want)
	}
	fl.mu.Lock()
	fl.begun = true
	fl.tier = t.Tier
	if fl.size == proto.UnknownSize {
		fl.size = t.Size
		fl.sizeFrom = from
	}
	if fl.modified.IsZero() {
		fl.modified = t.Modified
	}
	fl.mu.Unlock()
	return nil
}

// otherSize judges a source that gives the object another length than it has as
// far as we know.
func (fl *flight) otherSize(from origin, claimed, size int64) error {
	err := fmt.Errorf("%w: %s is %d bytes long there, listed with %d (mirror sync in progress?)", proto.ErrCorrupt, from, claimed, size)
	switch {
	case fl.contradicts(from):
		return fl.doubt(err, fl.sizeFrom, from)
	case fl.sizeSigned() && from.peer != "":
		fl.distrust(from.peer, "wrong_size", err)
	}
	return fl.reproach(from, err)
}

// contradicts reports whether the length of the object is only what another source
// said of it, whose word counts no more than that of this one: of two nodes, two
// mirrors, or a node and upstream, one is wrong, and nothing tells which.
func (fl *flight) contradicts(from origin) bool {
	known := fl.sizeFrom
	return known != (origin{}) && !known.sameSource(from) && (known.peer != "" || from.peer == "")
}

// reproach is the error for a head that upstream should not have sent; of a peer it
// says only that this peer is of no use.
func (fl *flight) reproach(from origin, err error) error {
	if from.peer != "" {
		return from.wrong(err)
	}
	return fl.blame(err, from)
}

// sizeSigned reports whether the length of the object is vouched for.
func (fl *flight) sizeSigned() bool {
	return fl.want.Provable() && fl.want.Ref.Size != proto.UnknownSize
}

// rangeValidator is what to send as If-Range when the rest is asked for.
func rangeValidator(t *proto.Transfer, want proto.Want) string {
	switch {
	case want.Provable():
		return "" // the digest decides
	case t.ETag != "" && t.ETag[0] == '"':
		return t.ETag
	case !t.Modified.IsZero():
		return t.Modified.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	}
	return ""
}

// resumable reports whether another transfer may go on where the last one
// stopped: not where nothing would show that it brings another version.
func (fl *flight) resumable() bool {
	return fl.body.written == 0 || fl.want.Provable()
}

// copy moves the body of t to the readers and to the store.
func (fl *flight) copy(t *proto.Transfer, from origin) error {
	buf := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buf)
	in := &intake{
		fl: fl, from: from, size: fl.sizeNow(), began: fl.body.written,
		received: fl.f.metrics.bytes.WithLabelValues(string(t.Tier)),
	}
	_, err := io.CopyBuffer(in, t.Body, buf[:])
	switch {
	case in.err != nil:
		return in.err
	case fl.body.written == in.size:
		return nil // all is here, however the transfer ended: the digest decides
	case err != nil:
		return from.broke(err)
	case in.size == proto.UnknownSize:
		return nil
	default:
		return from.short(fl.body.written, in.size)
	}
}

// intake is the io.Writer that takes the bytes of one transfer.
type intake struct {
	fl       *flight
	from     origin
	size     int64 // of the object, as far as it is known
	began    int64 // written when the transfer began
	received prometheus.Counter
	err      error // why no more bytes are taken
}

func (in *intake) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if in.err = in.take(p); in.err != nil {
		return 0, in.err
	}
	return len(p), nil
}

func (in *intake) take(p []byte) error {
	fl := in.fl
	will := fl.body.written + int64(len(p))
	if will-in.began >= progress {
		fl.barren = 0
	}
	in.received.Add(float64(len(p)))
	fl.credit(in.from)
	if in.size != proto.UnknownSize && will > in.size {
		return fl.tooLong(in.from, in.size)
	}
	if fl.sha512 != nil {
		fl.sha512.Write(p)
	}
	if err := fl.body.write(fl, p); err != nil {
		return &ended{err}
	}
	fl.publish()
	return nil
}

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// tooLong judges a source that does not stop at the end of the object.
func (fl *flight) tooLong(from origin, size int64) error {
	err := fmt.Errorf("%w: more than the listed %d bytes arrived from %s", proto.ErrCorrupt, size, from)
	switch {
	case fl.contradicts(from):
		return fl.doubt(err, fl.sizeFrom, from)
	case from.peer != "":
		return fl.accuse(err)
	}
	fl.tainted = true
	return fl.blame(err, from)
}

// credit notes who gave some of the bytes that have arrived.
func (fl *flight) credit(from origin) {
	if !slices.Contains(fl.gave, from) {
		fl.gave = append(fl.gave, from)
	}
}

func fromPeer(o origin) bool { return o.peer != "" }

// accuse deals with a body that is complete and wrong. Where one source gave all of
// it, that source is to blame; of several nobody can say which.
func (fl *flight) accuse(err error) error {
	if len(fl.gave) == 1 && fromPeer(fl.gave[0]) {
		fl.distrust(fl.gave[0].peer, "wrong_bytes", err)
		return fl.restart(err)
	}
	return fl.doubt(err, fl.gave...)
}

// doubt deals with wrong content that any of several sources may have caused. Where
// nodes are among them, those are not asked for this object for a while, nothing is
// held against anybody, and the search begins again without them.
func (fl *flight) doubt(err error, suspects ...origin) error {
	if !slices.ContainsFunc(suspects, fromPeer) {
		fl.tainted = true
		return fl.blame(err, suspects...)
	}
	fl.f.metrics.unattributed.Inc()
	for _, o := range suspects {
		if fromPeer(o) {
			fl.shun(o.peer)
		}
	}
	fl.f.cfg.Logger.Warn("wrong content of which nobody can say whose it is",
		"location", fl.want.Where[0].String(), "sources", suspects, "error", err)
	return fl.restart(err)
}

// restart begins again with the first byte, or ends the flight where readers have
// had bytes that cannot be right.
func (fl *flight) restart(err error) error {
	if fl.startOver() {
		return errAnew
	}
	return &ended{err}
}

// distrust reports a peer that sent what cannot be true.
func (fl *flight) distrust(peer, reason string, err error) {
	fl.f.metrics.peerFailures.WithLabelValues(reason).Inc()
	fl.f.cfg.Logger.Warn("a node sent what cannot be true", "node", peer, "location", fl.want.Where[0].String(), "error", err)
	fl.shun(peer)
	fl.f.cfg.Cluster.Distrust(peer, err)
}

// shun keeps a peer from being asked for this object, by this flight and for some
// time by others.
func (fl *flight) shun(peer string) {
	fl.silent[peer] = true
	fl.f.shunned.note(peer, fl.key, time.Now())
}

// asUnavailable makes a failed read what it is: trouble that may pass.
func asUnavailable(err error, loc proto.Location) error {
	var busy *proto.Unavailable
	if errors.As(err, &busy) || errors.Is(err, proto.ErrCorrupt) {
		return err
	}
	return &proto.Unavailable{Reason: "the transfer of " + loc.String() + " broke", Err: err}
}

// prove compares what arrived with what was wanted, and gives out the last byte.
func (fl *flight) prove() error {
	got := fl.body.sum()
	var sources []string
	for _, from := range fl.gave {
		sources = append(sources, from.String())
	}
	switch {
	case !fl.want.Ref.IsZero() && got.Digest != fl.want.Ref.Digest:
		return fmt.Errorf("%w: %s (from %s) has SHA-256 %s, listed with %s",
			proto.ErrCorrupt, fl.want.Where[0], strings.Join(sources, ", "), got.Digest, fl.want.Ref.Digest)
	case fl.sha512 != nil && proto.SHA512(fl.sha512.Sum(nil)) != fl.want.SHA512:
		return fmt.Errorf("%w: %s (from %s) does not have the listed SHA-512", proto.ErrCorrupt, fl.want.Where[0], strings.Join(sources, ", "))
	}
	fl.mu.Lock()
	fl.proven = true
	fl.size, fl.written = got.Size, got.Size
	fl.wakeLocked()
	fl.mu.Unlock()
	return nil
}
