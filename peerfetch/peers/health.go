package peers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// HealthConfig is how other nodes are watched. The zero value of each field stands
// for its default.
type HealthConfig struct {
	// Every is the time between two pings of a node, give or take a tenth; 0 = 1 s.
	Every time.Duration
	// Wait is how long the answer to a ping may take; 0 = twice Every. A node that
	// falls silent is known to be so after Every and Wait at the latest.
	Wait time.Duration
}

func (c HealthConfig) withDefaults() HealthConfig {
	if c.Every <= 0 {
		c.Every = time.Second
	}
	if c.Wait <= 0 {
		c.Wait = 2 * c.Every
	}
	return c
}

const (
	// A node whose transfers fail is not asked for bytes until it has answered a ping. If
	// it answers pings and its transfers fail again within failuresCount, it is not asked
	// for bytes for a time that grows from firstRest to maxRest.
	failuresCount = time.Minute
	firstRest     = time.Second
	maxRest       = 15 * time.Second
	// A node that takes requests and gives nothing answers its pings as if it were
	// well, so that it is left alone for longer: stallRest, twice as long each time it
	// is found to be no better, at most maxStallRest.
	stallRest    = 15 * time.Second
	maxStallRest = 2 * time.Minute
	// lagFor is for how long a node whose upstream was slow is asked after other nodes.
	lagFor = time.Minute
	// maxFailures bounds the failures that are remembered: that many make maxRest.
	maxFailures = 8
	// disagreesAfter is how many pings in a row must find another ring at the
	// other end: for a moment rings differ whenever nodes come and go.
	disagreesAfter = 3
)

// health is whether one peer can be asked right now. It is two answers in one: it
// is alive while it answers pings, and fit for transfers if those do not fail
// either. Whether it is a member of the cluster is another matter, and slower.
type health struct {
	fit       atomic.Bool
	rtt       atomic.Int64 // smoothed, in nanoseconds; 0 = not known
	disagrees atomic.Bool  // its ring has differed for several pings
	lags      atomic.Int64 // until when others are asked before it, in Unix nanoseconds
	nudged    chan struct{}

	mu      sync.Mutex
	alive   context.Context // ends when pings fail; nil while they do. Guarded by mu, as all below
	died    context.CancelCauseFunc
	best    time.Duration // the shortest round trip
	suspect bool          // a transfer failed, and no ping has been answered since
	failed  time.Time     // the last failure of a transfer
	// failures are those that made it suspect lately, oldest first; rest is until
	// when it is left alone because of them.
	failures  []time.Time
	rest      time.Time
	stalls    int           // in a row that it gave nothing
	stuck     time.Duration // for how long its disk has not answered, by its last ping
	agrees    bool          // at the last ping
	differing int           // pings in a row that found another ring
	lastErr   error
}

// monitor watches p for as long as it is known: until p.ctx ends.
func (m *Mesh) monitor(p *peer) {
	m.wg.Go(func() { m.follow(p) })
	for again := false; p.ctx.Err() == nil; {
		began := time.Now()
		if again = m.ping(p) && !again; again {
			continue
		}
		every := m.cfg.Health.Every
		pause := every - every/10 + rand.N(every/5+1) - time.Since(began)
		select {
		case <-time.After(pause):
		case <-p.health.nudged:
		case <-p.ctx.Done():
		}
	}
	p.health.silent(p.ctx.Err())
}

// ping asks p for a sign of life. It reports whether to do so once more at once:
// when p has just been found, for the round trip to be measured without the making
// of a connection; and when it has just been lost, to notice its return.
func (m *Mesh) ping(p *peer) (again bool) {
	h := &p.health
	connected := p.control.GetState() == connectivity.Ready
	wasAlive := h.isAlive()
	ctx, cancel := context.WithTimeout(p.ctx, m.cfg.Health.Wait)
	defer cancel()
	began := time.Now()
	// Of a node that is alive it must be known at once when its connection breaks;
	// on one that is not the answer waits for a connection.
	reply, err := peerpb.NewControlClient(p.control).Ping(ctx,
		&peerpb.PingRequest{RingHash: m.View().Ring.Hash()}, grpc.WaitForReady(!wasAlive))
	now := time.Now()
	switch {
	case p.ctx.Err() != nil:
		return false
	case err != nil:
		err = errorOf(p.name, err)
		if connected && ctx.Err() != nil {
			err = &proto.PeerFailed{Peer: p.name, Err: fmt.Errorf("no answer to a ping within %v", m.cfg.Health.Wait)}
		}
		m.limitedLog.warn(m.log, "silent "+p.name, "a node does not answer", "node", p.name, "address", p.addr, "error", err)
		return h.silent(err)
	}
	if connected {
		h.measured(now.Sub(began))
	}
	m.compareRings(p, reply.GetRingHash())
	if theirs := reply.GetSnapshots(); m.cfg.Control != nil && theirs != 0 {
		if ours := m.cfg.Control.SnapshotsSum(); ours != 0 && ours != theirs {
			m.cfg.Control.SnapshotsDiffer(p.name)
		}
	}
	stuck := time.Duration(max(reply.GetStuckMs(), 0)) * time.Millisecond
	if stuck < m.cfg.Timing.Progress {
		stuck = 0
	} else {
		m.limitedLog.warn(m.log, "stuck "+p.name, "a node says that its disk does not answer; others are asked in its place", "node", p.name, "for", stuck)
	}
	if h.answered(p.ctx, began, now, p.dataWorks(), stuck) {
		m.log.Info("a node answers", "node", p.name, "address", p.addr)
		m.wg.Go(func() { m.sendAlertsTo(p) })
	}
	return !connected
}

// dataWorks reports whether the connection for bytes is there, or at least has not
// failed. It makes one where there is none: the first transfer need not wait for
// that.
func (p *peer) dataWorks() bool {
	switch p.data.GetState() {
	case connectivity.Idle:
		p.data.Connect()
	case connectivity.TransientFailure, connectivity.Shutdown:
		return false
	}
	return true
}

// compareRings notes whether p sees the same ring.
func (m *Mesh) compareRings(p *peer, theirs uint64) {
	h, ours := &p.health, m.View().Ring.Hash()
	h.mu.Lock()
	h.agrees = theirs == ours
	if h.agrees {
		h.differing = 0
	} else {
		h.differing++
	}
	lasting := h.differing >= disagreesAfter
	h.mu.Unlock()
	if was := h.disagrees.Swap(lasting); lasting && !was {
		m.log.Warn("another node sees another ring: it knows other nodes, or places by other rules", "node", p.name)
	}
}

// isAlive reports whether the last ping was answered.
func (h *health) isAlive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alive != nil
}

// answered records the answer to a ping that was sent at began, whether the connection for
// bytes works, and for how long the peer's disk has hung. It reports whether the peer was
// silent before.
func (h *health) answered(parent context.Context, began, now time.Time, dataWorks bool, stuck time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	returned := h.alive == nil
	if returned {
		h.alive, h.died = context.WithCancelCause(parent)
	}
	if h.suspect && !began.Before(h.failed) && !now.Before(h.rest) {
		h.suspect = false
	}
	if h.stuck = stuck; stuck > 0 {
		h.lastErr = fmt.Errorf("%w: for %v", errStuck, stuck.Round(time.Second))
	}
	h.fit.Store(dataWorks && !h.suspect && stuck == 0)
	return returned
}

// silent records that there was no answer, and reports whether there was one the last time.
func (h *health) silent(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fit.Store(false)
	h.lastErr = err
	if h.alive == nil {
		return false
	}
	h.died(err)
	h.alive, h.died = nil, nil
	return true
}

// measured records a round trip. The average follows a lasting change within a few pings
// and a single slow answer by an eighth.
func (h *health) measured(took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.best == 0 || took < h.best {
		h.best = took
	}
	average := took
	if before := h.rtt.Load(); before > 0 {
		average = time.Duration(before) + (took-time.Duration(before))/8
	}
	h.rtt.Store(max(int64(average), 1))
}

// reported records how a transfer from p went: nil if the peer answered, whatever the answer
// was; otherwise why the peer could not be asked or its answer broke off.
func (p *peer) reported(err error) {
	if err == nil || errors.As(err, new(*answered)) {
		return
	}
	if p.health.transferFailed(err, time.Now()) {
		p.nudge()
	}
}

// transferFailed makes the peer suspect, and reports whether it was not suspect before.
// Further failures while it is suspect have the same cause and do not count.
func (h *health) transferFailed(err error, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastErr, h.failed = err, now
	h.fit.Store(false)
	if h.suspect {
		return false
	}
	h.suspect = true
	if isStall(err) {
		h.rest = now.Add(min(stallRest<<min(h.stalls, 8), maxStallRest))
		h.stalls++
		return true
	}
	for len(h.failures) > 0 && (len(h.failures) == maxFailures || now.Sub(h.failures[0]) > failuresCount) {
		h.failures = h.failures[1:]
	}
	h.failures = append(h.failures, now)
	if again := len(h.failures) - 1; again > 0 {
		h.rest = now.Add(min(firstRest<<(again-1), maxRest))
	}
	return true
}

// isStall reports whether a transfer was given up because the peer gave nothing,
// though it was there.
func isStall(err error) bool { return errors.Is(err, errStalled) || errors.Is(err, errStuck) }

// stalled makes known that a transfer from p got nowhere, if that is how it ended.
func (m *Mesh) stalled(p *peer, err error) {
	switch {
	case isStall(err):
		m.metrics.stalls.WithLabelValues(p.name, stalledPeer).Inc()
		m.limitedLog.warn(m.log, "stalled "+p.name, "a node takes requests and gives nothing; others are asked in its place for a while", "node", p.name, "error", err)
	case errors.Is(err, proto.ErrSlowUpstream):
		m.metrics.stalls.WithLabelValues(p.name, stalledUpstream).Inc()
		m.limitedLog.warn(m.log, "lags "+p.name, "a node says that upstream gives it next to nothing; others are asked before it for a while", "node", p.name, "error", err)
		p.health.lagging(err, time.Now())
	}
}

// lagging notes that upstream was slow for the peer.
func (h *health) lagging(err error, now time.Time) {
	h.lags.Store(now.Add(lagFor).UnixNano())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastErr = err
}

// delivered notes that a whole body came from the peer, and whether upstream gave it
// to the peer just then.
func (h *health) delivered(fromUpstream bool) {
	if fromUpstream && h.lags.Load() != 0 {
		h.lags.Store(0)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stalls = 0
}

// lags reports whether others are to be asked before p.
func (p *peer) lags(now time.Time) bool { return now.UnixNano() < p.health.lags.Load() }

// nudge has p pinged now rather than soon: there is reason to doubt.
func (p *peer) nudge() {
	select {
	case p.health.nudged <- struct{}{}:
	default:
	}
}

// healthy reports whether p is worth asking for bytes.
func (p *peer) healthy() bool { return p.health.fit.Load() }

// rtt is the round-trip time to p; 0 while it is not known.
func (p *peer) rtt() time.Duration { return time.Duration(p.health.rtt.Load()) }

// reachable reports whether p answers pings: enough for all that is not bytes.
func (p *peer) reachable() bool { return p.health.isAlive() }

// errSilent is why a peer is not asked at all.
var errSilent = errors.New("it does not answer")

// whileAlive returns a context that ends with ctx and when p stops answering
// pings, or the error that it does not answer now.
func (p *peer) whileAlive(ctx context.Context) (context.Context, context.CancelFunc, error) {
	h := &p.health
	h.mu.Lock()
	alive, lastErr := h.alive, h.lastErr
	h.mu.Unlock()
	if alive == nil {
		return nil, nil, &proto.PeerFailed{Peer: p.name, Err: silence(lastErr)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(alive, func() {
		cancel(&proto.PeerFailed{Peer: p.name, Err: silence(context.Cause(alive))})
	})
	return ctx, func() { stop(); cancel(nil) }, nil
}

// silence is errSilent with its cause, if there is one. The cause loses the name of the
// peer, because the caller puts it in front again.
func silence(cause error) error {
	var failed *proto.PeerFailed
	if errors.As(cause, &failed) {
		cause = failed.Err
	}
	if cause == nil {
		return errSilent
	}
	return fmt.Errorf("%w: %w", errSilent, cause)
}

// describe fills in Healthy, RTT, LastError, RingAgrees and Held.
func (m *Mesh) describe(p *peer, s *PeerStatus) {
	h := &p.health
	s.Healthy, s.RTT, s.Blobs = p.healthy(), p.rtt(), uint64(p.stored.Len())
	h.mu.Lock()
	defer h.mu.Unlock()
	s.RingAgrees = h.agrees
	s.Stalled = h.alive != nil && (h.stuck > 0 || h.suspect && h.stalls > 0)
	s.Lags = p.lags(time.Now())
	if h.lastErr != nil {
		s.LastError = h.lastErr.Error()
		if failed := (*proto.PeerFailed)(nil); errors.As(h.lastErr, &failed) {
			s.LastError = failed.Err.Error() // without the name, which stands beside it
		}
	}
}

// shortest is the shortest round trip so far.
func (h *health) shortest() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.best
}
