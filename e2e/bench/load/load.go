// Package load asks an HTTP/1.1 server for files over many connections at once
// and checks every byte of every answer.
//
// It is one thread around epoll, because on a small machine the generator's own
// appetite is what limits the figures: a request costs it one write, one read and
// a comparison. It is no general HTTP client: no TLS, no chunked bodies, IPv4
// loopback only. A Session belongs to one goroutine.
package load

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Target is one request and the only answer that counts as right.
type Target struct {
	Path   string
	Header []string // "Name: value"
	Status int      // 200 where zero
	Body   []byte   // compared byte for byte

	request []byte
}

// Plan says what a session does.
type Plan struct {
	Addr        string   // 127.0.0.1:port
	Others      []string // more servers that have the same: connections are spread over all
	Targets     []Target
	Connections int
	Pipeline    int           // requests under way per connection; 1 where zero
	Timeout     time.Duration // without a byte, an answer has failed; 10 s where zero
	Pause       time.Duration // between an answer and the next request of that connection
	Seed        uint64        // of the order in which each connection asks
	// Shared has the connections share the targets out between them, so that each is
	// asked for once per round. It needs no fewer targets than connections.
	Shared bool
}

// Result is what came of a Run.
type Result struct {
	Elapsed  time.Duration
	Requests int64 // answered in full and rightly
	Bytes    int64 // of right bodies
	Failures map[string]int
	Reopened int // connections that the server closed before it answered the next request
	// Moved counts answers that went on at another server because their own had ended
	// and took no connections any more: from the byte they had come to, but for
	// StartedOver of them, which that server sent from the beginning.
	Moved, StartedOver int
	// TTFB and TTLB are the times from the writing of a request to the first and
	// to the last byte of its answer.
	TTFB, TTLB Histogram
}

// WrongBody is the failure of an answer that was complete and not what it should
// have been: the one thing that must never happen.
const WrongBody = "WRONG BODY"

// Failed is the number of requests that did not get their right answer.
func (r *Result) Failed() int {
	n := 0
	for _, k := range r.Failures {
		n += k
	}
	return n
}

// Session is a set of connections to one server.
type Session struct {
	plan    Plan
	addrs   []unix.SockaddrInet4
	epoll   int
	conns   []*conn
	buf     []byte
	started time.Time

	// The rest belongs to one Run.
	res    *Result
	until  time.Duration // no new request after this; 0 = each connection does its rounds
	rounds int
	busy   int // connections with work left
}

const (
	readSize    = 256 << 10
	tick        = 20 * time.Millisecond
	dialTimeout = 2 * time.Second
	dialAll     = 10 * time.Second
)

// Dial opens all connections of a plan. Those that cannot be opened in time are
// counted as failures of the first Run.
func Dial(plan Plan) (*Session, error) {
	plan.Pipeline = max(plan.Pipeline, 1)
	if plan.Timeout == 0 {
		plan.Timeout = 10 * time.Second
	}
	s := &Session{plan: plan, buf: make([]byte, readSize), started: time.Now()}
	for _, addr := range append([]string{plan.Addr}, plan.Others...) {
		ap, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		s.addrs = append(s.addrs, unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()})
	}
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	for i := range plan.Targets {
		plan.Targets[i].render(plan.Addr)
	}
	for i := range plan.Connections {
		c := &conn{s: s, id: i, fd: -1, server: i % len(s.addrs), order: plan.order(i)}
		s.conns = append(s.conns, c)
		if time.Since(s.started) < dialAll {
			c.dialErr = c.dial()
		} else {
			c.dialErr = errors.New("connect: not tried, the others took too long")
		}
	}
	return s, nil
}

// order is the one in which a connection asks for the targets.
func (p Plan) order(connection int) []int {
	if !p.Shared {
		return rand.New(rand.NewPCG(p.Seed, uint64(connection))).Perm(len(p.Targets))
	}
	var share []int
	for i, target := range rand.New(rand.NewPCG(p.Seed, 0)).Perm(len(p.Targets)) {
		if i%p.Connections == connection {
			share = append(share, target)
		}
	}
	return share
}

func (t *Target) render(host string) {
	if t.Status == 0 {
		t.Status = 200
	}
	text := "GET " + t.Path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n"
	for _, h := range t.Header {
		text += h + "\r\n"
	}
	t.request = []byte(text + "\r\n")
}

// Rounds lets every connection ask for every target n times, each in an order of
// its own, all starting at one instant. It ends after at most limit.
func (s *Session) Rounds(n int, limit time.Duration) *Result {
	s.rounds, s.until = n, 0
	return s.run(limit)
}

// For lets every connection ask for the targets over and over for d.
func (s *Session) For(d time.Duration) *Result {
	s.rounds, s.until = 0, d
	return s.run(d + s.plan.Timeout)
}

// Close closes all connections.
func (s *Session) Close() {
	for _, c := range s.conns {
		c.close()
	}
	unix.Close(s.epoll)
}

// now is the time since the session began; the monotonic clock without the rest.
func (s *Session) now() time.Duration { return time.Since(s.started) }

func (s *Session) run(limit time.Duration) *Result {
	// The thread sits in epoll_wait most of the time; a thread of its own keeps
	// the runtime from moving its other goroutines about because of that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.res = &Result{Failures: map[string]int{}}
	s.busy = len(s.conns)
	begin := s.now()
	if s.until > 0 {
		s.until += begin
	}
	for _, c := range s.conns {
		c.begin(begin)
	}
	events := make([]unix.EpollEvent, 512)
	nextTick := begin + tick
	for s.busy > 0 {
		n, err := unix.EpollWait(s.epoll, events, int(tick/time.Millisecond))
		if err != nil && err != unix.EINTR {
			s.fail("epoll: " + err.Error())
			break
		}
		for i := range max(n, 0) {
			s.conns[events[i].Fd].readable()
		}
		now := s.now()
		if now < nextTick {
			continue
		}
		nextTick = now + tick
		if now > begin+limit {
			s.giveUp()
			break
		}
		for _, c := range s.conns {
			c.watch(now)
		}
	}
	s.res.Elapsed = s.now() - begin
	return s.res
}

func (s *Session) fail(reason string) { s.res.Failures[reason]++ }

// giveUp ends a run whose time is over: what is still under way has failed.
func (s *Session) giveUp() {
	for _, c := range s.conns {
		if c.busy {
			c.abandon("run over its time")
			c.finish()
		}
	}
}
