package offline

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/proto"
)

// Frozen answers for an archive as it was; see catalog.Frozen.
type Frozen interface {
	Means(proto.Location) (object proto.ObjectRequest, index bool, err error)
	ReadIndex(ctx context.Context, loc proto.Location) error
	Close()
}

// Writer takes one blob; see blobstore.Writer.
type Writer interface {
	io.Writer
	Sum() proto.Ref
	Only(archive string)
	Commit(modified time.Time) (proto.Ref, error)
	Abort()
}

// Config is what an Intake needs. All fields must be set.
type Config struct {
	// Freeze verifies the roots of suites, whose files are given by digest; see catalog.FreezeGiven.
	Freeze func(archive string, at time.Time, suites []proto.Captured, given map[proto.Digest][]byte) (Frozen, error)
	// Has reports whether an archive is configured, Restricted whether only some clients may read it.
	Has, Restricted func(archive string) bool
	// Stored reports whether this node has an object for clients of its archive.
	Stored func(proto.ObjectRequest) bool
	// Create begins a blob of a size.
	Create func(size int64) (Writer, error)
	// Pin keeps a set of blobs from being evicted, in place of the owner's set before.
	Pin func(owner string, digests []proto.Digest)
	// Room is how many bytes may be held at most, and how many are.
	Room func() (limit, pinned int64)
	// Keep names a snapshot, and keeps packages of it from being evicted.
	Keep func(ctx context.Context, name, by string, record []byte, packages []proto.Digest) (*snapshot.Snapshot, error)
	Now  func() time.Time
}

// Intake takes in snapshots from outside of the cluster. Safe for concurrent use.
type Intake struct {
	cfg Config

	mu   sync.Mutex
	open map[proto.Digest]*session // by record; guarded by mu
}

// session is a snapshot that is being taken in.
type session struct {
	text    []byte
	record  *snapshot.Record
	frozen  map[string]Frozen // by archive
	expires *time.Timer
	used    time.Time // when its last file came; guarded by Intake.mu

	mu      sync.Mutex // guards what follows
	kept    map[proto.Digest]bool
	lacking map[proto.Digest]int64 // what was lacking when it was named, with its size in bytes
}

// idleAfter is how long a snapshot that is being taken in waits for its next file.
const idleAfter = 30 * time.Minute

// maxSessions bounds how many snapshots are taken in at one time: each takes the memory of its parsed roots.
const maxSessions = 4

// ErrRefused is in what Begin, Lacking, Put and Finish fail with where the bundle is at fault or may not be taken in: trying again
// does not help.
var ErrRefused = errors.New("refused")

// refused makes an error of a sentence, and ErrRefused.
func refused(format string, args ...any) error { return &refusal{fmt.Errorf(format, args...)} }

type refusal struct{ error }

func (r *refusal) Unwrap() []error { return []error{ErrRefused, r.error} }

// NewIntake returns an Intake. Close ends it.
func NewIntake(cfg Config) *Intake { return &Intake{cfg: cfg, open: make(map[proto.Digest]*session)} }

// Close ends what is being taken in.
func (i *Intake) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id := range i.open {
		i.drop(id)
	}
}

// drop ends a session. The caller holds mu.
func (i *Intake) drop(id proto.Digest) {
	s := i.open[id]
	if s == nil {
		return
	}
	delete(i.open, id)
	s.expires.Stop()
	for _, f := range s.frozen {
		f.Close()
	}
	i.cfg.Pin(owner(id), nil)
}

func owner(id proto.Digest) string { return "import " + id.String() }

// maxAhead is how far the clock of the node that took a snapshot may be ahead of ours.
const maxAhead = 24 * time.Hour

// Begin verifies the root files of a snapshot, given by digest, and stores them. From then on, Lacking and Put take files
// for the record. It fails with ErrRefused where the record makes no sense, or an archive is not configured or not
// trusted here.
func (i *Intake) Begin(ctx context.Context, text []byte, roots map[proto.Digest][]byte) (id proto.Digest, err error) {
	id = proto.DigestOf(text)
	r, err := snapshot.Decode(text)
	if err != nil {
		return id, refused("%w", err)
	}
	if ahead := r.Taken.Sub(i.cfg.Now()); ahead > maxAhead {
		return id, refused("the snapshot was taken %s from now, by the clock of this machine: set the clock", ahead.Round(time.Minute))
	}
	s := &session{text: bytes.Clone(text), record: r, frozen: make(map[string]Frozen), kept: make(map[proto.Digest]bool), lacking: make(map[proto.Digest]int64)}
	closeAll := func() {
		for _, f := range s.frozen {
			f.Close()
		}
	}
	for _, a := range r.Archives {
		if !i.cfg.Has(a.Name) {
			closeAll()
			return id, refused("the archive %s is not configured here: add it to `archives:`, with the keys that sign it", a.Name)
		}
		f, err := i.cfg.Freeze(a.Name, r.Taken, a.Suites, roots)
		if err != nil {
			closeAll()
			return id, refused("the archive %s is not trusted here as the bundle has it: %w", a.Name, err)
		}
		s.frozen[a.Name] = f
	}
	for _, a := range r.Archives {
		for _, captured := range a.Suites {
			if err := i.storeRoot(ctx, s, &captured, roots); err != nil {
				closeAll()
				return id, err
			}
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drop(id)
	if len(i.open) >= maxSessions && !i.dropIdle() {
		closeAll()
		return id, fmt.Errorf("%d snapshots are being imported already; wait until one of them is done", maxSessions)
	}
	s.expires = time.AfterFunc(idleAfter, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.open[id] == s {
			i.drop(id)
		}
	})
	i.open[id], s.used = s, i.cfg.Now()
	i.pin(id, s)
	return id, nil
}

// idleSoon is after how long without a file a session makes room for another one.
const idleSoon = time.Minute

// dropIdle drops the session that has waited longest, if it has waited for long. The caller holds mu.
func (i *Intake) dropIdle() bool {
	var oldest proto.Digest
	for id, s := range i.open {
		if oldest.IsZero() || s.used.Before(i.open[oldest].used) {
			oldest = id
		}
	}
	if i.cfg.Now().Sub(i.open[oldest].used) < idleSoon {
		return false
	}
	i.drop(oldest)
	return true
}

// end drops a session whose bundle was refused, and passes the error on.
func (i *Intake) end(id proto.Digest, err error) error {
	if errors.Is(err, ErrRefused) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.drop(id)
	}
	return err
}

// fits refuses a snapshot that can never be kept.
func (i *Intake) fits(s *session) error {
	var need int64
	s.mu.Lock()
	for _, size := range s.lacking {
		need += max(size, 0)
	}
	s.mu.Unlock()
	limit, pinned := i.cfg.Room()
	if need <= limit-pinned {
		return nil
	}
	return refused("it does not fit: %s of the bundle are not here yet, and of the %s that may be held (snapshots.max_pinned of cache.max_size) %s are: raise one of the two, or remove snapshots",
		humanize.IBytes(uint64(need)), humanize.IBytes(uint64(limit)), humanize.IBytes(uint64(pinned)))
}

// storeRoot stores the files of a verified root, and reads it where it lists files itself.
func (i *Intake) storeRoot(ctx context.Context, s *session, c *proto.Captured, roots map[proto.Digest][]byte) error {
	files := []proto.Companion{{Name: c.RootName, Ref: c.Root, Modified: c.Modified}}
	for _, companion := range c.Companions {
		if companion.Known() {
			files = append(files, companion)
		}
	}
	for _, f := range files {
		if err := i.store(c.Suite.Archive, f.Ref, f.Modified, bytes.NewReader(roots[f.Ref.Digest]), nil); err != nil {
			return fmt.Errorf("store %s: %w", c.Suite.At(f.Name), err)
		}
	}
	err := s.frozen[c.Suite.Archive].ReadIndex(ctx, c.Suite.At(c.RootName))
	if err != nil && !errors.Is(err, proto.ErrNotFound) {
		return fmt.Errorf("read %s: %w", c.Suite.At(c.RootName), err)
	}
	return nil
}

// store writes a blob that must turn out to be ref. right, if not nil, says at the end whether it is.
func (i *Intake) store(archive string, ref proto.Ref, modified time.Time, body io.Reader, right func() bool) error {
	w, err := i.cfg.Create(ref.Size)
	if err != nil {
		return err
	}
	defer w.Abort()
	if i.cfg.Restricted(archive) {
		w.Only(archive)
	}
	n, err := io.Copy(w, io.LimitReader(body, ref.Size+1))
	switch {
	case err != nil:
		return err
	case n < ref.Size:
		return fmt.Errorf("%w: it ends after %d of %d bytes", proto.ErrCorrupt, n, ref.Size)
	case w.Sum() != ref || right != nil && !right():
		return fmt.Errorf("%w: its bytes are not those that are listed", proto.ErrCorrupt)
	}
	_, err = w.Commit(modified)
	return err
}

// session returns that of a record.
func (i *Intake) session(id proto.Digest) (*session, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.open[id]
	if s == nil {
		return nil, errors.New("the node has forgotten what was imported, because it was started again or nothing came for half an hour: import the bundle again; what is stored need not be sent again")
	}
	s.expires.Reset(idleAfter)
	s.used = i.cfg.Now()
	return s, nil
}

// pin keeps what is there so far.
func (i *Intake) pin(id proto.Digest, s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range s.record.Blobs() {
		s.kept[ref.Digest] = true
	}
	i.cfg.Pin(owner(id), slices.Collect(maps.Keys(s.kept)))
}

// Named is a file as a bundle calls it.
type Named struct {
	Location proto.Location
	Ref      proto.Ref
}

// Lacking says which of files this node does not have, by their places among named, and keeps those that it has. Indexes
// that it has are read. It fails with ErrRefused where no signed index lists one of them, or lists another content, or
// where what is lacking so far does not fit.
func (i *Intake) Lacking(ctx context.Context, id proto.Digest, named []Named) (lacking []int, err error) {
	s, err := i.session(id)
	if err != nil {
		return nil, err
	}
	var kept []proto.Digest
	for n, file := range named {
		object, index, err := s.means(&file)
		if err != nil {
			return nil, i.end(id, err)
		}
		if !i.cfg.Stored(object) {
			lacking = append(lacking, n)
			s.lack(file.Ref)
		} else if index {
			if err := s.frozen[file.Location.Archive].ReadIndex(ctx, file.Location); err != nil {
				return nil, fmt.Errorf("read %s: %w", file.Location, err)
			}
		}
		kept = append(kept, file.Ref.Digest)
	}
	s.mu.Lock()
	for _, d := range kept {
		s.kept[d] = true
	}
	s.mu.Unlock()
	i.pin(id, s)
	return lacking, i.end(id, i.fits(s))
}

func (s *session) lack(ref proto.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lacking[ref.Digest] = ref.Size
}

func (s *session) has(ref proto.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lacking, ref.Digest)
}

// means is the object of a file, if it is listed with the content that the bundle has.
func (s *session) means(file *Named) (object proto.ObjectRequest, index bool, err error) {
	f := s.frozen[file.Location.Archive]
	if f == nil {
		return object, false, refused("the bundle has %s, whose archive is none of the snapshot", file.Location)
	}
	object, index, err = f.Means(file.Location)
	switch {
	case errors.Is(err, proto.ErrNotFound):
		return object, false, refused("the bundle has %s, which no signed index of the snapshot lists", file.Location)
	case err != nil:
		return object, false, err
	case object.Ref.IsZero(): // it is listed by its SHA-512 alone
		object.Ref.Size = file.Ref.Size
		return object, index, nil
	}
	for ref := range object.Contents() {
		switch {
		case ref.Digest != file.Ref.Digest:
		case ref.Size >= 0 && ref.Size != file.Ref.Size:
			return object, false, refused("the bundle has %s in %d bytes, and the signed indexes list %d", file.Location, file.Ref.Size, ref.Size)
		default:
			object.Ref, object.Others = file.Ref, nil
			return object, index, nil
		}
	}
	return object, false, refused("the bundle has %s as SHA-256 %s, and the signed indexes list it as %s", file.Location, file.Ref.Digest, object.Ref.Digest)
}

// Put takes in the bytes of a file. It fails with proto.ErrCorrupt where they are not those that are listed, and as
// Lacking does.
func (i *Intake) Put(ctx context.Context, id proto.Digest, file Named, body io.Reader) error {
	s, err := i.session(id)
	if err != nil {
		return err
	}
	object, index, err := s.means(&file)
	if err != nil {
		return i.end(id, err)
	}
	if object.Ref.Digest.IsZero() {
		return i.putStrong(&object, &file, body)
	}
	if err := i.store(file.Location.Archive, file.Ref, time.Time{}, body, nil); err != nil {
		return fmt.Errorf("%s: %w", file.Location, err)
	}
	s.has(file.Ref)
	if index {
		if err := s.frozen[file.Location.Archive].ReadIndex(ctx, file.Location); err != nil {
			return fmt.Errorf("read %s: %w", file.Location, err)
		}
	}
	return nil
}

// putStrong is Put for a file that is listed by its SHA-512 alone.
func (i *Intake) putStrong(object *proto.ObjectRequest, file *Named, body io.Reader) error {
	sum := sha512.New()
	right := func() bool { return proto.SHA512(sum.Sum(nil)) == object.SHA512 }
	if err := i.store(file.Location.Archive, file.Ref, time.Time{}, io.TeeReader(body, sum), right); err != nil {
		return fmt.Errorf("%s: %w", file.Location, err)
	}
	return nil
}

// Finish gives the snapshot a name on this node, and through it in the cluster.
func (i *Intake) Finish(ctx context.Context, id proto.Digest, name, by string) (*snapshot.Snapshot, error) {
	s, err := i.session(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	packages := slices.Collect(maps.Keys(s.kept))
	s.mu.Unlock()
	taken, err := i.cfg.Keep(ctx, name, by, s.text, packages)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open[id] == s {
		i.drop(id)
	}
	return taken, nil
}
