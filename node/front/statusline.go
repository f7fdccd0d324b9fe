package front

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// Listener wraps a listener for an http.Server that Server returned, so that error answers
// say what is wrong in their status line: of an error, apt shows only the status line. A TLS
// listener is wrapped from outside: Listener(tls.NewListener(…)).
//
// net/http writes its own reason phrase and offers no way to choose one. The connection
// replaces the phrase as the answer passes. So the server keeps keep-alive, pipelining,
// deadlines, and sendfile to the TCP connection below. Without this wrapper an answer has
// net/http's phrase, and everything else is the same.
func (f *Front) Listener(l net.Listener) net.Listener { return &listener{l, f} }

type listener struct {
	net.Listener
	front *Front
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	switch c := conn.(type) {
	case *net.TCPConn:
		return &plainConn{TCPConn: c}, nil
	case *tls.Conn:
		return &secureConn{Conn: c, front: l.front}, nil
	}
	return conn, nil
}

// plainConn is a TCP connection. It has all of TCPConn's methods: by ReadFrom net/http
// sends files.
type plainConn struct {
	*net.TCPConn
	line statusLine
}

func (c *plainConn) NetConn() net.Conn           { return c.TCPConn }
func (c *plainConn) statusLine() *statusLine     { return &c.line }
func (c *plainConn) Write(p []byte) (int, error) { return c.line.write(c.TCPConn, p) }

// secureConn is a TLS connection. net/http does not see that it is one, so the handshake
// is that of the first Read, within the time for a request's header.
type secureConn struct {
	*tls.Conn
	line  statusLine
	front *Front
}

func (c *secureConn) statusLine() *statusLine     { return &c.line }
func (c *secureConn) Write(p []byte) (int, error) { return c.line.write(c.Conn, p) }

// Read implements net.Conn. A client that speaks plain HTTP to a TLS port gets an error in plain
// HTTP.
func (c *secureConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	var not tls.RecordHeaderError
	if errors.As(err, &not) && not.Conn != nil {
		c.front.log.Debug("a TLS handshake failed", "client", c.RemoteAddr().String(), "error", err)
		if h := not.RecordHeader[:]; bytes.HasPrefix(h, []byte("GET ")) || bytes.HasPrefix(h, []byte("HEAD ")) {
			const text = "aptmesh: this port speaks https: write https:// in the URL\n"
			_, _ = io.WriteString(not.Conn, "HTTP/1.0 400 This port speaks https\r\nContent-Type: "+typeText+"\r\nConnection: close\r\n\r\n"+text)
		}
		return n, io.EOF // net/http would answer any other error through this connection
	}
	return n, err
}

// statusLine is what the next answer on a connection says in its status line. It belongs
// to the goroutine that serves the connection.
type statusLine struct {
	phrase string // "" leaves net/http's
}

// write passes p on. It replaces the reason phrase if p begins an answer, which it does
// once for each answer that has set one: net/http flushes an answer before the next.
func (s *statusLine) write(to io.Writer, p []byte) (int, error) {
	if s.phrase == "" {
		return to.Write(p)
	}
	const start = len("HTTP/1.1 200 ")
	end := bytes.IndexByte(p, '\r')
	if end < start || string(p[:len("HTTP/1.")]) != "HTTP/1." || p[len("HTTP/1.1 ")] == '1' { // 1xx comes before the answer
		return to.Write(p)
	}
	out := make([]byte, 0, len(p)+len(s.phrase))
	out = append(append(append(out, p[:start]...), s.phrase...), p[end:]...)
	s.phrase = ""
	if _, err := to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// statusLineOf is the status line of a connection that Listener wrapped, nil of others.
func statusLineOf(conn net.Conn) *statusLine {
	if c, ok := conn.(interface{ statusLine() *statusLine }); ok {
		return c.statusLine()
	}
	return nil
}

// say sets what the status line of this answer says.
func (x *exchange) say(phrase string) {
	if x.conn != nil && x.conn.line != nil {
		x.conn.line.phrase = phrase
	}
}
