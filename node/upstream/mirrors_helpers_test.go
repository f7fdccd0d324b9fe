package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// object is what every honest mirror of a realm has under every name.
const object = "0123456789abcdef"

// modifiedAt is the date of all files of a realm.
var modifiedAt = time.Date(2024, 4, 25, 15, 10, 33, 0, time.UTC)

// realm is an archive of several mirrors in memory, each on a host and a path of its
// own, for tests under a synthetic clock.
type realm struct {
	*Client
	t    *testing.T
	told []proto.MirrorAlert // by Config.Tell

	mu       sync.Mutex
	handlers map[string]http.HandlerFunc // by name of the mirror
	dials    map[string]func(context.Context) error
	asked    []string       // "GET <name of mirror> <path>", in order
	open     map[string]int // connections by host
	peak     map[string]int
}

// nameOf is the name of the mirror of a number, from 0 on.
func nameOf(i int) string { return fmt.Sprintf("http://m%d.example.org/root%d", i, i) }

// newRealm makes a realm of n mirrors that serve object; edit may change the
// configuration of its only archive, "a".
func newRealm(t *testing.T, n int, edit ...func(*Config)) *realm {
	t.Helper()
	r := &realm{
		t: t, handlers: make(map[string]http.HandlerFunc), dials: make(map[string]func(context.Context) error),
		open: make(map[string]int), peak: make(map[string]int),
	}
	wire := newNetwork()
	srv := &http.Server{Handler: http.HandlerFunc(r.serve)}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(wire) }()
	t.Cleanup(func() { srv.Close(); <-done })

	archive := Archive{Name: "a"}
	for i := range n {
		u, err := url.Parse(nameOf(i))
		if err != nil {
			t.Fatal(err)
		}
		archive.Mirrors = append(archive.Mirrors, Mirror{URL: u})
	}
	cfg := filled(Config{Archives: []Archive{archive}, Settings: Settings{Proxy: Direct, RateFloor: 32 << 10}, OnAlert: func(tr proto.MirrorAlert) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, tr)
	}})
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		host := strings.TrimSuffix(address, ":80")
		r.mu.Lock()
		dial := r.dials[host]
		r.mu.Unlock()
		if dial != nil {
			if err := dial(ctx); err != nil {
				return nil, &net.OpError{Op: "dial", Err: err}
			}
		}
		conn, err := wire.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		r.count(host, 1)
		return &hostConn{Conn: conn, closed: sync.OnceFunc(func() { r.count(host, -1) })}, nil
	}
	for _, f := range edit {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r.Client = c
	return r
}

type hostConn struct {
	net.Conn
	closed func()
}

func (c *hostConn) Close() error { c.closed(); return c.Conn.Close() }

func (r *realm) count(host string, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[host] += by
	r.peak[host] = max(r.peak[host], r.open[host])
}

// serve answers for all mirrors. A mirror is asked below its own root only.
func (r *realm) serve(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/")
	root, path, _ := strings.Cut(path, "/")
	name := "http://" + req.Host + "/" + root
	r.mu.Lock()
	h := r.handlers[name]
	what := req.Method
	if req.Header.Get("Range") == "bytes=0-0" {
		what = "PROBE"
	}
	r.asked = append(r.asked, fmt.Sprintf("%s %s %s", what, name, path))
	r.mu.Unlock()
	if h == nil {
		h = honest
	}
	h(w, req)
}

func honest(w http.ResponseWriter, req *http.Request) {
	http.ServeContent(w, req, "x.deb", modifiedAt, strings.NewReader(object))
}

// at makes a mirror answer in another way; nil for honestly.
func (r *realm) at(i int, h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handlers[nameOf(i)] = h
}

// dialing makes dials to a mirror fail, or wait; nil for neither.
func (r *realm) dialing(i int, dial func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials[fmt.Sprintf("m%d.example.org", i)] = dial
}

func connectionRefused(context.Context) error { return errors.New("connection refused") }
func blackHole(ctx context.Context) error     { <-ctx.Done(); return ctx.Err() }

// requests returns how often each mirror was asked since the last call, probes in the
// background apart.
func (r *realm) requests() (gets, probes map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gets, probes = make(map[string]int), make(map[string]int)
	for _, one := range r.asked {
		f := strings.Fields(one)
		if f[0] == "PROBE" {
			probes[f[1]]++
		} else {
			gets[f[1]]++
		}
	}
	r.asked = nil
	return gets, probes
}

func (r *realm) wantRequests(want map[string]int) {
	r.t.Helper()
	if gets, _ := r.requests(); !maps.Equal(gets, want) {
		r.t.Errorf("asked %v, want %v", gets, want)
	}
}

// changed returns what was told since the last call.
func (r *realm) changed() []proto.MirrorAlert {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return told
}

// from fetches an object and returns which mirror gave it, in whole.
func (r *realm) from(path string) string {
	r.t.Helper()
	tr, got, err := fetchAll(r.t.Context(), r.Client, get(path))
	if err != nil {
		r.t.Fatalf("%s: %v", path, err)
	}
	if string(got) != object {
		r.t.Fatalf("%s: got %q from %s", path, got, tr.From)
	}
	return tr.From
}

// state returns what Stats says of a mirror.
func (r *realm) state(i int) MirrorStats {
	r.t.Helper()
	for _, m := range r.Stats().Mirrors {
		if m.URL == nameOf(i) {
			return m
		}
	}
	r.t.Fatalf("no %s in the stats", nameOf(i))
	return MirrorStats{}
}

func (r *realm) wantState(i int, state string) {
	r.t.Helper()
	if got := r.state(i); got.State != state {
		r.t.Errorf("the breaker of %s is %s (%s), want %s", got.URL, got.State, got.Reason, state)
	}
}

// Handlers of mirrors in trouble.

func answers(status int, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, "<html>no</html>")
	}
}

func page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, "<html><h1>It works!</h1></html>")
}

func gives(content string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		http.ServeContent(w, req, "x.deb", modifiedAt, strings.NewReader(content))
	}
}

func silent(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }

func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// after gives the first n bytes of what was asked for, and then what it likes.
func after(n int, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		cut := &cutWriter{ResponseWriter: w, left: n}
		honest(cut, req)
		w.(http.Flusher).Flush()
		then(w, req)
	}
}

// cutWriter passes on the first bytes of a body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	return len(p), err
}

// rated gives size zero bytes, from where it is asked to, at so many a second.
func rated(size, perSecond int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		start := 0
		if field := req.Header.Get("Range"); field != "" {
			fmt.Sscanf(field, "bytes=%d-", &start)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, size-1, size))
			w.Header().Set("Content-Length", fmt.Sprint(size-start))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		if req.Method == http.MethodHead {
			return
		}
		const ticks = 20
		for left := size - start; left > 0; {
			n := min(left, max(perSecond/ticks, 1))
			if _, err := w.Write(make([]byte, n)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			left -= n
			select {
			case <-time.After(time.Second / ticks):
			case <-req.Context().Done():
				return
			}
		}
	}
}
