package peerfetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// memStore is a Store of files in a test directory. room bounds what it takes.
type memStore struct {
	dir string

	mu     sync.Mutex
	blobs  map[proto.Digest]string
	only   map[proto.Digest][]string
	left   map[string]*memWriter // parked, by digest and scope
	room   int64
	refuse bool // Create fails
}

func newMemStore(t testing.TB) *memStore {
	return &memStore{dir: t.TempDir(), blobs: make(map[proto.Digest]string), only: make(map[proto.Digest][]string), room: 1 << 40}
}

func (s *memStore) Get(d proto.Digest) (*proto.Blob, error) {
	s.mu.Lock()
	name, ok := s.blobs[d]
	s.mu.Unlock()
	if !ok {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &proto.Blob{Ref: proto.Ref{Digest: d, Size: info.Size()}, Tier: proto.TierDisk, File: f, Modified: info.ModTime()}, nil
}

func (s *memStore) Create(int64) (Writer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse {
		return nil, proto.ErrNoSpace
	}
	f, err := os.CreateTemp(s.dir, "tmp")
	if err != nil {
		return nil, err
	}
	return &memWriter{s: s, f: f, hash: sha256.New()}, nil
}

func (s *memStore) Unreadable(d proto.Digest, _ *os.File, _ error) { s.remove(d) }

func (s *memStore) Only(d proto.Digest) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.only[d]
}

func (s *memStore) has(d proto.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blobs[d]
	return ok
}

func (s *memStore) remove(d proto.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, d)
}

func (s *memStore) Resume(ref proto.Ref, scope string) (Writer, error) {
	name := ref.String() + scope
	s.mu.Lock()
	w := s.left[name]
	delete(s.left, name)
	s.mu.Unlock()
	if w == nil {
		w, err := s.Create(ref.Size)
		if err != nil {
			return nil, err
		}
		w.(*memWriter).name = name
		return w, nil
	}
	return &memWriter{s: s, name: name, f: w.f, hash: sha256.New(), back: w.size}, nil
}

// memPiece is how many bytes one TakeBack reads.
const memPiece = 100_000

func (w *memWriter) TakeBack() (int64, bool) {
	n := min(w.back, memPiece)
	if _, err := io.Copy(w.hash, io.NewSectionReader(w.f, w.size, n)); err != nil {
		panic(err)
	}
	w.size += n
	w.back -= n
	return w.size, w.back > 0
}

func (s *memStore) PartialSize(ref proto.Ref, from string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.left[ref.String()+from]; w != nil {
		return w.size
	}
	return 0
}

func (w *memWriter) Park() {
	if w.done || w.name == "" {
		w.Abort()
		return
	}
	w.done = true
	w.size += w.back
	w.s.mu.Lock()
	if w.s.left == nil {
		w.s.left = make(map[string]*memWriter)
	}
	w.s.left[w.name] = &memWriter{f: w.f, size: w.size}
	w.s.mu.Unlock()
}

type memWriter struct {
	name string
	back int64
	s    *memStore
	f    *os.File
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	size int64
	only string
	done bool
}

func (w *memWriter) Only(archive string) { w.only = archive }

func (w *memWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	n := int(min(int64(len(p)), w.s.room))
	w.s.room -= int64(n)
	w.s.mu.Unlock()
	if _, err := w.f.Write(p[:n]); err != nil {
		return 0, err
	}
	w.hash.Write(p[:n])
	w.size += int64(n)
	if n < len(p) {
		return n, fmt.Errorf("disk full: %w", proto.ErrNoSpace)
	}
	return n, nil
}

func (w *memWriter) Sum() proto.Ref {
	return proto.Ref{Digest: proto.Digest(w.hash.Sum(nil)), Size: w.size}
}

func (w *memWriter) Reader() (*os.File, error) { return os.Open(w.f.Name()) }

func (w *memWriter) Commit(modified time.Time) (proto.Ref, error) {
	ref := w.Sum()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.done = true
	switch _, before := w.s.blobs[ref.Digest]; {
	case w.only == "":
		delete(w.s.only, ref.Digest)
	case !before || w.s.only[ref.Digest] != nil:
		w.s.only[ref.Digest] = append(w.s.only[ref.Digest], w.only)
	}
	w.s.blobs[ref.Digest] = w.f.Name()
	if !modified.IsZero() {
		os.Chtimes(w.f.Name(), modified, modified)
	}
	return ref, w.f.Close()
}

func (w *memWriter) Abort() {
	if !w.done {
		w.done = true
		w.f.Close()
		os.Remove(w.f.Name())
	}
}

// answer is what a scripted upstream does with one request.
type answer struct {
	err      error
	body     io.Reader
	size     int64 // 0 = length of content
	offset   int64 // of the body; -1: ignore the request's
	etag     string
	modified time.Time
	same     bool // 304
	from     string
	after    time.Duration                // it takes that long to answer
	with     func(context.Context) answer // what it answers in place of this, where that needs the context
}

// upstream is a Source under a test's control: it answers request i with
// script(i, request).
type upstream struct {
	mu       sync.Mutex
	requests []proto.Request
	script   func(i int, r proto.Request) answer
	mirrors  []string
	blamed   []string // each: the mirrors of one Blame, separated by spaces
	hears    func(loc proto.Location, blamed []string)
}

func (u *upstream) Mirrors(string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.mirrors)
}

func (u *upstream) Blame(loc proto.Location, from []string, _ error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blamed = append(u.blamed, strings.Join(from, " "))
	if u.hears != nil {
		u.hears(loc, from)
	}
}

func (u *upstream) blames() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.blamed)
}

func (u *upstream) Fetch(ctx context.Context, r proto.Request) (*proto.Transfer, error) {
	u.mu.Lock()
	i := len(u.requests)
	u.requests = append(u.requests, r)
	script := u.script
	u.mu.Unlock()
	a := script(i, r)
	if a.after > 0 {
		if err := sleep(ctx, a.after); err != nil {
			return nil, err
		}
	}
	if a.with != nil {
		a = a.with(ctx)
	}
	if a.err != nil {
		return nil, a.err
	}
	t := &proto.Transfer{Size: a.size, Offset: a.offset, ETag: a.etag, Modified: a.modified, Tier: proto.TierUpstream, NotModified: a.same, From: a.from}
	if !a.same {
		t.Body = &ctxBody{ctx, a.body, a.size - a.offset}
	}
	return t, nil
}

// heal has it answer with another script from now on.
func (u *upstream) heal(script func(int, proto.Request) answer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.script = script
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

func (u *upstream) request(i int) proto.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[i]
}

// ctxBody ends with its context and not before its length, as a body of net/http does.
type ctxBody struct {
	ctx  context.Context
	r    io.Reader
	left int64 // negative: the length is not known
}

func (b *ctxBody) Read(p []byte) (int, error) {
	switch {
	case b.ctx.Err() != nil:
		return 0, b.ctx.Err()
	case b.left == 0:
		return 0, io.EOF
	case b.left > 0:
		p = p[:min(int64(len(p)), b.left)]
	}
	var n int
	var err error
	if g, ok := b.r.(*gated); ok {
		n, err = g.readCtx(b.ctx, p)
	} else {
		n, err = b.r.Read(p)
	}
	if b.left > 0 {
		b.left -= int64(n)
		if err == io.EOF && b.left > 0 {
			err = errBroken
		}
	}
	return n, err
}

func (b *ctxBody) Close() error {
	if c, ok := b.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// gated yields its bytes as the test lets them go.
type gated struct {
	mu      sync.Mutex
	rest    []byte
	allowed int
	end     error // after the bytes; nil = io.EOF
	wake    chan struct{}
}

func newGated(b []byte) *gated { return &gated{rest: b, wake: make(chan struct{})} }

func (g *gated) allow(n int) {
	g.mu.Lock()
	g.allowed += n
	close(g.wake)
	g.wake = make(chan struct{})
	g.mu.Unlock()
}

func (g *gated) readCtx(ctx context.Context, p []byte) (int, error) {
	for {
		g.mu.Lock()
		if len(g.rest) == 0 {
			g.mu.Unlock()
			if g.end != nil {
				return 0, g.end
			}
			return 0, io.EOF
		}
		if n := min(len(p), g.allowed, len(g.rest)); n > 0 {
			copy(p, g.rest[:n])
			g.rest, g.allowed = g.rest[n:], g.allowed-n
			g.mu.Unlock()
			return n, nil
		}
		wake := g.wake
		g.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (g *gated) Read(p []byte) (int, error) { return g.readCtx(context.Background(), p) }

// serve answers every request well, from its offset.
func serve(content []byte) func(int, proto.Request) answer {
	return func(_ int, r proto.Request) answer {
		return answer{body: bytes.NewReader(content[r.Offset:]), size: int64(len(content)), offset: r.Offset}
	}
}

// breakOff yields b and then err.
func breakOff(b []byte, err error) io.Reader {
	return io.MultiReader(bytes.NewReader(b), &failing{err})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func wantOf(content []byte, paths ...string) proto.ObjectRequest {
	w := proto.ObjectRequest{Ref: proto.Ref{Digest: proto.DigestOf(content), Size: int64(len(content))}, Class: proto.ClassPackage}
	var locs []proto.Location
	for _, p := range append(paths, "pool/x.deb")[:max(len(paths), 1)] {
		locs = append(locs, proto.Location{Archive: "a", Path: p})
	}
	w.Where = proto.WhereOf(locs)
	return w
}

type world struct {
	*Fetcher
	store *memStore
	up    *upstream
}

func newWorld(t testing.TB, script func(int, proto.Request) answer, change ...func(*Config)) *world {
	w := &world{store: newMemStore(t), up: &upstream{script: script}}
	cfg := Config{Store: w.store, Upstream: w.up, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	w.Fetcher = New(cfg)
	t.Cleanup(w.Close)
	return w
}

// mustRead opens and reads the whole object.
func (w *world) mustRead(t *testing.T, object proto.ObjectRequest) []byte {
	t.Helper()
	b, err := w.read(object)
	if err != nil {
		t.Fatalf("read %v: %v", object.Where.First, err)
	}
	return b
}

func (w *world) read(object proto.ObjectRequest) ([]byte, error) {
	blob, err := w.Open(context.Background(), object)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob.Reader())
}

// settled waits until no flight is under way.
func (w *world) settled(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for len(w.Flights()) > 0 {
		if time.Now().After(deadline) {
			t.Fatal("a flight does not end")
		}
		time.Sleep(time.Millisecond)
	}
}

// checkStore proves that nothing wrong has been kept.
func (w *world) checkStore(t *testing.T) {
	t.Helper()
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for d, name := range w.store.blobs {
		b, err := os.ReadFile(name)
		if err != nil || proto.DigestOf(b) != d {
			t.Errorf("the store holds %s under %s (%v)", proto.DigestOf(b).Short(), d.Short(), err)
		}
	}
}

var errBroken = &proto.Unavailable{Reason: "connection reset", Err: errors.New("test")}

// toldByUpstream reports whether err is something that upstream said or did.
func toldByUpstream(err error) bool {
	return errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrCorrupt) ||
		errors.As(err, new(*proto.Refused)) || errors.As(err, new(*proto.Rejected)) || errors.As(err, new(*proto.Unavailable))
}
