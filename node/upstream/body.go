package upstream

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// maxDrain is how much of an unwanted body is read so that its connection can be
// used again, and for how long; beyond that it is cheaper to drop the connection.
const (
	maxDrain     = 16 << 10
	maxDrainTime = 500 * time.Millisecond
)

// body is the body of an answer under the watch, the rate limit and the scheduler. One
// goroutine reads; any may close.
type body struct {
	x    *exchange
	res  *http.Response
	want int64 // bytes to come, or -1
	got  int64
	head []byte // read ahead by peek

	peeking bool // nothing is decided about the body yet

	err  error // what ended the body
	pace pace

	closed atomic.Bool
}

// Read brings what has arrived, in pieces small enough for the rate limit.
func (b *body) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	return b.read(p)
}

func (b *body) read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		if b.err == io.EOF {
			b.x.end(outcomeOK, nil) // what peek read was all
		}
		return 0, b.err
	case b.closed.Load():
		return 0, http.ErrBodyReadAfterClose
	case len(p) == 0:
		return 0, nil
	case b.x.ctx.Err() != nil: // the slot is gone: take nothing more
		return 0, b.broken(b.x.ctx.Err())
	}
	limiter := b.x.client.limiter
	p = p[:min(len(p), limiter.chunk())]

	b.x.enter(reading)
	began := time.Now()
	n, err := b.res.Body.Read(p)
	b.pace.count(n, time.Since(began))
	b.x.watch.Stop()
	b.x.slot.received(n)

	b.got += int64(n)
	b.x.host.received(n)
	b.measure(err != nil)
	switch {
	case err == nil:
		if rate, slow := b.tooSlow(); slow {
			err = b.end(b.x.slower(rate))
		}
	case err == io.EOF && b.want >= 0 && b.got < b.want:
		err = b.end(b.cutShort(io.ErrUnexpectedEOF))
	case err == io.EOF:
		b.x.spare()
		if b.err = io.EOF; !b.peeking {
			b.x.end(outcomeOK, nil)
		}
	case err == io.ErrUnexpectedEOF && b.x.ctx.Err() == nil:
		err = b.end(b.cutShort(err))
	default:
		err = b.broken(err)
	}
	if n > 0 && limiter.mayWait() {
		err = b.pay(n, err)
	}
	return n, err
}

// pay waits for the rate limit after a read that ended with err. That wait is
// ours, no stall of the host's.
func (b *body) pay(n int, err error) error {
	ctx := b.x.ctx
	if err != nil {
		ctx = b.x.parent // the exchange has ended, and its context with it
	}
	b.x.slot.enter(throttled)
	defer b.x.slot.enter(resting)
	if left := b.x.client.limiter.take(ctx, b.x.attempt.req.ClassNow(), n); left != nil && err == nil {
		return b.broken(left)
	}
	return err
}

// broken ends the body with the reason why the exchange came to err.
func (b *body) broken(err error) error {
	if b.closed.Load() {
		return b.end(http.ErrBodyReadAfterClose)
	}
	return b.end(b.x.failure("broke the transfer off", err))
}

func (b *body) cutShort(cause error) error {
	if b.want < 0 {
		return &proto.Unavailable{Reason: fmt.Sprintf("%s%s broke the transfer off after %d bytes", b.x.host.name, b.x.via(), b.got), Err: cause}
	}
	return &proto.Unavailable{Reason: fmt.Sprintf("%s%s broke the transfer off after %d of %d bytes", b.x.host.name, b.x.via(), b.got, b.want), Err: cause}
}

// end ends the exchange with an error, which all later reads return too.
func (b *body) end(err error) error {
	b.err = err
	return b.x.fail(err)
}

// peek returns the first bytes of the body without taking them.
func (b *body) peek() ([]byte, error) {
	buf := make([]byte, 512)
	b.peeking = true
	n, err := b.read(buf)
	b.peeking = false
	b.head = buf[:n]
	if n > 0 && err == io.EOF {
		err = nil // Read returns it after the head
	}
	return b.head, err
}

// drain reads the rest of a small body that nobody wants.
func (b *body) drain() {
	if b.res.ContentLength > maxDrain && b.res.Body != http.NoBody { // a HEAD has a length, but no body
		return
	}
	defer time.AfterFunc(maxDrainTime, func() { b.x.cancel(nil) }).Stop()
	// One byte more than allowed shows that a body is longer.
	if _, err := io.CopyN(io.Discard, b.res.Body, maxDrain+1); err == io.EOF {
		b.x.spare()
	}
}

// Close gives the connection back, whether the body has ended or not.
func (b *body) Close() error {
	if !b.closed.Swap(true) {
		b.x.end(outcomeCancelled, nil)
		return b.res.Body.Close()
	}
	return nil
}
