package prefetch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// Config is what a Prefetcher needs. Formats, Open, Held, State and Logger must be set; zero
// sizes, durations and counts take their defaults.
type Config struct {
	// Formats returns the format of an archive; nil for one that is not configured.
	Formats func(archive string) Format
	// Open opens an object, wherever it comes from.
	Open func(context.Context, proto.ObjectRequest) (*proto.Blob, error)
	// Stored reports whether this node's store has an object.
	Stored func(proto.ObjectRequest) bool
	State  State
	Logger *slog.Logger
	Now    func() time.Time

	Settings
	// Parallel is how many objects are fetched ahead at one time, for all switches
	// together. Default 4.
	Parallel int
}

func (c Config) withDefaults() Config {
	if c.Parallel <= 0 {
		c.Parallel = 4
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Bounds of memory.
const (
	maxReasons  = 10_000 // objects of which it is known why they were fetched or not
	maxReady    = 20_000 // objects fetched ahead and not asked for yet
	maxSwitches = 20     // that Stats shows
)

// Prefetcher fetches ahead. Safe for concurrent use.
type Prefetcher struct {
	cfg   Config
	log   *slog.Logger
	usage *usage
	ready *ready

	fetching chan struct{} // a place for each object under way
	reading  chan struct{} // one place: reading indices takes memory, and time of a processor that serves clients

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	settings Settings
	jobs     map[proto.Suite]*job                 // running; guards what a job and an item say is guarded
	recent   []*job                               // the last maxSwitches, oldest first
	reasons  *expiring.Map[proto.Location, *item] // by what was planned
	underWay map[proto.Location]chan struct{}     // closed when it has ended
	totals   map[Outcome]int64                    // objects
	bytes    int64                                // of objects fetched, and of those that failed on the way
}

// New reads back what clients have used, and is ready.
func New(cfg Config) (*Prefetcher, error) {
	if cfg.Formats == nil || cfg.Open == nil || cfg.Stored == nil || cfg.State == nil || cfg.Logger == nil {
		return nil, errors.New("prefetch: Formats, Open, Held, State and Logger must be set")
	}
	cfg = cfg.withDefaults()
	p := &Prefetcher{
		cfg: cfg, log: cfg.Logger, usage: newUsage(), ready: newReady(),
		fetching: make(chan struct{}, cfg.Parallel), reading: make(chan struct{}, 1),
		settings: cfg.Settings,
		jobs:     make(map[proto.Suite]*job),
		reasons:  expiring.New[proto.Location, *item](maxReasons),
		underWay: make(map[proto.Location]chan struct{}),
		totals:   make(map[Outcome]int64),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.load()
	p.wg.Go(p.saveNowAndThen)
	return p, nil
}

// Used notes that a client was served the file at loc. It is called for every answer: it takes
// a few hundred nanoseconds at most, allocates only for a new package, and waits only for
// other calls of Used.
func (p *Prefetcher) Used(loc proto.Location) {
	id, ok := p.identity(loc)
	if !ok {
		return
	}
	p.usage.note(keyOf(loc.Archive, id), slotOf(p.cfg.Now()))
	p.ready.asked(loc)
}

// LastUsed is when a client was last served a version of the package that the file at loc is one of, to within ten minutes;
// zero where that is not known. Of this node's clients the latest 50,000 packages are remembered.
func (p *Prefetcher) LastUsed(loc proto.Location) time.Time {
	id, ok := p.identity(loc)
	if !ok {
		return time.Time{}
	}
	return p.usage.last(keyOf(loc.Archive, id))
}

// InUse reports whether clients use the package of which the file at loc is a version: whether they took one within
// Settings.UsedWithin.
func (p *Prefetcher) InUse(loc proto.Location) bool {
	id, ok := p.identity(loc)
	if !ok {
		return false
	}
	p.mu.Lock()
	within := uint32(p.settings.UsedWithin / slotLength)
	p.mu.Unlock()
	return p.usage.heat(keyOf(loc.Archive, id), slotOf(p.cfg.Now()), within) > 0
}

// identity names the package that a file is a version of.
func (p *Prefetcher) identity(loc proto.Location) (proto.PackageID, bool) {
	format := p.cfg.Formats(loc.Archive)
	if format == nil {
		return proto.PackageID{}, false
	}
	return format.Identity(loc.Path)
}

// Why a job ends before its plan is done.
var (
	errSuperseded = errors.New("a newer generation came first")
	errDisabled   = errors.New("prefetch.enabled was turned off")
	errClosed     = errors.New("the node was stopped")
)

// Switched starts fetching ahead for a new generation and returns at once. A running job for
// the generation before ends. The new job takes over what that job had not fetched yet, if the
// new generation still lists it.
func (p *Prefetcher) Switched(next proto.Switch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	format := p.cfg.Formats(next.Suite.Archive)
	if p.closed || !p.settings.Enabled || format == nil || next.New == nil { // nothing is known to be new
		return
	}
	j := &job{next: next, format: format, began: p.cfg.Now(), maxBytes: p.settings.MaxBytes, usedWithin: p.settings.UsedWithin, leftOver: nothing}
	j.ctx, j.cancel = context.WithCancelCause(p.ctx)
	if older, ok := p.jobs[next.Suite]; ok {
		j.leftOver = older.left()
		older.cancel(errSuperseded)
	}
	p.jobs[next.Suite] = j
	p.recent = append(p.recent, j)
	if len(p.recent) > maxSwitches {
		p.recent = append([]*job(nil), p.recent[1:]...)
	}
	p.wg.Go(func() { p.run(j) })
}

// Reconfigure changes what New was given. Turned off, what is under way ends; the
// bounds hold from the next switch on.
func (p *Prefetcher) Reconfigure(s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings = s
	if !s.Enabled {
		for _, j := range p.jobs {
			j.cancel(errDisabled)
		}
	}
}

// Close ends what is under way, waits for it, and writes down what clients have used.
// Only Used, Why and Stats are of use afterwards, and calling Close again is none.
func (p *Prefetcher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel(errClosed)
	p.wg.Wait()
	return p.save()
}
