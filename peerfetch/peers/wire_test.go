package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// network is a network in memory, for tests in which time is not real
// (testing/synctest) and for benchmarks with a round trip.
type network struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	link      link
	dialled   []*memConn // the dialling ends, in order
}

// link is what every connection of a network is like, in each direction.
type link struct {
	delay  time.Duration // one way
	rate   int64         // bytes per second; 0: any
	buffer int           // bytes that fit between the ends; 0: 4 MiB
}

func newNetwork(l link) *network {
	if l.buffer == 0 {
		l.buffer = 4 << 20
	}
	return &network{listeners: make(map[string]*memListener), link: l}
}

func (n *network) listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, fmt.Errorf("%s is taken", addr)
	}
	l := &memListener{network: n, addr: memAddr(addr), backlog: make(chan net.Conn, 16), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("connection to %s refused", addr)
	}
	there, back := newPipe(n.link), newPipe(n.link)
	here := &memConn{in: back, out: there, local: "client", remote: l.addr}
	select {
	case l.backlog <- &memConn{in: there, out: back, local: l.addr, remote: "client"}:
	case <-l.closed:
		return nil, fmt.Errorf("connection to %s refused", addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	n.dialled = append(n.dialled, here)
	n.mu.Unlock()
	return here, nil
}

// swallow has all connections take everything and deliver nothing from now on.
func (n *network) swallow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.dialled {
		c.in.swallow()
		c.out.swallow()
	}
}

type memAddr string

func (a memAddr) Network() string { return "mem" }
func (a memAddr) String() string  { return string(a) }

type memListener struct {
	network *network
	addr    memAddr
	backlog chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.addr))
		l.network.mu.Unlock()
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return l.addr }

// memConn is one end of a connection. Read deadlines are kept, for a handshake
// that nobody answers; write deadlines are not.
type memConn struct {
	in, out       *pipe
	local, remote memAddr
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *memConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}
func (c *memConn) LocalAddr() net.Addr                { return c.local }
func (c *memConn) RemoteAddr() net.Addr               { return c.remote }
func (c *memConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(t); return nil }
func (c *memConn) SetWriteDeadline(_ time.Time) error { return nil }

// pipe is one direction of a connection: bytes become readable when the link has
// carried them.
type pipe struct {
	link link

	mu       sync.Mutex
	changed  *sync.Cond
	segments []segment // guarded by mu, as all below
	buffered int
	lastDue  time.Time
	closed   bool
	lost     bool
	deadline time.Time
	wake     *time.Timer
}

type segment struct {
	data []byte
	due  time.Time
}

func newPipe(l link) *pipe {
	p := &pipe{link: l}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && !p.lost && p.buffered >= p.link.buffer {
		p.changed.Wait()
	}
	if p.closed {
		return 0, errors.New("write to a closed connection")
	}
	if p.lost {
		return len(b), nil
	}
	due := time.Now().Add(p.link.delay)
	if p.link.rate > 0 {
		if due.Before(p.lastDue) {
			due = p.lastDue
		}
		due = due.Add(time.Duration(int64(len(b)) * int64(time.Second) / p.link.rate))
		p.lastDue = due
	}
	p.segments = append(p.segments, segment{append([]byte(nil), b...), due})
	p.buffered += len(b)
	p.changed.Broadcast()
	return len(b), nil
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case len(p.segments) > 0 && !now.Before(p.segments[0].due):
			n := 0
			for n < len(b) && len(p.segments) > 0 && !now.Before(p.segments[0].due) {
				s := &p.segments[0]
				copied := copy(b[n:], s.data)
				n += copied
				if s.data = s.data[copied:]; len(s.data) == 0 {
					p.segments = p.segments[1:]
				}
			}
			p.buffered -= n
			p.changed.Broadcast()
			return n, nil
		case p.closed:
			return 0, io.EOF
		case !p.deadline.IsZero() && !now.Before(p.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		p.wakeAtLocked(now)
		p.changed.Wait()
	}
}

// wakeAtLocked wakes who reads when something will be due. mu is held.
func (p *pipe) wakeAtLocked(now time.Time) {
	at := p.deadline
	if len(p.segments) > 0 && (at.IsZero() || p.segments[0].due.Before(at)) {
		at = p.segments[0].due
	}
	if p.wake != nil {
		p.wake.Stop()
		p.wake = nil
	}
	if !at.IsZero() {
		p.wake = time.AfterFunc(at.Sub(now), func() {
			p.mu.Lock()
			p.changed.Broadcast()
			p.mu.Unlock()
		})
	}
}

func (p *pipe) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	p.changed.Broadcast()
}

func (p *pipe) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost, p.segments = true, nil
	p.changed.Broadcast()
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}
