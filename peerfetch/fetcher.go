package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
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
}

// Writer takes one blob into the store. Used by one flight only; Reader may be
// called at the same time as the other methods.
type Writer interface {
	// Write keeps and hashes p. When the disk is full it keeps n bytes and
	// returns proto.ErrNoSpace.
	Write(p []byte) (n int, err error)
	// Sum is the digest and size of all bytes written so far.
	Sum() proto.Ref
	// Reader opens a private handle at offset 0. It stays readable after Commit
	// and Abort.
	Reader() (*os.File, error)
	// Commit makes the blob durable under the digest of what was written.
	Commit(modified time.Time) (proto.Ref, error)
	// Abort forgets the blob. After Commit it does nothing.
	Abort()
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
	// Blame reports wrong content. Where from is one mirror, that one gave it all; of
	// several any may have, and only asking them one at a time will tell. It must not
	// block.
	Blame(loc proto.Location, from []string, err error)
}

// Config is what a Fetcher needs. Store, Upstream and Logger must be set; a zero
// duration or size takes its default.
type Config struct {
	Store    Store
	Upstream Source
	Logger   *slog.Logger

	// Cluster is the other nodes; nil where this one is alone.
	Cluster Cluster
	// Started, where not nil, is told when this node begins to take an object of
	// known digest from upstream (true), and when it failed to get it (false). It
	// must not block.
	Started func(d proto.Digest, begun bool)

	// Linger is how long a flight goes on without readers, so that a client
	// whose connection broke finds it again. Default 2 s.
	Linger time.Duration
	// HoldSmall is the size in bytes up to which a body is given out only when
	// it is proven: it costs no time worth speaking of, and a bad one can be
	// fetched again before any client has noticed. Default 64 KiB.
	HoldSmall int64
	// UnlistedFresh is how long an unlisted file is served before upstream is
	// asked again whether it changed. Default 30 s.
	UnlistedFresh time.Duration
	// NotFoundFor is how long this node goes by upstream's word that it has no such
	// file, for names that nothing signed lists. Default 30 s; negative: not at all.
	NotFoundFor time.Duration
	// Window is how many bytes of a body are kept in memory while the store has
	// no room for it. Default 8 MiB per flight.
	Window int
	// ReaderPatience is how long the slowest reader may hold up such a flight
	// before it is dropped. Default 30 s.
	ReaderPatience time.Duration

	// FallbackPause bounds the random pause before this node goes upstream for an
	// object that others should have had: so that the death of one node does not
	// send all of them at once. Default 500 ms.
	FallbackPause time.Duration
	// HedgeAfter is how long a peer may take to answer before the next one that
	// holds the object is asked as well; HedgeUpTo is the size in bytes up to which
	// that is done. Defaults 100 ms and 1 MiB.
	HedgeAfter time.Duration
	HedgeUpTo  int64
}

func (c Config) withDefaults() Config {
	setDefault(&c.Linger, 2*time.Second)
	setDefault(&c.HoldSmall, 64<<10)
	setDefault(&c.UnlistedFresh, 30*time.Second)
	setDefault(&c.NotFoundFor, 30*time.Second)
	setDefault(&c.Window, 8<<20)
	setDefault(&c.ReaderPatience, 30*time.Second)
	setDefault(&c.FallbackPause, 500*time.Millisecond)
	setDefault(&c.HedgeAfter, 100*time.Millisecond)
	setDefault(&c.HedgeUpTo, 1<<20)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// key is what makes two wants the same flight: the digest where it is known,
// else the SHA-512, else the place.
type key struct {
	digest proto.Digest
	sha512 proto.SHA512
	loc    proto.Location
}

func keyOf(want proto.Want) key {
	switch {
	case !want.Ref.IsZero():
		return key{digest: want.Ref.Digest}
	case want.Provable():
		return key{sha512: want.SHA512}
	default:
		return key{loc: want.Where[0]}
	}
}

// Fetcher opens objects, wherever they have to come from. Safe for concurrent use.
type Fetcher struct {
	cfg     Config
	metrics *metrics
	learned *learnedTable
	budget  *budget
	absent  *absentTable

	shunned  *rarely // peers that gave wrong content, by object
	sentAway *rarely // peers that were told to ask somebody else, by object

	ctx    context.Context // ends all flights
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	flights map[key]*flight // guarded by mu
	closed  bool            // guarded by mu
}

// New returns a Fetcher. Close ends it.
func New(cfg Config) *Fetcher {
	ctx, cancel := context.WithCancel(context.Background())
	return &Fetcher{
		cfg:     cfg.withDefaults(),
		metrics: newMetrics(),
		learned: newLearnedTable(),
		budget:  newBudget(),
		absent:  newAbsentTable(),

		shunned:  newRarely(shunFor),
		sentAway: newRarely(sentAwayFor),

		ctx:     ctx,
		cancel:  cancel,
		flights: make(map[key]*flight),
	}
}

// Open returns the object that want names. A hit comes from the store; a miss
// joins the flight of that object or starts it, and returns when the first byte
// may be given out. The reads of a Stream end with ctx.
//
// Errors: proto.ErrNotFound, proto.ErrCorrupt, *proto.Unavailable and
// *proto.Refused as the source said, or the error of ctx.
func (f *Fetcher) Open(ctx context.Context, want proto.Want) (*proto.Blob, error) {
	if len(want.Where) == 0 {
		return nil, errNowhere
	}
	if want.Ref.Digest == emptyDigest {
		return &proto.Blob{Ref: proto.Ref{Digest: emptyDigest}, Verified: true, Tier: proto.TierMemory, Bytes: []byte{}}, nil
	}
	// Twice is enough: the second round is for an object that was evicted
	// between the moment a flight found it in the store and ours.
	for round := 0; ; round++ {
		if blob, err := f.stored(&want); err == nil {
			return blob, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the store: %w", err)
		}
		r, err := f.join(ctx, want)
		if err != nil {
			return nil, err
		}
		blob, err := r.open()
		if err == nil {
			return blob, nil
		}
		r.Close()
		if !errors.Is(err, errStored) || round > 0 {
			return nil, err
		}
	}
}

var errNowhere = errors.New("nothing says where upstream keeps the object: Want.Where is empty")

var emptyDigest = proto.DigestOf(nil)

// Head tells what is known of the object without moving its body: size, and the
// validator where the bytes are proven. The Blob has no body. Other nodes are not
// asked: where this one has neither the object nor a signed size, upstream is.
func (f *Fetcher) Head(ctx context.Context, want proto.Want) (*proto.Blob, error) {
	if blob, err := f.stored(&want); err == nil {
		if err := blob.Close(); err != nil {
			return nil, err
		}
		return &proto.Blob{Ref: blob.Ref, Modified: blob.Modified, Verified: blob.Verified, Tier: blob.Tier}, nil
	}
	if want.Ref.Size != proto.UnknownSize && want.Provable() {
		return &proto.Blob{Ref: want.Ref, Verified: true, Tier: proto.TierUpstream}, nil
	}
	if len(want.Where) == 0 {
		return nil, errNowhere
	}
	return f.headUpstream(ctx, want)
}

// headUpstream asks upstream for the head of an object, at each of its names. That
// there is no such object is remembered as it is after a fetch, and said only if that
// is the answer everywhere.
func (f *Fetcher) headUpstream(ctx context.Context, want proto.Want) (*proto.Blob, error) {
	k, era := keyOf(want), f.absent.era(want.Where[0].Archive)
	if err := f.mayAskUpstream(k, want, time.Now()); err != nil {
		return nil, f.refuse(err)
	}
	var said error
	for _, loc := range want.Where {
		t, err := f.cfg.Upstream.Fetch(ctx, proto.Request{Loc: loc, Class: want.Class, Head: true})
		if err == nil {
			if t.Body != nil {
				t.Body.Close()
			}
			return &proto.Blob{Ref: proto.Ref{Digest: want.Ref.Digest, Size: t.Size}, Verified: want.Provable(), Tier: proto.TierUpstream}, nil
		}
		if said == nil || errors.Is(said, proto.ErrNotFound) {
			said = err
		}
		if want.Provable() && errors.Is(err, proto.ErrNotFound) {
			f.budget.failed(attempt{k, loc}, err, time.Now())
		}
	}
	if !want.Provable() && errors.Is(said, proto.ErrNotFound) {
		f.absent.note(want.Where[0], era, time.Now(), f.cfg.NotFoundFor)
	}
	return nil, said
}

// Held reports the tier that would answer want right now without any transfer,
// or "" for none, and whether a flight is under way.
func (f *Fetcher) Held(want proto.Want) (tier proto.Tier, inFlight bool) {
	if blob, err := f.stored(&want); err == nil {
		tier = blob.Tier
		blob.Close()
	}
	f.mu.Lock()
	_, inFlight = f.flights[keyOf(want)]
	f.mu.Unlock()
	return tier, inFlight
}

// stored opens the object from the store, or says fs.ErrNotExist.
func (f *Fetcher) stored(want *proto.Want) (*proto.Blob, error) {
	digest, provable := want.Ref.Digest, true
	if digest.IsZero() {
		provable = want.Provable()
		if digest = f.learnedDigest(want, provable); digest.IsZero() {
			return nil, fs.ErrNotExist
		}
	}
	if digest == emptyDigest { // the store need not keep what is the same everywhere
		return &proto.Blob{Ref: proto.Ref{Digest: emptyDigest}, Verified: provable, Tier: proto.TierMemory, Bytes: []byte{}}, nil
	}
	blob, err := f.cfg.Store.Get(digest)
	if err != nil {
		return nil, err
	}
	if size := want.Ref.Size; provable && size != proto.UnknownSize && blob.Ref.Size != size {
		// Cut short or grown on the disk: a miss. The flight brings it anew.
		blob.Close()
		return nil, fs.ErrNotExist
	}
	blob.Verified = provable
	return blob, nil
}

// learnedDigest is what an object without a SHA-256 turned out to be last time; zero
// if that is not known, or too long ago for a file that nobody vouches for. It is
// kept out of stored for the sake of the stack of every idle connection.
//
//go:noinline
func (f *Fetcher) learnedDigest(want *proto.Want, provable bool) proto.Digest {
	l, ok := f.learned.get(keyOf(*want))
	if !ok || (!provable && time.Since(l.checked) > f.cfg.UnlistedFresh) {
		return proto.Digest{}
	}
	return l.ref.Digest
}

// join returns a reader of the object's flight, starting it if need be.
func (f *Fetcher) join(ctx context.Context, want proto.Want) (*reader, error) {
	k := keyOf(want)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosing
	}
	if fl, ok := f.flights[k]; ok {
		if r, ok := fl.addReader(ctx, 0); ok {
			fl.wantedBy(want)
			f.metrics.joined.Inc()
			return r, nil
		}
	}
	if err := f.mayStart(k, want); err != nil {
		return nil, f.refuse(err)
	}
	return f.startLocked(ctx, newFlight(f, k, want, false), 0), nil
}

// mayStart returns nil if a flight for a client of this node may start, else what
// the last ones ended with.
func (f *Fetcher) mayStart(k key, want proto.Want) error {
	now := time.Now()
	switch {
	case want.PeersOnly:
		return nil // no upstream to be spared
	case f.cfg.Cluster == nil:
		return f.mayAskUpstream(k, want, now)
	}
	if a, ok := f.absence(want, now); ok {
		return a.err(now)
	}
	return f.budget.allow(attempt{key: k}, now)
}

// startLocked starts fl and returns its first reader, at byte offset. mu is held.
func (f *Fetcher) startLocked(ctx context.Context, fl *flight, offset int64) *reader {
	r, _ := fl.addReader(ctx, offset)
	f.flights[fl.key] = fl
	f.metrics.started.Inc()
	f.wg.Go(fl.run)
	return r
}

var errClosing = &proto.Unavailable{Reason: "this node is shutting down"}

// drop takes a flight out of the table, unless a newer one has its place.
func (f *Fetcher) drop(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
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
	all := make([]*flight, 0, len(f.flights))
	for _, fl := range f.flights {
		all = append(all, fl)
	}
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
