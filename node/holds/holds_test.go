package holds

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/holdconf"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// lines is a format whose index has the path of a package in each line; its name is the last part.
type lines struct{ files map[string][]byte }

func (lines) Place(*proto.Manifest, *proto.Member) proto.Place { return proto.Place{} }

func (l lines) Listed(_ proto.Suite, _ *proto.Member, stored io.Reader, emit func(*proto.Package) error) error {
	for s := bufio.NewScanner(stored); s.Scan(); {
		data := l.files[s.Text()]
		p := proto.Package{File: proto.File{Path: s.Bytes(), Size: int64(len(data)), SHA256: proto.DigestOf(data)}, Name: []byte(filepath.Base(s.Text())), Universal: true}
		if err := emit(&p); err != nil {
			return err
		}
	}
	return nil
}

func (lines) HostArch(*proto.Member) string { return "" }
func (lines) Needs(string) [][]proto.Need   { return nil }
func (lines) Meets(proto.Need, string) bool { return true }
func (lines) Newer(a, b string) bool        { return a > b }

// place is an archive with a suite, an upstream that has its files, and a node's store and state.
type place struct {
	t     *testing.T
	suite proto.Suite

	mu      sync.Mutex
	files   map[string][]byte // upstream
	stored  map[proto.Digest][]byte
	state   map[string][]byte
	held    Held
	current proto.Captured
	index   proto.Member
	asked   map[string]int
	down    error
	lost    string // a path that upstream lists and has not
}

func newPlace(t *testing.T) *place {
	return &place{t: t, suite: proto.Suite{Archive: "a", Dir: "s"}, files: map[string][]byte{}, stored: map[proto.Digest][]byte{}, state: map[string][]byte{}, asked: map[string]int{}}
}

// publish makes packages the generation of upstream.
func (p *place) publish(names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var index, root bytes.Buffer
	for _, name := range names {
		if p.files["pool/"+name] == nil {
			p.files["pool/"+name] = []byte(strings.Repeat(name, 100))
		}
		fmt.Fprintf(&index, "pool/%s\n", name)
	}
	fmt.Fprintf(&root, "root of %s", index.Bytes())
	p.files["s/index"], p.files["s/root"] = index.Bytes(), root.Bytes()
	ref := func(b []byte) proto.Ref { return proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))} }
	p.stored[proto.DigestOf(root.Bytes())] = root.Bytes()
	p.index = proto.Member{Path: "index", Slot: "index", Ref: ref(index.Bytes()), Upstream: []string{"index"}, Plain: "index", Table: "t", Packages: true}
	p.current = proto.Captured{Generation: proto.Generation{Suite: p.suite, RootName: "root", Root: ref(root.Bytes())}, Indexes: []proto.Captive{{Path: "index", Ref: p.index.Ref}}}
}

func (p *place) Capture(string) []proto.Captured {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []proto.Captured{p.current}
}

func (p *place) Contents(_ context.Context, _ time.Time, s proto.Captured) (*proto.Manifest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Root != p.current.Root {
		return nil, errors.New("the root is gone")
	}
	return &proto.Manifest{Members: []proto.Member{p.index}}, nil
}

func (p *place) ObjectOf(g proto.Generation, m *proto.Member) proto.ObjectRequest {
	return proto.ObjectRequest{Ref: m.Ref, Where: proto.At(g.Suite.At(m.Path))}
}

func (p *place) Check(context.Context, proto.Suite) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked["check"]++
	return false, nil
}

// open is a fetch: what is read to its end is stored.
func (p *place) open(_ context.Context, o proto.ObjectRequest) (*proto.Blob, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.Class != proto.ClassPrefetch {
		p.t.Errorf("%s is fetched as %s", o.Where.First, o.Class)
	}
	if data, ok := p.stored[o.Ref.Digest]; ok {
		return &proto.Blob{Ref: o.Ref, Bytes: data}, nil
	}
	p.asked[o.Where.First.Path]++
	data, ok := p.files[o.Where.First.Path]
	switch {
	case p.down != nil:
		return nil, p.down
	case o.Where.First.Path == p.lost || !ok || proto.DigestOf(data) != o.Ref.Digest:
		return nil, proto.ErrNotFound
	}
	return &proto.Blob{Ref: o.Ref, Stream: &stream{r: bytes.NewReader(data), done: func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stored[o.Ref.Digest] = data
	}}}, nil
}

type stream struct {
	r    io.Reader
	done func()
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err == io.EOF {
		s.done()
	}
	return n, err
}
func (s *stream) Close() error { return nil }

func (p *place) Stat(d proto.Digest) (proto.Ref, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	data, ok := p.stored[d]
	return proto.Ref{Digest: d, Size: int64(len(data))}, ok
}

func (p *place) Hold(set Held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = set
}
func (p *place) Limit() int64 { return 100_000 }

// store is the place as a store.
type store struct{ *place }

func (s store) Check(d proto.Digest, after func(int) error) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.DigestOf(s.stored[d]) == d, nil
}

func (p *place) WriteFile(name string, data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state[name] = slices.Clone(data)
	return nil
}

func (p *place) ReadFile(name string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if data, ok := p.state[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (p *place) OpenFile(name string) (*os.File, error) {
	data, err := p.ReadFile(name)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(p.t.TempDir(), "set")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	return os.Open(file)
}

func (p *place) RemoveFile(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.state, name)
	return nil
}

func (p *place) ListFiles(prefix string) (names []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.state {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// times is how often something was asked for.
func (p *place) times(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// isHeld reports whether the store holds a package.
func (p *place) isHeld(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held != nil && p.held.Has(proto.DigestOf(p.files["pool/"+name]))
}

// keeper starts on what the place has.
func (p *place) keeper(change ...func(*Config)) *Keeper {
	p.t.Helper()
	cfg := Config{
		Node: "n", Catalog: p, Store: store{p}, State: p, Open: p.open, Logger: slog.New(slog.DiscardHandler),
		Formats:   func(string) want.Format { p.mu.Lock(); defer p.mu.Unlock(); return lines{maps.Clone(p.files)} },
		Stored:    func(o proto.ObjectRequest) bool { _, ok := p.Stat(o.Ref.Digest); return ok },
		Used:      func(_, path string) bool { return path == "pool/used" },
		MaxPinned: func(limit int64) int64 { return limit },
	}
	for _, c := range change {
		c(&cfg)
	}
	k, err := New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

func (p *place) mirror(change func(*holdconf.Mirror)) Mirror {
	m := holdconf.Mirror{Name: "m", Archive: "a", Follow: true, Generations: 1}
	change(&m)
	return Mirror{m, []proto.Suite{p.suite}}
}

func (k *Keeper) one(t *testing.T) Status {
	t.Helper()
	all := k.Mirrors()
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	return all[0]
}

// A mirror waits for its window, stops at its end, and asks upstream as often as it is to; an operator does not wait.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it begins at midnight UTC
		p := newPlace(t)
		p.publish("one")
		k := p.keeper()
		defer k.Close()
		k.SetMirrors([]Mirror{p.mirror(func(m *holdconf.Mirror) { m.Window, m.CheckEvery = "03:00-05:00", time.Hour })})
		k.Start()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if s := k.one(t); s.Phase != Waiting || p.times("pool/one") > 0 || s.Next.IsZero() {
			t.Errorf("before the window: %+v", s)
		}
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if s := k.one(t); s.Phase != Done || p.times("pool/one") != 1 {
			t.Errorf("in the window: %+v", s)
		}
		before := p.times("check")
		time.Sleep(65 * time.Minute)
		synctest.Wait()
		if p.times("check") != before+1 {
			t.Errorf("%d checks in an hour", p.times("check")-before)
		}
		time.Sleep(2 * time.Hour) // the window is over
		p.publish("one", "two")
		k.Switched(p.suite)
		synctest.Wait()
		if p.times("pool/two") > 0 {
			t.Error("it fetches outside of its window")
		}
		if err := k.Run("m"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := k.one(t); s.Phase != Done || p.times("pool/two") != 1 || p.times("pool/one") != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What fails is tried again, ever more rarely, and a new generation at once.
func TestFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.publish("one", "two")
		p.down = &proto.Unavailable{Reason: "upstream is down"}
		k := p.keeper()
		defer k.Close()
		k.SetMirrors([]Mirror{p.mirror(func(*holdconf.Mirror) {})})
		k.Start()
		synctest.Wait()
		if s := k.one(t); s.Phase != Failed || !strings.Contains(s.Failure, "upstream is down") {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := p.times("s/index"); n < 6 || n > 9 { // after 1, 2, 4, … 60 minutes
			t.Errorf("asked %d times in two hours", n)
		}
		p.mu.Lock()
		p.down = nil
		p.mu.Unlock()
		k.Switched(p.suite)
		synctest.Wait()
		if s := k.one(t); s.Phase != Done {
			t.Errorf("%+v", s)
		}
	})
}

// Generations are held as many as are to be, the one before until the new one is whole; what is held is known after a
// restart, and what no mirror names is let go.
func TestGenerationsAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.publish("one", "gone")
		k := p.keeper()
		two := func(m *holdconf.Mirror) { m.Generations = 2 }
		k.SetMirrors([]Mirror{p.mirror(two)})
		k.Start()
		synctest.Wait()
		for i, names := range [][]string{{"one", "second"}, {"one", "third"}} {
			p.publish(names...)
			k.Switched(p.suite)
			synctest.Wait()
			if s := k.one(t); len(s.Generations) != 2 || s.Phase != Done {
				t.Fatalf("%d: %+v", i, s)
			}
		}
		sets, _ := p.ListFiles(setDir)
		if len(sets) != 4 {
			t.Errorf("%d sets are kept of two generations", len(sets))
		}
		if p.isHeld("gone") || !p.isHeld("second") || !p.isHeld("third") || !p.isHeld("one") {
			t.Error("not the last two generations are held")
		}
		p.publish("one", "third", "lost")
		p.mu.Lock()
		p.lost = "pool/lost"
		p.mu.Unlock()
		k.Switched(p.suite)
		synctest.Wait()
		if s := k.one(t); s.Phase != Missing || s.LostCount != 1 || s.Lost[0].Location.Path != "pool/lost" || len(s.Generations) != 3 {
			t.Errorf("%+v", s)
		}
		k.Close()

		k = p.keeper()
		if !p.isHeld("second") || !p.isHeld("third") {
			t.Error("after a restart it is not held before anything else happens")
		}
		k.SetMirrors(nil)
		k.DropUnclaimed()
		synctest.Wait()
		if p.isHeld("one") || len(p.state) != 0 {
			t.Errorf("what no mirror names is held: %d files of state", len(p.state))
		}
		k.Close()
	})
}

// A snapshot's hold ends with it, also where the same one is taken again at once.
func TestSnapshotsAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.publish("used", "other")
		k := p.keeper()
		defer k.Close()
		k.Start()
		suites := p.Capture("a")
		k.KeepSnapshot("r1", LevelUsed, time.Now(), suites)
		k.KeepSnapshot("r2", LevelAll, time.Now(), suites)
		synctest.Wait()
		if s, ok := k.Snapshot("r1"); !ok || s.Phase != Done || s.Listed.Files != 3 {
			t.Errorf("%+v", s)
		}
		if s, ok := k.Snapshot("r2"); !ok || s.Phase != Done || s.Listed.Files != 4 || s.Own.Files != 1 {
			t.Errorf("%+v", s)
		}
		k.LetSnapshotGo("r2")
		synctest.Wait()
		if p.isHeld("other") || !p.isHeld("used") {
			t.Error("what only it held is held")
		}
		k.LetSnapshotGo("r1")
		k.KeepSnapshot("r1", LevelUsed, time.Now(), suites)
		synctest.Wait()
		if s, ok := k.Snapshot("r1"); !ok || s.Phase != Done || !p.isHeld("used") {
			t.Errorf("%+v", s)
		}
	})
}

// What does not fit is refused with what takes most; it goes on when there is room.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.publish("used", "other")
		limit := int64(800)
		k := p.keeper(func(c *Config) {
			c.MaxPinned = func(int64) int64 { p.mu.Lock(); defer p.mu.Unlock(); return limit }
		})
		defer k.Close()
		k.Start()
		k.KeepSnapshot("r1", LevelUsed, time.Now(), p.Capture("a"))
		synctest.Wait()
		k.SetMirrors([]Mirror{p.mirror(func(*holdconf.Mirror) {})})
		synctest.Wait()
		s := k.one(t)
		if s.Phase != Refused || !strings.Contains(s.Failure, "The largest holds: snapshot r1 (") || p.isHeld("other") || p.times("pool/other") > 0 {
			t.Errorf("%+v", s)
		}
		for name := range p.state {
			if strings.HasPrefix(name, setDir) && len(p.state[name]) > 200 {
				t.Errorf("a set that is not held is left: %s", name)
			}
		}
		p.mu.Lock()
		limit = 10_000
		p.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := k.one(t); s.Phase != Done || !p.isHeld("other") {
			t.Errorf("%+v", s)
		}
	})
}

// A rate bounds what is fetched, on the average.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.files["pool/big"] = bytes.Repeat([]byte("0123456789"), 100_000)
		p.publish("big")
		k := p.keeper(func(c *Config) { c.MaxPinned = func(int64) int64 { return 10 << 20 } })
		defer k.Close()
		k.SetMirrors([]Mirror{p.mirror(func(m *holdconf.Mirror) { m.Rate = 10_000 })})
		k.Start()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		s := k.one(t)
		if s.Phase != Fetching || s.Rate < 9_000 || s.Fetched > 700_000 || s.Remaining < 10*time.Second {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := k.one(t); s.Phase != Done {
			t.Errorf("%+v", s)
		}
	})
}

// Of files that share a name each knows of the other contents.
func TestNamesThatAreSharedBlameNobody(t *testing.T) {
	ref := func(text string) proto.Ref {
		return proto.Ref{Digest: proto.DigestOf([]byte(text)), Size: int64(len(text))}
	}
	var files []object
	for _, f := range []struct{ path, text string }{{"a", "1"}, {"b", "2"}, {"a", "33"}, {"c", "4"}, {"a", "555"}} {
		files = append(files, object{ObjectRequest: proto.ObjectRequest{Ref: ref(f.text), Where: proto.At(proto.Location{Archive: "x", Path: f.path})}})
	}
	nameOthers(files)
	for i, want := range []int{2, 0, 2, 0, 2} {
		if others := files[i].Others; len(others) != want || slices.Contains(others, files[i].Ref) {
			t.Errorf("%d: %v", i, others)
		}
	}
}
