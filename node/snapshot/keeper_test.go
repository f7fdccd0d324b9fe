package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
)

// world is a Keeper with all that it needs. Its archives have a counter for a generation.
type world struct {
	*testing.T
	*Keeper
	cfg Config

	mu       sync.Mutex
	now      time.Time
	files    map[string][]byte
	failAt   int // the write that fails, counted down; 0 for none
	pins     map[string][]proto.Digest
	archives map[string]int         // the generation of each
	dates    map[string][]time.Time // of the generations of each
	config   int                    // raised by a reload
	opens    int
	open     int
	refuse   error
	lost     map[proto.Digest]bool // from the store
	lacks    []proto.Missing       // what Freeze cannot have
	waits    chan struct{}         // Freeze waits for it; nil: it does not
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), files: make(map[string][]byte), pins: make(map[string][]proto.Digest), archives: map[string]int{"ubuntu": 1, "debian": 1}}
	w.dates = map[string][]time.Time{"ubuntu": {w.now}, "debian": {w.now}}
	w.cfg = Config{Node: "n1", Catalog: live{w}, Store: w, State: w, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now }}
	return w.start()
}

func (w *world) start() *world {
	w.Helper()
	w.pins = make(map[string][]proto.Digest)
	k, err := New(w.cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.Keeper = k
	w.Cleanup(func() { k.Close() })
	return w
}

// restart is a crash and a start.
func (w *world) restart() *world {
	w.Helper()
	w.Keeper.Close()
	return w.start()
}

func (w *world) WriteFile(name string, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failAt > 0 {
		if w.failAt--; w.failAt == 0 {
			return errors.New("the disk is full")
		}
	}
	w.files[name] = slices.Clone(data)
	return nil
}

func (w *world) ReadFile(name string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if data, ok := w.files[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (w *world) RemoveFile(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, name)
	return nil
}

func (w *world) ListFiles(prefix string) (all []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.files {
		if strings.HasPrefix(name, prefix) {
			all = append(all, name)
		}
	}
	return all, nil
}

func (w *world) Pin(owner string, digests []proto.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(digests) == 0 {
		delete(w.pins, owner)
		return
	}
	w.pins[owner] = digests
}

// Has: all is stored but for what was lost.
func (w *world) Has(d proto.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.lost[d]
}

func rootOf(archive string, generation int) proto.Ref {
	d := proto.DigestOf(fmt.Append(nil, archive, generation))
	return proto.Ref{Digest: d, Size: 100}
}

func (w *world) Capture(archive string) []proto.Captured {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.archives[archive]
	if !ok {
		return nil
	}
	var all []proto.Captured
	for _, dir := range []string{"dists/noble", "dists/noble-security"} {
		all = append(all, proto.Captured{Generation: proto.Generation{
			Suite: proto.Suite{Archive: archive, Dir: dir}, RootName: "InRelease", Root: rootOf(archive, n), Date: w.dates[archive][n-1],
		}, Indexes: []proto.Captive{{Path: "main/binary-amd64/Packages", Ref: rootOf(archive, n)}}})
	}
	return all
}

// rootDate is the Last-Modified of every root.
var rootDate = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

// fakeFrozen answers with the root that it was opened with.
type fakeFrozen struct {
	w      *world
	root   proto.Ref
	config int
}

func (w *world) Freeze(ctx context.Context, archive string, at time.Time, suites []proto.Captured) (Frozen, []proto.Missing, error) {
	w.mu.Lock()
	waits := w.waits
	w.mu.Unlock()
	if waits != nil {
		select {
		case <-waits:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return nil, nil, w.refuse
	}
	w.opens++
	w.open++
	lacking := w.lacks
	return &fakeFrozen{w, suites[0].Root, w.config}, lacking, nil
}

// lists is what a generation with a root answers: it lists all files, but packages, pool/NUMBER, only if that is its number.
func lists(root proto.Ref, loc proto.Location) (e proto.Resolution, ok bool) {
	if n, pool := strings.CutPrefix(loc.Path, "pool/"); pool {
		if number, _ := strconv.Atoi(n); root != rootOf(loc.Archive, number) {
			return e, false
		}
	}
	e.Object.Ref, e.Listed = root, true
	return e, true
}

func (f *fakeFrozen) Resolve(loc proto.Location) (proto.Resolution, bool) {
	e, ok := lists(f.root, loc)
	e.Modified = rootDate
	return e, ok
}

func (f *fakeFrozen) Discover(_ context.Context, loc proto.Location) (proto.Resolution, error) {
	e, _ := f.Resolve(loc)
	return e, nil
}

func (f *fakeFrozen) Listings() (all []proto.Listing) {
	for _, dir := range []string{"dists/noble", "dists/noble-security"} {
		all = append(all, proto.Listing{Captured: proto.Captured{Generation: proto.Generation{Suite: proto.Suite{Dir: dir}, Root: f.root}}})
	}
	return all
}

func (f *fakeFrozen) Dates(proto.Location) []time.Time { return []time.Time{rootDate} }

func (f *fakeFrozen) Current() bool {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return f.config == f.w.config
}

func (f *fakeFrozen) Close() {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.open--
}

// live is the catalog's own view.
type live struct{ *world }

func (l live) Resolve(loc proto.Location) (proto.Resolution, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lists(rootOf(loc.Archive, l.archives[loc.Archive]), loc)
}

func (l live) Discover(_ context.Context, loc proto.Location, _ bool) (proto.Resolution, error) {
	e, _ := l.Resolve(loc)
	return e, nil
}

// Held has the generation before the current one, too.
func (l live) Held(archive string) (all []proto.Captured) {
	for _, c := range l.Capture(archive) {
		all = append(all, c)
		if n := l.archives[archive]; n > 1 {
			c.Root, c.Date = rootOf(archive, n-1), l.dates[archive][n-2]
			all = append(all, c)
		}
	}
	return all
}

func (l live) Roots(archive string) (all []proto.Listing) {
	for _, c := range l.Capture(archive) {
		all = append(all, proto.Listing{Captured: c})
	}
	return all
}

func (l live) RootOf(loc proto.Location) (proto.Suite, bool) {
	dir, root := strings.CutSuffix(loc.Path, "/InRelease")
	return proto.Suite{Archive: loc.Archive, Dir: dir}, root
}

// SuiteOf knows some suites: what was captured is known besides.
func (l live) SuiteOf(loc proto.Location) (proto.Suite, bool) {
	for _, s := range []proto.Suite{{Dir: "dists/noble-updates"}, {Dir: "dists/noble/inner"}, {Dir: "dbs", Name: "a.db"}} {
		if strings.HasPrefix(loc.Path, s.Dir+"/") {
			s.Archive = loc.Archive
			return s, true
		}
	}
	return proto.Suite{}, false
}

func (w *world) publish(archive string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.archives[archive]++
	w.now = w.now.Add(time.Hour)
	w.dates[archive] = append(w.dates[archive], w.now)
}

func (w *world) create(name string, archives ...string) {
	w.Helper()
	if _, _, err := w.Create(context.Background(), name, Plan{Archives: archives, By: "root"}); err != nil {
		w.Fatal(err)
	}
}

// gives demands that a name answers with a generation.
func (w *world) gives(id, archive string, generation int) {
	w.Helper()
	loc := proto.Location{Archive: archive, Path: "dists/noble/InRelease"}
	e, ok := w.Keeper.Resolve(id, loc)
	if !ok {
		var err error
		if e, err = w.Keeper.Discover(context.Background(), id, loc, false); err != nil {
			w.Fatalf("%s of %s: %v", archive, id, err)
		}
	}
	if e.Object.Ref != rootOf(archive, generation) {
		w.Errorf("%s of %s is not the generation %d", archive, id, generation)
	}
}

func (w *world) knowsNot(id, archive string) {
	w.Helper()
	if w.Known(id, archive) {
		w.Errorf("%s of %s is known", archive, id)
	}
	_, err := w.Keeper.Discover(context.Background(), id, proto.Location{Archive: archive, Path: "dists/noble/InRelease"}, false)
	if !errors.Is(err, proto.ErrNotFound) {
		w.Errorf("%s of %s: %v", archive, id, err)
	}
}

// A snapshot stays what it is, over restarts, until it is removed.
func TestSnapshotStays(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	w.publish("ubuntu")
	w.gives("w48", "ubuntu", 1)
	w.gives("live", "ubuntu", 2)
	w.knowsNot("w48", "debian")
	w.knowsNot("w49", "ubuntu")
	w.restart()
	if !w.Known("w48", "ubuntu") {
		t.Error("it is not known after a restart")
	}
	w.gives("w48", "ubuntu", 1)
	if len(w.pins) != 1 || len(slices.Collect(maps.Values(w.pins))[0]) != 1 {
		t.Errorf("pinned: %v", w.pins)
	}
	if _, err := w.Remove(t.Context(), "w48", "root"); err != nil {
		t.Fatal(err)
	}
	w.knowsNot("w48", "ubuntu")
	for _, tt := range []struct {
		later time.Duration
		kept  int
	}{{0, 1}, {graceFor - time.Hour, 1}, {2 * time.Hour, 0}} {
		w.now = w.now.Add(tt.later)
		w.Tend()
		if files, _ := w.ListFiles(recordDir); len(w.pins) != tt.kept || len(files) != tt.kept || w.open > tt.kept {
			t.Errorf("%v later: pinned %v, records %v, %d open", tt.later, w.pins, files, w.open)
		}
		w.restart()
	}
	w.knowsNot("w48", "ubuntu")
	if _, err := w.Remove(t.Context(), "w48", "root"); !errors.Is(err, ErrUnknown) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	if _, err := w.SetChannel(t.Context(), "stable", "w48", Order{By: "root"}); err != nil {
		t.Fatal(err)
	}
	for name, plan := range map[string]Plan{
		"w48":    {Archives: []string{"ubuntu"}},
		"stable": {Archives: []string{"ubuntu"}},
		"live":   {Archives: []string{"ubuntu"}},
		"A":      {Archives: []string{"ubuntu"}},
		"a":      {Archives: []string{"fedora"}},
		"b":      {Archives: []string{"ubuntu"}, Suites: []string{"jammy*"}},
		"c":      {},
	} {
		if _, _, err := w.Create(context.Background(), name, plan); err == nil {
			t.Errorf("%s is made of %+v", name, plan)
		}
	}
	w.refuse = &proto.Rejected{Reason: "the key is gone"}
	if _, _, err := w.Create(context.Background(), "d", Plan{Archives: []string{"ubuntu", "debian"}}); !errors.As(err, new(*proto.Rejected)) {
		t.Errorf("a root that is refused: %v", err)
	}
	if len(w.List()) != 1 || len(w.pins) != 1 {
		t.Errorf("there are %v, pinned is %v", w.List(), w.pins)
	}
}

func TestCreateTakesSuites(t *testing.T) {
	w := newWorld(t)
	for pattern, want := range map[string]int{"noble*": 2, "noble": 1, "dists/noble-*": 1, "*": 2} {
		s, _, err := w.Create(context.Background(), "of-"+fmt.Sprint(len(pattern)), Plan{Archives: []string{"ubuntu"}, Suites: []string{pattern}})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(s.Record.Archives[0].Suites); n != want {
			t.Errorf("%s: %d suites, want %d", pattern, n, want)
		}
	}
}

// A disk that fails at any write leaves the snapshot there as a whole, or not at all.
func TestCreateIsWholeOrNothing(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t)
		w.create("old", "ubuntu")
		w.publish("ubuntu")
		w.failAt = at
		_, _, err := w.Create(context.Background(), "new", Plan{Archives: []string{"ubuntu"}})
		failed := w.failAt == 0
		w.failAt = 0
		for range 2 {
			if there := w.Known("new", "ubuntu"); there != (err == nil) {
				t.Errorf("write %d: error %v, and it is there: %v", at, err, there)
			}
			w.gives("old", "ubuntu", 1)
			if files, _ := w.ListFiles(recordDir); len(files) != len(w.List()) || len(w.pins) != len(w.List()) {
				// A record may be left over until the next start.
				if len(files) != len(w.List())+1 {
					t.Errorf("write %d: %d snapshots, records %v, pins %d", at, len(w.List()), files, len(w.pins))
				}
			}
			w.restart()
		}
		if !failed {
			if at < 3 {
				t.Errorf("only %d writes", at)
			}
			return
		}
	}
}

func TestChannelMoves(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	w.publish("ubuntu")
	w.create("w49", "ubuntu")
	w.publish("ubuntu")
	set := func(name, to string) {
		t.Helper()
		if _, err := w.SetChannel(t.Context(), name, to, Order{By: "root"}); err != nil {
			t.Fatal(err)
		}
	}
	set("canary", "live")
	w.gives("canary", "ubuntu", 3)
	set("canary", "w49")
	loc := proto.Location{Archive: "ubuntu", Path: "dists/noble/InRelease"}
	for id, moves := range map[string]bool{"w49": false, "canary": true} {
		w.gives(id, "ubuntu", 2)
		e, ok := w.Keeper.Resolve(id, loc)
		if !ok || e.Mutable != moves {
			t.Errorf("%s: what a client gets may change tomorrow: %v, %v", id, e.Mutable, ok)
		}
		if e.Modified.Equal(rootDate) == moves {
			t.Errorf("%s: its root is of %v", id, e.Modified)
		}
	}
	// Each move is a change of its own, however quickly they follow.
	seen := make(map[time.Time]bool)
	for _, to := range []string{"w48", "w49", "w48", "w49"} {
		set("canary", to)
		w.gives("canary", "ubuntu", map[string]int{"w48": 1, "w49": 2}[to])
		e, _ := w.Keeper.Resolve("canary", loc)
		if seen[e.Modified] || e.Modified.Nanosecond() != 0 {
			t.Errorf("two moves count as one: %v", e.Modified)
		}
		seen[e.Modified] = true
	}
	set("canary", "live")
	set("canary", "w49")
	set("stable", "w48")
	set("edge", "canary")
	w.gives("canary", "ubuntu", 2)
	w.gives("edge", "ubuntu", 2)
	w.gives("stable", "ubuntu", 1)
	w.restart()
	w.gives("canary", "ubuntu", 2)
	w.gives("stable", "ubuntu", 1)
	if _, err := w.Remove(t.Context(), "w48", "root"); !errors.Is(err, ErrInUse) {
		t.Errorf("a snapshot that a channel stands for: %v", err)
	}
	if _, err := w.RemoveChannel(t.Context(), "canary", "root"); !errors.Is(err, ErrInUse) {
		t.Errorf("a channel that a channel stands for: %v", err)
	}
	for _, target := range []string{"w50", "canary", "edge", ""} {
		if _, err := w.SetChannel(t.Context(), "canary", target, Order{By: "root"}); !errors.Is(err, ErrUnknown) {
			t.Errorf("canary to %q: %v", target, err)
		}
	}
	if _, err := w.SetChannel(t.Context(), "w48", "w49", Order{By: "root"}); !errors.Is(err, ErrExists) {
		t.Errorf("a channel with the name of a snapshot: %v", err)
	}
	if m, err := w.Rollback(t.Context(), "canary", Order{By: "root"}); err != nil || m.Before.Target != "w49" || m.After.Target != "live" {
		t.Errorf("back: %+v, %v", m, err)
	}
	w.gives("edge", "ubuntu", 3)
	// What is promoted is what a channel stands for, not the channel: it may move on.
	if m, err := w.Promote(t.Context(), "edge", "frozen", Order{By: "root"}); err != nil || m.After.Target != "live" {
		t.Errorf("promoted: %+v, %v", m, err)
	}
	set("canary", "w49")
	if m, err := w.Promote(t.Context(), "edge", "frozen", Order{By: "root"}); err != nil || m.After.Target != "w49" {
		t.Errorf("promoted: %+v, %v", m, err)
	}
	set("canary", "live")
	w.gives("frozen", "ubuntu", 2)
	for _, from := range []string{"w49", "nothing", "live"} {
		if _, err := w.Promote(t.Context(), from, "frozen", Order{By: "root"}); !errors.Is(err, ErrUnknown) {
			t.Errorf("promoted from %s: %v", from, err)
		}
	}
	if _, err := w.Rollback(t.Context(), "stable", Order{By: "root"}); err == nil {
		t.Error("a channel that never moved goes back")
	}
	if n := testutil.ToFloat64(w.moved.WithLabelValues("canary")); n != 3 {
		t.Errorf("canary was moved %v times since the start", n)
	}
	moves, err := w.History("canary")
	if err != nil || len(moves) != 11 || moves[2].Target != "live" || moves[3].Target != "w49" {
		t.Errorf("%v, %v", moves, err)
	}
	if _, err := w.RemoveChannel(t.Context(), "edge", "root"); err != nil {
		t.Fatal(err)
	}
	w.knowsNot("edge", "ubuntu")
	if n := testutil.CollectAndCount(w.moved); n != 3 {
		t.Errorf("%d channels are counted", n)
	}
}

// gets is what a host that asks a name for a file of ubuntu gets: the generation, and what answered; 0 if nothing lists it.
func (w *world) gets(id, path string) (generation int, from string) {
	w.Helper()
	loc := proto.Location{Archive: "ubuntu", Path: path}
	e, ok := w.Keeper.Resolve(id, loc)
	if !ok {
		var err error
		if e, err = w.Keeper.Discover(w.Context(), id, loc, false); err != nil {
			w.Fatalf("%s of %s: %v", path, id, err)
		}
	}
	for n := range w.archives["ubuntu"] + 1 {
		if e.Listed && e.Object.Ref == rootOf("ubuntu", n) {
			return n, e.Snapshot
		}
	}
	return 0, e.Snapshot
}

// A channel serves suites as they are now if an operator wants so, whatever its target, until he wants it no more.
func TestLiveSuites(t *testing.T) {
	w := newWorld(t)
	w.create("w1", "ubuntu")
	w.publish("ubuntu")
	w.create("w2", "ubuntu")
	w.publish("ubuntu")
	move := func(name, to string, live ...string) *Moved {
		t.Helper()
		m, err := w.SetChannel(t.Context(), name, to, Order{By: "root", Live: live})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	gets := func(id string, want map[string]int) {
		t.Helper()
		for path, n := range want {
			got, from := w.gets(id, path)
			if place := map[int]string{0: "w1", 1: "w1", 2: "w2", 3: "live"}[n]; got != n || from != place {
				t.Errorf("%s of %s is of %d, from %q; want %d, from %q", path, id, got, from, n, place)
			}
		}
	}
	security := map[string]int{
		"dists/noble/InRelease": 1, "dists/noble/main/Packages": 1, "dists/noble-security/InRelease": 3, "dists/noble-security/main/Packages": 3,
		"dists/noble-updates/main/Packages": 1, "dists/other/x-security/y": 1, "pool/1": 1, "pool/3": 3, "pool/2": 0,
	}
	move("stable", "w1", "*-security")
	gets("stable", security)
	listings, err := w.Listings(t.Context(), "stable", nil)
	if err != nil || len(listings) != 2 || listings[0].Suite.Dir != "dists/noble" || listings[0].Root != rootOf("ubuntu", 1) || listings[1].Root != rootOf("ubuntu", 3) {
		t.Errorf("what it lists: %+v, %v", listings, err)
	}
	for id, want := range map[string]string{
		"stable": "dists/noble 1 false, dists/noble-security 3 true", "w1": "dists/noble 1 false, dists/noble-security 1 false", "live": "dists/noble 3 true, dists/noble-security 3 true",
	} {
		suites, err := w.Suites(t.Context(), id, []string{"ubuntu"})
		var got []string
		for _, s := range suites {
			for n := range 4 {
				if s.Root == rootOf("ubuntu", n) {
					got = append(got, fmt.Sprint(s.Suite.Dir, " ", n, " ", s.Live))
				}
			}
		}
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("hosts of %s get %q, %v; want %s", id, got, err, want)
		}
	}
	if _, err := w.Suites(t.Context(), "other", nil); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	w.restart()
	gets("stable", security)
	move("stable", "w1", "inner", "dbs/a.db")
	gets("stable", map[string]int{"dists/noble/inner/main/Packages": 3, "dists/noble/main/Packages": 1, "dbs/a-1.pkg": 1}) // of several in dbs
	move("stable", "w1", "dists/noble-updates", "*-security")
	gets("stable", map[string]int{"dists/noble-updates/main/Packages": 3, "dists/noble-security/InRelease": 3, "dists/noble/InRelease": 1})
	if got := w.Channels()[0].Live; !slices.Equal(got, []string{"dists/noble-updates", "*-security"}) {
		t.Errorf("live: %q", got)
	}
	move("edge", "stable") // has what stable has
	gets("edge", map[string]int{"dists/noble-security/InRelease": 3})
	if m := move("stable", "w1"); m.Before != m.After {
		t.Errorf("without a word of live suites, it was moved: %+v", m)
	}
	move("stable", "w2") // stays what it is about live suites
	gets("stable", map[string]int{"dists/noble-security/InRelease": 3, "dists/noble/InRelease": 2})
	if m, err := w.SetChannel(t.Context(), "stable", "w2", Order{Live: []string{}}); err != nil || m.After.Live != "" {
		t.Errorf("%+v, %v", m, err)
	}
	gets("stable", map[string]int{"dists/noble-security/InRelease": 2})
	if m, err := w.Rollback(t.Context(), "stable", Order{}); err != nil || m.After.Live == "" || m.After.Target != "w2" {
		t.Errorf("back to where it had live suites: %+v, %v", m, err)
	}
	gets("stable", map[string]int{"dists/noble-security/InRelease": 3})
	for _, live := range [][]string{{"["}, {"a b"}, {strings.Repeat("x", maxLive+1)}} {
		if _, err := w.SetChannel(t.Context(), "stable", "w2", Order{Live: live}); err == nil {
			t.Errorf("%.20q are live suites", live)
		}
	}
}

// Hosts that updated before a channel was moved install after it: for a day it answers for packages of where it was.
func TestPackagesOfBefore(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"w1", "w2", "w3"} {
		w.create(name, "ubuntu")
		w.publish("ubuntu")
	}
	move := func(to string) {
		t.Helper()
		if _, err := w.SetChannel(t.Context(), "stable", to, Order{}); err != nil {
			t.Fatal(err)
		}
	}
	gets := func(when string, want map[string]int) {
		t.Helper()
		for path, n := range want {
			if got, from := w.gets("stable", path); got != n {
				t.Errorf("%s, %s is of %d, from %q; want %d", when, path, got, from, n)
			}
		}
	}
	move("w1")
	gets("at first", map[string]int{"pool/1": 1, "pool/2": 0, "pool/4": 0})
	w.now = w.now.Add(40 * 24 * time.Hour)
	move("w2")
	gets("moved", map[string]int{"pool/1": 1, "pool/2": 2, "pool/3": 0, "dists/noble/InRelease": 2, "dists/noble/Packages": 2})
	w.now = w.now.Add(time.Hour)
	move("live")
	move("w3")
	gets("moved on", map[string]int{"pool/1": 1, "pool/2": 2, "pool/3": 3, "pool/4": 4, "dists/noble/InRelease": 3})
	w.now = w.now.Add(23*time.Hour + time.Minute)
	gets("a day after the first move", map[string]int{"pool/1": 0, "pool/2": 2, "pool/3": 3})
	w.now = w.now.Add(time.Hour)
	gets("a day after the last move", map[string]int{"pool/2": 0, "pool/3": 3, "pool/4": 0})
	if _, err := w.Remove(t.Context(), "w1", "root"); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		w.create(fmt.Sprint("m", i), "ubuntu")
		move(fmt.Sprint("m", i))
		w.publish("ubuntu")
	}
	gets("among many", map[string]int{"pool/9": 9, "pool/8": 8, "pool/7": 7, "pool/6": 6, "pool/5": 0, "pool/4": 0})
	// Where it is cannot be opened, the root of where it was is no answer.
	move("w2")
	w.mu.Lock()
	w.config++
	w.refuse = &proto.Rejected{Reason: "the key is gone"}
	w.mu.Unlock()
	move("live")
	move("w3")
	if _, err := w.Keeper.Discover(t.Context(), "stable", proto.Location{Archive: "ubuntu", Path: "dists/noble/InRelease"}, false); !errors.As(err, new(*proto.Rejected)) {
		t.Errorf("a root where the snapshot is refused: %v", err)
	}
}

// With other keys in force, a snapshot is verified again before anything of it is served.
func TestReloadVerifiesAgain(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	w.gives("w48", "ubuntu", 1)
	if w.opens != 1 {
		t.Fatalf("it was opened %d times", w.opens)
	}
	w.mu.Lock()
	w.config++
	w.refuse = &proto.Rejected{Reason: "the key is gone"}
	w.mu.Unlock()
	loc := proto.Location{Archive: "ubuntu", Path: "x"}
	if _, ok := w.Keeper.Resolve("w48", loc); ok {
		t.Error("it is served as verified with keys that are gone")
	}
	if _, err := w.Keeper.Discover(context.Background(), "w48", loc, false); !errors.As(err, new(*proto.Rejected)) {
		t.Errorf("%v", err)
	}
	w.mu.Lock()
	w.refuse = nil
	w.mu.Unlock()
	w.gives("w48", "ubuntu", 1)
}

// Requests that come together open a snapshot once, and it does not end with the first of them.
func TestOpenedOnce(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	w.restart()
	w.opens, w.waits = 0, make(chan struct{})
	gone, cancel := context.WithCancel(context.Background())
	loc := proto.Location{Archive: "ubuntu", Path: "x"}
	first := make(chan error)
	go func() {
		_, err := w.Keeper.Discover(gone, "w48", loc, false)
		first <- err
	}()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := w.Keeper.Discover(context.Background(), "w48", loc, false); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(w.waits)
	wg.Wait()
	if w.opens != 1 {
		t.Errorf("it was opened %d times", w.opens)
	}
}

func TestFewAreOpen(t *testing.T) {
	w := newWorld(t)
	for i := range maxOpen + 5 {
		w.create(fmt.Sprint("s", i), "ubuntu")
		w.publish("ubuntu")
	}
	if w.open != maxOpen {
		t.Errorf("%d are open", w.open)
	}
	w.gives("s0", "ubuntu", 1)
	w.gives(fmt.Sprint("s", maxOpen+4), "ubuntu", maxOpen+5)
	w.Keeper.Close()
	if w.open != 0 {
		t.Errorf("%d are open at the end", w.open)
	}
}

func TestRecordIsChecked(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	r := w.List()[0].Record
	data, sum, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, same, _ := again.encode(); same != sum {
		t.Error("a record that was read is another one")
	}
	for _, bad := range []string{"", "{}", `{"taken":"2026-03-01T12:00:00Z"}`,
		`{"taken":"2026-03-01T12:00:00Z","archives":[{"name":"a","suites":[]}]}`,
		`{"taken":"2026-03-01T12:00:00Z","archives":[{"name":"a","suites":[{"suite":{"archive":"b","dir":"x"}}]}]}`,
		`{"taken":"2026-03-01T12:00:00Z","more":1,"archives":[]}`,
	} {
		if _, err := decode([]byte(bad)); err == nil {
			t.Errorf("%s is taken for a record", bad)
		}
	}
	// A record that was changed on the disk is lost, and says so; the others stay.
	w.publish("ubuntu")
	w.create("w49", "ubuntu")
	w.files[recordDir+w.List()[0].Digest] = []byte("x")
	w.restart()
	w.knowsNot("w48", "ubuntu")
	w.gives("w49", "ubuntu", 2)
	if l := w.List(); len(l) != 2 || l[0].Record != nil {
		t.Errorf("%v", l)
	}
}

// A damaged file of names stops nothing: it is set aside, and a node that stands alone finds its snapshots by their records.
func TestNamesAreDamaged(t *testing.T) {
	w := newWorld(t)
	w.create("w48", "ubuntu")
	digest := w.List()[0].Digest
	for _, bad := range []string{"garbage", "", "null", `{"names":[{"kind":"x"}]}`} {
		w.files[namesFile] = []byte(bad)
		w.restart()
		if string(w.files[damagedFile]) != bad {
			t.Errorf("%q is not set aside", bad)
		}
		name := "recovered-" + digest[:8]
		w.gives(name, "ubuntu", 1)
		if l := w.List(); len(l) != 1 || l[0].Name != name || len(w.pins) != 1 {
			t.Errorf("%q: %v, pinned %v", bad, l, w.pins)
		}
		w.restart()
		w.gives(name, "ubuntu", 1)
	}
}
