package holds

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/holds/rows"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// Catalog is what the node believes. Its methods are safe for concurrent use.
type Catalog interface {
	// Capture returns the suites of an archive at one moment; none where nothing of it is known.
	Capture(archive string) []proto.Captured
	// Contents opens and verifies the root of a captured suite, as of a moment.
	Contents(ctx context.Context, at time.Time, s proto.Captured) (*proto.Manifest, error)
	// ObjectOf is what it takes to obtain a member of a generation.
	ObjectOf(g proto.Generation, m *proto.Member) proto.ObjectRequest
	// Check asks upstream whether a suite has a newer generation, with one conditional request.
	Check(ctx context.Context, id proto.Suite) (changed bool, err error)
}

// Store is where what is held lies.
type Store interface {
	// Hold makes a set the blobs that are not evicted, in place of the set before.
	Hold(Held)
	Stat(proto.Digest) (proto.Ref, bool)
	// Check hashes a blob and removes it where it is damaged; see blobstore.Store.
	Check(d proto.Digest, after func(n int) error) (whole bool, err error)
	// Limit is how many bytes all blobs may have together.
	Limit() int64
}

// Held is a set of digests that is never changed.
type Held interface {
	Has(proto.Digest) bool
	All() iter.Seq[proto.Digest]
}

// State keeps files under names, durably.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error)
	OpenFile(name string) (*os.File, error)
	RemoveFile(name string) error
	ListFiles(prefix string) ([]string, error)
}

// Ring is who is in the cluster at one moment, and who owns what. It is never changed.
type Ring interface {
	// Owners are up to n nodes for a key, in order.
	Owners(key []byte, n int) []string
	Names() []string
	Hash() uint64
}

// Config is what a Keeper needs. Ring, Holders and Now have no need to be set.
type Config struct {
	// Node is this node's name.
	Node    string
	Catalog Catalog
	Formats func(archive string) want.Format // nil for an archive that is not configured
	// Open opens an object, wherever it comes from; Stored reports whether this node's store has it.
	Open   func(context.Context, proto.ObjectRequest) (*proto.Blob, error)
	Stored func(proto.ObjectRequest) bool
	Store  Store
	State  State
	// Ring returns the nodes of the cluster now; nil where this node stands alone.
	Ring func() Ring
	// Holders names other nodes that are believed to store a blob.
	Holders func(proto.Digest) []string
	// Used reports whether hosts of this node use the package of a file.
	Used func(archive, path string) bool
	// MaxPinned is how many bytes of a store of a size may be held.
	MaxPinned func(limit int64) int64
	Logger    *slog.Logger
	Now       func() time.Time
	// Parallel is how many files are fetched at one time for all holds together. Default 8.
	Parallel int
	// ShareAfter is how long the ring must stay the same until shares follow it. Default 1 minute.
	ShareAfter time.Duration
	// RetryAfter is the first pause before what failed is tried again; it doubles up to RetryMost. Defaults 1 minute,
	// 1 hour.
	RetryAfter, RetryMost time.Duration
}

func (c Config) withDefaults() Config {
	c.Parallel = cmp.Or(c.Parallel, 8)
	c.ShareAfter = cmp.Or(c.ShareAfter, time.Minute)
	c.RetryAfter = cmp.Or(c.RetryAfter, time.Minute)
	c.RetryMost = cmp.Or(c.RetryMost, time.Hour)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Holders == nil {
		c.Holders = func(proto.Digest) []string { return nil }
	}
	return c
}

// Keeper keeps the holds of this node. Safe for concurrent use.
type Keeper struct {
	cfg Config
	log *slog.Logger

	fetching chan struct{} // a place for each file under way
	reading  chan struct{} // one place: reading indexes takes memory, and time of a processor that serves clients

	ctx    context.Context // ends the workers
	cancel context.CancelFunc
	wg     sync.WaitGroup

	changing sync.Mutex // one change of what is held at a time; before mu

	mu      sync.Mutex // guards what follows, and the holds of workers
	closed  bool
	workers map[string]*worker // by owner
	ring    Ring               // that shares follow; nil: alone, or nothing is known yet
	shared  bool               // the node has started, and is alone or knows its ring: shares can be told
	union   *rows.Set          // what the store holds
}

// New reads back what is held, so that nothing of it is evicted, and fetches nothing: see SetMirrors and Keep.
func New(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg.withDefaults(), log: cfg.Logger, workers: make(map[string]*worker), union: &rows.Set{}}
	k.fetching, k.reading = make(chan struct{}, k.cfg.Parallel), make(chan struct{}, 1)
	k.ctx, k.cancel = context.WithCancel(context.Background())
	files, err := k.cfg.State.ListFiles(holdDir)
	if err != nil {
		return nil, fmt.Errorf("list what is held: %w", err)
	}
	for _, file := range files {
		owner := strings.TrimPrefix(file, holdDir)
		h, err := k.readHold(owner)
		if err != nil {
			// What it held may be evicted from here on, and is fetched again.
			k.log.Error("what a mirror or snapshot holds cannot be read back: it is planned anew", "hold", owner, "error", err)
			continue
		}
		k.workers[owner] = newWorker(k, owner, h)
	}
	k.removeSets()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.settle(); err != nil {
		return nil, err
	}
	return k, nil
}

// Start begins to fetch, in a cluster once it is known who is in it.
func (k *Keeper) Start() {
	if k.cfg.Ring != nil {
		k.wg.Go(k.followRing)
		return
	}
	k.setRing(nil)
}

// Close ends all work.
func (k *Keeper) Close() error {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.wg.Wait()
	return nil
}

// followRing takes over a ring that has stayed the same for a while, the first one at once.
func (k *Keeper) followRing() {
	tick := time.NewTicker(min(k.cfg.ShareAfter/4+time.Millisecond, 5*time.Second))
	defer tick.Stop()
	var seen uint64
	var since time.Time
	for {
		if r := k.cfg.Ring(); r != nil && len(r.Names()) > 0 {
			k.mu.Lock()
			now, known := k.ring, k.shared
			k.mu.Unlock()
			switch {
			case known && now.Hash() == r.Hash():
				seen = 0
			case !known:
				k.setRing(r)
			case seen != r.Hash():
				seen, since = r.Hash(), time.Now()
			case time.Since(since) >= k.cfg.ShareAfter:
				k.setRing(r)
			}
		}
		select {
		case <-tick.C:
		case <-k.ctx.Done():
			return
		}
	}
}

func (k *Keeper) setRing(r Ring) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.ring, k.shared = r, true
	if err := k.settle(); err != nil {
		k.log.Error("the shares of what is held cannot follow the cluster", "error", err)
	}
	for _, w := range k.workers {
		w.wake(wakeShares)
	}
}

// mine reports whether this node holds a file of which there are to be copies. The caller holds mu.
func (k *Keeper) mine(copies int) func(key []byte) bool {
	ring, node := k.ring, k.cfg.Node
	if copies == 0 || ring == nil || copies >= len(ring.Names()) {
		return func([]byte) bool { return true }
	}
	return func(key []byte) bool { return slices.Contains(ring.Owners(key, copies), node) }
}

// share is mine as a part of a union. The caller holds mu.
func (k *Keeper) share(g *generation) []rows.Part {
	mine := k.mine(g.Copies)
	return []rows.Part{{Set: g.indexes}, {Set: g.files, Keep: func(ref proto.Ref) bool { return mine(ref.Digest[:]) }}}
}

// unite makes one set of what this node is to hold of generations. The caller holds mu.
func (k *Keeper) unite(generations iter.Seq[*generation]) (*rows.Set, error) {
	var parts []rows.Part
	for g := range generations {
		parts = append(parts, k.share(g)...)
	}
	return rows.Unite(parts...)
}

// generations yields what all holds have, and more. The caller holds mu.
func (k *Keeper) generations(more ...*generation) iter.Seq[*generation] {
	return func(yield func(*generation) bool) {
		for _, owner := range slices.Sorted(maps.Keys(k.workers)) {
			for _, g := range k.workers[owner].hold.Generations {
				if !yield(g) {
					return
				}
			}
		}
		for _, g := range more {
			if !yield(g) {
				return
			}
		}
	}
}

// settle tells the store what is held. The caller holds mu.
func (k *Keeper) settle() error {
	union, err := k.unite(k.generations())
	if err != nil {
		return fmt.Errorf("join what is held: %w", err)
	}
	k.union = union
	k.cfg.Store.Hold(union)
	return nil
}

// HoldSize is a hold and its part of a node's store, in bytes.
type HoldSize struct {
	Owner string
	Bytes int64
}

// TooLarge refuses a hold that does not fit.
type TooLarge struct {
	// Owner is what would be held, Need how many more bytes that takes on this node, Held what is held already, Limit
	// how much may be.
	Owner             string
	Need, Held, Limit int64
	// Largest are the largest holds that there are, at most three.
	Largest []HoldSize
}

func (t *TooLarge) Error() string {
	var largest []string
	for _, h := range t.Largest {
		largest = append(largest, fmt.Sprintf("%s (%s)", h.Owner, humanize.IBytes(uint64(h.Bytes))))
	}
	text := fmt.Sprintf("%s does not fit: it needs %s more on this node, %s are held already, and %s may be held in all (snapshots.max_pinned of cache.max_size); "+
		"raise one of them, or hold less", t.Owner, humanize.IBytes(uint64(t.Need)), humanize.IBytes(uint64(t.Held)), humanize.IBytes(uint64(t.Limit)))
	if len(largest) > 0 {
		text += ". The largest holds: " + strings.Join(largest, ", ") + "; a snapshot is named by its record (aptmesh snapshot list), and one that was removed holds what it held for a day (list --removed)"
	}
	return text
}

// fits fails with *TooLarge where a generation cannot be held besides what is held already. need is what it adds. The
// caller holds mu.
func (k *Keeper) fits(owner string, g *generation) (need int64, err error) {
	all, err := k.unite(k.generations(g))
	if err != nil {
		return 0, err
	}
	held, limit := k.union.Bytes(), k.cfg.MaxPinned(k.cfg.Store.Limit())
	need = all.Bytes() - held
	if need > 0 && held+need > limit {
		return need, &TooLarge{Owner: owner, Need: need, Held: held, Limit: limit, Largest: k.largest(3)}
	}
	return need, nil
}

// largest are the holds that take most of this node. The caller holds mu.
func (k *Keeper) largest(most int) (sizes []HoldSize) {
	for owner, w := range k.workers {
		if set, err := k.unite(slices.Values(w.hold.Generations)); err == nil && set.Len() > 0 {
			sizes = append(sizes, HoldSize{label(owner), set.Bytes()})
		}
	}
	slices.SortFunc(sizes, func(a, b HoldSize) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Owner, b.Owner)) })
	return sizes[:min(len(sizes), most)]
}

// ErrUnknown is that there is no such mirror.
var ErrUnknown = errors.New("there is no mirror of that name in the configuration")

var emptyDigest = proto.DigestOf(nil)

// stored reports whether a blob is in the store. Nobody stores the empty one.
func (k *Keeper) stored(ref proto.Ref) bool {
	if ref.Digest == emptyDigest {
		return true
	}
	_, ok := k.cfg.Store.Stat(ref.Digest)
	return ok
}

// setOf makes a set of refs: its file, and what that is called.
func setOf(refs []proto.Ref) (name string, text []byte, set *rows.Set, err error) {
	var b bytes.Buffer
	if err := rows.Write(&b, refs); err != nil {
		return "", nil, nil, err
	}
	set, err = rows.Read(b.Bytes())
	return setDir + proto.DigestOf(b.Bytes()).String(), b.Bytes(), set, err
}
