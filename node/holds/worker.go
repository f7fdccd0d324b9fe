package holds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/rows"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// reason is why a worker looks at its hold.
type reason uint8

const (
	wakeSwitch reason = 1 << iota // a suite has a new generation
	wakeConfig                    // what is to be held may have changed, or the node has started
	wakeShares                    // this node's share may have changed
	wakeRun                       // an operator wants it now
	wakeVerify                    // an operator wants it read again
	wakeTime                      // it is time
)

// Phase is what is done for a hold.
type Phase string

// The phases.
const (
	Waiting   Phase = "waiting"   // for its window, or for a generation
	Planning  Phase = "planning"  // it reads indexes
	Fetching  Phase = "fetching"  // what is missing
	Verifying Phase = "verifying" // it reads what is held
	Done      Phase = "done"      // all of this node's share is held
	Missing   Phase = "incomplete"
	Refused   Phase = "refused" // it does not fit
	Failed    Phase = "failed"
)

// source says what is to be held now. check has it ask upstream first.
type source func(ctx context.Context, check bool) (Request, error)

// worker keeps one hold. Its goroutine is the only one to change it.
type worker struct {
	k     *Keeper
	owner string
	hold  hold // guarded by k.mu

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	signal chan struct{}

	mu       sync.Mutex // guards what follows
	running  bool       // the goroutine has been started
	reasons  reason
	settings settings
	phase    Phase
	next     time.Time    // when it looks again by itself; zero: not before it is woken
	failure  error        // of the last run; nil: none
	progress *progress    // of the run that goes on, or the last one; never nil
	checked  checked      // what the last verification found
	chosen   *want.Result // of the last plan, without its files; nil for none
	failures int          // in a row
	// unchecked is why upstream could not be asked when it last was to be; "" if it could.
	unchecked string

	entered  atomic.Int64 // counts up with each phase that is entered
	counting sync.Mutex   // guards what follows; before Keeper.mu
	counted  struct {
		Status
		entered int64
		until   time.Time
	}
}

// settings are what a worker does, as configured now.
type settings struct {
	source source
	// keep is how many whole generations are held.
	keep int
	// follow has it look by itself, wait is how long until it may fetch and how long it may then.
	follow bool
	window func(now time.Time) (wait, open time.Duration)
	rate   int64
	// suites wake it when they change.
	suites []proto.Suite
	// every is how often it asks upstream; 0: never by itself.
	every time.Duration
}

// checked is how far a verification is.
type checked struct {
	files, damaged int
	bytes, of      int64
}

func newWorker(k *Keeper, owner string, h hold) *worker {
	w := &worker{k: k, owner: owner, hold: h, ended: make(chan struct{}), signal: make(chan struct{}, 1), phase: Waiting, progress: &progress{}}
	if len(h.Generations) > 0 && h.Generations[0].Whole {
		w.phase = Done
	}
	w.ctx, w.cancel = context.WithCancel(k.ctx)
	return w
}

// set gives a worker its settings, and starts it if it does not run. The caller holds k.mu.
func (w *worker) set(s settings) {
	w.mu.Lock()
	w.settings = s
	start := !w.running && !w.k.closed
	w.running = w.running || start
	w.mu.Unlock()
	if start {
		w.k.wg.Go(w.run)
	}
	w.wake(wakeConfig)
}

// stop ends a worker and waits for it. The caller holds no lock.
func (w *worker) stop() {
	w.cancel()
	w.mu.Lock()
	running := w.running
	w.mu.Unlock()
	if running {
		<-w.ended
	}
}

func (w *worker) wake(why reason) {
	w.mu.Lock()
	w.reasons |= why
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// run is the life of a worker.
func (w *worker) run() {
	defer close(w.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(w.pause())
		select {
		case <-w.ctx.Done():
			return
		case <-timer.C:
			w.wake(wakeTime)
			<-w.signal
		case <-w.signal:
		}
		w.k.mu.Lock()
		shared := w.k.shared
		w.k.mu.Unlock()
		if !shared {
			continue // setRing wakes it again
		}
		w.mu.Lock()
		why, s := w.reasons, w.settings
		w.reasons = 0
		w.mu.Unlock()
		w.look(why, s)
	}
}

// pause is how long it waits if nothing wakes it.
func (w *worker) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next.IsZero() {
		return 24 * time.Hour
	}
	return max(time.Until(w.next), 0)
}

// look does what is to be done now, and says when to look again.
func (w *worker) look(why reason, s settings) {
	forced := why&(wakeRun|wakeVerify) != 0
	wait, open := s.window(w.k.cfg.Now())
	if !forced && !s.follow {
		if !w.begun() && why&(wakeShares|wakeTime) == 0 {
			w.rest(0)
			return
		}
		s.source = w.asHeld(s.source)
	}
	if !forced && wait > 0 {
		w.rest(wait)
		return
	}
	ctx, cancel := context.WithCancelCause(w.ctx)
	defer cancel(nil)
	if !forced && open < 24*time.Hour {
		end := time.AfterFunc(open, func() { cancel(errWindow) })
		defer end.Stop()
	}
	if why&wakeVerify != 0 {
		if err := w.verify(ctx, s); err != nil {
			w.settleOn(err, s)
			return
		}
	}
	// Ask upstream where an operator wants it, or where it is time. The first generation is asked for anyway.
	w.settleOn(w.round(ctx, s, why&wakeRun != 0 || why&wakeTime != 0 && s.follow && s.every > 0), s)
}

var errWindow = errors.New("the window has closed")

// rest does nothing until it is woken, or for a while. How the last run ended goes on to be told.
func (w *worker) rest(wait time.Duration) {
	w.k.mu.Lock()
	whole := len(w.hold.Generations) > 0 && w.hold.Generations[0].Whole
	w.k.mu.Unlock()
	w.mu.Lock()
	phase, failure := w.phase, w.failure
	w.mu.Unlock()
	switch {
	case whole:
		phase, failure = Done, nil
	case failure == nil:
		phase = Waiting
	}
	w.enter(phase, failure, wait)
}

// begun reports whether there is a generation of which not all is held: that is gone on with, whoever began it.
func (w *worker) begun() bool {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	return len(w.hold.Generations) > 0 && !w.hold.Generations[0].Whole
}

// asHeld is a source that stays with the generation that is held.
func (w *worker) asHeld(from source) source {
	return func(ctx context.Context, _ bool) (Request, error) {
		r, err := from(ctx, false)
		w.k.mu.Lock()
		defer w.k.mu.Unlock()
		if len(w.hold.Generations) == 0 {
			return r, cmp.Or(err, errNothing)
		}
		r.Taken, r.Suites = w.hold.Generations[0].Taken, w.hold.Generations[0].Suites
		return r, nil
	}
}

// errNothing is that nothing is held yet, and nobody wants it to be.
var errNothing = errors.New("nothing is held yet")

// settleOn enters the phase that a run ends in.
func (w *worker) settleOn(err error, s settings) {
	var large *TooLarge
	switch {
	case w.ctx.Err() != nil:
	case err == nil:
		w.failures = 0
		w.enter(Done, nil, s.every)
	case errors.Is(err, errNothing):
		w.mu.Lock()
		w.phase = Waiting
		w.mu.Unlock()
		w.rest(0)
	case errors.Is(err, errWindow):
		wait, _ := s.window(w.k.cfg.Now())
		w.enter(Waiting, nil, max(wait, time.Second))
	case errors.As(err, &large):
		w.k.log.Error("a hold is refused", "hold", w.owner, "error", err)
		w.enter(Refused, err, w.backOff())
	case errors.Is(err, errIncomplete):
		w.enter(Missing, err, w.backOff())
	default:
		w.k.log.Warn("what is to be held could not be fetched; it is tried again", "hold", w.owner, "error", err)
		w.enter(Failed, err, w.backOff())
	}
}

func (w *worker) backOff() time.Duration {
	cfg := &w.k.cfg
	pause := cfg.RetryAfter << min(w.failures, 20)
	w.failures++
	return max(min(pause, cfg.RetryMost), time.Millisecond)
}

// enter notes the phase, and when to look again; 0: when it is woken.
func (w *worker) enter(phase Phase, err error, again time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.phase, w.failure, w.next = phase, err, time.Time{}
	w.entered.Add(1)
	if again > 0 {
		w.next = time.Now().Add(again)
	}
	ended := phase != Planning && phase != Fetching && phase != Verifying
	if ended && w.reasons&(wakeRun|wakeVerify) != 0 {
		w.phase = Planning // the run that an operator waits for begins at once
	}
}

// errIncomplete is that files could not be had.
var errIncomplete = errors.New("files are missing")

// round brings the hold to what its source says. It fails with errIncomplete where files are missing, *TooLarge where
// they do not fit, with the cause of ctx, and with what reading the indexes fails with.
func (w *worker) round(ctx context.Context, s settings, check bool) error {
	k := w.k
	w.enter(Planning, nil, 0)
	r, err := s.source(ctx, check)
	if err != nil {
		return err
	}
	if check {
		w.mu.Lock()
		w.unchecked = r.Unchecked
		w.mu.Unlock()
	}
	k.mu.Lock()
	var newest *generation
	if len(w.hold.Generations) > 0 {
		newest = w.hold.Generations[0]
	}
	k.mu.Unlock()
	again := &generation{Suites: r.Suites, Chosen: r.chosen(), Copies: r.Copies}
	known := newest != nil && newest.same(again)
	if known {
		r.Taken = newest.Taken // it was verified as of then
		if newest.Whole && w.complete(newest) {
			if err := w.trim(s.keep); err != nil {
				return err
			}
			return w.mendOlder(ctx, r, s)
		}
	}
	p, err := k.draw(ctx, r)
	if err != nil {
		return err
	}
	mine, g, err := w.begin(ctx, p, known)
	if err != nil {
		return err
	}
	now := &progress{}
	w.mu.Lock()
	w.progress, w.chosen = now, p.chosen
	w.mu.Unlock()
	w.enter(Fetching, nil, 0)
	absent, err := k.fetch(ctx, mine, limiter(s.rate), now)
	if err := w.end(context.WithoutCancel(ctx), p, g, absent, err == nil && now.lost == 0, s.keep); err != nil {
		return err
	}
	switch {
	case err != nil:
		return err
	case now.lost > 0:
		k.log.Warn("files that are to be held could not be had", "hold", w.owner, "missing", now.lost, "first", now.missing[0].Location.String(), "error", now.missing[0].Err)
		return fmt.Errorf("%d %w, the first one: %s: %w", now.lost, errIncomplete, now.missing[0].Location, now.missing[0].Err)
	}
	k.log.Info("all of a hold is stored", "hold", w.owner, "files", now.files, "bytes", now.bytes, "fetched", now.moved, "took", time.Since(now.began).Round(time.Millisecond))
	return w.mendOlder(ctx, r, s)
}

// mendOlder fetches what this node's share of older generations lacks: the share has grown, or files were damaged.
func (w *worker) mendOlder(ctx context.Context, r Request, s settings) error {
	k := w.k
	k.mu.Lock()
	all := w.hold.Generations
	k.mu.Unlock()
	for _, g := range all[min(len(all), 1):] {
		if w.complete(g) {
			continue
		}
		r.Taken, r.Suites = g.Taken, g.Suites
		p, err := k.draw(ctx, r)
		if err != nil {
			return err
		}
		mine, _, _, _, err := k.sort(ctx, p)
		if err != nil {
			return err
		}
		if err := rows.Guard(func() {
			mine = slices.DeleteFunc(mine, func(o object) bool {
				return !o.Ref.Digest.IsZero() && !g.indexes.Has(o.Ref.Digest) && !g.files.Has(o.Ref.Digest)
			})
		}); err != nil {
			return err
		}
		now := &progress{}
		w.mu.Lock()
		w.progress = now
		w.mu.Unlock()
		w.enter(Fetching, nil, 0)
		if _, err := k.fetch(ctx, mine, limiter(s.rate), now); err != nil {
			return err
		}
		if now.lost > 0 {
			return fmt.Errorf("%d %w of an older generation, the first one: %s: %w", now.lost, errIncomplete, now.missing[0].Location, now.missing[0].Err)
		}
	}
	return nil
}

// complete reports whether all of this node's share of a generation is stored.
func (w *worker) complete(g *generation) bool {
	if g.Unknown > 0 {
		return false
	}
	w.k.mu.Lock()
	share := w.k.share(g)
	w.k.mu.Unlock()
	whole := true
	err := rows.Guard(func() {
		for _, part := range share {
			for ref := range part.Rows() {
				if (part.Keep == nil || part.Keep(ref)) && !w.k.stored(ref) {
					whole = false
					return
				}
			}
		}
	})
	return whole && err == nil
}

// begin makes a plan what is held, from before its first file is fetched. What was held before stays held.
func (w *worker) begin(ctx context.Context, p *plan, known bool) ([]object, *generation, error) {
	k := w.k
	k.changing.Lock()
	defer k.changing.Unlock()
	mine, g, indexes, files, err := k.sort(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if err := k.setsOf(g, indexes, files); err != nil {
		return nil, nil, err
	}
	k.mu.Lock()
	_, err = k.fits(w.owner, g)
	whole := wholeOf(w.hold.Generations)
	if known && len(whole) > 0 && whole[0].same(g) { // it was whole, and is repaired
		whole = whole[1:]
	}
	k.mu.Unlock()
	if err != nil && !known {
		k.mu.Lock()
		k.removeSets()
		k.mu.Unlock()
		return nil, nil, err
	}
	return mine, g, k.put(w, slices.Concat([]*generation{g}, whole)...)
}

func wholeOf(all []*generation) (whole []*generation) {
	for _, g := range all {
		if g.Whole {
			whole = append(whole, g)
		}
	}
	return whole
}

// end writes down how a run has ended. If all is there, older generations than the newest keep are let go.
func (w *worker) end(ctx context.Context, p *plan, begun *generation, absent []object, whole bool, keep int) error {
	if !whole && begun.Unknown == 0 && len(absent) == 0 {
		return nil // it says that already
	}
	k := w.k
	k.changing.Lock()
	defer k.changing.Unlock()
	_, g, indexes, files, err := k.sort(ctx, p)
	if err != nil {
		return err
	}
	indexes = slices.DeleteFunc(indexes, func(ref proto.Ref) bool {
		return slices.ContainsFunc(absent, func(o object) bool { return o.Ref.Digest == ref.Digest })
	})
	g.Whole, g.Absent = whole && g.Unknown == 0, len(absent)
	if err := k.setsOf(g, indexes, files); err != nil {
		return err
	}
	k.mu.Lock()
	older := w.hold.Generations[1:]
	k.mu.Unlock()
	all := slices.Concat([]*generation{g}, older)
	if g.Whole {
		all = all[:min(len(all), max(keep, 1))]
	}
	return k.put(w, all...)
}

// trim lets go of more generations than are to be held.
func (w *worker) trim(keep int) error {
	k := w.k
	k.changing.Lock()
	defer k.changing.Unlock()
	k.mu.Lock()
	all := w.hold.Generations
	k.mu.Unlock()
	if len(all) <= max(keep, 1) {
		return nil
	}
	return k.put(w, all[:max(keep, 1)]...)
}

// verify reads and hashes what this node holds. What is damaged is removed, and so is missing.
func (w *worker) verify(ctx context.Context, s settings) error {
	k := w.k
	w.enter(Verifying, nil, 0)
	k.mu.Lock()
	set, err := k.unite(slices.Values(w.hold.Generations))
	k.mu.Unlock()
	if err != nil {
		return err
	}
	note := func(change func(*checked)) {
		w.mu.Lock()
		change(&w.checked)
		w.mu.Unlock()
	}
	note(func(c *checked) { *c = checked{of: set.Bytes()} })
	limit := limiter(s.rate)
	for ref := range set.Rows() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ref.Digest == emptyDigest || !k.stored(ref) {
			continue
		}
		whole, err := k.cfg.Store.Check(ref.Digest, func(n int) error {
			note(func(c *checked) { c.bytes += int64(n) })
			if limit != nil {
				return limit.WaitN(ctx, n)
			}
			return ctx.Err()
		})
		if err != nil {
			return fmt.Errorf("read what is held again: %w", err)
		}
		note(func(c *checked) {
			if c.files++; !whole {
				c.damaged++
			}
		})
	}
	return nil
}
