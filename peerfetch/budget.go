package peerfetch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// How often upstream is asked again for an object that it cannot give us. The
// first tries are free, so that the first request after upstream has recovered
// succeeds. Then each failure is followed by a pause, no longer than apt is willing to
// wait (30 s). So an archive with one mirror is asked for wrong content at most three
// times in any minute. Each further mirror that gave wrong content allows one more try,
// up to maxCorrupt, because that try is made at a different mirror: a good mirror behind
// some corrupt ones is found before there is a pause. If all mirrors are corrupt, each
// of them is asked twice at first.
//
// An owner answers within its own budget. So a node that gets the answer from an owner
// follows the owner's Retry-After. It counts failures itself only for an owner that
// gives no Retry-After.
var (
	corruptAllowance  = allowance{free: 2, within: time.Minute, pause: 30 * time.Second}
	notFoundAllowance = allowance{free: 3, within: 5 * time.Second, pause: 5 * time.Second}
	nodeAllowance     = allowance{free: 2 + maxCorrupt, within: time.Minute, pause: 30 * time.Second}
)

// maxCorrupt is how many mirrors may be found corrupt in a row: with more of them the metadata is
// wrong.
const maxCorrupt = 4

type allowance struct {
	free   int           // this many failures
	within time.Duration // within this time cost nothing,
	pause  time.Duration // and after this pause there is another try
}

// maxPenalties bounds the memory that bad objects may take.
const maxPenalties = 4096

// attempt is an object at one of its names. Names are counted apart: a name whose mirror lags, or
// that no index lists, must not block the other names. What other nodes say of upstream does not
// keep this node from asking upstream itself.
type attempt struct {
	key   key
	loc   proto.Location
	nodes bool // by way of other nodes, whichever they are
}

// byNodes is the same attempt, made through other nodes.
func (a attempt) byNodes() attempt {
	a.nodes = true
	return a
}

// budget remembers recent failures for each attempt, so that this node does not ask
// upstream for one bad object again and again.
type budget struct {
	penalties *expiring.Map[attempt, penalty]
	unlisted  *expiring.Map[attempt, penalty] // of what no signed metadata lists: anybody can fill it
}

// of is where the penalties of k are.
func (b *budget) of(k attempt) *expiring.Map[attempt, penalty] {
	if k.key.size == proto.UnknownSize || k.key.loc != (proto.Location{}) {
		return b.unlisted
	}
	return b.penalties
}

// withheld is the error of an attempt that was not made: the error of the last attempt.
func withheld(err error) error { return &judged{verdict: untried, err: err} }

// penalty is a value: its failures are never changed, only cut off and appended to.
type penalty struct {
	failures []failure // oldest first
	allowance
	until time.Time // upstream's own Retry-After
	err   error
}

type failure struct {
	at      time.Time
	mirrors []string // that may have caused it
}

// tries is how many failures cost nothing.
func (p penalty) tries() int {
	var corruptSources []string
	for _, f := range p.failures {
		for _, mirror := range f.mirrors {
			if !slices.Contains(corruptSources, mirror) {
				corruptSources = append(corruptSources, mirror)
			}
		}
	}
	return p.free + min(max(len(corruptSources)-1, 0), maxCorrupt)
}

// answered reports whether upstream gave the last error itself.
func (p penalty) answered() bool {
	var busy *proto.Unavailable
	return errors.As(p.err, &busy) && busy.Answered
}

func newBudget() *budget {
	return &budget{expiring.New[attempt, penalty](maxPenalties), expiring.New[attempt, penalty](maxPenalties)}
}

// allowAny returns nil if the object may be asked for at any of its names, from upstream or by way
// of other nodes, else what the last tries ended with.
func (b *budget) allowAny(k key, object *proto.ObjectRequest, nodes bool, now time.Time) error {
	var said []error
	for loc := range object.Where.All() {
		err := b.allow(attempt{k, loc, nodes}, now)
		if err == nil {
			return nil
		}
		said = append(said, err)
	}
	return worst(said)
}

// allow returns nil if upstream may be asked for k now, else the error of the last try
// (withheld), with the time to wait if that may help.
func (b *budget) allow(k attempt, now time.Time) error {
	p, ok := b.of(k).Get(k, now)
	if !ok {
		return nil
	}
	if wait := p.until.Sub(now); wait > 0 {
		return withheld(&proto.Unavailable{Reason: "upstream asked us to wait", RetryAfter: wait, Answered: p.answered(), Err: p.err})
	}
	if p.forget(now); len(p.failures) == 0 {
		return nil
	}
	wait := p.failures[len(p.failures)-1].at.Add(p.pause).Sub(now)
	if len(p.failures) < p.tries() || wait <= 0 {
		return nil
	}
	if !isWrong(p.err) {
		return withheld(p.err) // "not found" is final, and better said so than "ask again"
	}
	// Nodes go by the time to wait. For clients it is a verdict, as the tries before it were.
	return withheld(&proto.Unavailable{Reason: fmt.Sprintf("%d tries failed lately", len(p.failures)), RetryAfter: wait, Answered: true,
		Err: &proto.Rejected{Kind: proto.RejectCorrupt, Reason: p.err.Error(), Err: p.err}})
}

func (p *penalty) forget(now time.Time) {
	for len(p.failures) > 0 && now.Sub(p.failures[0].at) >= p.within {
		p.failures = p.failures[1:]
	}
}

// end is when nothing of it counts any more.
func (p penalty) end() time.Time {
	end := p.until
	if n := len(p.failures); n > 0 {
		if last := p.failures[n-1].at.Add(p.within); last.After(end) {
			end = last
		}
	}
	return end
}

// failed counts a failure of k, which any of mirrors may have caused. A temporary
// failure is remembered only as long as upstream asked us to wait.
func (b *budget) failed(k attempt, err error, now time.Time, mirrors ...string) {
	switch {
	case errors.Is(err, proto.ErrCorrupt):
		b.count(k, penalty{err: err, allowance: corruptAllowance}, failure{now, mirrors})
	case errors.Is(err, proto.ErrNotFound), errors.As(err, new(*proto.Refused)):
		b.count(k, penalty{err: err, allowance: notFoundAllowance}, failure{at: now})
	default:
		b.wait(k, err, now)
	}
}

// nodeFailed counts a failure of k at upstream that another node reported.
func (b *budget) nodeFailed(k attempt, err error, now time.Time) {
	switch {
	case b.wait(k, err, now):
	case isWrong(err):
		b.count(k, penalty{err: err, allowance: nodeAllowance}, failure{at: now})
	default:
		b.failed(k, err, now)
	}
}

// wait notes how long somebody asked us to wait; false where err says nothing of it.
func (b *budget) wait(k attempt, err error, now time.Time) bool {
	var busy *proto.Unavailable
	if !errors.As(err, &busy) || busy.RetryAfter <= 0 {
		return false
	}
	b.count(k, penalty{err: err, until: now.Add(min(busy.RetryAfter, 30*time.Second))}, failure{at: now})
	return true
}

// count keeps what next says of k, and what failed where next has an allowance.
func (b *budget) count(k attempt, next penalty, what failure) {
	b.of(k).Update(k, what.at, func(p penalty, _ bool) (penalty, time.Time) {
		p.err, p.until = next.err, next.until
		if next.free > 0 {
			p.allowance = next.allowance
			p.failures = append(slices.Clip(p.failures), what)
			p.forget(what.at)
		}
		return p, p.end()
	})
}

// succeeded forgets the failures of k.
func (b *budget) succeeded(k attempt) { b.of(k).Delete(k) }

// forgetNotFound forgets that objects of an archive were not found.
func (b *budget) forgetNotFound(archive string) {
	notFound := func(k attempt, p penalty) bool {
		return k.loc.Archive == archive && errors.Is(p.err, proto.ErrNotFound)
	}
	b.penalties.DeleteFunc(notFound)
	b.unlisted.DeleteFunc(notFound)
}
