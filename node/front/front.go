package front

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// Catalog says what a location means. Both methods are safe for concurrent use.
type Catalog interface {
	// Resolve answers from memory, without I/O and without waiting; false means
	// that Discover has to be asked.
	Resolve(loc proto.Location) (proto.Resolution, bool)
	// Discover may fetch and wait. fresh says that the client wants what upstream has
	// now (no-cache): upstream is asked unconditionally, without validators. Its errors
	// are those of proto, or the error of ctx.
	Discover(ctx context.Context, loc proto.Location, fresh bool) (proto.Resolution, error)
}

// Fetcher opens the bytes of an object. Its methods are safe for concurrent use;
// their errors are those of proto, or the error of ctx.
type Fetcher interface {
	// Open returns the object when its first byte may be given out.
	Open(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error)
	// Head returns size, validator and tier as far as they are known without moving
	// the body. The Blob has no body.
	Head(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error)
	// Reopen opens an object again, of which Open returned a File that could not be read because
	// of err. It returns err if it cannot promise the same bytes.
	Reopen(ctx context.Context, want proto.ObjectRequest, failed *proto.Blob, err error) (*proto.Blob, error)
}

// Config configures a Front. Only Archives is needed.
type Config struct {
	Archives []Archive
	Classes  Classes // as Rules.Classes
	// Snapshots are archives as they were; nil: there are none.
	Snapshots Snapshots
	// Connect lists the "host:port" that CONNECT may reach, none by default; the host may be "*", or begin
	// with "*."
	Connect []string
	// Lists are the lists of mirrors that archives are configured with.
	Lists []List
	// Clients says which clients may connect, and how much one may take.
	Clients ClientLimits
	// Names are the host names of this node, without a port. A proxy request for
	// one of them at a port of Listens means the node itself. Addresses, and names with
	// the node's own port, are known without being listed.
	Names []string
	// Listens are the addresses that the node listens at now, with their real ports; the caller may change the
	// slice. nil: only those are known that requests come in at.
	Listens func() []string
	// Node is the name shown in X-Aptmesh.
	Node   string
	Logger *slog.Logger
	// AccessLog takes one line per request, in the format "text" or "json"; nil
	// turns the log off. It is written to from one goroutine at a time.
	AccessLog    io.Writer
	AccessFormat string
	// MaxTunnels bounds the open CONNECT tunnels (256).
	MaxTunnels int
	// TunnelIdle ends a tunnel through which nothing has passed (5 minutes).
	TunnelIdle time.Duration
	// WriteStall cuts a client that does not take one MiB, or all of a smaller
	// answer, within this time (5 minutes).
	WriteStall time.Duration
	// Served is called for each GET of a listed package that is answered with 200, 206 or
	// 304, before the body goes out. The client waits for it. nil: no call.
	Served func(proto.Location)
	// Pseudonym is what this node's requests to upstream name it in their Via field. A
	// request that arrives with it is refused as a loop. "": none is.
	Pseudonym string
	// Waits is called with the proxies that a request came through, before it is answered;
	// done is called at its end. nil: no call.
	Waits func(loc proto.Location, via []string) (done func())
	// PublicURL is where clients reach this node; "": at the URL that they come by.
	PublicURL string
	// HostFiles are the files that a host needs to use the archives that are not closed to it, through the
	// node at a URL; for the page. nil: there are none.
	HostFiles func(node string, closed func(archive string) bool) []proto.HostFile
	// ArchiveRoot is the part of a path that looks like the root of an archive; for messages. By default the
	// first level of the path.
	ArchiveRoot func(path string) string
	// Dial makes the connections of tunnels; a net.Dialer by default. Its context has the
	// proxies that the request came through (proto.Via). named says that Connect names the address, and not
	// only a pattern.
	Dial func(ctx context.Context, address string, named bool) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxTunnels == 0 {
		c.MaxTunnels = 256
	}
	if c.TunnelIdle == 0 {
		c.TunnelIdle = 5 * time.Minute
	}
	if c.WriteStall == 0 {
		c.WriteStall = 5 * time.Minute
	}
	if c.ArchiveRoot == nil {
		c.ArchiveRoot = func(path string) string { first, _, _ := strings.Cut(path, "/"); return first }
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string, _ bool) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
		}
	}
	c.Node = token(c.Node)
	return c
}

// token makes a name fit to stand in a header field.
func token(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ';' || r == '"' || r == '=' {
			return '_'
		}
		return r
	}, s)
}

// Front answers package managers. It is an http.Handler, safe for concurrent use.
type Front struct {
	cfg      Config
	catalog  Catalog
	fetcher  Fetcher
	log      *slog.Logger
	rules    atomic.Pointer[rules]
	draining atomic.Bool
	relay    *httputil.ReverseProxy
	running  atomic.Int64 // answers being made, without tunnels
	metrics  *metrics
	access   *accessLog // nil when off
	tunnels  tunnels
	clients  clients
	failures *failures
	// archiveErrors are the errors of the last minutes.
	archiveErrors *expiring.Map[archiveReason, ArchiveErrors]
	lastFault     atomic.Int64 // when the latest of them was, in ns
	refused       refusedURLs
	overview      overviews
	gather        func() Overview // as Server was given it
}

// New returns a Front. Close ends it. Errors name the configuration key at fault.
func New(cfg Config, catalog Catalog, fetcher Fetcher) (*Front, error) {
	cfg = cfg.withDefaults()
	f := &Front{cfg: cfg, catalog: catalog, fetcher: fetcher, log: cfg.Logger, metrics: newMetrics(), failures: expiring.New[string, Failure](maxFailures),
		archiveErrors: expiring.New[archiveReason, ArchiveErrors](maxArchiveErrors)}
	if err := f.Apply(Rules{Archives: cfg.Archives, Classes: cfg.Classes, Connect: cfg.Connect, Clients: cfg.Clients, Lists: cfg.Lists, PublicURL: cfg.PublicURL, HostFiles: cfg.HostFiles}); err != nil {
		return nil, err
	}
	f.tunnels.open = make(map[*tunnel]struct{})
	f.relay = newRelay(f)
	f.clients.byAddr, f.clients.refused = make(map[netip.Addr]*client), make(map[net.Conn]*time.Timer)
	f.clients.patience = refuseWithin
	f.metrics.gauges = append(f.metrics.gauges, f.clients.gauge())
	if cfg.AccessLog != nil {
		var err error
		if f.access, err = newAccessLog(cfg.AccessLog, cfg.AccessFormat); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Apply replaces the rules as a whole. A request sees the old ones or the new ones, but
// for the rate, which reaches answers under way. Connections that are open stay, were
// they more than the new bound allows. After an error the old rules stay.
func (f *Front) Apply(r Rules) error {
	ready, err := newRules(r, f.cfg.Names, f.cfg.Listens)
	if err != nil {
		return err
	}
	f.rules.Store(ready)
	f.metrics.known(ready)
	return nil
}

// Drain makes every new request be answered with 503 and the end of its connection,
// and waits until the running ones are done or ctx ends, whose error it returns then.
// It does not wait for tunnels, which have no end of their own. Call it before
// http.Server.Shutdown, so that hosts get an answer and not a refused connection.
func (f *Front) Drain(ctx context.Context) error {
	f.draining.Store(true)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for f.running.Load() > 0 {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close cuts the tunnels, which http.Server.Shutdown does not know of, and writes out
// the access log. Requests are served still; they are not logged any more.
func (f *Front) Close() error {
	f.tunnels.close()
	if f.access != nil {
		return f.access.close()
	}
	return nil
}
