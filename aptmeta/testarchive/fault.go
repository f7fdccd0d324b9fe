package testarchive

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// never is an offset that no body reaches.
const never = math.MinInt64

// answer is what the server is about to do with one request. Effects change it.
type answer struct {
	path  string
	r     *http.Request
	file  File
	found bool
	fault *Fault // the one whose effect is being applied

	status            int // not 0: answer so, with text
	text, contentType string

	noRange, noModified, noETag, noLength, ignoreConditional, ignoreIfRange bool

	cutAt, stallAt, resetAt int64 // offsets in the object
	stalledBy               *Fault
	inHead                  Broken // 0: not in the head
	drip                    int64  // bytes per second
	latency                 time.Duration
	header                  map[string]string // set last; "" removes
}

// Effect is what a fault does to an answer. Offsets count from the start of the
// object, not of the range that was asked for: no byte at or beyond the offset
// leaves the server, however often the client resumes.
type Effect func(*answer)

// WrongBytes turns over every bit of the byte at that offset; a negative one
// counts from the end. Length and validators stay as they were.
func WrongBytes(offset int64) Effect {
	return func(a *answer) {
		if len(a.file.Data) == 0 {
			return
		}
		at := offset
		if at < 0 {
			at += int64(len(a.file.Data))
		}
		at = min(max(at, 0), int64(len(a.file.Data))-1)
		data := append([]byte(nil), a.file.Data...)
		data[at] ^= 0xff
		a.file.Data = data
	}
}

// WrongLength makes the object so many bytes longer, or shorter, than it should
// be, and declares that length.
func WrongLength(by int64) Effect {
	return func(a *answer) {
		data := append([]byte(nil), a.file.Data...)
		if by < 0 {
			a.file.Data = data[:max(0, int64(len(data))+by)]
			return
		}
		a.file.Data = append(data, noise("too long", by)...)
	}
}

// Replace serves other bytes at the path, found or not.
func Replace(data []byte) Effect {
	return func(a *answer) { a.file.Data, a.found = data, true }
}

// Truncate declares the whole length and closes the connection at that offset.
func Truncate(at int64) Effect { return func(a *answer) { a.cutAt = at } }

// Reset sends a TCP reset at that offset; -1 resets before the header.
func Reset(at int64) Effect { return func(a *answer) { a.resetAt = at } }

// Stall sends everything before that offset and then nothing, until the client
// goes away or the test calls Fault.Release; -1 stalls before the header.
func Stall(at int64) Effect {
	return func(a *answer) { a.stallAt, a.stalledBy = at, a.fault }
}

// Drip sends the body at so many bytes per second.
func Drip(bytesPerSecond int64) Effect { return func(a *answer) { a.drip = bytesPerSecond } }

// Latency delays the header.
func Latency(d time.Duration) Effect { return func(a *answer) { a.latency += d } }

// HTML200 answers as a captive portal does: 200 with a page.
func HTML200() Effect {
	return func(a *answer) {
		a.status, a.contentType = http.StatusOK, "text/html; charset=utf-8"
		a.text = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in to use this network.</body></html>\n"
	}
}

// Status answers with that status and a line of text. A retryAfter that is not
// 0 is sent as Retry-After in seconds.
func Status(code, retryAfter int) Effect {
	return func(a *answer) {
		a.status, a.contentType = code, "text/plain; charset=utf-8"
		a.text = fmt.Sprintf("the test wants %d %s\n", code, http.StatusText(code))
		if retryAfter != 0 {
			a.header["Retry-After"] = fmt.Sprint(retryAfter)
		}
	}
}

// EmptyStatus is Status without a body, which apt takes for a final failure.
func EmptyStatus(code int) Effect {
	return func(a *answer) {
		Status(code, 0)(a)
		a.text = ""
	}
}

// Redirect sends the client to the same path below another base URL.
func Redirect(code int, base string) Effect {
	return func(a *answer) {
		Status(code, 0)(a)
		a.header["Location"] = strings.TrimSuffix(base, "/") + a.r.URL.EscapedPath()
	}
}

// NoContentLength sends the body in chunks, without its length.
func NoContentLength() Effect { return func(a *answer) { a.noLength = true } }

// NoRange answers range requests with the whole object.
func NoRange() Effect {
	return func(a *answer) {
		a.noRange = true
		a.header["Accept-Ranges"] = ""
	}
}

// IgnoreIfRange answers a range request with the range, although the validator
// in If-Range is no longer true.
func IgnoreIfRange() Effect { return func(a *answer) { a.ignoreIfRange = true } }

// NoLastModified leaves Last-Modified out and never answers by it.
func NoLastModified() Effect { return func(a *answer) { a.noModified = true } }

// NoETag leaves the ETag out and never answers by it.
func NoETag() Effect { return func(a *answer) { a.noETag = true } }

// IgnoreConditional answers conditional requests in full.
func IgnoreConditional() Effect { return func(a *answer) { a.ignoreConditional = true } }

// Header sets a header of the answer as its last act; an empty value removes it.
func Header(name, value string) Effect {
	return func(a *answer) { a.header[http.CanonicalHeaderKey(name)] = value }
}

// GzipEncoding sends the body with Content-Encoding: gzip to clients that say
// they accept it, as web servers in front of some archives do.
func GzipEncoding() Effect {
	return func(a *answer) {
		if a.found && strings.Contains(a.r.Header.Get("Accept-Encoding"), "gzip") {
			a.file.Data, a.noETag = Compress(".gz", a.file.Data), true
			a.header["Content-Encoding"] = "gzip"
		}
	}
}

// Fault is an effect at work on the paths of a pattern.
type Fault struct {
	server  *Server
	pattern *regexp.Regexp
	effect  Effect
	stalled chan string

	// Under server.mu.
	left int // requests still to hit; -1 for no end
	hits int

	release     chan struct{}
	releaseOnce sync.Once
}

// Inject lets effects loose on the next so many requests (0: on all) whose path,
// without its leading slash, matches the pattern: '*' stands for any run of
// characters, '/' included. Faults that match the same request add up, later
// ones last.
func (s *Server) Inject(pattern string, times int, effects ...Effect) *Fault {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
	f := &Fault{
		server:  s,
		pattern: regexp.MustCompile(`\A(?s:` + quoted + `)\z`),
		effect: func(a *answer) {
			for _, e := range effects {
				e(a)
			}
		},
		stalled: make(chan string, 4096),
		release: make(chan struct{}),
		left:    times,
	}
	if times == 0 {
		f.left = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
	return f
}

// ClearFaults removes all faults. Requests that are stalled stay so.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// take reports whether the fault hits a request for path, and counts it.
// server.mu is held.
func (f *Fault) take(path string) bool {
	if f.left == 0 || !f.pattern.MatchString(path) {
		return false
	}
	if f.left > 0 {
		f.left--
	}
	f.hits++
	return true
}

// Hits is how many requests the fault has hit.
func (f *Fault) Hits() int {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	return f.hits
}

// Remove ends the fault for requests to come.
func (f *Fault) Remove() {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	f.left = 0
}

// Stalled receives the path of every request that has reached its Stall.
func (f *Fault) Stalled() <-chan string { return f.stalled }

// Release lets all stalled requests, and those to come, go on.
func (f *Fault) Release() { f.releaseOnce.Do(func() { close(f.release) }) }

// wait holds a request at its stall.
func (f *Fault) wait(ctx context.Context, path string) bool {
	select {
	case f.stalled <- path:
	default: // nobody counts that many
	}
	select {
	case <-f.release:
		return true
	case <-ctx.Done():
		return false
	}
}
