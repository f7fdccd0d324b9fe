package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// errClosed is the cause with which Close ends what runs.
var errClosed = errors.New("this node's upstream client is closed")

// stalled is the cause with which a watch ends a request.
type stalled struct {
	phase     phase
	after     time.Duration
	preempted bool // somebody was waiting for the slot
}

// preemptedFor is the cause with which the scheduler ends a request that keeps out one of a
// more urgent class, or of the same class and a client that has no slot.
type preemptedFor struct {
	class proto.Class
	same  bool
}

func (m *preemptedFor) Error() string { return "preempted for " + m.class.String() }

func (s *stalled) Error() string { return "stalled" }

// exchange is one request to one host on one slot, from before the dial to the
// end of the body.
type exchange struct {
	client  *Client
	s       *settings
	host    *host
	url     *url.URL
	class   proto.Class
	attempt *attempt
	source  *health
	hop     *hopTarget // set where somebody else hop to url, and nothing stands between
	remote  netip.Addr // of the server; zero before there is a connection, and through a proxy

	parent  context.Context // the caller's
	ctx     context.Context // ours: ends with the parent, the watch, the scheduler or the client
	cancel  context.CancelCauseFunc
	unhook  func() bool // from the client's end
	slot    *slot
	started time.Time
	watch   *time.Timer // bounds the present phase
	once    sync.Once   // end
	status  int         // of the answer; 0 before
	headed  bool        // the answer was good, and its body is on the way

	dial dialing
}

// begin waits for a slot at the host of u. The caller ends the exchange.
func (c *Client) begin(parent context.Context, s *settings, u *url.URL, e *attempt) (*exchange, error) {
	x := &exchange{client: c, s: s, host: c.hostOf(u), url: u, class: e.req.ClassNow(), attempt: e, source: e.source, parent: parent}
	x.ctx, x.cancel = context.WithCancelCause(parent)
	x.unhook = context.AfterFunc(c.running, func() { x.cancel(errClosed) })
	var err error
	want := slotRequest{class: x.class, client: e.req.Client, urgent: e.req.Urgent, otherMirrorFree: e.otherMirrorFree}
	if x.slot, err = x.host.scheduler.acquire(x.ctx, want, x.cut); err != nil {
		x.unhook()
		x.cancel(nil)
		if err == errOtherMirrorFree {
			return nil, err
		}
		err = x.failure("", err)
		x.host.note(outcomeOf(err, false), err)
		return nil, err
	}
	if x.class > proto.ClassPackage && e.req.Urgent != nil {
		go x.watchUrgent(e.req.Urgent)
	}
	x.started = time.Now()
	x.watch = time.AfterFunc(time.Hour, x.expired) // which needs it: the limit is set below
	x.enter(connecting)
	return x, nil
}

// watchUrgent raises the slot when a client begins to wait for what it is held for. It ends
// with the exchange.
func (x *exchange) watchUrgent(urgent <-chan struct{}) {
	select {
	case <-urgent:
		x.host.scheduler.raise(x.slot)
	case <-x.ctx.Done():
	}
}

// roundTrip sends the request and waits for the header of the answer.
func (x *exchange) roundTrip(req *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{
		// Both are called again if the transport finds an idle connection dead and takes
		// another connection.
		GetConn: func(string) {
			x.dial.begin()
			x.enter(connecting)
		},
		GotConn: func(info httptrace.GotConnInfo) {
			x.dial.done(info.Conn)
			x.reached(bareConn(info.Conn))
			x.enter(asking)
		},
	}
	ctx := context.WithValue(httptrace.WithClientTrace(x.ctx, trace), exchangeKey{}, x)
	if x.hop != nil {
		ctx = context.WithValue(ctx, hopKey{}, x.hop)
	}
	transport := x.s.transportTo(x.attempt.mirror, x.url)
	x.host.use(transport)
	res, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, x.failure("could not be asked", err)
	}
	if res.Body == http.NoBody {
		x.spare()
	}
	x.enter(resting)
	x.status = res.StatusCode
	waited := time.Since(x.started)
	x.attempt.waited += waited
	x.host.scheduler.answered(waited)
	x.client.metrics.header.WithLabelValues(x.host.name).Observe(waited.Seconds())
	return res, nil
}

// reached notes which server the request goes to. A connection that is kept from another request,
// or that Config.Dial made, may lead where this request may not; then it ends before anything is
// sent.
func (x *exchange) reached(conn net.Conn) {
	if x.s.proxyOf(x.url) != nil {
		return
	}
	at := remoteOf(conn)
	x.remote = plainAddr(at.Addr())
	if x.hop == nil || !at.IsValid() {
		return
	}
	if err := x.hop.reach.check(x.hop.redirectHop, x.url, at); err != nil {
		x.cut(err)
	}
}

// enter begins a phase and sets its time limit.
func (x *exchange) enter(ph phase) {
	x.slot.enter(ph)
	if limit := x.limitOf(ph); limit > 0 {
		x.watch.Reset(limit)
	} else {
		x.watch.Stop()
	}
}

// limitOf returns how long a phase may last; 0: as long as it likes. Where another
// mirror is believed to do better we have less patience: what was begun here costs a
// request there, and bytes that came are not lost.
func (x *exchange) limitOf(ph phase) time.Duration {
	limit := x.patienceFor(ph)
	if first := x.attempt.req.FirstByte; limit > 0 && first > 0 && len(x.attempt.others) > 0 {
		return min(limit, first/2) // the client gives up soon, and the next mirror wants time, too
	}
	return limit
}

func (x *exchange) patienceFor(ph phase) time.Duration {
	hurried := x.attempt.hurried.Load()
	switch ph {
	case connecting, asking:
		limit := x.s.cfg.HeaderTimeout
		if ph == connecting {
			limit = x.s.cfg.ConnectTimeout
		}
		if hurried {
			return min(limit, x.host.scheduler.patience())
		}
		return limit
	case reading:
		if hurried {
			return x.s.cfg.StallTimeout / 2
		}
		return x.s.cfg.StallTimeout
	}
	return 0
}

// expired ends the exchange if the present phase is really over its limit: the timer
// may have been set anew just as it fired, or there may be more patience now than when
// it was set.
func (x *exchange) expired() {
	ph, lasted := x.slot.now()
	limit := x.limitOf(ph)
	if x.ctx.Err() != nil || limit == 0 {
		return
	}
	if lasted >= limit && x.attempt.hurried.Load() && !x.client.better(x.attempt, 0) {
		x.attempt.hurried.Store(false)
		limit = x.limitOf(ph)
	}
	if lasted < limit {
		x.watch.Reset(limit - lasted)
		return
	}
	if ph == connecting || ph == asking {
		x.host.scheduler.answered(lasted) // at least; so that a slow host is not left again and again
	}
	x.cut(&stalled{phase: ph, after: lasted})
}

// cut ends what runs. It closes the connection itself, because the transport does so
// some time later, and the next holder of the slot may dial at once: here, there
// are never more connections than slots. The server may count one more for a
// moment: it sees the end of the old one when it next writes to it, and a dial that
// is called off may just have reached it.
func (x *exchange) cut(cause error) {
	x.cancel(cause)
	x.dial.drop()
}

// spare leaves the connection, which has no more to bring, to the next request. Not
// where the limit has been lowered, or the next request may go through another
// transport: an idle connection counts at the other end, too.
func (x *exchange) spare() {
	if !x.s.mixed[x.host.name] && !x.host.scheduler.oversubscribed() {
		x.dial.kept()
	}
}

// end gives back all that the exchange holds. It may be called more than once;
// the first outcome counts.
func (x *exchange) end(outcome string, err error) {
	x.once.Do(func() {
		x.watch.Stop()
		x.unhook()
		x.cut(nil)
		x.host.scheduler.release(x.slot)
		x.host.note(outcome, err)
		x.learn(outcome, err)
	})
}

// fail ends the exchange with an error, which it returns.
func (x *exchange) fail(err error) error {
	x.end(outcomeOf(err, x.slot.wasEvicted()), err)
	return err
}

// failure puts into an operator's words why the exchange came to err. The caller's
// own end of patience stays what it is.
func (x *exchange) failure(what string, err error) error {
	if x.parent.Err() != nil {
		return fmt.Errorf("%s: %w", bareURL(x.url), x.parent.Err())
	}
	cause := context.Cause(x.ctx)
	if errors.Is(cause, errClosed) {
		return &proto.Unavailable{Reason: x.host.name + " is no longer asked", Err: errClosed}
	}
	var watch *stalled
	if errors.As(cause, &watch) {
		if watch.preempted {
			x.s.cfg.Logger.Debug("a stalled transfer gave its place to a waiting one", "url", bareURL(x.url), "quiet", watch.after)
		}
		return &proto.Unavailable{Reason: x.stallReason(watch)}
	}
	var way *preemptedFor
	if errors.As(cause, &way) {
		x.s.cfg.Logger.Debug("a transfer was preempted by a more urgent one", "url", bareURL(x.url), "class", x.class, "for", way.class)
		if way.same {
			return &proto.Unavailable{Reason: fmt.Sprintf("%s%s: this transfer was preempted by a transfer of another client", x.host.name, x.via())}
		}
		return &proto.Unavailable{Reason: fmt.Sprintf("%s%s: this transfer was preempted by more urgent work (%s)", x.host.name, x.via(), way.class)}
	}
	var known *proto.Unavailable
	var refused *proto.Refused
	var verdict *proto.Rejected
	switch { // the proxy's own refusals, and those of Reach
	case errors.As(cause, &refused):
		return refused
	case errors.As(err, &verdict):
		return verdict
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return refused
	}
	return &proto.Unavailable{
		Reason: x.host.name + " " + netReason(what, err) + x.via() + waited(time.Since(x.started)),
		Err:    spoken{err},
	}
}

func (x *exchange) stallReason(w *stalled) string {
	after := shortly(w.after)
	if w.preempted {
		return fmt.Sprintf("%s%s stalled; gave its place to a waiting transfer (no progress for %s)", x.host.name, x.via(), after)
	}
	switch w.phase {
	case connecting:
		return fmt.Sprintf("no connection to %s%s within %s", x.host.name, x.via(), after)
	case asking:
		return fmt.Sprintf("%s%s did not answer within %s", x.host.name, x.via(), after)
	}
	return fmt.Sprintf("%s%s stalled: no byte for %s", x.host.name, x.via(), after)
}

// via names the parent proxy, if there is one.
func (x *exchange) via() string {
	if proxy := x.s.proxyOf(x.url); proxy != nil {
		return " (through the proxy " + bareURL(proxy) + ")"
	}
	return ""
}

// waited says how long a failure took, "" where it took no time.
func waited(d time.Duration) string {
	if d < 100*time.Millisecond {
		return ""
	}
	return ", after " + shortly(d).String()
}

func shortly(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// spoken is a network error that says its cause, without Go's path to it: "connection refused", and
// not "dial tcp 192.0.2.1:80: connect: connection refused". Of a certificate it says what to do.
type spoken struct{ error }

func (s spoken) Unwrap() error { return s.error }

func (s spoken) Error() string {
	var call *os.SyscallError
	var op *net.OpError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(s.error, &authority):
		return "none of the authorities signed it that this node trusts; name the authority's file in tls.ca of the upstream if it is right"
	case errors.As(s.error, &name):
		return fmt.Sprintf("it is not for %s, but for %s", name.Host, namesOf(name.Certificate))
	case errors.As(s.error, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return fmt.Sprintf("it is valid from %s to %s; is the clock of this node right?", invalid.Cert.NotBefore.UTC().Format(time.DateOnly), invalid.Cert.NotAfter.UTC().Format(time.DateOnly))
	case errors.As(s.error, &call):
		return call.Err.Error()
	case errors.As(s.error, &op):
		return op.Err.Error()
	}
	return s.error.Error()
}

// namesOf are the hosts that a certificate is for, a few of them.
func namesOf(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	switch n := len(names); {
	case n == 0:
		return "no host"
	case n > 3:
		return strings.Join(names[:3], ", ") + fmt.Sprintf(" and %d more", n-3)
	}
	return strings.Join(names, ", ")
}

// netReason finds words for the commonest alerts of a network.
func netReason(what string, err error) string {
	var name *net.DNSError
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &name):
		return "has no address that can be found"
	case errors.As(err, &cert):
		return "showed a certificate that is not trusted"
	case errors.As(err, &op) && op.Op == "dial":
		return "accepts no connection"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "cannot be reached"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed the connection without an answer"
	}
	return what
}

type exchangeKey struct{}

// dialing follows the connection of an exchange. The transport lets a dial go on
// when its request has meanwhile been given a connection that came free, or has
// ended, in the hope that another request can use it. Under a cap on connections
// it must not: the slot is gone, so the dial ends with it.
type dialing struct {
	mu     sync.Mutex
	over   bool               // the slot is gone; guarded by mu, as all below
	wanted bool               // there is no connection yet
	stop   context.CancelFunc // of the dial that runs
	conn   net.Conn           // dialled and in its handshake, or in use
}

// begin notes that the transport looks for a connection.
func (d *dialing) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted, d.conn = !d.over, nil
}

// done notes the connection that the request has, perhaps not the one dialled for it.
func (d *dialing) done(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted, d.conn = false, conn
	if d.stop != nil {
		d.stop()
	}
	if d.over {
		bareConn(conn).Close()
	}
}

// kept notes that the transport has taken the connection back.
func (d *dialing) kept() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = nil
}

// drop ends the dial, the handshake or the connection in use, and lets no other
// begin.
func (d *dialing) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		d.stop()
	}
	if d.conn != nil {
		bareConn(d.conn).Close()
	}
	d.over, d.wanted, d.conn = true, false, nil
}

// bareConn returns the connection below TLS, whose Close sends nothing and so
// cannot block.
func bareConn(conn net.Conn) net.Conn {
	for {
		t, ok := conn.(*tls.Conn)
		if !ok {
			return conn
		}
		conn = t.NetConn()
	}
}

// run dials, unless or until the connection is not wanted any more.
func (d *dialing) run(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	if !d.wanted {
		d.mu.Unlock()
		return nil, context.Canceled
	}
	d.stop = cancel
	d.mu.Unlock()

	conn, err := dial(ctx)

	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop = nil
	if err == nil && !d.wanted {
		conn.Close()
		return nil, context.Canceled
	}
	if err == nil {
		d.conn = conn
	}
	return conn, err
}
