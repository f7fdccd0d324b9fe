package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// source is where a flight may have the bytes of its object from. Nobody trusts one: what it gives
// is proven here.
type source interface {
	// open asks for the body from byte offset on, and returns when there are bytes to give. A
	// source that cannot begin there begins before it and says so in Transfer.Offset. The reads
	// of the body end with ctx.
	//
	// Errors are those of proto: NotStored and PeerFailed of nodes; ErrNotFound, ErrCorrupt,
	// Unavailable, Refused and Rejected of upstream, also if a node reports them.
	open(ctx context.Context, offset int64) (*proto.Transfer, error)
	// from returns the source of t, a transfer that open returned.
	from(t *proto.Transfer) byteSource
}

// nodeSource is another node.
type nodeSource struct {
	cluster Cluster
	peer    string
	req     proto.PeerRequest // without its Offset
}

func (s nodeSource) open(ctx context.Context, offset int64) (*proto.Transfer, error) {
	s.req.Offset = offset
	t, err := s.cluster.Fetch(ctx, s.peer, s.req)
	switch {
	case err != nil:
		return nil, err
	case !t.NotModified && t.Body == nil:
		return nil, &proto.PeerFailed{Peer: s.peer, Err: errors.New("its answer has no body")}
	}
	t.Tier = proto.TierPeer
	return t, nil
}

func (s nodeSource) from(*proto.Transfer) byteSource {
	return byteSource{peer: s.peer, loc: s.req.Object.Where.First}
}

// archiveSource is an archive at one of the names of the object, by whichever of its mirrors.
type archiveSource struct {
	upstream Source
	req      proto.Request // without its Offset
}

func (s archiveSource) open(ctx context.Context, offset int64) (*proto.Transfer, error) {
	s.req.Offset = offset
	t, err := s.upstream.Fetch(ctx, s.req)
	if err != nil && s.req.Mirror != "" && offset > 0 && errors.Is(err, proto.ErrNotFound) {
		// What one mirror alone says is not final.
		err = &proto.Unavailable{Reason: fmt.Sprintf("%s no longer has %s, of which it gave %d bytes", s.req.Mirror, s.req.Loc, offset)}
	}
	return t, err
}

func (s archiveSource) from(t *proto.Transfer) byteSource {
	return byteSource{mirror: t.From, loc: s.req.Loc}
}

// nodeFor is a node as the source of what the flight still needs.
func (fl *flight) nodeFor(peer string, fill bool) nodeSource {
	req := proto.PeerRequest{Object: fl.wantNow(), Fill: fill}
	if fl.body.written == 0 {
		req.Have = fl.known.ref.Digest
	}
	return nodeSource{fl.f.cfg.Cluster, peer, req}
}

// archiveFor is a target as a source: of the rest of the object, from any mirror where a digest
// will decide, and from none but the one that gave the beginning where none will. Two mirrors'
// validators have nothing to do with each other.
func (fl *flight) archiveFor(p *target) archiveSource {
	req := proto.Request{Loc: p.loc, Class: fl.classNow(), Client: fl.object.Client, Provable: fl.object.Provable(), Urgent: fl.urgent, IfRange: fl.ifRange, Base: p.base}
	if fl.sizeSigned() {
		req.Size = fl.object.Size()
	}
	switch {
	case fl.decided():
	case fl.body.written > 0:
		req.Mirror = fl.validity.From
	case !fl.known.ref.IsZero():
		// A date is the archive's own and means the same at every mirror.
		req.IfModifiedSince = fl.known.modified
		if fl.known.modified.IsZero() || len(fl.f.cfg.Upstream.Mirrors(p.loc.Archive)) < 2 {
			req.IfNoneMatch, req.Mirror = fl.known.etag, fl.known.from
		}
	}
	return archiveSource{fl.f.cfg.Upstream, req}
}

// baseFor is the site that is asked before the mirrors; "" for none. Only bytes that can be proven
// may come from there: a node that asks this one may have named it.
func baseFor(object *proto.ObjectRequest) string {
	if !object.Provable() {
		return ""
	}
	return object.Base
}

// reply is what a node said when it was asked.
type reply struct {
	src  nodeSource
	t    *proto.Transfer // nil with err
	err  error
	stop context.CancelFunc // ends the transfer; never nil
}

// ask asks a node, and for a small object also the spare one if that takes longer than HedgeAfter.
// The first answer with bytes wins; won is nil if there was none. lost are the answers that came
// before it.
func (fl *flight) ask(s step) (won *reply, lost []reply) {
	first := fl.nodeFor(s.peer, s.fill)
	if s.spare != "" && fl.worthHedging() {
		return fl.askTwo(first, s.spare)
	}
	ctx, stop := context.WithCancel(fl.ctx)
	a := fl.askOne(ctx, stop, first, fl.body.written)
	if a.err != nil {
		return nil, []reply{a}
	}
	return &a, nil
}

// askTwo asks first, and after HedgeAfter without an answer second, too. The slower one is
// cancelled.
func (fl *flight) askTwo(first nodeSource, second string) (won *reply, lost []reply) {
	answers := make(chan reply, 2)
	running := make(map[string]context.CancelFunc)
	// Read here, because the slower question may still be on its way when the body grows.
	offset := fl.body.written
	begin := func(src nodeSource) {
		ctx, stop := context.WithCancel(fl.ctx)
		running[src.peer] = stop
		fl.f.wg.Go(func() { answers <- fl.askOne(ctx, stop, src, offset) })
	}
	begin(first)
	late := time.NewTimer(fl.f.cfg.HedgeAfter)
	defer late.Stop()
	for len(running) > 0 {
		select {
		case a := <-answers:
			delete(running, a.src.peer)
			if a.err != nil {
				lost = append(lost, a)
				continue
			}
			for _, stop := range running {
				stop()
				fl.f.wg.Go(func() { (<-answers).dismiss() })
			}
			return &a, lost
		case <-late.C:
			fl.f.metrics.hedged.Inc()
			fl.route.alsoAsked(second)
			src := first
			src.peer, src.req.Fill = second, false // one fetch from upstream is enough
			begin(src)
		}
	}
	return nil, lost
}

// worthHedging reports whether the object is so small that asking two nodes costs
// less than waiting.
func (fl *flight) worthHedging() bool {
	size := fl.object.Size()
	return size != proto.UnknownSize && size <= fl.f.cfg.HedgeUpTo && fl.object.Provable()
}

// askOne asks one node for the bytes from offset on. The transfer ends with ctx, which stop ends.
func (fl *flight) askOne(ctx context.Context, stop context.CancelFunc, src nodeSource, offset int64) reply {
	if raised := fl.raises(); raised != nil {
		fl.f.wg.Go(func() { fl.passOn(ctx, src, raised) })
	}
	a := reply{src: src, stop: stop}
	a.t, a.err = src.open(ctx, offset)
	if a.err != nil {
		stop()
	}
	return a
}

// passOn asks a node once more whenever this flight's readers want more: a client waits for what
// was fetched ahead of clients, or knows the object by another name. The node's own flight learns
// of it by that. ctx is that of the first question.
func (fl *flight) passOn(ctx context.Context, src nodeSource, raised <-chan struct{}) {
	for raised != nil {
		select {
		case <-raised:
		case <-ctx.Done():
			return
		}
		src.req.Object = fl.sameWant(src.req.Object)
		raised = fl.raises()
		if t, err := src.open(ctx, src.req.Offset); err == nil && t.Body != nil {
			t.Body.Close()
		}
	}
}

// dismiss lets go of an answer that nobody needs.
func (a reply) dismiss() {
	a.stop()
	if a.err == nil && a.t.Body != nil {
		a.t.Body.Close()
	}
}
