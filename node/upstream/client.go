package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// ErrUnknownArchive means that a Location names an archive that is not configured.
var ErrUnknownArchive = errors.New("no such archive is configured")

// maxStrayHosts bounds the hosts remembered that no archive names: targets of
// redirects, which an upstream may choose as it likes.
const maxStrayHosts = 64

// Client fetches from the configured archives. It is safe for concurrent use.
type Client struct {
	settings atomic.Pointer[settings]
	running  context.Context // ends with Close
	stop     context.CancelFunc
	limiter  *limiter
	metrics  *metrics

	mu    sync.Mutex
	hosts map[string]*host // by hostName; guarded by mu
	share share            // guarded by mu

	penalties penalties
	healths   healths
	sites     sites
	madeUp    *expiring.Map[proto.Location, bool] // names given lately that nothing lists
	creditsMu sync.Mutex                          // guards health.credit of all mirrors
}

// settings is one configuration in force. It is never changed.
type settings struct {
	cfg      Config
	archives map[string]*archive
	proxyOf  func(*url.URL) *url.URL // nil result = direct
	reach    *Reach
	// transport is that of hosts which are no mirror's.
	transport  *http.Transport
	transports map[trust]*http.Transport
	// mixed are the hosts that mirrors reach through several transports. These transports
	// keep no idle connections to the hosts: an idle connection of one transport would count
	// at the server while another transport uses the slot.
	mixed map[string]bool
}

// New returns a client, or says what is wrong with the configuration.
func New(cfg Config) (*Client, error) {
	c := &Client{limiter: newLimiter(), metrics: newMetrics(), hosts: make(map[string]*host), penalties: newPenalties(), sites: newSites(), madeUp: expiring.New[proto.Location, bool](maxPenalties)}
	c.running, c.stop = context.WithCancel(context.Background())
	if err := c.Reconfigure(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// Reconfigure puts a new configuration in force for the requests to come;
// transfers that run go on as they began, and count against the new limits. The
// environment's proxy is read again. On an error nothing has changed.
func (c *Client) Reconfigure(cfg Config) error {
	s, err := newSettings(cfg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.healths.adopt(s)
	old := c.settings.Swap(s)
	c.limit(s)
	if old != nil {
		// This closes connections that become idle later, too: after the call a Transport
		// keeps none until its next request.
		old.closeIdle()
	}
	return nil
}

func newSettings(cfg Config) (*settings, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &settings{cfg: cfg, archives: make(map[string]*archive, len(cfg.Archives))}
	for _, a := range cfg.Archives {
		if _, twice := s.archives[a.Name]; twice {
			return nil, fmt.Errorf("upstream: two archives are called %q", a.Name)
		}
		if s.archives[a.Name], err = newArchive(a); err != nil {
			return nil, err
		}
	}
	if s.proxyOf, err = cfg.Proxy.chooser(cfg.Auth); err != nil {
		return nil, err
	}
	s.reach = NewReach(s.configured(), cfg.InternalAllow, cfg.Listens)
	s.equip()
	return s, nil
}

// Close ends all transfers and closes all connections. Requests made later fail.
func (c *Client) Close() {
	c.stop()
	c.settings.Load().closeIdle()
}

// Fetch asks the mirrors of the archive that loc names for one object, one at a time, until
// a mirror answers with it. It follows redirects. Healthy mirrors without a penalty for this
// object go first, the best by priority and speed before the others. If a mirror fails
// before its body, in whatever way, the next mirror is asked for the same. Transfer.From
// names the mirror that answered. A mirror whose body ends early gets a penalty, so that a
// Fetch for the rest goes to another mirror.
//
// ctx bounds the whole transfer, its body included. The caller closes Transfer.Body,
// which is nil only if NotModified is set; until the body has ended or is
// closed, the transfer holds one of the host's connections. Close may be called
// while a Read is blocked.
//
// A Transfer that does not begin at req.Offset begins at 0: the mirror cannot
// resume, or IfRange did not match. If no mirror answers a Range with the requested part,
// Fetch asks again for the whole.
//
// If the breakers of all mirrors are open, Fetch waits up to about a second for a probe of
// one of them. A mirror that asked for a pause is not probed before the end of the pause.
//
// Fetch verifies only the form of the answer, and its length if req.Size has one. Body is
// what came over the wire. A Content-Encoding is ignored, as apt does, because servers label
// files that are compressed anyway; the digest decides.
//
// Errors, here and from Body.Read:
//   - ErrUnknownArchive;
//   - proto.ErrNotFound for 404 and 410 from every mirror, and from the history service
//     if there is one and the object was listed;
//   - *proto.Unavailable for temporary failures, even of a single mirror if no other could
//     help; with an early end of the body as io.ErrUnexpectedEOF inside;
//   - proto.ErrCorrupt for an HTML page in place of a file, for another length than
//     req.Size, and for an object that ends before req.Offset;
//   - *proto.Refused for other final answers and for redirects that may not be followed;
//   - the error of ctx once that has ended.
//
// No error shows credentials.
func (c *Client) Fetch(ctx context.Context, req proto.Request) (*proto.Transfer, error) {
	s := c.settings.Load()
	archive, ok := s.archives[req.Loc.Archive]
	if !ok {
		return nil, fmt.Errorf("%s: %w (configured: %s)", req.Loc, ErrUnknownArchive,
			strings.Join(slices.Sorted(maps.Keys(s.archives)), ", "))
	}
	if c.running.Err() != nil {
		return nil, &proto.Unavailable{Reason: "upstream is no longer asked", Err: errClosed}
	}
	if s.cfg.Offline || archive.offline {
		return nil, errOffline()
	}
	req.Class = min(req.Class, proto.ClassPrefetch)
	// A weak validator must not guard a Range (RFC 9110, 13.1.5), and without a
	// guard two versions could be spliced.
	if req.Offset < 0 || req.Head || strings.HasPrefix(req.IfRange, "W/") {
		req.Offset = 0
	}
	r := &failover{client: c, s: s, archive: archive, req: req, left: archive.mirrors}
	if req.Mirror != "" {
		name, _, _ := strings.Cut(req.Mirror, fromHost)
		m := archive.named(name)
		if m == nil && req.Mirror == req.Base {
			m, _ = c.siteOf(s, archive, req.Base)
		}
		if m != nil && !m.covers(req.Loc.Path) {
			m = nil
		}
		r.req.Base = "" // only this mirror
		if m == nil {
			return nil, &proto.Unavailable{Reason: fmt.Sprintf("%s: %s is not a mirror of it", req.Loc, req.Mirror), Err: errNoMirror}
		}
		r.left = []*mirror{m}
	}
	return r.fetch(ctx)
}

func errOffline() error {
	return &proto.Unavailable{Reason: "this node is offline (offline: true): it serves only what it holds"}
}

// configured are the URLs that the operator named.
func (s *settings) configured() []*url.URL {
	all := slices.Clone(s.cfg.Configured)
	for _, a := range s.archives {
		for _, m := range a.sources() {
			if !m.Listed {
				all = append(all, m.URL)
			}
		}
	}
	return all
}

// credentials returns what may be sent to u: the mirror's own to its own scheme, host and port,
// else what auth.conf has for u below the mirror's root. The operator named neither the targets of
// redirects nor the entries of lists, so those get none. Credentials for what lies below the root of
// another archive are for the clients of that archive only.
func (s *settings) credentials(m *mirror, u *url.URL) Credentials {
	switch {
	case hostName(u) != hostName(m.URL):
		return Credentials{}
	case m.Credentials.header() != "":
		return m.Credentials
	case m.Listed || !below(m.URL, u) || len(s.cfg.Auth) == 0 || s.inOther(m, u):
		return Credentials{}
	}
	return credentialsFor(s.cfg.Auth, u)
}

// queryFor returns the query that a URL gets: the mirror's own, for the files of the mirror. The target of a redirect has
// the query that the mirror chose.
func (s *settings) queryFor(m *mirror, u *url.URL) string {
	if u.RawQuery != "" || u.ForceQuery || !below(m.URL, u) {
		return ""
	}
	return m.Credentials.query()
}

// below reports whether a URL is the root, or lies below the root.
func below(root, u *url.URL) bool {
	dir := strings.TrimSuffix(root.Path, "/")
	return hostName(root) == hostName(u) && (u.Path == dir || strings.HasPrefix(u.Path, dir+"/"))
}

// inOther reports whether a URL below a mirror's root also lies below the root of another archive,
// which is inside the mirror's root.
func (s *settings) inOther(m *mirror, u *url.URL) bool {
	for _, a := range s.archives {
		for _, other := range a.mirrors {
			if !other.Listed && below(m.URL, other.URL) && !below(other.URL, m.URL) && below(other.URL, u) {
				return true
			}
		}
	}
	return false
}

// hostOf returns the host of u, and creates it if it is new.
func (c *Client) hostOf(u *url.URL) *host {
	name := hostName(u)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h, ok := c.hosts[name]; ok {
		return h
	}
	s := c.settings.Load()
	if named := s.namedHosts(); len(c.hosts) >= len(named)+maxStrayHosts {
		c.forgetStrays(named)
	}
	h := newHost(name, newScheduler(name, c.share.limit(s.cfg, name), patienceOf(s.cfg)))
	h.foreign.Store(c.share.foreign(name))
	c.hosts[name] = h
	return h
}

// namedHosts are the hosts of all mirrors.
func (s *settings) namedHosts() map[string]bool {
	named := make(map[string]bool)
	for _, a := range s.archives {
		for _, m := range a.mirrors {
			named[hostName(m.URL)] = true
		}
		if a.history != nil {
			named[hostName(a.history.URL)] = true
		}
	}
	return named
}

// forgetStrays forgets the hosts that no archive names and nobody uses. The
// caller holds mu.
func (c *Client) forgetStrays(named map[string]bool) {
	for name, h := range c.hosts {
		if _, held, _, waiting := h.scheduler.count(); !named[name] && held+waiting == 0 {
			delete(c.hosts, name)
			c.metrics.forget(name)
		}
	}
}

// Collectors returns the client's metrics, for the caller to register.
func (c *Client) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.metrics.header, statsCollector{c}}
}
