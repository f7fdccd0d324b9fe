package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/aptmesh/aptmesh/proto"
)

// Fault is what a Server does other than it should.
type Fault string

// The faults.
const (
	None   Fault = ""
	Absent Fault = "absent" // it has no such object
	Silent Fault = "silent" // it takes a request and never answers
	Break  Fault = "break"  // the connection breaks where byte At should follow
	Stall  Fault = "stall"  // nothing comes where byte At should follow
	Short  Fault = "short"  // the body ends before byte At, as if that was the end
	Long   Fault = "long"   // more bytes come than the object has
	Whole  Fault = "whole"  // it cannot resume: each body begins at byte 0
	Ahead  Fault = "ahead"  // a body from an offset begins behind that offset
)

// ErrBroken is why a Body with the fault Break ends. The harness of a source makes of it what a
// broken connection is there.
var ErrBroken = errors.New("the connection broke")

// Server is what stands behind a source: it has one object. The harness of a source asks it for a
// Body with each request, and sends that.
type Server struct {
	Content []byte
	// Untold: it does not say how long the object is.
	Untold bool
	Fault  Fault
	At     int64

	mu      sync.Mutex
	open    int           // requests that are not over
	changed chan struct{} // closed when open changes; nil: nobody waits
}

// Body is what a Server sends. Its reads end with the context of Answer.
type Body struct {
	io.Reader
	Offset int64 // of the first byte, as the server says
	Size   int64 // of the object, as the server says
	// Left is how many bytes the server says will follow.
	Left int64

	close func()
}

// Close tells the server that the request is over.
func (b *Body) Close() error {
	b.close()
	return nil
}

// Answer is what the server does with a request for the object from offset on. The error is
// proto.ErrNotFound, or that of ctx.
func (s *Server) Answer(ctx context.Context, offset int64) (*Body, error) {
	s.count(1)
	over := sync.OnceFunc(func() { s.count(-1) })
	switch s.Fault {
	case Absent:
		over()
		return nil, fmt.Errorf("the server: %w", proto.ErrNotFound)
	case Silent:
		<-ctx.Done()
		over()
		return nil, ctx.Err()
	case Whole:
		offset = 0
	case Ahead:
		if offset > 0 {
			offset++
		}
	}
	size := int64(len(s.Content))
	b := &Body{Offset: offset, Size: size, Left: max(size-offset, 0), close: over}
	if s.Untold {
		b.Size = proto.UnknownSize
	}
	b.Reader = &sent{ctx: ctx, rest: s.from(offset), end: s.end()}
	return b, nil
}

// from is what comes of a body from offset on.
func (s *Server) from(offset int64) io.Reader {
	until := int64(len(s.Content))
	switch s.Fault {
	case Break, Stall, Short:
		until = s.At
	case Long:
		return bytes.NewReader(append(slices.Clone(s.Content[min(offset, until):]), make([]byte, 1000)...))
	}
	return bytes.NewReader(s.Content[min(offset, until):until])
}

// end is how a body ends: nil where nothing follows for ever.
func (s *Server) end() error {
	switch s.Fault {
	case Break:
		return ErrBroken
	case Stall:
		return nil
	}
	return io.EOF
}

// sent reads a body as it is sent.
type sent struct {
	ctx  context.Context
	rest io.Reader
	end  error
}

func (r *sent) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.rest.Read(p[:min(len(p), 16<<10)])
	if err != io.EOF {
		return n, err
	}
	if r.end == nil {
		<-r.ctx.Done()
		return 0, r.ctx.Err()
	}
	return 0, r.end
}

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// until waits until as many requests are under way; false if ctx ends before that.
func (s *Server) until(ctx context.Context, requests int) bool {
	for {
		s.mu.Lock()
		if s.open == requests {
			s.mu.Unlock()
			return true
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
