package upstream

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// The outcomes of requests, as Stats and the metrics name them.
const (
	outcomeOK          = "ok"
	outcomeRedirected  = "redirected"
	outcomeNotFound    = "not_found"
	outcomeRefused     = "refused"
	outcomeUnavailable = "unavailable"
	outcomeCorrupt     = "corrupt"
	outcomePreempted   = "preempted"
	outcomeCancelled   = "cancelled"
)

// outcomeOf names the outcome that an error stands for.
func outcomeOf(err error, evicted bool) string {
	var refused *proto.Refused
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errClosed):
		return outcomeCancelled
	case evicted:
		return outcomePreempted
	case errors.Is(err, proto.ErrNotFound):
		return outcomeNotFound
	case errors.Is(err, proto.ErrCorrupt), errors.Is(err, errUselessRange):
		return outcomeCorrupt
	case errors.As(err, &refused), errors.As(err, new(*proto.Rejected)):
		return outcomeRefused
	}
	return outcomeUnavailable
}

// hostName names the upstream host of a URL: scheme, name, and the port where it
// is not the scheme's own.
func hostName(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}

// host is one upstream server: its slots, and what was done there.
type host struct {
	name      string
	scheduler *scheduler
	// foreign: no part of its connections is this node's own.
	foreign atomic.Bool
	// last is the transport that the last request went through.
	last atomic.Pointer[http.Transport]

	mu       sync.Mutex
	bytes    int64 // guarded by mu, as all below
	rate     float64
	rateAt   time.Time
	outcomes map[string]int64
	lastErr  string
	lastFail time.Time
}

func newHost(name string, g *scheduler) *host {
	return &host{name: name, scheduler: g, outcomes: make(map[string]int64)}
}

// use notes the transport of the next request. It may differ from the transport before: the
// target of a redirect may be a mirror of its own. Then the old transport must not keep idle
// connections, because they count at the server. It closes its idle connections now, and the
// others when they become idle.
func (h *host) use(t *http.Transport) {
	if was := h.last.Swap(t); was != nil && was != t {
		was.CloseIdleConnections()
	}
}

// rateWindow is the time over which the average rate forgets.
const rateWindow = 10 * time.Second

// received counts n bytes of a body.
func (h *host) received(n int) {
	if n == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.bytes += int64(n)
	h.rate = h.rateNow(now) + float64(n)/rateWindow.Seconds()
	h.rateAt = now
}

// rateNow returns the decaying average of bytes per second. The caller holds mu.
func (h *host) rateNow(now time.Time) float64 {
	return h.rate * math.Exp(-now.Sub(h.rateAt).Seconds()/rateWindow.Seconds())
}

// note counts a request that has ended.
func (h *host) note(outcome string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outcomes[outcome]++
	if err != nil && outcome != outcomeCancelled && outcome != outcomeNotFound {
		h.lastErr, h.lastFail = err.Error(), time.Now()
	}
}

func (h *host) stats() HostStats {
	limit, held, stalled, waiting := h.scheduler.count()
	h.mu.Lock()
	defer h.mu.Unlock()
	return HostStats{
		Host: h.name, Limit: limit, InUse: held, Waiting: waiting, Stalled: stalled,
		Requests: maps.Clone(h.outcomes), Bytes: h.bytes, Rate: h.rateNow(time.Now()),
		LastError: h.lastErr, LastFail: h.lastFail,
	}
}
