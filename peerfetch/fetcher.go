package peerfetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Store is where objects are kept. Safe for concurrent use.
type Store interface {
	// Get opens a blob, or returns fs.ErrNotExist. The store vouches that the
	// bytes were right when they were committed.
	Get(proto.Digest) (*proto.Blob, error)
	// Create starts a blob of size bytes (proto.UnknownSize where nobody knows)
	// and reserves room for it; proto.ErrNoSpace when there is none.
	Create(size int64) (Writer, error)
	// Resume is Create for a blob whose digest and size are proven. The writer offers the
	// partial file that the last writer left, if that one had the same from.
	Resume(ref proto.Ref, from string) (Writer, error)
	// PartialSize returns how many bytes the partial file of a blob has at most. It must not block.
	PartialSize(ref proto.Ref, from string) int64
	// Unreadable reports a blob whose file f could not be read to its end: it is a miss from
	// then on, unless it has been stored again since.
	Unreadable(d proto.Digest, f *os.File, err error)
	// Only returns the archives through which alone a blob may be given; nil where it is
	// open to all. It is called for every hit.
	Only(proto.Digest) []string
}

// Writer takes one blob into the store. Used by one flight only; Reader may be
// called at the same time as the other methods.
type Writer interface {
	// Write keeps and hashes p. When the disk is full it keeps n bytes and
	// returns proto.ErrNoSpace.
	Write(p []byte) (n int, err error)
	// TakeBack reads a piece of what the last writer left, and is to be called until there is
	// no more. It returns how many bytes the blob has by then; they are as they were received.
	TakeBack() (size int64, more bool)
	// Sum is the digest and size of all bytes written so far.
	Sum() proto.Ref
	// Reader opens a private handle at offset 0. It stays readable after Commit
	// and Abort.
	Reader() (*os.File, error)
	// Only restricts what Commit will store to an archive, besides those that an equal
	// blob has. Without a call the blob is open to all.
	Only(archive string)
	// Commit makes the blob durable under the digest of what was written.
	Commit(modified time.Time) (proto.Ref, error)
	// Abort forgets the blob. After Commit it does nothing.
	Abort()
	// Park is Abort that leaves the bytes to the next Resume.
	Park()
}

// Source is the archives upstream, each of them at one mirror or several. Nobody
// trusts it: what it yields is hashed here. Safe for concurrent use.
type Source interface {
	// Fetch asks the mirrors in the order it thinks best and returns when one of them
	// has bytes to give. A mirror whose body ended in an error before is not the first
	// to be asked for the rest.
	Fetch(context.Context, proto.Request) (*proto.Transfer, error)
	// Mirrors names those of an archive that may be asked, as Transfer.From does. It
	// must not block.
	Mirrors(archive string) []string
	// Blame reports wrong content. If from is one mirror, this mirror gave all of it. If
	// from is several, any of them may have given the wrong part, and they must be asked
	// one at a time to find out. It must not block.
	Blame(loc proto.Location, from []string, err error)
}

// Config is what a Fetcher needs. Store, Upstream and Logger must be set; a zero
// duration or size takes its default.
type Config struct {
	Store    Store
	Upstream Source
	Logger   *slog.Logger

	// Restricted reports whether only some clients may have what is in an archive; nil:
	// none is. It may change its mind at any time, and must not block (restrict.go).
	Restricted func(archive string) bool
	// Cluster is the other nodes; nil where this one is alone.
	Cluster Cluster
	// Started, if not nil, is called when this node begins to fetch an object of
	// known digest from upstream (true), and when that failed (false). It must not
	// block.
	Started func(d proto.Digest, begun bool)

	// Notes, where not nil, keeps what unlisted files are over restarts.
	Notes Notes
	// ServeStale, where not nil, is how long after upstream last said so an unlisted file of an
	// archive is given out while upstream cannot be asked. It must not block.
	ServeStale func(archive string) time.Duration

	// Linger is how long a flight continues without readers, so that a client
	// whose connection broke finds it again. Default 2 s; never more than 200 ms if the next
	// flight can resume from what this flight leaves in the store.
	Linger time.Duration
	// HoldSmall is the size in bytes up to which a body is given out only when it is proven, or
	// complete where nothing can prove it: it costs no time worth speaking of, and a bad one can be
	// fetched again before any client has noticed. Default 64 KiB.
	HoldSmall int64
	// UnlistedFresh is how long an unlisted file is served before upstream is
	// asked again whether it changed, unless ArchiveChanged ends that. Default 30 s.
	UnlistedFresh time.Duration
	// NotFoundFor is how long this node remembers that upstream does not have a file, for
	// names that nothing signed lists. Default 30 s; negative: not at all.
	NotFoundFor time.Duration
	// Window is how many bytes of a body are kept in memory while the store has
	// no room for it. Default 8 MiB per flight.
	Window int
	// ReaderPatience is how long the slowest reader may delay a flight with a window
	// before this reader is dropped. Default 30 s.
	ReaderPatience time.Duration

	// FallbackPause bounds the random pause before this node goes upstream for an
	// object that it expected from other nodes. The pause keeps all nodes from going
	// upstream at once when one node dies. Default 500 ms.
	FallbackPause time.Duration
	// HedgeAfter is how long a peer may take to answer before the next one that
	// holds the object is asked as well; HedgeUpTo is the size in bytes up to which
	// that is done. Defaults 100 ms and 1 MiB.
	HedgeAfter time.Duration
	HedgeUpTo  int64
}

func (c Config) withDefaults() Config {
	c.Linger = cmp.Or(c.Linger, 2*time.Second)
	c.HoldSmall = cmp.Or(c.HoldSmall, 64<<10)
	c.UnlistedFresh = cmp.Or(c.UnlistedFresh, 30*time.Second)
	c.NotFoundFor = cmp.Or(c.NotFoundFor, 30*time.Second)
	c.Window = cmp.Or(c.Window, 8<<20)
	c.ReaderPatience = cmp.Or(c.ReaderPatience, 30*time.Second)
	c.FallbackPause = cmp.Or(c.FallbackPause, 500*time.Millisecond)
	c.HedgeAfter = cmp.Or(c.HedgeAfter, 100*time.Millisecond)
	c.HedgeUpTo = cmp.Or(c.HedgeUpTo, 1<<20)
	return c
}

// key is what makes two requests the same flight: the digest if it is known, else the
// SHA-512, else the target. A request that accepts several contents has a flight of its
// own, because a reader that accepts only one of them cannot follow it. So has each length
// that a listing gives.
type key struct {
	digest proto.Digest
	set    proto.Digest // of several contents (setOf)
	sha512 proto.SHA512
	loc    proto.Location
	size   int64 // of what is proven by a sum, as it is listed
	// scope is the restricted archive that the object is wanted of; "" for all others.
	scope string
	// apart is the one archive whose readers share the flight; "" where those of others may.
	apart string
}

func keyOf(object proto.ObjectRequest) key {
	if !object.Provable() {
		return key{loc: object.Where.First}
	}
	k := key{size: object.Size()}
	switch {
	case len(object.Others) > 0:
		k.set = setOf(&object)
	case !object.Ref.IsZero():
		k.digest = object.Ref.Digest
	default:
		k.sha512 = object.SHA512
	}
	if !object.Listed() {
		k.apart = object.Where.First.Archive // nothing signed says that this object exists
	}
	return k
}

// Fetcher opens objects, wherever they have to come from. Safe for concurrent use.
type Fetcher struct {
	cfg     Config
	metrics *metrics
	learned learnedTable
	budget  *budget
	absent  *absentTable
	heads   *heads
	noted   atomic.Int64 // notes written since the start (stale.go)

	excluded   recentSet // peers that gave wrong content, by object
	silent     recentSet // unlisted files given out stale
	doubted    recentSet // objects of which clients were given wrong bytes
	lapses     lapseSet  // peers that passed on wrong content of their upstream, by object
	redirected recentSet // peers that were redirected to other nodes, by object
	apart      apart     // archives that share no flight with others

	ctx    context.Context // ends all flights
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	flights  map[key]*flight // guarded by mu
	underWay int             // flights that have not ended, also those whose place in the table a newer one has; guarded by mu
	closed   bool            // guarded by mu
}

// New returns a Fetcher. Close ends it.
func New(cfg Config) *Fetcher {
	ctx, cancel := context.WithCancel(context.Background())
	cfg = cfg.withDefaults()
	f := &Fetcher{
		cfg:     cfg,
		metrics: newMetrics(),
		learned: newLearnedTable(),
		budget:  newBudget(),
		absent:  newAbsentTable(),
		heads:   newHeads(),

		excluded:   newRecentSet(excludeFor),
		silent:     newRecentSet(cfg.UnlistedFresh),
		doubted:    newRecentSet(doubtFor),
		lapses:     newLapseSet(),
		redirected: newRecentSet(redirectedFor),
		apart:      newApart(),

		ctx:     ctx,
		cancel:  cancel,
		flights: make(map[key]*flight),
	}
	f.recallNotes()
	return f
}

// Open returns the object that want names. A hit comes from the store; a miss
// joins the flight of that object or starts it, and returns when the first byte
// may be given out. The reads of a Stream end with ctx.
//
// Errors: proto.ErrNotFound, proto.ErrCorrupt, *proto.Unavailable and
// *proto.Refused as the source said, or the error of ctx.
func (f *Fetcher) Open(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	if object.Where.IsZero() {
		return nil, errNowhere
	}
	if object.Ref.Digest == emptyDigest && len(object.Others) == 0 {
		return &proto.Blob{Ref: proto.Ref{Digest: emptyDigest}, Verified: true, Tier: proto.TierMemory, Bytes: []byte{}}, nil
	}
	// Twice is enough: the second round is for an object that was evicted
	// between the moment a flight found it in the store and ours.
	for round := 0; ; round++ {
		if blob, err := f.stored(&object); err == nil {
			return blob, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the store: %w", err)
		}
		if blob := f.wasStale(&object); blob != nil {
			return blob, nil
		}
		blob, err := f.follow(ctx, object)
		if err == nil {
			return blob, nil
		}
		if !errors.Is(err, errStored) || round > 0 {
			if blob := f.staleAfter(&object, err); blob != nil {
				return blob, nil
			}
			return nil, err
		}
	}
}

// Reopen is Open for an object of which Open gave a File that could not be read to its end, because
// of err: the store forgets it, and another source sends it. Only a provable object is certain to
// be the same then. The caller still closes failed.
func (f *Fetcher) Reopen(ctx context.Context, object proto.ObjectRequest, failed *proto.Blob, err error) (*proto.Blob, error) {
	if failed.File == nil || failed.Ref.IsZero() || object.Ref != failed.Ref || len(object.Others) > 0 {
		return nil, err
	}
	f.cfg.Store.Unreadable(failed.Ref.Digest, failed.File, err)
	return f.Open(ctx, object)
}

// follow joins the flight of the object, or starts it, and opens it.
func (f *Fetcher) follow(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	r, err := f.join(ctx, object)
	if err != nil {
		return nil, err
	}
	blob, err := r.open()
	if err != nil {
		r.Close()
		return nil, err
	}
	return blob, nil
}

var errNowhere = errors.New("nothing says where upstream keeps the object: Want.Where is empty")

var emptyDigest = proto.DigestOf(nil)

// Stored reports the tier that would answer want right now without any transfer,
// or "" for none, and whether a flight is under way.
func (f *Fetcher) Stored(object proto.ObjectRequest) (tier proto.Tier, inFlight bool) {
	if blob, err := f.stored(&object); err == nil {
		tier = blob.Tier
		blob.Close()
	}
	return tier, f.flightOf(object) != nil
}

// flightOf is the flight that a request for want would join; nil for none.
func (f *Fetcher) flightOf(object proto.ObjectRequest) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flights[f.keyOf(object)]
}

// stored opens the object from the store, or says fs.ErrNotExist. Of several right contents
// it is the first that the store holds.
func (f *Fetcher) stored(object *proto.ObjectRequest) (*proto.Blob, error) {
	blob, err := f.storedFirst(object)
	if len(object.Others) > 0 && errors.Is(err, fs.ErrNotExist) {
		return f.storedOther(object)
	}
	return blob, err
}

// storedFirst is stored for the preferred content alone.
func (f *Fetcher) storedFirst(object *proto.ObjectRequest) (*proto.Blob, error) {
	digest, provable := object.Ref.Digest, true
	if digest.IsZero() {
		provable = object.Provable()
		if digest = f.learnedDigest(object, provable); digest.IsZero() {
			return nil, fs.ErrNotExist
		}
	}
	if digest == emptyDigest && len(object.Others) == 0 { // the store need not keep what is the same everywhere
		return &proto.Blob{Ref: proto.Ref{Digest: emptyDigest}, Verified: provable, Tier: proto.TierMemory, Bytes: []byte{}}, nil
	}
	size := object.Ref.Size
	if !provable {
		size = proto.UnknownSize
	}
	blob, err := f.fromStore(proto.Ref{Digest: digest, Size: size}, object.Where.First.Archive)
	if err == nil {
		blob.Verified = provable
	}
	return blob, err
}

// fromStore opens one content from the store for clients of an archive, as verified, or
// returns fs.ErrNotExist.
func (f *Fetcher) fromStore(ref proto.Ref, archive string) (*proto.Blob, error) {
	if !f.mayGive(ref.Digest, archive) {
		return nil, fs.ErrNotExist
	}
	blob, err := f.cfg.Store.Get(ref.Digest)
	if err != nil {
		return nil, err
	}
	if ref.Size != proto.UnknownSize && blob.Ref.Size != ref.Size {
		// Cut short or grown on the disk: a miss. The flight brings it anew.
		blob.Close()
		return nil, fs.ErrNotExist
	}
	blob.Verified = true
	return blob, nil
}

// learnedDigest is what an object without a SHA-256 turned out to be last time; zero if that is not
// known, or, for a file that nobody vouches for, if it is too long ago or the archive has published
// something since. It is kept out of stored for the sake of the stack of every idle connection.
//
//go:noinline
func (f *Fetcher) learnedDigest(object *proto.ObjectRequest, provable bool) proto.Digest {
	l, ok := f.learned.get(f.keyOf(*object))
	if !ok || !provable && (time.Since(l.checked) > f.cfg.UnlistedFresh || l.era != f.absent.era(object.Where.First.Archive)) {
		return proto.Digest{}
	}
	return l.ref.Digest
}

// join returns a reader of the object's flight, starting it if need be.
func (f *Fetcher) join(ctx context.Context, object proto.ObjectRequest) (*reader, error) {
	k := f.keyOf(object)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosing
	}
	if fl, ok := f.flights[k]; ok && !fl.outdated() {
		if r, ok := fl.addReader(ctx, &object, 0); ok {
			f.metrics.joined.Inc()
			return r, nil
		}
	}
	if err := f.mayStart(k, object); err != nil {
		return nil, f.refuse(err)
	}
	return f.startLocked(ctx, k, object, false, 0)
}

// mayStart returns nil if a flight for a client of this node may start, else what
// the last ones ended with.
func (f *Fetcher) mayStart(k key, object proto.ObjectRequest) error {
	now := time.Now()
	switch {
	case object.PeersOnly:
		return nil // no upstream to be spared
	case f.cfg.Cluster == nil:
		return f.mayAskUpstream(k, object, now)
	}
	if a, ok := f.absence(object, now); ok {
		return a.err(now)
	}
	return f.budget.allowAny(k, &object, true, now)
}

// startLocked starts a flight and returns its first reader, at byte offset. The caller holds mu.
func (f *Fetcher) startLocked(ctx context.Context, k key, object proto.ObjectRequest, forPeer bool, offset int64) (*reader, error) {
	if err := f.hasRoom(&object); err != nil {
		return nil, err
	}
	fl := newFlight(f, k, object, forPeer)
	r, _ := fl.addReader(ctx, &fl.object, offset)
	f.flights[fl.key] = fl
	f.underWay++
	f.metrics.started.Inc()
	f.wg.Go(fl.run)
	return r, nil
}

// maxFlights is how many fetches may be under way, each with a file and an entry in a queue of
// upstream. Those of objects that nothing signed lists may take up a part of it only.
const (
	maxFlights         = 4096
	maxUnlistedFlights = maxFlights / 4
)

// hasRoom returns nil if one more flight may start. The caller holds mu.
func (f *Fetcher) hasRoom(object *proto.ObjectRequest) error {
	most, of := maxFlights, "objects"
	if !object.Listed() {
		most, of = maxUnlistedFlights, "files that no signed index lists"
	}
	if f.underWay < most {
		return nil
	}
	f.metrics.refused.Inc()
	return withheld(&proto.Unavailable{Reason: fmt.Sprintf("this node has %d fetches under way and begins no more for %s", f.underWay, of), RetryAfter: time.Second, Answered: true})
}

var errClosing = &proto.Unavailable{Reason: "this node is shutting down"}

// drop takes a flight that ends out of the table, unless a newer one has its place.
func (f *Fetcher) drop(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.underWay--
	if f.flights[fl.key] == fl {
		delete(f.flights, fl.key)
	}
}

// Flight describes a fetch in progress.
type Flight struct {
	Loc     proto.Location
	Ref     proto.Ref
	Written int64      // bytes
	Readers int        // other nodes included
	Tier    proto.Tier // where its bytes come from; "" before the first
	Source  string     // the node that feeds it or is being asked, or "upstream"; "" before that is decided
	Mirror  string     // with "upstream": the mirror that feeds it, as Transfer.From names it; "" while one is being asked
	Started time.Time
}

// Flights lists what is being fetched now, in no order.
func (f *Fetcher) Flights() []Flight {
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.flights))
	f.mu.Unlock()
	list := make([]Flight, len(all))
	for i, fl := range all {
		list[i] = fl.describe()
	}
	return list
}

// Close ends all flights and waits for them. Their readers get an error. Open
// fails afterwards.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}
