package testarchive

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// Server is an upstream on loopback. It answers GET and HEAD for plain paths
// and, being asked as a proxy would be, for absolute URLs whatever their host.
// All settings may change while it runs. It counts bodies by the bytes it hands
// to the connection.
type Server struct {
	// URL is the base of the archive, without a slash at its end.
	URL string

	addr string // it listens at
	stop context.CancelFunc
	ctx  context.Context
	ca   *authority // nil without TLS
	link pacer      // shared by all connections

	mu       sync.Mutex
	http     *http.Server
	archives map[string]*Archive // by mount point, "" or "debian/"
	faults   []*Fault
	settings settings
	record   record
}

type settings struct {
	latency            time.Duration
	connRate, linkRate int64
	authorization      string // what the header must be; "" for none
	challenge          string
}

// NewServer serves an archive at the root of a loopback port until Close.
func NewServer(a *Archive) *Server { return start(a, nil) }

// NewTLSServer is NewServer over HTTPS (HTTP/1.1), for 127.0.0.1 and localhost;
// see CA and Client.
func NewTLSServer(a *Archive) *Server { return start(a, newAuthority()) }

func start(a *Archive, ca *authority) *Server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	return serve(a, ca, listener)
}

func serve(a *Archive, ca *authority, listener net.Listener) *Server {
	addr := listener.Addr().String()
	s := &Server{URL: "http://" + addr, addr: addr, ca: ca, archives: map[string]*Archive{"": a}, record: newRecord()}
	if ca != nil {
		s.URL = "https://" + addr
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.run(listener)
	return s
}

// run answers what comes in at a listener, until Close or Refuse.
func (s *Server) run(listener net.Listener) {
	if s.ca != nil {
		// No "h2" in NextProtos: a reset must hit one transfer, not all of them.
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{s.ca.leaf}})
	}
	running := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, &conn{Conn: c})
		},
		ConnState: s.countConnection,
		ErrorLog:  log.New(io.Discard, "", 0), // broken connections are what it is for
	}
	s.mu.Lock()
	s.http = running
	s.mu.Unlock()
	go func() { _ = running.Serve(listener) }()
}

// conn is a client's connection and its own share of bandwidth.
type conn struct {
	net.Conn
	pacer pacer
}

type connKey struct{}

// Close stops the server at once, with all transfers in progress.
func (s *Server) Close() {
	s.stop()
	s.Refuse()
}

// Mount serves a second archive below a prefix, such as "/debian".
func (s *Server) Mount(prefix string, a *Archive) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.archives[strings.Trim(prefix, "/")+"/"] = a
}

// SetLatency delays the header of every answer.
func (s *Server) SetLatency(d time.Duration) { s.set(func(c *settings) { c.latency = d }) }

// SetBandwidth caps bodies to so many bytes per second on each connection, and
// on all connections together; 0 is no cap.
func (s *Server) SetBandwidth(perConnection, link int64) {
	s.set(func(c *settings) { c.connRate, c.linkRate = perConnection, link })
}

// RequireBasic refuses requests without these credentials with 401.
func (s *Server) RequireBasic(user, password string) {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	s.set(func(c *settings) {
		c.authorization, c.challenge = r.Header.Get("Authorization"), `Basic realm="testarchive"`
	})
}

// RequireBearer refuses requests without this token with 401.
func (s *Server) RequireBearer(token string) {
	s.set(func(c *settings) { c.authorization, c.challenge = "Bearer "+token, "Bearer" })
}

// RequireNothing lets everybody in again.
func (s *Server) RequireNothing() { s.set(func(c *settings) { c.authorization = "" }) }

func (s *Server) set(change func(*settings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.settings)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := cleanPath(r.URL.Path)
	entry := s.begin(path, r)
	m := &meter{w: w, r: r, server: s, entry: entry, cut: never, conn: connOf(r)}
	defer func() { s.end(entry) }()

	a, settings := s.plan(path, r)
	m.drip, m.connRate, m.linkRate = a.drip, settings.connRate, settings.linkRate
	if !sleep(r.Context(), settings.latency+a.latency) {
		panic(http.ErrAbortHandler)
	}
	if settings.authorization != "" && subtle.ConstantTimeCompare([]byte(settings.authorization), []byte(r.Header.Get("Authorization"))) != 1 {
		w.Header().Set("WWW-Authenticate", settings.challenge)
		m.text(http.StatusUnauthorized, "this archive needs credentials")
		return
	}
	s.answer(m, a)
}

// cleanPath drops the leading slash and, as web servers do, empty and "."
// segments: apt asks for "repo/./InRelease" where sources.list says "./".
func cleanPath(p string) string {
	clean := path.Clean("/" + p)[1:]
	if strings.HasSuffix(p, "/") && clean != "" {
		clean += "/" // a directory, not the file of that name
	}
	return clean
}

func connOf(r *http.Request) *conn {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c
	}
	return &conn{} // called directly, without a connection of ours
}

// plan looks the path up and lets every fault that matches have its say.
func (s *Server) plan(path string, r *http.Request) (*answer, settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &answer{path: path, r: r, cutAt: never, stallAt: never, resetAt: never, header: map[string]string{}}
	archive, rest := s.archives[""], path
	for prefix, other := range s.archives {
		if prefix != "" && strings.HasPrefix(path, prefix) {
			archive, rest = other, path[len(prefix):]
		}
	}
	a.file, a.found = archive.Lookup(rest)
	for _, f := range s.faults {
		if f.take(path) {
			a.fault = f
			f.effect(a)
		}
	}
	return a, s.settings
}

// answer writes what was planned.
func (s *Server) answer(m *meter, a *answer) {
	if a.stallAt < 0 && a.stallAt != never {
		if !a.stalledBy.wait(m.r.Context(), a.path) {
			panic(http.ErrAbortHandler)
		}
	}
	if a.resetAt < 0 && a.resetAt != never {
		m.reset()
	}
	if a.inHead != 0 {
		m.breakHead(a.inHead, a.stalledBy)
	}
	m.cut, m.stall, m.stalledBy, m.rst, m.noLength, m.set = a.cutAt, a.stallAt, a.stalledBy, a.resetAt, a.noLength, a.header
	switch {
	case m.r.Method != http.MethodGet && m.r.Method != http.MethodHead:
		m.text(http.StatusMethodNotAllowed, "only GET and HEAD")
	case a.status != 0:
		m.w.Header().Set("Content-Type", a.contentType)
		m.w.Header().Set("Content-Length", fmt.Sprint(len(a.text)))
		m.WriteHeader(a.status)
		_, _ = m.Write([]byte(a.text))
	case !a.found:
		m.text(http.StatusNotFound, "no such file in this archive: "+a.path)
	default:
		s.serveFile(m, a)
	}
	m.finish()
}

func (s *Server) serveFile(m *meter, a *answer) {
	r := m.r.Clone(m.r.Context())
	if a.noRange {
		r.Header.Del("Range")
	}
	if a.ignoreIfRange {
		r.Header.Del("If-Range")
	}
	if a.ignoreConditional {
		r.Header.Del("If-Modified-Since")
		r.Header.Del("If-None-Match")
	}
	h := m.w.Header()
	h["Content-Type"] = nil // no sniffing
	if t := contentType(a.path); t != "" {
		h.Set("Content-Type", t)
	}
	modified := a.file.Modified
	if a.noModified {
		modified = time.Time{}
	}
	if a.file.etag != "" && !a.noETag {
		h.Set("ETag", a.file.etag)
	}
	http.ServeContent(m, r, "", modified, bytes.NewReader(a.file.Data))
}

func contentType(path string) string {
	for suffix, t := range map[string]string{
		".deb": "application/vnd.debian.binary-package",
		".gz":  "application/x-gzip",
		".xz":  "application/x-xz",
		".gpg": "application/pgp-signature",
		".dsc": "text/prs.lines.tag",
	} {
		if strings.HasSuffix(path, suffix) {
			return t
		}
	}
	return ""
}

var errCut = errors.New("the test cuts the body here")
