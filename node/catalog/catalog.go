package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// Blobs opens an object by what it must be, wherever it comes from.
type Blobs interface {
	Open(context.Context, proto.ObjectRequest) (*proto.Blob, error)
}

// Upstream fetches a mutable file: nothing says yet what it must be.
type Upstream interface {
	Fetch(context.Context, proto.Request) (*proto.Transfer, error)
	// Mirrors names the mirrors of an archive, as Request.Mirror has them, in the order in which
	// they would be asked now. The slice is the caller's.
	Mirrors(archive string) []string
	// Blame reports mirrors whose bytes were wrong.
	Blame(loc proto.Location, from []string, err error)
}

// Store is this node's store, for what the catalog itself must keep. What Put returns is durable;
// whether only some clients may have what the archive brought is for the Keeper to know.
type Store interface {
	Get(proto.Digest) (*proto.Blob, error)
	Put(archive string, b []byte, modified time.Time) (proto.Ref, error)
	// Pin replaces the set of blobs that owner wants never evicted.
	Pin(owner string, digests []proto.Digest)
}

// State keeps small files under names. WriteFile is durable and atomic; an absent file is
// fs.ErrNotExist.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error)
	RemoveFile(name string) error
	ListFiles(prefix string) ([]string, error)
}

// Archive is one configured archive.
type Archive struct {
	Name string
	// Format reads its roots and indexes, with the archive's keys.
	Format Format
	// Trust says by what roots are trusted: where it is the same, the same roots are. "" compares to nothing.
	Trust string
	// Suites are watched from the start. Their Archive is not read.
	Suites []proto.Suite
	// CheckEvery is how often upstream is asked for a new root.
	CheckEvery time.Duration
	// MaxFuture is how far the date of a root may lie ahead of our clock.
	MaxFuture time.Duration
	// AcceptOlder is how long all mirrors must show an older root until it is taken; 0 is never.
	AcceptOlder time.Duration
	// ServeExpired, where not nil, stands in for Stale.ServeExpired and
	// Stale.ServeExpiredSecurity in this archive; 0 serves nothing past Valid-Until.
	ServeExpired *time.Duration
	// Offline asks upstream for nothing: the current generation is served, however old.
	Offline bool
	// Immutable says that upstream never changes: a suite that has a generation is not asked about again.
	Immutable bool
	// Transient says that what is written down of it goes with it when it is no longer among the archives:
	// clients make any number of such archives, one after another.
	Transient bool

	// searching bounds the searches for what lists an unlisted file. Each archive has its own,
	// because one that does not answer must not hold up those in others.
	searching chan struct{}
}

// watches reports whether a suite is watched from the start.
func (a *Archive) watches(id proto.Suite) bool { return holdsSuite(a.Suites, id) }

// unsigned reports whether no signature vouches for the roots of a suite.
func (a *Archive) unsigned(id proto.Suite) bool {
	id.Archive = ""
	return a.Format.Unsigned(id)
}

func holdsSuite(suites []proto.Suite, id proto.Suite) bool {
	id.Archive = ""
	return slices.ContainsFunc(suites, func(s proto.Suite) bool { s.Archive = ""; return s == id })
}

// Config is what a Catalog needs. The four interfaces, Archives and Logger must be set; zero
// durations and counts take their defaults.
type Config struct {
	Archives []Archive
	Blobs    Blobs
	Upstream Upstream
	// Witness reads the document at the URL of a proto.Form's Witness. It may be nil where no format
	// has any.
	Witness func(ctx context.Context, archive, url string) ([]byte, error)
	Store   Store
	// State keeps what must survive. Tables keeps what is derived from blobs and may
	// be lost with them; nil means State.
	State, Tables State
	// TablesInMemory bounds the tables that are kept in memory because the disk does not take them,
	// in bytes. Default 64 MiB.
	TablesInMemory int64
	// Scratch makes a file without a name, for what is derived and gone with the process; nil means
	// one in the directory for temporary files.
	Scratch func() (*os.File, error)
	// Cluster is the other nodes; nil where this one is alone.
	Cluster Cluster
	// LeaderVouches says that the leader's own word counts for roots that no key vouches for: nodes
	// prove to each other who they are.
	LeaderVouches bool
	Logger        *slog.Logger
	// Now is the wall clock, for dates alone. Intervals are measured by time.Since.
	Now func() time.Time

	Retain Retain
	// IdleAfter is how long a suite is watched after the last client asked for it, UseFor how long
	// a member is staged after the last client asked for it; a suite that nobody has asked for in
	// UseFor is forgotten. Defaults 24 h and 7 days.
	IdleAfter, UseFor time.Duration
	// MaxSuites bounds the suites of an archive that requests have made known. Default 1,000.
	MaxSuites int
	// Patience is how long a new generation waits for an optional index that cannot be fetched.
	// Default 2 minutes.
	Patience time.Duration
	// CheckWait bounds how long a client waits for a check of upstream while there is something
	// older to give it; FindWait how long for the indexes that would list what it asks for.
	// Defaults 3 s and 20 s.
	CheckWait, FindWait time.Duration
	Stale

	// Switched is called for every generation switch, in order for each suite, on a goroutine of
	// its own; nil: no call. It is not called for generations that a restart reads back. Close
	// waits for it to return.
	Switched func(proto.Switch)
}

func (c Config) withDefaults() Config {
	if c.Tables == nil {
		c.Tables = c.State
	}
	if c.Scratch == nil {
		c.Scratch = scratch
	}
	setDefault(&c.TablesInMemory, 64<<20)
	setDefault(&c.IdleAfter, 24*time.Hour)
	setDefault(&c.UseFor, 7*24*time.Hour)
	setDefault(&c.MaxSuites, 1000)
	setDefault(&c.Patience, 2*time.Minute)
	setDefault(&c.CheckWait, 3*time.Second)
	setDefault(&c.FindWait, 20*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Catalog holds the node's belief. Safe for concurrent use.
type Catalog struct {
	cfg     Config
	metrics *metrics
	began   time.Time // with its monotonic reading
	view    atomic.Pointer[views]

	ctx    context.Context // ends everything that runs
	cancel context.CancelFunc
	life   sync.Mutex
	closed bool           // guarded by life
	wg     sync.WaitGroup // Add is guarded by life

	parsing  chan struct{} // bounds indexes parsed at one time
	fetching chan struct{} // bounds members taken in at one time for the clients of other nodes
	searched *expiring.Map[proto.Location, *archiveView]
	absent   *expiring.Map[proto.Suite, struct{}] // guesses at suites that upstream does not have
	failing  *expiring.Map[proto.Suite, failingSuite]

	composing sync.Mutex
	inMemory  atomic.Int64 // bytes of tables that the disk has not taken

	mu       sync.Mutex
	archives map[string]*Archive     // a value is never changed; guarded by mu
	drivers  map[proto.Suite]*driver // guarded by mu
	claims   map[string]int          // tables that will be referred to soon, by name; guarded by mu
	tables   map[string]*tables      // by archive; guarded by mu
	guessing map[proto.Suite]bool    // suites looked for in the background; guarded by mu
}

// How much work of a kind runs at one time. Parsing costs a core each, and clients want one too.
const (
	parseSlots  = 2
	searchSlots = 32
)

// New loads what was believed when the node stopped, and starts watching. It reads no index and
// waits for nobody: it is ready when it returns. Close ends it.
func New(cfg Config) (*Catalog, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Catalog{
		cfg: cfg.withDefaults(), metrics: newMetrics(), began: time.Now(), ctx: ctx, cancel: cancel,
		parsing: make(chan struct{}, parseSlots), fetching: make(chan struct{}, stageParallel),
		searched: expiring.New[proto.Location, *archiveView](4096), absent: expiring.New[proto.Suite, struct{}](4096),
		failing:  expiring.New[proto.Suite, failingSuite](maxFailing),
		tables:   make(map[string]*tables),
		archives: make(map[string]*Archive), drivers: make(map[proto.Suite]*driver),
		claims: make(map[string]int), guessing: make(map[proto.Suite]bool),
	}
	c.view.Store(&views{})
	if err := c.Reconfigure(cfg.Archives); err != nil {
		cancel()
		c.wg.Wait()
		return nil, err
	}
	return c, nil
}

// mono is now on the monotonic clock.
func (c *Catalog) mono() suite.Mono { return suite.Mono(time.Since(c.began)) }

// timeOf is a moment with its monotonic reading, for what is not the machine's.
func (c *Catalog) timeOf(m suite.Mono) time.Time { return c.began.Add(time.Duration(m)) }

// Reconfigure replaces the set of archives: new ones are known from now on, with what was believed
// of them if they were known before; those that are gone are no longer answered for; and changed
// keys hold from the next generation on. After an error, what was believed of new archives cannot be
// known, and nothing has changed.
func (c *Catalog) Reconfigure(archives []Archive) error {
	files, err := c.cfg.State.ListFiles(suiteDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("load the catalog's state: %w", err)
	}
	next := make(map[string]*Archive, len(archives))
	for _, a := range archives {
		a.searching = make(chan struct{}, searchSlots)
		next[a.Name] = &a
	}
	added, gone, kept := c.replaceArchives(next)
	for _, d := range gone {
		d.leave()
	}
	c.forgetTransient(gone)
	for _, d := range kept {
		conf := d.suiteConfig(next[d.id.Archive])
		d.mail.post(func() { d.step(suite.Configured{Config: conf}) })
	}
	loaded := c.load(files, added)
	c.compose(slices.Collect(maps.Keys(next))...)
	for _, d := range loaded {
		d.start()
	}
	for _, a := range next {
		for _, id := range a.Suites {
			id.Archive = a.Name
			c.driver(id)
		}
	}
	return nil
}

// forgetTransient removes what is written down of archives that are gone and leave nothing.
func (c *Catalog) forgetTransient(gone []*driver) {
	remove := func(state State, name string) {
		if err := state.RemoveFile(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.cfg.Logger.Warn("the state of an archive that is gone cannot be removed", "file", name, "error", err)
		}
	}
	for _, d := range gone {
		if !d.archive.Load().Transient {
			continue
		}
		remove(c.cfg.State, d.fileName())
		names, err := c.cfg.Tables.ListFiles(tablePrefix(d.id.Archive))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.cfg.Logger.Warn("the tables of an archive that is gone cannot be listed", "archive", d.id.Archive, "error", err)
		}
		for _, name := range names {
			remove(c.cfg.Tables, name)
		}
	}
}

// replaceArchives puts the new set in force. It returns the names that are new in it, the suites
// that are gone with the old one, and the suites that stay.
func (c *Catalog) replaceArchives(next map[string]*Archive) (added map[string]bool, gone, kept []*driver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	added = make(map[string]bool)
	for name := range next {
		if _, ok := c.archives[name]; !ok {
			added[name] = true
		}
	}
	for id, d := range c.drivers {
		if a, ok := next[id.Archive]; ok {
			d.archive.Store(a)
			kept = append(kept, d)
		} else {
			gone = append(gone, d)
			delete(c.drivers, id)
		}
	}
	c.archives = next
	return added, gone, kept
}

// Close ends watching, waits for what is under way, and notes what clients used.
func (c *Catalog) Close() {
	c.life.Lock()
	c.closed = true
	c.life.Unlock()
	c.cancel()
	c.wg.Wait()
}

// spawn runs f beside, unless the catalog is closed.
func (c *Catalog) spawn(f func()) bool {
	c.life.Lock()
	defer c.life.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// errClosed is what is left of a request that came while the node stopped.
var errClosed = &proto.Unavailable{Reason: "the node is shutting down"}

// errGone is what is left of a request to a suite that was forgotten at the same moment.
var errGone error = &proto.Unavailable{Reason: "the suite was forgotten at this moment", RetryAfter: time.Second}

// archive returns the configuration of an archive; nil where there is none.
func (c *Catalog) archive(name string) *Archive {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.archives[name]
}

// maxUnknown bounds the suites of an archive that have no generation yet: names that clients asked
// for.
const maxUnknown = 256

// errTooMany is the answer to a request for one more name that nobody knows.
var errTooMany = &proto.Unavailable{Reason: "too many suites of this archive are being looked for at this moment", RetryAfter: 5 * time.Second}

// driver returns the driver of a suite, made if need be. It fails where the archive is not
// configured, and where too many suites are known.
func (c *Catalog) driver(id proto.Suite) (*driver, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.drivers[id]; ok {
		return d, nil
	}
	a, ok := c.archives[id.Archive]
	if !ok {
		return nil, errUnknownArchive
	}
	if !a.watches(id) {
		if err := c.roomFor(a.Name); err != nil {
			return nil, err
		}
	}
	d := c.newDriver(id, a)
	c.drivers[id] = d
	if !c.startLocked(d) {
		delete(c.drivers, id)
		return nil, errClosed
	}
	return d, nil
}

// roomFor makes room for one more suite of an archive. It forgets the suite that was not asked for
// the longest; of suites without a generation, one that upstream has been asked about. The caller
// holds Catalog.mu.
func (c *Catalog) roomFor(archive string) error {
	unknown, known := 0, 0
	var oldest, answered *driver
	for id, d := range c.drivers {
		if id.Archive != archive {
			continue
		}
		p := d.public.Load()
		switch {
		case p.current == nil:
			unknown++
			if p.idle && p.lastTry != suite.Never && p.notice == "" && !d.archive.Load().watches(id) {
				answered = d
			}
		case !d.archive.Load().watches(id):
			known++
			if oldest == nil || d.demand.asked.Load() < oldest.demand.asked.Load() {
				oldest = d
			}
		}
	}
	switch {
	case unknown >= maxUnknown && answered == nil:
		return errTooMany
	case unknown >= maxUnknown:
		answered.takeOffLocked()
		answered.mail.post(answered.end)
	case known >= c.cfg.MaxSuites:
		oldest.mail.post(oldest.forget)
	}
	return nil
}

// known returns the driver of a suite if there is one.
func (c *Catalog) known(id proto.Suite) (*driver, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.drivers[id]
	return d, ok
}

// all returns the drivers of an archive, or of all archives for "".
func (c *Catalog) all(archive string) []*driver {
	c.mu.Lock()
	defer c.mu.Unlock()
	var drivers []*driver
	for id, d := range c.drivers {
		if archive == "" || id.Archive == archive {
			drivers = append(drivers, d)
		}
	}
	return drivers
}

// errUnknownArchive cannot reach a client while the frontend knows the same archives.
var errUnknownArchive = errors.New("archive is not configured (see `archives:` in the configuration)")

// random draws for the machines.
func random() float64 { return rand.Float64() }
