package listen

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// MachineName is the name by which hosts know this machine; "" in a container.
func MachineName() string {
	if inContainer() {
		return ""
	}
	name, _ := os.Hostname()
	return name
}

// HostURL is where hosts reach a machine of that name, "" for none, that listens at addrs: the first one
// counts.
func HostURL(scheme string, addrs []string, machine string) (string, error) {
	if len(addrs) == 0 {
		return "", errors.New("the node listens nowhere; give the URL that hosts reach it at, or set public_url")
	}
	host, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return "", fmt.Errorf("%q is not an address to listen on", addrs[0])
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host = machine; host == "" {
			return "", errors.New("hosts do not know this machine by its name (it is a container): give the URL that they reach the node at, such as http://cache.example.org:3142, or set public_url")
		}
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

// plainHost matches a name that needs no quoting where it is printed for a shell and for apt.
var plainHost = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?$`)

// NodeURL reads the URL of a node, as public_url has it, and returns its one spelling. It goes into
// apt.conf between quotes, and into a shell.
func NodeURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(u.Host, ":") {
		return "", fmt.Errorf("%q is not the URL of a node: write http or https, a host and a port, as in http://cache.example.org:3142", text)
	}
	host := strings.ToLower(u.Hostname())
	ip := net.ParseIP(host)
	switch {
	case ip == nil && !plainHost.MatchString(host):
		return "", fmt.Errorf("%q is not the URL of a node: %q is neither the name nor the address of a host", text, host)
	case ip != nil && ip.IsUnspecified():
		return "", fmt.Errorf("%q is not the URL of a node: a node listens on %s, and hosts need a name or address to reach it at", text, ip)
	case u.Port() == "0" || u.Port() != "" && CheckPort(u.Port()) != nil:
		return "", fmt.Errorf("%q is not the URL of a node: its port is not a number from 1 to 65535", text)
	}
	u = &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	return u.String(), nil
}

// inContainer reports whether this process runs in a container: as its first process, or where Docker or
// Podman left their mark.
func inContainer() bool {
	if os.Getpid() == 1 {
		return true
	}
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			return true
		}
	}
	return false
}
