package front

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
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
		if why := ConnectProblem(pattern); why != "" {
			return l, fmt.Errorf("connect_allow: %s", why)
		}
		host, port, _ := net.SplitHostPort(strings.ToLower(pattern))
		if suffix, wild := strings.CutPrefix(host, "*"); wild {
			l.suffixes = append(l.suffixes, connectSuffix{suffix, port})
		} else {
			l.exact[net.JoinHostPort(strings.TrimSuffix(host, "."), port)] = struct{}{}
		}
	}
	return l, nil
}

// connectHost matches the name of a host, also one that ends in a dot.
var connectHost = regexp.MustCompile(`^[a-z0-9_]+([.-]+[a-z0-9_]+)*\.?$`)

// ConnectProblem says why a text is no pattern of connect_allow; "" if it is.
func ConnectProblem(pattern string) string {
	host, port, err := net.SplitHostPort(strings.ToLower(pattern))
	name := strings.TrimPrefix(host, "*.")
	good := host == "*" || connectHost.MatchString(name) || name == host && net.ParseIP(host) != nil
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || !good {
		return fmt.Sprintf("%q is not a host and a port: write changelogs.ubuntu.com:443, *.docker.com:443 or *:443", pattern)
	}
	return ""
}

// ConnectWarning says what a pattern of connect_allow opens beyond what is usually meant; "" for nothing.
func ConnectWarning(pattern string) string {
	if port, all := strings.CutPrefix(pattern, "*:"); all {
		return fmt.Sprintf("%q lets every client reach port %s of every public host through this node; name the hosts or domains that they need", pattern, port)
	}
	return ""
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
