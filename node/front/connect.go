package front

import (
	"fmt"
	"net"
	"strings"
)

// connectList says where CONNECT may lead. It is built once and never changed.
type connectList struct {
	exact    map[string]struct{} // "host:port"
	suffixes []connectSuffix
}

// connectSuffix allows a port of all hosts that end in host: ".docker.com", or "" for every host.
type connectSuffix struct{ host, port string }

// newConnectList reads the patterns of connect_allow: "host:port", "*.domain:port" and "*:port".
func newConnectList(patterns []string) (connectList, error) {
	l := connectList{exact: make(map[string]struct{})}
	for _, pattern := range patterns {
		host, port, err := net.SplitHostPort(strings.ToLower(pattern))
		suffix, wild := strings.CutPrefix(host, "*")
		if err != nil || host == "" || port == "" || strings.Contains(suffix, "*") || wild && suffix != "" && (suffix[0] != '.' || len(suffix) < 2) {
			return l, fmt.Errorf("connect_allow: %q is not a host and a port: write changelogs.example.org:443, *.example.org:443 or *:443", pattern)
		}
		if wild {
			l.suffixes = append(l.suffixes, connectSuffix{suffix, port})
		} else {
			l.exact[net.JoinHostPort(strings.TrimSuffix(host, "."), port)] = struct{}{}
		}
	}
	return l, nil
}

// allows reports whether CONNECT may lead to a "host:port", and whether the list names it itself.
// "*." stands for one label or more. A pattern never matches an address, because a name
// identifies a server and an address does not.
func (l connectList) allows(target string) (named, allowed bool) {
	host, port, err := net.SplitHostPort(strings.ToLower(target))
	if err != nil {
		return false, false
	}
	host = strings.TrimSuffix(host, ".")
	if _, ok := l.exact[net.JoinHostPort(host, port)]; ok {
		return true, true
	}
	if net.ParseIP(host) != nil {
		return false, false
	}
	for _, s := range l.suffixes {
		if s.port == port && len(host) > len(s.host) && strings.HasSuffix(host, s.host) {
			return false, true
		}
	}
	return false, false
}
