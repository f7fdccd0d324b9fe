package testarchive

import (
	"fmt"
	"net"
	"net/http"
)

// NewServerAt is NewServer on a free port of that address. On an address of its
// own, such as 127.5.0.1, nobody else takes the port while the server refuses.
func NewServerAt(a *Archive, host string) (*Server, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	return serve(a, nil, listener), nil
}

// Refuse closes the port: whoever connects is refused, as by a machine on which
// no server runs, and what was going on breaks off. Accept ends it.
func (s *Server) Refuse() {
	s.mu.Lock()
	running := s.http
	s.mu.Unlock()
	_ = running.Close()
}

// Accept opens the port again that Refuse closed.
func (s *Server) Accept() error {
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("open the port again: %w", err)
	}
	s.run(listener)
	return nil
}

// As answers with another file at the path, found or not and whatever status an
// earlier effect wanted: with its bytes, its date and its ETag, as a mirror does that
// has not heard of the newer one.
func As(f File) Effect { return func(a *answer) { a.file, a.found, a.status = f, true, 0 } }

// Broken is how an answer ends in the middle of its head.
type Broken int

// An answer may be closed in good order, be reset, or fall silent until the client
// goes away.
const (
	BrokenOff Broken = iota + 1
	BrokenByReset
	BrokenBySilence
)

// InHead breaks the answer in the middle of a line of its head.
func InHead(how Broken) Effect { return func(a *answer) { a.inHead, a.stalledBy = how, a.fault } }

// breakHead writes half a head and does not return.
func (m *meter) breakHead(how Broken, f *Fault) {
	ctx := m.r.Context()
	c, _, err := http.NewResponseController(m.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Le"))
	switch how {
	case BrokenByReset:
		c = rude(c)
	case BrokenBySilence:
		// A hijacked connection has nobody who notices that the client goes away.
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = c.Read(make([]byte, 1))
		}()
		select {
		case <-gone:
		case <-f.release:
		case <-ctx.Done():
		}
	}
	c.Close()
	panic(http.ErrAbortHandler)
}

// rude is the TCP connection below c; it ends with a reset.
func rude(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn() // a TLS connection would say goodbye
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	return c
}
