// Package pki is the identity of the nodes of a cluster: a certificate for each node, signed by the
// authority of the cluster, and the keys that encrypt gossip. On an operator's machine it makes,
// renews and rotates them, in one directory with a directory for each node. On a node it reads them,
// checks that they fit together, and follows their changes.
//
// It opens no connection. Which nodes are in the cluster is the business of package ring; what the
// certificates protect is that of peerfetch/peers.
package pki

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// maxLabel bounds the name of a cluster and of a datacenter: they travel with every
// node's gossip.
const maxLabel = 64

var (
	labelText = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	hostText  = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	nodeText  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// LabelProblem says why a text cannot name a cluster or a datacenter; "" if it can.
func LabelProblem(label string) string {
	if len(label) <= maxLabel && labelText.MatchString(label) {
		return ""
	}
	return fmt.Sprintf(`%q cannot be used: write letters, digits, ".", "_" and "-", at most %d of them`, label, maxLabel)
}

// NameProblem says why a text cannot name a node of a cluster; "" if it can. The
// name is a DNS name in its certificate, so it looks like one, and like no address.
func NameProblem(name string) string {
	_, notAddress := netip.ParseAddr(name)
	switch {
	case len(name) > 63 || !nodeText.MatchString(name) || notAddress == nil:
		return fmt.Sprintf(`%q cannot name a node: write lower-case letters, digits, "-" and ".", at most 63 of them, as in a host's name`, name)
	case name == "localhost":
		return `"localhost" cannot name a node of a cluster, for every host is called so`
	}
	return ""
}

// HostProblem says why a text is no host that others could reach; "" if it is one.
func HostProblem(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() {
			return fmt.Sprintf("%q is every address of a machine, and none that others could reach", host)
		}
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			return fmt.Sprintf("%q means another machine on every network; write an address that has no zone", host)
		}
		return ""
	}
	if len(host) > 253 || !hostText.MatchString(host) {
		return fmt.Sprintf("%q is neither a host's name nor an IP address", host)
	}
	return ""
}

// SplitSeed splits "host" or "host:port"; port is 0 where there is none.
func SplitSeed(seed string) (host string, port int, err error) {
	host = seed
	if _, err := netip.ParseAddr(seed); err != nil && strings.Contains(seed, ":") {
		var digits string
		if host, digits, err = net.SplitHostPort(seed); err != nil {
			return "", 0, err
		}
		if port, err = strconv.Atoi(digits); err != nil || port < 1 || port > 65535 {
			return "", 0, fmt.Errorf("port %q is not a number from 1 to 65535", digits)
		}
	}
	if why := HostProblem(host); why != "" {
		return "", 0, errors.New(why)
	}
	return host, port, nil
}
