// Package origin is the archive's side of a benchmark: an HTTP server that gives
// out files from memory over a link of known speed, counts what it was asked for,
// and spoils a file on request.
//
// It knows nothing of archives: files are paths and bytes.
package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A File is what the origin answers for one path.
type File struct {
	Body     []byte
	Modified time.Time
}

// Shape is the link between the origin and whoever asks it. The zero Shape is as
// fast as the machine.
type Shape struct {
	BytesPerSecond int // the whole link; 0 = no limit
	PerConnection  int // bytes per second of one connection; 0 = no limit
	Latency        time.Duration
}

// Counts is what the origin has seen since the last Reset.
type Counts struct {
	Requests    map[string]int // by path
	Bytes       int64          // of bodies, sent
	Ranges      int            // requests with a Range
	PeakAtOnce  int            // requests under way at one time
	Connections int            // opened
}

// Total is the number of requests for any path.
func (c Counts) Total() int {
	n := 0
	for _, k := range c.Requests {
		n += k
	}
	return n
}

// Origin is a running server. All methods are safe for concurrent use.
type Origin struct {
	server http.Server
	addr   string

	mu      sync.Mutex
	files   map[string]File
	spoiled map[string]bool
	shape   Shape
	link    *rate.Limiter
	counts  Counts
	atOnce  int
}

// Start serves files on a host and port.
func Start(addr string, files map[string]File) (*Origin, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	o := &Origin{addr: l.Addr().String(), files: files, spoiled: map[string]bool{}}
	o.counts.Requests = map[string]int{}
	o.server = http.Server{
		Handler:     o,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return o.connContext(ctx) },
	}
	go o.server.Serve(l)
	return o, nil
}

// Addr is the host and port the origin listens on.
func (o *Origin) Addr() string { return o.addr }

// Close ends the server and every transfer.
func (o *Origin) Close() error { return o.server.Close() }

// SetShape changes the link for answers that begin from now on.
func (o *Origin) SetShape(s Shape) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shape, o.link = s, limiter(s.BytesPerSecond)
}

// SetFiles replaces all files at one instant, as a mirror's publication should.
func (o *Origin) SetFiles(files map[string]File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = files
}

// Spoil makes the file at a path arrive with one wrong byte, its length kept.
func (o *Origin) Spoil(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spoiled[name] = true
}

// Reset forgets what was counted.
func (o *Origin) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts = Counts{Requests: map[string]int{}, PeakAtOnce: o.atOnce}
}

// Counts returns a copy of what was counted.
func (o *Origin) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.counts
	c.Requests = maps.Clone(c.Requests)
	return c
}

// burst is the size of one write: what a link sends without looking at the clock.
const burst = 64 << 10

// limiter lets a twentieth of a second through at once, but no more than a burst: a
// slow link is slow from its first byte on.
func limiter(bytesPerSecond int) *rate.Limiter {
	if bytesPerSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), min(burst, max(1, bytesPerSecond/20)))
}

type connKey struct{}

// connLink is the limit of one connection, made when its first answer needs it.
type connLink struct {
	once sync.Once
	lim  *rate.Limiter
}

func (o *Origin) connContext(ctx context.Context) context.Context {
	o.mu.Lock()
	o.counts.Connections++
	o.mu.Unlock()
	return context.WithValue(ctx, connKey{}, &connLink{})
}

// begin counts a request and decides what it gets.
func (o *Origin) begin(r *http.Request) (f File, ok bool, s Shape, link *rate.Limiter) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts.Requests[name]++
	if r.Header.Get("Range") != "" {
		o.counts.Ranges++
	}
	o.atOnce++
	o.counts.PeakAtOnce = max(o.counts.PeakAtOnce, o.atOnce)
	f, ok = o.files[name]
	if ok && o.spoiled[name] {
		f.Body = slices.Clone(f.Body)
		f.Body[len(f.Body)/2] ^= 1
	}
	return f, ok, o.shape, o.link
}

func (o *Origin) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.atOnce--
}

// sent counts bytes as they go out: somebody may wait for a part of a body.
func (o *Origin) sent(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts.Bytes += int64(n)
}

// ServeHTTP answers GET and HEAD, with ranges and conditions.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok, shape, link := o.begin(r)
	out := &shapedWriter{ResponseWriter: w, ctx: r.Context(), link: link, origin: o}
	defer o.end()
	if shape.Latency > 0 {
		select {
		case <-time.After(shape.Latency):
		case <-r.Context().Done():
			return
		}
	}
	if !ok {
		http.Error(w, fmt.Sprintf("%s is not here", r.URL.Path), http.StatusNotFound)
		return
	}
	if shape.PerConnection > 0 {
		own := r.Context().Value(connKey{}).(*connLink)
		own.once.Do(func() { own.lim = limiter(shape.PerConnection) })
		out.conn = own.lim
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(out, r, "", f.Modified, bytes.NewReader(f.Body))
}

// shapedWriter lets a body through no faster than the link and the connection.
type shapedWriter struct {
	http.ResponseWriter
	ctx        context.Context
	link, conn *rate.Limiter
	origin     *Origin
}

// piece is the most that all limits let through at once.
func (w *shapedWriter) piece() int {
	size := burst
	for _, lim := range []*rate.Limiter{w.conn, w.link} {
		if lim != nil {
			size = min(size, lim.Burst())
		}
	}
	return size
}

func (w *shapedWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		piece := p[done:min(len(p), done+w.piece())]
		for _, lim := range []*rate.Limiter{w.conn, w.link} {
			if lim == nil {
				continue
			}
			if err := lim.WaitN(w.ctx, len(piece)); err != nil {
				return done, err
			}
		}
		n, err := w.ResponseWriter.Write(piece)
		done += n
		w.origin.sent(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// ReadFrom keeps io.Copy from going round Write.
func (w *shapedWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, burst))
}
