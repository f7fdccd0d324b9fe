package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Blobs opens an object by what it must be, wherever it comes from.
type Blobs interface {
	Open(context.Context, proto.Want) (*proto.Blob, error)
}

// Upstream fetches a mutable file: nothing says yet what it must be.
type Upstream interface {
	Fetch(context.Context, proto.Request) (*proto.Transfer, error)
	// Mirrors names the mirrors of an archive, as Request.Mirror has them, in the order
	// in which they would be asked now. The slice is the caller's.
	Mirrors(archive string) []string
	// Blame tells of mirrors whose bytes were not what they had to be.
	Blame(loc proto.Location, from []string, err error)
}

// Keeper is this node's store, for what the catalog itself must keep. What Put
// returns is durable.
type Keeper interface {
	Get(proto.Digest) (*proto.Blob, error)
	Put(b []byte, modified time.Time) (proto.Ref, error)
	// Pin replaces the set of blobs that owner wants never evicted.
	Pin(owner string, digests []proto.Digest)
}

// State keeps small files under names. WriteFile is durable and atomic; an
// absent file is fs.ErrNotExist.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error)
	RemoveFile(name string) error
	ListFiles(prefix string) ([]string, error)
}

// Archive is one configured archive.
type Archive struct {
	Name string
	// Keyring holds the keys that may sign; nil where Unsigned.
	Keyring *aptmeta.Keyring
	// Unsigned accepts the archive without any signature.
	Unsigned bool
	// Suites are directories to watch from the start ("dists/noble").
	Suites []string
	// CheckEvery is how often upstream is asked for a new Release. Default 60 s.
	CheckEvery time.Duration
	// ServeExpired, where not nil, stands in for Config.ServeExpired and
	// Config.ServeExpiredSecurity in this archive; 0 serves nothing past Valid-Until.
	ServeExpired *time.Duration
	// Offline asks upstream for nothing: what is held is served, however old.
	Offline bool
	// Restricted says that not every client may have what is in the archive. While any
	// archive is, a by-hash name vouches for its content only where the archive that it
	// was asked for lists it: nobody has an object of the one through a name below
	// the other.
	Restricted bool
}

// Config is what a Catalog needs. The four interfaces, Archives and Logger must
// be set; zero durations and counts take their defaults.
type Config struct {
	Archives []Archive
	Blobs    Blobs
	Upstream Upstream
	Keeper   Keeper
	State    State
	// Cluster is the other nodes; nil where this one is alone.
	Cluster Cluster
	Logger  *slog.Logger
	Now     func() time.Time

	// RetainFor and RetainMax bound how long, and how many, superseded
	// generations of a suite stay readable; the newest of them always does.
	// Defaults 24 h and 8.
	RetainFor time.Duration
	RetainMax int
	// IdleAfter is how long a suite is watched after the last client asked for
	// it, UseFor how long a member is staged after the last client asked for it.
	// Defaults 24 h and 7 days.
	IdleAfter, UseFor time.Duration
	// Patience is how long a new generation waits for an optional index that
	// cannot be had. Default 2 minutes.
	Patience time.Duration
	// MaxFuture is how far the Date of a Release may lie ahead of our clock.
	// Default 10 s, which is apt's own (Acquire::Max-FutureTime).
	MaxFuture time.Duration
	// CheckWait bounds how long a client waits for a check of upstream while
	// there is something older to give it; FindWait how long for the indices that
	// would list what it asks for. Defaults 3 s and 20 s.
	CheckWait, FindWait time.Duration

	// ServeExpired and ServeExpiredSecurity are how long after its Valid-Until a
	// Release is served while upstream cannot say whether there is a newer one; the
	// second one in suites that carry security updates. Where upstream went on with an
	// expired one, the time counts from its last word. Negative: not at all.
	// Defaults 7 days and 24 h.
	ServeExpired, ServeExpiredSecurity time.Duration
	// WarnBefore is how long before its Valid-Until a Release that nobody renews is
	// warned of. Negative: when that has passed. Default 24 h.
	WarnBefore time.Duration

	// Flipped is told of every generation that is adopted, one after the other for each
	// suite, on a goroutine of its own; nil where nobody wants to know. It is not told
	// of those that a restart reads back. Close waits for it to return.
	Flipped func(Flip)
}

func (c Config) withDefaults() Config {
	setDefault(&c.RetainFor, 24*time.Hour)
	setDefault(&c.RetainMax, 8)
	setDefault(&c.IdleAfter, 24*time.Hour)
	setDefault(&c.UseFor, 7*24*time.Hour)
	setDefault(&c.Patience, 2*time.Minute)
	setDefault(&c.MaxFuture, 10*time.Second)
	setDefault(&c.CheckWait, 3*time.Second)
	setDefault(&c.FindWait, 20*time.Second)
	setDefault(&c.ServeExpired, 7*24*time.Hour)
	setDefault(&c.ServeExpiredSecurity, 24*time.Hour)
	setDefault(&c.WarnBefore, 24*time.Hour)
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
	view    atomic.Pointer[view]

	ctx    context.Context // ends watching and ingesting
	cancel context.CancelFunc
	life   sync.Mutex
	closed bool           // guarded by life
	wg     sync.WaitGroup // Add is guarded by life
	slots  chan struct{}  // bounds indices parsed at one time
	behind chan struct{}  // bounds members taken in at one time for the clients of other nodes

	reconfiguring sync.Mutex
	cleaning      sync.RWMutex // held to remove tables, read-held to claim one
	composing     sync.Mutex   // one next view at a time
	mu            sync.Mutex
	archives      map[string]Archive          // guarded by mu
	restricted    bool                        // one of them is; guarded by mu
	suites        map[proto.Suite]*suite      // guarded by mu
	ingests       map[proto.Location]*ingest  // guarded by mu
	failed        map[thing]failure           // what could not be had lately; guarded by mu
	finding       map[proto.Location]struct{} // suites looked for in the background; guarded by mu
	claims        map[string]int              // tables that will be referred to soon, by name; guarded by mu
	lists         map[string][]string         // names of the lists merged, by archive; guarded by composing
}

// parseSlots is how many indices are decompressed and parsed at one time: they
// cost a core each, and clients want one too.
const parseSlots = 2

// New loads what was believed when the node stopped, and starts watching. It
// reads no index and waits for nobody: it is ready when it returns. Close ends it.
func New(cfg Config) (*Catalog, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Catalog{
		cfg:      cfg.withDefaults(),
		metrics:  newMetrics(),
		ctx:      ctx,
		cancel:   cancel,
		slots:    make(chan struct{}, parseSlots),
		behind:   make(chan struct{}, stageParallel),
		archives: make(map[string]Archive),
		suites:   make(map[proto.Suite]*suite),
		ingests:  make(map[proto.Location]*ingest),
		failed:   make(map[thing]failure),
		finding:  make(map[proto.Location]struct{}),
		claims:   make(map[string]int),
		lists:    make(map[string][]string),
	}
	c.view.Store(&view{})
	if err := c.reconfigure(cfg.Archives); err != nil {
		cancel()
		return nil, fmt.Errorf("load the catalog's state: %w", err)
	}
	return c, nil
}

// Reconfigure replaces the set of archives: new ones are known from now on, with
// what was believed of them if they were known before; those that are gone are no
// longer answered for; and changed keys hold from the next generation on.
func (c *Catalog) Reconfigure(archives []Archive) {
	if err := c.reconfigure(archives); err != nil {
		c.cfg.Logger.Warn("what was believed of new archives cannot be loaded; it is read from upstream again", "error", err)
	}
}

func (c *Catalog) reconfigure(archives []Archive) error {
	c.reconfiguring.Lock()
	defer c.reconfiguring.Unlock()
	next := make(map[string]Archive, len(archives))
	for _, a := range archives {
		setDefault(&a.CheckEvery, time.Minute)
		next[a.Name] = a
	}
	added, gone := c.replaceArchives(next)
	for _, s := range gone {
		s.leave()
	}
	// All are loaded before any is watched: a flip removes the tables that no
	// suite refers to.
	loaded, err := c.load(added)
	names := make([]string, 0, len(next))
	for name := range next {
		names = append(names, name)
	}
	c.compose(names...)

	now := c.cfg.Now()
	for _, s := range loaded {
		s.resume(now)
	}
	for _, a := range next {
		for _, dir := range a.Suites {
			if s, ok := c.suite(proto.Suite{Archive: a.Name, Dir: dir}); ok {
				s.ask(now)
			}
		}
	}
	return err
}

// replaceArchives puts the new set in force and tells which names are new in it
// and which suites are gone with the old one.
func (c *Catalog) replaceArchives(next map[string]Archive) (added map[string]bool, gone []*suite) {
	c.mu.Lock()
	defer c.mu.Unlock()
	added = make(map[string]bool)
	for name := range next {
		if _, ok := c.archives[name]; !ok {
			added[name] = true
		}
	}
	for id, s := range c.suites {
		if a, ok := next[id.Archive]; ok {
			s.conf.Store(&a)
		} else {
			gone = append(gone, s)
			delete(c.suites, id)
		}
	}
	c.archives = next
	c.restricted = slices.ContainsFunc(slices.Collect(maps.Values(next)), func(a Archive) bool { return a.Restricted })
	return added, gone
}

// Close ends watching, waits for what is under way, and notes what clients used.
func (c *Catalog) Close() {
	c.life.Lock()
	again := c.closed
	c.closed = true
	c.life.Unlock()
	c.cancel()
	c.wg.Wait()
	if again {
		return
	}
	c.mu.Lock()
	suites := slices.Collect(maps.Values(c.suites))
	c.mu.Unlock()
	for _, s := range suites {
		s.saveOrWarn()
	}
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

// archive returns the configuration of an archive.
func (c *Catalog) archive(name string) (Archive, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.archives[name]
	return a, ok
}

// anyRestricted reports whether one of the archives is not for every client.
func (c *Catalog) anyRestricted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restricted
}

// suite returns the suite of this name, made if need be; false if its archive is
// not configured.
func (c *Catalog) suite(id proto.Suite) (*suite, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.suites[id]; ok {
		return s, true
	}
	a, ok := c.archives[id.Archive]
	if !ok {
		return nil, false
	}
	s := newSuite(c, id, a)
	c.suites[id] = s
	return s, true
}

// known returns the suite of this name if there is one.
func (c *Catalog) known(id proto.Suite) (*suite, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.suites[id]
	return s, ok
}

// errUnknownArchive cannot reach a client while the door knows the same archives.
var errUnknownArchive = errors.New("archive is not configured (see `archives:` in the configuration)")
