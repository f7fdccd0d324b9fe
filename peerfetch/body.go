package peerfetch

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strconv"
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
	resumed int64 // of these, what an earlier flight left; owned by flight.run

	writer Writer    // nil when the store gave none
	hash   hash.Hash // takes over from the writer's own when it stopped keeping
	cap    int       // of the window, in bytes
	// heldFrom is where the window began at heldSince: the slowest reader has to take half a
	// window within ReaderPatience while others wait for it.
	heldFrom  int64
	heldSince time.Time

	// guarded by flight.mu
	kept   int64  // bytes [0, kept) are in the file
	window []byte // bytes [base, base+len)
	base   int64
	// spilled is a handle on the file of [0, kept) that all readers share, once the store has
	// no more room: the file may lose its name before they have read it. It is closed when the
	// flight has ended and no reader is left.
	spilled *os.File
	// final is a handle on the whole file, for readers that have not opened it before it was committed: on
	// a disk that is too small the object may be evicted at once. It is closed as spilled is.
	final *os.File

	notStored atomic.Bool // the window is in use
}

// open asks the store for a writer. No reader looks at the body before its first
// byte is visible, so what is not guarded may be set without the lock.
func (b *body) open(fl *flight) {
	fl.mu.Lock()
	b.kept, b.base, b.window = 0, 0, nil
	b.closeSpilledLocked()
	fl.mu.Unlock()
	b.written, b.resumed, b.hash, b.cap = 0, 0, nil, fl.f.cfg.Window
	b.notStored.Store(false)
	w, err := fl.newWriter()
	if err != nil {
		fl.f.cfg.Logger.Warn("passing an object on without keeping it", "location", fl.object.Where.First.String(), "error", err)
		b.writer, b.hash = nil, sha256.New()
		b.heldFrom, b.heldSince = 0, time.Now()
		b.notStored.Store(true)
		return
	}
	b.writer = w
	b.takeBack(fl)
}

// newWriter begins the object in the store, with what an earlier flight for the same archive left
// of it where its digest and size are both proven: only then the whole shows whether the beginning
// was right. The bytes of another archive are not resumed, because they may be wrong.
func (fl *flight) newWriter() (Writer, error) {
	if fl.continuable() {
		return fl.f.cfg.Store.Resume(fl.object.Ref, fl.object.Where.First.Archive)
	}
	return fl.f.cfg.Store.Create(fl.sizeNow())
}

// continuable reports whether another flight can go on with what this one leaves.
func (fl *flight) continuable() bool { return continuable(&fl.object) }

func continuable(object *proto.ObjectRequest) bool {
	return !object.Ref.IsZero() && object.Ref.Size != proto.UnknownSize && len(object.Others) == 0
}

// takeBack goes on from what an earlier flight left. Readers have each piece as soon as it was read
// back; nobody waits for all of it.
func (b *body) takeBack(fl *flight) {
	for more := true; more && fl.ctx.Err() == nil; {
		var size int64
		size, more = b.writer.TakeBack()
		if size == b.written {
			continue
		}
		b.written, b.resumed = size, size
		fl.mu.Lock()
		b.kept, fl.begun, fl.tier = size, true, proto.TierUpstream
		fl.mu.Unlock()
		fl.publish()
	}
	if b.resumed > 0 {
		fl.f.metrics.continued.Add(float64(b.resumed))
		fl.f.cfg.Logger.Info("going on with an object of which an earlier fetch left the beginning",
			"location", fl.object.Where.First.String(), "bytes", b.resumed, "size", fl.object.Ref.Size)
	}
}

// write takes p. It blocks while the window is full.
func (b *body) write(fl *flight, p []byte) error {
	if !b.notStored.Load() {
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
		"location", fl.object.Where.First.String(), "kept", b.written, "error", cause)
	b.hash = sha256.New()
	file, err := b.writer.Reader()
	if err != nil {
		return fmt.Errorf("read back what was kept: %w", err)
	}
	if _, err := io.CopyN(b.hash, file, b.written); err != nil {
		file.Close()
		return fmt.Errorf("read back what was kept: %w", err)
	}
	fl.mu.Lock()
	b.base, b.spilled = b.kept, file
	fl.mu.Unlock()
	b.heldFrom, b.heldSince = b.base, time.Now()
	b.notStored.Store(true)
	return nil
}

// writeWindow appends p to the window, waiting for the slowest reader to make room. One that takes
// nothing for too long is no longer waited for; nor is one that takes little for as long, while
// another reader has everything and waits for more.
func (b *body) writeWindow(fl *flight, p []byte) error {
	patience := time.NewTimer(fl.f.cfg.ReaderPatience)
	defer patience.Stop()
	for {
		fl.mu.Lock()
		b.shrinkLocked(fl)
		n := min(b.cap-len(b.window), len(p))
		b.window = append(b.window, p[:n]...)
		b.written += int64(n)
		others := b.othersWaitLocked(fl)
		changed := fl.changed
		fl.mu.Unlock()
		if b.base-b.heldFrom >= int64(b.cap)/2 || !others {
			b.heldFrom, b.heldSince = b.base, time.Now()
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if n > 0 {
			fl.publish()
			patience.Reset(fl.f.cfg.ReaderPatience)
		}
		if time.Since(b.heldSince) >= fl.f.cfg.ReaderPatience {
			b.dropSlowest(fl)
			b.heldFrom, b.heldSince = b.base, time.Now()
			continue
		}
		if n > 0 {
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

// othersWaitLocked reports whether a reader has read all that has arrived while a slower one is half
// a window behind: then the slow reader limits the fast one. The caller holds fl.mu.
func (b *body) othersWaitLocked(fl *flight) bool {
	fast, slow := false, false
	end := b.base + int64(len(b.window))
	for r := range fl.readers {
		fast = fast || r.pos >= end-int64(b.cap)/8
		slow = slow || r.pos < end-int64(b.cap)/2
	}
	return fast && slow
}

// closeSpilledLocked closes the file that readers share. The caller holds fl.mu.
func (b *body) closeSpilledLocked() {
	if b.spilled != nil {
		b.spilled.Close()
		b.spilled = nil
	}
	if b.final != nil {
		b.final.Close()
		b.final = nil
	}
}

// committedFileLocked opens the file again by the handle that was taken before the commit. The caller
// holds fl.mu.
func (b *body) committedFileLocked() (*os.File, error) {
	if b.final == nil {
		return nil, fs.ErrNotExist
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(int(b.final.Fd())))
}

// endedLocked frees what no reader can read any more. The caller holds fl.mu.
func (fl *flight) endedLocked() {
	if fl.ended && len(fl.readers) == 0 {
		fl.body.closeSpilledLocked()
	}
}

// shrinkLocked drops the bytes that every reader has read. The caller holds fl.mu.
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

// dropSlowest leaves the readers behind that hold everybody up: those at the beginning of the
// window.
func (b *body) dropSlowest(fl *flight) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	low := b.base + int64(len(b.window))
	for r := range fl.readers {
		low = min(low, r.pos)
	}
	for r := range fl.readers {
		if r.pos <= max(low, b.base) {
			delete(fl.readers, r)
		}
	}
}

// gone reports whether the body can no longer be read from byte pos on.
// The caller holds fl.mu.
func (b *body) gone(pos int64) bool { return b.base > b.kept && pos < b.base }

func (b *body) windowed() bool { return b.notStored.Load() }

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
	kept, spilled := b.kept, b.spilled
	fl.mu.Unlock()
	if spilled != nil {
		n, err := spilled.ReadAt(p[:min(int64(len(p)), kept-r.pos)], r.pos)
		if n > 0 {
			return n, nil
		}
		return 0, fmt.Errorf("read what was kept of a body: %w", err)
	}
	if err := r.openFile(); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), kept-r.pos)]
	n, err := r.file.Read(p)
	if n == 0 && err == io.EOF {
		if err = r.reopenFile(); err == nil {
			n, err = r.file.Read(p)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("read the growing file: %w", cmp.Or(err, io.ErrUnexpectedEOF))
}

// writeTo sends the bytes from the reader's position up to visible.
func (b *body) writeTo(r *reader, w io.Writer, visible int64) (int64, error) {
	fl := r.fl
	fl.mu.Lock()
	kept, shared := min(b.kept, visible), b.spilled != nil
	fl.mu.Unlock()
	if r.pos < kept && !shared {
		if err := r.openFile(); err != nil {
			return 0, err
		}
		n, err := io.Copy(w, &io.LimitedReader{R: r.file, N: kept - r.pos})
		if err == nil && n == 0 {
			if err := r.reopenFile(); err != nil {
				return 0, err
			}
			n, err = io.Copy(w, &io.LimitedReader{R: r.file, N: kept - r.pos})
		}
		if err == nil && n == 0 {
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
		failed := r.errLocked()
		if failed == nil {
			file, err = r.fl.body.committedFileLocked()
		}
		r.fl.mu.Unlock()
		if failed != nil { // the flight failed before this reader opened its file
			return r.errFor(failed)
		}
		if err != nil {
			return fmt.Errorf("open the growing file: %w", err)
		}
	}
	if _, err := file.Seek(r.pos, io.SeekStart); err != nil {
		file.Close()
		return fmt.Errorf("open the growing file: %w", err)
	}
	r.file = file
	return nil
}

// reopenFile opens the reader's handle anew: the store may have moved what it was given.
func (r *reader) reopenFile() error {
	r.file.Close()
	r.file = nil
	return r.openFile()
}

// sum is what all bytes taken amount to.
func (b *body) sum() proto.Ref {
	if b.hash == nil {
		return b.writer.Sum()
	}
	return proto.Ref{Digest: proto.Digest(b.hash.Sum(nil)), Size: b.written}
}

// commit makes the body durable; proto.ErrNoSpace if the store did not take all. scope is
// the archive through which alone it may be given; "" for none.
func (b *body) commit(fl *flight, modified time.Time, scope string) (proto.Ref, error) {
	if b.notStored.Load() {
		b.abort()
		return proto.Ref{}, proto.ErrNoSpace
	}
	if scope != "" {
		b.writer.Only(scope)
	}
	if final, err := b.writer.Reader(); err == nil {
		fl.mu.Lock()
		b.final = final
		fl.mu.Unlock()
	}
	return b.writer.Commit(modified)
}

// abort forgets what the store was given. Readers keep their handles.
func (b *body) abort() {
	if b.writer != nil {
		b.writer.Abort()
	}
}

// doubtFor is how long clients that ask for the rest of an object are given all of it, after bytes
// of it were given out that turned out wrong.
const doubtFor = time.Hour

// noteDoubt notes that a flight failed after clients may have received wrong bytes.
func (fl *flight) noteDoubt(err error) {
	fl.mu.Lock()
	seen := fl.visibleLocked() > 0
	fl.mu.Unlock()
	if seen && (fl.ledger.tainted || isWrong(err)) {
		fl.f.doubted.note("", fl.key, time.Now())
	}
}

// leave ends the body of a flight that failed with err. What the store was given stays for the next
// flight, unless it may be wrong.
func (b *body) leave(fl *flight, err error) {
	if b.writer != nil && !b.notStored.Load() && !fl.ledger.tainted && fl.ledger.ofArchive(fl.object.Where.First.Archive) && !isWrong(err) && !errors.Is(err, errStored) {
		b.writer.Park()
	}
	b.abort()
}

// mistrust handles a body that is complete and wrong, and that began with the partial file of an
// earlier flight. The sources of that part are unknown, so none is blamed, and the whole body is
// fetched once more.
func (fl *flight) mistrust(err error) error {
	fl.f.cfg.Logger.Warn("the beginning that an earlier fetch left of an object was not right; it is fetched anew",
		"location", fl.object.Where.First.String(), "bytes", fl.body.resumed, "error", err)
	fl.ledger.tainted = true
	return fl.restart(&proto.Unavailable{Reason: "what was left of it by an earlier fetch was not right, and the next request fetches it anew", Answered: true, Wrong: true, RetryAfter: time.Second})
}
