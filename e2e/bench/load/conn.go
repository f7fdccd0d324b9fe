package load

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection and the requests under way on it, oldest first.
type conn struct {
	s       *Session
	id      int
	server  int // which of the session's addresses
	fd      int // -1 while closed
	dialErr error

	answered int // on this connection, since it was opened

	order   []int // in which it asks for the targets
	next    int   // how many it has asked for in this run
	pending []request
	busy    bool // has work left in this run
	wakeAt  time.Duration
	moved   time.Duration // when the last byte came or the last request went

	answer answer
}

type request struct {
	target *Target
	sent   time.Duration
	// What came from a server that has ended: so many bytes, the first of them then.
	from  int
	first time.Duration
}

// status is that of the only right answer.
func (r request) status() int {
	if r.from > 0 {
		return 206
	}
	return r.target.Status
}

// rest is the body of the only right answer.
func (r request) rest() []byte { return r.target.Body[r.from:] }

// text is what is sent.
func (r request) text() []byte {
	if r.from == 0 {
		return r.target.request
	}
	head := r.target.request[:len(r.target.request)-len("\r\n")]
	return fmt.Appendf(nil, "%sRange: bytes=%d-\r\n\r\n", head, r.from)
}

// answer is how far the answer to pending[0] has come.
type answer struct {
	head    []byte // the part of the header so far, where it came in pieces
	inBody  bool
	first   time.Duration
	status  int
	size    int
	got     int
	right   bool
	closing bool // the server will close after this answer
}

// dial opens the connection.
func (c *conn) dial() error {
	fd, err := c.s.connect(c.server)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetNonblock(fd, true),
		unix.EpollCtl(c.s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.id)}),
	)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("connect: %w", err)
	}
	c.fd, c.answered, c.answer = fd, 0, answer{head: c.answer.head[:0]}
	return nil
}

// connect opens a connection to one of the servers.
func (s *Session) connect(server int) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	// A send timeout bounds connect(2) as well, see socket(7).
	timeout := unix.NsecToTimeval(dialTimeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
		wait(func() error { return unix.Connect(fd, &s.addrs[server]) }),
	)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// wait calls a blocking system call again for as long as a signal interrupts it. The
// Go runtime sends such signals to preempt goroutines, and a socket with a timeout is
// not restarted, see signal(7). A connect(2) that is called again on the same socket
// goes on waiting for the first one's connection.
func wait(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// dying is how long a process that was killed may go on taking connections after it
// has closed the first.
const dying = 20 * time.Millisecond

// gone reports whether a server takes no connections any more. All wait for the
// answer: what asks has lost a connection, which is rare.
func (s *Session) gone(server int) bool {
	for attempt := range 2 {
		time.Sleep(time.Duration(attempt) * dying)
		fd, err := s.connect(server)
		if err != nil {
			return errors.Is(err, unix.ECONNREFUSED)
		}
		unix.Close(fd)
	}
	return false
}

// dialNext opens the connection to the next server.
func (c *conn) dialNext() error {
	c.server = (c.server + 1) % len(c.s.addrs)
	return c.dial()
}

func (c *conn) close() {
	if c.fd >= 0 {
		unix.Close(c.fd) // leaves epoll by itself
		c.fd = -1
	}
}

// begin starts the connection's share of a run.
func (c *conn) begin(now time.Duration) {
	c.busy, c.next, c.wakeAt = true, 0, 0
	if c.dialErr != nil {
		c.s.fail(c.dialErr.Error())
		c.dialErr = nil
		c.wakeAt = now + time.Second
		if c.s.rounds > 0 {
			c.finish()
		}
		return
	}
	c.send(now)
}

func (c *conn) finish() {
	if c.busy {
		c.busy = false
		c.s.busy--
	}
}

// more reports whether another request is due.
func (c *conn) more(now time.Duration) bool {
	if c.s.rounds > 0 {
		return c.next < c.s.rounds*len(c.order)
	}
	return now < c.s.until
}

// send fills the pipeline; all that it adds goes out in one write, as apt does it.
func (c *conn) send(now time.Duration) {
	if c.fd < 0 {
		err := c.dial()
		if errors.Is(err, unix.ECONNREFUSED) && len(c.s.addrs) > 1 {
			err = c.dialNext()
		}
		if err != nil {
			c.s.fail(err.Error())
			c.wakeAt = now + time.Second
			if c.s.rounds > 0 || !c.more(now) {
				c.finish()
			}
			return
		}
	}
	var out []byte
	for len(c.pending) < c.s.plan.Pipeline && c.more(now) {
		t := &c.s.plan.Targets[c.order[c.next%len(c.order)]]
		c.next++
		c.pending = append(c.pending, request{target: t, sent: now})
		if out == nil {
			out = t.request
		} else {
			out = append(out[:len(out):len(out)], t.request...)
		}
	}
	if len(out) == 0 {
		if len(c.pending) == 0 {
			c.finish()
		}
		return
	}
	c.moved = now
	if n, err := unix.Write(c.fd, out); err != nil || n < len(out) {
		// The server closed an idle connection, or does not read.
		c.ended(fmt.Sprintf("write: %v", err), now)
	}
}

// readable takes in what has come, once: the others are waiting too.
func (c *conn) readable() {
	if c.fd < 0 {
		return
	}
	n, err := unix.Read(c.fd, c.s.buf)
	now := c.s.now()
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		c.ended("read: "+err.Error(), now)
		return
	case n == 0:
		c.ended("closed without an answer", now)
		return
	}
	c.moved = now
	if err := c.feed(c.s.buf[:n], now); err != nil {
		c.broken(err.Error(), now)
		return
	}
	if !c.busy || c.wakeAt > now {
		return
	}
	c.send(now)
}

// ended handles the end of a connection by the server's doing.
func (c *conn) ended(reason string, now time.Duration) {
	switch {
	case len(c.pending) == 0:
		c.close() // an idle connection; opened again when needed
	case c.moves(now):
	case c.answer.inBody:
		c.broken(fmt.Sprintf("status %d, body cut short", c.answer.status), now)
	case c.answered > 0 && len(c.answer.head) == 0:
		// The server gave up a connection that it had kept open, as it may: every
		// client asks again on a new one.
		c.close()
		c.next -= len(c.pending)
		c.pending = c.pending[:0]
		c.s.res.Reopened++
		c.send(now)
	default:
		c.broken(reason, now)
	}
}

// moves goes on at the next server where this one has ended and takes no connections
// any more, and reports whether it does: as a host does that anycast takes elsewhere.
func (c *conn) moves(now time.Duration) bool {
	if len(c.s.addrs) == 1 || !c.s.gone(c.server) {
		return false
	}
	r, a := c.pending[0], c.answer
	if a.inBody && a.right {
		r.from += a.got
		r.first = cmp.Or(r.first, a.first)
	}
	c.close()
	if c.dialNext() != nil {
		return false
	}
	c.next -= len(c.pending) - 1
	c.pending = append(c.pending[:0], r)
	c.moved = now
	c.s.res.Moved++
	text := r.text()
	n, err := unix.Write(c.fd, text)
	return err == nil && n == len(text)
}

// broken counts what was under way as failed and tries again a little later.
func (c *conn) broken(reason string, now time.Duration) {
	c.abandon(reason)
	c.wakeAt = now + max(tick, c.s.plan.Pause)
	if !c.more(now) {
		c.finish()
	}
}

// abandon closes the connection. A server that answers pipelined requests with a
// close has failed one request; the rest were never begun and are asked again.
func (c *conn) abandon(reason string) {
	c.close()
	if len(c.pending) > 0 {
		c.s.fail(reason)
		c.s.res.TTLB.Add(c.s.now() - c.pending[0].sent)
		c.next -= len(c.pending) - 1
	}
	c.pending = c.pending[:0]
}

// watch is called every tick: for stalls, pauses and connections to open again.
func (c *conn) watch(now time.Duration) {
	if !c.busy {
		return
	}
	if len(c.pending) > 0 {
		if now-c.moved > c.s.plan.Timeout {
			what := "no answer"
			if c.answer.inBody {
				what = fmt.Sprintf("status %d, body stalled", c.answer.status)
			}
			c.broken(fmt.Sprintf("%s within %v", what, c.s.plan.Timeout), now)
		}
		return
	}
	if now >= c.wakeAt {
		if !c.more(now) {
			c.finish()
			return
		}
		c.send(now)
	}
}

// feed takes the next piece of the stream of answers.
func (c *conn) feed(p []byte, now time.Duration) error {
	a := &c.answer
	for len(p) > 0 {
		if len(c.pending) == 0 {
			return errors.New("bytes that nobody asked for")
		}
		if a.first == 0 {
			a.first = now
		}
		if !a.inBody {
			rest, complete, err := a.header(p)
			if err != nil || !complete {
				return err
			}
			p = rest
			if r := &c.pending[0]; r.from > 0 && a.status == r.target.Status {
				r.from = 0 // as apt does: the server will not send a part of it just now
				c.s.res.StartedOver++
			}
			a.right = a.status == c.pending[0].status()
		}
		want := c.pending[0].rest()
		piece := p[:min(len(p), a.size-a.got)]
		p = p[len(piece):]
		if a.right && (a.got+len(piece) > len(want) || !bytes.Equal(piece, want[a.got:a.got+len(piece)])) {
			a.right = false
		}
		a.got += len(piece)
		if a.got == a.size {
			c.complete(now)
		}
	}
	return nil
}

// complete counts the answer that has just ended.
func (c *conn) complete(now time.Duration) {
	a, r, res := &c.answer, c.pending[0], c.s.res
	switch {
	case a.right && a.size == len(r.rest()):
		res.Requests++
		res.Bytes += int64(len(r.target.Body))
		res.TTFB.Add(cmp.Or(r.first, a.first) - r.sent)
	case a.status != r.status():
		res.Failures["status "+strconv.Itoa(a.status)]++
	default:
		res.Failures[WrongBody]++
	}
	res.TTLB.Add(now - r.sent)
	c.answered++
	c.pending = append(c.pending[:0], c.pending[1:]...)
	closing := a.closing
	*a = answer{head: a.head[:0]}
	if c.s.plan.Pause > 0 {
		c.wakeAt = now + c.s.plan.Pause
	}
	if closing {
		// Requests that were sent after this one have to be asked again.
		c.close()
		c.next -= len(c.pending)
		c.pending = c.pending[:0]
	}
}
