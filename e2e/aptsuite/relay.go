package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A relay is the port that apt connects to. It passes bytes on to the node and back, one connection
// for each of apt's, and changes nothing of an answer but the phrase of a 404: see usual404. It exists for three reasons:
//
//   - The tests expect the archive at the root of a host, in URLs and in the names of lists. A node
//     has it below the archive's name. In mapped mode the relay puts that name before each path.
//   - The tests speak to their web server (/_config/) at the same address. Such requests go to the
//     web server itself. A port in the new value of an option is the relay's, because the tests know
//     no other; the web server redirects to the value, so the relay puts the server's port there.
//   - The tests ask the web server for the status of its last answer. What apt saw is the question,
//     so the relay says what the node answered last. Where it has passed on nothing, as with https
//     beside a proxy, the web server is asked.
type relay struct {
	prefix string        // before each path, as "/suite"; "" in proxy mode
	origin string        // address of the tests' web server
	node   func() string // address of the node that is the right one now
	cert   *tls.Certificate

	listener net.Listener
	status   atomic.Int32 // of the last answer

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	ports  map[string]string // from a port that the tests know to the web server's own
	open   []net.Listener    // the ones that ports leads to
}

// start listens on a port of its own on all loopback addresses that tests use.
func (r *relay) start() (err error) {
	r.conns, r.ports = make(map[net.Conn]bool), make(map[string]string)
	// The tests say localhost, 127.0.0.1 and 0.0.0.0; all of them mean this address.
	if r.listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return err
	}
	_, origin, _ := net.SplitHostPort(r.origin)
	r.ports[r.port()] = origin
	go r.accept(r.listener, r.serve)
	return nil
}

func (r *relay) port() string {
	_, port, _ := net.SplitHostPort(r.listener.Addr().String())
	return port
}

// close ends the relay and its connections.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.listener.Close()
	for _, l := range r.open {
		l.Close()
	}
	for conn := range r.conns {
		conn.Close()
	}
}

// keep has close end a connection too; release must follow. It is false if it is too late.
func (r *relay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[conn] = true
	return !r.closed
}

func (r *relay) release(conn net.Conn) {
	conn.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}

func (r *relay) accept(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // it was closed
		}
		go func() {
			defer r.release(conn)
			if r.keep(conn) {
				serve(conn)
			}
		}()
	}
}

// serve relays one connection. The first request decides where it leads.
func (r *relay) serve(client net.Conn) {
	in := bufio.NewReader(client)
	head, err := readHead(in)
	if err != nil {
		return
	}
	if own, path := ownPath(head); own {
		r.configure(client, in, path)
		return
	}
	node, err := net.Dial("tcp", r.node())
	if err != nil {
		return
	}
	defer r.release(node)
	if !r.keep(node) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		r.answers(client, node)
		client.Close()
	})
	for err == nil {
		if _, err = io.WriteString(node, r.mapped(head)); err == nil {
			head, err = readHead(in)
		}
	}
	if errors.Is(err, io.EOF) {
		err = node.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		node.Close()
	}
	both.Wait()
}

// answers passes on what the node says, byte by byte, and takes the statuses from it.
func (r *relay) answers(client io.Writer, node io.Reader) {
	to := &usual404{to: client}
	defer to.flush()
	tee := bufio.NewReader(io.TeeReader(node, to))
	for {
		resp, err := http.ReadResponse(tee, nil)
		if err != nil {
			break
		}
		r.status.Store(int32(resp.StatusCode))
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			break
		}
		to.flush()
	}
	_, _ = io.Copy(io.Discard, tee) // whatever else there is
}

// usual404 leaves the sentence out of the status line of a 404. The tests compare the lines that apt prints with those
// that their web server's "404 Not Found" leads to.
type usual404 struct {
	to   io.Writer
	held []byte // the beginning of what may be such a status line
}

const start404 = "HTTP/1.1 404 Not Found: "

func (u *usual404) Write(p []byte) (int, error) {
	u.held = append(u.held, p...)
	for {
		i := bytes.Index(u.held, []byte(start404))
		if i < 0 {
			break
		}
		end := bytes.IndexByte(u.held[i:], '\r')
		if end < 0 {
			return len(p), u.pass(i)
		}
		u.held = slices.Delete(u.held, i+len(start404)-len(": "), i+end)
	}
	keep := len(start404) - 1
	for ; keep > 0 && !bytes.HasSuffix(u.held, []byte(start404[:keep])); keep-- {
	}
	return len(p), u.pass(len(u.held) - keep)
}

// pass writes the first n of the bytes that are held.
func (u *usual404) pass(n int) error {
	_, err := u.to.Write(u.held[:n])
	u.held = u.held[n:]
	return err
}

// flush writes what is held at the end of an answer.
func (u *usual404) flush() { _ = u.pass(len(u.held)) }

// readHead reads one request without a body, which is all that apt sends.
func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		head.WriteString(line)
		if strings.TrimRight(line, "\r\n") == "" {
			return head.String(), nil
		}
	}
}

// mapped is a request as the node gets it. A test may have this port as a proxy for itself, too.
func (r *relay) mapped(head string) string {
	method, rest, _ := strings.Cut(head, " ")
	if r.prefix == "" {
		return head
	}
	own := "http://localhost:" + r.port()
	if after, ok := strings.CutPrefix(rest, own); ok && strings.HasPrefix(after, "/") {
		return method + " " + own + r.prefix + after
	}
	if !strings.HasPrefix(rest, "/") {
		return head
	}
	return method + " " + r.prefix + rest
}

// ownPath reports whether a request is about the web server's configuration, and the path of it. As
// a request to a proxy it has a whole URL.
func ownPath(head string) (bool, string) {
	_, rest, _ := strings.Cut(head, " ")
	target, _, _ := strings.Cut(rest, " ")
	if after, ok := strings.CutPrefix(target, "http://"); ok {
		_, path, _ := strings.Cut(after, "/")
		target = "/" + path
	}
	return strings.HasPrefix(target, "/_config/"), target
}

const lastStatus = "/_config/find/aptwebserver::last-status-code"

// configure serves requests about the web server's configuration until the client is content.
func (r *relay) configure(client net.Conn, in *bufio.Reader, path string) {
	for {
		status := r.status.Load()
		if path == lastStatus && status != 0 {
			text := strconv.Itoa(int(status))
			fmt.Fprintf(client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		} else if err := r.askOrigin(client, path); err != nil {
			return
		}
		// The web server counts these answers as well. An answer that came meanwhile is later.
		if status != 0 {
			r.status.CompareAndSwap(status, http.StatusOK)
		}
		head, err := readHead(in)
		if err != nil {
			return
		}
		_, path = ownPath(head)
	}
}

// askOrigin passes a request about its configuration on to the web server.
func (r *relay) askOrigin(client net.Conn, path string) error {
	path, err := r.translate(path)
	if err != nil {
		return err
	}
	origin, err := net.Dial("tcp", r.origin)
	if err != nil {
		return err
	}
	defer origin.Close()
	if _, err := fmt.Fprintf(origin, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(origin), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return resp.Write(client)
}

// translate puts the web server's own ports into the new value of an option. The values are
// percent-encoded, colons are not.
func (r *relay) translate(path string) (string, error) {
	if r.prefix == "" {
		return path, nil // a proxy leaves all ports as they are
	}
	if _, port, ok := strings.Cut(path, "/set/aptwebserver::port::https/"); ok {
		if err := r.listenTLS(port); err != nil {
			return "", err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := strings.LastIndex(path, "/") + 1
	value, err := url.PathUnescape(path[at:])
	if err != nil {
		return path, nil
	}
	for from, to := range r.ports {
		if value == from {
			return path[:at] + to, nil
		}
		if strings.Contains(value, ":"+from) {
			return path[:at] + url.PathEscape(strings.ReplaceAll(value, ":"+from, ":"+to)), nil
		}
	}
	return path, nil
}

// listenTLS opens the web server's own https port, beside the one that leads through the node.
func (r *relay) listenTLS(port string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports[port] != "" {
		return nil
	}
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*r.cert}})
	if err != nil {
		return err
	}
	r.open = append(r.open, l)
	_, own, _ := net.SplitHostPort(l.Addr().String())
	r.ports[port], r.ports[own] = own, own
	go r.accept(l, r.toOrigin)
	return nil
}

// toOrigin joins a connection with one to the web server.
func (r *relay) toOrigin(client net.Conn) {
	origin, err := net.Dial("tcp", r.origin)
	if err != nil {
		return
	}
	defer r.release(origin)
	if !r.keep(origin) {
		return
	}
	go func() {
		_, _ = io.Copy(origin, client) // ends with either connection
		origin.Close()
	}()
	_, _ = io.Copy(client, origin)
}
