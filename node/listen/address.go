package listen

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// SplitHostPort is net.SplitHostPort for a port that is a number.
func SplitHostPort(addr string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(addr)
	if err != nil {
		return "", "", err
	}
	if err := CheckPort(port); err != nil {
		return "", "", err
	}
	return host, port, nil
}

// CheckPort says why a text is not the number of a port.
func CheckPort(port string) error {
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// IsLoopback reports whether an address to listen on can be reached from this machine alone.
func IsLoopback(addr string) bool {
	host, _, err := SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Clash reports whether only one of two addresses can be listened on. Go's unspecified address is every
// address of the machine, IPv4 and IPv6, however it is written.
func Clash(a, b string) bool {
	ipA, portA := bound(a)
	ipB, portB := bound(b)
	switch {
	case portA != portB || portA == 0:
		return false
	case a == b || ipA.IsValid() && ipA == ipB:
		return true
	}
	return ipA.IsUnspecified() || ipB.IsUnspecified()
}

// bound is what an address to listen on binds; of every address of the machine the unspecified one. The IP
// address is invalid if it is a name.
func bound(addr string) (ip netip.Addr, port int) {
	host, text, err := SplitHostPort(addr)
	if err != nil {
		return ip, 0
	}
	port, _ = strconv.Atoi(text)
	switch host {
	case "":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	ip, _ = netip.ParseAddr(host)
	return ip.Unmap(), port
}

// LeadsTo reports whether a URL leads to one of the addresses that this machine listens at.
func LeadsTo(u *url.URL, addrs []string) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	for _, addr := range addrs {
		host, ownPort, err := SplitHostPort(addr)
		if err == nil && ownPort == port && port != "0" && sameMachine(u.Hostname(), host) {
			return true
		}
	}
	return false
}

// sameMachine reports whether a host is the address of a listener: "" and the
// unspecified addresses listen on every address of the machine. It asks no name
// server.
func sameMachine(host, listen string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.EqualFold(host, listen) {
		return true
	}
	listenIP := net.ParseIP(listen)
	all := listen == "" || listenIP != nil && listenIP.IsUnspecified()
	onLoopback := strings.EqualFold(listen, "localhost") || listenIP != nil && listenIP.IsLoopback()
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return all || onLoopback
	}
	if !all {
		return false
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback() || ip.IsUnspecified() || isLocalAddress(ip)
	}
	name, err := os.Hostname()
	return err == nil && strings.EqualFold(host, name)
}

func isLocalAddress(ip net.IP) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}
