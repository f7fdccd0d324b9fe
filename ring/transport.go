package ring

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// wire is the network as memberlist gets it: counted, with a fence around it
// (memberlist itself checks the sender of one kind of packet only, and of no
// stream), and ended at once by Shutdown.
type wire struct {
	inner     memberlist.NodeAwareTransport
	advertise netip.AddrPort // zero: as inner finds
	allowed   []netip.Prefix // none: all
	dialer    *net.Dialer    // nil: inner dials

	in, out, refused atomic.Uint64

	packets chan *memberlist.Packet
	streams chan net.Conn
	dialing context.Context // until Shutdown
	stop    context.CancelFunc
	silent  chan struct{} // closed when inner gives nothing any more
	pumps   sync.WaitGroup
	once    sync.Once

	mu    sync.Mutex
	conns map[*stream]struct{} // open; guarded by mu; nil after Shutdown
}

func newWire(inner memberlist.Transport, allowed []netip.Prefix) *wire {
	aware, ok := inner.(memberlist.NodeAwareTransport)
	if !ok {
		aware = byAddress{inner}
	}
	w := &wire{
		inner: aware, allowed: allowed,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		silent: make(chan struct{}), conns: make(map[*stream]struct{}),
	}
	w.dialing, w.stop = context.WithCancel(context.Background())
	w.pumps.Go(w.pumpPackets)
	w.pumps.Go(w.pumpStreams)
	return w
}

// open listens on Bind, or takes the transport of a test.
func (c *Config) open(ctx context.Context, logger *log.Logger) (*wire, error) {
	allowed := networks(c.Allowed)
	if c.Transport != nil {
		return newWire(c.Transport, allowed), nil
	}
	at, err := c.bindTo(ctx)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", c.Bind, err)
	}
	opened, err := listen(at, logger)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: %w", c.Bind, err)
	}
	w := newWire(opened, allowed)
	w.dialer = &net.Dialer{}
	if !at.Addr().IsUnspecified() {
		// Others see streams come from where packets come from.
		w.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0))
	}
	bound := netip.AddrPortFrom(at.Addr(), uint16(opened.GetAutoBindPort()))
	if w.advertise, err = c.advertised(ctx, bound); err != nil {
		_ = w.Shutdown()
		return nil, fmt.Errorf("advertised gossip address %q: %w", c.Advertise, err)
	}
	return w, nil
}

// listen opens UDP and TCP on one address and, where its port is 0, on one port
// that is free for both.
func listen(at netip.AddrPort, logger *log.Logger) (*memberlist.NetTransport, error) {
	config := &memberlist.NetTransportConfig{BindAddrs: []string{at.Addr().String()}, BindPort: int(at.Port()), Logger: logger}
	for try := 1; ; try++ {
		t, err := memberlist.NewNetTransport(config)
		switch {
		case err == nil:
			return t, nil
		case at.Port() != 0:
			return nil, cmp.Or(cannotListen(at), err)
		case try == 10 || !strings.Contains(err.Error(), "address already in use"):
			return nil, err
		}
	}
}

// cannotListen is why an address cannot be listened on, as net tells it: memberlist keeps the text alone. nil if it can.
func cannotListen(at netip.AddrPort) error {
	tcp, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", at.String())
	if err != nil {
		return err
	}
	return udp.Close()
}

func (w *wire) pumpPackets() {
	for {
		select {
		case p := <-w.inner.PacketCh():
			w.in.Add(uint64(len(p.Buf)))
			if !w.admits(p.From) {
				continue
			}
			select {
			case w.packets <- p:
			case <-w.dialing.Done():
			}
		case <-w.silent:
			return
		}
	}
}

func (w *wire) pumpStreams() {
	for {
		select {
		case c := <-w.inner.StreamCh():
			if !w.admits(c.RemoteAddr()) {
				c.Close()
				continue
			}
			s, err := w.counted(c)
			if err != nil {
				continue
			}
			select {
			case w.streams <- s:
			case <-w.dialing.Done():
				s.Close()
			}
		case <-w.silent:
			return
		}
	}
}

// admits reports whether somebody at that address may talk to us.
func (w *wire) admits(from net.Addr) bool {
	if len(w.allowed) == 0 {
		return true
	}
	at, err := netip.ParseAddrPort(from.String())
	if err == nil && within(w.allowed, at.Addr()) {
		return true
	}
	w.refused.Add(1)
	return false
}

// checkOwnAddress reports where this node's own address is not allowed. memberlist
// would leave it out of its list, and then panic.
func (w *wire) checkOwnAddress() error {
	ip, _, err := w.FinalAdvertiseAddr("", 0)
	if err != nil {
		return fmt.Errorf("address to advertise: %w", err)
	}
	if own, ok := netip.AddrFromSlice(ip); !ok || !within(w.allowed, own) {
		return fmt.Errorf("advertised address %v is in none of the allowed networks", ip)
	}
	return nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (w *wire) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if w.advertise.IsValid() {
		return w.advertise.Addr().AsSlice(), int(w.advertise.Port()), nil
	}
	return w.inner.FinalAdvertiseAddr(ip, port)
}

// WriteTo implements memberlist.Transport.
func (w *wire) WriteTo(b []byte, addr string) (time.Time, error) {
	return w.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (w *wire) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	w.out.Add(uint64(len(b)))
	return w.inner.WriteToAddress(b, addr)
}

// PacketCh implements memberlist.Transport.
func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

// StreamCh implements memberlist.Transport.
func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

// DialTimeout implements memberlist.Transport.
func (w *wire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return w.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (w *wire) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := w.dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	return w.counted(c)
}

func (w *wire) dial(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if w.dialer == nil {
		return w.inner.DialAddressTimeout(addr, timeout)
	}
	ctx, cancel := context.WithTimeout(w.dialing, timeout)
	defer cancel()
	return w.dialer.DialContext(ctx, "tcp", addr.Addr)
}

// Shutdown implements memberlist.Transport. It ends what is open and what is being
// dialled: memberlist would let it run into its timeout.
func (w *wire) Shutdown() error {
	var err error
	w.once.Do(func() {
		w.stop()
		err = w.inner.Shutdown()
		close(w.silent)
		w.pumps.Wait()
		w.mu.Lock()
		open := w.conns
		w.conns = nil
		w.mu.Unlock()
		for s := range open {
			s.Conn.Close()
		}
	})
	return err
}

// stream is a connection that is counted, and known until it is closed.
type stream struct {
	net.Conn
	wire *wire
}

func (w *wire) counted(c net.Conn) (*stream, error) {
	s := &stream{c, w}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		c.Close()
		return nil, fmt.Errorf("gossip: %w", net.ErrClosed)
	}
	w.conns[s] = struct{}{}
	return s, nil
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.wire.in.Add(uint64(n))
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.wire.out.Add(uint64(n))
	return n, err
}

func (s *stream) Close() error {
	s.wire.mu.Lock()
	delete(s.wire.conns, s)
	s.wire.mu.Unlock()
	return s.Conn.Close()
}

// byAddress is a transport that knows no names.
type byAddress struct{ memberlist.Transport }

func (t byAddress) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

func (t byAddress) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}
