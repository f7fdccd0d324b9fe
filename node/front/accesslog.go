package front

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aptmesh/aptmesh/proto"
)

// accessLog gathers lines in memory and writes them out from a goroutine of its own,
// at least each second, so that no answer ever waits for a disk or a pipe. Lines that
// find more than maxPending bytes waiting are dropped and counted.
type accessLog struct {
	w    io.Writer
	json bool

	mu      sync.Mutex
	pending []byte // guarded by mu
	closed  bool   // guarded by mu
	kick    chan struct{}
	stop    chan struct{}
	done    chan error
}

const (
	flushEvery = time.Second
	flushAt    = 64 << 10 // bytes
	maxPending = 4 << 20  // bytes
)

func newAccessLog(w io.Writer, format string) (*accessLog, error) {
	if format != "" && format != "text" && format != "json" {
		return nil, fmt.Errorf("log: format: %q is not a format: write text or json", format)
	}
	l := &accessLog{w: w, json: format == "json", kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan error, 1)}
	go l.run()
	return l, nil
}

func (l *accessLog) run() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var spare []byte
	for {
		var last bool
		select {
		case <-tick.C:
		case <-l.kick:
		case <-l.stop:
			last = true
		}
		l.mu.Lock()
		lines := l.pending
		l.pending = spare[:0]
		l.mu.Unlock()
		var err error
		if len(lines) > 0 {
			_, err = l.w.Write(lines)
		}
		if last {
			l.done <- err
			return
		}
		if spare = lines; cap(spare) > 16*flushAt {
			spare = nil // after a burst
		}
	}
}

// close writes out what is pending. Later lines are dropped.
func (l *accessLog) close() error {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if was {
		return nil
	}
	close(l.stop)
	if err := <-l.done; err != nil {
		return fmt.Errorf("write the access log: %w", err)
	}
	return nil
}

var lineBuffers = sync.Pool{New: func() any { return new([]byte) }}

// log adds the line of one exchange.
func (l *accessLog) log(x *exchange, took time.Duration) {
	buf := lineBuffers.Get().(*[]byte)
	line := l.line((*buf)[:0], x, took)
	l.mu.Lock()
	full := l.closed || len(l.pending)+len(line) > maxPending
	if !full {
		l.pending = append(l.pending, line...)
	}
	big := len(l.pending) >= flushAt
	l.mu.Unlock()
	if full {
		x.f.metrics.lost.Inc()
	}
	if big {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
	*buf = line
	lineBuffers.Put(buf)
}

// line appends the line, in the form of slog's handlers.
func (l *accessLog) line(b []byte, x *exchange, took time.Duration) []byte {
	e := encoder{b: b, json: l.json}
	e.open(x.began)
	e.text("client", x.r.RemoteAddr)
	e.text("method", x.r.Method)
	e.text("url", hideSecrets(x.r.RequestURI))
	e.number("status", int64(x.status))
	e.number("bytes", x.sent)
	e.millis("ms", took)
	if x.begun {
		e.millis("ttfb_ms", x.firstByte)
	}
	e.text("result", x.note.result)
	if x.note.tier != "" {
		e.text("tier", string(x.note.tier))
	}
	if x.note.channel != "" {
		e.text("channel", x.note.channel)
	}
	if x.note.snapshot != "" {
		e.text("snapshot", x.note.snapshot)
	}
	if x.loc != (proto.Location{}) {
		e.text("archive", x.loc.Archive)
		e.text("kind", x.info.Kind)
	}
	switch {
	case !x.note.location:
	case e.json:
		e.flag("listed", x.note.listed)
	case x.note.listed:
		e.text("listed", "yes") // as in X-Aptmesh
	default:
		e.text("listed", "no")
	}
	if !x.note.generation.IsZero() {
		e.time("generation", x.note.generation)
	}
	if x.note.why != "" {
		e.text("stale", hideSecrets(x.note.why))
	}
	if x.note.reason != "" {
		e.text("reason", x.note.reason)
	}
	if x.failure != nil {
		e.text("error", hideSecrets(x.failure.Error()))
	}
	if x.aborted {
		e.flag("aborted", true)
	}
	if agent := first(x.r.Header["User-Agent"]); agent != "" {
		e.text("agent", agent)
	}
	return e.close()
}

// encoder writes one line as slog's TextHandler or JSONHandler would.
type encoder struct {
	b    []byte
	json bool
}

func (e *encoder) open(now time.Time) {
	if e.json {
		e.b = append(e.b, `{"time":"`...)
		e.b = appendMillis(e.b, now)
		e.b = append(e.b, `","level":"INFO","msg":"access"`...)
		return
	}
	e.b = append(e.b, "time="...)
	e.b = appendMillis(e.b, now)
	e.b = append(e.b, " level=INFO msg=access"...)
}

// appendMillis writes RFC 3339 with milliseconds. Package time is quick at RFC3339 and
// at no format beside it.
func appendMillis(b []byte, t time.Time) []byte {
	t = t.UTC()
	b = t.AppendFormat(b, time.RFC3339)
	ms := t.Nanosecond() / int(time.Millisecond)
	b = append(b[:len(b)-1], '.', byte('0'+ms/100))
	return append(appendTwo(b, ms%100), 'Z')
}

func (e *encoder) close() []byte {
	if e.json {
		e.b = append(e.b, '}')
	}
	return append(e.b, '\n')
}

func (e *encoder) key(key string) {
	if e.json {
		e.b = append(e.b, ',', '"')
		e.b = append(e.b, key...)
		e.b = append(e.b, '"', ':')
		return
	}
	e.b = append(e.b, ' ')
	e.b = append(e.b, key...)
	e.b = append(e.b, '=')
}

func (e *encoder) text(key, value string) {
	e.key(key)
	if e.json {
		e.b = appendJSON(e.b, value)
		return
	}
	switch quotesFor(value) {
	case quotesNone:
		e.b = append(e.b, value...)
	case quotesOnly:
		e.b = append(e.b, '"')
		e.b = append(e.b, value...)
		e.b = append(e.b, '"')
	default:
		e.b = strconv.AppendQuote(e.b, value)
	}
}

func (e *encoder) number(key string, value int64) {
	e.key(key)
	e.b = strconv.AppendInt(e.b, value, 10)
}

func (e *encoder) millis(key string, value time.Duration) {
	e.key(key)
	e.b = strconv.AppendFloat(e.b, float64(value.Microseconds())/1000, 'f', -1, 64)
}

func (e *encoder) flag(key string, value bool) {
	e.key(key)
	e.b = strconv.AppendBool(e.b, value)
}

func (e *encoder) time(key string, value time.Time) {
	e.key(key)
	if e.json {
		e.b = append(e.b, '"')
	}
	e.b = value.UTC().AppendFormat(e.b, time.RFC3339)
	if e.json {
		e.b = append(e.b, '"')
	}
}

// quotes says what a value of the text form needs.
type quotes uint8

const (
	quotesNone quotes = iota
	quotesOnly
	quotesEscaped
)

func quotesFor(s string) quotes {
	need := quotesNone
	if s == "" {
		need = quotesOnly
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~' || c == '"' || c == '\\':
			return quotesEscaped
		case c == ' ' || c == '=':
			need = quotesOnly
		}
	}
	return need
}

// appendJSON writes a JSON string. What is not UTF-8 becomes U+FFFD.
func appendJSON(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[r>>4&15], digits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
