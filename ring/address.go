package ring

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-sockaddr"
)

// lookupTimeout bounds the look-up of one name.
const lookupTimeout = 5 * time.Second

// addressesOf looks a host up, which may be an address, too.
func (c *Config) addressesOf(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{plain(ip)}, nil
	}
	if host == "" {
		return nil, errors.New("no host")
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := c.Lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	addrs := make([]netip.Addr, len(found))
	for i, ip := range found {
		addrs[i] = plain(ip)
	}
	return addrs, nil
}

// plain is an address as gossip carries it.
func plain(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// splitHost takes apart a host with or without a port.
func splitHost(s string, defaultPort uint16) (host string, port uint16, err error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if _, err := netip.ParseAddr(bare); err == nil || !strings.Contains(s, ":") {
		return bare, defaultPort, nil
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is not a number up to 65535", digits)
	}
	return host, uint16(n), nil
}

// bindTo is the address to listen on. A name must be resolved here: memberlist
// takes one that it cannot parse for "all addresses".
func (c *Config) bindTo(ctx context.Context) (netip.AddrPort, error) {
	host, port, err := splitHost(c.Bind, DefaultPort)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		all := netip.IPv4Unspecified()
		if c.onlyIPv6(ctx) {
			all = netip.IPv6Unspecified()
		}
		return netip.AddrPortFrom(all, port), nil
	}
	addrs, err := c.addressesOf(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0], port), nil
}

// onlyIPv6 reports whether a node that listens on all addresses advertises only IPv6
// addresses. An invalid address is an error of advertised, not of this function.
func (c *Config) onlyIPv6(ctx context.Context) bool {
	if c.Advertise == "" {
		own, err := OwnAddress()
		return err == nil && own.Is6()
	}
	host, _, err := splitHost(c.Advertise, 0)
	if err != nil {
		return false
	}
	addrs, err := c.addressesOf(ctx, host)
	return err == nil && !slices.ContainsFunc(addrs, netip.Addr.Is4)
}

// advertised is the address to advertise, for the address bound.
func (c *Config) advertised(ctx context.Context, bound netip.AddrPort) (netip.AddrPort, error) {
	if c.Advertise == "" {
		if !bound.Addr().IsUnspecified() {
			return bound, nil
		}
		ip, err := OwnAddress()
		if err != nil {
			return netip.AddrPort{}, err
		}
		c.Logger.Info("gossip listens on all addresses and advertises one of them; set another if other nodes cannot reach it", "address", ip)
		return netip.AddrPortFrom(ip, bound.Port()), nil
	}
	host, port, err := splitHost(c.Advertise, bound.Port())
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := c.addressesOf(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	// A socket on an IPv4 address neither sends to IPv6 nor receives from it.
	chosen := addrs[0]
	if i := slices.IndexFunc(addrs, func(ip netip.Addr) bool { return ip.Is4() == bound.Addr().Is4() }); i >= 0 {
		chosen = addrs[i]
	}
	if len(addrs) > 1 {
		c.Logger.Warn("the advertised name has several addresses; the others are not used", "name", host, "address", chosen)
	}
	if chosen.IsUnspecified() || port == 0 {
		return netip.AddrPort{}, errors.New("others cannot reach that; name one address and its port")
	}
	return netip.AddrPortFrom(chosen, port), nil
}

// OwnAddress is an address of this machine for others: a private one of IPv4, or a
// public one, or else one of IPv6, of which a unique local one comes first.
func OwnAddress() (netip.Addr, error) {
	for _, find := range []func() (string, error){sockaddr.GetPrivateIP, sockaddr.GetPublicIP} {
		if s, err := find(); err == nil && s != "" {
			return netip.ParseAddr(s)
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	if own := ipv6Of(addrs); own.IsValid() {
		return own, nil
	}
	return netip.Addr{}, errors.New("this machine has no address to advertise; set one")
}

// ipv6Of picks the IPv6 address to advertise; the zero Addr where there is none that
// others can reach.
func ipv6Of(addrs []net.Addr) netip.Addr {
	var own netip.Addr
	for _, addr := range addrs {
		prefix, err := netip.ParsePrefix(addr.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr()
		if !ip.Is6() || ip.Is4In6() || !ip.IsGlobalUnicast() {
			continue
		}
		if !own.IsValid() || ip.IsPrivate() && !own.IsPrivate() {
			own = ip
		}
	}
	return own
}

// networks brings prefixes into the form that addresses are compared in.
func networks(prefixes []netip.Prefix) []netip.Prefix {
	plains := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		if ip := p.Addr(); ip.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(ip.Unmap(), p.Bits()-96)
		}
		plains[i] = p.Masked()
	}
	return plains
}

// within reports whether an address is in one of the networks; without networks
// every address is.
func within(networks []netip.Prefix, ip netip.Addr) bool {
	ip = plain(ip)
	return len(networks) == 0 || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}
