package peerfetch

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func refuses(_ context.Context, a ask, _ func() (*proto.Transfer, error)) (*proto.Transfer, error) {
	return nil, &proto.PeerFailed{Peer: a.to, Err: errors.New("connection refused")}
}

func blackholes(ctx context.Context, a ask, _ func() (*proto.Transfer, error)) (*proto.Transfer, error) {
	if err := sleep(ctx, time.Second); err != nil {
		return nil, err
	}
	return nil, &proto.PeerFailed{Peer: a.to, Err: errors.New("no answer")}
}

// cuts breaks bodies off at a byte of the object.
func cuts(at int64) fault {
	return onBody(func(a ask, t *proto.Transfer) {
		left := max(at-a.Offset, 0)
		t.Body = changedBody{io.MultiReader(io.LimitReader(t.Body, left), &failing{&proto.PeerFailed{Peer: a.to, Err: errors.New("connection reset")}}), t.Body}
	})
}

// stalls breaks bodies off at a byte of the object, after some time of silence.
func stalls(at int64) fault {
	return onBody(func(a ask, t *proto.Transfer) {
		left := max(at-a.Offset, 0)
		t.Body = changedBody{io.MultiReader(io.LimitReader(t.Body, left), &late{3 * time.Second, &proto.PeerFailed{Peer: a.to, Err: errors.New("no progress")}}), t.Body}
	})
}

type late struct {
	d   time.Duration
	err error
}

func (l *late) Read([]byte) (int, error) { time.Sleep(l.d); return 0, l.err }

// flips changes one bit at a byte of the object.
func flips(at int64) fault {
	return onBody(func(a ask, t *proto.Transfer) { t.Body = changedBody{&flipped{t.Body, a.Offset, at}, t.Body} })
}

type flipped struct {
	r       io.Reader
	pos, at int64
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if i := f.at - f.pos; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	f.pos += int64(n)
	return n, err
}

// lengthens appends to bodies.
var lengthens = onBody(func(_ ask, t *proto.Transfer) {
	t.Body = changedBody{io.MultiReader(t.Body, strings.NewReader("more")), t.Body}
})

var wrongSize = onBody(func(_ ask, t *proto.Transfer) { t.Size++ })

func saysNotHeld(_ context.Context, a ask, _ func() (*proto.Transfer, error)) (*proto.Transfer, error) {
	return nil, &proto.NotStored{Peer: a.to}
}

func saysBusy(_ context.Context, a ask, _ func() (*proto.Transfer, error)) (*proto.Transfer, error) {
	return nil, &proto.NotStored{Peer: a.to, Busy: true, Try: []string{"nobody"}}
}

// reports is a peer that was told err by upstream.
func reports(err error) fault {
	return func(context.Context, ask, func() (*proto.Transfer, error)) (*proto.Transfer, error) { return nil, err }
}

// reportsAt is one that was told err in the middle of the body.
func reportsAt(at int64, err error) fault {
	return onBody(func(a ask, t *proto.Transfer) {
		t.Body = changedBody{io.MultiReader(io.LimitReader(t.Body, max(at-a.Offset, 0)), &failing{err}), t.Body}
	})
}

// delays answers late.
func delays(d time.Duration) fault {
	return func(ctx context.Context, _ ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
		if err := sleep(ctx, d); err != nil {
			return nil, err
		}
		return honest()
	}
}

func onBody(change func(ask, *proto.Transfer)) fault {
	return func(_ context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
		t, err := honest()
		if err == nil && t.Body != nil {
			change(a, t)
		}
		return t, err
	}
}

type changedBody struct {
	io.Reader
	io.Closer
}
