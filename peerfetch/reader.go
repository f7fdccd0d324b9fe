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
	end  int64    // where it stops reading; 0: at the end of the body
	peer bool     // another node reads
	// where names the object as the reader knows it. It fails when these fail.
	where proto.Where
}

// Part implements proto.Parted.
func (r *reader) Part(from, length int64) {
	if r.file != nil {
		r.file.Close()
		r.file = nil // it is opened again where the part begins
	}
	r.fl.mu.Lock()
	r.pos, r.end = from, from+length
	r.fl.wakeLocked() // the window may have waited for this reader
	r.fl.mu.Unlock()
}

// addReader joins the flight of an equal object at byte offset of the body. From then on the flight
// serves the names in want, too. It returns false if the flight accepts no more readers.
func (fl *flight) addReader(ctx context.Context, object *proto.ObjectRequest, offset int64) (*reader, bool) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.addReaderLocked(ctx, object, offset)
}

// addReaderLocked is addReader for a caller that holds mu.
func (fl *flight) addReaderLocked(ctx context.Context, object *proto.ObjectRequest, offset int64) (*reader, bool) {
	if fl.ended || fl.body.gone(offset) {
		return nil, false
	}
	added, ok := fl.targets.add(object)
	if !ok {
		return nil, false
	}
	if added {
		fl.startPaceLocked()
		fl.raiseLocked()
	}
	fl.wantedByLocked(object)
	if fl.lingering != nil {
		if !fl.lingering.Stop() {
			return nil, false // it is being given up at this moment
		}
		fl.lingering = nil
	}
	r := &reader{fl: fl, ctx: ctx, pos: offset, where: object.Where}
	fl.readers[r] = struct{}{}
	return r, true
}

// Close leaves the flight. When the last reader has left, the flight goes on for
// a little while, or to its end if that is near, and is then given up.
func (r *reader) Close() error {
	fl := r.fl
	fl.mu.Lock()
	delete(fl.readers, r)
	fl.endedLocked()
	fl.wakeLocked() // the window may have waited for this reader
	unneeded := len(fl.readers) == 0 && !fl.proven && fl.err == nil && !fl.nearlyDoneLocked()
	if unneeded && fl.lingering == nil {
		fl.lingering = time.AfterFunc(fl.lingerLocked(), func() { fl.cancel(errAbandoned) })
	}
	fl.mu.Unlock()
	if r.file != nil {
		return r.file.Close()
	}
	return nil
}

// shortLinger is how long a flight continues without readers once the next flight can resume that
// many bytes from the disk.
const (
	shortLinger  = 200 * time.Millisecond
	worthLeaving = 1 << 20
)

// lingerLocked is how long the flight continues without readers. The caller holds mu.
func (fl *flight) lingerLocked() time.Duration {
	if fl.continuable() && fl.written >= worthLeaving {
		return min(fl.f.cfg.Linger, shortLinger)
	}
	return fl.f.cfg.Linger
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
		Ref:      fl.refLocked(),
		Verified: fl.object.Provable(),
		Tier:     fl.tier,
		Stream:   r,
		Doubted:  fl.f.doubted.recently("", fl.key, time.Now()),
	}
	if !b.Verified && !fl.checked.IsZero() {
		b.Stale, b.Checked = staleSince(fl.checked), fl.checked
	}
	switch {
	case fl.proven:
		b.Modified = fl.modified
	case !b.Verified:
		b.Claimed = fl.modified
	}
	return b, nil
}

// Modified is upstream's Last-Modified, for after the end of the body; zero before the
// bytes are proven.
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
		visible, proven, err, changed := fl.visibleLocked(), fl.proven, r.errLocked(), fl.changed
		fl.mu.Unlock()
		switch {
		case r.end > 0 && r.pos >= r.end:
			return r.end, io.EOF
		case visible > r.pos && r.end > 0:
			return min(visible, r.end), nil
		case visible > r.pos:
			return visible, nil
		case proven && r.pos == 0 && visible == 0:
			return 0, nil // empty body: open succeeds, the first Read says io.EOF
		case proven && r.pos > visible:
			return 0, errBeyondEnd
		case proven:
			return visible, io.EOF
		case err != nil:
			return 0, r.errFor(err)
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

// errLocked is why the reader gets no more bytes; nil while there may be some. It is the error of
// the reader's own names. Before the first byte, the reader gets it at once, even if names of other
// readers remain to be tried. The caller holds mu.
func (r *reader) errLocked() error {
	fl := r.fl
	switch {
	case fl.err != nil && !fl.byTarget:
		return fl.err
	case fl.err == nil && (!fl.alone || fl.written > 0 || !fl.targets.someOpen()):
		return nil
	}
	if err := fl.targets.errOf(r.where); err != nil {
		return err
	}
	return fl.err
}

// errFor is the error of a reader whose flight ended with err. A node that shuts down says
// nothing about the object, and another node must not take it for a failure of upstream.
func (r *reader) errFor(err error) error {
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
