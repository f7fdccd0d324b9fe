package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// maxHeads bounds how many heads of objects are remembered, and, of those of which upstream is
// asked, how many at once.
const maxHeads = 4096

// heads are the heads of objects that upstream sent lately, and the requests for heads under way.
// Clients that ask at once share one request, and a fresh answer needs none. Safe for concurrent
// use.
type heads struct {
	known *expiring.Map[key, head]

	mu      sync.Mutex
	running map[key]*headCall // guarded by mu
}

// head is what upstream said of an object.
type head struct {
	size int64
	era  uint64 // of the archive (absentTable.era), before upstream was asked
}

// headCall is one request for a head. done is closed when the rest is set.
type headCall struct {
	done chan struct{}
	head head
	err  error
}

func newHeads() *heads {
	return &heads{known: expiring.New[key, head](maxHeads), running: make(map[key]*headCall)}
}

// Head returns what is known of the object without moving its body: its size, and the
// validator if the bytes are proven. The Blob has no body. Other nodes are not asked: if
// this node has neither the object nor a signed size, it asks upstream. Errors are those
// of Open.
func (f *Fetcher) Head(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	if blob, err := f.stored(&object); err == nil {
		return headOf(blob)
	}
	if object.Listed() && len(object.Others) == 0 {
		return &proto.Blob{Ref: object.Ref, Verified: true, Tier: proto.TierUpstream}, nil
	}
	if object.Where.IsZero() {
		return nil, errNowhere
	}
	if blob := f.wasStale(&object); blob != nil {
		return headOf(blob)
	}
	h, err := f.head(ctx, object)
	if err == nil {
		return &proto.Blob{Ref: proto.Ref{Digest: object.Only(h.size).Digest, Size: h.size}, Verified: object.Provable(), Tier: proto.TierUpstream}, nil
	}
	if stale := f.staleAfter(&object, err); stale != nil {
		return headOf(stale)
	}
	return nil, err
}

// headOf closes a stored blob and returns what is known of it.
func headOf(blob *proto.Blob) (*proto.Blob, error) {
	if err := blob.Close(); err != nil {
		return nil, err
	}
	return &proto.Blob{Ref: blob.Ref, Modified: blob.Modified, Verified: blob.Verified, Tier: blob.Tier, Stale: blob.Stale}, nil
}

// head is what upstream says of an object now, or said no longer ago than an unlisted file is
// fresh.
func (f *Fetcher) head(ctx context.Context, object proto.ObjectRequest) (head, error) {
	k, now := f.keyOf(object), time.Now()
	if h, ok := f.heads.known.Get(k, now); ok && h.era == f.absent.era(object.Where.First.Archive) {
		return h, nil
	}
	if err := f.mayAskUpstream(k, object, now); err != nil {
		return head{}, f.refuse(err)
	}
	call, err := f.joinHead(k, object)
	if err != nil {
		return head{}, err
	}
	select {
	case <-call.done:
		return call.head, call.err
	case <-ctx.Done():
		return head{}, context.Cause(ctx)
	}
}

// joinHead joins the request for a head, or starts it. It goes on for all when one no longer waits.
func (f *Fetcher) joinHead(k key, object proto.ObjectRequest) (*headCall, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosing
	}
	h := f.heads
	h.mu.Lock()
	defer h.mu.Unlock()
	if call, ok := h.running[k]; ok {
		return call, nil
	}
	if len(h.running) >= maxHeads {
		f.metrics.refused.Inc()
		return nil, &proto.Unavailable{Reason: fmt.Sprintf("this node has %d requests for heads under way and begins no more", maxHeads), RetryAfter: time.Second, Answered: true}
	}
	call := &headCall{done: make(chan struct{})}
	h.running[k] = call
	f.wg.Go(func() {
		call.head, call.err = f.headUpstream(f.ctx, k, object)
		if call.err == nil {
			now := time.Now()
			h.known.Set(k, call.head, now, now.Add(f.cfg.UnlistedFresh))
		}
		h.mu.Lock()
		delete(h.running, k)
		h.mu.Unlock()
		close(call.done)
	})
	return call, nil
}

// headUpstream asks upstream for the head of an object, at each of its names. "Not
// found" is remembered as after a fetch, and returned only if all names give it.
func (f *Fetcher) headUpstream(ctx context.Context, k key, object proto.ObjectRequest) (head, error) {
	era := f.absent.era(object.Where.First.Archive)
	var said []error
	for loc := range object.Where.All() {
		t, err := f.cfg.Upstream.Fetch(ctx, proto.Request{Loc: loc, Class: object.Class, Client: object.Client, Provable: object.Provable(), Base: baseFor(&object), Head: true})
		if err == nil {
			if t.Body != nil {
				t.Body.Close()
			}
			return head{t.Size, era}, nil
		}
		said = append(said, err)
		if object.Provable() && errors.Is(err, proto.ErrNotFound) {
			f.budget.failed(attempt{key: k, loc: loc}, err, time.Now())
		}
	}
	err := worst(said)
	if !object.Provable() && errors.Is(err, proto.ErrNotFound) {
		f.absent.note(object.Where.First, era, time.Now(), f.cfg.NotFoundFor)
	}
	return head{}, err
}
