package front

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
)

// networks are sorted, and none lies within another, so that at most one can hold an
// address: the last that begins at or before it.
type networks []netip.Prefix

func newNetworks(list []netip.Prefix) (networks, error) {
	var plain []netip.Prefix
	for _, p := range list {
		if !p.IsValid() {
			return nil, fmt.Errorf("%q is not a network: write it as 10.0.0.0/8 or 2001:db8::/32", p)
		}
		plain = append(plain, unmapped(p))
	}
	slices.SortFunc(plain, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var n networks
	for _, p := range plain {
		if len(n) == 0 || !n[len(n)-1].Contains(p.Addr()) {
			n = append(n, p)
		}
	}
	return n, nil
}

// unmapped makes ::ffff:10.0.0.0/104 what it means, 10.0.0.0/8.
func unmapped(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

func (n networks) contain(a netip.Addr) bool {
	i, starts := slices.BinarySearchFunc(n, a, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return starts || i > 0 && n[i-1].Contains(a)
}

// guard is one pair of lists of networks. A nil guard lets everyone in.
type guard struct {
	key         string // of the configuration: "clients", "archives.ubuntu"
	allow, deny networks
}

// newGuard returns nil where there is nothing to check. Errors name the key at fault.
func newGuard(key string, allow, deny []netip.Prefix) (*guard, error) {
	if len(allow)+len(deny) == 0 {
		return nil, nil
	}
	g := &guard{key: key}
	var err error
	if g.allow, err = newNetworks(allow); err != nil {
		return nil, fmt.Errorf("%s.allow: %w", key, err)
	}
	if g.deny, err = newNetworks(deny); err != nil {
		return nil, fmt.Errorf("%s.deny: %w", key, err)
	}
	return g, nil
}

// closedBy returns the key of the list that excludes an address, "" for none. Any list
// excludes an unknown address.
func (g *guard) closedBy(a netip.Addr) string {
	switch {
	case g == nil:
		return ""
	case len(g.deny) > 0 && (!a.IsValid() || g.deny.contain(a)):
		return g.key + ".deny"
	case len(g.allow) > 0 && !g.allow.contain(a):
		return g.key + ".allow"
	}
	return ""
}

// admit refuses an exchange whose client a guard excludes, and returns false then.
func (x *exchange) admit(g *guard) bool {
	if g == nil {
		return true
	}
	peer := x.peer()
	key := g.closedBy(peer)
	if key == "" {
		return true
	}
	who := x.r.RemoteAddr
	if peer.IsValid() {
		who = peer.String()
	}
	x.f.metrics.refusedClients.WithLabelValues(key).Inc()
	x.refuse(&refusal{status: http.StatusForbidden, reason: reasonClientNet,
		text: "the config key " + key + " keeps " + quote(who) + " out, which is the address of this client here"})
	return false
}

// peer is the client's address: that of the other end of the TCP connection, without a zone.
// X-Forwarded-For and similar fields are ignored: anybody can write them, and no trusted
// proxy is configured.
func (x *exchange) peer() netip.Addr {
	if x.conn != nil {
		return x.conn.peer
	}
	at, err := netip.ParseAddrPort(x.r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddr(at.Addr())
}

// peerOf is the address of the other end; not valid where it has none.
func peerOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return plainAddr(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}

// plainAddr makes addresses fit to be compared: an IPv4 client of a socket that takes
// both families is an IPv4 client, and a zone is no part of any network.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
