package holdings

import (
	"context"
	"errors"
	"time"
)

const (
	// maxPiece is the most bytes of a filter, and maxBatch the most changes, that
	// one Update carries: 256 or 64 KiB.
	maxPiece = 256 << 10
	maxBatch = 8 << 10
	// batchFor is how long changes are gathered after the first one.
	batchFor = 50 * time.Millisecond
)

// Update is one step of what a follower receives.
type Update struct {
	// Begin starts a new filter of FilterBits bits, FilterHashes of which are set
	// for each entry. It replaces the filter before, and all changes sent since
	// that filter, when its last byte has arrived.
	Begin        bool
	FilterBits   uint64
	FilterHashes uint32
	// Filter is the next piece of the filter. It is shared: not to be changed.
	Filter []byte
	// Added and Removed are the first eight bytes of digests, big-endian.
	Added, Removed []uint64
	// Blobs is how many the node holds.
	Blobs uint64
}

// ErrClosed is what Next returns on a Cursor that was closed.
var ErrClosed = errors.New("the cursor is closed")

// Cursor reads a Local for one follower. Not safe for concurrent use.
type Cursor struct {
	l      *Local
	filter *filter
	unsent []byte // of the filter
	since  uint64 // the first change the filter may not know
	next   uint64 // the first change not sent yet
	begun  bool
	closed bool
}

// Follow returns a Cursor that begins with all digests. Close ends it.
func (l *Local) Follow() *Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers++
	return &Cursor{l: l}
}

// Close ends the Cursor. Closing it again does nothing.
func (c *Cursor) Close() {
	if c.closed {
		return
	}
	c.closed = true
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers--
	if l.followers == 0 {
		l.logStart += uint64(len(l.log))
		l.log = nil
	}
}

// Next returns the next Update for the follower: first a filter of the whole, piece
// by piece, then changes, gathered for a moment. When too much has changed, or the
// follower is too far behind, it begins again with a new filter. It waits while there
// is nothing to send, and ends with the error of ctx.
func (c *Cursor) Next(ctx context.Context) (Update, error) {
	if c.closed {
		return Update{}, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return Update{}, err
	}
	if len(c.unsent) > 0 {
		return c.piece(Update{Blobs: uint64(c.l.Len())}), nil
	}
	if c.stale() {
		return c.begin(), nil
	}
	if err := c.wait(ctx); err != nil {
		return Update{}, err
	}
	if c.stale() {
		return c.begin(), nil
	}
	return c.gather(), nil
}

func (c *Cursor) stale() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return !c.begun || c.l.staleLocked(c.since)
}

func (c *Cursor) begin() Update {
	c.filter, c.since = c.l.whole()
	c.next, c.unsent, c.begun = c.since, c.filter.bytes, true
	return c.piece(Update{Begin: true, FilterBits: c.filter.bits, FilterHashes: c.filter.hashes, Blobs: uint64(c.l.Len())})
}

// piece adds the next piece of the filter to u.
func (c *Cursor) piece(u Update) Update {
	n := min(len(c.unsent), maxPiece)
	u.Filter, c.unsent = c.unsent[:n:n], c.unsent[n:]
	return u
}

// wait returns a moment after there is something to send.
func (c *Cursor) wait(ctx context.Context) error {
	for {
		c.l.mu.Lock()
		behind := c.l.nowLocked() - c.next
		if behind == 0 && c.l.changed == nil {
			c.l.changed = make(chan struct{})
		}
		changed := c.l.changed
		c.l.mu.Unlock()
		if behind >= maxBatch {
			return nil
		}
		if behind > 0 {
			return pause(ctx, batchFor)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather is what has changed since the last Update.
func (c *Cursor) gather() Update {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	added, removed, n := l.sinceLocked(c.next, maxBatch)
	c.next += uint64(n)
	return Update{Added: added, Removed: removed, Blobs: uint64(l.stored.count)}
}
