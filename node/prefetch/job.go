package prefetch

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Outcome says what became of an object that was planned.
type Outcome string

// The outcomes.
const (
	Waiting Outcome = "waiting"    // not yet, or under way
	Fetched Outcome = "fetched"    // ahead of any client
	Stored  Outcome = "stored"     // it was in the store: another suite's switch, or a client was quicker
	Failed  Outcome = "failed"     // clients ask in the usual way
	Over    Outcome = "over_limit" // no room in the budget of the switch
	Dropped Outcome = "dropped"    // its job ended first
)

// outcomes are those that end an object's wait.
var outcomes = [...]Outcome{Fetched, Stored, Failed, Over, Dropped}

// giveUpAfter is how many failures in a row end a job: its upstream fails, and clients need
// its remaining capacity.
const giveUpAfter = 16

// item is one object of a plan. What follows outcome is guarded by Prefetcher.mu;
// the rest never changes.
type item struct {
	loc    proto.Location
	object proto.ObjectRequest
	label  string // "hello (amd64)"
	name   string // "hello"
	// by is the package that depends on it; nil if clients use it themselves.
	by         *item
	usedWithin time.Duration
	maxBytes   int64

	outcome Outcome
	at      time.Time // of the outcome
	err     error     // why it failed or was dropped
}

// job is what one switch leads to.
type job struct {
	next       proto.Switch
	format     Format
	began      time.Time
	maxBytes   int64
	usedWithin time.Duration
	leftOver   func(path string) bool // what the job before it left, to be taken for new
	ctx        context.Context
	cancel     context.CancelCauseFunc

	// Guarded by Prefetcher.mu.
	planned  bool
	items    []*item // nil again once the job has ended
	counts   map[Outcome]int
	bytes    int64 // fetched
	budgeted int64 // planned to be fetched
	inARow   int   // failures
	ended    time.Time
}

func nothing(string) bool { return false }

// isNew reports whether clients cannot have asked for a file yet, as far as this job
// is concerned.
func (j *job) isNew(path string) bool { return j.next.New(path) || j.leftOver(path) }

// left returns what a job has not settled. For a job without a plan, that is only what its own
// switch brought. What it took over from an earlier job is dropped, so that a series of quick
// switches cannot keep all generations in memory. The caller holds Prefetcher.mu.
func (j *job) left() func(path string) bool {
	if !j.planned {
		return j.next.New
	}
	paths := make(map[string]bool)
	for _, it := range j.items {
		if it.outcome == Waiting {
			paths[it.loc.Path] = true
		}
	}
	return func(path string) bool { return paths[path] }
}

// forget drops the references to generations, once a plan is drawn. The caller holds
// Prefetcher.mu.
func (j *job) forget() { j.next.New, j.next.Indexes, j.leftOver = nothing, nil, nothing }

// run is the life of a job.
func (p *Prefetcher) run(j *job) {
	defer p.end(j)
	if p.usage.len() == 0 {
		return
	}
	items := p.draw(j)
	if j.ctx.Err() != nil {
		return // still unplanned: see left
	}
	p.adopt(j, items)
	p.fetchAll(j, items)
}

// draw reads the generation's indices and makes the plan. Only one job at a time does, because
// of the memory that it needs until it returns.
func (p *Prefetcher) draw(j *job) []*item {
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
	case <-j.ctx.Done():
		return nil
	}
	return p.plan(j, p.read(j))
}

// adopt makes a plan known.
func (p *Prefetcher) adopt(j *job, items []*item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.planned, j.items = true, items
	j.forget()
	j.counts = make(map[Outcome]int)
	for _, it := range items {
		// Another suite's switch may have brought it: then that is the better reason.
		if known, ok := p.reasons.Get(it.loc, p.cfg.Now()); !ok || known.outcome != Fetched {
			p.reasons.Set(it.loc, it, p.cfg.Now(), time.Time{})
		}
		if it.outcome == Waiting {
			j.budgeted += it.object.Ref.Size
		} else {
			p.totals[it.outcome]++
		}
		j.counts[it.outcome]++
	}
}

// fetchAll fetches what waits in the plan, in its order, a few at a time.
func (p *Prefetcher) fetchAll(j *job, items []*item) {
	var group sync.WaitGroup
	defer group.Wait()
	for _, it := range items {
		if it.outcome != Waiting { // no other goroutine has this one yet
			continue
		}
		select {
		case p.fetching <- struct{}{}:
		case <-j.ctx.Done():
			return
		}
		group.Go(func() {
			defer func() { <-p.fetching }()
			outcome, n, err := p.fetchOnce(j.ctx, it)
			p.settle(j, it, outcome, n, err)
		})
	}
}

// fetchOnce fetches an object that jobs of other suites may have planned as well:
// security updates are published in two suites within the minute.
func (p *Prefetcher) fetchOnce(ctx context.Context, it *item) (Outcome, int64, error) {
	done := make(chan struct{})
	for {
		p.mu.Lock()
		other, busy := p.underWay[it.loc]
		if !busy {
			p.underWay[it.loc] = done
		}
		p.mu.Unlock()
		if !busy {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return Dropped, 0, context.Cause(ctx)
		}
	}
	defer func() {
		p.mu.Lock()
		delete(p.underWay, it.loc)
		p.mu.Unlock()
		close(done)
	}()
	return p.fetch(ctx, it.object)
}

// fetch reads an object to its proven end, so that the store has it.
func (p *Prefetcher) fetch(ctx context.Context, object proto.ObjectRequest) (Outcome, int64, error) {
	if err := context.Cause(ctx); err != nil {
		return Dropped, 0, err
	}
	if p.cfg.Stored(object) {
		return Stored, 0, nil
	}
	b, err := p.cfg.Open(ctx, object)
	if err != nil {
		return Failed, 0, err
	}
	defer b.Close()
	if b.Stream == nil { // a client was quicker
		return Stored, 0, nil
	}
	n, err := io.Copy(io.Discard, b.Reader())
	if err != nil {
		return Failed, n, err
	}
	return Fetched, n, nil
}

// settle notes the result for an object. A failure after the job was cancelled does not count
// for the object.
func (p *Prefetcher) settle(j *job, it *item, outcome Outcome, n int64, err error) {
	if cause := context.Cause(j.ctx); outcome == Failed && cause != nil {
		outcome, err = Dropped, cause
	}
	if outcome == Fetched {
		p.ready.add(it.loc, n)
	}
	if outcome == Failed {
		p.log.Debug("an object could not be fetched ahead; clients that ask get it in the usual way", "object", it.loc, "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settleLocked(j, it, outcome, err)
	if outcome == Fetched {
		p.reasons.Set(it.loc, it, p.cfg.Now(), time.Time{})
	}
	p.bytes += n
	j.bytes += n
	switch outcome {
	case Failed:
		j.inARow++
	case Fetched:
		j.inARow = 0
	}
	if j.inARow == giveUpAfter {
		j.cancel(&gaveUp{err})
	}
}

func (p *Prefetcher) settleLocked(j *job, it *item, outcome Outcome, err error) {
	j.counts[it.outcome]--
	j.counts[outcome]++
	p.totals[outcome]++
	it.outcome, it.err, it.at = outcome, err, p.cfg.Now()
}

// gaveUp ends a job after too many failures.
type gaveUp struct{ last error }

func (g *gaveUp) Error() string {
	return "too many failures in a row, the last one: " + g.last.Error()
}

// end settles what a job leaves undone, and logs one line about the job.
func (p *Prefetcher) end(j *job) {
	p.mu.Lock()
	cause := context.Cause(j.ctx)
	for _, it := range j.items {
		if it.outcome == Waiting {
			p.settleLocked(j, it, Dropped, cause)
		}
	}
	items := len(j.items)
	j.ended, j.items = p.cfg.Now(), nil
	j.forget()
	if p.jobs[j.next.Suite] == j {
		delete(p.jobs, j.next.Suite)
	}
	counts, bytes := j.counts, j.bytes
	p.mu.Unlock()

	j.cancel(nil)
	log := p.log.Debug
	if items > 0 {
		log = p.log.Info
	}
	args := []any{"suite", j.next.Suite, "generation", j.next.Date, "fetched", counts[Fetched], "bytes", bytes,
		"stored", counts[Stored], "failed", counts[Failed], "over_limit", counts[Over], "dropped", counts[Dropped], "took", j.ended.Sub(j.began)}
	if cause != nil {
		args = append(args, "ended", cause)
	}
	log("fetched ahead what clients use", args...)
}
