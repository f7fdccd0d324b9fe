package holds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/aptmesh/aptmesh/proto"
)

// giveUpAfter is how many failures in a row end a run, if they are not of files that upstream does not have: upstream,
// or this node's disk, fails.
const giveUpAfter = 32

// maxMissing bounds the missing files that are told one by one.
const maxMissing = 100

// progress is how far a run is. Safe for concurrent use.
type progress struct {
	mu    sync.Mutex
	began time.Time
	files int   // that this node is to hold
	bytes int64 // of them, as listed
	done  int   // files that are stored
	have  int64 // bytes of them
	moved int64 // bytes that were fetched in this run
	fetch int64 // bytes that this run is to fetch
	// missing are files that could not be had, the first maxMissing of lost.
	missing []proto.Missing
	lost    int
	inARow  int
}

func (p *progress) stored(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.have += max(bytes, 0)
}

func (p *progress) toFetch(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetch += max(bytes, 0)
}

func (p *progress) fetched(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved += bytes
}

// failed notes a file that could not be had, and reports whether the run is to end.
func (p *progress) failed(loc proto.Location, err error) (giveUp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost++; len(p.missing) < maxMissing {
		p.missing = append(p.missing, proto.Missing{Location: loc, Err: err})
	}
	if errors.Is(err, proto.ErrNotFound) {
		return false
	}
	p.inARow++
	return p.inARow >= giveUpAfter
}

func (p *progress) succeeded(bytes int64) {
	p.stored(bytes)
	p.mu.Lock()
	p.inARow = 0
	p.mu.Unlock()
}

var errGaveUp = errors.New("too many failures in a row")

// fetch brings objects into the store, several at a time, in their order. It fails with the error of ctx, and with
// errGaveUp and the last failure; what could not be had is in progress. absent are indexes that upstream does not carry
// in this form, while another form is stored.
func (k *Keeper) fetch(ctx context.Context, objects []object, limit *rate.Limiter, p *progress) (absent []object, err error) {
	p.mu.Lock()
	p.began, p.files = time.Now(), len(objects)
	for i := range objects {
		p.bytes += max(objects[i].Ref.Size, 0)
	}
	p.mu.Unlock()
	left := make([]*object, 0, len(objects))
	for i := range objects {
		if o := &objects[i]; k.has(o) {
			p.stored(o.Ref.Size)
		} else {
			left = append(left, o)
			p.toFetch(o.Ref.Size)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	lost := make(map[*object]error)
	var group sync.WaitGroup
	for _, o := range left {
		select {
		case k.fetching <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		group.Go(func() {
			defer func() { <-k.fetching }()
			err := k.fetchOne(ctx, o, limit, p)
			switch {
			case err == nil:
				p.succeeded(o.Ref.Size)
			case ctx.Err() != nil: // it ended with the run
			case o.index && errors.Is(err, proto.ErrNotFound):
				mu.Lock()
				lost[o] = err
				mu.Unlock()
			default:
				if p.failed(o.Where.First, err) {
					cancel(fmt.Errorf("%w, the last one: %w", errGaveUp, err))
				}
			}
		})
	}
	group.Wait()
	for i := range objects { // in their order
		o := &objects[i]
		if why, gone := lost[o]; gone {
			if slices.ContainsFunc(objects, func(other object) bool { return other.form == o.form && o.form != "" && k.has(&other) }) {
				absent = append(absent, *o)
			} else {
				p.failed(o.Where.First, why)
			}
		}
	}
	return absent, context.Cause(ctx)
}

// has reports whether an object is stored.
func (k *Keeper) has(o *object) bool {
	if !o.Ref.Digest.IsZero() {
		return k.stored(o.Ref)
	}
	return k.cfg.Stored(o.ObjectRequest)
}

// fetchOne reads an object to its proven end, so that the store has it.
func (k *Keeper) fetchOne(ctx context.Context, o *object, limit *rate.Limiter, p *progress) error {
	b, err := k.cfg.Open(ctx, o.ObjectRequest)
	if err != nil {
		return err
	}
	defer b.Close()
	if b.Stream == nil { // a client was quicker
		return nil
	}
	to := &pace{ctx, limit, p}
	if _, err := io.Copy(to, struct{ io.Reader }{b.Reader()}); err != nil {
		return err
	}
	switch {
	case k.kept(ctx, o.ObjectRequest):
		return nil
	case slices.ContainsFunc(o.Others, k.stored):
		return fmt.Errorf("upstream has other bytes under the name, which another index lists: %w", proto.ErrNotFound)
	}
	return fmt.Errorf("%w: the store does not keep it", proto.ErrNoSpace)
}

// pace is where what is fetched goes, no faster than a limit.
type pace struct {
	ctx   context.Context
	limit *rate.Limiter
	p     *progress
}

func (to *pace) Write(b []byte) (int, error) {
	to.p.fetched(int64(len(b)))
	if to.limit != nil {
		if err := to.limit.WaitN(to.ctx, len(b)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// limiter bounds bytes per second; nil for no bound.
func limiter(bytes int64) *rate.Limiter {
	if bytes <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytes), int(max(bytes, 256<<10)))
}
