package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

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
	switch archive := object.Where.First.Archive; {
	case !ok:
		return proto.Digest{}
	case provable || f.cfg.Immutable != nil && f.cfg.Immutable(archive):
	case time.Since(l.checked) > f.cfg.UnlistedFresh || l.era != f.absent.era(archive):
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
