package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

// rejected is the Retry-After for clients if the only reachable mirror gave wrong
// content for the object a moment ago.
const rejected = time.Second

// askNode takes what one node, or the faster of two, gives, and reports to the route.
func (fl *flight) askNode(s step) outcome {
	fl.setFeed(feedAsking, fl.route.waitsFor(s.peer))
	won, lost := fl.ask(s)
	for _, a := range lost {
		o := fl.nodeAnswered(a.src, a.err)
		if won == nil || o.verdict == lacking || o.verdict == failed {
			fl.route.nodeEnded(s.fill && a.src.peer == s.peer, o)
		}
	}
	if won == nil {
		return outcome{}
	}
	defer won.stop()
	peer := won.src.peer
	fl.setFeed(feedPeer, peer)
	before := fl.body.written
	o := fl.nodeAnswered(won.src, fl.take(won.src, won.t))
	if o.verdict.final() {
		fl.cleared(o.verdict)
		return o
	}
	if o.verdict == corrupt && fl.body.written > before {
		// It found what it passed on to be wrong, and may have better mirrors next time.
		fl.f.lapses.note(peer, fl.key, time.Now())
		fl.ledger.tainted = true
		if !fl.startOver() {
			fl.countHearsay(o.err)
			o.verdict = hopeless
			o.err = &proto.Unavailable{Answered: true, Wrong: true, Err: o.err, Reason: fmt.Sprintf("node %s sent a part of it and then found it wrong; the next request may succeed", peer)}
			return o
		}
	}
	fl.route.nodeEnded(s.fill && peer == s.peer, o)
	switch {
	case o.verdict == discarded, fl.route.ended():
	case !fl.resumable() && !fl.startOver():
		fl.exclude(peer) // the client's next try shall not end in the same way
		o.verdict, o.err = hopeless, &proto.Unavailable{Reason: fmt.Sprintf("the transfer of %s from node %s broke, and another one may be of another version", fl.object.Where.First, peer)}
	case fl.body.written-before >= progress:
		fl.route.revived(peer)
	}
	return o
}

// nodeAnswered is what the answer of a node came to, and counts those that were in vain.
func (fl *flight) nodeAnswered(src nodeSource, err error) outcome {
	o := outcomeOf(err)
	o.by = byteSource{peer: src.peer, loc: src.req.Object.Where.First}
	reason := ""
	switch {
	case fl.ctx.Err() != nil:
	case o.verdict == lacking:
		reason = "not_stored"
		if said := new(proto.NotStored); errors.As(err, &said) && said.Busy {
			reason = "busy"
		}
	case o.verdict == unreachable:
		reason = "no_upstream"
	case o.verdict == failed:
		reason = "unreachable"
		fl.f.cfg.Logger.Debug("a node does not give an object", "node", src.peer, "location", fl.object.Where.First.String(), "error", err)
	}
	if reason != "" {
		fl.f.metrics.peerFailures.WithLabelValues(reason).Inc()
	}
	return o
}

// cleared forgets what other nodes said of the names, once the object is here.
func (fl *flight) cleared(v verdict) {
	if v != complete {
		return
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, p := range fl.targets.all {
		fl.f.budget.succeeded(fl.attemptAt(p.loc).byNodes())
	}
}

// askArchive makes one attempt at the next target, or reports to the route that none is left.
func (fl *flight) askArchive() outcome {
	fl.switchToUpstream()
	fl.mu.Lock()
	p, wait := fl.targets.next(time.Now())
	fl.mu.Unlock()
	switch {
	case p == nil:
		fl.upstreamEnded()
		return outcome{}
	case wait > 0:
		fl.sleep(wait)
		return outcome{}
	}
	o := fl.try(p)
	switch {
	case o.verdict.final(), fl.ctx.Err() != nil:
	case o.verdict == discarded:
		fl.route.again()
	default:
		fl.settle(p, o)
	}
	return o
}

// switchToUpstream makes upstream what feeds the flight.
func (fl *flight) switchToUpstream() {
	fl.mu.Lock()
	turned := fl.feed != feedUpstream
	fl.mu.Unlock()
	if turned {
		fl.setFeed(feedUpstream, "")
	}
	fl.announce()
}

// upstreamEnded reports to the route how this node's own attempts at upstream ended. The route
// decides whether another node may succeed.
func (fl *flight) upstreamEnded() {
	fl.mu.Lock()
	err := fl.targets.err()
	fl.mu.Unlock()
	fl.route.upstreamEnded(outcomeOf(err))
	if fl.route.ended() {
		return
	}
	fl.retract()
	fl.mu.Lock()
	fl.targets.reopen()
	fl.mu.Unlock()
}

// try makes one transfer from a target, within its budget, and proves the body if it is complete.
func (fl *flight) try(p *target) outcome {
	k := fl.attemptAt(p.loc)
	if err := fl.f.budget.allow(k, time.Now()); err != nil {
		return outcome{verdict: untried, err: err, by: byteSource{loc: p.loc}}
	}
	if fl.body.written > 0 {
		fl.f.metrics.resumed.Inc()
	}
	ctx, done := fl.watch(p)
	err := fl.transfer(ctx, p)
	o := endOf(ctx, err)
	done()
	o.by = byteSource{mirror: fl.answered, loc: p.loc}
	switch o.verdict {
	case complete:
		fl.f.budget.succeeded(k)
		fl.cleared(complete)
	case known, discarded, otherContent, hopeless, slow: // nothing that the target could be blamed for
	default:
		if fl.ctx.Err() == nil {
			fl.f.budget.failed(k, o.err, time.Now(), o.culprits...)
		}
	}
	return o
}

// transfer takes what one transfer from upstream has to give, from where the last
// one stopped.
func (fl *flight) transfer(ctx context.Context, p *target) error {
	p.barren++
	fl.answered = ""
	fl.setMirror("")
	src := fl.archiveFor(p)
	t, err := src.open(ctx, fl.body.written)
	if err != nil && src.req.Mirror != "" && fl.body.written == 0 && ctx.Err() == nil {
		// What one mirror alone has to say of the version that we hold is not final.
		fl.known = learned{}
		src = fl.archiveFor(p)
		t, err = src.open(ctx, fl.body.written)
	}
	if err != nil {
		return err
	}
	if !t.NotModified {
		fl.answered = t.From
		fl.setMirror(t.From)
	}
	before := fl.body.written
	err = fl.take(src, t)
	if fl.body.written-before >= progress {
		p.barren = 0
	}
	return err
}

// settle notes what an attempt at a target means for it.
func (fl *flight) settle(p *target, o outcome) {
	now := situation{
		now: time.Now(), written: fl.body.written, tainted: fl.ledger.tainted, decided: fl.decided(), validator: fl.ifRange != "",
		allowed: fl.f.budget.allow(fl.attemptAt(p.loc), time.Now()) == nil, answered: fl.answered,
		mirrors: slices.DeleteFunc(fl.f.cfg.Upstream.Mirrors(p.loc.Archive), func(mirror string) bool {
			return fl.ledger.corruptSources[byteSource{mirror: mirror, loc: p.loc}]
		}),
	}
	fl.mu.Lock()
	now.fresh = fl.visibleLocked() == 0
	m := p.record(o, now)
	if !now.fresh && (now.tainted || !now.resumable()) && !p.open() {
		// The bytes that readers got cannot be right, or nothing proves that another target has
		// the rest of the same file.
		fl.f.apart.note(fl.targets.closeAll(p))
		fl.ended = true
	}
	fl.wakeLocked() // a reader may have no place left
	fl.mu.Unlock()
	if m.switched {
		fl.f.metrics.switched.Inc()
	}
	if m.startOver {
		fl.startOver()
	}
}

// take takes what src gives in t, which it opened: it checks the head against what is known of the
// object, moves the body to the readers and to the store, and proves it.
func (fl *flight) take(src source, t *proto.Transfer) error {
	from := src.from(t)
	if t.NotModified {
		return fl.unchanged(t, from)
	}
	defer t.Body.Close()
	if err := fl.reject(from); err != nil {
		return err
	}
	before := fl.body.written
	if err := fl.accept(t, from); err != nil {
		return err
	}
	if from.peer != "" && before > 0 {
		fl.f.metrics.resumed.Inc()
	}
	if err := fl.copy(t, from); err != nil {
		return err
	}
	if from.peer != "" {
		fl.adoptModified(t.Modified)
	}
	return fl.prove()
}

// unchanged notes that an unlisted file is still the version that this node stored last.
func (fl *flight) unchanged(t *proto.Transfer, from byteSource) error {
	if from.peer != "" && (fl.known.ref.IsZero() || fl.body.written > 0) {
		return &proto.PeerFailed{Peer: from.peer, Err: errors.New("it says that an object is unchanged which this node does not store")}
	}
	fl.known.checked, fl.known.era = checkedOf(t), fl.era
	fl.f.learn(fl.key, fl.known)
	if !t.Checked.IsZero() {
		return &judged{verdict: hopeless, err: &proto.Unavailable{Reason: fmt.Sprintf("node %s has the same version, and upstream cannot be asked", from.peer)}}
	}
	return &judged{verdict: known, err: errStored}
}

// checkedOf is when upstream last said what t says. A node's word is never newer than now.
func checkedOf(t *proto.Transfer) time.Time {
	now := time.Now()
	if t.Checked.IsZero() || t.Checked.After(now) {
		return now
	}
	return t.Checked
}

// reject refuses a mirror that gave this flight the object wrong before: upstream knows, and has
// nobody else at this moment.
func (fl *flight) reject(from byteSource) error {
	if !fl.ledger.corruptSources[from] {
		return nil
	}
	return &proto.Unavailable{
		Reason:   fmt.Sprintf("only %s can be reached, and it gave wrong content for %s", from.mirror, from.loc),
		Answered: true, RetryAfter: rejected,
	}
}

// accept checks the head of a transfer against what is known of the object.
func (fl *flight) accept(t *proto.Transfer, from byteSource) error {
	size := fl.sizeNow()
	switch {
	case t.Size == proto.UnknownSize:
	case size != proto.UnknownSize && t.Size != size && len(fl.object.Others) > 0 && from.peer == "" && fl.object.Accepts(t.Size):
		return fl.otherContent(from)
	case size != proto.UnknownSize && t.Size != size, !fl.object.Accepts(t.Size):
		return fl.otherSize(from, t.Size, size)
	}
	if t.Offset > fl.body.written {
		return fl.blame(fmt.Errorf("%w: %s was sent from byte %d, asked for from byte %d", proto.ErrCorrupt, from, t.Offset, fl.body.written), finding{by: []byteSource{from}})
	}
	if fl.body.written > 0 && !fl.decided() && from.mirror != fl.validity.From {
		return fmt.Errorf("%w: it is not certain that %s is the rest of what %s gave", proto.ErrCorrupt, from, fl.validity.From)
	}
	if skip := fl.body.written - t.Offset; skip > 0 {
		// The source cannot resume. If a digest will decide, we skip the bytes that we
		// have already; without one, they may be of another version.
		if !fl.decided() {
			return from.wrong(fmt.Errorf("%w: %s changed or cannot be resumed at byte %d", proto.ErrCorrupt, from, fl.body.written))
		}
		if _, err := io.CopyN(io.Discard, t.Body, skip); err != nil {
			return from.broke(err)
		}
	}
	if fl.body.written == 0 {
		fl.validity = *t
		fl.narrow(t.Size)
		fl.ifRange = ""
		if !fl.decided() {
			fl.ifRange = rangeValidator(t)
		}
	}
	fl.mu.Lock()
	fl.begun = true
	fl.tier = t.Tier
	if fl.size == proto.UnknownSize {
		fl.size = t.Size
		fl.ledger.sizeFrom = from
	}
	if fl.modified.IsZero() {
		fl.modified = t.Modified
	}
	fl.checked = t.Checked
	fl.mu.Unlock()
	return nil
}

// sizeSigned reports whether the length of the object is vouched for.
func (fl *flight) sizeSigned() bool {
	return fl.object.Size() != proto.UnknownSize
}

// rangeValidator is what to send as If-Range when the rest is asked for and no digest
// decides.
func rangeValidator(t *proto.Transfer) string {
	switch {
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
	return fl.body.written == 0 || fl.decided()
}

// copy moves the body of t to the readers and to the store.
func (fl *flight) copy(t *proto.Transfer, from byteSource) error {
	buf := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buf)
	in := &intake{
		fl: fl, from: from, size: fl.sizeNow(), most: fl.object.MaxSize(),
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
	from     byteSource
	size     int64 // of the object, as far as it is known
	most     int64 // of the longest right content
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
	in.received.Add(float64(len(p)))
	fl.ledger.credit(in.from)
	if in.size != proto.UnknownSize && will > in.size {
		return fl.tooLong(in.from, in.size)
	}
	if in.most != proto.UnknownSize && will > in.most {
		return fl.tooLong(in.from, in.most)
	}
	if fl.sha512 != nil {
		fl.sha512.Write(p)
	}
	if err := fl.body.write(fl, p); err != nil {
		return &judged{verdict: hopeless, err: err}
	}
	fl.publish()
	return nil
}

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// adoptModified takes over the Last-Modified that another node has for the object,
// so that all nodes give the same. It may be known only after the last byte.
func (fl *flight) adoptModified(modified time.Time) {
	if modified.IsZero() {
		return
	}
	fl.validity.Modified = modified
	fl.mu.Lock()
	fl.modified = modified
	fl.mu.Unlock()
}
