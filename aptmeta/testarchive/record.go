package testarchive

import (
	"net"
	"net/http"
	"slices"
	"time"
)

// Request is one request as the server saw it.
type Request struct {
	Method string
	Path   string // decoded, without its leading slash
	Raw    string // the request target as it was sent
	Host   string
	Header http.Header
	Proxy  bool // asked with an absolute URL
	At     time.Time
	Status int   // 0 if there was no header
	Bytes  int64 // of the body
	Done   bool
}

// record is what the server counts; under Server.mu.
type record struct {
	log            []*Request
	requests       map[string]int
	bytes          map[string]int64
	total          int64
	running, peak  int
	connections    int
	open, peakOpen int
}

func newRecord() record { return record{requests: map[string]int{}, bytes: map[string]int64{}} }

func (s *Server) begin(path string, r *http.Request) *Request {
	e := &Request{Method: r.Method, Path: path, Raw: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Proxy: r.URL.IsAbs(), At: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record.log = append(s.record.log, e)
	s.record.requests[path]++
	s.record.running++
	s.record.peak = max(s.record.peak, s.record.running)
	return e
}

func (s *Server) end(e *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Done = true
	s.record.running--
}

// note changes the entry of a request and keeps the sums in step.
func (s *Server) note(e *Request, change func(*Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := e.Bytes
	change(e)
	s.record.bytes[e.Path] += e.Bytes - before
	s.record.total += e.Bytes - before
}

func (s *Server) countConnection(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.record.connections++
		s.record.open++
		s.record.peakOpen = max(s.record.peakOpen, s.record.open)
	case http.StateClosed, http.StateHijacked:
		s.record.open--
	}
}

// Requests is how many requests there were for the path, HEAD and refused ones
// included.
func (s *Server) Requests(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.requests[path]
}

// Bytes is how many body bytes left for the path.
func (s *Server) Bytes(path string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.bytes[path]
}

// TotalRequests is how many requests there were.
func (s *Server) TotalRequests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.record.log)
}

// TotalBytes is how many body bytes left.
func (s *Server) TotalBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.total
}

// PeakConcurrent is the largest number of requests that were in progress at once.
func (s *Server) PeakConcurrent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.peak
}

// Connections is how many connections were opened.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.connections
}

// PeakConnections is the largest number of connections open at once.
func (s *Server) PeakConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.peakOpen
}

// Log returns all requests in the order they came.
func (s *Server) Log() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.record.log))
	for i, e := range s.record.log {
		out[i] = *e
	}
	return out
}

// Paths returns the paths that were asked for, sorted.
func (s *Server) Paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := make([]string, 0, len(s.record.requests))
	for p := range s.record.requests {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// ResetCounters forgets all requests; connections and requests in progress stay
// counted.
func (s *Server) ResetCounters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.record
	s.record = newRecord()
	s.record.running, s.record.peak = old.running, old.running
	s.record.open, s.record.peakOpen = old.open, old.open
	s.record.connections = old.connections
}
