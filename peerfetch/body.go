package peerfetch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// body is where the bytes of a flight go: into the store's file, and, once the
// store has no room, into a window of memory that moves with the slowest reader,
// so that a full disk never stands between a client and its bytes.
//
//	byte 0 ........ kept | ........ window ........ | written
//	       in the file   | in memory, dropped when read |
type body struct {
	written int64 // bytes taken so far; owned by flight.run

	writer Writer    // nil when the store gave none
	hash   hash.Hash // takes over from the writer's own when it stopped keeping
	cap    int       // of the window, in bytes

	// guarded by flight.mu
	kept   int64  // bytes [0, kept) are in the file
	window []byte // bytes [base, base+len)
	base   int64

	unkept atomic.Bool // the window is in use
}

// open asks the store for a writer. No reader looks at the body before its first
// byte is visible, so what is not guarded may be set without the lock.
func (b *body) open(fl *flight) {
	fl.mu.Lock()
	b.kept, b.base, b.window = 0, 0, nil
	fl.mu.Unlock()
	b.written, b.hash, b.cap = 0, nil, fl.f.cfg.Window
	b.unkept.Store(false)
	w, err := fl.f.cfg.Store.Create(fl.sizeNow())
	if err != nil {
		fl.f.cfg.Logger.Warn("passing an object on without keeping it", "location", fl.want.Where[0].String(), "error", err)
		b.writer, b.hash = nil, sha256.New()
		b.unkept.Store(true)
		return
	}
	b.writer = w
}

// write takes p. It blocks while the window is full.
func (b *body) write(fl *flight, p []byte) error {
	if !b.unkept.Load() {
		n, err := b.writer.Write(p)
		b.written += int64(n)
		fl.mu.Lock()
		b.kept = b.written
		fl.mu.Unlock()
		if err == nil {
			return nil
		}
		if !errors.Is(err, proto.ErrNoSpace) {
			return fmt.Errorf("write to the store: %w", err)
		}
		if err := b.spill(fl, err); err != nil {
			return err
		}
		p = p[n:]
	}
	b.hash.Write(p)
	return b.writeWindow(fl, p)
}

// spill changes over from the file to the window. The writer's hash stopped with
// its last kept byte, so ours begins by reading those back.
func (b *body) spill(fl *flight, cause error) error {
	fl.f.cfg.Logger.Warn("passing the rest of an object on without keeping it",
		"location", fl.want.Where[0].String(), "kept", b.written, "error", cause)
	b.hash = sha256.New()
	file, err := b.writer.Reader()
	if err != nil {
		return fmt.Errorf("read back what was kept: %w", err)
	}
	defer file.Close()
	if _, err := io.CopyN(b.hash, file, b.written); err != nil {
		return fmt.Errorf("read back what was kept: %w", err)
	}
	fl.mu.Lock()
	b.base = b.kept
	fl.mu.Unlock()
	b.unkept.Store(true)
	return nil
}

// writeWindow appends p to the window, waiting for the slowest reader to make
// room; one that takes nothing for too long is no longer waited for.
func (b *body) writeWindow(fl *flight, p []byte) error {
	patience := time.NewTimer(fl.f.cfg.ReaderPatience)
	defer patience.Stop()
	for {
		fl.mu.Lock()
		b.shrinkLocked(fl)
		n := min(b.cap-len(b.window), len(p))
		b.window = append(b.window, p[:n]...)
		b.written += int64(n)
		changed := fl.changed
		fl.mu.Unlock()
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if n > 0 {
			fl.publish()
			patience.Reset(fl.f.cfg.ReaderPatience)
			continue
		}
		select {
		case <-changed:
		case <-fl.ctx.Done():
			return fl.ctx.Err()
		case <-patience.C:
			b.dropSlowest(fl)
		}
	}
}

// shrinkLocked drops what every reader has had. fl.mu is held.
func (b *body) shrinkLocked(fl *flight) {
	low := b.base + int64(len(b.window))
	for r := range fl.readers {
		low = min(low, r.pos)
	}
	if drop := low - b.base; drop > 0 {
		b.window = append(b.window[:0], b.window[drop:]...)
		b.base = low
	}
}

// dropSlowest leaves the readers behind that hold everybody up.
func (b *body) dropSlowest(fl *flight) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for r := range fl.readers {
		if r.pos <= b.base {
			delete(fl.readers, r)
		}
	}
}

// gone reports whether the body can no longer be read from byte pos on.
// fl.mu is held.
func (b *body) gone(pos int64) bool { return b.base > b.kept && pos < b.base }

func (b *body) windowed() bool { return b.unkept.Load() }

var errLeftBehind = errors.New("the client took too long: this body could not be kept for it")

// readAt copies bytes at the reader's position, all of them visible, into p.
func (b *body) readAt(r *reader, p []byte) (int, error) {
	fl := r.fl
	fl.mu.Lock()
	if r.pos >= b.kept {
		defer fl.mu.Unlock()
		if r.pos < b.base {
			return 0, errLeftBehind
		}
		return copy(p, b.window[r.pos-b.base:]), nil
	}
	kept := b.kept
	fl.mu.Unlock()
	if err := r.openFile(); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), kept-r.pos)]
	n, err := io.ReadFull(r.file, p)
	if err != nil {
		return n, fmt.Errorf("read the growing file: %w", err)
	}
	return n, nil
}

// writeTo sends the bytes from the reader's position up to visible.
func (b *body) writeTo(r *reader, w io.Writer, visible int64) (int64, error) {
	fl := r.fl
	fl.mu.Lock()
	kept := min(b.kept, visible)
	fl.mu.Unlock()
	if r.pos < kept {
		if err := r.openFile(); err != nil {
			return 0, err
		}
		n, err := io.Copy(w, &io.LimitedReader{R: r.file, N: kept - r.pos})
		if err == nil && n < kept-r.pos {
			err = fmt.Errorf("read the growing file: %w", io.ErrUnexpectedEOF)
		}
		return n, err
	}
	buf := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buf)
	n, err := b.readAt(r, buf[:min(copyBuffer, visible-r.pos)])
	if err != nil {
		return 0, err
	}
	sent, err := w.Write(buf[:n])
	return int64(sent), err
}

// openFile opens the reader's own handle, at its position.
func (r *reader) openFile() error {
	if r.file != nil {
		return nil
	}
	file, err := r.fl.body.writer.Reader()
	if err != nil {
		r.fl.mu.Lock()
		failed := r.fl.err
		r.fl.mu.Unlock()
		if failed != nil { // the flight failed before this reader had looked at its file
			return r.told(failed)
		}
		return fmt.Errorf("open the growing file: %w", err)
	}
	if _, err := file.Seek(r.pos, io.SeekStart); err != nil {
		file.Close()
		return fmt.Errorf("open the growing file: %w", err)
	}
	r.file = file
	return nil
}

// sum is what all bytes taken amount to.
func (b *body) sum() proto.Ref {
	if b.hash == nil {
		return b.writer.Sum()
	}
	return proto.Ref{Digest: proto.Digest(b.hash.Sum(nil)), Size: b.written}
}

// commit makes the body durable; proto.ErrNoSpace if the store did not take all.
func (b *body) commit(modified time.Time) (proto.Ref, error) {
	if b.unkept.Load() {
		b.abort()
		return proto.Ref{}, proto.ErrNoSpace
	}
	return b.writer.Commit(modified)
}

// abort forgets what the store was given. Readers keep their handles.
func (b *body) abort() {
	if b.writer != nil {
		b.writer.Abort()
	}
}
