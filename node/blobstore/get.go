package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/proto"
)

// touchEvery is how coarse the last use on disk is: a blob's atime is written at
// most once in this time. A cache that holds weeks of packages does not need it
// finer, and a fleet that asks for one index 1000 times a second does not cause
// 1000 inode writes.
const touchEvery = time.Hour

// emptyDigest is the digest of no bytes at all, the only one an empty file may
// have.
var emptyDigest = proto.DigestOf(nil)

// missError says that the store does not hold a blob.
type missError struct{ digest proto.Digest }

func (e missError) Error() string { return "blob " + e.digest.String() + " is not in the store" }

func (e missError) Unwrap() error { return fs.ErrNotExist }

// Get opens a blob: with Bytes from memory, or with a File of its own. The caller closes it.
// For a missing or visibly damaged blob, the error wraps fs.ErrNotExist; any other error is
// a failure of this machine.
//
// The Bytes are shared: nobody may change them.
//
// Get does not hash what it hands out as a File, so a caller that knows the size
// from signed metadata compares Ref.Size. Blob.Verified is left false.
func (s *Store) Get(d proto.Digest) (*proto.Blob, error) {
	if s.closed.Load() {
		return nil, s.errClosed()
	}
	if r := s.memory.get(d); r != nil {
		s.touch(d, r.entry)
		s.metrics.hitMemory.Inc()
		return &proto.Blob{
			Ref:      proto.Ref{Digest: d, Size: int64(len(r.bytes))},
			Modified: r.modified,
			Tier:     proto.TierMemory,
			Bytes:    r.bytes,
		}, nil
	}
	op := s.watch.begin()
	b, err := s.getDisk(d)
	op.end()
	switch {
	case err == nil:
		s.metrics.hitDisk.Inc()
	case errors.Is(err, fs.ErrNotExist):
		if b := s.overflow.get(d, s.cfg.Now()); b != nil {
			s.metrics.hitMemory.Inc()
			return b, nil
		}
		s.metrics.misses.Inc()
	}
	return b, err
}

// getDisk opens the path straight away; the index is asked only what it knows of
// the size, so that nothing needs to have been scanned.
func (s *Store) getDisk(d proto.Digest) (*proto.Blob, error) {
	// Noted before the file is opened: a commit in between makes what is read here no
	// copy to be kept.
	before, version := s.index.shard(d).get(d), uint32(0)
	if before != nil {
		version = before.version.Load()
	}
	f, st, err := s.openBlob(s.dirs.blob(d))
	if errors.Is(err, fs.ErrNotExist) {
		s.forgetVanished(d)
		return nil, missError{d}
	}
	switch {
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EBADMSG):
		s.damaged(d, nil, durable.Explain(s.dirs.root, err))
		return nil, missError{d}
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return nil, fmt.Errorf("open blob: %w", err)
	case err != nil: // a peer or an upstream may have it
		s.log.Error("cannot open a blob; it is fetched again", "blob", d, "file", s.dirs.blob(d), "error", err)
		return nil, missError{d}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, missError{d} // a directory of that name is not ours to remove
	}
	e := s.index.shard(d).get(d)
	if why := wrongLength(d, st.Size, e); why != "" {
		s.damaged(d, f, why)
		f.Close()
		return nil, missError{d}
	}
	if e == nil {
		e = s.register(d, f)
	}
	b := &proto.Blob{
		Ref:      proto.Ref{Digest: d, Size: st.Size},
		Modified: modifiedOf(st.Mtim.Sec),
		Tier:     proto.TierDisk,
		File:     f,
	}
	if e == nil {
		return b, nil
	}
	s.touch(d, e)
	// The first read of a blob may be its last; only a second one is a reason to
	// read and hash it into memory. Attempts then double their distance, so that a
	// blob which memory keeps refusing costs few of them.
	same := before == nil || before == e
	if reads := e.reads.Add(1); s.memory.wants(st.Size) && reads > 1 && bits.OnesCount32(reads) == 1 && same {
		return s.promote(b, e, version)
	}
	return b, nil
}

// openBlob opens a blob for reading without letting the kernel write its own
// idea of the last use.
func (s *Store) openBlob(name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := openQuietly(name, &s.noAtime)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, st, &os.PathError{Op: "fstat", Path: name, Err: err}
	}
	return f, st, nil
}

// wrongLength says, without reading the file, why it cannot be the blob of its name; "" if
// it may be.
func wrongLength(d proto.Digest, size int64, known *entry) string {
	switch {
	case known != nil && known.size != size:
		return fmt.Sprintf("it is %d bytes long and was %d", size, known.size)
	case size == 0 && d != emptyDigest:
		return "it is empty"
	}
	return ""
}

// modifiedOf reads a blob's mtime as upstream's Last-Modified.
func modifiedOf(unixSeconds int64) time.Time {
	if unixSeconds == 0 {
		return time.Time{}
	}
	return time.Unix(unixSeconds, 0).UTC()
}

// promote reads a small blob, proves it, and offers it to memory as the copy of that
// turn. The answer itself is made of the bytes just read.
func (s *Store) promote(b *proto.Blob, e *entry, version uint32) (*proto.Blob, error) {
	d := b.Ref.Digest
	bytes := make([]byte, b.Ref.Size)
	_, err := b.File.ReadAt(bytes, 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.EIO):
		b.File.Close()
		return nil, fmt.Errorf("read blob: %w", err)
	case err != nil:
		s.damaged(d, b.File, err.Error())
	case proto.DigestOf(bytes) != d:
		s.damaged(d, b.File, "its content has another hash")
	default:
		b.File.Close()
		b.File, b.Bytes = nil, bytes
		s.memory.set(&resident{digest: d, modified: b.Modified, bytes: bytes, entry: e, version: version})
		return b, nil
	}
	b.File.Close()
	return nil, missError{d}
}

// touch notes a use, in memory at once and on disk now and then.
func (s *Store) touch(d proto.Digest, e *entry) {
	now := s.cfg.Now()
	e.used.Store(now.UnixNano())
	kept := e.rewrites.Load()
	if now.Unix()-int64(kept) < int64(touchEvery/time.Second) {
		return
	}
	// The first hit writes; if the writer is busy, a later hit tries again.
	if !e.rewrites.CompareAndSwap(kept, uint32(now.Unix())) {
		return
	}
	select {
	case s.touched <- d:
	default:
		e.rewrites.Store(kept)
	}
}

// keepLastUse writes last uses to disk, so that recency survives a restart.
func (s *Store) keepLastUse(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.touched:
			if e := s.index.shard(d).get(d); e != nil {
				// A blob that was evicted meanwhile, or a file system that cannot
				// keep times, costs recency after a restart and nothing else.
				_ = setUsed(s.dirs.blob(d), time.Unix(0, e.used.Load()))
			}
		}
	}
}

// Has says whether the store holds a blob, as Stat does.
func (s *Store) Has(d proto.Digest) bool {
	_, ok := s.Stat(d)
	return ok
}

// Stat says whether the store holds a blob and how long it is. It does not count
// as a use.
func (s *Store) Stat(d proto.Digest) (proto.Ref, bool) {
	if e := s.index.shard(d).get(d); e != nil {
		return proto.Ref{Digest: d, Size: e.size}, true
	}
	if size, _, ok := s.overflow.stat(d); ok {
		return proto.Ref{Digest: d, Size: size}, true
	}
	if s.closed.Load() || s.scan.done() {
		return proto.Ref{}, false
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.dirs.blob(d), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return proto.Ref{}, false
	}
	return proto.Ref{Digest: d, Size: st.Size}, true
}
