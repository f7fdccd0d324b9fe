package blobstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// growStep is by how much a writer of unknown size enlarges its reservation.
const growStep = 1 << 20

// Writer takes the bytes of one blob to disk and hashes each of them. It is made
// by Store.Create and ends with exactly one Commit or Abort.
//
// One goroutine writes; any may call Reader, and any may call Abort.
type Writer struct {
	s *Store

	pathMu sync.RWMutex // write-held over the rename, so that Reader never misses the file
	path   string       // where the bytes lie now; guarded by pathMu
	inMem  *os.File     // or here, not yet ended (overflow.go); guarded by pathMu

	committed proto.Digest // of a blob committed to memory; guarded by pathMu

	// What follows is guarded by mu, which is held over each Write, Commit and Abort.
	mu       sync.Mutex
	f        *os.File
	hash     hash.Hash
	size     int64 // written and hashed
	reserved int64 // taken from the store's space, ≥ size+back
	promised int64 // the size given to Create; proto.UnknownSize
	small    []byte
	only     string // see Only
	keep     bool   // small holds all bytes so far, for the memory tier
	err      error  // the first failure of Write
	end      error  // what Commit answers once the writer has ended
	ended    bool
	ref      proto.Ref // what Commit stored
	partial  *partial  // nil: what was written goes with the writer
	diskOnly bool      // memory is no place for this one
	memory   bool      // f lies in memory (overflow.go)
	taken    int64     // of the overflow's memory
	back     int64     // bytes in the file, behind size, that TakeBack has not read
}

var errAborted = errors.New("the blob's writer was aborted")

// Create begins a blob of size bytes; proto.UnknownSize where that is not known. A promise takes no
// space: that is taken as the bytes come (Write). The error wraps proto.ErrNoSpace where the store
// can never hold that much, or cannot write at all.
func (s *Store) Create(size int64) (*Writer, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	defer s.watch.begin().end()
	return s.createUnder(size)
}

// createUnder is Create under the caller's begin.
func (s *Store) createUnder(size int64) (*Writer, error) {
	w, err := s.create(size)
	if errors.Is(err, proto.ErrNoSpace) {
		if m := s.createMemory(size); m != nil {
			return m, nil
		}
	}
	return w, err
}

// createMemory is create where the disk takes nothing; nil where memory does not either.
func (s *Store) createMemory(size int64) *Writer {
	f, taken := s.openMemory(size)
	if f == nil {
		return nil
	}
	return &Writer{s: s, inMem: f, f: f, hash: sha256.New(), promised: size, memory: true, taken: taken}
}

func (s *Store) create(size int64) (*Writer, error) {
	if err := s.fits(size); err != nil {
		return nil, err
	}
	name := s.tempName()
	f, err := s.fs.Create("blob.create", name)
	if err != nil {
		return nil, s.cannotKeep("create a temporary file", err)
	}
	w := &Writer{s: s, path: name, f: f, hash: sha256.New(), promised: size}
	w.keep = s.memory.wants(size)
	if w.keep {
		w.small = make([]byte, 0, max(size, 0))
	}
	return w, nil
}

func (s *Store) tempName() string {
	return s.dirs.tmp + "/" + strconv.FormatUint(s.tempSeq.Add(1), 36)
}

// Write appends p. It returns n < len(p) only with an error, and exactly the n bytes are hashed and
// readable then. Where the disk or the store's limit is full, or the disk fails, the bytes go to
// memory, as far as there is room (overflow.go), and then the error wraps proto.ErrNoSpace. The
// first error sticks.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.s.watch.begin().end()
	if w.ended {
		return 0, fmt.Errorf("write to a blob that has ended: %w", fs.ErrClosed)
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.back > 0 { // nobody has asked for it
		if w.cut(); w.err != nil {
			return 0, w.err
		}
	}
	n := 0
	if !w.memory {
		var err error
		if n, err = w.writeDisk(p); err == nil {
			return n, nil
		}
		if !errors.Is(err, proto.ErrNoSpace) || !w.toMemory() {
			w.err = err
			return n, err
		}
	}
	more, err := w.writeMemory(p[n:])
	w.err = err
	return n + more, err
}

// writeDisk is Write for a writer whose file is on the disk. The caller holds mu.
func (w *Writer) writeDisk(p []byte) (int, error) {
	if err := w.grow(w.size + int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.s.fs.Write("blob.write", w.f, p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	w.s.space.wrote(int64(n))
	w.remember(p[:n])
	w.noteSum(sumEvery)
	if err != nil {
		return n, w.s.cannotKeep("write a blob", err)
	}
	return n, nil
}

// grow sees to it that the reservation covers size bytes.
func (w *Writer) grow(size int64) error {
	short := size - w.reserved
	if short <= 0 {
		return nil
	}
	if err := w.s.begin(); err != nil {
		return err
	}
	defer w.s.end()
	// Reserve no more than what has come where other blobs would be evicted for it.
	rest := max(short, w.promised-w.reserved)
	step := max(short, growStep)
	if w.promised >= 0 {
		step = min(step, rest)
	}
	if !w.s.reserveSpare(step) {
		step = short
		if err := w.s.reserve(step, rest, w.reserved); err != nil {
			return err
		}
	}
	w.reserved += step
	return nil
}

// remember keeps the bytes of a blob that is small enough for memory.
func (w *Writer) remember(p []byte) {
	if !w.keep {
		return
	}
	if !w.s.memory.wants(w.size) {
		w.keep, w.small = false, nil
		return
	}
	w.small = append(w.small, p...)
}

// resident returns the bytes for the memory tier, without the slack of having
// been appended to.
func (w *Writer) resident() []byte {
	if len(w.small) < cap(w.small) {
		return bytes.Clone(w.small)
	}
	return w.small
}

// Sum returns the digest and the number of the bytes written so far. It must not
// run at the same time as Write.
func (w *Writer) Sum() proto.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum()
}

func (w *Writer) sum() proto.Ref {
	r := proto.Ref{Size: w.size}
	w.hash.Sum(r.Digest[:0])
	return r
}

// Reader returns a handle of its own, at offset 0, on the bytes written so far
// and on those still to come. The caller closes it. It stays readable when the
// writer commits or aborts, and when the blob is evicted. It does not wait for a
// Write in progress. After an Abort, or once a committed blob was evicted, there
// is nothing left to open: fs.ErrNotExist.
func (w *Writer) Reader() (*os.File, error) {
	w.pathMu.RLock()
	defer w.pathMu.RUnlock()
	switch {
	case w.inMem != nil:
		return reopen(w.inMem)
	case w.path == "": // a blob in memory, or none
		if b := w.s.overflow.get(w.committed, w.s.cfg.Now()); b != nil {
			return b.File, nil
		}
		return nil, fmt.Errorf("read a blob being written: %w", fs.ErrNotExist)
	}
	f, err := openQuietly(w.path, &w.s.noAtime)
	if err != nil {
		return nil, fmt.Errorf("read a blob being written: %w", err)
	}
	return f, nil
}

// Commit makes the blob durable under the digest of the bytes written, with upstream's
// Last-Modified (the zero time: none), and ends the writer. When it returns nil the blob survives a
// power cut, unless the disk has no room and memory stands in for it; when it does not, nothing was
// stored by this writer. After a failed Write it stores nothing and returns that error. A second
// Commit returns what the first did.
func (w *Writer) Commit(modified time.Time) (proto.Ref, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return w.ref, w.end
	}
	ref := w.sum()
	err := w.err
	switch {
	case err != nil:
	case w.memory:
		err = w.commitMemory(ref, modified)
	default:
		err = w.s.commit(w, ref, modified)
	}
	if err != nil {
		w.finish(err)
		return proto.Ref{}, err
	}
	w.ref = ref
	w.finish(nil)
	return ref, nil
}

// Abort gives up the bytes, unless Commit was first.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.finish(errAborted)
	}
}

// finish ends the writer: with a nil error the bytes have become a blob and are
// accounted as one, otherwise they go.
func (w *Writer) finish(err error) {
	w.ended, w.end, w.small = true, err, nil
	if w.memory {
		w.pathMu.Lock()
		w.inMem = nil
		w.pathMu.Unlock()
		w.f.Close()
		w.s.overflow.give(w.taken)
		return
	}
	w.f.Close()
	if err != nil {
		// What cannot be removed now is removed at the next Open. After a commit
		// that got as far as the rename there is nothing of this name.
		_ = w.s.fs.Remove("blob.abort", w.f.Name())
		w.s.release(w.reserved, w.size+w.back)
	}
	w.endPartial()
}

// Put stores b in one go, for these archives alone, or open to all where there are none.
func (s *Store) Put(b []byte, modified time.Time, only ...string) (proto.Ref, error) {
	w, err := s.Create(int64(len(b)))
	if err != nil {
		return proto.Ref{}, err
	}
	defer w.Abort()
	for _, archive := range only {
		w.Only(archive)
	}
	if _, err := w.Write(b); err != nil {
		return proto.Ref{}, err
	}
	return w.Commit(modified)
}
