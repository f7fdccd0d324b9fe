package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/aptmesh/aptmesh/proto"
)

// A redirect and a list of mirrors are words of somebody else. They may lead to any public address.
// To one inside, where a node reaches what its clients may not, they lead only if the operator
// named that address: as an upstream, or in Settings.InternalAllow. What a name means is looked at
// when the connection is made, because it may resolve differently each time.
//
// A URL of the configuration itself is never checked here: an archive's own mirror may well stand
// inside.

// Reach says which internal addresses may be reached by names that nobody configured. It is
// immutable.
type Reach struct {
	allow   []netip.Prefix
	origins map[string]bool     // hostName of each configured URL
	names   map[string]bool     // host names in configured URLs
	literal map[netip.Addr]bool // addresses in configured URLs
	listens func() []netip.AddrPort
}

// NewReach returns what holds where the operator named these URLs and networks. listens returns the
// addresses that this node listens at; nil: none. They are refused in any case.
func NewReach(configured []*url.URL, allow []netip.Prefix, listens func() []netip.AddrPort) *Reach {
	r := &Reach{allow: allow, origins: make(map[string]bool), names: make(map[string]bool), literal: make(map[netip.Addr]bool), listens: listens}
	for _, u := range configured {
		r.origins[hostName(u)] = true
		if a, ok := literalOf(u.Hostname()); ok {
			r.literal[a] = true
		} else {
			r.names[plainName(u.Hostname())] = true
		}
	}
	return r
}

// redirectHop is how a request came to a URL that the configuration does not have.
type redirectHop struct {
	from   *url.URL   // what redirected there; nil: by names it
	by     string     // what names it without a redirect; "": a list of mirrors
	at     netip.Addr // where that is; zero where it is not known
	status int        // of the redirect
}

// check returns an error if a URL that somebody else hop to, and that means an address, is not to
// be asked.
func (r *Reach) check(l redirectHop, u *url.URL, at netip.AddrPort) error {
	addr := plainAddr(at.Addr())
	if own := r.ownListener(addr, at.Port()); own != "" {
		return l.refuse(u, fmt.Sprintf("which is this node itself (%s)", own))
	}
	kind := internal(addr)
	switch {
	case kind == "", slices.ContainsFunc(r.allow, func(p netip.Prefix) bool { return p.Contains(addr) }), r.literal[addr]:
		return nil
	case l.rebound(u):
	case r.origins[hostName(u)], r.names[plainName(u.Hostname())] && internal(l.at) != "":
		return nil
	}
	return l.refuse(u, fmt.Sprintf("which is at %s (%s); only an upstream of the configuration may be inside, and what upstream_client.internal_allow names: if this is meant, add %s there",
		addr, kind, addr))
}

// rebound reports whether a public server leads to its own name, which means an address inside now.
func (l redirectHop) rebound(u *url.URL) bool {
	_, literal := literalOf(u.Hostname())
	return l.from != nil && !literal && plainName(l.from.Hostname()) == plainName(u.Hostname()) && internal(l.at) == ""
}

func (l redirectHop) refuse(u *url.URL, why string) error {
	if l.from == nil {
		return &proto.Refused{Status: http.StatusForbidden, Reason: cmp.Or(l.by, "a list of mirrors") + " leads to " + bareURL(u) + ", " + why}
	}
	return &proto.Refused{Status: l.status, Reason: bareURL(l.from) + " redirects to " + bareURL(u) + ", " + why}
}

// checkName is check for what can be said before a name is looked up. Where a parent proxy looks it
// up and connects, it is all that is checked: then the proxy knows the network, and we do not.
func (r *Reach) checkName(l redirectHop, u *url.URL, proxied bool) error {
	host := plainName(u.Hostname())
	a, ok := literalOf(host)
	switch {
	case ok:
	case host == "localhost", strings.HasSuffix(host, ".localhost"):
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case proxied && endsInNumber(host):
		// 127.1 and 0x7f000001 are addresses to some resolvers.
		if r.origins[hostName(u)] {
			return nil
		}
		return l.refuse(u, "which is an address in a form that a proxy may take for one inside")
	default:
		return nil
	}
	return r.check(l, u, netip.AddrPortFrom(a, portOf(u)))
}

// ownListener returns the address that this node listens at, if that is the one given; else "".
func (r *Reach) ownListener(addr netip.Addr, port uint16) string {
	if r.listens == nil {
		return ""
	}
	for _, at := range r.listens() {
		listens := plainAddr(at.Addr())
		if at.Port() == port && (listens == addr || listens.IsUnspecified() && ownAddress(addr) || listens.IsLoopback() && addr.IsUnspecified()) {
			return at.String()
		}
	}
	return ""
}

// ownAddress reports whether an address is one of this machine.
func ownAddress(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		return ok && plainAddr(ip) == addr
	})
}

// inside are the networks whose addresses are valid only locally, or name more than one machine,
// and which net/netip does not classify.
var inside = []struct {
	net  netip.Prefix
	kind string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"}, // Linux takes 0.0.0.0 for itself
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by carrier-grade NAT"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("fec0::/10"), "private"}, // site-local, before fc00::/7
}

// internal returns what kind of an address inside this is; "" for a public one, and for none.
func internal(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return ""
	case a.IsLoopback():
		return "loopback"
	case a.IsUnspecified():
		return "unspecified"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.IsMulticast():
		return "multicast"
	case a.IsPrivate():
		return "private"
	}
	for _, n := range inside {
		if n.net.Contains(a) {
			return n.kind
		}
	}
	return ""
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	compatible = netip.MustParsePrefix("::/96")        // RFC 4291, 2.5.5.1
)

// plainAddr returns the address that is meant: without zone, and the IPv4 address in an IPv6 one.
func plainAddr(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() && (nat64.Contains(a) || compatible.Contains(a) && !a.IsLoopback() && !a.IsUnspecified()) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// literalOf returns the address that a host of a URL is, if it is none of a name.
func literalOf(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(host)
	return plainAddr(a), err == nil
}

// plainName is a host name as it is compared.
func plainName(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// endsInNumber reports whether the last label of a name is a number, as in no name of DNS.
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return last != "" && last[0] >= '0' && last[0] <= '9'
}

func portOf(u *url.URL) uint16 {
	port, err := netip.ParseAddrPort("0.0.0.0:" + u.Port())
	switch {
	case err == nil:
		return port.Port()
	case u.Scheme == "https":
		return 443
	}
	return 80
}

type hopKey struct{}

// hopTarget is a redirectHop with its target.
type hopTarget struct {
	redirectHop
	reach *Reach
	url   *url.URL
}

// control refuses an address before a connection to it is begun; it is a net.Dialer's
// ControlContext.
func control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	to, ok := ctx.Value(hopKey{}).(*hopTarget)
	if !ok {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil // a socket that is no address of a network
	}
	return to.reach.check(to.redirectHop, to.url, at)
}

// remoteOf returns the address at the other end; zero where there is none.
func remoteOf(conn net.Conn) netip.AddrPort {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// Guard makes t the transport of requests that begin with the URL at, which the operator named:
// every other URL was hop to by a redirect.
func (r *Reach) Guard(t *http.Transport, at *url.URL, d net.Dialer) http.RoundTripper {
	d.ControlContext = control
	t.DialContext = d.DialContext
	return &guarded{reach: r, transport: t, at: at}
}

type guarded struct {
	reach     *Reach
	transport *http.Transport
	at        *url.URL
}

// RoundTrip implements http.RoundTripper.
func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.String() == g.at.String() {
		return g.transport.RoundTrip(req)
	}
	proxy, err := g.transport.Proxy(req)
	if err != nil {
		return nil, err
	}
	l := redirectHop{from: g.at, status: http.StatusFound}
	if err := g.reach.checkName(l, req.URL, proxy != nil); err != nil {
		return nil, err
	}
	if proxy == nil {
		req = req.WithContext(context.WithValue(req.Context(), hopKey{}, &hopTarget{redirectHop: l, reach: g.reach, url: req.URL}))
	}
	return g.transport.RoundTrip(req)
}
