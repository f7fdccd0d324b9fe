package blobstore

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// scan gathers the sizes and last uses of all blobs once after Open. Nothing
// waits for it, except a reservation in a full store of which nothing is known
// yet.
type scan struct {
	finished atomic.Bool

	mu   sync.Mutex
	step chan struct{} // closed, and replaced, after each directory
}

func newScan() *scan { return &scan{step: make(chan struct{})} }

func (c *scan) done() bool { return c.finished.Load() }

// progress returns a channel that is closed when the scan gets on.
func (c *scan) progress() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step
}

func (c *scan) advance() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.step)
	c.step = make(chan struct{})
}

// waitForScan returns true once the scan got on since progress was asked for, and
// false where the scan was over before, takes too long, or ends with the store.
func (s *Store) waitForScan(progress <-chan struct{}, deadline time.Time) bool {
	select {
	case <-progress:
		return true
	default:
	}
	if s.scan.done() {
		return false
	}
	ctx, cancel := context.WithDeadline(s.ctx, deadline)
	defer cancel()
	select {
	case <-progress:
		return true
	case <-ctx.Done():
		return false
	}
}

// runScan walks the 256 directories. If one fails, hits on its blobs register them later.
func (s *Store) runScan(ctx context.Context) {
	for b := range 256 {
		if ctx.Err() != nil {
			return
		}
		if err := s.scanShard(byte(b)); err != nil {
			s.log.Error("cannot list a directory of blobs: what is in it does not count against the size limit until it is used",
				"dir", s.dirs.shard(byte(b)), "error", err)
		}
		s.scan.advance()
	}
	s.dropOrphanMarks()
	s.space.settle()
	s.makeRoom(0) // for an operator who lowered the limit
	if err := s.lowerLedger(s.ledgerStep()); err != nil {
		_ = s.cannotKeep("note the bytes in use", err)
	}
	s.scan.finished.Store(true)
	s.scan.advance()
}

// scanShard enters the blobs of one directory in the index.
func (s *Store) scanShard(b byte) error {
	dir, err := os.Open(s.dirs.shard(b))
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if d, ok := blobName(b, name); ok {
				s.scanBlob(dir, name, d)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// blobName reads the name of a file in the directory of byte b. What is not
// spelled as we spell it is not ours.
func blobName(b byte, name string) (proto.Digest, bool) {
	d, err := proto.ParseDigest(name)
	return d, err == nil && d[0] == b && d.String() == name
}

// scanBlob enters one blob. Under change its file cannot go between the look at
// it and the entry.
func (s *Store) scanBlob(dir *os.File, name string, d proto.Digest) {
	sh := s.index.shard(d)
	sh.change.Lock()
	defer sh.change.Unlock()
	if sh.get(d) != nil {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	s.enter(sh, d, &st)
}
