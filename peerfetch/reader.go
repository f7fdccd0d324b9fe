package peerfetch

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// reader follows one flight for one client. It is used by one goroutine.
type reader struct {
	fl   *flight
	ctx  context.Context
	file *os.File // private handle on the growing file; nil until needed
	pos  int64    // written by the reader under fl.mu, for the window's sake
	peer bool     // another node reads
}

// addReader joins the flight at byte offset of the body; false when it is too late
// for that.
func (fl *flight) addReader(ctx context.Context, offset int64) (*reader, bool) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.addReaderLocked(ctx, offset)
}

// addReaderLocked is addReader with mu held.
func (fl *flight) addReaderLocked(ctx context.Context, offset int64) (*reader, bool) {
	if fl.ended || fl.body.gone(offset) {
		return nil, false
	}
	if fl.lingering != nil {
		if !fl.lingering.Stop() {
			return nil, false // it is being given up at this moment
		}
		fl.lingering = nil
	}
	r := &reader{fl: fl, ctx: ctx, pos: offset}
	fl.readers[r] = struct{}{}
	return r, true
}

// Close leaves the flight. When the last reader has left, the flight goes on for
// a little while, or to its end if that is near, and is then given up.
func (r *reader) Close() error {
	fl := r.fl
	fl.mu.Lock()
	delete(fl.readers, r)
	fl.wakeLocked() // the window may have waited for this reader
	unneeded := len(fl.readers) == 0 && !fl.proven && fl.err == nil && !fl.nearlyDoneLocked()
	if unneeded && fl.lingering == nil {
		fl.lingering = time.AfterFunc(fl.f.cfg.Linger, func() { fl.cancel(errAbandoned) })
	}
	fl.mu.Unlock()
	if r.file != nil {
		return r.file.Close()
	}
	return nil
}

func (fl *flight) nearlyDoneLocked() bool {
	return fl.begun && fl.size != proto.UnknownSize && fl.size-fl.written <= nearlyDone
}

// open waits until the first byte may be given out and returns the blob. A body
// that is complete by then is a stream all the same; it only never waits.
func (r *reader) open() (*proto.Blob, error) {
	if _, err := r.await(); err != nil && err != io.EOF {
		return nil, err
	}
	fl := r.fl
	fl.mu.Lock()
	defer fl.mu.Unlock()
	b := &proto.Blob{
		Ref:      proto.Ref{Digest: fl.want.Ref.Digest, Size: fl.size},
		Verified: fl.want.Provable(),
		Tier:     fl.tier,
		Stream:   r,
	}
	if fl.proven {
		b.Modified = fl.modified
		if fl.size == 0 {
			b.Ref.Digest = emptyDigest
		}
	}
	return b, nil
}

// Modified is upstream's Last-Modified, for whoever has read to the end; zero
// before the bytes are proven.
func (r *reader) Modified() time.Time {
	r.fl.mu.Lock()
	defer r.fl.mu.Unlock()
	if !r.fl.proven {
		return time.Time{}
	}
	return r.fl.modified
}

// await blocks until there are bytes beyond the reader's position, and returns
// the position up to which it may read; io.EOF at the proven end.
func (r *reader) await() (int64, error) {
	fl := r.fl
	for {
		fl.mu.Lock()
		visible, proven, err, changed := fl.visibleLocked(), fl.proven, fl.err, fl.changed
		fl.mu.Unlock()
		switch {
		case visible > r.pos:
			return visible, nil
		case proven && r.pos == 0 && visible == 0:
			return 0, nil // empty body: open succeeds, the first Read says io.EOF
		case proven && r.pos > visible:
			return 0, errBeyondEnd
		case proven:
			return visible, io.EOF
		case err != nil:
			return 0, r.told(err)
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

// told is how the reader hears that the flight ended with err. That this node is
// shutting down says nothing about the object, and another node must not take it
// for trouble with upstream.
func (r *reader) told(err error) error {
	switch {
	case r.peer && errors.Is(err, errClosing):
		return errLeaving
	case r.peer:
		return forPeer(err)
	}
	return err
}

// Read implements io.Reader. It ends with io.EOF only after the proven last byte.
func (r *reader) Read(p []byte) (int, error) {
	visible, err := r.await()
	if err != nil {
		return 0, err
	}
	if visible == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), visible-r.pos)]
	n, err := r.fl.body.readAt(r, p)
	r.advance(int64(n))
	return n, err
}

// WriteTo implements io.WriterTo. The part of the body that is in the file goes
// out by the file's own way, which for a TCP connection is sendfile.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	var sent int64
	for {
		visible, err := r.await()
		if err == io.EOF || (err == nil && visible == 0) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		n, err := r.fl.body.writeTo(r, w, visible)
		r.advance(n)
		sent += n
		if err != nil {
			return sent, err
		}
	}
}

// advance moves the reader on.
func (r *reader) advance(n int64) {
	fl := r.fl
	fl.mu.Lock()
	r.pos += n
	if fl.body.windowed() {
		fl.wakeLocked()
	}
	fl.mu.Unlock()
}
