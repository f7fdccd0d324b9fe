package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// answer is what the server says in place of an object.
type answer struct {
	status     int
	phrase     string // "" for the usual one
	retryAfter int    // seconds; 0 for no such field
}

func (a answer) head(body string) string {
	phrase := a.phrase
	if phrase == "" {
		phrase = http.StatusText(a.status)
	}
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n", a.status, phrase, len(body))
	if a.retryAfter > 0 {
		head += fmt.Sprintf("Retry-After: %d\r\n", a.retryAfter)
	}
	if a.status == http.StatusRequestedRangeNotSatisfiable {
		head += "Content-Range: bytes */100\r\n"
	}
	return head + "\r\n"
}

// server speaks HTTP/1.1 with keep-alive and pipelining, and with reason phrases of its
// own, which net/http does not. It is one trial's.
type server struct {
	archive *testarchive.Archive
	said    answer
	fails   func(path string) bool // where that is said

	listener net.Listener
	mu       sync.Mutex
	asked    []string  // paths, in order; guarded by mu
	last     time.Time // of the last request; guarded by mu
	open     map[net.Conn]bool
}

func newServer(archive *testarchive.Archive, said answer, fails func(path string) bool) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{archive: archive, said: said, fails: fails, listener: l, open: make(map[net.Conn]bool)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[conn] = true
			s.mu.Unlock()
			go s.serve(conn)
		}
	}()
	return s, nil
}

func (s *server) url() string { return "http://" + s.listener.Addr().String() }

func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := conn.Write(s.answer(r.URL.Path)); err != nil {
			return
		}
	}
}

// answer is all of an answer, as it goes over the wire.
func (s *server) answer(path string) []byte {
	path = strings.TrimPrefix(path, "/")
	s.mu.Lock()
	s.asked, s.last = append(s.asked, path), time.Now()
	s.mu.Unlock()
	if s.fails(path) {
		const body = "a line of text\n"
		return []byte(s.said.head(body) + body)
	}
	f, ok := s.archive.Lookup(path)
	if !ok {
		const body = "no such file\n"
		return []byte(answer{status: http.StatusNotFound}.head(body) + body)
	}
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nLast-Modified: %s\r\n\r\n", len(f.Data), f.Modified.UTC().Format(http.TimeFormat))
	return append([]byte(head), f.Data...)
}

// quiet is how long ago the last request was; how long ago since was, if that is later.
func (s *server) quiet(since time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last.After(since) {
		since = s.last
	}
	return time.Since(since)
}

// count is how many requests there were for paths that match.
func (s *server) count(match func(path string) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.asked {
		if match(path) {
			n++
		}
	}
	return n
}
