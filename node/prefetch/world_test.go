package prefetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// world is the rest of a node, as far as a Prefetcher knows it: objects that can be
// opened, a store that has some of them, and state files. Its archive is a real
// Packages text.
type world struct {
	t testing.TB

	mu           sync.Mutex
	files        map[string][]byte
	indices      map[proto.Digest][]byte
	held         map[proto.Digest]bool
	opened       []string // paths of packages, in the order of Open
	fetched      int64    // bytes handed out of packages that were not held
	running      int
	most         int                                                         // of running
	open         func(ctx context.Context, object proto.ObjectRequest) error // nil: every object can be had
	body         func(object proto.ObjectRequest, body io.Reader) io.Reader  // nil: as it is
	keepsNothing bool                                                        // a store without room
	failing      error                                                       // of WriteFile
}

func newWorld(t testing.TB) *world {
	return &world{t: t, files: map[string][]byte{}, indices: map[proto.Digest][]byte{}, held: map[proto.Digest]bool{}}
}

func (w *world) WriteFile(name string, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing != nil {
		return w.failing
	}
	w.files[name] = bytes.Clone(data)
	return nil
}

func (w *world) ReadFile(name string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if data, ok := w.files[name]; ok {
		return bytes.Clone(data), nil
	}
	return nil, fs.ErrNotExist
}

func (w *world) Stored(object proto.ObjectRequest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held[object.Ref.Digest]
}

// Open gives an index as the store has it, and a package as a flight does.
func (w *world) Open(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	w.mu.Lock()
	index, isIndex := w.indices[object.Ref.Digest]
	held := w.held[object.Ref.Digest]
	open, body := w.open, w.body
	if !isIndex {
		if object.Class != proto.ClassPrefetch {
			w.t.Errorf("%s is asked for as %s", object.Where.First, object.Class)
		}
		w.opened = append(w.opened, object.Where.First.Path)
	}
	w.mu.Unlock()
	if open != nil {
		if err := open(ctx, object); err != nil {
			return nil, err
		}
	}
	switch {
	case isIndex && held:
		return &proto.Blob{Ref: object.Ref, Verified: true, Tier: proto.TierDisk, Bytes: index}, nil
	case isIndex:
		return &proto.Blob{Ref: object.Ref, Tier: proto.TierPeer, Stream: &stream{w: w, ctx: ctx, object: object, r: bytes.NewReader(index)}}, nil
	case held:
		return &proto.Blob{Ref: object.Ref, Verified: true, Tier: proto.TierMemory, Bytes: []byte{}}, nil
	}
	var r io.Reader = io.LimitReader(zeros{}, object.Ref.Size)
	if body != nil {
		r = body(object, r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running++
	w.most = max(w.most, w.running)
	return &proto.Blob{Ref: object.Ref, Verified: true, Tier: proto.TierUpstream, Stream: &stream{w: w, ctx: ctx, object: object, r: r, counted: true}}, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// stream is a body on its way: its object is held once it was read to the end.
type stream struct {
	w       *world
	ctx     context.Context
	object  proto.ObjectRequest
	r       io.Reader
	counted bool
}

func (s *stream) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.counted {
		s.w.fetched += int64(n)
	}
	if err == io.EOF && !s.w.keepsNothing {
		s.w.held[s.object.Ref.Digest] = true
	}
	return n, err
}

func (s *stream) Close() error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.counted {
		s.w.running--
		s.counted = false
	}
	return nil
}

var keyless = deb.New(deb.Config{})

func debian(string) Format { return keyless }

// prefetcher opens one; it is closed with the test.
func (w *world) prefetcher(change ...func(*Config)) *Prefetcher {
	w.t.Helper()
	cfg := Config{Formats: debian, Open: w.Open, Stored: w.Stored, State: w, Logger: slog.New(slog.DiscardHandler), Settings: Settings{Enabled: true, MaxBytes: 2 << 30, UsedWithin: 14 * 24 * time.Hour}}
	for _, c := range change {
		c(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := p.Close(); err != nil && w.failing == nil {
			w.t.Error(err)
		}
	})
	return p
}

// stanza writes what an index says of a package. The pool is flat.
func stanza(name, version, arch, depends string, size int64) string {
	path := pool(name, version, arch)
	s := fmt.Sprintf("Package: %s\nArchitecture: %s\nVersion: %s\n", name, arch, version)
	if depends != "" {
		s += "Depends: " + depends + "\n"
	}
	return s + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %s\nDescription: of no use\n\n", path, size, proto.DigestOf([]byte(path)))
}

func pool(name, version, arch string) string {
	return fmt.Sprintf("pool/main/%c/%s_%s_%s.deb", name[0], name, strings.ReplaceAll(version, ":", "%3a"), arch)
}

func loc(path string) proto.Location { return proto.Location{Archive: "ubuntu", Path: path} }

// index puts a held index of stanzas into the world.
func (w *world) index(path, text string) proto.PackageIndex {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		w.t.Fatal(err)
	}
	return w.rawIndex(path+".gz", b.Bytes())
}

func (w *world) rawIndex(path string, data []byte) proto.PackageIndex {
	ref := proto.Ref{Digest: proto.DigestOf(data), Size: int64(len(data))}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.indices[ref.Digest], w.held[ref.Digest] = data, true
	member := path // below its suite, which is two directories deep here, or none
	if rest, ok := strings.CutPrefix(path, "dists/"); ok {
		_, member, _ = strings.Cut(rest, "/")
	}
	return proto.PackageIndex{Member: &proto.Member{Path: member, PlainSize: proto.UnknownSize}, Object: proto.ObjectRequest{Ref: ref, Where: proto.At(loc(path)), Class: proto.ClassMetadata}}
}

// all is a New that says yes, new one that knows some paths.
func all(string) bool { return true }

func onlyNew(paths ...string) func(string) bool {
	set := make(map[string]bool)
	for _, path := range paths {
		set[path] = true
	}
	return func(path string) bool { return set[path] }
}

var updates = proto.Suite{Archive: "ubuntu", Dir: "dists/noble-updates"}

const amd64 = "dists/noble-updates/main/binary-amd64/Packages"

// switch is one of a suite with one index.
func (w *world) switched(text string, isNew func(string) bool) proto.Switch {
	return proto.Switch{Suite: updates, Date: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Indexes: []proto.PackageIndex{w.index(amd64, text)}, New: isNew}
}

// inBubble runs a test with a clock of its own, in which settled knows when nothing
// moves any more.
func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// settled waits until everything in the bubble waits, and holds that no job runs.
func settled(t testing.TB, p *Prefetcher) Stats {
	t.Helper()
	synctest.Wait()
	s := p.Stats()
	for _, f := range s.Switches {
		if f.Ended.IsZero() || f.Objects[Waiting] != 0 {
			t.Fatalf("a job does not end: %+v", f)
		}
	}
	if len(p.jobs) != 0 || len(p.underWay) != 0 || len(p.fetching) != 0 || len(p.reading) != 0 {
		t.Fatalf("left behind: %d jobs, %d objects under way, %d and %d places", len(p.jobs), len(p.underWay), len(p.fetching), len(p.reading))
	}
	return s
}

func (w *world) order() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.opened...)
}

// counts are the outcomes that there were.
func counts(s Stats) map[Outcome]int64 {
	m := maps.Clone(s.Objects)
	maps.DeleteFunc(m, func(_ Outcome, n int64) bool { return n == 0 })
	return m
}

var errBoom = errors.New("boom")
