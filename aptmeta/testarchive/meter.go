package testarchive

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// meter is the ResponseWriter of one answer: it counts, paces and breaks the
// body.
type meter struct {
	w      http.ResponseWriter
	r      *http.Request
	server *Server
	entry  *Request
	conn   *conn

	drip, connRate, linkRate int64
	dripPacer                pacer

	cut, stall, rst int64
	stalledBy       *Fault
	noLength        bool
	set             map[string]string

	pos    int64 // offset in the object of the next byte
	wrote  bool
	broken bool
}

func (m *meter) Header() http.Header { return m.w.Header() }

// WriteHeader applies the last wishes of the faults and learns where the body
// starts.
func (m *meter) WriteHeader(status int) {
	if m.wrote {
		return
	}
	m.wrote = true
	h := m.w.Header()
	if status == http.StatusPartialContent {
		_, _ = fmt.Sscanf(h.Get("Content-Range"), "bytes %d-", &m.pos)
	}
	if m.noLength {
		h.Del("Content-Length")
	}
	for name, value := range m.set {
		if value == "" {
			h.Del(name)
		} else {
			h.Set(name, value)
		}
	}
	m.server.note(m.entry, func(e *Request) { e.Status = status })
	m.w.WriteHeader(status)
	if m.noLength && m.r.Method == http.MethodGet {
		m.flush() // now, or net/http works the length out for a short body
	}
}

// Write sends p up to the next event, in pieces that suit the slowest rate.
func (m *meter) Write(p []byte) (int, error) {
	if !m.wrote {
		m.WriteHeader(http.StatusOK)
	}
	done := 0
	for done < len(p) {
		if err := m.event(); err != nil {
			return done, err
		}
		piece := p[done:min(len(p), done+m.pieceSize())]
		piece = piece[:m.untilEvent(len(piece))]
		if err := m.pace(len(piece)); err != nil {
			return done, err
		}
		// Counted first: a client may have them before Write returns, and ask.
		m.server.note(m.entry, func(e *Request) { e.Bytes += int64(len(piece)) })
		n, err := m.w.Write(piece)
		if short := len(piece) - n; short > 0 {
			m.server.note(m.entry, func(e *Request) { e.Bytes -= int64(short) })
		}
		m.pos += int64(n)
		done += n
		if err != nil {
			return done, err
		}
		if m.paced() {
			m.flush()
		}
	}
	return done, m.eventAtEnd()
}

// event does what is due at the present offset.
func (m *meter) event() error {
	if m.stall != never && m.pos >= m.stall {
		m.stall = never
		m.flush()
		if !m.stalledBy.wait(m.r.Context(), m.entry.Path) {
			m.broken = true
			return m.r.Context().Err()
		}
	}
	if m.rst != never && m.pos >= m.rst {
		m.flush()
		m.reset()
	}
	if m.cut != never && m.pos >= m.cut {
		m.broken = true
		return errCut
	}
	return nil
}

// eventAtEnd lets a stall "after the last byte of this write" be seen at once
// and not only when more is to be written.
func (m *meter) eventAtEnd() error {
	if m.stall == m.pos || m.rst == m.pos || m.cut == m.pos {
		return m.event()
	}
	return nil
}

// untilEvent shortens n to end at the next event.
func (m *meter) untilEvent(n int) int {
	for _, at := range []int64{m.stall, m.rst, m.cut} {
		if at != never && at > m.pos {
			n = int(min(int64(n), at-m.pos))
		}
	}
	return n
}

func (m *meter) paced() bool { return m.drip > 0 || m.connRate > 0 || m.linkRate > 0 }

// pieceSize is a fiftieth of a second of the slowest rate.
func (m *meter) pieceSize() int {
	size := int64(64 << 10)
	for _, rate := range []int64{m.drip, m.connRate, m.linkRate} {
		if rate > 0 {
			size = min(size, max(1, rate/50))
		}
	}
	return int(size)
}

// pace waits until n more bytes may leave.
func (m *meter) pace(n int) error {
	now := time.Now()
	wait := max(m.dripPacer.take(now, n, m.drip), m.conn.pacer.take(now, n, m.connRate), m.server.link.take(now, n, m.linkRate))
	if !sleep(m.r.Context(), wait) {
		m.broken = true
		return m.r.Context().Err()
	}
	return nil
}

func (m *meter) flush() { _ = http.NewResponseController(m.w).Flush() }

// text answers with a status and a line.
func (m *meter) text(status int, line string) {
	m.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	m.w.Header().Set("Content-Length", fmt.Sprint(len(line)+1))
	m.WriteHeader(status)
	_, _ = m.Write([]byte(line + "\n"))
}

// finish closes the connection where the body was broken off, so that even a
// chunked one cannot seem complete.
func (m *meter) finish() {
	if m.broken {
		m.flush()
		panic(http.ErrAbortHandler)
	}
}

// reset ends the connection with a TCP reset and does not return.
func (m *meter) reset() {
	if c, _, err := http.NewResponseController(m.w).Hijack(); err == nil {
		_ = rude(c).Close()
	}
	panic(http.ErrAbortHandler)
}

// pacer spaces bytes out to a rate.
type pacer struct {
	mu   sync.Mutex
	next time.Time // when the next byte may leave
}

// credit is how far a pacer may catch up after a timer fired late.
const credit = 50 * time.Millisecond

// take reserves n bytes at so many bytes per second (0: no limit) and returns
// how long to wait before they may leave.
func (p *pacer) take(now time.Time, n int, rate int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-credit); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return p.next.Sub(now)
}

// sleep waits, and reports false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
