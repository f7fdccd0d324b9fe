package config

import (
	"cmp"
	"net"
	"os"
	"strings"
)

// HostURL is where hosts reach a node with this configuration that listens at addrs: public_url, or else
// the machine's name and the port of the first address. Addresses are those of Listen, then those of
// TLS. In a container, whose name nobody outside knows, "NODE" stands for the name.
func (c *Config) HostURL(addrs []string) string { return c.hostURL(addrs, machineName()) }

func machineName() string {
	if InContainer() {
		return "NODE"
	}
	name, _ := os.Hostname()
	return cmp.Or(name, "localhost")
}

func (c *Config) hostURL(addrs []string, machine string) string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(c.PublicURL, "/")
	}
	if len(addrs) == 0 {
		return ""
	}
	scheme := "http"
	if len(c.Listen) == 0 {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = machine
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// InContainer reports whether this process runs in a container: as its first process, or where Docker or
// Podman left their mark.
func InContainer() bool {
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
