package blobstore

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// overflowEvery is how often the store tries to move blobs in memory to the disk.
const overflowEvery = time.Minute

// overflow holds blobs that the disk could not take, because it is full, or fails, or too much is
// pinned. They are in memory, as files without a name (memfd_create), so that they are read and sent
// like files on disk. So a node whose disk is full asks upstream for an index once and not for each
// host. They are lost with the process. If there are too many, the least recently used goes, but
// none that is pinned.
type overflow struct {
	max   int64
	count atomic.Int64 // of blobs, so that a check costs nothing while there are none

	mu    sync.Mutex
	used  int64 // guarded by mu, as all below; blobs, and what writers have taken
	blobs map[proto.Digest]*overflowed
	tried time.Time // when they were last brought to the disk
	busy  bool

	draining sync.WaitGroup
}

type overflowed struct {
	file     *os.File
	size     int64
	modified time.Time
	only     []string // as a mark; nil: open to all
	used     time.Time
}

// reopen returns a handle of its own on a file without a name. The caller sees to it that f is not
// closed meanwhile, or its number may mean another file.
func reopen(f *os.File) (*os.File, error) {
	return os.Open("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}

// take reserves n bytes of the memory, and evicts older blobs for them. false: there is not enough.
func (o *overflow) take(n int64, pinned func(proto.Digest) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n > o.max {
		return false
	}
	for o.used+n > o.max {
		oldest, found := proto.Digest{}, false
		for d, b := range o.blobs {
			if !pinned(d) && (!found || b.used.Before(o.blobs[oldest].used)) {
				oldest, found = d, true
			}
		}
		if !found {
			return false
		}
		o.dropLocked(oldest)
	}
	o.used += n
	return true
}

func (o *overflow) give(n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used -= n
}

// dropLocked forgets a blob. The caller holds mu.
func (o *overflow) dropLocked(d proto.Digest) {
	if b := o.blobs[d]; b != nil {
		o.used -= b.size
		delete(o.blobs, d)
		o.count.Add(-1)
		b.file.Close()
	}
}

func (o *overflow) drop(d proto.Digest) {
	if o.count.Load() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropLocked(d)
}

// put keeps a blob, for which its writer has taken taken bytes.
func (o *overflow) put(d proto.Digest, b *overflowed, taken int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used -= taken
	if old := o.blobs[d]; old != nil {
		if b.only != nil && old.only != nil {
			b.only = append(slices.Clone(old.only), b.only...)
		} else {
			b.only = nil
		}
		o.dropLocked(d)
	}
	o.blobs[d] = b
	o.used += b.size
	o.count.Add(1)
}

// get opens a blob; nil where it is not here.
func (o *overflow) get(d proto.Digest, now time.Time) *proto.Blob {
	if o.count.Load() == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.blobs[d]
	if b == nil {
		return nil
	}
	f, err := reopen(b.file)
	if err != nil {
		return nil
	}
	b.used = now
	return &proto.Blob{Ref: proto.Ref{Digest: d, Size: b.size}, Modified: b.modified, Tier: proto.TierMemory, File: f}
}

// stat describes a blob and does not count as a use.
func (o *overflow) stat(d proto.Digest) (size int64, only []string, ok bool) {
	if o.count.Load() == 0 {
		return 0, nil, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.blobs[d]
	if b == nil {
		return 0, nil, false
	}
	return b.size, b.only, true
}

func (o *overflow) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for d := range o.blobs {
		o.dropLocked(d)
	}
}

func (s *Store) isPinned(d proto.Digest) bool {
	s.pins.mu.RLock()
	defer s.pins.mu.RUnlock()
	return s.pins.has(d)
}

// mostOf is the part of the memory that one blob may take.
func (o *overflow) mostOf() int64 { return o.max / 2 }

// openMemory begins a blob of size bytes in memory; nil where there is no room.
func (s *Store) openMemory(size int64) (f *os.File, taken int64) {
	o := &s.overflow
	taken = max(size, 0)
	if taken > o.mostOf() || o.max <= 0 || !o.take(taken, s.isPinned) {
		return nil, 0
	}
	f, err := memoryFile()
	if err != nil {
		o.give(taken)
		return nil, 0
	}
	return f, taken
}

// toMemory moves a writer to memory, if there is room, because the disk cannot take its bytes. The
// bytes written so far are read back. The caller holds mu.
func (w *Writer) toMemory() bool {
	if w.diskOnly || w.back > 0 {
		return false
	}
	f, taken := w.s.openMemory(max(w.size, w.promised))
	if f == nil {
		return false
	}
	if _, err := io.Copy(f, io.NewSectionReader(w.f, 0, w.size)); err != nil {
		f.Close()
		w.s.overflow.give(taken)
		return false
	}
	disk, name := w.f, w.f.Name()
	w.pathMu.Lock()
	w.path, w.inMem = "", f
	w.pathMu.Unlock()
	w.f, w.memory, w.taken, w.keep, w.small = f, true, taken, false, nil
	disk.Close()
	_ = w.s.fs.Remove("blob.abort", name)
	w.s.release(w.reserved, w.size)
	w.reserved = 0
	w.endPartial()
	w.partial = nil
	return true
}

func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("aptmesh-blob", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "memfd"), nil
}

// writeMemory is Write for a writer that was moved to memory. The caller holds mu.
func (w *Writer) writeMemory(p []byte) (int, error) {
	o := &w.s.overflow
	if will := w.size + int64(len(p)); will > w.taken {
		step := max(will-w.taken, growStep)
		if w.taken+step > o.mostOf() || !o.take(step, w.s.isPinned) {
			return 0, fmt.Errorf("%w: neither the disk nor the %d bytes of memory that stand in for it have room", proto.ErrNoSpace, o.max)
		}
		w.taken += step
	}
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("%w: write to memory: %w", proto.ErrNoSpace, err)
	}
	return n, nil
}

// commitMemory makes a blob of a writer that was moved to memory. It does not survive the process.
// The caller holds mu.
func (w *Writer) commitMemory(ref proto.Ref, modified time.Time) error {
	if err := w.s.begin(); err != nil {
		return err
	}
	defer w.s.end()
	own, err := reopen(w.f)
	if err != nil {
		return fmt.Errorf("%w: keep a blob in memory: %w", proto.ErrNoSpace, err)
	}
	b := &overflowed{file: own, size: ref.Size, modified: modifiedOf(unixOf(modified)), used: w.s.cfg.Now()}
	if w.only != "" {
		b.only = []string{w.only}
	}
	w.s.overflow.put(ref.Digest, b, w.taken)
	w.taken = 0
	w.pathMu.Lock()
	w.committed = ref.Digest
	w.pathMu.Unlock()
	return nil
}

func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// drainOverflow moves blobs in memory to the disk, now that a blob could be stored there. From then
// on, blobs that must not be lost, such as roots, are durable.
func (s *Store) drainOverflow() {
	o := &s.overflow
	if o.count.Load() == 0 {
		return
	}
	now := time.Now()
	o.mu.Lock()
	if o.busy || now.Sub(o.tried) < overflowEvery {
		o.mu.Unlock()
		return
	}
	o.busy, o.tried = true, now
	all := make([]proto.Digest, 0, len(o.blobs))
	for d := range o.blobs {
		all = append(all, d)
	}
	o.mu.Unlock()
	o.draining.Add(1)
	s.work.Go(func() {
		defer o.draining.Done()
		defer func() {
			o.mu.Lock()
			o.busy = false
			o.mu.Unlock()
		}()
		for _, d := range all {
			if s.ctx.Err() != nil || s.toDisk(d) != nil {
				return
			}
		}
	})
}

// toDisk stores a blob of the overflow on the disk, where its commit takes it out of the overflow.
func (s *Store) toDisk(d proto.Digest) error {
	_, only, ok := s.overflow.stat(d)
	b := s.overflow.get(d, s.cfg.Now())
	if !ok || b == nil {
		return nil
	}
	defer b.Close()
	w, err := s.Create(b.Ref.Size)
	if err != nil {
		return err
	}
	defer w.Abort()
	w.diskOnly = true
	if len(only) > 0 {
		w.Only(only[0]) // the others ask their own upstream once more
	}
	if _, err := io.Copy(struct{ io.Writer }{w}, b.File); err != nil {
		return err
	}
	_, err = w.Commit(b.Modified)
	return err
}
