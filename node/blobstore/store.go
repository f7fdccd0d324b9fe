package blobstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/proto"
)

// DefaultMemoryMaxBlob is Config.MemoryMaxBlob where none is given. From about this size on the
// file is cheaper: sendfile copies nothing (docs/decisions.md has the figures).
const DefaultMemoryMaxBlob = 64 << 10

// DefaultLastCopyBonus is Config.LastCopyBonus where none is given. Hosts that are updated
// on a fixed day ask for a package once a week, so the last copy is kept for one
// more round of them. Much longer, and packages that newer versions have replaced
// would drive out what the hosts here use.
const DefaultLastCopyBonus = 7 * 24 * time.Hour

// Config says where a store lives and what it may use.
type Config struct {
	// Dir is created where it is missing. It must lie on one file system, and one
	// process may have it open.
	Dir string
	// MaxBytes is the hard limit for the contents of blobs, stored and on their
	// way in. Directories and the rounding up to disk blocks are not
	// in it. It must be positive.
	MaxBytes int64
	// MemoryBytes is what the memory tier may hold; 0 means no memory tier.
	MemoryBytes int64
	// MemoryMaxBlob is the largest blob kept in memory; 0 means
	// DefaultMemoryMaxBlob.
	MemoryMaxBlob int64
	// OverflowBytes is how much memory stands in for a disk that has no room; 0 means none.
	OverflowBytes int64
	// ScrubBytesPerSecond bounds the background re-hash; 0 turns it off.
	ScrubBytesPerSecond int64
	// ReserveFree is how much of the file system is left free, for other programs.
	ReserveFree int64
	// Observer is called for each blob that comes or goes; nil: no calls.
	Observer Observer
	// Replicated reports whether another node stores a blob, too; nil means that none
	// does. Eviction calls it for up to all blobs while it holds a lock. So it must be
	// cheap (less than a microsecond) and safe for concurrent use, and must not call the
	// Store.
	Replicated func(proto.Digest) bool
	// LastCopyBonus is how much longer a last copy is kept: a replicated blob is evicted
	// as if its last use had been that much earlier. 0 means DefaultLastCopyBonus. Without
	// Replicated it has no effect.
	LastCopyBonus time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets damage and the start and end of a degraded state; nil means
	// slog.Default().
	Logger *slog.Logger

	fs fsys // nil: the real one
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, errors.New("blob store: no directory given")
	case c.MaxBytes <= 0:
		return c, fmt.Errorf("blob store %s: the size limit is %d bytes; it must be positive", c.Dir, c.MaxBytes)
	case c.MemoryBytes < 0, c.MemoryMaxBlob < 0, c.ScrubBytesPerSecond < 0, c.ReserveFree < 0, c.OverflowBytes < 0:
		return c, fmt.Errorf("blob store %s: a size below zero was given", c.Dir)
	case c.LastCopyBonus < 0:
		return c, fmt.Errorf("blob store %s: the last-copy bonus is negative: %v", c.Dir, c.LastCopyBonus)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("blob store: %w", err)
	}
	c.Dir = dir
	if c.MemoryMaxBlob == 0 {
		c.MemoryMaxBlob = DefaultMemoryMaxBlob
	}
	if c.LastCopyBonus == 0 {
		c.LastCopyBonus = DefaultLastCopyBonus
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.fs == nil {
		c.fs = osFS{}
	}
	return c, nil
}

// Store is an open store. See the package comment for its locks.
type Store struct {
	cfg  Config
	fs   fsys
	log  *slog.Logger
	dirs dirs

	lock   *os.File
	closed atomic.Bool
	life   sync.RWMutex       // read-held by whatever changes the directory; Close waits for it
	work   sync.WaitGroup     // the background work
	ctx    context.Context    // the background work's; it ends with Close
	stop   context.CancelFunc // ends ctx

	index  index
	memory *memory
	pins   pins
	// heldBytes is how much of what is held is stored.
	heldBytes heldBytes
	marks     marks
	space     space
	ledger    ledger
	scan      *scan
	health    health

	partials partials
	overflow overflow
	watch    *stuckWatch

	evicting   sync.Mutex    // held during an eviction
	tempSeq    atomic.Uint64 // names temporary files; the lock makes them ours alone
	touched    chan proto.Digest
	noAtime    atomic.Bool  // O_NOATIME works here
	busyLogged atomic.Int64 // when busy last logged; Unix nanoseconds

	metrics *metrics
}

// dirs are the directories of a store.
type dirs struct{ root, blobs, only, partial, tmp string }

func dirsOf(root string) dirs {
	return dirs{
		root:    root,
		blobs:   filepath.Join(root, "blobs"),
		only:    filepath.Join(root, "only"),
		partial: filepath.Join(root, "partial"),
		tmp:     filepath.Join(root, "tmp"),
	}
}

const hexDigits = "0123456789abcdef"

// shard returns the directory of the blobs whose digest begins with b.
func (d dirs) shard(b byte) string {
	return d.blobs + "/" + string([]byte{hexDigits[b>>4], hexDigits[b&15]})
}

// blob returns the path of a blob.
func (d dirs) blob(digest proto.Digest) string {
	var name [4 + 2*len(digest)]byte
	hex.Encode(name[4:], digest[:])
	name[0], name[1], name[2], name[3] = '/', name[4], name[5], '/'
	return d.blobs + string(name[:])
}

// Open opens the store in cfg.Dir, creating it where there is none. It reads no
// blob and lists none: the store serves when Open returns, and gathers sizes and
// last uses in the background. A second process gets an error that names the
// first.
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:     cfg,
		fs:      cfg.fs,
		log:     cfg.Logger,
		dirs:    dirsOf(cfg.Dir),
		touched: make(chan proto.Digest, 1024),
		scan:    newScan(),
		watch:   newStuckWatch(cfg.Logger),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.noAtime.Store(true)
	s.space.max = cfg.MaxBytes
	s.overflow.max, s.overflow.blobs = cfg.OverflowBytes, make(map[proto.Digest]*overflowed)
	s.metrics = newMetrics(s)
	if err := os.MkdirAll(cfg.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("blob store: create its directory: %w", err)
	}
	if s.lock, err = durable.Lock(cfg.Dir); err != nil {
		s.stop()
		return nil, fmt.Errorf("blob store %s: %w", cfg.Dir, err)
	}
	if err := s.prepare(); err != nil {
		s.stop()
		s.lock.Close()
		return nil, fmt.Errorf("blob store %s: %w", cfg.Dir, err)
	}
	s.startWork()
	return s, nil
}

// prepare makes the directories, clears tmp, and reads how many bytes may be in
// use.
func (s *Store) prepare() (err error) {
	isNew, err := durable.Mkdirs(s.dirs.blobs)
	if err != nil {
		return err
	}
	other, err := durable.Mkdirs(s.dirs.only, s.dirs.partial, s.dirs.tmp)
	if err != nil {
		return err
	}
	if isNew || other {
		for _, dir := range []string{s.dirs.root, filepath.Dir(s.dirs.root)} {
			if err := s.fs.SyncDir("open.syncdir", dir); err != nil {
				return err
			}
		}
	}
	if err := s.makeShards(); err != nil {
		return err
	}
	if err := emptyDir(s.dirs.tmp); err != nil {
		return err
	}
	if err := s.adoptNotes(); err != nil {
		return err
	}
	if err := s.openMarks(); err != nil {
		return err
	}
	if err := s.openPartials(); err != nil {
		return err
	}
	if err := s.openLedger(isNew); err != nil {
		return err
	}
	s.memory, err = newMemory(s.cfg.MemoryBytes, s.cfg.MemoryMaxBlob)
	return err
}

// makeShards makes the directories that commits rename into, so that a commit
// need not. Looking at 256 of them costs less than a millisecond.
func (s *Store) makeShards() error {
	var names [256]string
	for b := range names {
		names[b] = s.dirs.shard(byte(b))
	}
	made, err := durable.Mkdirs(names[:]...)
	if err != nil || !made {
		return err
	}
	return s.fs.SyncDir("open.syncdir", s.dirs.blobs)
}

// emptyDir removes what a process that died left behind.
func emptyDir(dir string) error {
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// startWork starts what runs until Close.
func (s *Store) startWork() {
	s.work.Go(func() { s.keepLastUse(s.ctx) })
	s.work.Go(func() { s.watch.run(s.ctx) })
	s.work.Go(func() {
		s.runScan(s.ctx)
		s.runScrub(s.ctx)
	})
}

// Close ends the background work and lets another process open the directory.
// Blobs and readers handed out stay valid; writers still open can only be
// aborted. A second Close does nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.work.Wait()
	s.life.Lock()
	defer s.life.Unlock()
	s.memory.close()
	s.overflow.close()
	err := s.closeLedger()
	// Closing the file gives up the lock.
	if cerr := s.lock.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close blob store %s: %w", s.dirs.root, err)
	}
	return nil
}

// begin is called before the directory is changed, and end afterwards; Close
// comes between two of them.
func (s *Store) begin() error {
	s.life.RLock()
	if s.closed.Load() {
		s.life.RUnlock()
		return s.errClosed()
	}
	return nil
}

func (s *Store) end() { s.life.RUnlock() }

func (s *Store) errClosed() error {
	return fmt.Errorf("blob store %s: %w", s.dirs.root, fs.ErrClosed)
}
