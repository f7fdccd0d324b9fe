package catalog

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// world is a catalog with all that it needs.
type world struct {
	*testing.T
	*Catalog
	a      *testarchive.Archive
	up     *fakeUpstream
	keeper *memKeeper
	state  *memState
	cfg    Config
}

// inBubble runs f in a bubble whose clock stands at day, and waits for whatever
// is still going on at its end.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(day))
		f(t)
	})
}

// inNamedBubble is inBubble as a subtest.
func inNamedBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { inBubble(t, f) })
}

// newWorld makes one archive called "a" with the suites given, published at day
// less an hour.
func newWorld(t *testing.T, suites ...testarchive.Suite) *world {
	t.Helper()
	a := testarchive.New(7)
	for _, s := range suites {
		a.AddSuite(s)
	}
	keeper := newKeeper()
	up := &fakeUpstream{archives: map[string]*testarchive.Archive{"a": a}, asked: make(map[string]int), served: make(map[string]int)}
	return &world{T: t, a: a, up: up, keeper: keeper, state: &memState{files: make(map[string][]byte)}, cfg: Config{
		Archives: []Archive{{Name: "a"}},
		Blobs:    &fakeBlobs{up: up, keeper: keeper, strong: make(map[proto.SHA512]proto.Digest)},
		Upstream: up,
		Store:    keeper,
		Logger:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),

		Retain: Retain{For: 24 * time.Hour, Generations: 8},
		Stale:  Stale{ServeExpired: 7 * 24 * time.Hour, ServeExpiredSecurity: 24 * time.Hour, WarnBefore: 24 * time.Hour},
	}}
}

// noble is a suite as Ubuntu has them, with one package.
func nobleWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Translations: true})
	w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
	return w
}

const (
	nobleIn    = "dists/noble/InRelease"
	noblePkgs  = "dists/noble/main/binary-amd64/Packages.xz"
	nobleTrans = "dists/noble/main/i18n/Translation-en.xz"
	hello1     = "pool/main/h/hello/hello_1_amd64.deb"
	hello2     = "pool/main/h/hello/hello_2_amd64.deb"
)

// publish renders the suites as of now less a minute.
func (w *world) publish(suites ...string) { w.a.Publish(time.Now().Add(-time.Minute), suites...) }

// upgrade replaces hello by version 2 and publishes.
func (w *world) upgrade() {
	w.a.RemovePackage("noble", "hello")
	w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "2", Description: "greets twice"})
	w.publish()
}

// fill sets what every archive needs and a test does not speak of.
func (w *world) fill(archives []Archive) []Archive {
	for i := range archives {
		archives[i].CheckEvery = cmp.Or(archives[i].CheckEvery, time.Minute)
		archives[i].MaxFuture = cmp.Or(archives[i].MaxFuture, 10*time.Second)
	}
	return archives
}

// unsignedFormat needs no signatures.
func unsignedFormat() Format { return deb.New(deb.Config{Unsigned: true}) }

// open starts the catalog; it is closed when the test ends.
func (w *world) open() *world {
	w.Helper()
	w.cfg.State = w.state
	w.fill(w.cfg.Archives)
	for i := range w.cfg.Archives {
		if a := &w.cfg.Archives[i]; a.Format == nil {
			k, err := pgp.ReadKeyring("test", w.a.Keyring())
			if err != nil {
				w.Fatal(err)
			}
			a.Format = formatOf(k)
		}
	}
	c, err := New(w.cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	w.Catalog = c
	return w
}

// formatOf is Debian's format with these keys.
func formatOf(k *pgp.Keyring) Format { return deb.New(deb.Config{Keyring: k}) }

// heldNow is what the suite serves; nil for nothing.
func (d *driver) heldNow() *view.Generation { return d.public.Load().current }

// nobleNow is what requests for noble are answered from; nil before the first generation.
func (c *Catalog) nobleNow() *view.Generation {
	a := c.viewOf("a")
	if a == nil || a.Suite(noble()) == nil {
		return nil
	}
	return a.Suite(noble()).Current
}

// crash goes on with what was durable at this moment, on a new catalog.
func (w *world) crash() *world {
	w.Helper()
	w.state = w.state.copyState()
	w.Catalog.Close()
	return w.open()
}

func (w *world) loc(path string) proto.Location { return proto.Location{Archive: "a", Path: path} }

func noble() proto.Suite { return proto.Suite{Archive: "a", Dir: "dists/noble"} }

// get asks as the frontend does.
func (w *world) get(path string) (proto.Resolution, error) {
	if e, ok := w.Resolve(w.loc(path)); ok {
		return e, nil
	}
	return w.Discover(context.Background(), w.loc(path), false)
}

// must is get for what has to be listed with the bytes upstream has at the moment.
func (w *world) must(path string) proto.Resolution {
	w.Helper()
	e, err := w.get(path)
	if err != nil {
		w.Fatalf("%s: %v", path, err)
	}
	if !e.Listed {
		w.Fatalf("%s is not listed", path)
	}
	return e
}

// listedAs demands that path means exactly these bytes.
func (w *world) listedAs(path string, data []byte) proto.Resolution {
	w.Helper()
	e := w.must(path)
	if e.Object.Ref != refOfBytes(data) {
		w.Fatalf("%s is %v, want %v", path, e.Object.Ref, refOfBytes(data))
	}
	return e
}

// file is what upstream has at the path.
func (w *world) file(path string) []byte {
	w.Helper()
	f, ok := w.a.Lookup(path)
	if !ok {
		w.Fatalf("the archive has no %s", path)
	}
	return f.Data
}

// use makes clients use a member: its download, and the ingest beside it.
func (w *world) use(paths ...string) {
	w.Helper()
	for _, p := range paths {
		w.must(p)
	}
	w.rest()
}

// rest waits until everything that goes on by itself has ended, time standing still.
func (w *world) rest() {
	w.Helper()
	synctest.Wait()
}

// date is the Date that the InRelease served now has.
func (w *world) date() time.Time {
	w.Helper()
	return w.must(nobleIn).Generation
}

// refresh checks upstream at once.
func (w *world) refresh() (bool, error) {
	return w.Refresh(context.Background(), noble(), false)
}

// switches demands that a check brings what upstream has, if the watcher was not quicker.
func (w *world) switches() {
	w.Helper()
	_, err := w.refresh()
	root, ok := w.a.Lookup(nobleIn)
	if !ok {
		root, _ = w.a.Lookup(nobleRelease)
	}
	if s, ok := w.known(noble()); err != nil || !ok || s.heldNow() == nil || s.heldNow().Root != refOfBytes(root.Data) {
		w.Fatalf("upstream's Release is not adopted: %v", err)
	}
}

// stays demands that a check brings none, with an error that says why.
func (w *world) stays(why string) {
	w.Helper()
	changed, err := w.refresh()
	if changed || err == nil || !strings.Contains(err.Error(), why) {
		w.Fatalf("refresh: changed %v, error %v; want one about %q", changed, err, why)
	}
}

// metric is the sum of all values of a metric: of a histogram, its observations.
func (w *world) metric(name string) float64 {
	w.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(w.Collectors()...)
	families, err := r.Gather()
	if err != nil {
		w.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// parsed is how many indices have been read.
func (w *world) parsed() int { return int(w.metric("aptmesh_catalog_parse_seconds")) }

// suiteNames are those the catalog keeps a record of.
func (w *world) suiteNames() []string {
	var names []string
	for _, d := range w.all("") {
		names = append(names, d.id.Dir)
	}
	slices.Sort(names)
	return names
}
