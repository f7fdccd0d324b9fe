package peerfetch

import (
	"context"
	"errors"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// reply is what a peer said when it was asked.
type reply struct {
	peer string
	t    *proto.Transfer // nil with err
	err  error
	stop context.CancelFunc // ends the transfer; never nil
}

// fetchFrom asks one peer. The transfer ends with ctx, which stop ends.
func (fl *flight) fetchFrom(ctx context.Context, stop context.CancelFunc, peer string, ask proto.Ask) reply {
	if fl.urgent != nil {
		fl.f.wg.Go(func() { fl.hurry(ctx, peer, ask) })
	}
	a := reply{peer: peer, stop: stop}
	a.t, a.err = fl.f.cfg.Cluster.Fetch(ctx, peer, ask)
	if a.err == nil && !a.t.NotModified && a.t.Body == nil {
		a.err = &proto.PeerFailed{Peer: peer, Err: errors.New("its answer has no body")}
	}
	if a.err != nil {
		stop()
	}
	return a
}

// hurry asks a peer once more when a client begins to wait for what was fetched ahead
// of clients: its own flight learns of it by that. ctx is that of the first question.
func (fl *flight) hurry(ctx context.Context, peer string, ask proto.Ask) {
	select {
	case <-fl.urgent:
	case <-ctx.Done():
		return
	}
	ask.Want.Class = min(ask.Want.Class, proto.ClassPackage)
	if t, err := fl.f.cfg.Cluster.Fetch(ctx, peer, ask); err == nil && t.Body != nil {
		t.Body.Close()
	}
}

// dismiss lets go of an answer that nobody needs.
func (a reply) dismiss() {
	a.stop()
	if a.err == nil && a.t.Body != nil {
		a.t.Body.Close()
	}
}

// ask asks a peer, and for a small object also the first of spare if that takes
// longer than HedgeAfter. The first answer with bytes wins; won is nil if there was
// none. lost are the answers that came before it.
func (s *search) ask(peer string, fill bool, spare []string) (won *reply, lost []reply) {
	fl := s.fl
	ask := proto.Ask{Want: fl.want, Offset: fl.body.written, Fill: fill}
	if fl.body.written == 0 {
		ask.Have = fl.known.ref.Digest
	}
	s.asked[peer] = true
	if len(spare) > 0 && fl.worthHedging() {
		return s.askTwo(peer, spare[0], ask)
	}
	ctx, stop := context.WithCancel(fl.ctx)
	a := fl.fetchFrom(ctx, stop, peer, ask)
	if a.err != nil {
		return nil, []reply{a}
	}
	return &a, nil
}

// askTwo asks first, and after HedgeAfter without an answer second as well. Who
// comes late is cut off.
func (s *search) askTwo(first, second string, ask proto.Ask) (won *reply, lost []reply) {
	fl := s.fl
	answers := make(chan reply, 2)
	running := make(map[string]context.CancelFunc)
	begin := func(peer string, ask proto.Ask) {
		ctx, stop := context.WithCancel(fl.ctx)
		running[peer] = stop
		fl.f.wg.Go(func() { answers <- fl.fetchFrom(ctx, stop, peer, ask) })
	}
	begin(first, ask)
	late := time.NewTimer(fl.f.cfg.HedgeAfter)
	defer late.Stop()
	for len(running) > 0 {
		select {
		case a := <-answers:
			delete(running, a.peer)
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
			s.asked[second] = true
			ask.Fill = false // one fetch from upstream is enough
			begin(second, ask)
		}
	}
	return nil, lost
}

// worthHedging reports whether the object is so small that asking two nodes costs
// less than waiting.
func (fl *flight) worthHedging() bool {
	size := fl.want.Ref.Size
	return size != proto.UnknownSize && size <= fl.f.cfg.HedgeUpTo && fl.want.Provable()
}

// take takes what a peer has to give.
func (fl *flight) take(a *reply) error {
	defer a.stop()
	t := a.t
	if t.NotModified {
		if fl.known.ref.IsZero() || fl.body.written > 0 {
			return &proto.PeerFailed{Peer: a.peer, Err: errors.New("it says that what we do not hold is unchanged")}
		}
		fl.stillKnown()
		return errStored
	}
	defer t.Body.Close()
	t.Tier = proto.TierPeer
	from := origin{peer: a.peer, loc: fl.want.Where[0]}
	resumed := fl.body.written > 0
	if err := fl.accept(t, from); err != nil {
		return err
	}
	if resumed {
		fl.f.metrics.resumed.Inc()
	}
	err := fl.copy(t, from)
	if err != nil {
		return err
	}
	fl.adoptModified(t.Modified)
	if err := fl.prove(); err != nil {
		return fl.accuse(err)
	}
	return nil
}

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
