package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// ledger counts what hosts saw. It is safe for concurrent use.
type ledger struct {
	mu         sync.Mutex
	loops      int
	files      int
	bytes      int64
	retried    int            // files that took more than one try
	resumed    int            // files that were gone on with
	aptRuns    int            // commands of the real apt
	failures   map[string]int // files that apt's retries did not bring, by kind and reason
	violations []string
}

func newLedger() *ledger { return &ledger{failures: make(map[string]int)} }

// violate notes a broken promise.
func (l *ledger) violate(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.violations) < 100 {
		v := time.Now().Format("15:04:05 ") + fmt.Sprintf(format, args...)
		l.violations = append(l.violations, v)
		fmt.Println("  BROKEN " + v) // whoever waits for the end may want to look now
	}
}

func (l *ledger) broken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.violations)
}

// count notes how a file was had, or was not.
func (l *ledger) count(kind string, d lab.Download) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files++
	l.bytes += int64(len(d.Body))
	switch {
	case !d.Done():
		l.failures[strings.TrimSpace(kind+": "+d.Why()+" "+said(d.Last(), "reason"))]++
	case len(d.Tries) > 1:
		l.retried++
	}
	for _, t := range d.Tries {
		if t.Status == http.StatusPartialContent {
			l.resumed++
			break
		}
	}
}

// host is one machine with apt on it.
type host struct {
	name    string
	client  *lab.Client
	close   func()
	archive *archive
	ledger  *ledger
	rnd     *rand.Rand

	inRelease []byte
	modified  string
	root      listed               // of the index it has
	packages  []listed             // of that index
	seen      map[string]time.Time // newest Date from each node
}

// newHost makes the i-th host; seed decides what it does.
func newHost(i int, seed uint64, nodes []*node, a *archive, l *ledger) *host {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		DisableCompression: true, MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, route(nodes, i).Addr)
		},
	}
	return &host{
		name: fmt.Sprintf("host%03d", i), archive: a, ledger: l, rnd: rand.New(rand.NewPCG(seed, uint64(i)+1000)),
		client: &lab.Client{HTTP: &http.Client{Transport: transport}},
		close:  transport.CloseIdleConnections,
		seen:   make(map[string]time.Time),
	}
}

// loop updates and downloads until the context ends.
func (h *host) loop(ctx context.Context, think time.Duration) {
	defer h.close()
	for pause(ctx, time.Duration(h.rnd.Int64N(int64(think)))) {
		h.once(ctx)
	}
}

// once is one run of `apt update` and `apt install`. It reports whether all was had.
func (h *host) once(ctx context.Context) bool {
	ok := h.update(ctx)
	for range 1 + h.rnd.IntN(4) {
		if len(h.packages) > 0 {
			ok = h.download(ctx, h.packages[h.rnd.IntN(len(h.packages))]) && ok
		}
	}
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	h.ledger.loops++
	return ok
}

func url(path string) string { return "http://cache.example/ubuntu/" + path }

// get is the client's Get, counted unless the soak ended in the middle of it.
func (h *host) get(ctx context.Context, kind string, o lab.Order) lab.Download {
	d := h.client.Get(ctx, o)
	if d.Wrong {
		h.ledger.violate("%s got a complete wrong body of %s", h.name, o.URL)
	}
	if ctx.Err() == nil {
		h.ledger.count(kind, d)
	}
	return d
}

// update gets the InRelease and, if it is new, its index.
func (h *host) update(ctx context.Context) bool {
	d := h.get(ctx, "InRelease", lab.Order{URL: url("dists/" + suite + "/InRelease"), Modified: h.modified, Good: func(body []byte) bool {
		_, ok := h.archive.dateOf(body)
		return ok
	}})
	if !d.Done() {
		return false
	}
	if d.Body != nil {
		h.inRelease, h.modified = d.Body, d.Modified
		h.monotonic(d)
	}
	entry, ok := indexOf(h.inRelease)
	if !ok {
		h.ledger.violate("%s cannot find the index in an InRelease that was published", h.name)
		return false
	}
	if entry == h.root && h.packages != nil {
		return true
	}
	d = h.get(ctx, "index", order(entry, nil, ""))
	if !d.Done() {
		return false
	}
	packages, err := packagesOf(d.Body)
	if err != nil || len(packages) != packageKind {
		h.ledger.violate("%s cannot read an index with the right digest: %d packages, %v", h.name, len(packages), err)
		return false
	}
	h.root, h.packages = entry, packages
	return true
}

// monotonic holds a node to what it gave before: the Date of a suite never goes back.
func (h *host) monotonic(d lab.Download) {
	node := said(d.Last(), "node")
	date, _ := h.archive.dateOf(d.Body)
	if before := h.seen[node]; date.Before(before) {
		h.ledger.violate("%s got the generation of %s from node %q after that of %s", h.name, date.Format(time.TimeOnly), node, before.Format(time.TimeOnly))
	}
	h.seen[node] = date
}

// said is what X-Aptmesh says under a key; "" if nothing.
func said(t lab.Try, key string) string {
	for part := range strings.SplitSeq(t.Header.Get("X-Aptmesh"), "; ") {
		if value, ok := strings.CutPrefix(part, key+"="); ok {
			return value
		}
	}
	return ""
}

// order is what one asks for a file that is listed with its digest.
func order(l listed, has []byte, modified string) lab.Order {
	return lab.Order{URL: url(l.path), Size: l.size, Has: has, Modified: modified, Good: func(body []byte) bool {
		sum := sha256.Sum256(body)
		return hex.EncodeToString(sum[:]) == l.sha256
	}}
}

// download gets a package, one time in four from where an earlier attempt ended.
func (h *host) download(ctx context.Context, l listed) bool {
	var has []byte
	modified := ""
	if h.rnd.IntN(4) == 0 {
		f, ok := h.archive.Lookup(l.path)
		if n := int64(len(f.Data)); ok && n == l.size && !f.Modified.IsZero() {
			has = append([]byte(nil), f.Data[:1+h.rnd.Int64N(n-1)]...)
			modified = f.Modified.UTC().Format(http.TimeFormat)
		}
	}
	return h.get(ctx, "package", order(l, has, modified)).Done()
}
