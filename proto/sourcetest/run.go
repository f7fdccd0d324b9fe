// Package sourcetest is what every source of bytes must pass: the archives behind HTTP, the other
// nodes, and what stands in for both in tests of flights. It checks what a flight (package
// peerfetch) relies on.
//
// A source's own test gives Run a harness: it makes the source, with a Server of this package
// behind it. The package knows no source.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Places is how many transfers the source of a harness lets go on at the same time, if it limits
// them. A source that keeps the place of a transfer that is over comes to a standstill.
const Places = 2

// Source is a source under test.
type Source struct {
	// Open asks for the object of the Server from byte offset on.
	Open func(ctx context.Context, offset int64) (*proto.Transfer, error)
	// Patience is when a server that sends nothing has been given up. 0: never.
	Patience time.Duration
	// Cannot are the faults that a Server behind this source cannot have.
	Cannot []Fault
}

// Harness makes a source of what s has, for one test.
type Harness func(t *testing.T, s *Server) Source

// Run tests a source that works on real time.
func Run(t *testing.T, h Harness) {
	run(t, h, 30*time.Second, 2*time.Minute, func(t *testing.T, f func(*testing.T)) { f(t) })
}

// RunInBubble tests a source that does all its I/O in memory. Time is that of a bubble of package
// synctest, and a goroutine that a test leaves behind fails it.
func RunInBubble(t *testing.T, h Harness) { run(t, h, time.Second, time.Hour, synctest.Test) }

// run tests a source. What happens at once does not take longer than soon, and no test longer than
// most.
func run(t *testing.T, h Harness, soon, most time.Duration, in func(*testing.T, func(*testing.T))) {
	for _, c := range []struct {
		name string
		f    func(*check)
	}{
		{"whole", (*check).whole}, {"rest", (*check).rest}, {"beyond the end", (*check).beyond},
		{"cannot resume", (*check).cannotResume}, {"absent", (*check).absent},
		{"breaks", (*check).breaks}, {"too long", (*check).tooLong},
		{"context ends", (*check).contextEnds}, {"closed early", (*check).closedEarly},
		{"gives nothing", (*check).givesNothing}, {"places", (*check).places}, {"two at once", (*check).twoAtOnce},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				ctx, done := context.WithTimeout(t.Context(), most) // a test that hangs says where
				defer done()
				c.f(&check{T: t, ctx: ctx, harness: h, soon: soon})
			})
		})
	}
}

// check is one test of one source.
type check struct {
	*testing.T
	ctx     context.Context // except for what must end by itself
	harness Harness
	soon    time.Duration
}

// content is n bytes of which no part is like another one.
func content(n int) []byte {
	b := make([]byte, n)
	x := uint32(n) + 7
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// size is that of an object of which half is more than anything on the way holds back or fetches to
// its end.
const size = 3_000_000

// with makes a source whose server has the fault; false if it cannot have it.
func (c *check) with(s *Server) (Source, bool) {
	c.Helper()
	if s.Content == nil {
		s.Content = content(size)
	}
	src := c.harness(c.T, s)
	if slices.Contains(src.Cannot, s.Fault) {
		return src, false
	}
	return src, true
}

// open opens what must open.
func (c *check) open(ctx context.Context, src Source, s *Server, offset int64) *proto.Transfer {
	c.Helper()
	t, err := src.Open(ctx, offset)
	if err != nil {
		c.Fatalf("open from byte %d: %v", offset, err)
	}
	c.head(t, s, offset)
	return t
}

// head checks what a source says before the body.
func (c *check) head(t *proto.Transfer, s *Server, offset int64) {
	c.Helper()
	switch told := int64(len(s.Content)); {
	case t.NotModified || t.Body == nil:
		c.Fatalf("from byte %d: %+v: nobody said that nothing has changed", offset, t)
	case t.Offset < 0 || t.Offset > offset:
		c.Fatalf("asked for byte %d, and it begins at byte %d", offset, t.Offset)
	case t.Size != told && !(s.Untold && t.Size == proto.UnknownSize):
		c.Errorf("from byte %d: an object of %d bytes is said to have %d", offset, told, t.Size)
	}
}

// all reads t to its end and closes it. What comes must be what the server has, at its place.
func (c *check) all(t *proto.Transfer, s *Server) error {
	c.Helper()
	got, err := io.ReadAll(struct{ io.Reader }{t.Body})
	want := s.Content[min(t.Offset, int64(len(s.Content))):]
	switch {
	case !bytes.HasPrefix(want, got):
		c.Errorf("from byte %d: %d bytes, and not those of the object", t.Offset, len(got))
	case err == nil && len(got) < len(want):
		c.Errorf("from byte %d: it ends well after %d of %d bytes", t.Offset, len(got), len(want))
	case err == nil:
		if n, err := t.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			c.Errorf("behind the end: %d bytes, %v", n, err)
		}
	default:
		if n, err := t.Body.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
			c.Errorf("behind an error: %d bytes, %v", n, err)
		}
	}
	t.Body.Close()
	return err
}

// over waits until the server works for nobody.
func (c *check) over(s *Server) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), c.soon)
	defer cancel()
	if !s.until(ctx, 0) {
		c.Error("the server still works for a transfer that is over")
	}
}

// about checks that an error is one of package proto. told says that it may be a verdict about the
// object; otherwise it must not be.
func (c *check) about(err error, told bool) {
	c.Helper()
	verdict := errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrCorrupt) ||
		errors.As(err, new(*proto.Refused)) || errors.As(err, new(*proto.Rejected))
	passing := errors.As(err, new(*proto.Unavailable)) || errors.As(err, new(*proto.PeerFailed)) || errors.As(err, new(*proto.NotStored))
	switch {
	case err == nil:
		c.Error("there is no error")
	case verdict && !told:
		c.Errorf("trouble with the server is taken for a verdict about the object: %v", err)
	case !verdict && !passing:
		c.Errorf("%v (%T) is no error of package proto", err, err)
	}
}

// told runs f for a server that says how long the object is, and for one that does not.
func told(f func(untold bool)) {
	f(false)
	f(true)
}

func (c *check) whole() {
	told(func(untold bool) {
		for _, n := range []int{0, 1, size} {
			s := &Server{Content: content(n), Untold: untold}
			src, _ := c.with(s)
			t := c.open(c.ctx, src, s, 0)
			if err := c.all(t, s); err != nil {
				c.Errorf("of %d bytes: %v", n, err)
			}
			c.over(s)
		}
	})
}

func (c *check) rest() {
	told(func(untold bool) {
		s := &Server{Untold: untold}
		src, _ := c.with(s)
		for _, offset := range []int64{1, size / 2, size - 1, size} {
			t := c.open(c.ctx, src, s, offset)
			if err := c.all(t, s); err != nil {
				c.Errorf("from byte %d: %v", offset, err)
			}
		}
		c.over(s)
	})
}

// beyond: who has more than the server has hears that it is another object.
func (c *check) beyond() {
	s := &Server{}
	src, _ := c.with(s)
	t, err := src.Open(c.ctx, size+1)
	if err != nil {
		c.about(err, true)
	} else {
		c.head(t, s, size+1) // the size tells it
		c.all(t, s)
	}
	c.over(s)
}

// cannotResume: where a server does not begin at the byte that was asked for, the source says
// where.
func (c *check) cannotResume() {
	for _, fault := range []Fault{Whole, Ahead} {
		s := &Server{Fault: fault}
		src, ok := c.with(s)
		if !ok {
			continue
		}
		t, err := src.Open(c.ctx, size/2)
		if err != nil {
			c.about(err, true)
			continue
		}
		c.head(t, s, size/2)
		if err := c.all(t, s); err != nil && fault == Whole {
			c.Error(err)
		}
		c.over(s)
	}
}

func (c *check) absent() {
	s := &Server{Fault: Absent}
	src, _ := c.with(s)
	for _, offset := range []int64{0, size / 2} {
		if t, err := src.Open(c.ctx, offset); !errors.Is(err, proto.ErrNotFound) {
			c.Errorf("%+v, %v, want proto.ErrNotFound", t, err)
		}
	}
	c.over(s)
}

// breaks: a body that breaks off, or ends before its end, is an error and no verdict about the
// object.
func (c *check) breaks() {
	told(func(untold bool) {
		for _, fault := range []Fault{Break, Short} {
			if fault == Short && untold {
				continue // nothing could tell
			}
			for _, at := range []int64{0, 1, size / 2, size - 1} {
				s := &Server{Untold: untold, Fault: fault, At: at}
				src, _ := c.with(s)
				for _, offset := range []int64{0, at} {
					t, err := src.Open(c.ctx, offset)
					if err == nil {
						c.head(t, s, offset)
						err = c.all(t, s)
					}
					if err == nil {
						c.Errorf("%s at byte %d, asked for from byte %d: it ends well", fault, at, offset)
						continue
					}
					c.about(err, false)
				}
				c.over(s)
			}
		}
	})
}

// tooLong: nobody gets more bytes than the source has told of.
func (c *check) tooLong() {
	s := &Server{Fault: Long}
	src, ok := c.with(s)
	if !ok {
		return
	}
	for _, offset := range []int64{0, size / 2} {
		t, err := src.Open(c.ctx, offset)
		if err == nil {
			c.head(t, s, offset)
			err = c.all(t, s)
		}
		if err != nil {
			c.about(err, true)
		}
	}
	c.over(s)
}

// promptly runs f, which must end, with an error, as soon as stop has ended its context.
func (c *check) promptly(what string, stop func(), f func() error) {
	c.Helper()
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	stop()
	late := time.NewTimer(c.soon)
	defer late.Stop()
	select {
	case err := <-ended:
		switch {
		case err == nil || err == io.EOF:
			c.Errorf("%s ends well though its context ended: %v", what, err)
		case !errors.Is(err, context.Canceled) && !errors.Is(err, errEnough):
			c.about(err, false)
		}
	case <-late.C:
		c.Errorf("%s does not end with its context", what)
		<-ended
	}
}

var errEnough = errors.New("enough of it")

// contextEnds: an open and a read end with their context, and say nothing about the object.
func (c *check) contextEnds() {
	s := &Server{Fault: Silent}
	src, _ := c.with(s)
	ctx, cancel := context.WithCancelCause(c.ctx)
	open := func() error {
		_, err := src.Open(ctx, 0)
		return err
	}
	c.promptly("an open", func() {
		within, done := context.WithTimeout(c.ctx, c.soon)
		defer done()
		if !s.until(within, 1) {
			c.Error("the server was not asked")
		}
		cancel(errEnough)
	}, open)
	c.promptly("an open after that", func() {}, open)
	c.over(s)

	s = &Server{Fault: Stall, At: size / 2}
	src, _ = c.with(s)
	ctx, cancel = context.WithCancelCause(c.ctx)
	t := c.open(ctx, src, s, 0)
	c.part(t, s, s.At-1000)
	c.promptly("a read", func() { cancel(errEnough) }, func() error {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{t.Body})
		return err
	})
	t.Body.Close()
	c.over(s)
}

// part reads the next n bytes, which have been sent: they come though nothing follows them.
func (c *check) part(t *proto.Transfer, s *Server, n int64) {
	c.Helper()
	got := make([]byte, n)
	if _, err := io.ReadFull(t.Body, got); err != nil {
		c.Fatal(err)
	}
	if !bytes.Equal(got, s.Content[t.Offset:t.Offset+n]) {
		c.Error("the bytes are not those of the object")
	}
}

// closedEarly: to close a body ends the transfer at the server as well.
func (c *check) closedEarly() {
	s := &Server{Fault: Stall, At: size / 2}
	src, _ := c.with(s)
	for _, read := range []int64{0, 1, s.At - 1000} {
		t := c.open(c.ctx, src, s, 0)
		c.part(t, s, read)
		began := time.Now()
		t.Body.Close()
		if took := time.Since(began); took > c.soon {
			c.Errorf("to close takes %v", took)
		}
		c.over(s)
	}
}

// givesNothing: a server that is there and gives nothing is left by itself, whatever it has given
// before.
func (c *check) givesNothing() {
	for _, s := range []*Server{{Fault: Silent}, {Fault: Stall}, {Fault: Stall, At: size / 2}, {Fault: Stall, At: size - 1}} {
		src, _ := c.with(s)
		if src.Patience == 0 {
			continue
		}
		began := time.Now()
		t, err := src.Open(c.Context(), 0)
		if err == nil {
			err = c.all(t, s)
		}
		c.about(err, false)
		if took := time.Since(began); took > src.Patience {
			c.Errorf("%s at byte %d: it is left after %v, want %v", s.Fault, s.At, took, src.Patience)
		}
		c.over(s)
	}
}

// places: a transfer that is over gives its place back, however it ended.
func (c *check) places() {
	s := &Server{}
	src, _ := c.with(s)
	for range 2 * Places {
		within, done := context.WithTimeout(c.ctx, c.soon)
		c.open(within, src, s, 0).Body.Close()

		t := c.open(within, src, s, 0)
		c.part(t, s, 1000)
		t.Body.Close()

		ctx, cancel := context.WithCancel(within)
		t = c.open(ctx, src, s, 0)
		cancel()
		io.Copy(io.Discard, struct{ io.Reader }{t.Body})
		t.Body.Close()

		if err := c.all(c.open(within, src, s, size/2), s); err != nil {
			c.Error(err)
		}
		done()
	}
	c.over(s)
}

// twoAtOnce: of two transfers neither holds the other one up, nor takes it with it.
func (c *check) twoAtOnce() {
	s := &Server{}
	src, _ := c.with(s)
	for _, end := range []string{"close", "cancel"} {
		ctx, cancel := context.WithCancel(c.ctx)
		first := c.open(ctx, src, s, 0)
		second := c.open(c.ctx, src, s, size/3)
		c.part(first, s, 1000)
		got := make([]byte, 1000)
		if _, err := io.ReadFull(second.Body, got); err != nil || !bytes.Equal(got, s.Content[second.Offset:][:1000]) {
			c.Errorf("beside another transfer: %v", err)
		}
		if end == "close" {
			first.Body.Close()
		}
		cancel()
		second.Offset += 1000
		if err := c.all(second, s); err != nil {
			c.Errorf("after the %s of another transfer: %v", end, err)
		}
		first.Body.Close()
	}
	c.over(s)
}
