package catalog

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// day is when the tests begin; bubbles sleep until then.
var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// memKeeper is a store without a disk.
type memKeeper struct {
	mu    sync.Mutex
	blobs map[proto.Digest][]byte
	pins  map[string][]proto.Digest
	full  bool
	onGet func(proto.Digest) // may wait
}

func newKeeper() *memKeeper {
	return &memKeeper{blobs: make(map[proto.Digest][]byte), pins: make(map[string][]proto.Digest)}
}

func (k *memKeeper) Get(d proto.Digest) (*proto.Blob, error) {
	k.mu.Lock()
	onGet := k.onGet
	k.mu.Unlock()
	if onGet != nil {
		onGet(d)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	b, ok := k.blobs[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &proto.Blob{Ref: proto.Ref{Digest: d, Size: int64(len(b))}, Tier: proto.TierMemory, Bytes: b}, nil
}

func (k *memKeeper) Put(_ string, b []byte, _ time.Time) (proto.Ref, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full {
		return proto.Ref{}, proto.ErrNoSpace
	}
	k.blobs[proto.DigestOf(b)] = b
	return refOfBytes(b), nil
}

func (k *memKeeper) Pin(owner string, digests []proto.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if delete(k.pins, owner); len(digests) > 0 {
		k.pins[owner] = digests
	}
}

func (k *memKeeper) pinned(d proto.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, digests := range k.pins {
		if slices.Contains(digests, d) {
			return true
		}
	}
	return false
}

// pinnedBy is how many blobs an owner has pinned.
func (k *memKeeper) pinnedBy(owner string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.pins[owner])
}

// evict drops all that is not pinned, as a store under pressure may.
func (k *memKeeper) evict() {
	k.mu.Lock()
	defer k.mu.Unlock()
	keep := make(map[proto.Digest]bool)
	for _, digests := range k.pins {
		for _, d := range digests {
			keep[d] = true
		}
	}
	maps.DeleteFunc(k.blobs, func(d proto.Digest, _ []byte) bool { return !keep[d] })
}

// memState keeps small files.
type memState struct {
	mu    sync.Mutex
	files map[string][]byte
	fail  error // of every write of a suite's state
	full  error // of every write of a table
	// onList is called before files are listed, as they are between a swap of the view and the end of a commit.
	onList func()
	// onWrite is called before a suite's state is written.
	onWrite func()
}

func (s *memState) WriteFile(name string, data []byte) error {
	s.mu.Lock()
	onWrite := s.onWrite
	s.mu.Unlock()
	if onWrite != nil && strings.HasPrefix(name, suiteDir) {
		onWrite()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil && strings.HasPrefix(name, suiteDir) {
		return s.fail
	}
	if s.full != nil && strings.HasPrefix(name, tableDir) {
		return s.full
	}
	s.files[name] = slices.Clone(data)
	return nil
}

func (s *memState) ReadFile(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(b), nil
}

func (s *memState) RemoveFile(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
	return nil
}

func (s *memState) ListFiles(prefix string) ([]string, error) {
	s.mu.Lock()
	onList := s.onList
	s.mu.Unlock()
	if onList != nil {
		onList()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.files {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// copyState is what a power cut leaves.
func (s *memState) copyState() *memState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &memState{files: maps.Clone(s.files)}
}

// upstream serves archives without a network. A fault, where set, is asked first:
// it may wait, and its error is the answer.
type fakeUpstream struct {
	mu       sync.Mutex
	archives map[string]*testarchive.Archive
	prefix   string // of all paths in the archive, as for a PPA
	fault    func(ctx context.Context, path string) error
	asked    map[string]int
	served   map[string]int // answers with a body
	mirrors  []*fakeMirror  // in the order of preference; none where the archives are read themselves
	blamed   []string       // the mirrors, as often as they were
	// noETag and noModified are servers that give no such validator; laxClock one that takes anything not newer than
	// the date asked about for unchanged.
	noETag, noModified, laxClock bool
	// base is where redirects lead to (Transfer.Base).
	base string
}

func (u *fakeUpstream) Fetch(ctx context.Context, r proto.Request) (*proto.Transfer, error) {
	u.mu.Lock()
	a, fault := u.archives[r.Loc.Archive], u.fault
	u.asked[r.Loc.Path]++
	u.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, r.Loc.Path); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, ok := strings.CutPrefix(r.Loc.Path, u.prefix)
	f, found := a.Lookup(path)
	if len(u.mirrors) > 0 {
		var err error
		if f, err = u.fromMirror(ctx, r); err != nil {
			return nil, err
		}
		ok, found = true, true
	}
	if !ok || !found {
		return nil, fmt.Errorf("GET %s: %w", r.Loc, proto.ErrNotFound)
	}
	etag := fmt.Sprintf("%q", testarchive.Sum(testarchive.MD5Sum, f.Data))
	t := &proto.Transfer{Size: int64(len(f.Data)), Modified: f.Modified, ETag: etag, Tier: proto.TierUpstream, Base: u.base}
	u.mu.Lock()
	lax := u.laxClock && r.IfNoneMatch == "" && !r.IfModifiedSince.IsZero() && !f.Modified.After(r.IfModifiedSince)
	if u.noETag {
		etag, t.ETag = "none", ""
	}
	if u.noModified {
		t.Modified = time.Time{}
	}
	u.mu.Unlock()
	if lax || r.IfNoneMatch == etag || r.IfNoneMatch == "" && !r.IfModifiedSince.IsZero() && r.IfModifiedSince.Equal(f.Modified) {
		t.NotModified = true
		return t, nil
	}
	u.mu.Lock()
	u.served[r.Loc.Path]++
	if m := u.named(r.Mirror); m != nil {
		m.bodies[r.Loc.Path]++
	}
	u.mu.Unlock()
	t.Body = io.NopCloser(bytes.NewReader(f.Data))
	return t, nil
}

func (u *fakeUpstream) setFault(f func(ctx context.Context, path string) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fault = f
}

// failing answers every path of the pattern's prefix or suffix with err.
func (u *fakeUpstream) failing(match string, err error) {
	u.setFault(func(_ context.Context, path string) error {
		if strings.Contains(path, match) {
			return err
		}
		return nil
	})
}

// stalling lets requests for such a path wait until the context ends.
func (u *fakeUpstream) stalling(match string) {
	u.setFault(func(ctx context.Context, path string) error {
		if strings.Contains(path, match) {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
}

func (u *fakeUpstream) requests(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[path]
}

func (u *fakeUpstream) bodies(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.served[path]
}

func (u *fakeUpstream) bodiesByPath() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.served)
}

func (u *fakeUpstream) total() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for _, k := range u.asked {
		n += k
	}
	return n
}

func (u *fakeUpstream) reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.asked)
	clear(u.served)
}

// fakeBlobs proves what it fetches, as the real fetcher does.
type fakeBlobs struct {
	up     *fakeUpstream
	keeper *memKeeper
	mu     sync.Mutex
	strong map[proto.SHA512]proto.Digest
	opens  int
}

func (f *fakeBlobs) Open(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	f.mu.Lock()
	f.opens++
	digest := object.Ref.Digest
	if digest.IsZero() {
		digest = f.strong[object.SHA512]
	}
	f.mu.Unlock()
	if b, err := f.keeper.Get(digest); err == nil {
		b.Verified = object.Provable()
		return b, nil
	}
	var failures []error
	for loc := range object.Where.All() {
		t, err := f.up.Fetch(ctx, proto.Request{Loc: loc, Class: object.Class})
		if err != nil {
			failures = append(failures, err)
			continue
		}
		data, _ := io.ReadAll(t.Body)
		switch {
		case !object.Ref.IsZero() && proto.DigestOf(data) != object.Ref.Digest,
			object.Ref.IsZero() && object.Provable() && sha512.Sum512(data) != object.SHA512:
			failures = append(failures, fmt.Errorf("%w: %s", proto.ErrCorrupt, loc))
			continue
		}
		if object.Provable() {
			if _, err := f.keeper.Put("", data, t.Modified); err == nil {
				f.mu.Lock()
				f.strong[sha512.Sum512(data)] = proto.DigestOf(data)
				f.mu.Unlock()
			}
		}
		return &proto.Blob{Ref: proto.Ref{Digest: object.Ref.Digest, Size: int64(len(data))}, Verified: object.Provable(),
			Tier: proto.TierUpstream, Stream: io.NopCloser(bytes.NewReader(data))}, nil
	}
	for _, err := range failures {
		if !errors.Is(err, proto.ErrNotFound) {
			return nil, err
		}
	}
	return nil, failures[0]
}

func sha512Of(b []byte) proto.SHA512 { return sha512.Sum512(b) }
